"""Which names mean one host: each host once, under one name, in the inventory's order."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import Mark, Problems
from orchestrator.inventory.files import Note
from orchestrator.inventory.names import key
from orchestrator.inventory.ranks import Kind, Placed
from orchestrator.inventory.written import HostEntry, Part, Ref


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
