"""Configuration of the documentation site: Markdown pages in the furo theme, nothing external."""

import re
from pathlib import Path

from sphinx.application import Sphinx

project = "orch"
author = "the authors of orch"
copyright = author
_SOURCE = Path(__file__).resolve().parents[1] / "orchestrator" / "__init__.py"
_VERSION = re.search(r'__version__ = "(.+)"', _SOURCE.read_text("utf-8"))
release = _VERSION[1] if _VERSION else ""

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = "orch"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["orch.css"]
highlight_language = "text"


def setup(app: Sphinx) -> None:
    """Leave out the list of reference pages as long as there are none."""
    app.connect("source-read", _drop_empty_toctree)


def _drop_empty_toctree(app: Sphinx, page: str, source: list[str]) -> None:
    folder = Path(app.srcdir) / "reference"
    if page == "reference/index" and len(list(folder.glob("*.md"))) == 1:
        source[0] = source[0].partition("```{toctree}")[0]
