"""Resolution of a stage's records to hosts, roles and apps.

Each host is created once, under one name, in inventory order, with its layers ordered and its
connect settings resolved. Roles get their hosts and their nesting. The stage's description of an
app overrides the one in ``common``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from msgspec import Struct

from orchestrator.errors import DiagnosticCollector, SourcePosition, suggest_nearest
from orchestrator.inventory.connection_options import jump_host_key, resolve_connection_options
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.hostnames import normalize_host
from orchestrator.inventory.precedence import (
    LayerKind,
    OuterRoles,
    RankedLayer,
    VariableConflict,
    VariableMerger,
    connect_of,
    find_conflicts,
)
from orchestrator.inventory.records import (
    AppEntry,
    HostEntry,
    HostRef,
    InventoryLevel,
    InventoryRecords,
    RoleEntry,
)
from orchestrator.model.host import SSH_TRANSPORTS, App, Host, Role, VariableLayer
from orchestrator.yamlio.schema import SchemaReader


class HostRegistry:
    """The hosts of a stage: first those with files, then those that only roles name.

    Case does not distinguish hosts, nor do user and port: two users or ports of one host are a
    conflict. A name that equals the ``address`` of a described host refers to that host.
    """

    def __init__(
        self,
        parts: Iterable[InventoryRecords],
        problems: DiagnosticCollector,
        notes: list[InventoryWarning],
    ) -> None:
        self.problems, self.notes = problems, notes
        self.names: dict[str, str] = {}
        self.marks: dict[str, SourcePosition] = {}
        self.entries: dict[str, list[HostEntry]] = {}
        self.layers: dict[str, list[RankedLayer]] = {}
        self.by_address: dict[str, list[str]] = {}
        for part in parts:
            for entry in part.hosts:
                self._add_entry(entry)
        for host, entries in self.entries.items():
            address = max(entries, key=lambda e: (e.address is not None, e.ref.level)).address
            if address is not None and normalize_host(address) != host:
                self.by_address.setdefault(normalize_host(address), []).append(host)

    def find_key(self, ref: HostRef) -> str:
        """Return the key of the host that is referred to, whether or not it exists."""
        return ref.key if ref.key in self.entries else self._host_at_address(ref)

    def ensure_host(self, ref: HostRef) -> str:
        """Return the key of the host that is referred to; the host is created if necessary."""
        known = self.find_key(ref)
        if known not in self.names:
            self.names[known], self.marks[known] = ref.name, ref.mark
        elif self.names[known] != ref.name:
            self.notes.append((f"'{ref.name}' is the host '{self.names[known]}'", ref.mark))
        if ref.layer is not None:
            self._add_layer(known, RankedLayer(ref.layer, LayerKind.HOST, ref.level))
        return known

    def _add_entry(self, entry: HostEntry) -> None:
        ref = entry.ref
        entries = self.entries.setdefault(ref.key, [])
        for other in entries:
            if other.ref.level is ref.level:
                what = f"host '{ref.name}' is described twice; the other is at {other.ref.mark}"
                self.problems.add(what, ref.mark, "merge them; case does not distinguish hosts")
        entries.append(entry)
        if ref.key not in self.names:
            self.names[ref.key], self.marks[ref.key] = ref.name, ref.mark
        for layer in (ref.layer, entry.layer):
            if layer is not None:
                self._add_layer(ref.key, RankedLayer(layer, LayerKind.HOST, ref.level))

    def _add_layer(self, host: str, ranked_layer: RankedLayer) -> None:
        layers = self.layers.setdefault(host, [])
        if all(ranked_layer.layer is not known.layer for known in layers):
            layers.append(ranked_layer)

    def _host_at_address(self, ref: HostRef) -> str:
        """Return the key of the described host at this address and port, or the reference's key."""
        hosts = self.by_address.get(ref.key, [])
        if ref.port is not None:
            hosts = [host for host in hosts if self._port_of(host) == ref.port]
        return hosts[0] if len(hosts) == 1 else ref.key

    def _port_of(self, host: str) -> object:
        ranked = sorted(self.layers.get(host, ()), key=lambda placed: placed.level)
        ports = [p.layer.connect["port"].data for p in ranked if "port" in p.layer.connect]
        return ports[-1] if ports else 22


class RoleMap(Struct, frozen=True):
    """The roles of a stage. ``roles_of_host`` has each host's roles, in inventory order."""

    roles: dict[str, Role]
    roles_of_host: dict[str, tuple[str, ...]]
    outer: OuterRoles
    layers: dict[str, tuple[RankedLayer, ...]]


class RoleResolver:
    """The resolution of a stage's roles. ``parts`` are ordered from strong to weak."""

    def __init__(
        self,
        parts: Sequence[InventoryRecords],
        registry: HostRegistry,
        problems: DiagnosticCollector,
        notes: list[InventoryWarning],
    ) -> None:
        self.register, self.problems, self.notes = registry, problems, notes
        self.read = SchemaReader(problems)
        self.entries: dict[str, list[RoleEntry]] = {}
        for part in parts:
            for name, entry in part.roles.items():
                self.entries.setdefault(name, []).append(entry)
        self.claims = self._role_claims()

    def resolve(self) -> RoleMap:
        """Return every role with its hosts; roles that contain themselves are reported."""
        own = {name: self._own_hosts(name) for name in (*self.entries, *self.claims)}
        inner = {name: self._inner_roles(name) for name in own}
        order = self._order_roles(inner)
        members: dict[str, tuple[str, ...]] = {}
        for name in order:
            found = [*own[name], *(host for role in inner[name] for host in members[role])]
            members[name] = tuple(dict.fromkeys((*found, *self._claiming_hosts(name))))
        outer: dict[str, frozenset[str]] = dict.fromkeys(own, frozenset())
        depth = dict.fromkeys(own, 0)
        for name in reversed(order):
            for role in inner[name]:
                outer[role] |= outer[name] | {name}
                depth[role] = max(depth[role], depth[name] + 1)
        roles = {name: self._build_role(name, members.get(name, ())) for name in own}
        of: dict[str, list[str]] = {}
        for name in own:
            for host in members.get(name, ()):
                of.setdefault(host, []).append(name)
        layers = {name: self._role_layers(name, depth[name]) for name in own}
        return RoleMap(roles, {host: tuple(names) for host, names in of.items()}, outer, layers)

    def _role_claims(self) -> dict[str, dict[str, SourcePosition]]:
        """Return, for each role, the hosts that list it in their own files, with the positions."""
        claims: dict[str, dict[str, SourcePosition]] = {}
        for host, entries in self.register.entries.items():
            roles_by_level = {
                entry.ref.level: entry.roles for entry in entries if entry.roles is not None
            }
            for role in roles_by_level[max(roles_by_level)] if roles_by_level else ():
                claims.setdefault(str(role), {})[host] = role.mark
        for name, hosts in claims.items():
            if name not in self.entries:
                mark = next(iter(hosts.values()))
                near = suggest_nearest(name, self.entries)
                note = f"the role '{name}' has no file: only hosts name it{near and '; '}{near}"
                self.notes.append((note, mark))
        return claims

    def _claiming_hosts(self, name: str) -> tuple[str, ...]:
        return tuple(self.claims.get(name, ()))

    def _own_hosts(self, name: str) -> list[str]:
        """Return the hosts listed in the role itself: the stage's list, or the one in common."""
        refs = next((e.hosts for e in self.entries.get(name, ()) if e.hosts is not None), ())
        hosts: dict[str, HostRef] = {}
        for ref in refs:
            host = self.register.ensure_host(ref)
            if host in hosts:
                self.notes.append((f"'{ref.name}' is listed twice in role '{name}'", ref.mark))
            hosts.setdefault(host, ref)
        return list(hosts)

    def _inner_roles(self, name: str) -> list[str]:
        inner_names = next((e.roles for e in self.entries.get(name, ()) if e.roles is not None), ())
        known = {*self.entries, *self.claims}
        return [str(r) for r in inner_names if self.read.check_one_of(r, r.mark, "role", known)]

    def _order_roles(self, inner: dict[str, list[str]]) -> list[str]:
        """Return the names of the roles, each after the roles that it contains."""
        try:
            return list(TopologicalSorter(inner).static_order())
        except CycleError as error:
            loop: list[str] = list(reversed(error.args[1]))
            mark = self.entries[loop[0]][0].mark
            self.problems.add(
                f"a role contains itself: {' > '.join(loop)}", mark, "break the cycle"
            )
            return []

    def _build_role(self, name: str, hosts: tuple[str, ...]) -> Role:
        entries = self.entries.get(name, [])
        names = self.register.names
        desc = next((e.desc for e in entries if e.desc is not None), "")
        mark = entries[0].mark if entries else next(iter(self.claims[name].values()))
        primary = names[hosts[0]] if hosts else None
        chosen = next((e.primary for e in entries if e.primary is not None), None)
        if chosen is not None:
            primary = names.get(self.register.find_key(chosen), chosen.name)
            known = [names[host] for host in hosts]
            self.read.check_one_of(
                primary, chosen.mark, f"host in role '{name}' that is called", known
            )
        return Role(name, tuple(names[host] for host in hosts), primary, mark, desc)

    def _role_layers(self, name: str, depth: int) -> tuple[RankedLayer, ...]:
        return tuple(
            RankedLayer(entry.layer, LayerKind.ROLE, entry.level, name, depth)
            for entry in self.entries.get(name, ())
            if entry.layer is not None
        )


_RoleLayers: TypeAlias = tuple[list[RankedLayer], list[VariableConflict], tuple[VariableLayer, ...]]


class HostBuilder:
    """A builder of the hosts of a stage. ``base`` are the stage's layers, weak to strong."""

    def __init__(
        self,
        base: Sequence[RankedLayer],
        registry: HostRegistry,
        roles: RoleMap,
        problems: DiagnosticCollector,
    ) -> None:
        self.base, self.register, self.roles, self.problems = base, registry, roles, problems
        self.merger = VariableMerger(connect_of)
        self.shared: dict[tuple[str, ...], _RoleLayers] = {}
        self.role_conflicts: dict[
            tuple[str, SourcePosition, SourcePosition], tuple[VariableConflict, list[str]]
        ] = {}

    def build_hosts(self) -> dict[str, Host]:
        """Return every host by name, in inventory order."""
        hosts = {name: self._build_host(name, at) for at, name in self.register.names.items()}
        self._report_role_conflicts()
        self._check_duplicate_hosts(hosts)
        self._check_jump_loops(hosts)
        return hosts

    def _build_host(self, name: str, at: str) -> Host:
        roles = self.roles.roles_of_host.get(at, ())
        placed, conflicts, shared = self._layers_of_roles(roles)
        own = sorted(self.register.layers.get(at, ()), key=lambda p: p.rank)
        if conflicts and own:
            conflicts = find_conflicts([*placed, *own], self.roles.outer)
        elif len(own) > 1:
            conflicts = find_conflicts(own, self.roles.outer)
        for conflict in conflicts:
            self._report_conflict(conflict, name)
        layers = (*shared, *(p.layer for p in own)) if own else shared
        settings = resolve_connection_options(name, self.merger.merge_layers(layers))
        return Host(name, settings, roles, layers, self.register.marks[at])

    def _layers_of_roles(self, roles: tuple[str, ...]) -> _RoleLayers:
        """Return the layers and conflicts shared by all hosts with exactly these roles."""
        known = self.shared.get(roles)
        if known is None:
            placed = sorted((p for r in roles for p in self.roles.layers[r]), key=lambda p: p.rank)
            layers = tuple(p.layer for p in (*self.base, *placed))
            known = self.shared[roles] = placed, find_conflicts(placed, self.roles.outer), layers
        return known

    def _report_conflict(self, conflict: VariableConflict, host: str) -> None:
        if conflict.second.kind is LayerKind.HOST:
            other_position = f"the other is at {conflict.first_value.mark}"
            what = f"host '{host}' has two values for {conflict.what}; {other_position}"
            self.problems.add(what, conflict.second_value.mark, "remove one of them")
        else:  # identical for all hosts of these roles: reported once
            conflict_key = (conflict.what, conflict.first_value.mark, conflict.second_value.mark)
            self.role_conflicts.setdefault(conflict_key, (conflict, []))[1].append(host)

    def _report_role_conflicts(self) -> None:
        for conflict, hosts in self.role_conflicts.values():
            first, second = conflict.first.role, conflict.second.role
            more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
            what = (
                f"role '{second}' gives {conflict.what} another value than role '{first}' does"
                f" at {conflict.first_value.mark}, and host '{hosts[0]}'{more} has both roles"
            )
            hint = "make them equal, or set it on the host, or nest one role in the other"
            self.problems.add(what, conflict.second_value.mark, hint)

    def _check_duplicate_hosts(self, hosts: dict[str, Host]) -> None:
        """Report two names for one login on one machine: every step would run there twice."""
        first_by_login: dict[tuple[object, ...], Host] = {}
        for host in hosts.values():
            to = host.connect
            if to.transport not in SSH_TRANSPORTS:
                continue
            login = (normalize_host(to.address), to.port or 22, to.user, to.jump)
            first = first_by_login.setdefault(login, host)
            if first is not host:
                at = f"{to.user + '@' if to.user else ''}{to.address} port {to.port or 22}"
                what = f"hosts '{first.name}' ({first.mark}) and '{host.name}' both connect to {at}"
                self.problems.add(what, host.mark, "use one name for one machine")

    def _check_jump_loops(self, hosts: dict[str, Host]) -> None:
        """Report jump hosts that are reached through themselves."""
        names = self.register.names
        through = {
            text: [names[k] for k in map(jump_host_key, text.split(",")) if k in names]
            for text in {h.connect.jump for h in hosts.values() if h.connect.jump}
        }
        targets = {name for hops in through.values() for name in hops}
        graph = {name: through.get(hosts[name].connect.jump or "", []) for name in targets}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            loop: list[str] = list(reversed(error.args[1]))
            setting = self.merger.values_of(hosts[loop[0]])["jump"]
            what = f"the jump hosts form a loop: {' > '.join(loop)}"
            self.problems.add(what, setting.mark, "`jump: none` connects directly")


def build_apps(
    records: Sequence[InventoryRecords],
    registry: HostRegistry,
    roles: Mapping[str, object],
    problems: DiagnosticCollector,
) -> dict[str, App]:
    """Return every app by name.

    An app that only ``common`` describes belongs to each stage that has one of its roles.
    """
    entries: dict[str, list[AppEntry]] = {}
    for part in reversed(records):  # weak to strong
        for entry in part.apps:
            entries.setdefault(entry.name, []).append(entry)
    found = {
        name: _build_app(name, app_entries, registry)
        for name, app_entries in sorted(entries.items())
    }
    for name, app_entries in entries.items():
        _check_app(name, app_entries, registry, roles, problems)
    own = {
        name
        for name, app_entries in entries.items()
        if app_entries[-1].level is InventoryLevel.STAGE
    }
    return {
        name: app
        for name, app in found.items()
        if name in own or app.roles is None or any(role in roles for role in app.roles)
    }


def _build_app(name: str, entries: Sequence[AppEntry], registry: HostRegistry) -> App:
    on: dict[str, tuple[VariableLayer, ...]] = {}
    for entry in entries:
        for ref, layer in entry.hosts:
            host = registry.names.get(registry.find_key(ref))
            if host is not None:
                on[host] = (*on.get(host, ()), layer)
    roles = [entry.roles for entry in entries if entry.roles is not None]
    claims = [entry.claims for entry in entries if entry.claims is not None]
    return App(
        name=name,
        mark=entries[-1].mark,
        desc=next((entry.desc for entry in reversed(entries) if entry.desc), ""),
        roles=tuple(map(str, roles[-1])) if roles else None,
        layers=tuple(entry.layer for entry in entries if entry.layer is not None),
        layers_by_host=on,
        claims=claims[-1] if claims else {},
    )


def _check_app(
    name: str,
    entries: Sequence[AppEntry],
    registry: HostRegistry,
    roles: Mapping[str, object],
    problems: DiagnosticCollector,
) -> None:
    """Report roles and hosts that a stage's own app file names and the stage does not have.

    The file of ``common`` is not checked, because it also serves other stages.
    """
    for entry in entries:
        if entry.level is not InventoryLevel.STAGE:
            continue
        for role in entry.roles or ():
            if role not in roles:
                hint = (
                    suggest_nearest(role, roles)
                    or f"roles of this stage: {', '.join(roles) or 'none'}"
                )
                problems.add(f"app '{name}': there is no role '{role}'", role.mark, hint)
        for ref, _ in entry.hosts:
            if registry.find_key(ref) not in registry.names:
                hint = suggest_nearest(ref.name, registry.names.values())
                problems.add(f"app '{name}': there is no host '{ref.name}'", ref.mark, hint)
