"""Text that came from elsewhere, made safe to show: nothing in it can move a cursor.

Escape sequences are those of ECMA-48 (CSI, OSC, DCS and the two-character ones).
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links
    r"|\x1b[PX^_][^\x1b\n]*\x1b\\"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # two characters: charsets, save, reset
)

# All controls but tab and newline, what str.splitlines takes for a line's end, the marks
# that reorder the text around them (Trojan Source), and lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def clean(text: str) -> str:
    """The text as a terminal would be left with it, in characters that are safe to print.

    Escape sequences are removed, ``\\r`` progress bars reduced to their last state and
    backspaces applied; what controls remain are shown as ``\\x07``. Tabs and newlines stay.
    """
    if not _UNSAFE.search(text):
        return text
    text = _ESCAPE.sub("", text)
    if "\r" in text:
        text = "\n".join(map(_last_state, text.split("\n")))
    if "\b" in text:
        text = _rubbed_out(text)
    return visible(text)


def visible(text: str) -> str:
    """The text with nothing left out: each control but tab and newline becomes ``\\x1b``."""
    return _UNSAFE.sub(_named, text)


def one_line(text: str) -> str:
    """``clean`` text on a single line, with each run of blanks as one space."""
    return " ".join(clean(text).split())


def decode(data: bytes) -> str:
    """``clean`` text of raw output; a byte that is not UTF-8 is shown as ``\\xNN``."""
    return clean(data.decode("utf-8", "surrogateescape"))


def _named(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape carried through
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _last_state(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def _rubbed_out(text: str) -> str:
    kept: list[str] = []
    for char in text:
        if char != "\b":
            kept.append(char)
        elif kept and kept[-1] != "\n":
            kept.pop()
    return "".join(kept)
