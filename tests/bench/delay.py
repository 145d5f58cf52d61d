"""A link with a delay: `python -m tests.bench.delay PORT SECONDS` prints its port.

It listens on every address of this machine, and forwards data to PORT with the delay in both directions.
The client's connect succeeds at once, while a real link would need a round trip; therefore nothing
is forwarded before the three segments of TCP's handshake (RFC 9293, 3.5) would have arrived.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class DelayedProtocol(asyncio.Protocol):
    """One end of a connection; received data is sent to the other end ``delay`` seconds later.

    Nothing is sent before ``since``. None is the end of the data.
    """

    def __init__(self, delay: float, since: float = 0.0) -> None:
        self.delay, self.since = delay, since
        self.other: DelayedProtocol | None = None
        self.transport: asyncio.Transport | None = None
        self._queue: deque[bytes | None] = deque()
        self._held: list[bytes | None] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._enqueue(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._enqueue(None)

    def _enqueue(self, data: bytes | None) -> None:
        due = max(self._loop.time(), self.since) + self.delay
        self._queue.append(data)
        self._loop.call_at(due, self._deliver_next)

    def _deliver_next(self) -> None:
        """Deliver one item; there is one call for each, in order."""
        data = self._queue.popleft()
        if self.other is None:
            self._held.append(data)
        else:
            self.other.deliver(data)

    def connect_to(self, other: DelayedProtocol) -> None:
        """Forward the received data to this end from now on."""
        self.other = other
        for data in self._held:
            other.deliver(data)

    def deliver(self, data: bytes | None) -> None:
        assert self.transport
        if data is None:
            self.transport.close()
        else:
            self.transport.write(data)


async def serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    going: set[asyncio.Task[None]] = set()

    def accept() -> DelayedProtocol:
        near = DelayedProtocol(delay, loop.time() + 2 * delay)
        task = loop.create_task(lead_on(near))
        going.add(task)
        task.add_done_callback(going.discard)
        return near

    async def lead_on(near: DelayedProtocol) -> None:
        await asyncio.sleep(3 * delay)
        _, far = await loop.create_connection(lambda: DelayedProtocol(delay), "127.0.0.1", port)
        near.connect_to(far)
        far.connect_to(near)

    server = await loop.create_server(accept, "0.0.0.0", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def delayed_port(port: int, delay: float) -> Iterator[int]:
    """Start a delayed link to a port and return the port that leads to it."""
    words = [sys.executable, "-m", "tests.bench.delay", str(port), str(delay)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as relay:
        assert relay.stdout
        try:
            yield int(relay.stdout.readline())
        finally:
            relay.kill()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
