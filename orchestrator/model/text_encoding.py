"""Text that keeps bytes: what is not UTF-8 travels as lone surrogates, and is shown as ``\\xNN``.

A byte 0xNN that is not part of valid UTF-8 is the character U+DCNN, Python's ``surrogateescape``
(PEP 383). Registered output, file names and arguments hold such text, and whatever sends it to a
host or a file encodes it back. Whatever shows it to people or writes it as JSON escapes it first.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from orchestrator.model.lazy_regex import regex

_SURROGATE = regex("[\ud800-\udfff]")
_IN_REPR = regex(r"((?<!\\)(?:\\\\)*)\\udc([89a-f][0-9a-f])")
_CUT_END = regex(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
_CUT_START = regex(rb"\A[\x80-\xbf]{1,3}")


def decode(data: bytes) -> str:
    """Return the bytes as text from which ``encode`` makes the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Return the bytes of a text: UTF-8, and those that were not UTF-8 as they were.

    Raises ValueError for a lone surrogate that stands for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("it holds a character that cannot be written as UTF-8") from None


def escape_bytes(text: str) -> str:
    """Return the text with ``\\xNN`` for each byte that is not UTF-8: it can be written in any
    Unicode encoding. A lone surrogate that stands for no byte becomes ``\\uNNNN``."""
    return _SURROGATE.sub(_escaped, text) if not text.isascii() else text


def quote_text(value: object) -> str:
    """Return ``repr(value)``, with ``\\xNN`` for each byte that is not UTF-8."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        text = "a number of too many digits"
    return _IN_REPR.sub(r"\1\\x\2", text)


def dump_json(data: object, *, indent: int = 0) -> str:
    """Return plain data as JSON in ASCII, every text in it as ``escape_bytes`` shows it."""
    try:
        made = _ENCODER.encode(data)
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; a number above 64 bits
        made = _dump_any(_escaped_all(data))
    if not made.isascii():
        made = _dump_any(data)
    return (msgspec.json.format(made, indent=indent) if indent else made).decode("ascii")


def _plain(value: object) -> object:
    """Return the plain text that a subclass of ``str`` holds, which msgspec asks for."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"JSON has nothing for {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def _dump_any(data: object) -> bytes:
    import json  # 3 ms, and ten times slower than msgspec

    return json.dumps(data, separators=(",", ":")).encode("ascii")


def whole_characters(data: bytes, *, start: bool = False, end: bool = False) -> bytes:
    """Return bytes that were cut out of a longer output without a character's rest at the
    ``start``, or a character's beginning at the ``end``."""
    data = _CUT_START.sub(b"", data) if start else data
    return _CUT_END.sub(b"", data) if end else data


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escaped_all(data: Any) -> Any:
    if isinstance(data, str):
        return escape_bytes(data)
    if isinstance(data, dict):
        return {_escaped_all(key): _escaped_all(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_escaped_all(value) for value in data]
    return data
