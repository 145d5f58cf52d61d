"""Text quoted for a shell: the same text in dash, bash and busybox, in every place and locale.

What is written here holds in places where other ways do not: bash 5.2 and 5.3 misread a
backslash outside of quotes in an array inside ``$(…)``, so an apostrophe is written ``'"'"'``;
and bash may pass over a backslash, or even a quote, in locales of several bytes a character (see
``charsets``), so no backslash is used, and a quote that would be passed over is kept apart from
what comes before it by an empty pair of quotes.
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
    """Return the text as one word, as it is if nothing in it is special."""
    return text if _SAFE_WORD.fullmatch(text) else always_shell_quote(text)


def always_shell_quote(text: str) -> str:
    """Return the text as one word in quotes."""
    whole = f"'{escape_in_single_quotes(text)}'"
    if text[:1] == "'":
        whole = whole.removeprefix("''")
    return whole.removesuffix("''") if text[-1:] == "'" else whole


def escape_in_single_quotes(text: str) -> str:
    """Return the text as it stands between two single quotes."""
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
    """Keep what would hide the quote after the piece apart from what comes before it."""
    if _HARMLESS_END.search(piece) or not may_swallow_next(piece[_safe_start(piece) :]):
        return piece
    if not may_swallow_next(piece[-1]):
        return f"{_separate_lead_bytes(piece[:-1])}''{piece[-1]}"
    data = encode_text(piece[-1])  # EUC-TW finds the first of its bytes inside
    return f"{piece[:-1]}{decode_bytes(data[:-1])}''{decode_bytes(data[-1:])}"


def _safe_start(piece: str) -> int:
    """Return from where on to look: four bytes below 0x80 end every character before them."""
    run = 0
    for i in range(len(piece) - 1, -1, -1):
        run = run + 1 if piece[i].isascii() else 0
        if run == 4:
            return i + 4
    return 0
