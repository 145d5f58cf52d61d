"""Hosts, each with its layers in order and its connect settings resolved."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from orchestrator.errors import Mark, Problems
from orchestrator.inventory.connect import connect, host_of_hop
from orchestrator.inventory.names import key
from orchestrator.inventory.ranks import Dispute, Kind, Placed, disputes
from orchestrator.inventory.register import Register
from orchestrator.inventory.roles import Roles
from orchestrator.inventory.values import Merger, connect_of
from orchestrator.model.host import Host, Layer

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
