"""Inventories that programs print as JSON: executables, and Ansible's plugins.

An executable prints its groups with ``--list``; the variables of hosts are under ``_meta``, or each
host's are printed with ``--host NAME``. Files that configure a plugin are read by Ansible itself
(``ansible-inventory --list``), which prints the same format.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.inventory.ansible.groups import AnsibleGroup, AnsibleHost, AnsibleInventory
from orchestrator.inventory.ansible.host_patterns import host_name_error
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.yamlio.schema import describe_value

_SECTIONS = ("hosts", "vars", "children")
PLUGIN_PROGRAM = "ansible-inventory"


class InventoryPrograms(Protocol):
    """Runs the programs that print inventories."""

    def run_program(self, path: Path, shown: str, host: str | None = None) -> MarkedValue:
        """Return what an executable prints with ``--list``, or with ``--host``.

        Raises DefinitionError.
        """

    def run_plugin(self, path: Path, shown: str, plugin: str) -> MarkedValue:
        """Return what Ansible prints for the configuration of a plugin. Raises DefinitionError."""


def plugin_command(path: Path, environ: Mapping[str, str], plugin: str, shown: str) -> list[str]:
    """Return the command that prints a plugin's inventory.

    Raises DefinitionError if Ansible is not installed.
    """
    program = shutil.which(PLUGIN_PROGRAM, path=environ.get("PATH"))
    if program is None:
        what = (
            f"{shown} configures Ansible's inventory plugin '{plugin}', which `{PLUGIN_PROGRAM}`"
            " reads, but that program is not installed"
        )
        hint = "install ansible-core, or an executable `hosts` that prints the hosts as JSON"
        raise DefinitionError(Diagnostic(what, SourcePosition(shown), hint))
    return [program, "-i", str(path.absolute()), "--list", "--export"]


def read_program_output(
    value: MarkedValue,
    inventory: AnsibleInventory,
    programs: InventoryPrograms,
    path: Path,
    shown: str,
) -> None:
    """Add the groups of a program's output to the inventory. Raises DefinitionError."""
    if not isinstance(value.data, dict):
        raise _output_error(shown, "must be a mapping of groups", value)
    reader = _OutputReader(inventory, shown)
    variables: dict[MarkedKey, MarkedValue] | None = None
    for name, body in value.data.items():
        if name != "_meta":
            reader.read_group(name, body)
        elif isinstance(body.data, dict) and "hostvars" in body.data:
            found = cast(Values, body.data)["hostvars"]
            if not isinstance(found.data, dict):
                raise _output_error(shown, "must be a mapping under `_meta.hostvars`", found)
            variables = found.data
    for host in reader.hosts.values():
        if variables is None:
            own = programs.run_program(path, shown, host.name)
        else:
            own = variables.get(MarkedKey(host.name, host.mark), MarkedValue({}, host.mark))
        if not isinstance(own.data, dict):
            raise _output_error(shown, f"must be a mapping for host '{host.name}'", own)
        for key, item in own.data.items():
            host.set_variable(key, item)


class _OutputReader:
    """A reader of the groups in a program's output. ``hosts`` are those that it names."""

    def __init__(self, inventory: AnsibleInventory, shown: str) -> None:
        self.inventory, self.shown = inventory, shown
        self.hosts: dict[str, AnsibleHost] = {}

    def read_group(self, name: MarkedKey, body: MarkedValue) -> None:
        group = self.inventory.add_group(str(name), body.mark)
        if not isinstance(body.data, dict):
            self.read_hosts(group, body)
            return
        if not any(key in body.data for key in _SECTIONS):  # a host with its variables
            host = self.add_host(str(name), group)
            for key, item in body.data.items():
                host.set_variable(key, item)
            return
        fields = cast(Values, body.data)
        if "hosts" in fields:
            self.read_hosts(group, fields["hosts"])
        variables = fields.get("vars")
        if variables is not None and not isinstance(variables.data, dict):
            raise _output_error(self.shown, f"must be a mapping under '{name}.vars'", variables)
        if variables is not None and isinstance(variables.data, dict):
            for key, item in variables.data.items():
                group.set_variable(key, item)
        children = fields.get("children")
        items = children.data if children is not None else []
        if isinstance(items, dict):
            items = [MarkedValue(str(key), body.mark) for key in items]
        if not isinstance(items, list):
            raise _output_error(self.shown, f"must be a list under '{name}.children'", children)
        for item in items:
            child = self.inventory.add_group(str(item.to_plain()), body.mark)
            self.inventory.add_child(group, child, body.mark)

    def read_hosts(self, group: AnsibleGroup, value: MarkedValue) -> None:
        if not isinstance(value.data, list):
            raise _output_error(self.shown, f"must be a list of hosts in '{group.name}'", value)
        for item in value.data:
            if not isinstance(item.data, str) or not item.data:
                raise _output_error(self.shown, f"must name hosts by text in '{group.name}'", item)
            self.add_host(item.data, group)

    def add_host(self, name: str, group: AnsibleGroup) -> AnsibleHost:
        if why := host_name_error(name):
            what = f"the output of {self.shown} has a host that cannot be read: {why}"
            raise DefinitionError(Diagnostic(what, SourcePosition(self.shown)))
        host = self.inventory.add_host(name, group, SourcePosition(self.shown))
        self.hosts[name] = host
        return host


def _output_error(shown: str, what: str, value: MarkedValue | None) -> DefinitionError:
    found = f", found {describe_value(value)}" if value is not None else ""
    return DefinitionError(
        Diagnostic(f"the output of {shown} {what}{found}", SourcePosition(shown))
    )
