"""The client's end of a channel: a remote shell as ``session.channel.Channel`` has it."""

from __future__ import annotations

import signal
from itertools import accumulate

from orchestrator.errors import ConnectError
from orchestrator.session.channel import Chunk
from orchestrator.transport.library import Message, codes
from orchestrator.transport.stream import FIRST, Carrier, Stream


class Shell(Stream):
    """A channel on which ``command`` runs. Satisfies ``session.channel.Channel``.

    The command goes out with the peer's confirmation, and text to the shell as soon as there is
    a window for it: OpenSSH gives none before the command runs, others may. From the latter a
    refusal of the command can come late; then ``read`` raises it.
    ``forward``: our agent is there for it, if the host allows that. ``environment``: variables
    for it, of which the host takes those that its AcceptEnv names, without a word on the others.
    """

    def __init__(
        self,
        link: Carrier,
        number: int,
        command: bytes,
        forward: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(link, number, FIRST)
        self._forward, self._environment = forward, environment
        self._command = command
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._status: int | None = None
        self._error: ConnectError | None = None
        self._woken = self._started = False

    def opened(self, timeout: float) -> None:
        """Wait until something can be written to it. Raises ConnectError (phase channel or shell)
        where the host refuses, the connection ends, or ``timeout`` seconds pass.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._window or self._gone, timeout)
            error, confirmed = self._error, self._peer >= 0
        if error:
            raise error
        if not answered:
            self.close()
            what = "start a shell" if confirmed else "open a session"
            raise ConnectError(
                "shell" if confirmed else "channel",
                f"the host does not {what} within {timeout:g} s",
                "`connect: {timeout: …}` allows more",
            )
        if not confirmed:
            raise ConnectError("channel", "the connection ended before the session opened")

    def write(self, data: bytes | memoryview) -> int:
        """As ``Channel.write``."""
        return self.send(data)

    def read(self, timeout: float | None) -> Chunk:
        """As ``Channel.read``. Ends also when the exit status arrives: where a child of the shell
        holds its output open, that is long before EOF. Raises ConnectError (phase shell) where
        the host took the channel and refused the command.
        """
        with self._changed:
            self._waited = self._waited or not self._worth_reading()
            self._changed.wait_for(self._worth_reading, timeout)
            self._woken = self._roomy = False
            if self._error:
                raise self._error
            stdout, stderr = _taken(self._out), _taken(self._err)
            left = sum(map(len, self._out)) + sum(map(len, self._err))
            eof = not left and (self._gone or (self._eof_there and self._status is not None))
        if stdout or stderr:
            self.grant(len(stdout) + len(stderr), left)
        return Chunk(stdout, stderr, eof)

    def wake(self) -> None:
        """As ``Channel.wake``."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def exit_status(self) -> int | None:
        """The shell's exit status; 128 + the signal's number where one ended it."""
        return self._status

    def cause(self) -> str:
        """As ``Channel.cause``. Where the host ended its output, no cut came before that; an exit
        status is no such end: OpenSSH tells it before it has sent all of the output.
        """
        return "" if self._eof_there else self._link.cause()

    def start(self, peer: int) -> None:
        """Ask for the command on the channel that the peer calls so."""
        self._started = True
        if self._forward:
            agent = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer)
            self._link.post(agent.add_string("auth-agent-req@openssh.com").add_boolean(False))
        for name, text in self._environment:
            one = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer).add_string("env")
            one.add_boolean(False).add_string(_bytes(name)).add_string(_bytes(text))
            self._link.post(one)
        ask = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer).add_string("exec")
        self._link.post(ask.add_boolean(True).add_string(self._command))

    def refused(self, error: ConnectError) -> None:
        """The host did not take the channel, or not its command."""
        with self._changed:
            self._error = error
            self._gone = True
            self._changed.notify_all()

    def confirmed(self, peer: int, window: int, largest: int) -> None:
        """The host took the channel: the command goes first, before anyone can write."""
        if not self._started:
            self.start(peer)
        super().confirmed(peer, window, largest)

    def received(self, data: bytes) -> None:
        """Keep it for the next ``read``."""
        self._keep(self._out, data)

    def received_stderr(self, data: bytes) -> None:
        """Keep it for the next ``read``."""
        self._keep(self._err, data)

    def requested(self, message: Message) -> None:
        """How the shell ended (RFC 4254 6.10)."""
        kind, wanted = message.get_text(), message.get_boolean()
        if kind == "exit-status":
            self._ended(message.get_int())
        elif kind == "exit-signal":
            self._ended(128 + _number(message.get_text()))
        else:
            self.answer(wanted, taken=False)

    def request_refused(self, _: Message) -> None:
        """There was one request, for the command."""
        command = self._command.decode("utf-8", "replace")
        self.close()
        self.refused(
            ConnectError(
                "shell",
                f"the host refuses to run `{command}`",
                "orch needs sshd and a POSIX sh; this account may be for file transfer only",
            )
        )

    def _keep(self, parts: list[bytes], data: bytes) -> None:
        with self._changed:
            if not self._closed_here:
                parts.append(data)
                self._changed.notify_all()

    def _ended(self, status: int) -> None:
        with self._changed:
            self._status = status
            self._woken = True
            self._changed.notify_all()

    def _worth_reading(self) -> bool:
        return bool(
            self._out
            or self._err
            or self._gone
            or self._woken
            or self._roomy
            or (self._eof_there and self._status is not None)
        )


def _taken(parts: list[bytes]) -> bytes:
    """The first of ``parts``, together FIRST bytes at most, which are gone from it afterwards:
    whoever takes output apart copies it, and need not have all of a window more than once."""
    if not parts:
        return b""
    ends = accumulate(map(len, parts))
    count = max(1, sum(end <= FIRST for end in ends))
    whole = parts[0] if count == 1 else b"".join(parts[:count])
    del parts[:count]
    return whole


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0
