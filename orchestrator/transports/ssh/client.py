"""The client's end of an SSH connection, from a connected socket to shells."""

from __future__ import annotations

import math
import threading
import time
from typing import NoReturn

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect
from orchestrator.model.sanitize import quote
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.prompts import Desk
from orchestrator.transports.ssh.agent_client import Agent
from orchestrator.transports.ssh.auth import Auth
from orchestrator.transports.ssh.byte_stream import Cable
from orchestrator.transports.ssh.channels import PACKET, WINDOW, Relay, Shell, Stream
from orchestrator.transports.ssh.direct_tcpip import Tunnel
from orchestrator.transports.ssh.host_key_policy import Trust
from orchestrator.transports.ssh.keyring import Offer
from orchestrator.transports.ssh.paramiko_compat import Message, codes
from orchestrator.transports.ssh.transport import Link, Refusal, named

# OpenSSH gives a connection's first channel the number 0, so that need not be waited for. Where
# it refuses the channel it ends the connection over a request for it, which was of no use then.
NUMBERS_FROM_0 = "SSH-2.0-OpenSSH_"
WHILE = {
    "banner": "waiting for the server to name itself",
    "kex": "exchanging keys",
    "auth": "logging in",
    "channel": "opening a session",
}


ENDING = 1.0  # seconds for what carried it to end


class RefusedError(ConnectError):
    """The host takes no session, or not another one."""


class Client(Link):
    """A connection to a server. Its reader does everything up to the first shell on its own:
    no other thread has to be woken in between, which with a hundred hosts would take longer
    than the work. Satisfies ``auth.Gate``.

    ``agent`` is what the host's shells may use, None for none, and ``environment`` what they are
    offered. ``hop``: it is there for tunnels only, without a shell.
    """

    def __init__(
        self,
        wire: Cable,
        connect: Connect,
        trust: Trust,
        offer: Offer,
        kinds: tuple[str, ...] = (),
        *,
        desk: Desk | None = None,
        agent: Agent | None = None,
        hop: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(wire)
        self._preferred_keys = trust.order(kinds)
        self._connect, self._trust = connect, trust
        self._agent, self._hop, self._environment = agent, hop, environment
        self.auth = Auth(self, connect.user or login_name(), offer, desk)
        self._own = f"exec {connect.shell}"
        self._settled = threading.Event()
        self._ready: Shell | None = None
        self._closed_at = -math.inf
        self._handler_table[codes.MSG_CHANNEL_OPEN_SUCCESS] = self._opened
        self._handler_table[codes.MSG_CHANNEL_OPEN_FAILURE] = self._not_opened
        self._handler_table[codes.MSG_CHANNEL_OPEN] = self._asked_to_open

    def log_in(self, deadline: Deadline) -> None:
        """Return once the server let us in. Raises ConnectError and hangs up where it does not,
        or the deadline passes; CancelledError after ``hang_up`` by another thread.
        """
        self._begin()
        settled = self._settled.wait(deadline.left())
        if settled and self.authenticated:
            return
        phase = self.phase
        self.hang_up()
        deadline.left()
        if settled:
            raise self._why(phase)
        self._settled.wait(ENDING)  # until then the cable may not know what it has to say
        missed = deadline.missed(phase, WHILE[phase])
        raise self._with_said(missed, missed.why)

    def _begin(self) -> None:
        try:
            self.start_client(event=threading.Event())  # with an event it does not wait
        except RuntimeError as error:
            self._wire.release()
            raise ConnectError("connect", f"no thread is left: {error}") from error

    def shell(self, command: str = "") -> Shell:
        """A shell that is not confirmed yet, or the channel of another ``command``. The first
        shell was asked for when the server let us in. Raises ConnectError where the connection
        is over.
        """
        ready = None if command else self._take_ready()
        try:
            return ready or self._ask(command or self._own)
        except BrokenPipeError as error:
            raise ConnectError("channel", f"the connection to the host ended: {error}") from error

    def tunnel(self, address: str, port: int, deadline: Deadline) -> Tunnel:
        """A connection that the host makes for us. Raises ConnectError."""
        with self.lock:
            tunnel = Tunnel(self, self._next_channel(), address, port)
            self.adopt(tunnel)
        try:
            tunnel.begin()
        except BrokenPipeError as error:
            raise ConnectError("connect", "its connection ended", transient=True) from error
        tunnel.opened(deadline)
        return tunnel

    def close_ready(self) -> bool:
        """Close the first shell if nobody has it yet: a host may allow no other beside it."""
        ready = self._take_ready()
        if ready is not None:
            ready.close()
            self._closed_at = time.monotonic()
        return ready is not None

    def run(self) -> None:
        """The reader; see Link."""
        super().run()
        self._settled.set()

    def closed_within(self, seconds: float) -> bool:
        """Whether one of its shells was closed so recently, or is being closed."""
        if any(stream.closing for stream in tuple(self._streams)):
            return True
        return time.monotonic() - self._closed_at < seconds

    # What the reader calls.

    def forget(self, stream: Stream) -> None:
        """This stream is closed on both sides."""
        super().forget(stream)
        self._closed_at = time.monotonic()

    def let_in(self) -> None:
        """The server accepted us: open the first shell."""
        self._auth_trigger()
        self.phase = "channel"
        if self._connect.keepalive > 0:
            self._wire.idle_after = self._connect.keepalive
        self._ready = None if self._hop else self._ask(self._own)
        if self._ready and self.remote_version.startswith(NUMBERS_FROM_0):
            self._ready.start(0)  # a round trip earlier than its confirmation
        self._settled.set()

    def turned_away(self, error: ConnectError) -> NoReturn:
        """The server did not. Ends the connection."""
        raise Refusal(error)

    def _parse_newkeys(self, m: Message) -> None:
        first = not self.initial_kex_done
        super()._parse_newkeys(m)
        if first:
            self.phase = "auth"
            self.auth_handler = self.auth  # type: ignore[assignment]  # all that paramiko asks of it
            self.auth.begin()

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)  # that it has the key; now whether it is the right one
        try:
            self._trust.judge(host_key)
        except ConnectError as error:
            raise Refusal(error) from None

    def _take_ready(self) -> Shell | None:
        with self.lock:
            ready, self._ready = self._ready, None
        return ready

    def _ask(self, command: str) -> Shell:
        with self.lock:
            text = command.encode("utf-8", "surrogateescape")
            forward = self._agent is not None and not self._agent.trouble
            shell = Shell(self, self._next_channel(), text, forward, self._environment)
            self.adopt(shell)
        ask = Message().add_byte(codes.cMSG_CHANNEL_OPEN).add_string("session")
        self.post(ask.add_int(shell.number).add_int(shell.allowed).add_int(PACKET))
        return shell

    def _opened(self, message: Message) -> None:
        stream = self._channels.get(message.get_int())
        if stream is not None:
            stream.confirmed(message.get_int(), message.get_int(), message.get_int())

    def _not_opened(self, message: Message) -> None:
        stream, code = self._channels.get(message.get_int()), message.get_int()
        text = message.get_string().decode("utf-8", "surrogateescape")
        why = quote(text) if text.strip() else "it does not say why"
        if stream is None:
            return
        super().forget(stream)
        if isinstance(stream, Tunnel):
            stream.refused(code, why)
            return
        stream.refused(
            RefusedError(
                "channel",
                f"the host refuses a session: {why}",
                "MaxSessions in its sshd_config limits sessions on one connection",
            )
        )

    def _asked_to_open(self, message: Message) -> None:
        """CHANNEL_OPEN: the host wants the agent, if it may; nothing else is opened to us."""
        kind, peer = message.get_text(), message.get_int()
        window, largest = message.get_int(), message.get_int()
        relay = None
        if self._agent is not None and kind == "auth-agent@openssh.com":
            with self.lock:
                relay = Relay(self, self._next_channel(), self._agent)
                self.adopt(relay)
            if not relay.reaches():
                self.forget(relay)
                relay = None
        if relay is None:
            refusal = Message().add_byte(codes.cMSG_CHANNEL_OPEN_FAILURE).add_int(peer)
            self.post(refusal.add_int(1).add_string("not asked for").add_string("en"))
            return
        taken = Message().add_byte(codes.cMSG_CHANNEL_OPEN_SUCCESS).add_int(peer)
        self.post(taken.add_int(relay.number).add_int(WINDOW).add_int(PACKET))
        relay.confirmed(peer, window, largest)

    def _why(self, phase: str) -> ConnectError:
        failure = self.failure
        if isinstance(failure, Refusal):
            return self._with_said(failure.error, failure.error.why)
        if phase == "auth" and (self._goodbye or failure is None or _cut(failure)):
            error = self.auth.explained(self._goodbye)
            return self._with_said(error, error.why)
        if self._goodbye:
            return ConnectError(phase, f"the server hung up: {self._goodbye}")
        if failure is None or _cut(failure):
            error = ConnectError(
                phase, f"the connection was cut while {WHILE[phase]}", transient=phase == "banner"
            )
            return self._with_said(error, error.why)
        return ConnectError(phase, f"{WHILE[phase]} failed: {named(failure)}")

    def _with_said(self, error: ConnectError, why: str) -> ConnectError:
        """The error with what is known of the way to the host, if that ended."""
        said = self._wire.said() if type(error) is ConnectError else ""
        if not said:
            return error
        transient = error.transient and not self._wire.hopeless
        return ConnectError(error.phase, f"{why}; {said}", error.hint, transient=transient)


def _cut(failure: Exception) -> bool:
    return isinstance(failure, EOFError | OSError)
