"""The client side of an SSH connection, from a connected socket to shells."""

from __future__ import annotations

import math
import threading
import time
from typing import NoReturn

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.model.sanitize import quote_output
from orchestrator.remote_shell.channel_protocol import Terminal
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.prompts import LoginCredentials
from orchestrator.transports.ssh.agent_client import AgentClient
from orchestrator.transports.ssh.auth import ClientAuth
from orchestrator.transports.ssh.byte_stream import ByteStream
from orchestrator.transports.ssh.channels import (
    MAX_DATA_BYTES,
    MAX_WINDOW,
    AgentForwardChannel,
    ShellChannel,
    SshChannel,
)
from orchestrator.transports.ssh.direct_tcpip import DirectTcpipChannel
from orchestrator.transports.ssh.host_key_policy import HostKeyVerifier
from orchestrator.transports.ssh.keyring import KeyOffer
from orchestrator.transports.ssh.paramiko_compat import Message, codes
from orchestrator.transports.ssh.transport import SshTransport, TransportError, exception_text

# OpenSSH gives the first channel of a connection the number 0, so a request on it need not wait for
# the confirmation. If sshd refuses the channel, that request ends the connection, which is then of
# no use anyway.
NUMBERS_CHANNELS_FROM_0 = "SSH-2.0-OpenSSH_"
PHASE_TEXTS = {
    "banner": "waiting for the SSH banner",
    "kex": "exchanging keys",
    "auth": "logging in",
    "channel": "opening a session",
}


STREAM_END_TIMEOUT = 1.0  # seconds for a proxy command or a tunnel to end


class ChannelRefusedError(ConnectError):
    """The server refused a session channel."""


class SshClient(SshTransport):
    """An SSH connection to a server.

    The reader thread does everything up to the first shell: waking other threads in between
    would, with a hundred hosts, take longer than the work itself. Satisfies
    ``AuthenticatedConnection``.

    ``agent`` is the SSH agent that is forwarded to the host's shells, or None. ``environment``
    are the variables that are sent to them. ``host_key_blob`` is the host's public key or
    certificate in SSH's format. ``is_jump_host``: the connection is for tunnels only
    and opens no shell.
    """

    def __init__(
        self,
        stream: ByteStream,
        connect: ConnectionOptions,
        host_key_verifier: HostKeyVerifier,
        key_offer: KeyOffer,
        key_types: tuple[str, ...] = (),
        *,
        credentials: LoginCredentials | None = None,
        agent: AgentClient | None = None,
        is_jump_host: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
        channel_class: type[ShellChannel] = ShellChannel,
    ) -> None:
        super().__init__(stream)
        self._channel_class = channel_class
        self.host_key_blob = b""
        self._preferred_keys = host_key_verifier.algorithm_order(key_types)
        self._connect, self._host_key_verifier = connect, host_key_verifier
        self._agent, self._is_jump_host, self._environment = agent, is_jump_host, environment
        self.auth = ClientAuth(self, connect.user or login_name(), key_offer, credentials)
        self._shell_command = f"exec {connect.shell}"
        self._login_settled = threading.Event()
        self._spare_shell: ShellChannel | None = None
        self._closed_at = -math.inf
        self._handler_table[codes.MSG_CHANNEL_OPEN_SUCCESS] = self._on_open_confirmed
        self._handler_table[codes.MSG_CHANNEL_OPEN_FAILURE] = self._on_open_refused
        self._handler_table[codes.MSG_CHANNEL_OPEN] = self._on_open_request

    def log_in(self, deadline: Deadline) -> None:
        """Connect and authenticate; return when the server has accepted the login.

        Raises ConnectError and hangs up if the login fails or the deadline passes, and
        CancelledError if another thread called ``hang_up``.
        """
        self._start_transport()
        settled = self._login_settled.wait(deadline.remaining())
        if settled and self.authenticated:
            return
        phase = self.phase
        self.hang_up()
        deadline.remaining()
        if settled:
            raise self._failure_error(phase)
        # until the stream has ended, it may not know why
        self._login_settled.wait(STREAM_END_TIMEOUT)
        timeout_error = deadline.timeout_error(phase, PHASE_TEXTS[phase])
        raise self._with_stream_details(timeout_error, timeout_error.reason)

    def _start_transport(self) -> None:
        try:
            self.start_client(event=threading.Event())  # with an event, paramiko does not wait
        except RuntimeError as error:
            self._stream.release()
            raise ConnectError("connect", f"cannot start a thread: {error}") from error

    def request_shell(self, command: str = "") -> ShellChannel:
        """Return a shell that is not confirmed yet, or a channel that runs ``command``.

        The first shell was requested when the login succeeded. Raises ConnectError if the
        connection has ended.
        """
        spare = None if command else self._take_spare_shell()
        try:
            return spare or self._request_session(command or self._shell_command)
        except BrokenPipeError as error:
            raise ConnectError("channel", f"the connection to the host ended: {error}") from error

    def request_command(self, command: str, terminal: Terminal | None) -> ShellChannel:
        """Return a channel for a command, or for the login shell (''), not confirmed yet.

        Raises ConnectError if the connection has ended.
        """
        try:
            return self._request_session(command, terminal)
        except BrokenPipeError as error:
            raise ConnectError("channel", f"the connection to the host ended: {error}") from error

    def open_tunnel(self, address: str, port: int, deadline: Deadline) -> DirectTcpipChannel:
        """Open a TCP connection from the host to an address (direct-tcpip). Raises ConnectError."""
        with self.lock:
            tunnel = DirectTcpipChannel(self, self._next_channel(), address, port)
            self.register_channel(tunnel)
        try:
            tunnel.request_open()
        except BrokenPipeError as error:
            raise ConnectError("connect", "its connection ended", transient=True) from error
        tunnel.wait_open(deadline)
        return tunnel

    def close_spare_shell(self) -> bool:
        """Close the first shell if it is unused, because the host may allow only one session.

        Return True if there was one to close.
        """
        shell = self._take_spare_shell()
        if shell is not None:
            shell.close()
            self._closed_at = time.monotonic()
        return shell is not None

    def run(self) -> None:
        """Run the reader thread, as in ``SshTransport.run``."""
        super().run()
        self._login_settled.set()

    def has_recently_closed(self, seconds: float) -> bool:
        """Return True if a channel was closed within the last ``seconds`` or is being closed."""
        if any(channel.is_closing for channel in tuple(self._open_channels)):
            return True
        return time.monotonic() - self._closed_at < seconds

    # Called by the reader thread.

    def unregister_channel(self, channel: SshChannel) -> None:
        """Forget a channel that is closed on both sides."""
        super().unregister_channel(channel)
        self._closed_at = time.monotonic()

    def auth_succeeded(self) -> None:
        """Open the first shell, after the server has accepted the login."""
        self._auth_trigger()
        self.phase = "channel"
        if self._connect.keepalive > 0:
            self._stream.idle_timeout = self._connect.keepalive
        self._spare_shell = (
            None if self._is_jump_host else self._request_session(self._shell_command)
        )
        if self._spare_shell and self.remote_version.startswith(NUMBERS_CHANNELS_FROM_0):
            self._spare_shell.send_command(0)  # one round trip before the confirmation arrives
        self._login_settled.set()

    def auth_failed(self, error: ConnectError) -> NoReturn:
        """End the connection, because the server has refused the login."""
        raise TransportError(error)

    def _parse_newkeys(self, m: Message) -> None:
        first = not self.initial_kex_done
        super()._parse_newkeys(m)
        if first:
            self.phase = "auth"
            self.auth_handler = self.auth  # type: ignore[assignment]  # has all that paramiko calls
            self.auth.begin()

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)  # the server has this key; now check whose key it is
        self.host_key_blob = host_key
        try:
            self._host_key_verifier.verify(host_key)
        except ConnectError as error:
            raise TransportError(error) from None

    def _take_spare_shell(self) -> ShellChannel | None:
        with self.lock:
            shell, self._spare_shell = self._spare_shell, None
        return shell

    def _request_session(self, command: str, terminal: Terminal | None = None) -> ShellChannel:
        with self.lock:
            command_bytes = command.encode("utf-8", "surrogateescape")
            forward_agent = self._agent is not None and not self._agent.error
            shell = self._channel_class(
                self,
                self._next_channel(),
                command_bytes,
                forward_agent=forward_agent,
                environment=self._environment,
                terminal=terminal,
            )
            self.register_channel(shell)
        request = Message().add_byte(codes.cMSG_CHANNEL_OPEN).add_string("session")
        self.send_message(
            request.add_int(shell.number).add_int(shell.granted_window).add_int(MAX_DATA_BYTES)
        )
        return shell

    def _on_open_confirmed(self, message: Message) -> None:
        channel = self._channels.get(message.get_int())
        if channel is not None:
            channel.on_confirmed(message.get_int(), message.get_int(), message.get_int())

    def _on_open_refused(self, message: Message) -> None:
        channel, code = self._channels.get(message.get_int()), message.get_int()
        text = message.get_string().decode("utf-8", "surrogateescape")
        why = quote_output(text) if text.strip() else "no reason given"
        if channel is None:
            return
        super().unregister_channel(channel)
        if isinstance(channel, DirectTcpipChannel):
            channel.open_refused(code, why)
            return
        channel.open_refused(
            ChannelRefusedError(
                "channel",
                f"the host refused a session: {why}",
                "MaxSessions in its sshd_config limits sessions on one connection",
            )
        )

    def _on_open_request(self, message: Message) -> None:
        """Handle CHANNEL_OPEN: accept agent forwarding if it was requested, refuse the rest."""
        kind, peer = message.get_text(), message.get_int()
        window, max_packet = message.get_int(), message.get_int()
        agent_channel = None
        if self._agent is not None and kind == "auth-agent@openssh.com":
            with self.lock:
                agent_channel = AgentForwardChannel(self, self._next_channel(), self._agent)
                self.register_channel(agent_channel)
            if not agent_channel.connect_agent():
                self.unregister_channel(agent_channel)
                agent_channel = None
        if agent_channel is None:
            refusal = Message().add_byte(codes.cMSG_CHANNEL_OPEN_FAILURE).add_int(peer)
            self.send_message(refusal.add_int(1).add_string("not asked for").add_string("en"))
            return
        confirmation = Message().add_byte(codes.cMSG_CHANNEL_OPEN_SUCCESS).add_int(peer)
        self.send_message(
            confirmation.add_int(agent_channel.number).add_int(MAX_WINDOW).add_int(MAX_DATA_BYTES)
        )
        agent_channel.on_confirmed(peer, window, max_packet)

    def _failure_error(self, phase: str) -> ConnectError:
        failure = self.failure
        if isinstance(failure, TransportError):
            return self._with_stream_details(failure.error, failure.error.reason)
        if phase == "auth" and (self._disconnect_message or failure is None or _is_cut(failure)):
            error = self.auth.disconnect_error(self._disconnect_message)
            return self._with_stream_details(error, error.reason)
        if self._disconnect_message:
            return ConnectError(phase, f"the server hung up: {self._disconnect_message}")
        if failure is None or _is_cut(failure):
            error = ConnectError(
                phase,
                f"the connection was cut while {PHASE_TEXTS[phase]}",
                transient=phase == "banner",
            )
            return self._with_stream_details(error, error.reason)
        return ConnectError(phase, f"{PHASE_TEXTS[phase]} failed: {exception_text(failure)}")

    def _with_stream_details(self, error: ConnectError, why: str) -> ConnectError:
        """Return the error with the reason why the stream to the host ended, if known."""
        details = self._stream.failure_details() if type(error) is ConnectError else ""
        if not details:
            return error
        transient = error.transient and not self._stream.is_permanent_failure
        return ConnectError(error.phase, f"{why}; {details}", error.hint, transient=transient)


def _is_cut(failure: Exception) -> bool:
    return isinstance(failure, EOFError | OSError)
