"""The sources of an Ansible inventory: files in several formats, programs, and folders of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import cast

from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.inventory.ansible.groups import AnsibleInventory
from orchestrator.inventory.ansible.ini_source import read_ini_source
from orchestrator.inventory.ansible.script_source import (
    InventoryPrograms,
    read_constructed_output,
    read_program_output,
)
from orchestrator.inventory.ansible.yaml_source import read_yaml_source
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.model.marked_value import MarkedValue, Values
from orchestrator.model.secret import VAULT_VALUE, Secret
from orchestrator.yamlio.ansible_yaml import parse_ansible_yaml
from orchestrator.yamlio.local_files import display_path, read_file
from orchestrator.yamlio.vault_format import is_vault_text
from orchestrator.yamlio.yaml_loader import decode_utf8

OpenVault = Callable[[Secret], str]
"""Returns the text of an encrypted file. Raises DefinitionError or UsageError."""

_IGNORED = re.compile(
    r"^\.|^(?:host_vars|group_vars|vars_plugins)$"
    r"|(?:\.pyc|\.pyo|\.swp|\.bak|~|\.rpm|\.md|\.txt|\.rst|\.orig|\.cfg|\.retry)$"
)
_YAML_SUFFIXES = (".yml", ".yaml", ".json")
_MAX_DEPTH = 20
_CONSTRUCTED = ("constructed", "ansible.builtin.constructed")


class ConstructedSource(Struct, frozen=True):
    """A configuration of the plugin `constructed`, which makes groups of other sources' hosts."""

    path: Path
    shown: str
    config: Values


class SourceReader(Struct):
    """A reader of inventory sources into one inventory; errors go to ``problems``.

    ``programs`` runs executables and plugins; ``open_vault`` decrypts an encrypted source.
    ``constructed`` are the configurations that need all sources.
    """

    inventory: AnsibleInventory
    programs: InventoryPrograms
    open_vault: OpenVault
    problems: DiagnosticCollector
    notes: list[InventoryWarning]
    constructed: list[ConstructedSource] = field(default_factory=list)

    def read_constructed(self, sources: Sequence[Path]) -> None:
        """Add the groups that the plugin `constructed` makes, when all sources are read."""
        for source in self.constructed:
            composed = source.config.get("compose")
            names = composed.data if composed is not None else None
            try:
                output = self.programs.run_plugin(source.path, source.shown, "constructed", sources)
                read_constructed_output(
                    output, names if isinstance(names, dict) else (), self.inventory, source.shown
                )
            except DefinitionError as error:
                self._add_problems(error)

    def read(self, path: Path, ignored: Collection[str] = ()) -> None:
        """Read a file, or every file of a folder and of its folders.

        ``ignored`` are names in the folder that are not sources.
        """
        try:
            if path.is_dir():
                self._read_folder(path, ignored, 0)
            else:
                self._read_file(path)
        except DefinitionError as error:
            self._add_problems(error)

    def _read_folder(self, folder: Path, ignored: Collection[str], depth: int) -> None:
        if depth > _MAX_DEPTH:
            what = f"folders nested more than {_MAX_DEPTH} levels deep"
            raise DefinitionError(Diagnostic(what, SourcePosition(display_path(folder))))
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - the names, without an object for each
        except OSError as error:
            shown = display_path(folder)
            what = f"cannot read {shown}: {(error.strerror or '').lower()}"
            raise DefinitionError(Diagnostic(what, SourcePosition(shown))) from error
        for name in names:
            if name in ignored or _IGNORED.search(name):
                continue
            path = folder / name
            try:
                if path.is_dir():
                    self._read_folder(path, (), depth + 1)
                else:
                    self._read_file(path, in_folder=True)
            except DefinitionError as error:
                self._add_problems(error)

    def _read_file(self, path: Path, *, in_folder: bool = False) -> None:
        shown = display_path(path)
        mark = SourcePosition(shown)
        if path.suffix == ".toml":
            hint = "write it as INI or YAML: `ansible-inventory -i FILE --list --yaml` converts it"
            raise DefinitionError(Diagnostic(f"{shown} is TOML, which is not read", mark, hint))
        try:
            data = read_file(path)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise DefinitionError(Diagnostic(f"cannot read {shown}: {why}", mark)) from error
        if os.access(path, os.X_OK) and data[:2] in (b"#!", b"\x7fE"):
            value = self.programs.run_program(path, shown)
            read_program_output(value, self.inventory, self.programs, path, shown)
            return
        text = decode_utf8(data, shown)
        if is_vault_text(text):
            text = self.open_vault(Secret(VAULT_VALUE, (text,), name=shown, mark=mark))
        self._read_text(path, text, shown, in_folder=in_folder)

    def _read_text(self, path: Path, text: str, shown: str, *, in_folder: bool) -> None:
        is_yaml = path.suffix in _YAML_SUFFIXES or _first_line(text).startswith("plugin:")
        if not is_yaml and not self._may_be_yaml(path, text):
            read_ini_source(text, shown, self.inventory, self.problems)
            return
        try:
            value = parse_ansible_yaml(text, shown)
        except DefinitionError as error:
            if is_yaml or _looks_like_yaml(text):
                self._add_problems(error)
            else:
                read_ini_source(text, shown, self.inventory, self.problems)
            return
        if isinstance(value.data, dict):
            self._read_mapping(path, value, shown)
        elif not is_yaml:
            read_ini_source(text, shown, self.inventory, self.problems)
        elif in_folder and value.data is not None:
            self.notes.append(("ignored: it is not an inventory", SourcePosition(shown)))
        elif value.data is not None:
            read_yaml_source(value, self.inventory, self.problems, self.notes)

    def _read_mapping(self, path: Path, value: MarkedValue, shown: str) -> None:
        config = cast(Values, value.data)
        plugin = config.get("plugin")
        if plugin is not None and plugin.data in _CONSTRUCTED:
            self.constructed.append(ConstructedSource(path, shown, config))
            return
        if plugin is not None and plugin.data:
            output = self.programs.run_plugin(path, shown, str(plugin.to_plain()), (path,))
            read_program_output(output, self.inventory, self.programs, path, shown)
            return
        read_yaml_source(value, self.inventory, self.problems, self.notes)

    def _may_be_yaml(self, path: Path, text: str) -> bool:
        """Return True for a file without extension that does not begin with an INI section."""
        return not path.suffix and not _first_line(text).startswith("[")

    def _add_problems(self, error: DefinitionError) -> None:
        for problem in error.diagnostics:
            self.problems.add(problem.message, problem.mark, problem.hint)


def _first_line(text: str) -> str:
    """Return the first line that is neither blank nor a comment."""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and stripped[0] not in "#;":
            return stripped
    return ""


def _looks_like_yaml(text: str) -> bool:
    """Return True if the text is meant to be YAML: its first line opens a mapping."""
    first = _first_line(text)
    return first.startswith(("---", "{")) or (first.endswith(":") and " " not in first)
