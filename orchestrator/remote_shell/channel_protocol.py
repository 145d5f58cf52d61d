"""The port to a remote shell: what a transport must give and all that a session knows of it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class ReadChunk(Struct, frozen=True):
    """What arrived on one read. ``eof``: the other side is gone and nothing more will come.
    ``waited``: seconds that it took a person to answer, which are not the host's fault.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    eof: bool = False
    waited: float = 0.0


class Channel(Protocol):
    """A byte stream to and from one remote shell. Used by one thread, but for ``wake``."""

    def write(self, data: bytes | memoryview) -> int:
        """Take as many bytes as fit without waiting (maybe 0) and return how many.

        Raises OSError once the stream is broken.
        """

    def read(self, timeout: float | None) -> ReadChunk:
        """Wait for output, room to write after a short write, EOF, ``wake`` or ``timeout``
        seconds; return what there is, perhaps nothing. A cut link is EOF, not an exception.
        """

    def wake(self) -> None:
        """End a waiting ``read`` (or the next one). Safe from any thread."""

    def close_stdin(self) -> None:
        """Send EOF. What was written before still arrives."""

    def close(self) -> None:
        """Let go of the channel. Safe to call twice."""

    def exit_status(self) -> int | None:
        """The remote shell's exit status once it is known."""

    def cause(self) -> str:
        """Why the link broke, in one line; '' where it did not, or nobody knows."""


class Connection(Protocol):
    """One way to one host, authenticated. Channels share it."""

    @property
    def endpoint(self) -> str:
        """Where it leads, as errors say it: USER@ADDRESS:PORT and the way; '' for no place."""

    def open(self, become: str = "") -> Channel:
        """A new channel running the host's shell (``exec sh``), as the user named ``become``, if
        one is named and was not logged in anyway.

        Raises ConnectError (phase channel or shell, or become for a name that is none) where the
        host refuses; with ``become`` the channel's ``read`` may (phase become).
        """

    def close(self) -> None:
        """End it and every channel on it. Safe to call twice and from any thread."""
