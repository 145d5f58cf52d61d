"""Makes standard input, output and error usable, whatever their state when the process starts."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from orchestrator.model.text_encoding import escape_bytes

_ERROR_HANDLER = "orch.visible"
_DEFAULT_ERROR_HANDLERS = (None, "strict", "surrogateescape", "backslashreplace")
"""Error handlers that Python chooses by default (sys.stdout, PEP 538, PEP 540)."""

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class StdoutError(OSError):
    """Writing to standard output failed.

    Unless the reader has closed the pipe, the reason has been printed to stderr.
    """


class RawStdStream(io.FileIO):
    """A standard stream's file descriptor, which stays open when the stream is closed."""

    def __init__(self, descriptor: int) -> None:
        """Open the descriptor for writing."""
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: ReadableBuffer) -> int:
        """Write; wait if another process made the descriptor non-blocking and it is full."""
        while (count := super().write(data)) is None:
            select.select((), (self,), ())
        return count


class StdoutStream(RawStdStream):
    """Standard output; a failed write raises StdoutError."""

    _reported = False

    def write(self, data: ReadableBuffer) -> int:
        """Write, or raise StdoutError; the reason is printed to stderr once."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EPIPE and not self._reported:
                self._reported = True
                sys.stderr.write(f"cannot write to stdout: {error.strerror}\n")
                sys.stderr.flush()
            raise StdoutError(error.errno, error.strerror) from error


class StderrStream(RawStdStream):
    """Standard error; a failed write is ignored."""

    def write(self, data: ReadableBuffer) -> int:
        """Write; ignore errors, because there is nowhere to report them."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def make_std_streams_safe() -> None:
    """Replace the standard streams by safe ones.

    From then on, a failed write to stdout raises StdoutError, a failed write to stderr is ignored,
    and none of the three is None. Descriptors that the caller closed are opened, so that no file or
    connection gets their numbers; writing to such a stdout fails as if it were closed.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            _open_devnull_at(number, mode)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process
    if sys.stderr is sys.__stderr__:
        sys.stderr = _wrap_stream(StderrStream(2), sys.stderr)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _wrap_stream(StdoutStream(1), sys.stdout)


def read_stdin_line() -> str:
    """Return a line of stdin, with its newline; '' at its end, or if its terminal was closed."""
    try:
        return sys.stdin.readline()
    except OSError:
        return ""


def flush_std_streams() -> None:
    """Flush stdout and stderr; what cannot be written is discarded."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            _open_devnull_at(number, os.O_WRONLY)


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Return the replacement for characters that the stream's encoding does not have.

    It is ``\\xNN`` for a byte that is not UTF-8, and ``?`` for any other character.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = escape_bytes(error.object[error.start : error.end])
    return "".join(char if char.isascii() else "?" for char in text), error.end


def _open_devnull_at(number: int, mode: int) -> None:
    """Open /dev/null at this descriptor."""
    descriptor = os.open(os.devnull, mode)
    if descriptor == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(descriptor, number)
        os.close(descriptor)


def _wrap_stream(raw: RawStdStream, previous: TextIO | None) -> TextIO:
    """Return a text stream over ``raw`` with the settings of ``previous`` (None: it was closed).

    Unencodable characters are replaced: see ``_escape_unencodable``.
    """
    codecs.register_error(_ERROR_HANDLER, _escape_unencodable)
    errors = previous.errors if previous else None
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=previous.encoding if previous else "utf-8",
        errors=_ERROR_HANDLER if errors in _DEFAULT_ERROR_HANDLERS else errors,
        line_buffering=raw.isatty() or isinstance(raw, StderrStream),
    )
