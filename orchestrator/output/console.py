"""A text stream to print on: encoding, width, colour, and handling of a closed stream."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TextIO

from orchestrator.model.step_result import Status
from orchestrator.model.text_encoding import escape_bytes
from orchestrator.output.ci_log import defuse_commands, reads_commands

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


class TextConsole:
    """A text stream that lines are written to and flushed.

    ``width`` is the number of columns, or None for lines of any length. With ``defuses``, no line
    is a command of a CI server, but for those of ``command``. If nothing can be written (closed
    pipe, full disk), the methods raise OSError once; later calls silently write nothing, so that a
    run can continue to emit events until it has ended properly.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool = False,
        width: int | None = None,
        defuses: bool = False,
    ) -> None:
        self.stream = stream
        self._gone, self._defuses = False, defuses
        self.colour, self.width = colour, width

    def lines(self, lines: Iterable[str]) -> None:
        """Write the lines and flush."""
        self.write("".join(f"{line}\n" for line in lines))

    def write(self, text: str) -> None:
        """Write the text and flush."""
        self._write(defuse_commands(text) if self._defuses else text)

    def command(self, line: str) -> None:
        """Write a line that is a command of a CI server, and flush."""
        self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        if self._gone or not text:
            return
        try:
            self.stream.write(self.encodable(text))
            self.stream.flush()
        except OSError:
            self._gone = True
            raise

    def paint(self, text: str, style: str) -> str:
        """Return the text in an SGR style (ECMA-48), or unchanged without colour."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and style and text else text

    def encodable(self, text: str) -> str:
        """Return the text with what the stream cannot encode replaced by a question mark."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return escape_bytes(text).encode(encoding, "replace").decode(encoding)


def open_console(stream: TextIO, environ: Mapping[str, str]) -> TextConsole:
    """Return a console with the stream's width (``COLUMNS`` first), and with colour if possible."""
    return TextConsole(
        stream,
        colour=supports_live_output(stream, environ),
        width=_width(stream, environ),
        defuses=reads_commands(environ),
    )


def supports_live_output(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True if control codes may be sent: a terminal without CI, NO_COLOR and TERM=dumb.

    NO_COLOR counts if it is not empty (https://no-color.org).
    """
    ci = environ.get("CI", "").lower() not in ("", "0", "false")
    dumb = environ.get("TERM", "") in ("", "dumb")
    return _is_terminal(stream) and not (ci or dumb or environ.get("NO_COLOR"))


def style_of(status: Status) -> str:
    """Return the style of a status, which is always shown as a word as well."""
    if status.is_failure:
        return RED
    return {Status.OK: GREEN, Status.SKIPPED: DIM, Status.CHANGED: YELLOW}.get(status, CYAN)


def status_text(status: Status) -> str:
    """Return a status in words: ``timed out``."""
    return status.value.replace("_", " ")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _width(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    columns = environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns[:9]) > 0:
        return max(int(columns[:9]), 20)
    if not _is_terminal(stream):
        return None
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or 80, 20)
    except OSError:
        return 80
