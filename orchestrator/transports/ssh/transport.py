"""What a peer says, as errors tell it.

paramiko's packets (RFC 4253 6): counted, bounded, and without timers of their own.

One SSH connection over a wire: what both of its ends have in common.

paramiko does the cryptography, the packets and the key exchange (RFC 4253); its channels,
timers and polling are replaced. Everything here that has no other note runs in paramiko's
thread for this connection, the *reader*.
"""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar, cast

from orchestrator import __version__
from orchestrator.errors import ConnectError
from orchestrator.model.sanitize import one_line, quote
from orchestrator.transports.ssh.byte_stream import Cable
from orchestrator.transports.ssh.channels import Stream
from orchestrator.transports.ssh.paramiko_compat import (
    IncompatiblePeer,
    Message,
    Packetizer,
    SSHException,
    Transport,
    codes,
)

LINE = 255  # bytes of a version line (RFC 4253 4.2)


def named(failure: Exception) -> str:
    """What an exception says, or what it is called: some libraries' say nothing."""
    text = str(failure)
    return quote(text) if text.strip() else type(failure).__name__


def no_banner(said: list[str]) -> ConnectError:
    """The connection ended before the server named itself, having said so much.

    OpenSSH drops connections beyond MaxStartups like that, newer ones with a line of text;
    since 9.8 also addresses that failed before (PerSourcePenalties), for which time heals.
    """
    words = f" and said: {quote(' / '.join(said), LINE)}" if said else ""
    if said and "MaxStartups" not in words:
        if "Not allowed" in words:
            return ConnectError(
                "banner",
                "the server penalises our address for earlier failures" + words,
                "wait a while, or see PerSourcePenalties in its sshd_config",
            )
        return not_ssh(said)
    return ConnectError(
        "banner",
        "the server closed the connection before naming itself" + words,
        "its sshd may be at MaxStartups, or may not let this address in",
        transient=True,
    )


def not_ssh(said: list[str]) -> ConnectError:
    """What answered is something else."""
    return ConnectError(
        "banner",
        f"this is not an SSH server: it said {quote(said[0], 80)}",
        "is the port right? `connect: {port: …}`",
    )


LONGEST = 1 << 18  # bytes of a packet, as OpenSSH has it; RFC 4253 6.1 asks for 35,000


class SilenceError(EOFError):
    """The peer is taken for dead."""


class Untimed(Packetizer):
    """Without a timer thread for each handshake: the one who connects has a deadline. ``whole``
    is how many packets came. A length that was garbled on the way is not waited for.
    """

    whole = 0

    def read_message(self) -> tuple[int, Message]:
        """The next packet: its kind and the rest of it."""
        message = super().read_message()
        self.whole += 1
        return message

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Exactly so many bytes. Raises SSHException where no packet is as long as that."""
        if n > LONGEST:
            raise SSHException(f"a packet of {n} bytes")
        return super().read_all(n, check_rekey)

    def start_handshake(self, timeout: float) -> None:
        """Nothing."""

    def complete_handshake(self) -> None:
        """Nothing."""

    def handshake_timed_out(self) -> bool:
        """Never."""
        return False


MISSED = 3  # keepalives without an answer after which the peer is dead, where nothing else is said
LINES = 100  # before a server's name, that are borne


class Refusal(SSHException):
    """Carries the reason for ending a connection through paramiko."""

    def __init__(self, error: ConnectError) -> None:
        super().__init__(error.why)
        self.error = error


class Link(Transport):
    """An SSH connection. ``phase`` is how far it got, in ConnectError's words.

    Set once it is over, in this order: ``failure`` (why, None where it was us), ``over``.
    """

    _CLIENT_ID = f"orch_{__version__}"
    # The quick ones first: 2.5 ms, group14 takes 22 and group exchange 44.
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
        **Transport._kex_info,
        # RFC 8731's name for what libssh had named before
        "curve25519-sha256": Transport._kex_info["curve25519-sha256@libssh.org"],
    }
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        codes.MSG_CHANNEL_SUCCESS: lambda stream, message: stream.request_taken(message),
        codes.MSG_CHANNEL_FAILURE: lambda stream, message: stream.request_refused(message),
        codes.MSG_CHANNEL_DATA: lambda stream, message: stream.data(message),
        codes.MSG_CHANNEL_EXTENDED_DATA: lambda stream, message: stream.extended_data(message),
        codes.MSG_CHANNEL_WINDOW_ADJUST: lambda stream, message: stream.window_adjusted(message),
        codes.MSG_CHANNEL_REQUEST: lambda stream, message: stream.requested(message),
        codes.MSG_CHANNEL_EOF: lambda stream, message: stream.ended(message),
        codes.MSG_CHANNEL_CLOSE: lambda stream, message: stream.closed_there(message),
    }

    def __init__(self, wire: Cable) -> None:
        self.phase = "banner"
        self.missed = MISSED
        self.failure: Exception | None = None
        self.over = threading.Event()
        self._wire = wire
        self._held: list[Message] = []
        self._goodbye = ""
        self._ended_here = False
        self._streams: set[Stream] = set()
        self._unanswered = 0
        self._heard = self._begun = -1
        self._since = 0.0
        super().__init__(cast(Any, wire), packetizer_class=Untimed)
        self._preferred_kex = tuple(k for k in self._preferred_kex if k in self._kex_info)
        wire.on_idle, wire.on_room, wire.on_data = self._keep_alive, self._room, self._arrived

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Host key algorithms in order. paramiko's own would have certificates in any case."""
        return self._preferred_keys

    def run(self) -> None:
        """The reader. Nothing that goes wrong in it is printed: it is kept in ``failure``."""
        try:
            super().run()
        except Exception as error:
            self.saved_exception = error
        self.failure = self.saved_exception
        self.over.set()
        for stream in tuple(self._streams):
            stream.lost()
        self._wire.release()

    # Sending, from any thread.

    def post(self, message: Message) -> None:
        """Send, now or as soon as new keys are agreed on. Never waits.

        Raises BrokenPipeError where the connection is over.
        """
        with self.clear_to_send_lock:
            if self._held or not self.clear_to_send.is_set():
                self._held.append(message)
            else:
                self._emit(message)

    def offer(self, message: Message) -> bool:
        """Send, if it goes out without piling up. Raises BrokenPipeError as ``post`` does."""
        if self._wire.congested:
            return False
        with self.clear_to_send_lock:
            if self._held or not self.clear_to_send.is_set():
                return False
            self._emit(message)
        return True

    def cause(self) -> str:
        """Why it is over; '' where it is not, or where we ended it."""
        failure = self.failure
        if not self.over.is_set() or self._ended_here:
            return ""
        if self._goodbye:
            return f"the server hung up: {self._goodbye}"
        if isinstance(failure, SilenceError):
            why = str(failure)
        elif failure is None or type(failure) is EOFError:
            why = "the other side closed the connection"
        elif isinstance(failure, OSError):
            why = (failure.strerror or str(failure)).lower()
        else:
            why = f"what came is garbled: {named(failure)}"
        said = self._wire.said()
        return f"{why}; {said}" if said else why

    def hang_up(self) -> None:
        """Tell the peer and end the connection and all its streams."""
        self._ended_here = self._ended_here or not self.over.is_set()
        bye = Message().add_byte(codes.cMSG_DISCONNECT).add_int(11)  # BY_APPLICATION, RFC 4253 11.1
        try:
            if self.initial_kex_done:
                self.offer(bye.add_string("").add_string(""))
        except OSError:
            pass  # it is gone already, which is all we want
        self.close()
        self._wire.close()

    def adopt(self, stream: Stream) -> None:
        """Hand this stream what arrives for it. It is lost at once where the link is over."""
        self._channels.put(stream.number, stream)
        self.channels_seen[stream.number] = True
        self._streams.add(stream)
        if self.over.is_set():
            stream.lost()

    def forget(self, stream: Stream) -> None:
        """This stream is closed on both sides."""
        self._channels.delete(stream.number)
        self._streams.discard(stream)

    def _emit(self, message: Message) -> None:
        try:
            self._send_message(message)
        except EOFError:
            raise BrokenPipeError("the connection is gone") from None

    # What paramiko calls.

    def _log(self, level: int, msg: object, *args: object) -> None:
        """Nothing: what matters reaches the user as a ConnectError."""

    def _check_banner(self) -> None:
        said: list[str] = []
        for _ in range(LINES):
            row = self._wire.line(LINE * 4)
            text = row.decode("utf-8", "replace").rstrip("\r\n")
            if text.startswith("SSH-"):
                break
            if not row:
                raise Refusal(no_banner(said))
            said.append(text)
        else:
            raise Refusal(not_ssh(said))
        if not text.startswith(("SSH-2.0-", "SSH-1.99-")):
            why = f"the server speaks another SSH: {quote(text, LINE)}"
            raise Refusal(ConnectError("banner", why))
        self.remote_version = text
        self.phase = "kex"

    def _parse_kex_init(self, m: Message) -> None:
        try:
            super()._parse_kex_init(m)
        except IncompatiblePeer:
            m.rewind()
            raise Refusal(self._mismatch(self._really_parse_kex_init(m))) from None

    def _mismatch(self, theirs: dict[str, Any]) -> ConnectError:
        kinds = (
            ("key exchange", "kex_algo_list", self.preferred_kex),
            ("host key", "server_key_algo_list", self.preferred_keys),
            ("cipher", "client_encrypt_algo_list", self.preferred_ciphers),
            ("MAC", "client_mac_algo_list", self.preferred_macs),
            ("compression", "client_compress_algo_list", self.preferred_compression),
        )
        for what, name, ours in kinds:
            if not set(theirs[name]) & set(ours):
                offered = one_line(", ".join(theirs[name])[:2000])
                return ConnectError(
                    "kex",
                    f"no {what} algorithm in common: "
                    f"they offer {offered}; we know {', '.join(ours)}",
                    "the system's ssh may know one: `connect: {transport: openssh}`",
                )
        return ConnectError("kex", "no algorithms in common")

    def _parse_newkeys(self, m: Message) -> None:
        super()._parse_newkeys(m)
        with self.clear_to_send_lock:
            held, self._held = self._held, []
            for message in held:
                self._emit(message)
        self._room()

    def _parse_disconnect(self, m: Message) -> None:
        m.get_int()
        text = m.get_string().decode("utf-8", "surrogateescape")
        self._goodbye = quote(text) if text.strip() else ""

    def _room(self) -> None:
        for stream in tuple(self._streams):
            stream.nudge()

    def _arrived(self) -> None:
        """Bytes came. Give up where they have long been parts of one packet."""
        whole, now = self._packets(), time.monotonic()
        if whole != self._begun:
            self._begun, self._since = whole, now
        elif self._wire.idle_after and now - self._since > self._patience():
            raise SilenceError(f"no whole packet came for {self._patience():.3g} s")

    def _packets(self) -> int:
        return cast(Untimed, self.packetizer).whole

    def _patience(self) -> float:
        return (self.missed + 1) * (self._wire.idle_after or 0.0)

    def _keep_alive(self) -> None:
        """Ask for a sign of life after each silence; give up when too many brought none. Bytes
        are none: of a packet whose length was garbled they are taken for a part.
        """
        whole = self._packets()
        self._unanswered = self._unanswered + 1 if whole == self._heard else 1
        self._heard = whole
        if self._unanswered > self.missed:
            raise SilenceError(f"nothing came for {self._patience():.3g} s, keepalives or not")
        ask = Message().add_byte(codes.cMSG_GLOBAL_REQUEST).add_string("keepalive@openssh.com")
        self.post(ask.add_boolean(True))
