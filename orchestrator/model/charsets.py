"""Multi-byte character sets in which a byte below 0x80 can be part of a longer character.

bash marks the bytes of each line it reads that belong to a multi-byte character of its locale, and
treats none of them as a quote or an operator (parse.y, set_line_mbstate). UTF-8 text is then split
into other characters: in SHIFT_JIS 0x81 0x5C is one character, so ``\\`` after 0x81 is no longer a
backslash; in GB18030 and EUC-TW mbrlen(3) waits for the fourth byte of a sequence that cannot
become a character, and skips even a quote. dash and busybox process bytes only.

The tables are the results of mbrlen(3) of glibc 2.36 for every charmap with an <mb_cur_max> above
1. EUC-JP, EUC-KR, EUC-JISX0213, GB2312 and UTF-8 need none, because every byte of their multi-byte
characters is above 0x7F. In CP949 the other bytes are letters, which have no meaning to a shell.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.model.text_encoding import encode_text


class Charset(NamedTuple):
    """The bytes of one character set.

    ``leads`` start a character of several bytes, ``trails`` end one of two bytes; ``long_leads``
    and ``long_seconds`` are the first and second bytes of characters of four bytes. ``expands`` is
    for the way in which bash expands a word, where it reads characters from any position: any byte
    above 0x7F may then be the first of two.
    """

    leads: frozenset[int]
    trails: frozenset[int]
    long_leads: frozenset[int] = frozenset()
    long_seconds: frozenset[int] = frozenset()
    expands: bool = False


def _byte_set(*ranges: tuple[int, int]) -> frozenset[int]:
    return frozenset(byte for first, last in ranges for byte in range(first, last + 1))


_TRAIL_BYTES = _byte_set((0x40, 0x7E), (0x80, 0xFE))
CHARSETS = (
    Charset(_byte_set((0x81, 0x9F), (0xE0, 0xEA)), _TRAIL_BYTES),  # SHIFT_JIS
    Charset(_byte_set((0x81, 0x9F), (0xE0, 0xFC)), _TRAIL_BYTES),  # WINDOWS-31J, SHIFT_JISX0213
    Charset(_byte_set((0xA1, 0xF9)), _TRAIL_BYTES),  # BIG5
    Charset(_byte_set((0x81, 0xFE)), _TRAIL_BYTES),  # GBK, BIG5-HKSCS
    Charset(  # JOHAB
        _byte_set((0x84, 0xD3), (0xD9, 0xDE), (0xE0, 0xF9)), _byte_set((0x31, 0x7E), (0x80, 0xFE))
    ),
    Charset(  # GB18030
        _byte_set((0x81, 0xFE)), _TRAIL_BYTES, _byte_set((0x81, 0xFE)), _byte_set((0x30, 0x39))
    ),
    Charset(  # EUC-TW
        _byte_set((0x8E, 0x8E), (0xA1, 0xFE)),
        _byte_set((0xA1, 0xFE)),
        _byte_set((0x8E, 0x8E)),
        _byte_set((0xA1, 0xB0)),
    ),
    Charset(_byte_set((0x80, 0xFF)), _byte_set((0x40, 0x7E)), expands=True),
)

Unfinished = tuple[bytes, ...]
"""For each of ``CHARSETS`` the bytes of a character that is incomplete so far."""

NO_BYTES: Unfinished = (b"",) * len(CHARSETS)


def may_swallow(unfinished: Unfinished, char: str) -> bool:
    """Return True if a shell may read this ASCII character as part of a longer character."""
    byte = ord(char)
    return any(
        (
            len(unfinished_char) == 1
            and byte in (*charset.trails, *_second_bytes(charset, unfinished_char[0]))
        )
        or len(unfinished_char) == 2
        for charset, unfinished_char in zip(CHARSETS, unfinished, strict=True)
    )


def may_swallow_next(text: str) -> bool:
    """Return True if a shell may read some ASCII character after the text as part of another."""
    data = encode_text(text[-2:])[-2:]
    return any(
        len(data) == 2
        and data[1] in _second_bytes(charset, data[0])
        and len(_unfinished_bytes(charset, encode_text(text))) == 2
        for charset in CHARSETS
    )


def unfinished_after(unfinished: Unfinished, text: str) -> Unfinished:
    """Return the incomplete characters at the end of ``text``; a newline ends all of them."""
    line = text.rpartition("\n")
    if line[1]:
        unfinished = NO_BYTES
    if unfinished == NO_BYTES and line[2].isascii():
        return NO_BYTES
    data = encode_text(line[2])
    return tuple(
        _unfinished_bytes(charset, unfinished_char + data)
        for charset, unfinished_char in zip(CHARSETS, unfinished, strict=True)
    )


def _unfinished_bytes(charset: Charset, data: bytes) -> bytes:
    """Return the end of ``data`` that starts an incomplete character."""
    i, size, leads = 0, len(data), charset.leads
    while i < size:
        begin = i
        if data[i] not in leads:
            i += 1
            continue
        following = data[i + 1 : i + 2]
        if not following:
            return data[begin:]
        if following[0] in _second_bytes(charset, data[i]):
            i += 4
        else:  # an invalid sequence also makes bash skip both bytes
            i += 1 if charset.expands and following[0] in leads else 2
    return data[begin:] if i > size else b""


def _second_bytes(charset: Charset, lead: int) -> frozenset[int]:
    return charset.long_seconds if lead in charset.long_leads else frozenset()
