"""Agent forwarding: a channel that a host opened to our SSH agent (draft-miller-ssh-agent)."""

from __future__ import annotations

import contextlib
import socket
import threading

from orchestrator.transport.agent import PATIENCE
from orchestrator.transport.stream import Carrier, Stream

PART = 1 << 15
LONGEST = 1 << 18  # bytes of a message, as OpenSSH's agent has it


class Relay(Stream):
    """Hands what a host asks the agent to it, and the answers back. A thread does that: an
    agent may take its time, and the connection's reader has other channels to serve.
    """

    def __init__(self, link: Carrier, number: int, path: str) -> None:
        super().__init__(link, number)
        self._path = path
        self._asked = bytearray()
        self._agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._agent.settimeout(PATIENCE)

    def reaches(self) -> bool:
        """Whether the agent answers the door."""
        try:
            self._agent.connect(self._path)
        except OSError:
            self._agent.close()
            return False
        return True

    def confirmed(self, peer: int, window: int, largest: int) -> None:
        """The channel is open: begin."""
        super().confirmed(peer, window, largest)
        threading.Thread(target=self._serve, name="orch-agent", daemon=True).start()

    def received(self, data: bytes) -> None:
        """Keep it for the thread."""
        with self._changed:
            self._asked += data
            self._changed.notify_all()

    def lost(self) -> None:
        """Nothing more will come or go."""
        super().lost()
        with contextlib.suppress(OSError):  # the thread has closed it
            self._agent.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        try:
            while request := self._request():
                self._agent.sendall(request)
                head = self._take(4)
                self._reply(head + self._take(int.from_bytes(head, "big")))
        except OSError:
            pass  # either end went away, or the agent was silent: closing says so to the other
        finally:
            self._agent.close()
            self.close()

    def _request(self) -> bytes:
        """The next whole message, b'' where none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._size() or self._gone or self._eof_there)
            size = self._size()
            request = bytes(self._asked[:size])
            del self._asked[:size]
        if size > LONGEST:
            raise ConnectionAbortedError("no agent takes a message as long as that")
        self.grant(len(request))
        return request

    def _size(self) -> int:
        """How long the message is that came whole, with its head; 0 where none is."""
        size = 4 + int.from_bytes(self._asked[:4], "big")
        return size if len(self._asked) >= min(size, LONGEST + 1) and len(self._asked) > 4 else 0

    def _reply(self, answer: bytes) -> None:
        rest = memoryview(answer)
        while rest:
            rest = rest[self.send(rest) :]
            with self._changed:
                if rest:
                    self._changed.wait_for(lambda: self._roomy or self._gone)
                    self._roomy = False

    def _take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            part = self._agent.recv(min(PART, size - len(taken)))
            if not part:
                raise ConnectionResetError("the agent closed the connection")
            taken += part
        return bytes(taken)
