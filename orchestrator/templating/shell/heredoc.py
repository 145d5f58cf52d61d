"""Here-documents: detection of their end, line by line.

The shells search a body for its delimiter before (bash) or while (dash, busybox) they expand its
content. Inside ``$(…)`` bash takes a line that begins with the delimiter for the end if a ``)``
follows (tested with 5.2), and before 5.0 whatever follows. Where they differ, a doubt is noted.
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
    """Follow the document's lines over more text; return a doubt, or ''.

    ``nested``: the text is in a construct opened inside the document.
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
    """Return whether the line that ends here is the delimiter, and a doubt, or ''."""
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
    """Note that the line contains a value; whether it forms the delimiter is checked later."""
    frame.lines = frozenset({(HeredocLineState.OTHER, "")})
