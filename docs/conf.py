"""Configuration of the documentation site: Markdown pages in the furo theme, nothing external."""

import re
from pathlib import Path

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
html_use_index = False  # it would be empty
html_static_path = ["_static"]
html_css_files = ["orch.css"]
highlight_language = "text"
