"""The project's own facts: scripts in ``tasks/facts/`` whose output is ``facts.NAME``.

``NAME.sh`` is a script, ``NAME.yml`` a script with the types of what it prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import DefinitionError, DiagnosticCollector, SourcePosition
from orchestrator.model.facts import FACTS
from orchestrator.playbook import keywords
from orchestrator.playbook.model import FIELD_TYPES, TaskParam
from orchestrator.playbook.task_index import FACTS_FOLDER
from orchestrator.playbook.task_parser import TaskParser
from orchestrator.yamlio.local_files import display_path, list_directory, read_file
from orchestrator.yamlio.naming_rules import RESERVED_NAMES, variable_name_error
from orchestrator.yamlio.yaml_loader import decode_utf8, load_yaml

_MAX_SCRIPT_BYTES = 64 * 1024


class OwnFact(Struct, frozen=True):
    """A fact of the project. ``fields`` is None if its script may print any."""

    name: str
    desc: str
    script: str
    mark: SourcePosition
    fields: Mapping[str, TaskParam] | None = None


def load_own_facts(root: Path) -> dict[str, OwnFact]:
    """Return the project's own facts by name. Raises DefinitionError with every error in them."""
    folder = root / "tasks" / FACTS_FOLDER
    if not folder.is_dir():
        return {}
    problems = DiagnosticCollector()
    shown = display_path(folder)
    listing = list_directory(folder, shown, problems)
    found: dict[str, OwnFact] = {}
    files = [*listing.files.values(), *(name for name in listing.others if name.endswith(".sh"))]
    for filename in files:
        path = folder / filename
        name, mark = path.stem, SourcePosition(display_path(path), 1, 1)
        why, hint = ("", "") if name in RESERVED_NAMES else variable_name_error(name)
        if not why and name in FACTS:
            why, hint = "orch has a fact of that name", f"rename it, like 'my_{name}'"
        if not why and name in found:
            why, hint = "another file beside it defines the same fact", "remove one of them"
        if why:
            problems.add(f"'{name}' cannot be a fact: {why}", mark, hint)
            continue
        try:
            read = _read_script if path.suffix == ".sh" else _read_yaml
            found[name] = read(name, path, mark, problems)
        except DefinitionError as error:
            problems.diagnostics.extend(error.diagnostics)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            problems.add(f"cannot read {display_path(path)}: {why}", mark)
    problems.raise_any()
    return dict(sorted(found.items()))


def _read_script(name: str, path: Path, mark: SourcePosition, _: DiagnosticCollector) -> OwnFact:
    """Return the fact of a script; its description is the comment at its beginning."""
    text = decode_utf8(read_file(path, _MAX_SCRIPT_BYTES), display_path(path))
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("#").strip())
    return OwnFact(name, " ".join(comment) or f"`{path.name}` of the project", text, mark)


def _read_yaml(
    name: str, path: Path, mark: SourcePosition, problems: DiagnosticCollector
) -> OwnFact:
    parser = TaskParser(problems)
    what = f"fact '{name}'"
    value = load_yaml(path, display_path(path))
    fields = parser.read.fields(value, what, keywords.FACT)
    script = parser.read.text(fields.get("script"), f"script of {what}") or ""
    if not script.strip() and "script" not in fields:
        problems.add(f"{what} has no `script`", value.mark, "it prints lines like `count=3`")
    params = parser.parse_params(fields.get("fields"), what) if "fields" in fields else None
    for param in (params or {}).values():
        if param.type not in FIELD_TYPES:
            hint = f"it is one of {', '.join(FIELD_TYPES)}"
            problems.add(f"a field of a fact cannot be a '{param.type}'", param.mark, hint)
    desc = parser.read.text(fields.get("desc"), "desc") or f"`{path.name}` of the project"
    return OwnFact(name, desc, script, mark, params)
