"""Quoting of text for a shell that decodes it with ``printf %b``.

The result is on one line: it contains no newline and no single quote of its own. If the stream to
the shell is cut, or its beginning is lost, a quote stays open and no part of the text runs as a
command.
"""

from __future__ import annotations

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.shell_quoting import always_shell_quote
from orchestrator.model.text_encoding import encode_text

_SAFE = lazy_regex(r"[A-Za-z0-9_./:=@%+-]+")
_SPECIAL = '\\"$`'  # the backslash first, because escaping the others adds backslashes
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"'", b"\\0047"))


def escape_printf(text: str) -> bytes:
    """Return the text escaped for ``printf %b``, which decodes it byte for byte.

    The escapes are those of POSIX.1-2017, XCU printf. Bytes that are not UTF-8 are represented as
    in model/text_encoding.py. Raises ValueError for NUL, which no shell can store, and for a
    character that cannot be encoded.
    """
    data = encode_text(text)
    if b"\0" in data:
        raise ValueError("a command cannot contain a NUL character")
    for plain, escape in _ESCAPES:
        data = data.replace(plain, escape)
    return data


def printf_word(text: str) -> str:
    """Return the text as one word of a shell command, in the quoting that is shorter once escaped.

    Backslashes are used only for ASCII text: in some locales a backslash may be read as the end of
    a multibyte character.
    """
    if _SAFE.fullmatch(text):
        return text
    marked, special = 12 * text.count("'"), 2 * sum(map(text.count, _SPECIAL))
    if marked <= special or not text.isascii():
        return always_shell_quote(text)
    for sign in _SPECIAL:
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'
