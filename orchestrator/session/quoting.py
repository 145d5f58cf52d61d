"""Text in single quotes on one line, for a shell that reads it with ``printf %b``.

What is written so has no newline and no quote of its own. Where something cuts the stream to a
shell, or eats the beginning of it, a quote is left open and nothing of it is run as commands.
"""

from __future__ import annotations

from orchestrator.model.regex import regex
from orchestrator.model.shellquote import shell_quoted
from orchestrator.model.text import encode

_SAFE = regex(r"[A-Za-z0-9_./:=@%+-]+")
_SPECIAL = '\\"$`'  # the backslash first: the others get one
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"'", b"\\0047"))


def escaped(text: str) -> bytes:
    """The text as ``printf %b`` (POSIX.1-2017, XCU printf) turns it back, byte for byte.

    Bytes that are not UTF-8 are as they were read (model/text.py). Raises ValueError for NUL,
    which no shell can hold, and for a character that cannot be written.
    """
    data = encode(text)
    if b"\0" in data:
        raise ValueError("a command cannot hold a NUL character")
    for plain, escape in _ESCAPES:
        data = data.replace(plain, escape)
    return data


def word(text: str) -> str:
    """Return the text as one word of a shell's command, quoted in the way that is shorter once
    ``escaped``; backslashes only where no locale takes them for the end of a character."""
    if _SAFE.fullmatch(text):
        return text
    marked, special = 12 * text.count("'"), 2 * sum(map(text.count, _SPECIAL))
    if marked <= special or not text.isascii():
        return shell_quoted(text)
    for sign in _SPECIAL:
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'
