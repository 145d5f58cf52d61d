"""Quotes text for a shell, valid in dash, bash and busybox, in every context and locale.

Other ways of quoting fail in some contexts: bash 5.2 and 5.3 misread a backslash outside of quotes
in an array inside ``$(…)``, so an apostrophe is written as ``'"'"'``; and bash may skip a
backslash, or even a quote, in multi-byte locales (see ``charsets``), so backslashes are not used,
and a quote that would be skipped is separated from the preceding character by an empty pair of
quotes.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from orchestrator.model.charsets import may_swallow_next
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.text_encoding import decode_bytes, encode_text

_SAFE_WORD = lazy_regex(r"[A-Za-z0-9_./:=@%+,-]+")
_APOSTROPHES = lazy_regex("'+")
_HARMLESS_END = lazy_regex(r"(?:\A|[\x00-/:-\x7f]|[\x00-\x7f]{2})\Z")


def shell_quote(text: str) -> str:
    """Return the text as one word; unquoted if it has no special characters."""
    return text if _SAFE_WORD.fullmatch(text) else always_shell_quote(text)


def always_shell_quote(text: str) -> str:
    """Return the text as one word in quotes."""
    whole = f"'{escape_in_single_quotes(text)}'"
    if text[:1] == "'":
        whole = whole.removeprefix("''")
    return whole.removesuffix("''") if text[-1:] == "'" else whole


def escape_in_single_quotes(text: str) -> str:
    """Return the text escaped for use between single quotes."""
    if text.isascii():
        if "'" not in text:
            return text
        return _APOSTROPHES.sub(_double_quoted, text)
    pieces = _APOSTROPHES.split(text)
    runs = map(_double_quoted, _APOSTROPHES.finditer(text))
    return "".join(
        a + b for a, b in zip_longest(map(_separate_lead_bytes, pieces), runs, fillvalue="")
    )


def _double_quoted(run: re.Match[str]) -> str:
    return f"'\"{run[0]}\"'"


def _separate_lead_bytes(piece: str) -> str:
    """Insert '' before a character that could hide the quote after the piece."""
    if _HARMLESS_END.search(piece) or not may_swallow_next(piece[_safe_start(piece) :]):
        return piece
    if not may_swallow_next(piece[-1]):
        return f"{_separate_lead_bytes(piece[:-1])}''{piece[-1]}"
    data = encode_text(piece[-1])  # EUC-TW can see the lead byte inside this character
    return f"{piece[:-1]}{decode_bytes(data[:-1])}''{decode_bytes(data[-1:])}"


def _safe_start(piece: str) -> int:
    """Return where to start looking; four bytes below 0x80 end every character before them."""
    run = 0
    for i in range(len(piece) - 1, -1, -1):
        run = run + 1 if piece[i].isascii() else 0
        if run == 4:
            return i + 4
    return 0
