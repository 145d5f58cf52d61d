"""What a command and the broker say to each other.

Both sides send frames over a Unix socket: a byte for the kind, four for the size (big-endian), and
the data. A command has one socket for itself, on which ``BeginCommand`` is the first frame, and one
for each channel, on which ``OpenChannel`` is. The structs are msgpack.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import Terminal
from orchestrator.transports.ssh.route import Route

HEADER = struct.Struct(">cI")
MAX_FRAME_BYTES = 1 << 24

# frames of structs
MESSAGE = b"M"
# frames of a channel
STDIN = b"D"
STDIN_END = b"E"
STDOUT = b"O"
STDERR = b"R"
EXIT_STATUS = b"X"
OUTPUT_END = b"F"
LOST = b"G"  # with the cause
UNUSED = b"U"  # the command has sent nothing to the shell and does not need it


class BeginCommand(Struct, frozen=True, tag=True):
    """The beginning of a command: what its connections depend on.

    ``code`` identifies orch's own files. ``home`` and ``environ`` are the user's.
    ``can_prompt``: a person can be asked.
    """

    token: str
    code: str
    home: str
    environ: dict[str, str]
    record_host_keys: bool
    can_prompt: bool


class CommandBegun(Struct, frozen=True, tag=True):
    """The broker serves the command. ``pid`` is the broker's process ID."""

    pid: int


class BrokerOutdated(Struct, frozen=True, tag=True):
    """The broker runs other code than the command, and is about to end."""


class BecomeWay(Struct, frozen=True):
    """How a shell becomes another user: the fields of ``BecomeCommand``."""

    method: str
    user: str
    shell: str


class NotePasswordless(Struct, frozen=True, tag=True):
    """The host asked for no password to become this user: a shell of that user can be prepared.

    ``key`` is that of the connection, as in ``OpenChannel``.
    """

    key: bytes
    become: BecomeWay


class OpenChannel(Struct, frozen=True, tag=True):
    """Open a channel on a connection of this route, connecting first if there is none.

    ``key`` identifies the route with everything that it depends on. ``host`` is its name in the
    inventory. ``idle``: for how many seconds the connection is kept. ``command`` is the command
    line; '' with ``is_shell`` is the host's shell, without it the login shell.
    ``has_password``: the inventory knows a password for the login. ``become``: a prepared shell of
    this user does as well as the command.
    """

    token: str
    host: str
    key: bytes
    route: Route
    idle: float
    command: str = ""
    is_shell: bool = True
    terminal: Terminal | None = None
    has_password: bool = False
    become: BecomeWay | None = None


class ChannelOpened(Struct, frozen=True, tag=True):
    """The channel is open. ``nonce`` is that of a prepared shell with the process ID ``pid``."""

    nonce: str = ""
    pid: int = 0


class ChannelRefused(Struct, frozen=True, tag=True):
    """The channel could not be opened, or its command was refused; the fields of ConnectError."""

    phase: str
    reason: str
    hint: str = ""

    @classmethod
    def of(cls, error: ConnectError) -> ChannelRefused:
        """Return the message for an error."""
        return cls(error.phase, error.reason, error.hint)

    def error(self) -> ConnectError:
        """Return the error."""
        return ConnectError(self.phase, self.reason, self.hint)


class AskUser(Struct, frozen=True, tag=True):
    """A question to the user; see ``PromptCallback``."""

    number: int
    text: str
    echo: bool


class FindPassword(Struct, frozen=True, tag=True):
    """A question for the password that the inventory has for a host's login."""

    number: int
    host: str


class NoteSecret(Struct, frozen=True, tag=True):
    """A secret that is about to be sent to a host; see ``SecretCallback``."""

    number: int
    kind: str
    secret: str


class ShowWarning(Struct, frozen=True, tag=True):
    """A warning for the user."""

    text: str


class Answer(Struct, frozen=True, tag=True):
    """The answer to a question with this number; ``error`` says why there is none."""

    number: int
    text: str | None = None
    error: str = ""


class ResizeTerminal(Struct, frozen=True, tag=True):
    """The new size of a channel's terminal."""

    columns: int
    rows: int


class QueryStatus(Struct, frozen=True, tag=True):
    """A request for the broker's status."""


class KeptConnectionStatus(Struct, frozen=True):
    """A kept connection in the status.

    ``shells`` are prepared ones, ``channels`` those in use. ``age``, ``idle`` and ``expires_in``
    are seconds; ``idle`` is 0 while the connection is in use.
    """

    host: str
    endpoint: str
    shells: int
    channels: int
    age: float
    idle: float
    expires_in: float


class BrokerStatus(Struct, frozen=True, tag=True):
    """The broker's status. ``rss`` is its resident memory in bytes, 0 if unknown."""

    pid: int
    hosts: list[KeptConnectionStatus]
    age: float
    rss: int


class EndBroker(Struct, frozen=True, tag=True):
    """A request to close the connections of these hosts, or of all and end the broker (none)."""

    hosts: list[str] | None = None


class BrokerEnded(Struct, frozen=True, tag=True):
    """The connections are closed; ``hosts`` are their hosts."""

    hosts: list[str]


Message: TypeAlias = (
    BeginCommand
    | CommandBegun
    | BrokerOutdated
    | OpenChannel
    | ChannelOpened
    | ChannelRefused
    | AskUser
    | FindPassword
    | NotePasswordless
    | NoteSecret
    | ShowWarning
    | Answer
    | ResizeTerminal
    | QueryStatus
    | BrokerStatus
    | EndBroker
    | BrokerEnded
)


def _plain_value(value: object) -> str:
    """Return the text of a value with a place in a file, which msgspec does not know."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"not to be sent: {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain_value)
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Message)


class InvalidFrameError(Exception):
    """The other side sent something that is no frame."""


def encode_frame(kind: bytes, data: bytes = b"") -> bytes:
    """Return a frame."""
    return HEADER.pack(kind, len(data)) + data


def encode_value(value: object) -> bytes:
    """Return a value as msgpack."""
    return _encoder.encode(value)


def encode_message(message: Message) -> bytes:
    """Return the frame of a message."""
    return encode_frame(MESSAGE, _encoder.encode(message))


def decode_message(data: bytes) -> Message:
    """Return the message in a frame. Raises InvalidFrameError."""
    try:
        message: Message = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidFrameError(str(error)) from None
    return message


class FrameReader:
    """Takes frames out of a stream, regardless of how it is split."""

    def __init__(self) -> None:
        """Start without data."""
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the kind and the data of each frame that is complete. Raises InvalidFrameError."""
        self._held += data
        while len(self._held) >= HEADER.size:
            kind, size = HEADER.unpack_from(self._held)
            if size > MAX_FRAME_BYTES:
                raise InvalidFrameError(f"a frame of {size} bytes")
            end = HEADER.size + size
            if len(self._held) < end:
                return
            frame = bytes(self._held[HEADER.size : end])
            del self._held[:end]
            yield kind, frame
