"""Inventories that programs print as JSON: executables, and Ansible's plugins.

An executable prints its groups with ``--list``; the variables of hosts are under ``_meta``, or each
host's are printed with ``--host NAME``. Files that configure a plugin are read by Ansible itself
(``ansible-inventory --list``), which prints the same format.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.inventory.ansible.groups import AnsibleGroup, AnsibleHost, AnsibleInventory
from orchestrator.inventory.ansible.host_patterns import host_name_error
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.model.secret import VAULT_VALUE, Secret
from orchestrator.yamlio.schema import describe_value

_SECTIONS = ("hosts", "vars", "children")
PLUGIN_PROGRAM = "ansible-inventory"
_UNSAFE, _VAULT = "__ansible_unsafe", "__ansible_vault"


class InventoryPrograms(Protocol):
    """Runs the programs that print inventories."""

    def run_program(self, path: Path, shown: str, host: str | None = None) -> MarkedValue:
        """Return what an executable prints with ``--list``, or with ``--host``.

        Raises DefinitionError.
        """

    def run_plugin(
        self, path: Path, shown: str, plugin: str, sources: Sequence[Path]
    ) -> MarkedValue:
        """Return what Ansible prints for sources with the configuration of a plugin among them.

        Raises DefinitionError.
        """


def plugin_command(
    sources: Sequence[Path], environ: Mapping[str, str], plugin: str, shown: str
) -> list[str]:
    """Return the command that prints the inventory of sources, one of which configures a plugin.

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
    paths = [word for path in sources for word in ("-i", str(path.absolute()))]
    return [program, *paths, "--list"]


def read_constructed_output(
    value: MarkedValue, composed: Collection[str], inventory: AnsibleInventory, shown: str
) -> None:
    """Add the groups that the plugin `constructed` makes of the inventory's hosts.

    Of the hosts' variables only the ``composed`` ones are added. Raises DefinitionError.
    """
    fields = value.data if isinstance(value.data, dict) else {}
    meta = cast(Values, fields).get("_meta")
    variables = (
        cast(Values, meta.data).get("hostvars") if meta and isinstance(meta.data, dict) else None
    )
    reader = _OutputReader(inventory, shown)
    for name, body in fields.items():
        if name != "_meta":
            reader.read_group(name, body)
    known = variables.data if variables is not None and isinstance(variables.data, dict) else {}
    for host, own in known.items():
        for name, item in (own.data if isinstance(own.data, dict) else {}).items():
            if name in composed and host in inventory.hosts:
                inventory.hosts[host].set_variable(name, decode_value(item, name))


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
            host.set_variable(key, decode_value(item, key))


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
                host.set_variable(key, decode_value(item, key))
            return
        fields = cast(Values, body.data)
        if "hosts" in fields:
            self.read_hosts(group, fields["hosts"])
        variables = fields.get("vars")
        if variables is not None and not isinstance(variables.data, dict):
            raise _output_error(self.shown, f"must be a mapping under '{name}.vars'", variables)
        if variables is not None and isinstance(variables.data, dict):
            for key, item in variables.data.items():
                group.set_variable(key, decode_value(item, key))
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


def decode_value(value: MarkedValue, name: str) -> MarkedValue:
    """Return a value with the objects replaced in which Ansible marks texts in JSON.

    ``__ansible_unsafe`` is a text that is never rendered, ``__ansible_vault`` an encrypted one.
    """
    if isinstance(value.data, list):
        return replace(value, data=[decode_value(item, name) for item in value.data])
    if not isinstance(value.data, dict):
        return value
    if len(value.data) == 1:
        ((kind, inner),) = value.data.items()
        if kind == _UNSAFE and isinstance(inner.data, str):
            return replace(value, data=inner.data, literal=True)
        if kind == _VAULT and isinstance(inner.data, str):
            secret = Secret(VAULT_VALUE, (inner.data,), name=name, mark=value.mark)
            return replace(value, data=secret)
    return replace(value, data={key: decode_value(item, name) for key, item in value.data.items()})


def _output_error(shown: str, what: str, value: MarkedValue | None) -> DefinitionError:
    found = f", found {describe_value(value)}" if value is not None else ""
    return DefinitionError(
        Diagnostic(f"the output of {shown} {what}{found}", SourcePosition(shown))
    )
