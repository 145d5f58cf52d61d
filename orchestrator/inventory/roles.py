"""Which hosts each role has, and which roles hold which."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from msgspec import Struct

from orchestrator.errors import Mark, Problems, nearest
from orchestrator.inventory.files import Note
from orchestrator.inventory.ranks import Kind, Outer, Placed
from orchestrator.inventory.register import Register
from orchestrator.inventory.written import Part, Ref, RoleEntry
from orchestrator.model.host import Role
from orchestrator.source.read import Reader


class Roles(Struct, frozen=True):
    """The roles of a stage. ``of`` names each host's roles, in the inventory's order."""

    roles: dict[str, Role]
    of: dict[str, tuple[str, ...]]
    outer: Outer
    layers: dict[str, tuple[Placed, ...]]


class RoleBook:
    """Puts the roles of a stage together. ``parts`` go from strong to weak."""

    def __init__(
        self, parts: Sequence[Part], register: Register, problems: Problems, notes: list[Note]
    ) -> None:
        self.register, self.problems, self.notes = register, problems, notes
        self.read = Reader(problems)
        self.entries: dict[str, list[RoleEntry]] = {}
        for part in parts:
            for name, entry in part.roles.items():
                self.entries.setdefault(name, []).append(entry)
        self.claims = self._claims()

    def resolve(self) -> Roles:
        """Every role with its hosts. Roles that hold themselves are a problem, and then empty."""
        own = {name: self._own(name) for name in (*self.entries, *self.claims)}
        inner = {name: self._inner(name) for name in own}
        order = self._order(inner)
        members: dict[str, tuple[str, ...]] = {}
        for name in order:
            found = [*own[name], *(host for role in inner[name] for host in members[role])]
            members[name] = tuple(dict.fromkeys((*found, *self._claimed(name))))
        outer: dict[str, frozenset[str]] = dict.fromkeys(own, frozenset())
        depth = dict.fromkeys(own, 0)
        for name in reversed(order):
            for role in inner[name]:
                outer[role] |= outer[name] | {name}
                depth[role] = max(depth[role], depth[name] + 1)
        roles = {name: self._role(name, members.get(name, ())) for name in own}
        of: dict[str, list[str]] = {}
        for name in own:
            for host in members.get(name, ()):
                of.setdefault(host, []).append(name)
        layers = {name: self._layers(name, depth[name]) for name in own}
        return Roles(roles, {host: tuple(names) for host, names in of.items()}, outer, layers)

    def _claims(self) -> dict[str, dict[str, Mark]]:
        """The hosts that claim each role in their own files, with the place."""
        claims: dict[str, dict[str, Mark]] = {}
        for host, entries in self.register.entries.items():
            said = {entry.ref.level: entry.roles for entry in entries if entry.roles is not None}
            for role in said[max(said)] if said else ():
                claims.setdefault(str(role), {})[host] = role.mark
        for name, hosts in claims.items():
            if name not in self.entries:
                mark = next(iter(hosts.values()))
                near = nearest(name, self.entries)
                note = f"the role '{name}' has no file; a host claims it{near and '; '}{near}"
                self.notes.append((note, mark))
        return claims

    def _claimed(self, name: str) -> tuple[str, ...]:
        return tuple(self.claims.get(name, ()))

    def _own(self, name: str) -> list[str]:
        """The hosts written in the role itself: the stage's list, else the one in ``common``."""
        refs = next((e.hosts for e in self.entries.get(name, ()) if e.hosts is not None), ())
        hosts: dict[str, Ref] = {}
        for ref in refs:
            host = self.register.host(ref)
            if host in hosts:
                self.notes.append((f"'{ref.name}' stands twice in role '{name}'", ref.mark))
            hosts.setdefault(host, ref)
        return list(hosts)

    def _inner(self, name: str) -> list[str]:
        said = next((e.roles for e in self.entries.get(name, ()) if e.roles is not None), ())
        known = {*self.entries, *self.claims}
        return [str(r) for r in said if self.read.one_of(r, r.mark, "role", known)]

    def _order(self, inner: dict[str, list[str]]) -> list[str]:
        """The roles' names, each after those that it holds."""
        try:
            return list(TopologicalSorter(inner).static_order())
        except CycleError as error:
            loop: list[str] = list(reversed(error.args[1]))
            mark = self.entries[loop[0]][0].mark
            self.problems.add(f"a role holds itself: {' > '.join(loop)}", mark, "break the circle")
            return []

    def _role(self, name: str, hosts: tuple[str, ...]) -> Role:
        entries = self.entries.get(name, [])
        names = self.register.names
        desc = next((e.desc for e in entries if e.desc is not None), "")
        mark = entries[0].mark if entries else next(iter(self.claims[name].values()))
        primary = names[hosts[0]] if hosts else None
        chosen = next((e.primary for e in entries if e.primary is not None), None)
        if chosen is not None:
            primary = names.get(self.register.find(chosen), chosen.name)
            known = [names[host] for host in hosts]
            self.read.one_of(primary, chosen.mark, f"host in role '{name}' that is called", known)
        return Role(name, tuple(names[host] for host in hosts), primary, mark, desc)

    def _layers(self, name: str, depth: int) -> tuple[Placed, ...]:
        return tuple(
            Placed(entry.layer, Kind.ROLE, entry.level, name, depth)
            for entry in self.entries.get(name, ())
            if entry.layer is not None
        )
