"""Print the reference of the built-in modules.

Usage: ``python -m orchestrator.modules > README.md``. The page is generated from the modules' files
alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.modules import MODULES_FOLDER
from orchestrator.yamlio.yaml_loader import load_yaml

_HEAD = """\
# Modules

What a step can call beside `run`. `orch doc NAME` shows the same, and
`orch -s STAGE run NAME key=value` calls one from the command line. A param without a default that
is not required is left as it is on the host. This page is made by
`python -m orchestrator.modules`; do not edit it.

Words of the language itself, and so no modules: `assert`, `fail`, `set`, `wait` and `block`.
"""


def modules_page() -> str:
    """Return the page in Markdown. Raises DefinitionError if a file is not valid YAML."""
    files = sorted(MODULES_FOLDER.glob("*.yml"))
    lines = [
        _HEAD,
        *(f"- [`{file.stem}`](#{file.stem}): {_module_summary(file)}" for file in files),
    ]
    for file in files:
        lines += ["", *_module_section(file)]
    return "\n".join(lines) + "\n"


def _module_fields(file: Path) -> dict[str, Any]:
    found = load_yaml(file, file.name).to_plain()
    return found if isinstance(found, dict) else {}


def _module_summary(file: Path) -> str:
    return str(_module_fields(file).get("desc", "")).strip()


def _module_section(file: Path) -> Iterator[str]:
    fields = _module_fields(file)
    yield f"## {file.stem}\n"
    yield f"{_module_summary(file)}.\n"
    if "probe" in fields and "fix" not in fields:
        yield "It only looks, also in a run that is no check.\n"
    params = fields.get("params") or {}
    if params:
        yield "| param | type | default | |"
        yield "| --- | --- | --- | --- |"
        yield from (_param_row(name, spec or {}) for name, spec in params.items())
        yield ""
    if fields.get("exposes"):
        named = ", ".join(f"`{each}`" for each in fields["exposes"])
        yield f"Seen by all users of the host, and no place for secrets: {named}.\n"
    if fields.get("requires"):
        choices = (each if isinstance(each, list) else [each] for each in fields["requires"])
        named = ", ".join(" or ".join(f"`{name}`" for name in choice) for choice in choices)
        yield f"Needs on the host: {named}.\n"
    if "want" in fields:
        yield f"Compared: {', '.join(f'`{key}`' for key in fields['want'])}.\n"
    yield f"```yaml\n{str(fields.get('example', '')).rstrip()}\n```"


def _param_row(name: str, spec: dict[str, Any]) -> str:
    kind = spec.get("type", "str")
    if spec.get("choices"):
        kind = " or ".join(f"`{each}`" for each in spec["choices"])
    default = "**required**" if spec.get("required") else _default_text(spec.get("default"))
    cells = (f"`{name}`", kind, default, " ".join(str(spec.get("help", "")).split()))
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _default_text(value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(modules_page())
