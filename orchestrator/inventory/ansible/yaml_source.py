"""Inventories in Ansible's YAML format, of which JSON is a part.

The keys at the top are groups; a group has ``hosts`` (with their variables), ``vars`` and
``children``, all of them mappings.
"""

from __future__ import annotations

from orchestrator.errors import DefinitionError, DiagnosticCollector
from orchestrator.inventory.ansible.groups import AnsibleGroup, AnsibleInventory
from orchestrator.inventory.ansible.host_patterns import expand_host_pattern
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.hostnames import InvalidHostNameError
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.yamlio.schema import describe_value

_SECTIONS = ("hosts", "vars", "children")


def read_yaml_source(
    value: MarkedValue,
    inventory: AnsibleInventory,
    problems: DiagnosticCollector,
    notes: list[InventoryWarning],
) -> None:
    """Add the hosts and groups of a YAML value to the inventory.

    Errors go to ``problems``, and notes on what is ignored to ``notes``.
    """
    if not isinstance(value.data, dict):
        what = f"an inventory must be a mapping of groups, found {describe_value(value)}"
        problems.add(what, value.mark, "like all: {hosts: {web1: {}}}")
        return
    reader = _YamlReader(inventory, problems, notes)
    for name, body in value.data.items():
        reader.read_group(name, body)


class _YamlReader:
    """A reader of the groups of one YAML value."""

    def __init__(
        self,
        inventory: AnsibleInventory,
        problems: DiagnosticCollector,
        notes: list[InventoryWarning],
    ) -> None:
        self.inventory, self.problems, self.notes = inventory, problems, notes

    def read_group(self, name: MarkedKey, body: MarkedValue) -> AnsibleGroup | None:
        if body.data is not None and not isinstance(body.data, dict):
            found = describe_value(body)
            self.notes.append(
                (f"ignored: the group '{name}' is not a mapping but {found}", name.mark)
            )
            return None
        if not name:
            self.problems.add("the name of a group must not be empty", name.mark)
            return None
        group = self.inventory.add_group(str(name), name.mark)
        for key, section in (body.data or {}).items():
            self.read_section(group, key, section)
        return group

    def read_section(self, group: AnsibleGroup, key: MarkedKey, section: MarkedValue) -> None:
        if key not in _SECTIONS:
            what = f"ignored: '{key}' of group '{group.name}' is none of {', '.join(_SECTIONS)}"
            self.notes.append((what, key.mark))
            return
        fields = section.data
        if isinstance(fields, str):
            fields = {MarkedKey(fields, section.mark): MarkedValue(None, section.mark)}
        if fields is None:
            return
        if not isinstance(fields, dict):
            what = f"'{key}' of group '{group.name}' must be a mapping, found"
            hint = "write each name with a colon: `web1:`" if key != "vars" else ""
            self.problems.add(f"{what} {describe_value(section)}", section.mark, hint)
            return
        for name, value in fields.items():
            try:
                if key == "hosts":
                    self.read_host(group, name, value)
                elif key == "vars":
                    group.set_variable(name, value)
                elif (child := self.read_group(name, value)) is not None:
                    self.inventory.add_child(group, child, name.mark)
            except DefinitionError as error:
                for problem in error.diagnostics:
                    self.problems.add(problem.message, problem.mark, problem.hint)

    def read_host(self, group: AnsibleGroup, pattern: MarkedKey, value: MarkedValue) -> None:
        if value.data is not None and not isinstance(value.data, dict):
            what = f"the variables of host '{pattern}' must be a mapping, found"
            self.problems.add(f"{what} {describe_value(value)}", value.mark)
            return
        try:
            names, port = expand_host_pattern(pattern)
        except InvalidHostNameError as bad:
            what = f"the host '{pattern}' cannot be read: {bad.why}"
            self.problems.add(what, pattern.mark, bad.hint)
            return
        for name in names:
            is_new = name not in self.inventory.hosts
            host = self.inventory.add_host(name, group, pattern.mark)
            if port is not None and is_new:
                at = pattern.mark
                host.set_variable(MarkedKey("ansible_port", at), MarkedValue(port, at))
            for key, item in (value.data or {}).items():
                host.set_variable(key, item)
