"""The interfaces that a transport provides to a session."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct


class TerminalSize(Struct, frozen=True):
    """The size of a terminal in characters."""

    columns: int
    rows: int


class Terminal(Struct, frozen=True):
    """The terminal that a command on a host gets.

    ``kind`` is the value of ``TERM``. ``attributes`` are the modes that it begins with, as
    ``termios.tcgetattr`` returns them; none means the system's default.
    """

    kind: str
    size: TerminalSize
    attributes: tuple[Any, ...] = ()


class ReadChunk(Struct, frozen=True):
    """The result of one read.

    ``eof``: the peer is gone and no more data will arrive. ``waited`` is the number of seconds
    spent waiting for a person's input, which must not count against the host.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    eof: bool = False
    waited: float = 0.0


class PreparedShell(Struct, frozen=True):
    """A shell that has read its bootstrap, and run nothing since.

    ``nonce`` is that of its markers, ``pid`` its process ID on the host, 0 if that is not known.
    """

    nonce: str
    pid: int


class Channel(Protocol):
    """A byte stream to and from one remote shell; only ``wake`` may be called by other threads."""

    def write(self, data: bytes | memoryview) -> int:
        """Write as many bytes as fit without blocking (maybe 0) and return their number.

        Raises OSError once the stream is broken.
        """

    def read(self, timeout: float | None) -> ReadChunk:
        """Wait for data or for another reason to wake up, and return the data, which may be empty.

        The other reasons are room to write after a short write, EOF, ``wake``, and ``timeout``
        seconds. A lost connection is reported as EOF, not as an exception.
        """

    def wake(self) -> None:
        """Interrupt a blocked ``read`` (or the next one). Safe to call from any thread."""

    def close_stdin(self) -> None:
        """Send EOF. Data written before still arrives."""

    def close(self) -> None:
        """Close the channel. Safe to call twice."""

    def exit_status(self) -> int | None:
        """Return the remote shell's exit status, or None while it is unknown."""

    def cause(self) -> str:
        """Return why the connection broke, in one line; '' if it did not, or if that is unknown."""

    def prepared_shell(self) -> PreparedShell | None:
        """Return the shell behind the channel if it was prepared; None for a new one."""


class CommandChannel(Channel, Protocol):
    """A channel that runs a user's command instead of a session.

    A command on a terminal writes all of its output to stdout.
    """

    def resize(self, size: TerminalSize) -> None:
        """Tell the command the new size of its terminal."""


class Connection(Protocol):
    """An authenticated connection to one host; its channels share it."""

    @property
    def endpoint(self) -> str:
        """Return USER@ADDRESS:PORT and the jump hosts, for error messages; '' for a local shell."""

    def open(self, become: str = "") -> Channel:
        """Open a channel that runs the host's shell (``exec sh``).

        The shell runs as the user ``become`` if that is not '' and not the login user. Raises
        ConnectError if the host refuses: in phase channel or shell, or in phase become for an
        invalid user name. With ``become``, the channel's ``read`` may raise it as well (phase
        become).
        """

    def start_command(
        self, command: str, terminal: Terminal | None = None, become: str = ""
    ) -> CommandChannel:
        """Open a channel that runs a command, on a terminal of its own if one is given.

        ``command`` is a simple command in the syntax of sh; '' is the login shell, as a login
        shell, and cannot be combined with ``become``. Raises ConnectError like ``open``, also if
        the host refuses a terminal. A terminal of a command with ``become`` does not echo and
        passes every byte unchanged until the command changes that.
        """

    def close(self) -> None:
        """Close the connection and all its channels. Safe to call twice and from any thread."""
