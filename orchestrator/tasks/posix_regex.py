r"""What Perl's and Python's regular expressions have, and POSIX's extended ones do not.

grep takes most of it for something else, without a word: ``\d`` for the letter d.
"""

from __future__ import annotations

import re

from orchestrator.model.regex import regex

_KNOWN = frozenset("wWsSbB123456789")
"""The letters and digits that GNU's and busybox's grep know behind a backslash."""

_ESCAPES = {
    "d": "write [0-9]",
    "D": "write [^0-9]",
    "t": "write [[:blank:]]",
    "h": "write [[:blank:]]",
    "r": "a line is matched without its end",
    "n": "a line is matched without its end",
    "A": "write ^",
    "Z": "write $",
    "z": "write $",
}
_SETS = {"d": "0-9", "w": "[:alnum:]_", "s": "[:space:]"}
_GROUPS = {
    ":": "write ( alone",
    "i": "write both letters, such as [Aa]",
    "=": "nothing looks ahead",
    "!": "nothing looks ahead; for lines that do not match, write two steps",
    "<": "write ( alone, and what is to match",
    "P": "write ( alone: groups have no names",
}
_BRACKETS = regex(r"\[\^?\]?")
_INTERVAL = regex(r"\{[0-9]*,?[0-9]*\}")


def not_posix(text: str) -> str:
    """What the first thing is that POSIX does not have, and what to write instead, as the end of a
    sentence that begins with "which"; '' where all is well, or a mistake that grep tells."""
    at, quantifier = 0, ""
    while at < len(text):
        char, behind = text[at], text[at + 1 : at + 2]
        if char in "?+" and quantifier:
            return f"has no {quantifier}{char}: leave out the {char}"
        quantifier = char if char in "*+?" and at else ""
        if char == "\\" and behind.isascii() and behind.isalnum() and behind not in _KNOWN:
            return f"has no \\{behind}: {_ESCAPES.get(behind, 'write what it stands for')}"
        if char == "(" and behind == "?":
            kind = text[at + 2 : at + 3]
            return f"has no (?{kind}: {_GROUPS.get(kind, 'write it without')}"
        if char == "[":
            end = _set_end(text, at)
            found = re.search(r"(?<!\\)\\([dDwWsS])", text[at:end])
            if found:
                instead = _SETS.get(found[1], "what it stands for")
                return f"has no {found[0]} between brackets: write {instead}"
            at = end
        elif char == "{" and (interval := _INTERVAL.match(text, at)):
            quantifier, at = "}", interval.end()
        else:
            at += 2 if char == "\\" else 1
    return ""


def _set_end(text: str, at: int) -> int:
    """Where the characters between brackets that begin there have ended; the text's end where
    they never do."""
    start = _BRACKETS.match(text, at)
    at = start.end() if start else at + 1
    while at < len(text) and text[at] != "]":
        kind = text[at + 1 : at + 2]
        if text[at] == "[" and kind and kind in ":.=":
            closed = text.find(f"{kind}]", at + 2)
            at = closed + 2 if closed >= 0 else len(text)
        else:
            at += 1
    return min(at + 1, len(text))
