"""Text that preserves bytes: non-UTF-8 bytes become lone surrogates, displayed as ``\\xNN``.

A byte 0xNN that is not part of valid UTF-8 is the character U+DCNN, Python's ``surrogateescape``
(PEP 383). Registered output, file names and arguments may contain such characters. Code that sends
text to a host or a file encodes them back; code that displays it or writes JSON escapes them.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from orchestrator.model.lazy_regex import lazy_regex

_SURROGATE = lazy_regex("[\ud800-\udfff]")
_IN_REPR = lazy_regex(r"((?<!\\)(?:\\\\)*)\\udc([89a-f][0-9a-f])")
_PARTIAL_END = lazy_regex(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
_PARTIAL_START = lazy_regex(rb"\A[\x80-\xbf]{1,3}")


def decode_bytes(data: bytes) -> str:
    """Return the bytes as text; ``encode_text`` restores the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """Return the bytes of a text: UTF-8, with the original bytes that were not UTF-8.

    Raises ValueError for a lone surrogate that does not represent a byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("it contains a character that cannot be encoded as UTF-8") from None


def encode_lossy(text: str) -> bytes:
    """Encode as UTF-8; restore bytes that were not UTF-8, and replace what cannot be encoded."""
    try:
        return encode_text(text)
    except ValueError:
        return text.encode("utf-8", "replace")


def escape_bytes(text: str) -> str:
    """Return the text with ``\\xNN`` for each byte that is not UTF-8.

    The result can be encoded in any Unicode encoding: a lone surrogate that does not represent a
    byte becomes ``\\uNNNN``.
    """
    return _SURROGATE.sub(_escape_surrogate, text) if not text.isascii() else text


def repr_text(value: object) -> str:
    """Return ``repr(value)``, with ``\\xNN`` for each byte that is not UTF-8."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses integers of more than 4300 digits
        text = "a number with too many digits"
    return _IN_REPR.sub(r"\1\\x\2", text)


def dump_json(data: object, *, indent: int = 0) -> str:
    """Return plain data as ASCII JSON, with every text passed through ``escape_bytes``."""
    try:
        encoded = _ENCODER.encode(data)
    except UnicodeEncodeError:  # a lone surrogate
        encoded = _dump_with_stdlib(_escape_all(data))
    if not encoded.isascii():
        encoded = _dump_with_stdlib(data)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode("ascii")


def _plain_string(value: object) -> object:
    """Return the plain text of a ``str`` subclass, for msgspec."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"cannot encode as JSON: {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain_string)


def _dump_with_stdlib(data: object) -> bytes:
    import json  # the import takes 3 ms, and json is ten times slower than msgspec

    return json.dumps(data, separators=(",", ":")).encode("ascii")


def trim_partial_characters(data: bytes, *, start: bool = False, end: bool = False) -> bytes:
    """Remove partial characters from bytes that were cut out of a longer output.

    ``start``: remove the rest of a character at the start; ``end``: an incomplete one at the end.
    """
    data = _PARTIAL_START.sub(b"", data) if start else data
    return _PARTIAL_END.sub(b"", data) if end else data


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escape_all(data: Any) -> Any:
    if isinstance(data, str):
        return escape_bytes(data)
    if isinstance(data, dict):
        return {_escape_all(key): _escape_all(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_escape_all(value) for value in data]
    return data
