"""Make the pages in ``docs/reference/`` from the tables, modules and commands of the code.

Usage: ``.venv/bin/python docs/make_reference.py``. A test fails if the pages are not up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.root_command import orch
from orchestrator.commands.reference import (
    ReferenceTable,
    ReferenceTopic,
    reference_topics,
)
from orchestrator.modules import MODULES_FOLDER
from orchestrator.yamlio.file_keys import FIRST_VERSION
from orchestrator.yamlio.yaml_loader import load_yaml

REFERENCE_FOLDER = Path(__file__).parent / "reference"

_NOTE = "<!-- Made by docs/make_reference.py: do not edit. -->"
_MODULES_HEAD = """\
The modules that a step can call besides `run`. `orch doc NAME` shows the same text, and
`orch -s STAGE run NAME key=value` runs a module from the command line. An optional param without
a default leaves that property unchanged on the host. `assert`, `fail`, `set`, `wait` and `block`
are keywords, not modules: see [Steps](step.md).
"""


def reference_pages() -> dict[str, str]:
    """Return each page by the name of its file."""
    pages = {f"{name}.md": topic_page(make()) for name, make in reference_topics().items()}
    return {**pages, "commands.md": commands_page(), "modules.md": modules_page()}


def topic_page(topic: ReferenceTopic) -> str:
    """Return the page of a topic in Markdown."""
    lines = [_NOTE, f"# {topic.title}", "", _linked(topic.text)]
    for table in topic.tables:
        lines += ["", f"## {table.title}", "", *_table_lines(table)]
    if any("since" in table.columns for table in topic.tables):
        words = "The words for values are explained in [Types and values](types.md)."
        lines += ["", f"{words} Keys without a version exist since orch {FIRST_VERSION}."]
    if topic.example:
        lines += ["", "## Example", "", f"```{topic.language}", topic.example.rstrip("\n"), "```"]
    return "\n".join(lines) + "\n"


def _table_lines(table: ReferenceTable) -> Iterator[str]:
    columns = [column for column in table.columns if column != "since"]
    yield "| " + " | ".join(columns) + " |"
    yield "|" + " --- |" * len(columns)
    for row in table.rows:
        if len(row) == 2:
            yield f"| {_code(row[0])} | {_cell(_linked(row[1]))} |"
            continue
        name, kind, text, default, example, since = row
        kind = " or ".join(_code(choice) for choice in kind.split(" | ")) if "|" in kind else kind
        meaning = _linked(text) + (f" (since {since})" if since != FIRST_VERSION else "")
        cells = (_code(name), kind, meaning, _default(default), _code(example))
        yield "| " + " | ".join(map(_cell, cells)) + " |"


def _code(text: str) -> str:
    """Return the text as code; the lines of a longer one follow each other."""
    lines = [line for line in text.split("\n") if line]
    return "<br>".join(f"`` {line} ``" if "`" in line else f"`{line}`" for line in lines)


def _default(text: str) -> str:
    return _code(text) if text and " " not in text and text not in ("always", "nothing") else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _linked(text: str) -> str:
    """Return the text with links in place of ``see `orch doc TOPIC```."""
    for name, make in reference_topics().items():
        text = text.replace(f"`orch doc {name}`", f"[{make().title}]({name}.md)")
    return text


def commands_page() -> str:
    """Return the page of all commands in Markdown."""
    context = _context(orch, "orch", None)
    lines = [_NOTE, "# Commands", "", "Options can be written before or after the command.", ""]
    lines += _help_block(orch, context)
    for path, command, parent in _commands(orch, context, "orch"):
        lines += ["", f"## {path}", "", *_help_block(command, parent)]
    return "\n".join(lines) + "\n"


def _commands(
    group: click.Group, context: click.Context, path: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = _context(command, name, context)
        yield f"{path} {name}", command, inner
        if isinstance(command, click.Group):
            yield from _commands(command, inner, f"{path} {name}")


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = orch.context_settings | {"max_content_width": 96, "terminal_width": 96}
    return click.Context(command, info_name=name, parent=parent, **settings)


def _help_block(command: click.Command, context: click.Context) -> list[str]:
    return ["```text", command.get_help(context), "```"]


def modules_page() -> str:
    """Return the page of all modules in Markdown."""
    files = sorted(MODULES_FOLDER.glob("*.yml"))
    lines = [
        _NOTE,
        "# Shipped modules",
        "",
        _MODULES_HEAD,
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
        yield "Read-only: it changes nothing and also runs in check mode.\n"
    params = fields.get("params") or {}
    if params:
        yield "| param | type | default | |"
        yield "| --- | --- | --- | --- |"
        yield from (_param_row(name, spec or {}) for name, spec in params.items())
        yield ""
    if fields.get("exposes"):
        named = ", ".join(f"`{each}`" for each in fields["exposes"])
        yield f"Visible to all users of the host, not for secrets: {named}.\n"
    if fields.get("requires"):
        choices = (each if isinstance(each, list) else [each] for each in fields["requires"])
        named = ", ".join(" or ".join(f"`{name}`" for name in choice) for choice in choices)
        yield f"Needs on the host: {named}.\n"
    if fields.get("returns"):
        yield "| field of its result | type | |"
        yield "| --- | --- | --- |"
        for name, spec in fields["returns"].items():
            help_text = " ".join(str(spec.get("help", "")).split())
            yield f"| `{name}` | {spec.get('type', 'str')} | {help_text} |"
        yield ""
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
    for page in REFERENCE_FOLDER.glob("*.md"):
        if page.name != "index.md":
            page.unlink()
    for name, text in reference_pages().items():
        (REFERENCE_FOLDER / name).write_text(text)
