"""A connection that the broker keeps, and the prepared shells on it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from enum import Enum

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.bootstrap import LEASE_SECONDS, bootstrap_script
from orchestrator.remote_shell.channel_protocol import PreparedShell
from orchestrator.transports.become import BecomeCommand
from orchestrator.transports.broker.messages import STDOUT, BecomeWay, OpenChannel
from orchestrator.transports.broker.relay_channel import RelayChannel
from orchestrator.transports.ssh.client import SshClient

MAX_PREPARED = 4  # prepared shells on one connection
_MAX_NOISE_BYTES = 1 << 16  # bytes that a host may send before its shell is ready
_CHECK_WORD = "P"

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

CallSoon = Callable[[Callable[[], None]], None]


def read_clock() -> float:
    """Return the time in seconds, of a clock that goes on while the machine sleeps.

    On Linux that is CLOCK_BOOTTIME (clock_gettime(2)), elsewhere CLOCK_MONOTONIC.
    """
    return time.clock_gettime(_CLOCK)


class _ShellState(Enum):
    STARTING = "starting"
    READY = "ready"
    ASKED = "asked"
    ENDED = "ended"


class SpareShell:
    """A new shell that reads its bootstrap now, and is handed over when a command needs one.

    Nothing else was ever sent to it. Its state changes only in the broker's own thread, where
    ``call_soon`` brings what the reader thread notices. ``on_settled`` is called once when it is
    ready or has ended. ``become`` is how it became its user, None for the login user. Raises
    ConnectError if the connection has ended.
    """

    def __init__(
        self,
        kept: KeptConnection,
        become: BecomeWay | None,
        call_soon: CallSoon,
        on_settled: Callable[[SpareShell], None],
    ) -> None:
        command = None
        if become:
            command = BecomeCommand(become.method, become.user, become.shell, leads_group=True)
        channel = kept.client.request_shell(command.command_line if command else "")
        assert isinstance(channel, RelayChannel)
        self.channel, self.kept, self.become = channel, kept, become
        self._call_soon, self._on_settled = call_soon, on_settled
        self._nonce = secrets.token_hex(16)
        self._unsent = memoryview(bootstrap_script(self._nonce, LEASE_SECONDS))
        self._state = _ShellState.STARTING
        self._received = {STDOUT: b""}
        self._answered: Callable[[PreparedShell | None], None] | None = None
        self._pid = 0
        channel.pass_to(self)

    @property
    def is_ready(self) -> bool:
        """Whether it waits for a command."""
        return self._state is _ShellState.READY

    @property
    def has_ended(self) -> bool:
        """Whether it is of no use any more."""
        return self._state is _ShellState.ENDED

    def ask(self, answered: Callable[[PreparedShell | None], None]) -> None:
        """Ask the shell for a sign of life.

        ``answered`` is called once: with the shell when it has answered, with None if it ends.
        """
        self._state, self._answered = _ShellState.ASKED, answered
        try:
            line = f"say {_CHECK_WORD}\n".encode()
            if self.channel.write(line) != len(line):
                self.end()
        except OSError:
            self.end()

    def give_up(self) -> None:
        """Close the channel if the shell is not ready yet."""
        if self._state is _ShellState.STARTING:
            self.end()

    def end(self) -> None:
        """Close the channel. Safe to call twice."""
        if self._state is _ShellState.ENDED:
            return
        before, self._state = self._state, _ShellState.ENDED
        self.channel.close()
        if before is _ShellState.STARTING:
            self.kept.wanted.pop(self.become, None)  # not again and again
            self._on_settled(self)
        elif before is _ShellState.ASKED and self._answered is not None:
            self._answered(None)

    def _look(self) -> None:
        """Look for the marker that is awaited, in what has arrived."""
        if (
            self._state is _ShellState.STARTING
            and all(self._find_marker(kind, "R") for kind in self._received)
            and len(self._received) > 1
        ):
            self._pid = int(self._find_marker(STDOUT, "R") or 0)
            self._state = _ShellState.READY
            self._received = dict.fromkeys(self._received, b"")
            self._on_settled(self)
        elif self._state is _ShellState.ASKED and self._has_answered():
            self._state = _ShellState.ENDED  # as a spare: it is the command's now
            if self._answered is not None:
                self._answered(PreparedShell(self._nonce, self._pid))

    def _has_answered(self) -> bool:
        return f"{self._nonce} {_CHECK_WORD}\n".encode() in self._received[STDOUT]

    def _find_marker(self, kind: bytes, word: str) -> str:
        """Return the words after the marker, or ''."""
        _, found, rest = self._received[kind].partition(f"{self._nonce} {word} ".encode())
        words, newline, _ = rest.partition(b"\n")
        return words.decode("ascii", "replace") if found and newline else ""

    def _send_bootstrap(self) -> None:
        try:
            while self._unsent and (sent := self.channel.write(self._unsent)):
                self._unsent = self._unsent[sent:]
        except OSError:
            self.end()

    # Called by the reader thread.

    def on_output(self, kind: bytes, data: bytes, done: Callable[[], None]) -> None:
        """Keep the output, which should be markers only."""
        held = self._received[kind] = self._received.get(kind, b"") + data
        done()
        if len(held) > _MAX_NOISE_BYTES:
            self._call_soon(self.end)
        elif data.endswith(b"\n"):
            self._call_soon(self._look)

    def on_exit_status(self, _status: int) -> None:
        """End it."""
        self._call_soon(self.end)

    def on_output_end(self) -> None:
        """End it."""
        self._call_soon(self.end)

    def on_lost(self, _cause: str) -> None:
        """End it."""
        self._call_soon(self.end)

    def on_refused(self, _error: ConnectError) -> None:
        """End it."""
        self._call_soon(self.end)

    def on_room(self) -> None:
        """Send more of the bootstrap."""
        if self._unsent:
            self._call_soon(self._send_bootstrap)


class KeptConnection:
    """A connection of the broker, made for a request. Used only in the broker's own thread.

    ``key`` identifies the route with all that it depends on. ``idle`` is for how many seconds it is
    kept after its last use. ``known_hosts`` is the state of the known_hosts files when its host key
    was last checked. ``wanted`` is how many shells are to be prepared, by user.
    """

    def __init__(self, request: OpenChannel, client: SshClient, known_hosts: object) -> None:
        self.host, self.key, self.route = request.host, request.key, request.route
        self.client, self.idle, self.known_hosts = client, request.idle, known_hosts
        self.opened_at = self.last_used = read_clock()
        self.channels_in_use = 0
        self.wanted: dict[BecomeWay | None, int] = {None: 1}
        self.spares: list[SpareShell] = []
        accepted = client.auth.accepted_key
        self.agent_key = accepted.blob if accepted is not None and accepted.in_agent else b""

    @property
    def is_open(self) -> bool:
        """Whether the connection still exists."""
        return not self.client.ended.is_set()

    def take_spare(self, become: BecomeWay | None = None) -> SpareShell | None:
        """Return a prepared shell of a user, which is then no spare any more, or None."""
        ready = (each for each in self.spares if each.is_ready and each.become == become)
        spare = next(ready, None)
        if spare is not None:
            self.spares.remove(spare)
        return spare

    def missing_spares(self) -> list[BecomeWay | None]:
        """Return the users of whom shells are to be prepared, one for each shell."""
        self.spares = [each for each in self.spares if not each.has_ended]
        return [
            become
            for become, count in self.wanted.items()
            for _ in range(
                min(count, MAX_PREPARED) - sum(each.become == become for each in self.spares)
            )
        ]

    def close_spare(self) -> bool:
        """Close a spare shell. Return False if there is none."""
        self.spares = [each for each in self.spares if not each.has_ended]
        if not self.spares:
            return False
        self.wanted = {}  # the host limits sessions
        self.spares.pop().end()
        return True

    def begin_use(self) -> None:
        """Count a channel."""
        self.channels_in_use += 1
        self.last_used = read_clock()

    def end_use(self) -> None:
        """Count a channel that is closed."""
        self.channels_in_use -= 1
        self.last_used = read_clock()

    def expires_in(self, now: float, lifetime: float) -> float:
        """Return for how many seconds it may still be kept if it stays unused."""
        return min(self.last_used + self.idle, self.opened_at + lifetime) - now

    def close(self) -> None:
        """Close the connection with all its channels. Safe to call twice."""
        self.client.hang_up()
