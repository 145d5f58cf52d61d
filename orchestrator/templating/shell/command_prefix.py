"""Splitting of a command's beginning, before an expression, into words."""

from __future__ import annotations

import re

from orchestrator.model.lazy_regex import lazy_regex

VALUE_CHAR = "\x1a"
"""Replaces every character of an expression, which keeps offsets valid."""

_TEMPLATE = lazy_regex(r"""\{\{(?:'[^']*'|"[^"]*"|(?!\}\}).)*+(?:\}\}|$)|\{%.*?%\}""", re.S)
_PIECE = lazy_regex(
    r"""(?P<gap>\s+)|(?P<to>[0-9]*(?:&>>?|<<<|<<-?|>>|[<>]&|>\||<>|[<>]))|'(?P<one>[^']*)'?"""
    r"""|"(?P<two>(?:\\.|[^"\\])*)"?|(?P<inner>\$\((?:[^()]|\([^()]*\))*\))|\\(?P<escaped>.)"""
    r"""|(?P<plain>[^\s'"\\<>$]+|.)""",
    re.S,
)
_ASSIGNMENT = lazy_regex(rf"[A-Za-z_{VALUE_CHAR}][A-Za-z0-9_{VALUE_CHAR}]*=")


def mask_templates(source: str) -> str:
    """Return the text with expressions as ``VALUE_CHAR`` characters and ``{% … %}`` as blanks."""
    return _TEMPLATE.sub(lambda m: (VALUE_CHAR if m[0][1] == "{" else " ") * len(m[0]), source)


def split_prefix(text: str) -> tuple[list[str], str] | None:
    """Return the complete words, unquoted and without redirections, and the unfinished last word.

    Return None if the unfinished word is the target of a redirection.
    """
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


def command_words(words: list[str]) -> list[str]:
    """Return the words from the command's name on."""
    first = next((i for i, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    return words[first:]
