"""Standard input, output and error that hold, whatever the caller did with them."""

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
"""The error handlers that Python chooses by itself (sys.stdout, PEP 538, PEP 540)."""

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class StdoutError(OSError):
    """Standard output does not take what it is given. Where it is a full disk, say, and not just
    a reader that left, stderr was told."""


class RawStdStream(io.FileIO):
    """A standard stream's descriptor, which closing leaves open."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: ReadableBuffer) -> int:
        """Write; wait for room where another process made the descriptor non-blocking."""
        while (count := super().write(data)) is None:
            select.select((), (self,), ())
        return count


class StdoutStream(RawStdStream):
    _reported = False

    def write(self, data: ReadableBuffer) -> int:
        """Write, or raise StdoutError; why is said on stderr once."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EPIPE and not self._reported:
                self._reported = True
                sys.stderr.write(f"cannot write to stdout: {error.strerror}\n")
                sys.stderr.flush()
            raise StdoutError(error.errno, error.strerror) from error


class StderrStream(RawStdStream):
    def write(self, data: ReadableBuffer) -> int:
        """Write; what cannot be told is not, which is no reason to stop anything."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def make_std_streams_safe() -> None:
    """Make the standard streams whole. From here on writing to stdout raises StdoutError where
    it fails, writing to stderr never does, and none of the three is None.

    Descriptors that the caller closed are taken, so that no file or connection gets their
    numbers; writing to the stdout put there fails as on a closed one.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            _open_devnull_at(number, mode)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it lasts as long as the process
    if sys.stderr is sys.__stderr__:
        sys.stderr = _wrap_stream(StderrStream(2), sys.stderr)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _wrap_stream(StdoutStream(1), sys.stdout)


def flush_std_streams() -> None:
    """Write out what is left; what cannot be written goes nowhere, without a word."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            _open_devnull_at(number, os.O_WRONLY)


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    """What is written in place of characters that the stream's encoding does not have: ``\\xNN``
    for a byte that is not UTF-8, ``?`` for any other."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = escape_bytes(error.object[error.start : error.end])
    return "".join(char if char.isascii() else "?" for char in text), error.end


def _open_devnull_at(number: int, mode: int) -> None:
    """Have /dev/null at this descriptor."""
    descriptor = os.open(os.devnull, mode)
    if descriptor == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(descriptor, number)
        os.close(descriptor)


def _wrap_stream(raw: RawStdStream, previous: TextIO | None) -> TextIO:
    """A text stream over ``raw`` that writes as the one ``previous`` did (None: it was closed), and
    never fails on a character: see ``_escape_unencodable``."""
    codecs.register_error(_ERROR_HANDLER, _escape_unencodable)
    errors = previous.errors if previous else None
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=previous.encoding if previous else "utf-8",
        errors=_ERROR_HANDLER if errors in _DEFAULT_ERROR_HANDLERS else errors,
        line_buffering=raw.isatty() or isinstance(raw, StderrStream),
    )
