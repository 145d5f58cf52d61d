"""Which names mean one host: each host once, under one name, in the inventory's order.

Which hosts each role has, and which roles hold which.

Hosts, each with its layers in order and its connect settings resolved.

The apps of a stage: what the stage says of each over what ``common`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from msgspec import Struct

from orchestrator.errors import Mark, Problems, nearest
from orchestrator.inventory.connection_options import connect, host_of_hop
from orchestrator.inventory.directory import Note
from orchestrator.inventory.hostnames import key
from orchestrator.inventory.precedence import (
    Dispute,
    Kind,
    Merger,
    Outer,
    Placed,
    connect_of,
    disputes,
)
from orchestrator.inventory.records import AppEntry, HostEntry, Level, Part, Ref, RoleEntry
from orchestrator.model.host import App, Host, Layer, Role
from orchestrator.yamlio.schema import Reader


class Register:
    """The hosts of a stage: first those with files, then those that only roles name.

    Case does not tell hosts apart, nor do user and port: two of one host are a dispute.
    A name that is the ``address`` of a described host is that host.
    """

    def __init__(self, parts: Iterable[Part], problems: Problems, notes: list[Note]) -> None:
        self.problems, self.notes = problems, notes
        self.names: dict[str, str] = {}
        self.marks: dict[str, Mark] = {}
        self.entries: dict[str, list[HostEntry]] = {}
        self.layers: dict[str, list[Placed]] = {}
        self.by_address: dict[str, list[str]] = {}
        for part in parts:
            for entry in part.hosts:
                self._describe(entry)
        for host, entries in self.entries.items():
            address = max(entries, key=lambda e: (e.address is not None, e.ref.level)).address
            if address is not None and key(address) != host:
                self.by_address.setdefault(key(address), []).append(host)

    def find(self, ref: Ref) -> str:
        """The key of the host that is meant, whether or not there is one."""
        return ref.key if ref.key in self.entries else self._addressed(ref)

    def host(self, ref: Ref) -> str:
        """The key of the host that is meant; a new one if there was none."""
        known = self.find(ref)
        if known not in self.names:
            self.names[known], self.marks[known] = ref.name, ref.mark
        elif self.names[known] != ref.name:
            self.notes.append((f"'{ref.name}' is the host '{self.names[known]}'", ref.mark))
        if ref.layer is not None:
            self._place(known, Placed(ref.layer, Kind.HOST, ref.level))
        return known

    def _describe(self, entry: HostEntry) -> None:
        ref = entry.ref
        entries = self.entries.setdefault(ref.key, [])
        for other in entries:
            if other.ref.level is ref.level:
                what = f"host '{ref.name}' is described twice; the other is at {other.ref.mark}"
                self.problems.add(
                    what, ref.mark, "make one of them; case does not tell hosts apart"
                )
        entries.append(entry)
        if ref.key not in self.names:
            self.names[ref.key], self.marks[ref.key] = ref.name, ref.mark
        for layer in (ref.layer, entry.layer):
            if layer is not None:
                self._place(ref.key, Placed(layer, Kind.HOST, ref.level))

    def _place(self, host: str, placed: Placed) -> None:
        layers = self.layers.setdefault(host, [])
        if all(placed.layer is not known.layer for known in layers):
            layers.append(placed)

    def _addressed(self, ref: Ref) -> str:
        """The described host whose address this is, if it is one and has the port asked for."""
        hosts = self.by_address.get(ref.key, [])
        if ref.port is not None:
            hosts = [host for host in hosts if self._port(host) == ref.port]
        return hosts[0] if len(hosts) == 1 else ref.key

    def _port(self, host: str) -> object:
        ranked = sorted(self.layers.get(host, ()), key=lambda placed: placed.level)
        ports = [p.layer.connect["port"].data for p in ranked if "port" in p.layer.connect]
        return ports[-1] if ports else 22


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


_NETWORKED = ("ssh", "openssh")
_Shared: TypeAlias = tuple[list[Placed], list[Dispute], tuple[Layer, ...]]


class Assembler:
    """Makes the hosts of a stage. ``base`` are the stage's layers, weak to strong."""

    def __init__(
        self, base: Sequence[Placed], register: Register, roles: Roles, problems: Problems
    ) -> None:
        self.base, self.register, self.roles, self.problems = base, register, roles, problems
        self.merger = Merger(connect_of)
        self.shared: dict[tuple[str, ...], _Shared] = {}
        self.quarrels: dict[tuple[str, Mark, Mark], tuple[Dispute, list[str]]] = {}

    def hosts(self) -> dict[str, Host]:
        """Every host by its name, in the inventory's order."""
        hosts = {name: self._host(name, at) for at, name in self.register.names.items()}
        self._tell_quarrels()
        self._one_name_each(hosts)
        self._no_circles(hosts)
        return hosts

    def _host(self, name: str, at: str) -> Host:
        roles = self.roles.of.get(at, ())
        placed, quarrels, shared = self._of_roles(roles)
        own = sorted(self.register.layers.get(at, ()), key=lambda p: p.rank)
        if quarrels and own:
            quarrels = disputes([*placed, *own], self.roles.outer)
        elif len(own) > 1:
            quarrels = disputes(own, self.roles.outer)
        for quarrel in quarrels:
            self._tell(quarrel, name)
        layers = (*shared, *(p.layer for p in own)) if own else shared
        settings = connect(name, self.merger.merged(layers))
        return Host(name, settings, roles, layers, self.register.marks[at])

    def _of_roles(self, roles: tuple[str, ...]) -> _Shared:
        """What all hosts of just these roles share."""
        known = self.shared.get(roles)
        if known is None:
            placed = sorted((p for r in roles for p in self.roles.layers[r]), key=lambda p: p.rank)
            layers = tuple(p.layer for p in (*self.base, *placed))
            known = self.shared[roles] = placed, disputes(placed, self.roles.outer), layers
        return known

    def _tell(self, quarrel: Dispute, host: str) -> None:
        if quarrel.second.kind is Kind.HOST:
            there = f"the other is at {quarrel.one.mark}"
            what = f"host '{host}' is given two values for {quarrel.what}; {there}"
            self.problems.add(what, quarrel.other.mark, "a host has one: remove the other")
        else:  # the same for all hosts of these roles: told once
            place = (quarrel.what, quarrel.one.mark, quarrel.other.mark)
            self.quarrels.setdefault(place, (quarrel, []))[1].append(host)

    def _tell_quarrels(self) -> None:
        for quarrel, hosts in self.quarrels.values():
            first, second = quarrel.first.role, quarrel.second.role
            more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
            what = (
                f"role '{second}' gives {quarrel.what} another value than role '{first}' does"
                f" at {quarrel.one.mark}, and host '{hosts[0]}'{more} has both roles"
            )
            hint = "make them equal, or set it on the host, or let one role hold the other"
            self.problems.add(what, quarrel.other.mark, hint)

    def _one_name_each(self, hosts: dict[str, Host]) -> None:
        """Two names that lead to one login on one machine would do everything there twice."""
        seen: dict[tuple[object, ...], Host] = {}
        for host in hosts.values():
            to = host.connect
            if to.transport not in _NETWORKED:
                continue
            login = (key(to.address), to.port or 22, to.user, to.jump)
            first = seen.setdefault(login, host)
            if first is not host:
                at = f"{to.user + '@' if to.user else ''}{to.address} port {to.port or 22}"
                what = f"hosts '{first.name}' ({first.mark}) and '{host.name}' are both {at}"
                self.problems.add(what, host.mark, "use one name for one machine")

    def _no_circles(self, hosts: dict[str, Host]) -> None:
        """A jump host that is reached through itself is never reached."""
        names = self.register.names
        through = {
            text: [names[k] for k in map(host_of_hop, text.split(",")) if k in names]
            for text in {h.connect.jump for h in hosts.values() if h.connect.jump}
        }
        targets = {name for hops in through.values() for name in hops}
        graph = {name: through.get(hosts[name].connect.jump or "", []) for name in targets}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            loop: list[str] = list(reversed(error.args[1]))
            setting = self.merger.of(hosts[loop[0]])["jump"]
            what = f"a host is reached through itself: {' > '.join(loop)}"
            self.problems.add(what, setting.mark, "`jump: none` goes straight to a host")


def apps(
    parts: Sequence[Part], register: Register, roles: Mapping[str, object], problems: Problems
) -> dict[str, App]:
    """Every app, by its name. An app that only ``common`` describes lives in each stage that has
    one of its roles."""
    entries: dict[str, list[AppEntry]] = {}
    for part in reversed(parts):  # weak to strong
        for entry in part.apps:
            entries.setdefault(entry.name, []).append(entry)
    found = {name: _app(name, said, register) for name, said in sorted(entries.items())}
    for name, said in entries.items():
        _check(name, said, register, roles, problems)
    own = {name for name, said in entries.items() if said[-1].level is Level.STAGE}
    return {
        name: app
        for name, app in found.items()
        if name in own or app.roles is None or any(role in roles for role in app.roles)
    }


def _app(name: str, said: Sequence[AppEntry], register: Register) -> App:
    on: dict[str, tuple[Layer, ...]] = {}
    for entry in said:
        for ref, layer in entry.hosts:
            host = register.names.get(register.find(ref))
            if host is not None:
                on[host] = (*on.get(host, ()), layer)
    roles = [entry.roles for entry in said if entry.roles is not None]
    claims = [entry.claims for entry in said if entry.claims is not None]
    return App(
        name=name,
        mark=said[-1].mark,
        desc=next((entry.desc for entry in reversed(said) if entry.desc), ""),
        roles=tuple(map(str, roles[-1])) if roles else None,
        layers=tuple(entry.layer for entry in said if entry.layer is not None),
        on=on,
        claims=claims[-1] if claims else {},
    )


def _check(
    name: str,
    said: Sequence[AppEntry],
    register: Register,
    roles: Mapping[str, object],
    problems: Problems,
) -> None:
    """What a stage's own file names must be there; common's is for other stages, too."""
    for entry in said:
        if entry.level is not Level.STAGE:
            continue
        for role in entry.roles or ():
            if role not in roles:
                hint = nearest(role, roles) or f"roles of this stage: {', '.join(roles) or 'none'}"
                problems.add(f"app '{name}': there is no role '{role}'", role.mark, hint)
        for ref, _ in entry.hosts:
            if register.find(ref) not in register.names:
                hint = nearest(ref.name, register.names.values())
                problems.add(f"app '{name}': there is no host '{ref.name}'", ref.mark, hint)
