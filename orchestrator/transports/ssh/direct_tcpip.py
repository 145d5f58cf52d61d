"""TCP connections from an SSH server (direct-tcpip, RFC 4254 7.2), and a byte stream over them."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import ConnectError
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.ssh.byte_stream import ByteStream
from orchestrator.transports.ssh.channels import (
    MAX_DATA_BYTES,
    MAX_WINDOW,
    ChannelOwner,
    SshChannel,
)
from orchestrator.transports.ssh.paramiko_compat import Message, codes

SLICE = 0.2  # seconds between checks for cancellation
PROHIBITED, FAILED = 1, 2  # RFC 4254 5.1


class DirectTcpipChannel(SshChannel):
    """A direct-tcpip channel to ``address`` at ``port``.

    Data that arrives is kept until it is read, up to a window.
    """

    def __init__(self, owner: ChannelOwner, number: int, address: str, port: int) -> None:
        super().__init__(owner, number)
        self._target = address, port
        self._parts: list[bytes] = []
        self._error: ConnectError | None = None
        self._closed_by_peer = False
        self.writable_callback: Callable[[], object] = _do_nothing

    @property
    def is_cut(self) -> bool:
        """Whether it ended because the connection to the server ended."""
        return self._gone and not self._closed_by_peer

    def owner_failure(self) -> str:
        """Return why the connection to the server ended."""
        return self._owner.cause()

    def request_open(self) -> None:
        """Send the request for the channel. Raises BrokenPipeError if the connection is over."""
        address, port = self._target
        ask = Message().add_byte(codes.cMSG_CHANNEL_OPEN).add_string("direct-tcpip")
        ask.add_int(self.number).add_int(MAX_WINDOW).add_int(MAX_DATA_BYTES).add_string(
            address
        ).add_int(port)
        self._owner.send_message(ask.add_string("127.0.0.1").add_int(0))

    def wait_open(self, deadline: Deadline) -> None:
        """Wait until the server has connected. Raises ConnectError."""
        address, port = self._target
        while True:
            left = deadline.remaining()
            with self._changed:
                settled = self._changed.wait_for(
                    lambda: self._peer_number >= 0 or self._gone, min(SLICE, left)
                )
                error, is_open = self._error, self._peer_number >= 0 and not self._gone
            if is_open:
                return
            if error:
                raise error
            if settled:
                raise ConnectError("connect", "its connection ended", transient=True)
            if not left:
                self.close()
                raise deadline.timeout_error(
                    "connect", f"connecting to {address} port {port} from the jump host"
                )

    def open_refused(self, code: int, why: str) -> None:
        """Record that the server refused the channel."""
        address, port = self._target
        if code == PROHIBITED:
            error = ConnectError(
                "connect",
                f"forwarding to {address} port {port} is prohibited: {why}",
                "see AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config, and "
                "no-port-forwarding in authorized_keys",
            )
        else:
            hint = "is the address right as seen from the jump host, and sshd running on this port?"
            error = ConnectError(
                "connect", f"{why} ({address} port {port}, from the jump host)", hint
            )
        with self._changed:
            self._error, self._gone = error, True
            self._changed.notify_all()

    def read_data(self, timeout: float | None) -> bytes | None:
        """Return data, b'' at the end, or None after ``timeout`` seconds without data."""
        with self._changed:
            ended = self._changed.wait_for(
                lambda: self._parts or self._gone or self._eof_received, timeout
            )
            data = b"".join(self._parts)
            self._parts.clear()
        if data:
            self.grant_window(len(data))
        return data if data or ended else None

    def on_data(self, data: bytes) -> None:
        """Keep the data until it is read."""
        with self._changed:
            if not self._is_closing:
                self._parts.append(data)
                self._changed.notify_all()

    def on_close(self, message: Message) -> None:
        """Handle CHANNEL_CLOSE."""
        self._closed_by_peer = True
        super().on_close(message)

    def on_writable(self) -> None:
        """Call ``writable_callback``, because there may be room again."""
        super().on_writable()
        self.writable_callback()


class TunnelStream(ByteStream):
    """A byte stream over an open tunnel. ``jump_host`` is the server's name in messages."""

    def __init__(self, tunnel: DirectTcpipChannel, jump_host: str) -> None:
        super().__init__()
        self._tunnel, self._jump_host = tunnel, jump_host
        self._was_cut = False
        tunnel.writable_callback = self.flush

    def failure_details(self) -> str:
        """Return that the connection to the jump host ended, if it did."""
        why = self._tunnel.owner_failure()
        ended = f"the connection to jump host {self._jump_host} ended"
        return (f"{ended}: {why}" if why else ended) if self._was_cut else ""

    def _write_some(self, data: bytes | bytearray) -> int:
        return self._tunnel.send(memoryview(data))

    def _read_some(self, seconds: float | None) -> bytes | None:
        data = self._tunnel.read_data(seconds)
        if data == b"":
            self._was_cut = not self._closed and self._tunnel.is_cut
        return data

    def _schedule_flush(self) -> None:
        """Do nothing: the tunnel calls ``flush`` when it has room."""

    def _shut_down(self) -> None:
        self._tunnel.close()


def _do_nothing() -> None:
    pass
