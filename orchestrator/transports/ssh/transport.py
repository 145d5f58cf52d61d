"""One SSH connection over a byte stream: what its client and server sides have in common.

paramiko does the cryptography, the packets and the key exchange (RFC 4253); its channels, timers
and polling are replaced, and its packets are counted and bounded. Unless noted otherwise, code
here runs in paramiko's thread for this connection, the *reader*.
"""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar, cast

from orchestrator import __version__
from orchestrator.errors import ConnectError
from orchestrator.model.sanitize import quote_output, to_one_line
from orchestrator.transports.ssh.byte_stream import ByteStream
from orchestrator.transports.ssh.channels import SshChannel
from orchestrator.transports.ssh.paramiko_compat import (
    IncompatiblePeer,
    Message,
    Packetizer,
    PrivateTransport,
    SSHException,
    codes,
)

MAX_VERSION_BYTES = 255  # bytes of a version line (RFC 4253 4.2)


def exception_text(failure: Exception) -> str:
    """Return the message of an exception, or its class name if the message is empty."""
    text = str(failure)
    return quote_output(text) if text.strip() else type(failure).__name__


def missing_banner_error(lines: list[str]) -> ConnectError:
    """Return the error for a connection that ended before the server's version line.

    ``lines`` are the lines that it sent before. OpenSSH drops connections beyond MaxStartups like
    this, newer versions with a line of text; since 9.8 also addresses with earlier failures
    (PerSourcePenalties), which it accepts again after some time.
    """
    sent_text = f"; it sent: {quote_output(' / '.join(lines), MAX_VERSION_BYTES)}" if lines else ""
    if lines and "MaxStartups" not in sent_text:
        if "Not allowed" in sent_text:
            return ConnectError(
                "banner",
                "the server refuses this address because of earlier failures" + sent_text,
                "wait a while, or see PerSourcePenalties in its sshd_config",
            )
        return not_ssh_error(lines)
    return ConnectError(
        "banner",
        "the server closed the connection before its SSH banner" + sent_text,
        "its sshd may have reached MaxStartups, or may not accept this address",
        transient=True,
    )


def not_ssh_error(lines: list[str]) -> ConnectError:
    """Return the error for a server that speaks another protocol."""
    return ConnectError(
        "banner",
        f"not an SSH server: it sent {quote_output(lines[0], 80)}",
        "is the port right? `connect: {port: …}`",
    )


MAX_PACKET_BYTES = 1 << 18  # bytes of a packet, as in OpenSSH; RFC 4253 6.1 requires 35,000


class PeerTimeoutError(EOFError):
    """The peer has not answered for too long and is taken for dead."""


class BoundedPacketizer(Packetizer):
    """A packetizer with bounded packets and without a timer thread for each handshake.

    The timer is not needed because connecting has a deadline. ``packet_count`` is the number of
    packets received. A packet length beyond ``MAX_PACKET_BYTES``, which may be corrupt, raises an
    error at once instead of waiting for so many bytes.
    """

    packet_count = 0

    def read_message(self) -> tuple[int, Message]:
        """Return the type and the contents of the next packet."""
        message = super().read_message()
        self.packet_count += 1
        return message

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Read exactly ``n`` bytes. Raises SSHException if no packet may be as long as that."""
        if n > MAX_PACKET_BYTES:
            raise SSHException(f"packet too long: {n} bytes")
        return super().read_all(n, check_rekey)

    def start_handshake(self, timeout: float) -> None:
        """Do nothing: the deadline replaces paramiko's handshake timer."""

    def complete_handshake(self) -> None:
        """Do nothing."""

    def handshake_timed_out(self) -> bool:
        """Return False."""
        return False


MAX_MISSED_KEEPALIVES = 3  # the default: keepalives without an answer until the peer is dead
MAX_BANNER_LINES = 100  # lines that a server may send before its version line (RFC 4253 4.2)


class TransportError(SSHException):
    """Carries the reason for ending a connection through paramiko."""

    def __init__(self, error: ConnectError) -> None:
        super().__init__(error.reason)
        self.error = error


class SshTransport(PrivateTransport):
    """An SSH connection. ``phase`` is the phase it is in, as in ConnectError.

    When the connection is over, ``failure`` is set (the reason, or None if it was closed here),
    then ``ended``.
    """

    _CLIENT_ID = f"orch_{__version__}"
    # Fastest first: curve25519 takes 2.5 ms, group14 22 ms and group exchange 44 ms.
    _preferred_kex: tuple[str, ...] = (
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256",
        "mlkem768x25519-sha256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "diffie-hellman-group14-sha256",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group-exchange-sha256",
    )
    _preferred_ciphers: tuple[str, ...] = (
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
        "aes192-ctr",
        "aes128-cbc",
        "aes256-cbc",
    )
    _preferred_macs: tuple[str, ...] = (
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-512",
        "hmac-sha1",
    )
    _kex_info: ClassVar[dict[str, Any]] = {
        **PrivateTransport._kex_info,
        # the name in RFC 8731 of a method that libssh introduced under its own name
        "curve25519-sha256": PrivateTransport._kex_info["curve25519-sha256@libssh.org"],
    }
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        codes.MSG_CHANNEL_SUCCESS: lambda stream, message: stream.on_request_success(message),
        codes.MSG_CHANNEL_FAILURE: lambda stream, message: stream.on_request_failure(message),
        codes.MSG_CHANNEL_DATA: lambda stream, message: stream.on_data_message(message),
        codes.MSG_CHANNEL_EXTENDED_DATA: lambda stream, message: stream.on_extended_data_message(
            message
        ),
        codes.MSG_CHANNEL_WINDOW_ADJUST: lambda stream, message: stream.on_window_adjust(message),
        codes.MSG_CHANNEL_REQUEST: lambda stream, message: stream.on_request(message),
        codes.MSG_CHANNEL_EOF: lambda stream, message: stream.on_eof(message),
        codes.MSG_CHANNEL_CLOSE: lambda stream, message: stream.on_close(message),
    }

    def __init__(self, stream: ByteStream) -> None:
        self.phase = "banner"
        self.max_missed_keepalives = MAX_MISSED_KEEPALIVES
        self.failure: Exception | None = None
        self.ended = threading.Event()
        self._stream = stream
        self._queued_messages: list[Message] = []
        self._disconnect_message = ""
        self._ended_here = False
        self._open_channels: set[SshChannel] = set()
        self._unanswered = 0
        self._last_packet_count = self._partial_packet_count = -1
        self._partial_since = 0.0
        super().__init__(cast(Any, stream), packetizer_class=BoundedPacketizer)
        self._preferred_kex = tuple(k for k in self._preferred_kex if k in self._kex_info)
        stream.on_idle, stream.on_writable, stream.on_data = (
            self._on_idle,
            self._on_writable,
            self._on_data,
        )

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Host key algorithms in order. paramiko's own property would always add certificates."""
        return self._preferred_keys

    def run(self) -> None:
        """Run the reader. An exception is kept in ``failure`` and not printed."""
        try:
            super().run()
        except Exception as error:
            self.saved_exception = error
        self.failure = self.saved_exception
        self.ended.set()
        for channel in tuple(self._open_channels):
            channel.on_connection_lost()
        self._stream.release()

    # Sending; thread-safe.

    def send_message(self, message: Message) -> None:
        """Send now, or when the key exchange in progress is done. Never blocks.

        Raises BrokenPipeError if the connection is over.
        """
        with self.clear_to_send_lock:
            if self._queued_messages or not self.clear_to_send.is_set():
                self._queued_messages.append(message)
            else:
                self._transmit(message)

    def send_if_room(self, message: Message) -> bool:
        """Send the message if it would not have to be queued, and return True if it was sent.

        Raises BrokenPipeError if the connection is over.
        """
        if self._stream.is_congested:
            return False
        with self.clear_to_send_lock:
            if self._queued_messages or not self.clear_to_send.is_set():
                return False
            self._transmit(message)
        return True

    def cause(self) -> str:
        """Return why the connection ended; '' if it has not ended or was closed here."""
        failure = self.failure
        if not self.ended.is_set() or self._ended_here:
            return ""
        if self._disconnect_message:
            return f"the server hung up: {self._disconnect_message}"
        if isinstance(failure, PeerTimeoutError):
            why = str(failure)
        elif failure is None or type(failure) is EOFError:
            why = "the other side closed the connection"
        elif isinstance(failure, OSError):
            why = (failure.strerror or str(failure)).lower()
        else:
            why = f"invalid packet received: {exception_text(failure)}"
        details = self._stream.failure_details()
        return f"{why}; {details}" if details else why

    def hang_up(self) -> None:
        """Send DISCONNECT and close the connection and all its channels."""
        self._ended_here = self._ended_here or not self.ended.is_set()
        disconnect = (
            Message().add_byte(codes.cMSG_DISCONNECT).add_int(11)
        )  # BY_APPLICATION, RFC 4253 11.1
        try:
            if self.initial_kex_done:
                self.send_if_room(disconnect.add_string("").add_string(""))
        except OSError:
            pass  # the connection is gone already
        self.close()
        self._stream.close()

    def register_channel(self, channel: SshChannel) -> None:
        """Pass messages for this channel to it; tell it at once if the connection is over."""
        self._channels.put(channel.number, channel)
        self.channels_seen[channel.number] = True
        self._open_channels.add(channel)
        if self.ended.is_set():
            channel.on_connection_lost()

    def unregister_channel(self, channel: SshChannel) -> None:
        """Forget a channel that is closed on both sides."""
        self._channels.delete(channel.number)
        self._open_channels.discard(channel)

    def _transmit(self, message: Message) -> None:
        try:
            self._send_message(message)
        except EOFError:
            raise BrokenPipeError("the connection is gone") from None

    # Overrides that paramiko calls.

    def _log(self, level: int, msg: object, *args: object) -> None:
        """Log nothing: what matters reaches the user as a ConnectError."""

    def _check_banner(self) -> None:
        banner_lines: list[str] = []
        for _ in range(MAX_BANNER_LINES):
            row = self._stream.read_line(MAX_VERSION_BYTES * 4)
            text = row.decode("utf-8", "replace").rstrip("\r\n")
            if text.startswith("SSH-"):
                break
            if not row:
                raise TransportError(missing_banner_error(banner_lines))
            banner_lines.append(text)
        else:
            raise TransportError(not_ssh_error(banner_lines))
        if not text.startswith(("SSH-2.0-", "SSH-1.99-")):
            why = f"unsupported SSH version: {quote_output(text, MAX_VERSION_BYTES)}"
            raise TransportError(ConnectError("banner", why))
        self.remote_version = text
        self.phase = "kex"

    def _parse_kex_init(self, m: Message) -> None:
        try:
            super()._parse_kex_init(m)
        except IncompatiblePeer:
            m.rewind()
            raise TransportError(
                self._algorithm_mismatch_error(self._really_parse_kex_init(m))
            ) from None

    def _algorithm_mismatch_error(self, peer_algorithms: dict[str, Any]) -> ConnectError:
        kinds = (
            ("key exchange", "kex_algo_list", self.preferred_kex),
            ("host key", "server_key_algo_list", self.preferred_keys),
            ("cipher", "client_encrypt_algo_list", self.preferred_ciphers),
            ("MAC", "client_mac_algo_list", self.preferred_macs),
            ("compression", "client_compress_algo_list", self.preferred_compression),
        )
        for what, name, ours in kinds:
            if not set(peer_algorithms[name]) & set(ours):
                offered = to_one_line(", ".join(peer_algorithms[name])[:2000])
                return ConnectError(
                    "kex",
                    f"no {what} algorithm in common: "
                    f"the server offers {offered}; orch supports {', '.join(ours)}",
                    "the system's ssh may support one: `connect: {transport: openssh}`",
                )
        return ConnectError("kex", "no algorithms in common")

    def _parse_newkeys(self, m: Message) -> None:
        super()._parse_newkeys(m)
        with self.clear_to_send_lock:
            queued, self._queued_messages = self._queued_messages, []
            for message in queued:
                self._transmit(message)
        self._on_writable()

    def _parse_disconnect(self, m: Message) -> None:
        m.get_int()
        text = m.get_string().decode("utf-8", "surrogateescape")
        self._disconnect_message = quote_output(text) if text.strip() else ""

    def _on_writable(self) -> None:
        for channel in tuple(self._open_channels):
            channel.on_writable()

    def _on_data(self) -> None:
        """Raise PeerTimeoutError if a packet has been incomplete for too long."""
        packet_count, now = self._packet_count(), time.monotonic()
        if packet_count != self._partial_packet_count:
            self._partial_packet_count, self._partial_since = packet_count, now
        elif self._stream.idle_timeout and now - self._partial_since > self._silence_timeout():
            raise PeerTimeoutError(
                f"no complete packet received for {self._silence_timeout():.3g} s"
            )

    def _packet_count(self) -> int:
        return cast(BoundedPacketizer, self.packetizer).packet_count

    def _silence_timeout(self) -> float:
        return (self.max_missed_keepalives + 1) * (self._stream.idle_timeout or 0.0)

    def _on_idle(self) -> None:
        """Send a keepalive after a silence; raise PeerTimeoutError if too many had no answer.

        Only whole packets count as answers: after a corrupt packet length, all bytes that arrive
        would be taken for a part of that packet.
        """
        packet_count = self._packet_count()
        self._unanswered = self._unanswered + 1 if packet_count == self._last_packet_count else 1
        self._last_packet_count = packet_count
        if self._unanswered > self.max_missed_keepalives:
            raise PeerTimeoutError(f"no reply to keepalives for {self._silence_timeout():.3g} s")
        request = Message().add_byte(codes.cMSG_GLOBAL_REQUEST).add_string("keepalive@openssh.com")
        self.send_message(request.add_boolean(True))
