"""A TCP proxy in this process that does to a stream what links do: cut, stall, slow, corrupt it.

It listens on every address, so that each 127.x.y.z is a host of its own, and passes on to the same
address at another port. One thread serves everything.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from tests.faults.fault import Fault, Kind, Way

ROOM = 1 << 18  # bytes that are kept for a side that does not read
READ = 1 << 16
PORTION, PAUSE = 48, 0.001  # bytes at a time, and seconds between, where it is slow
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: what is unsent is dropped, and the peer told so


@dataclass(slots=True, eq=False)
class _Pipe:
    """One direction of a connection. ``arrived`` and ``passed`` count its bytes; ``slow`` of the
    next ones go slowly; ``waits``: until its time comes; ``still``: for ever."""

    source: socket.socket
    target: socket.socket
    fault: Fault | None
    data: bytearray = field(default_factory=bytearray)
    arrived: int = 0
    passed: int = 0
    slow: int = 0
    waits: bool = False
    ended: bool = False
    still: bool = False


@dataclass(slots=True, eq=False)
class _Line:
    """One connection through the proxy."""

    address: str
    pipes: dict[Way, _Pipe]
    over: bool = False

    @property
    def socks(self) -> tuple[socket.socket, socket.socket]:
        return self.pipes[Way.UP].source, self.pipes[Way.DOWN].source


class FaultProxy:
    """Passes on what comes to ``port``. ``happened`` are the addresses where something did,
    ``passed`` the most bytes that a connection of theirs had, ``tries`` how many they had.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=512)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.happened: set[str] = set()
        self.passed: Counter[tuple[str, Way]] = Counter()
        self.tries: Counter[str] = Counter()
        self._faults: Mapping[str, Fault] = {}
        self._selector = selectors.DefaultSelector()
        self._watched: dict[socket.socket, int] = {}
        self._lines: set[_Line] = set()
        self._later: list[tuple[float, int, _Line, _Pipe]] = []
        self._numbers = itertools.count()
        self._orders: list[Callable[[], object]] = []
        self._bell = os.pipe()
        self._over = False
        self._selector.register(self._bell[0], selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()

    def set(self, faults: Mapping[str, Fault]) -> None:
        """From now on this is what happens, by the host's address. Connections are ended."""
        self._order(lambda: self._begin(faults))

    def stall(self, addresses: Collection[str]) -> None:
        """From now on nothing gets through, either way, on the connections that these have."""
        self._order(lambda: self._hold(addresses))

    def garble(self, place: int, mask: int) -> None:
        """XOR this byte of what comes next from the server, on every connection."""
        self._order(lambda: self._spoil(place, mask))

    def close(self) -> None:
        """End every connection and the thread."""
        self._order(self._finish)
        self._thread.join()
        self._selector.close()
        self._listener.close()
        for end in self._bell:
            os.close(end)

    def _order(self, order: Callable[[], object]) -> None:
        done = threading.Event()

        def obey() -> None:
            order()
            done.set()

        self._orders.append(obey)
        os.write(self._bell[1], b".")
        done.wait()

    # What the thread does.

    def _begin(self, faults: Mapping[str, Fault]) -> None:
        for line in list(self._lines):
            self._end(line)
        self._faults = faults
        self.happened, self.passed, self.tries = set(), Counter(), Counter()

    def _hold(self, addresses: Collection[str]) -> None:
        for line in self._lines:
            if line.address in addresses:
                for pipe in line.pipes.values():
                    pipe.still = True
                self._watch(line)

    def _spoil(self, place: int, mask: int) -> None:
        for line in self._lines:
            pipe = line.pipes[Way.DOWN]
            pipe.fault = Fault(Kind.CORRUPT, Way.DOWN, pipe.arrived + place, detail=mask)

    def _finish(self) -> None:
        self._begin({})
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
                pipe.waits = False
                self._move(line, pipe)
            while self._orders:
                self._orders.pop(0)()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # who knocked has gone
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
        up, down = (fault if fault and fault.way is way else None for way in Way)
        pipes = {Way.UP: _Pipe(client, server, up), Way.DOWN: _Pipe(server, client, down)}
        line = _Line(address, pipes)
        self._lines.add(line)
        for pipe in pipes.values():
            self._move(line, pipe)

    def _serve(self, sock: socket.socket, line: _Line, events: int) -> None:
        for pipe in line.pipes.values():
            if pipe.source is sock and events & selectors.EVENT_READ and not line.over:
                self._read(line, pipe)
            if pipe.target is sock and events & selectors.EVENT_WRITE:
                self._move(line, pipe)

    def _read(self, line: _Line, pipe: _Pipe) -> None:
        try:
            data = bytearray(pipe.source.recv(READ))
        except BlockingIOError:
            return
        except OSError:
            self._end(line, reset=True)
            return
        fault = pipe.fault
        if fault is not None and fault.kind is Kind.CORRUPT and data:
            place = fault.at - pipe.arrived
            if place < len(data):
                data[place] ^= fault.detail
                pipe.fault = None
                self.happened.add(line.address)
        pipe.arrived += len(data)
        pipe.data += data
        pipe.ended = not data
        self._move(line, pipe)

    def _move(self, line: _Line, pipe: _Pipe) -> None:
        """Send what there is room for, and have happen what is to happen."""
        while not (line.over or pipe.still):
            fault = pipe.fault if pipe.fault and pipe.fault.kind is not Kind.CORRUPT else None
            if fault is not None and pipe.passed == fault.at:
                pipe.fault = None
                self._strike(line, pipe, fault)
                continue
            size = min(len(pipe.data), PORTION if pipe.slow else READ)
            size = min(size, fault.at - pipe.passed) if fault else size
            sent = self._send(line, pipe, size) if size and not pipe.waits else 0
            if not sent:
                break
            way = next(way for way, each in line.pipes.items() if each is pipe)
            self.passed[line.address, way] = max(self.passed[line.address, way], pipe.passed)
            if pipe.slow:
                pipe.slow, pipe.waits = max(0, pipe.slow - sent), True
                later = time.monotonic() + PAUSE
                heapq.heappush(self._later, (later, next(self._numbers), line, pipe))
        if pipe.ended and not pipe.data and not pipe.still and not line.over:
            with contextlib.suppress(OSError):  # it is gone
                pipe.target.shutdown(socket.SHUT_WR)
            pipe.still = True
        if all(each.ended and not each.data for each in line.pipes.values()):
            self._end(line)
        self._watch(line)

    def _send(self, line: _Line, pipe: _Pipe, size: int) -> int:
        try:
            sent = pipe.target.send(pipe.data[:size])
        except BlockingIOError:
            return 0
        except OSError:
            self._end(line, reset=True)
            return 0
        del pipe.data[:sent]
        pipe.passed += sent
        return sent

    def _strike(self, line: _Line, pipe: _Pipe, fault: Fault) -> None:
        self.happened.add(line.address)
        if fault.kind is Kind.SLOW:
            pipe.slow = fault.detail
            return
        if fault.both and fault.kind is not Kind.STALL:
            self._end(line, reset=fault.kind is Kind.RESET)
            return
        for each in line.pipes.values():
            each.still = each.still or fault.both or each is pipe or fault.kind is not Kind.STALL
        if fault.kind is not Kind.STALL:
            self._let_go(pipe.target, reset=fault.kind is Kind.RESET)

    def _end(self, line: _Line, *, reset: bool = False) -> None:
        line.over = True
        self._lines.discard(line)
        for sock in line.socks:
            self._let_go(sock, reset=reset)

    def _let_go(self, sock: socket.socket, *, reset: bool) -> None:
        if self._watched.pop(sock, 0):
            self._selector.unregister(sock)
        if reset and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def _watch(self, line: _Line) -> None:
        """Look out for what can be dealt with. Where it is still not even an end gets through."""
        for sock in line.socks:
            events = 0
            for pipe in line.pipes.values():
                moves = not (line.over or pipe.still or sock.fileno() < 0)
                if moves and pipe.source is sock and not pipe.ended and len(pipe.data) < ROOM:
                    events |= selectors.EVENT_READ
                if moves and pipe.target is sock and pipe.data and not pipe.waits:
                    events |= selectors.EVENT_WRITE
            before = self._watched.pop(sock, 0)
            if events:
                self._watched[sock] = events
                change = self._selector.modify if before else self._selector.register
                change(sock, events, line)
            elif before:
                self._selector.unregister(sock)
