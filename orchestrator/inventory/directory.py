"""Reading of a stage's folder: its files, and the hosts that an executable prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from orchestrator.errors import (
    DefinitionError,
    DiagnosticCollector,
    SourcePosition,
    suggest_nearest,
)
from orchestrator.inventory.hostnames import escape_unprintable
from orchestrator.model import ansible
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.yamlio.local_files import DirectoryListing, list_directory
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_loader import load_yaml

InventoryWarning: TypeAlias = tuple[str, SourcePosition]
NamedValues: TypeAlias = list[tuple[MarkedKey, MarkedValue]]

STAGE, HOSTS, ROLES, APPS = "stage", "hosts", "roles", "apps"
_FILES = (STAGE, HOSTS, ROLES, APPS)
VARS = "vars"
_FOLDERS = (HOSTS, ROLES, APPS, VARS)
ANSIBLE_FOLDERS = ("group_vars", "host_vars")
ANSIBLE_FILE = "hosts.ini"


class InventoryDirectory:
    """One folder of ``inventories/``: a stage's own, or ``common``.

    Errors go to ``problems`` and are not raised; warnings for ``lint`` go to ``notes``.
    """

    def __init__(
        self, path: Path, shown: str, problems: DiagnosticCollector, notes: list[InventoryWarning]
    ) -> None:
        self.path, self.shown = path, shown
        self.problems, self.notes = problems, notes
        self.found: DirectoryListing = list_directory(path, shown, problems)

    def is_ansible(self) -> bool:
        """Return True if the folder is an inventory of Ansible by itself."""
        folders, others = self.found.folders, self.found.others
        has_mark = any(name in folders for name in ANSIBLE_FOLDERS) or ANSIBLE_FILE in others
        return has_mark and not any(name in folders for name in (HOSTS, ROLES))

    def report_own_hosts(self) -> None:
        """Report hosts and roles of orch's own format, which an Ansible inventory excludes."""
        for name in (HOSTS, ROLES):
            if name in self.found.folders or name in self.found.files:
                shown = self.found.files.get(name, f"{name}/")
                what = f"the hosts are those of `ansible`, so {shown} is not read"
                hint = f"remove {shown}, or `ansible` in stage.yml"
                self.problems.add(what, SourcePosition(f"{self.shown}/{shown}"), hint)

    def own_names(self) -> tuple[str, ...]:
        """Return the names of entries that orch reads itself: settings and apps."""
        files = [self.found.files[name] for name in (STAGE, APPS) if name in self.found.files]
        return (*files, APPS)

    def read_settings(self) -> MarkedValue | None:
        """Return the content of ``stage.yml``, or None if there is no such file."""
        name = self.found.files.get(STAGE)
        return self._load_file(name) if name else None

    def read_roles(self) -> NamedValues:
        """Return each role with its definition, from ``roles/`` or ``roles.yml``."""
        return self._read_named(ROLES) if self._has_one_form(ROLES) else []

    def read_apps(self) -> NamedValues:
        """Return each app with its definition, from ``apps/`` or ``apps.yml``."""
        return self._read_named(APPS) if self._has_one_form(APPS) else []

    def read_vars(self) -> NamedValues:
        """Return the files of ``vars/``, which hold variables of all hosts."""
        return self._read_named(VARS) if VARS in self.found.folders else []

    def read_hosts(self, run_program: Callable[[Path, str], MarkedValue]) -> NamedValues:
        """Return each host with its definition.

        The source is ``hosts/``, ``hosts.yml`` or an executable ``hosts``, which ``run_program``
        runs.
        """
        if not self._has_one_form(HOSTS):
            return []
        if HOSTS not in self.found.others:
            return self._read_named(HOSTS)
        shown = f"{self.shown}/{HOSTS}"
        try:
            return self._read_mapping(run_program(self.path / HOSTS, shown), HOSTS)
        except DefinitionError as error:
            self._add_problems(error)
            return []

    def find_form(self, kind: str) -> Path | None:
        """Return the folder, the YAML file or the program that defines the hosts, roles or apps.

        Return None if there is none, or if there are several, which is reported.
        """
        if not self._has_one_form(kind):
            return None
        return self.path / self.found.files.get(kind, kind)

    def _has_one_form(self, kind: str) -> bool:
        forms = [f"{kind}/"] if kind in self.found.folders else []
        forms += [self.found.files[kind]] if kind in self.found.files else []
        forms += [kind] if kind == HOSTS and kind in self.found.others else []
        if len(forms) > 1:
            what = f"{self.shown} has both {' and '.join(forms)}"
            self.problems.add(what, SourcePosition(f"{self.shown}/{forms[-1]}"), "keep one of them")
        return len(forms) == 1

    def _read_named(self, kind: str) -> NamedValues:
        if kind in self.found.files and kind != VARS:
            value = self._load_file(self.found.files[kind])
            return self._read_mapping(value, kind) if value else []
        folder = f"{self.shown}/{kind}"
        found = list_directory(self.path / kind, folder, self.problems)
        for name in found.folders:
            what = f"folders in {kind}/ are not read"
            self.problems.add(
                what,
                SourcePosition(f"{folder}/{escape_unprintable(name)}"),
                f"move its files to {kind}/",
            )
        for name in found.others:
            self.notes.append(
                (
                    "ignored: it is not a .yml file",
                    SourcePosition(f"{folder}/{escape_unprintable(name)}"),
                )
            )
        named: NamedValues = []
        for base, name in found.files.items():
            value = self._load_file(f"{kind}/{name}")
            if value is not None:
                named.append(
                    (
                        MarkedKey(
                            base, SourcePosition(f"{folder}/{escape_unprintable(name)}", 1, 1)
                        ),
                        value,
                    )
                )
        return named

    def _read_mapping(self, value: MarkedValue, kind: str) -> NamedValues:
        examples = {HOSTS: "web1: {address: 10.0.0.5}", APPS: "blog: {roles: [web]}"}
        example = examples.get(kind, "web: [web1, web2]")
        if value.data is not None and not isinstance(value.data, dict):
            SchemaReader(self.problems).report_mismatch(value, kind, "a mapping", f"like {example}")
            return []
        return list((value.data or {}).items())

    def _load_file(self, name: str) -> MarkedValue | None:
        try:
            return load_yaml(
                self.path / name, f"{self.shown}/{escape_unprintable(name)}", secrets=True
            )
        except DefinitionError as error:
            self._add_problems(error)
            return None

    def _add_problems(self, error: DefinitionError) -> None:
        for problem in error.diagnostics:
            self.problems.add(problem.message, problem.mark, problem.hint)

    def report_unknown_files(self) -> None:
        """Report files with a misspelt name, and add a warning for other unknown files.

        A misspelt ``hosts/`` would silently lose hosts.
        """
        files = self.found.files
        strange = [(name, name, [f"{k}/" for k in _FOLDERS]) for name in self.found.folders]
        strange += [(base, name, [f"{k}.yml" for k in _FILES]) for base, name in files.items()]
        strange += [(name, name, [HOSTS, f"{HOSTS}.yml"]) for name in self.found.others]
        for base, name, known in strange:
            if base in (k.removesuffix("/").removesuffix(".yml") for k in known):
                continue
            mark = SourcePosition(f"{self.shown}/{escape_unprintable(name)}")
            hint = ansible.FILE_HINTS.get(base) or suggest_nearest(base, known)
            if hint:
                self.problems.add(
                    f"'{escape_unprintable(name)}' is not part of a stage", mark, hint
                )
            else:
                self.notes.append(("ignored: it is not part of a stage", mark))
