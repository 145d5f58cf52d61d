"""Redirections, and here-documents up to where they are announced."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.model.regex import regex
from orchestrator.templating.shelltext.boundaries import end_word
from orchestrator.templating.shelltext.state import Document, Kind, Refusal
from orchestrator.templating.shelltext.words import TESTS, Alt, Spot, Target, after_command, quoted

if TYPE_CHECKING:
    from orchestrator.templating.shelltext.lexer import Lexer


_MOST = 200
_DELIMITER = regex(r"""(?:[^\s'"\\$`;&|<>()]|\\[^\n]|'[^'\n]*'|"[^"$`\\\n]*")+(?=[\s;&|<>()]|\Z)""")


def redirect(lexer: Lexer, i: int, char: str) -> int:
    """Pass a ``<`` or ``>`` and what belongs to it."""
    for index in lexer.state.lone:
        lexer.places[index].bare = False  # else digits would name a descriptor
    text, j = lexer.text, lexer.skip(i + 1)
    following = text[j : j + 1]
    end_word(lexer, i, descriptor=following != "(")
    top = lexer.state.top
    if following == "(":
        top.alts = frozenset(quoted(alt) for alt in top.alts)
        frame = lexer.push(Kind.SUBSTITUTION, i)
        frame.begun, frame.process = lexer.at(j + 1), True
        return j + 1
    if char == "<" and following == "<":
        k = lexer.skip(j + 1)
        if text[k : k + 1] != "<":
            strip = text[k : k + 1] == "-"
            return _here(lexer, k + 1 if strip else j + 1, i, strip=strip)
        j = k
    in_test = all(alt.spot in TESTS for alt in top.alts)
    if not in_test:
        target = Target.COPY if following == "&" else Target.FILE
        top.alts = frozenset(Alt(alt.spot, target) for alt in top.alts)
    if following and following in ("<>&" if char == "<" else ">&|"):
        return j + 1
    lexer.end = char if j >= len(text) else ""
    return i + 1


def _here(lexer: Lexer, i: int, opened: int, *, strip: bool) -> int:
    """Note the here-document announced here; its delimiter begins after blanks."""
    text, state = lexer.text, lexer.state
    j = lexer.skip(i)
    while text[j : j + 1] in (" ", "\t"):
        j = lexer.skip(j + 1)
    if j >= len(text):
        lexer.end = "<<"
        return len(text)
    found = _DELIMITER.match(text, j)
    if not found:
        lexer.doubt("a here-document's delimiter that is no plain word", opened)
        return j
    word = found.group()
    inside = any(frame.kind is Kind.SUBSTITUTION for frame in state.frames)
    delimiter = re.sub(r"\\(.)|['\"]", r"\1", word)
    document = Document(delimiter, any(c in word for c in "\\'\""), strip, inside, lexer.at(opened))
    unit, top = state.unit(), state.top
    if inside and unit.pending:
        what = "a second here-document on a line in `$(…)`"
        why = "which bash before 5.2 does not find the end of"
        lexer.doubt(what, opened, why, "put the commands on lines of their own")
    if len(unit.pending) >= _MOST:
        raise Refusal(f"more than {_MOST} here-documents on one line", lexer.at(i))
    unit.pending += (document,)
    top.alts = frozenset(
        Alt(Spot.PREFIX if alt.spot is Spot.START else alt.spot) for alt in top.alts
    )
    lexer.end = "delimiter" if found.end() == len(text) else ""
    return found.end()


def both(lexer: Lexer, j: int) -> int:
    """``&>``: both streams to bash; to dash the command's end, and a redirection."""
    top = lexer.state.top
    spots = {alt.spot for alt in top.alts}
    spots |= {after_command(spot) for spot in spots}
    top.alts = frozenset(Alt(spot, Target.FILE) for spot in spots)
    k = lexer.skip(j + 1)
    lexer.end = "&>" if k >= len(lexer.text) else ""
    return k + 1 if lexer.text[k : k + 1] == ">" else j + 1
