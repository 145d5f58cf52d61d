"""A TCP proxy in this process that can cut, stall, slow down and corrupt a stream.

It listens on every address, so that each 127.x.y.z is a host, and forwards to the same address at
another port. One thread handles everything.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.projects import OrchProject
from tests.sshd import serve_sshd
from tests.support.link_faults import FaultKind, LinkDirection, LinkFault

BUFFER_BYTES = 1 << 18  # bytes buffered for a side that does not read
READ_BYTES = 1 << 16
PORTION, PAUSE = 48, 0.001  # bytes at a time, and seconds between, if it is slow
# of SO_LINGER: unsent data is dropped, and the peer receives a reset
RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class _ProxyPipe:
    """One direction of a connection.

    ``bytes_arrived`` and ``bytes_passed`` count its bytes; ``slow`` of the next ones are sent
    slowly; ``is_waiting``: until its time comes; ``is_stalled``: for ever.
    """

    source: socket.socket
    target: socket.socket
    fault: LinkFault | None
    data: bytearray = field(default_factory=bytearray)
    bytes_arrived: int = 0
    bytes_passed: int = 0
    slow: int = 0
    is_waiting: bool = False
    has_ended: bool = False
    is_stalled: bool = False


@dataclass(slots=True, eq=False)
class _ProxiedConnection:
    """One connection through the proxy."""

    address: str
    pipes: dict[LinkDirection, _ProxyPipe]
    is_closed: bool = False

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        return self.pipes[LinkDirection.TO_SERVER].source, self.pipes[
            LinkDirection.TO_CLIENT
        ].source


class FaultProxy:
    """Forwards connections to ``port``.

    ``struck_addresses`` are the addresses with faults so far, ``bytes_passed`` the maximum of bytes
    on one of their connections, ``tries`` their number of connections.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=512)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.struck_addresses: set[str] = set()
        self.passed: Counter[tuple[str, LinkDirection]] = Counter()
        self.tries: Counter[str] = Counter()
        self._faults: Mapping[str, LinkFault] = {}
        self._selector = selectors.DefaultSelector()
        self._watched: dict[socket.socket, int] = {}
        self._lines: set[_ProxiedConnection] = set()
        self._later: list[tuple[float, int, _ProxiedConnection, _ProxyPipe]] = []
        self._numbers = itertools.count()
        self._orders: list[Callable[[], object]] = []
        self._bell = os.pipe()
        self._over = self._is_held = False
        self._selector.register(self._bell[0], selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()

    def set_faults(self, faults: Mapping[str, LinkFault]) -> None:
        """Set the faults from now on by the host's address, and end all connections."""
        self._run_in_thread(lambda: self._begin_faults(faults))

    def strike(self, faults: Mapping[str, LinkFault]) -> None:
        """Set the faults of connections that are open, at bytes counted from now on."""
        self._run_in_thread(lambda: self._strike(faults))

    def stall(self, addresses: Collection[str]) -> None:
        """Let nothing pass from now on, in either direction, on connections of these hosts."""
        self._run_in_thread(lambda: self._stall(addresses))

    def hold(self) -> None:
        """Let nothing pass until ``release``, also on new connections; nothing is dropped."""
        self._run_in_thread(lambda: self._set_held(True))

    def release(self) -> None:
        """Let everything pass again."""
        self._run_in_thread(lambda: self._set_held(False))

    def corrupt_byte(self, offset: int, mask: int) -> None:
        """XOR this byte of the next data from the server, on every connection."""
        self._run_in_thread(lambda: self._corrupt(offset, mask))

    def close(self) -> None:
        """End every connection and the thread."""
        self._run_in_thread(self._finish)
        self._thread.join()
        self._selector.close()
        self._listener.close()
        for end in self._bell:
            os.close(end)

    def _run_in_thread(self, order: Callable[[], object]) -> None:
        done = threading.Event()

        def obey() -> None:
            order()
            done.set()

        self._orders.append(obey)
        os.write(self._bell[1], b".")
        done.wait()

    # The code below runs in the thread.

    def _begin_faults(self, faults: Mapping[str, LinkFault]) -> None:
        for line in list(self._lines):
            self._end(line)
        self._faults = faults
        self.struck_addresses, self.passed, self.tries = set(), Counter(), Counter()

    def _strike(self, faults: Mapping[str, LinkFault]) -> None:
        self.struck_addresses = set()
        for line in self._lines:
            if fault := faults.get(line.address):
                pipe = line.pipes[fault.direction]
                is_corrupt = fault.kind is FaultKind.CORRUPT
                since = pipe.bytes_arrived if is_corrupt else pipe.bytes_passed
                pipe.fault = replace(fault, at=since + fault.at)

    def _stall(self, addresses: Collection[str]) -> None:
        for line in self._lines:
            if line.address in addresses:
                for pipe in line.pipes.values():
                    pipe.is_stalled = True
                self._update_events(line)

    def _set_held(self, is_held: bool) -> None:
        self._is_held = is_held
        for line in list(self._lines):
            for pipe in line.pipes.values():
                self._forward(line, pipe)

    def _corrupt(self, offset: int, mask: int) -> None:
        for line in self._lines:
            pipe = line.pipes[LinkDirection.TO_CLIENT]
            pipe.fault = LinkFault(
                FaultKind.CORRUPT, LinkDirection.TO_CLIENT, pipe.bytes_arrived + offset, detail=mask
            )

    def _finish(self) -> None:
        self._begin_faults({})
        self._over = True

    def _run(self) -> None:
        while not self._over:
            wait = max(0.0, self._later[0][0] - time.monotonic()) if self._later else None
            for key, events in self._selector.select(wait):
                if key.fd == self._bell[0]:
                    os.read(self._bell[0], 4096)
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._serve(key.fileobj, key.data, events)
            while self._later and self._later[0][0] <= time.monotonic():
                _, _, line, pipe = heapq.heappop(self._later)
                pipe.is_waiting = False
                self._forward(line, pipe)
            while self._orders:
                self._orders.pop(0)()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # the client has disconnected already
        address, server = client.getsockname()[0], socket.socket()
        try:
            server.connect((address, self._server))
        except OSError:
            client.close()
            server.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fault = self._faults.get(address)
        if fault is not None and fault.connection != self.tries[address]:
            fault = None
        self.tries[address] += 1
        up, down = (
            fault if fault and fault.direction is direction else None for direction in LinkDirection
        )
        pipes = {
            LinkDirection.TO_SERVER: _ProxyPipe(client, server, up),
            LinkDirection.TO_CLIENT: _ProxyPipe(server, client, down),
        }
        line = _ProxiedConnection(address, pipes)
        self._lines.add(line)
        for pipe in pipes.values():
            self._forward(line, pipe)

    def _serve(self, sock: socket.socket, line: _ProxiedConnection, events: int) -> None:
        for pipe in line.pipes.values():
            if pipe.source is sock and events & selectors.EVENT_READ and not line.is_closed:
                self._read(line, pipe)
            if pipe.target is sock and events & selectors.EVENT_WRITE:
                self._forward(line, pipe)

    def _read(self, line: _ProxiedConnection, pipe: _ProxyPipe) -> None:
        try:
            data = bytearray(pipe.source.recv(READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self._end(line, reset=True)
            return
        fault = pipe.fault
        if fault is not None and fault.kind is FaultKind.CORRUPT and data:
            remaining = fault.at - pipe.bytes_arrived
            if remaining < len(data):
                data[remaining] ^= fault.detail
                pipe.fault = None
                self.struck_addresses.add(line.address)
        pipe.bytes_arrived += len(data)
        pipe.data += data
        pipe.has_ended = not data
        self._forward(line, pipe)

    def _forward(self, line: _ProxiedConnection, pipe: _ProxyPipe) -> None:
        """Send as much as possible, and trigger faults that are due."""
        while not (line.is_closed or pipe.is_stalled or self._is_held):
            fault = pipe.fault if pipe.fault and pipe.fault.kind is not FaultKind.CORRUPT else None
            if fault is not None and pipe.bytes_passed == fault.at:
                pipe.fault = None
                self._apply_fault(line, pipe, fault)
                continue
            size = min(len(pipe.data), PORTION if pipe.slow else READ_BYTES)
            size = min(size, fault.at - pipe.bytes_passed) if fault else size
            sent = self._send(line, pipe, size) if size and not pipe.is_waiting else 0
            if not sent:
                break
            direction = next(way for way, each in line.pipes.items() if each is pipe)
            self.passed[line.address, direction] = max(
                self.passed[line.address, direction], pipe.bytes_passed
            )
            if pipe.slow:
                pipe.slow, pipe.is_waiting = max(0, pipe.slow - sent), True
                later = time.monotonic() + PAUSE
                heapq.heappush(self._later, (later, next(self._numbers), line, pipe))
        is_over = pipe.has_ended and not pipe.data and not pipe.is_stalled
        if is_over and not line.is_closed and not self._is_held:
            with suppress(OSError):  # it is gone
                pipe.target.shutdown(socket.SHUT_WR)
            pipe.is_stalled = True
        if all(each.has_ended and not each.data for each in line.pipes.values()):
            self._end(line)
        self._update_events(line)

    def _send(self, line: _ProxiedConnection, pipe: _ProxyPipe, size: int) -> int:
        try:
            sent = pipe.target.send(pipe.data[:size])
        except BlockingIOError:
            return 0
        except OSError:
            self._end(line, reset=True)
            return 0
        del pipe.data[:sent]
        pipe.bytes_passed += sent
        return sent

    def _apply_fault(self, line: _ProxiedConnection, pipe: _ProxyPipe, fault: LinkFault) -> None:
        self.struck_addresses.add(line.address)
        if fault.kind is FaultKind.SLOW:
            pipe.slow = fault.detail
            return
        if fault.both_directions and fault.kind is not FaultKind.STALL:
            self._end(line, reset=fault.kind is FaultKind.RESET)
            return
        for each in line.pipes.values():
            each.is_stalled = (
                each.is_stalled
                or fault.both_directions
                or each is pipe
                or fault.kind is not FaultKind.STALL
            )
        if fault.kind is not FaultKind.STALL:
            self._close_socket(pipe.target, reset=fault.kind is FaultKind.RESET)

    def _end(self, line: _ProxiedConnection, *, reset: bool = False) -> None:
        line.is_closed = True
        self._lines.discard(line)
        for sock in line.sockets:
            self._close_socket(sock, reset=reset)

    def _close_socket(self, sock: socket.socket, *, reset: bool) -> None:
        if self._watched.pop(sock, 0):
            self._selector.unregister(sock)
        if reset and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def _update_events(self, line: _ProxiedConnection) -> None:
        """Watch for what can be handled. A stalled direction does not even pass the end."""
        for sock in line.sockets:
            events = 0
            for pipe in line.pipes.values():
                stays = line.is_closed or pipe.is_stalled or self._is_held
                moves = not stays and sock.fileno() >= 0
                if (
                    moves
                    and pipe.source is sock
                    and not pipe.has_ended
                    and len(pipe.data) < BUFFER_BYTES
                ):
                    events |= selectors.EVENT_READ
                if moves and pipe.target is sock and pipe.data and not pipe.is_waiting:
                    events |= selectors.EVENT_WRITE
            before = self._watched.pop(sock, 0)
            if events:
                self._watched[sock] = events
                change = self._selector.modify if before else self._selector.register
                change(sock, events, line)
            elif before:
                self._selector.unregister(sock)


@contextmanager
def proxied_host(
    project: OrchProject, folder: Path, address: str, environment: Mapping[str, str]
) -> Iterator[FaultProxy]:
    """Yield a proxy before a server; the project has the host `h` behind it, in the stage `real`.

    ``environment`` is the server's.
    """
    with serve_sshd(folder / "sshd", environment=environment) as sshd:
        proxy = FaultProxy(sshd.port)
        (folder / "known").write_text(f"[*]:{proxy.port} {sshd.host_key}\n")
        connect = {
            "user": sshd.user,
            "port": proxy.port,
            "identity": str(sshd.key),
            "identities_only": True,
            "known_hosts": str(folder / "known"),
            "retries": 0,
        }
        project.write(
            {
                "inventories/real/stage.yml": json.dumps({"connect": connect}),
                "inventories/real/hosts.yml": json.dumps({"h": {"address": address}}),
            }
        )
        try:
            yield proxy
        finally:
            with suppress(OSError):  # the test has closed it
                proxy.close()
