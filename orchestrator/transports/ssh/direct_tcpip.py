"""TCP connections that a server makes for us (RFC 4254 7.2), as a cable for another connection."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import ConnectError
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.ssh.byte_stream import Cable
from orchestrator.transports.ssh.channels import PACKET, WINDOW, Carrier, Stream
from orchestrator.transports.ssh.paramiko_compat import Message, codes

SLICE = 0.2  # seconds between looks at whether the run was cancelled
PROHIBITED, FAILED = 1, 2  # RFC 4254 5.1


class Tunnel(Stream):
    """A direct-tcpip channel to ``address`` at ``port``. What arrives waits to be taken, at most
    a window of it.
    """

    def __init__(self, link: Carrier, number: int, address: str, port: int) -> None:
        super().__init__(link, number)
        self._place = address, port
        self._parts: list[bytes] = []
        self._error: ConnectError | None = None
        self._orderly = False
        self.on_room: Callable[[], object] = _nothing

    @property
    def cut(self) -> bool:
        """Whether it ended because the connection to the server did."""
        return self._gone and not self._orderly

    def why(self) -> str:
        """Why the connection to the server ended."""
        return self._link.cause()

    def begin(self) -> None:
        """Ask for it. Raises BrokenPipeError where the connection is over."""
        address, port = self._place
        ask = Message().add_byte(codes.cMSG_CHANNEL_OPEN).add_string("direct-tcpip")
        ask.add_int(self.number).add_int(WINDOW).add_int(PACKET).add_string(address).add_int(port)
        self._link.post(ask.add_string("127.0.0.1").add_int(0))

    def opened(self, deadline: Deadline) -> None:
        """Wait until the server made the connection. Raises ConnectError."""
        address, port = self._place
        while True:
            left = deadline.left()
            with self._changed:
                settled = self._changed.wait_for(
                    lambda: self._peer >= 0 or self._gone, min(SLICE, left)
                )
                error, there = self._error, self._peer >= 0 and not self._gone
            if there:
                return
            if error:
                raise error
            if settled:
                raise ConnectError("connect", "its connection ended", transient=True)
            if not left:
                self.close()
                raise deadline.missed("connect", f"reaching {address} port {port} from there")

    def refused(self, code: int, why: str) -> None:
        """The server did not make the connection."""
        address, port = self._place
        if code == PROHIBITED:
            error = ConnectError(
                "connect",
                f"it may not forward to {address} port {port}: {why}",
                "AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config, and "
                "no-port-forwarding in authorized_keys, decide that",
            )
        else:
            hint = "is the address right as seen from there, and sshd running on this port?"
            error = ConnectError("connect", f"{why} ({address} port {port}, from there)", hint)
        with self._changed:
            self._error, self._gone = error, True
            self._changed.notify_all()

    def take(self, seconds: float | None) -> bytes | None:
        """What arrived, b'' at the end, None after so many seconds."""
        with self._changed:
            ended = self._changed.wait_for(
                lambda: self._parts or self._gone or self._eof_there, seconds
            )
            data = b"".join(self._parts)
            self._parts.clear()
        if data:
            self.grant(len(data))
        return data if data or ended else None

    def received(self, data: bytes) -> None:
        """Keep it until it is taken."""
        with self._changed:
            if not self._closed_here:
                self._parts.append(data)
                self._changed.notify_all()

    def closed_there(self, message: Message) -> None:
        """CHANNEL_CLOSE."""
        self._orderly = True
        super().closed_there(message)

    def nudge(self) -> None:
        """There may be room to write again."""
        super().nudge()
        self.on_room()


class TunnelCable(Cable):
    """A tunnel that is open. ``where`` is what errors call the server that made it."""

    def __init__(self, tunnel: Tunnel, where: str) -> None:
        super().__init__()
        self._tunnel, self._where = tunnel, where
        self._cut = False
        tunnel.on_room = self.flush

    def said(self) -> str:
        """Whether it was the way there that broke."""
        why = self._tunnel.why()
        ended = f"the connection to jump host {self._where} ended"
        return (f"{ended}: {why}" if why else ended) if self._cut else ""

    def _push(self, data: bytes | bytearray) -> int:
        return self._tunnel.send(memoryview(data))

    def _pull(self, seconds: float | None) -> bytes | None:
        data = self._tunnel.take(seconds)
        if data == b"":
            self._cut = not self._closed and self._tunnel.cut
        return data

    def _stuck(self) -> None:
        """The tunnel says when it has room."""

    def _end(self) -> None:
        self._tunnel.close()


def _nothing() -> None:
    pass
