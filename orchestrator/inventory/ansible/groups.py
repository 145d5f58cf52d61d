"""The hosts and groups of an Ansible inventory while its sources are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue, replace_value

ALL, UNGROUPED = "all", "ungrouped"
PRIORITY_VARIABLE = "ansible_group_priority"
"""A variable of a group that decides between groups of one depth."""


class InventoryEntity:
    """A host or a group with the variables that inventory sources give it."""

    def __init__(self, name: str, mark: SourcePosition) -> None:
        self.name, self.mark = name, mark
        self.vars: dict[MarkedKey, MarkedValue] = {}

    def set_variable(self, name: MarkedKey, value: MarkedValue) -> None:
        """Set a variable; the value remembers the one that it replaces."""
        below = self.vars.pop(name, None)
        if below is not None:
            value = replace_value(below, value)
        self.vars[name] = value


class AnsibleHost(InventoryEntity):
    """A host. ``groups`` are those that list it."""

    def __init__(self, name: str, mark: SourcePosition) -> None:
        super().__init__(name, mark)
        self.groups: dict[str, AnsibleGroup] = {}


class AnsibleGroup(InventoryEntity):
    """A group with its own hosts and groups. ``depth`` is its longest distance from `all`."""

    def __init__(self, name: str, mark: SourcePosition) -> None:
        super().__init__(name, mark)
        self.hosts: dict[str, AnsibleHost] = {}
        self.children: dict[str, AnsibleGroup] = {}
        self.parents: dict[str, AnsibleGroup] = {}
        self.priority = 1
        self.depth = 0

    def set_variable(self, name: MarkedKey, value: MarkedValue) -> None:
        """Set a variable, or the group's priority."""
        if name != PRIORITY_VARIABLE:
            super().set_variable(name, value)
            return
        try:
            self.priority = int(str(value.data))
        except ValueError:
            what = f"{PRIORITY_VARIABLE} of group '{self.name}' must be a whole number"
            raise DefinitionError(Diagnostic(what, value.mark)) from None

    def all_hosts(self) -> Iterator[AnsibleHost]:
        """Yield the hosts of the group and of the groups in it, without duplicates."""
        names: set[str] = set()
        for group in self._descendants():
            for name, host in group.hosts.items():
                if name not in names:
                    names.add(name)
                    yield host

    def _descendants(self) -> list[AnsibleGroup]:
        """Return the group and those in it, breadth first."""
        found = {self.name: self}
        level = [self]
        while level:
            level = [child for group in level for child in group.children.values()]
            level = [child for child in level if child.name not in found]
            found.update((child.name, child) for child in level)
        return list(found.values())


class AnsibleInventory:
    """Hosts and groups, in the order in which the sources name them."""

    def __init__(self) -> None:
        start = SourcePosition("")
        self.hosts: dict[str, AnsibleHost] = {}
        self.groups: dict[str, AnsibleGroup] = {}
        for name in (ALL, UNGROUPED):
            self.groups[name] = AnsibleGroup(name, start)
        self.add_child(self.groups[ALL], self.groups[UNGROUPED], start)

    def add_group(self, name: str, mark: SourcePosition) -> AnsibleGroup:
        """Return the group of this name; it is created if necessary."""
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = AnsibleGroup(name, mark)
        elif not group.mark.path:
            group.mark = mark
        return group

    def add_host(self, name: str, group: AnsibleGroup | None, mark: SourcePosition) -> AnsibleHost:
        """Return the host of this name, as a member of the group; created if necessary."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = AnsibleHost(name, mark)
        if group is not None:
            group.hosts[name] = host
            host.groups[group.name] = group
        return host

    def add_child(self, group: AnsibleGroup, child: AnsibleGroup, mark: SourcePosition) -> None:
        """Add a group to a group. Raises DefinitionError if a group would contain itself."""
        if child.name in group.children:
            return
        if child is group or child.name in {each.name for each in ancestors_of((group,))}:
            what = f"the group '{group.name}' would contain itself through '{child.name}'"
            raise DefinitionError(Diagnostic(what, mark, "break the cycle"))
        group.children[child.name] = child
        child.parents[group.name] = group

    def complete(self) -> None:
        """Put all groups below `all`, and hosts without a group into `ungrouped`."""
        everything, ungrouped = self.groups[ALL], self.groups[UNGROUPED]
        for group in self.groups.values():
            if group is not everything and not group.parents:
                self.add_child(everything, group, group.mark)
        for host in self.hosts.values():
            others = host.groups.keys() - {ALL, UNGROUPED}
            if others and UNGROUPED in host.groups:
                del ungrouped.hosts[host.name], host.groups[UNGROUPED]
            elif not others and UNGROUPED not in host.groups:
                self.add_host(host.name, ungrouped, host.mark)
        graph = {name: group.parents.keys() for name, group in self.groups.items()}
        try:
            for name in TopologicalSorter(graph).static_order():
                group = self.groups[name]
                depths = (parent.depth for parent in group.parents.values())
                group.depth = max(depths, default=-1) + 1
        except CycleError as error:  # `all` below another group
            loop = " > ".join(map(str, reversed(error.args[1])))
            raise DefinitionError(
                Diagnostic(f"a group contains itself: {loop}", everything.mark, "break the cycle")
            ) from None

    def groups_of(self, host: AnsibleHost) -> list[AnsibleGroup]:
        """Return the groups of a host except `all`, weak to strong."""
        found = ancestors_of(host.groups.values(), include_self=True)
        return sort_groups(group for group in found if group.name != ALL)


def sort_groups(groups: Iterable[AnsibleGroup]) -> list[AnsibleGroup]:
    """Return the groups from weak to strong: by depth, priority and name."""
    return sorted(groups, key=lambda group: (group.depth, group.priority, group.name))


def ancestors_of(
    groups: Iterable[AnsibleGroup], *, include_self: bool = False
) -> Iterable[AnsibleGroup]:
    """Return the groups that contain these, directly or indirectly."""
    start = list(groups)
    found = {group.name: group for group in start} if include_self else {}
    level = start
    while level:
        above = [parent for group in level for parent in group.parents.values()]
        level = [parent for parent in above if parent.name not in found]
        found.update((parent.name, parent) for parent in level)
    return found.values()
