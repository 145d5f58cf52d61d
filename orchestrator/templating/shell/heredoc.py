"""Here-documents: where they end, line by line.

The shells read a body for its delimiter before (bash) or while (dash, busybox) they look at
what it holds. Inside ``$(…)`` bash takes a line that begins with the delimiter for the end if a
``)`` follows (tried, 5.2), and before 5.0 whatever follows. What they read differently is a doubt
here, never a guess.
"""

from __future__ import annotations

from orchestrator.templating.shell.lexer_state import (
    NEW_LINE,
    HeredocLineState,
    HereDocument,
    LexerFrame,
    UnsafeShellError,
)


def follow_lines(frame: LexerFrame, piece: str, *, nested: bool) -> str:
    """Follow the document's lines over more text; what the shells differ about, or ''.

    ``nested``: the text stands in something open inside the document.
    """
    document = frame.document
    assert document
    doubt, i = "", 0
    while i < len(piece):
        char = piece[i]
        i += 1
        if char == "\n":
            if nested and any(text == document.delimiter for _, text in frame.lines):
                doubt = "its delimiter, inside something open in the document"
            frame.lines = NEW_LINE
        elif char == "\\" and not document.quoted and piece[i : i + 1] == "\n":
            frame.lines = frozenset({(HeredocLineState.JOINED, "")})
            i += 1
        else:
            frame.lines = frozenset(_advance_line(document, *line, char) for line in frame.lines)
            if document.inside and any(line is HeredocLineState.LONGER for line, _ in frame.lines):
                doubt = "a line that begins with its delimiter"
    return doubt


def _advance_line(
    document: HereDocument, line: HeredocLineState, text: str, char: str
) -> tuple[HeredocLineState, str]:
    if line in (HeredocLineState.OTHER, HeredocLineState.LONGER):
        return line, ""
    if document.strip and not text and char == "\t":
        return line, text
    if document.delimiter.startswith(text + char):
        return line, text + char
    return (HeredocLineState.LONGER if text == document.delimiter else HeredocLineState.OTHER), ""


def match_delimiter(frame: LexerFrame, offset: int) -> tuple[bool, str]:
    """Whether the line that ends here is the delimiter, and what the shells differ about."""
    document = frame.document
    assert document
    whole = {line for line, text in frame.lines if text == document.delimiter}
    if HeredocLineState.JOINED in whole:
        return False, "its delimiter right after a line that ends in a backslash"
    if whole and len(frame.lines) > 1:
        raise UnsafeShellError(
            f"whether this line is the here-document's end, '{document.delimiter}', "
            "depends on an `if` or `for`",
            offset,
            "put the end of a here-document on a line of its own, outside of `{% … %}`",
        )
    return bool(whole), ""


def mark_line_dynamic(frame: LexerFrame) -> None:
    """A value stands in the line: whether it makes the delimiter is seen when it is known."""
    frame.lines = frozenset({(HeredocLineState.OTHER, "")})
