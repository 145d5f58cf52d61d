"""One host over a master: its channels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from orchestrator.errors import ConnectError
from orchestrator.session.channel import Channel
from orchestrator.transport.ask import Answers
from orchestrator.transport.openssh.channel import MuxChannel
from orchestrator.transport.openssh.master import Master
from orchestrator.transport.openssh.mux import RefusedError
from orchestrator.transport.openssh.options import Effective
from orchestrator.transport.others import Others

SETTLING = 1.0  # seconds for a host to notice that a session is closed
PAUSE = 0.025  # seconds between wishes for a session meanwhile


class OpensshConnection:
    """An authenticated connection, of a host about which ssh ``said`` this. Satisfies
    ``Connection``. ``ended`` is told when it is closed. ``answers`` are for other users' shells.
    """

    def __init__(
        self,
        master: Master,
        said: Effective,
        environ: Mapping[str, str],
        ended: Callable[[OpensshConnection], object],
        answers: Answers,
    ) -> None:
        self.master, self._ended = master, ended
        self.place = said.where
        self._connect = connect = said.connect
        self._user = said.user
        method, timeout = connect.become_method, connect.timeout
        self._others = Others(said.user, method, connect.shell, timeout, answers)
        self._environment, self._agent = said.environment(environ), said.forwards_agent
        self._lock = threading.Lock()
        self._channels: set[MuxChannel] = set()
        self._closed_at = float("-inf")
        self._closed = False

    def open(self, become: str = "") -> Channel:
        """As ``Connection.open``."""
        if become in ("", self._user):
            return self._run(f"exec {self._connect.shell}")
        return self._others.open(become, lambda other: self._run(other.command))

    def close(self) -> None:
        """End it and every channel on it. Safe to call twice and from any thread."""
        with self._lock:
            closed, self._closed = self._closed, True
            channels = list(self._channels)
        for channel in channels:
            channel.close()
        if not closed:
            self._ended(self)

    def _run(self, command: str) -> MuxChannel:
        """sshd counts a session for some moments after we closed it, so that where it allows
        one, a refusal right behind that is asked again.
        """
        while True:
            asked = time.monotonic()
            try:
                return self._ask(command)
            except RefusedError:
                with self._lock:
                    since = asked - self._closed_at
                if since > SETTLING:
                    raise
                time.sleep(PAUSE)

    def _ask(self, command: str) -> MuxChannel:
        with self._lock:
            if self._closed:
                raise ConnectError("channel", "the connection is closed")
        channel = MuxChannel(
            self.master.path,
            command,
            self._environment,
            self._connect.timeout,
            self._let_go,
            agent=self._agent,
        )
        with self._lock:
            self._channels.add(channel)
            closed = self._closed
        if closed:
            channel.close()
        return channel

    def _let_go(self, channel: MuxChannel) -> None:
        with self._lock:
            self._channels.discard(channel)
            self._closed_at = time.monotonic()
