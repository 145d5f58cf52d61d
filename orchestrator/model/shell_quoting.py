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

from orchestrator.model.charsets import hides_end
from orchestrator.model.lazy_regex import regex
from orchestrator.model.text_encoding import decode, encode

_SAFE = regex(r"[A-Za-z0-9_./:=@%+,-]+")
_APOSTROPHES = regex("'+")
_HARMLESS = regex(r"(?:\A|[\x00-/:-\x7f]|[\x00-\x7f]{2})\Z")


def shell_quote(text: str) -> str:
    """Return the text as one word, as it is if nothing in it is special."""
    return text if _SAFE.fullmatch(text) else shell_quoted(text)


def shell_quoted(text: str) -> str:
    """Return the text as one word in quotes."""
    whole = f"'{inside_quotes(text)}'"
    if text[:1] == "'":
        whole = whole.removeprefix("''")
    return whole.removesuffix("''") if text[-1:] == "'" else whole


def inside_quotes(text: str) -> str:
    """Return the text as it stands between two single quotes."""
    if text.isascii():
        if "'" not in text:
            return text
        return _APOSTROPHES.sub(_doubly, text)
    pieces = _APOSTROPHES.split(text)
    runs = map(_doubly, _APOSTROPHES.finditer(text))
    return "".join(a + b for a, b in zip_longest(map(_apart, pieces), runs, fillvalue=""))


def _doubly(run: re.Match[str]) -> str:
    return f"'\"{run[0]}\"'"


def _apart(piece: str) -> str:
    """Keep what would hide the quote after the piece apart from what comes before it."""
    if _HARMLESS.search(piece) or not hides_end(piece[_begin(piece) :]):
        return piece
    if not hides_end(piece[-1]):
        return f"{_apart(piece[:-1])}''{piece[-1]}"
    data = encode(piece[-1])  # EUC-TW finds the first of its bytes inside
    return f"{piece[:-1]}{decode(data[:-1])}''{decode(data[-1:])}"


def _begin(piece: str) -> int:
    """Return from where on to look: four bytes below 0x80 end every character before them."""
    run = 0
    for i in range(len(piece) - 1, -1, -1):
        run = run + 1 if piece[i].isascii() else 0
        if run == 4:
            return i + 4
    return 0
