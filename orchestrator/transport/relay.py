"""Agent forwarding: a channel that a host opened to our SSH agent (draft-miller-ssh-agent)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from orchestrator.transport.agent import (
    LISTING,
    LONGEST,
    SIGN,
    SIGNING,
    Agent,
    AgentError,
    exchange,
)
from orchestrator.transport.stream import Carrier, Stream


class Relay(Stream):
    """Hands what a host asks the agent to it, and the answers back. A thread does that: an
    agent may take its time, and the connection's reader has other channels to serve.

    An agent that does not answer in time is asked no more by any host of the run.
    """

    def __init__(self, link: Carrier, number: int, agent: Agent) -> None:
        super().__init__(link, number)
        self._agent = agent
        self._asked = bytearray()
        self._socket: socket.socket | None = None

    def reaches(self) -> bool:
        """Call the agent. Return False where it is not there, or did not answer others."""
        if self._agent.trouble:
            return False
        try:
            self._socket = self._agent.call(lambda: 0.0)
        except OSError:
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
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        assert self._socket is not None
        try:
            while request := self._request():
                answer = self._answer(self._socket, request)
                self._reply(len(answer).to_bytes(4, "big") + answer)
        except (OSError, AgentError):
            pass  # either end went away, or the agent was silent: closing says so to the other
        finally:
            self._socket.close()
            self.close()

    def _answer(self, agent: socket.socket, request: bytes) -> bytes:
        """Ask the agent. Raises OSError, and AgentError where it does not answer in time."""
        signs = request[4:5] == bytes([SIGN])
        patience = SIGNING if signs else LISTING
        end = time.monotonic() + patience
        try:
            return exchange(agent, request, lambda: max(0.0, end - time.monotonic()))
        except TimeoutError:
            did = "sign" if signs else "answer"
            raise self._agent.fail(f"{self._agent} did not {did} within {patience:g} s") from None

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
