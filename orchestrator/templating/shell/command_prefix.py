"""The beginning of a command before an expression, taken apart into words."""

from __future__ import annotations

import re

from orchestrator.model.lazy_regex import regex

VALUE = "\x1a"
"""Stands for every character of an expression, so that offsets stay."""

_TEMPLATE = regex(r"""\{\{(?:'[^']*'|"[^"]*"|(?!\}\}).)*+(?:\}\}|$)|\{%.*?%\}""", re.S)
_PIECE = regex(
    r"""(?P<gap>\s+)|(?P<to>[0-9]*(?:&>>?|<<<|<<-?|>>|[<>]&|>\||<>|[<>]))|'(?P<one>[^']*)'?"""
    r"""|"(?P<two>(?:\\.|[^"\\])*)"?|(?P<inner>\$\((?:[^()]|\([^()]*\))*\))|\\(?P<escaped>.)"""
    r"""|(?P<plain>[^\s'"\\<>$]+|.)""",
    re.S,
)
_ASSIGNMENT = regex(rf"[A-Za-z_{VALUE}][A-Za-z0-9_{VALUE}]*=")


def masked(source: str) -> str:
    """Return the text with every expression as ``VALUE``s and every ``{% … %}`` as blanks."""
    return _TEMPLATE.sub(lambda m: (VALUE if m[0][1] == "{" else " ") * len(m[0]), source)


def split(text: str) -> tuple[list[str], str] | None:
    """Return the whole words, unquoted and without redirections, and what the last, unfinished
    one begins with; None if that one is the target of a redirection."""
    words: list[str] = []
    word: str | None = None
    target = False
    for piece in _PIECE.finditer(text):
        if piece["gap"] or piece["to"]:
            if word is not None and not target:
                words.append(word)
            target = bool(piece["to"]) or (target and word is None)
            word = None
        else:
            kind = piece.lastgroup or "plain"
            added = "" if piece["escaped"] == "\n" else piece[kind]
            word = (word or "") + added if added or kind != "escaped" else word
    return None if target else (words, word or "")


def named(words: list[str]) -> list[str]:
    """Return the words from the command's name on."""
    first = next((i for i, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    return words[first:]
