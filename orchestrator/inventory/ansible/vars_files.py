"""The variables of ``group_vars/`` and ``host_vars/``.

A group or host has a file of its name there (without extension, or ending in .yml, .yaml or .json),
or a folder of such files, which are read in the order of their names.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.inventory.ansible.groups import AnsibleGroup, AnsibleHost
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.model.secret import VAULT_VALUE, Secret
from orchestrator.yamlio.ansible_yaml import parse_ansible_yaml
from orchestrator.yamlio.local_files import display_path, read_file
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.vault_format import is_vault_text
from orchestrator.yamlio.yaml_loader import decode_utf8

_EXTENSIONS = ("", ".yml", ".yaml", ".json")
GROUP_VARS, HOST_VARS = "group_vars", "host_vars"


class VarsFile(Struct, frozen=True):
    """A file with variables. ``encrypted`` is its text as a secret if it is a vault."""

    shown: str
    values: dict[MarkedKey, MarkedValue]
    encrypted: Secret | None = None


class VarsFolders:
    """The folders ``group_vars/`` and ``host_vars/`` in one folder; each file is read once.

    Errors go to ``problems``.
    """

    def __init__(self, folder: Path, problems: DiagnosticCollector) -> None:
        self.folder, self.problems = folder, problems
        self._names = {kind: _names_in(folder / kind) for kind in (GROUP_VARS, HOST_VARS)}
        self._read: dict[tuple[str, str], tuple[VarsFile, ...]] = {}

    def files_of(self, entity: AnsibleGroup | AnsibleHost) -> tuple[VarsFile, ...]:
        """Return the files of a group or host, weak to strong."""
        kind = GROUP_VARS if isinstance(entity, AnsibleGroup) else HOST_VARS
        if not self._names[kind] or "/" in entity.name:
            return ()
        key = kind, entity.name
        if key not in self._read:
            found = (self._load(path) for path in self._find(kind, entity.name))
            self._read[key] = tuple(each for each in found if each is not None)
        return self._read[key]

    def _find(self, kind: str, name: str) -> list[Path]:
        names = self._names[kind]
        for extension in _EXTENSIONS:
            if name + extension in names:
                path = self.folder / kind / (name + extension)
                return _files_below(path) if path.is_dir() else [path]
        return []

    def _load(self, path: Path) -> VarsFile | None:
        shown = display_path(path)
        try:
            return read_vars_file(path, shown)
        except DefinitionError as error:
            for problem in error.diagnostics:
                self.problems.add(problem.message, problem.mark, problem.hint)
        return None


def read_vars_file(path: Path, shown: str) -> VarsFile:
    """Return the variables of a file. Raises DefinitionError."""
    mark = SourcePosition(shown)
    try:
        text = decode_utf8(read_file(path), shown)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DefinitionError(Diagnostic(f"cannot read {shown}: {why}", mark)) from error
    if is_vault_text(text):
        return VarsFile(shown, {}, Secret(VAULT_VALUE, (text,), name=shown, mark=mark))
    return VarsFile(shown, parse_vars(text, shown))


def parse_vars(text: str, shown: str) -> dict[MarkedKey, MarkedValue]:
    """Return the variables of a YAML or JSON text. Raises DefinitionError."""
    value = parse_ansible_yaml(text, shown)
    if not value.data or isinstance(value.data, dict):
        return value.data if isinstance(value.data, dict) else {}
    problems = DiagnosticCollector()
    SchemaReader(problems).report_mismatch(value, "a file of variables", "a mapping")
    raise DefinitionError(*problems.diagnostics)


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - the names, without an object for each
    except OSError:
        return frozenset()


def _files_below(folder: Path) -> list[Path]:
    """Return the files of a folder and of its folders, in the order of their names."""
    found: list[Path] = []
    for name in sorted(_names_in(folder)):
        if name.startswith(".") or name.endswith("~"):
            continue
        path, extension = folder / name, os.path.splitext(name)[1]  # noqa: PTH122 - as Ansible does
        if path.is_dir() and not extension:
            found += _files_below(path)
        elif path.is_file() and extension in _EXTENSIONS:
            found.append(path)
    return found
