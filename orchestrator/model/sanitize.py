"""Sanitizes foreign text for display: nothing in it can move the cursor or forge a line.

Escape sequences are those of ECMA-48 (CSI, OSC, DCS and the two-character ones).
"""

from __future__ import annotations

import re

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.text_encoding import decode_bytes as bytes_to_text
from orchestrator.model.text_encoding import trim_partial_characters

_CSI_PATTERN = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movement
ESCAPES = (
    _CSI_PATTERN,
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d\n]*(?:\x07|\x1b\\|\x9c)",  # OSC: titles, links
    r"\x1b[PX^_][^\x1b\n]*\x1b\\",  # DCS, SOS, PM, APC
    r"\x1b[ -/]*[0-~]",  # two characters: charsets, save, reset
)
"""Escape sequences, as regular expressions. Each runs in time linear in the text."""

_ESCAPE = lazy_regex("|".join(ESCAPES))
_COLOUR = lazy_regex(_CSI_PATTERN)

# All control characters except tab and newline, the line separators of str.splitlines, the marks
# that reorder the text around them (Trojan Source), and lone surrogates.
_UNSAFE_CHARS = lazy_regex(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LINE_BREAKS = lazy_regex("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
"""Line ends for a terminal, an editor or ``str.splitlines``, and tabs."""


def sanitize_output(text: str) -> str:
    """Return the text as a terminal would finally show it, without unsafe characters.

    For a host's output that is shown on its own: escape sequences are removed, ``\\r`` progress
    bars reduced to their last state and backspaces applied; remaining control characters are shown
    as ``\\x07``. Tabs and newlines are kept. For such text inside a message, use ``to_one_line``.
    """
    if not _UNSAFE_CHARS.search(text):
        return text
    text = _ESCAPE.sub("", text)
    if "\r" in text:
        text = "\n".join(map(_after_carriage_returns, text.split("\n")))
    if "\b" in text:
        text = apply_backspaces(text)
    return show_controls(text)


def show_controls(text: str) -> str:
    """Return the text with control characters except tab and newline shown as ``\\x1b``."""
    return text if text.isprintable() else _UNSAFE_CHARS.sub(_escape_control, text)


def to_one_line(text: str) -> str:
    """Return the text on a single line, with each run of white space as one space.

    The text cannot remove or overwrite what precedes it, so a message that contains it stays
    readable. Line breaks of every kind count as white space, colours are removed, and other control
    characters are shown as ``\\x1b``.
    """
    if not text.isprintable():  # rarely true
        text = show_controls(_LINE_BREAKS.sub(" ", _COLOUR.sub("", text)))
    return " ".join(text.split())


def quote_output(text: str, max_chars: int = 200) -> str:
    """Return a host's text in quotes and on one line, to be used inside a message.

    A text of more than ``max_chars`` characters is cut and ends with ``…``.
    """
    line = to_one_line(_ESCAPE.sub("", text[: 4 * max_chars]))
    if len(line) > max_chars or len(text) > 4 * max_chars:
        line = line[: max_chars - 1] + "…"
    return _wrap_in_quotes(line)


def quote_output_end(data: bytes, max_bytes: int = 500) -> str:
    """Return the last ``max_bytes`` of a host's output like ``quote_output``, or '' if it is blank.

    Lines are joined with `` / ``; ``…`` at the start means that the output was longer.
    """
    end = trim_partial_characters(data[-max_bytes:], start=len(data) > max_bytes)
    text = _ESCAPE.sub("", bytes_to_text(end))
    lines = [line for line in map(to_one_line, text.split("\n")) if line]
    cut = "…" if len(data) > max_bytes else ""
    return _wrap_in_quotes(cut + " / ".join(lines)) if lines else ""


def _wrap_in_quotes(line: str) -> str:
    mark = '"' if "'" in line and '"' not in line else "'"
    return mark + line.replace(mark, f"\\{mark}") + mark


def decode_sanitized(data: bytes) -> str:
    """Return ``sanitize_output`` of raw output; bytes that are not UTF-8 are shown as ``\\xNN``."""
    return sanitize_output(bytes_to_text(data))


def _escape_control(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte represented by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _after_carriage_returns(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def apply_backspaces(text: str) -> str:
    """Return the text with each backspace applied to the character before it on its line."""
    kept: list[str] = []
    for char in text:
        if char != "\b":
            kept.append(char)
        elif kept and kept[-1] != "\n":
            kept.pop()
    return "".join(kept)
