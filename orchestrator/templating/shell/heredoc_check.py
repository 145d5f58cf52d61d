"""Detection of values that end a here-document, in the finished text.

Only the finished text shows it: a line may consist of several values and the text between them.
Values in here-documents are delimited by NUL characters, which no text contains.
"""

from __future__ import annotations

from orchestrator.model.text_encoding import repr_text
from orchestrator.templating.shell.lexer_state import HereDocument
from orchestrator.templating.shell.placeholders import Placeholder
from orchestrator.templating.value_text import UnusableValueError


def mark_value(index: int, text: str) -> str:
    """Return the text of the placeholder ``index`` with delimiters for ``check_documents``."""
    return f"\0{index}\0{text}\0"


def check_documents(
    marked: str, placeholders: list[Placeholder]
) -> tuple[str, Placeholder | None, UnusableValueError | None]:
    """Return the text without delimiters, and the placeholder and error of an invalid value.

    Placeholder and error are None if all values are valid.
    """
    parts = marked.split("\0")
    spans: list[tuple[int, int, Placeholder]] = []
    clean: list[str] = []
    size = 0
    for literal, number, value in zip(
        parts[0::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True
    ):
        clean += (literal, value)
        size += len(literal)
        if number:
            spans.append((size, size + len(value), placeholders[int(number)]))
        size += len(value)
    text = "".join(clean)
    for start, end, placeholder in spans:
        for document in placeholder.documents:
            what = _document_error(text, start, end, document)
            if what:
                return text, placeholder, what
    return text, None, None


def _document_error(
    text: str, start: int, end: int, document: HereDocument
) -> UnusableValueError | None:
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    last = len(text) if last < 0 else last
    lines = text[first:last].split("\n")
    if document.quoted and document.inside and any(map(_is_continued, lines)):
        what = "a line ends in a backslash, and bash 4 joins it to the next one in `$(…)`"
        return UnusableValueError(what, "write the delimiter without quotes")
    if not document.quoted:
        lines += _joined_lines(text, first, lines)
    for line in lines:
        plain = line.lstrip("\t") if document.strip else line
        begins = document.inside and plain.startswith(document.delimiter)
        if plain == document.delimiter or begins:
            what = f"with the value, this line would end the here-document: {repr_text(plain)}"
            return UnusableValueError(what, "choose a delimiter that no value contains")
        if _dash_loses_line(plain, document.delimiter):
            what = f"dash loses a byte of this line of the here-document: {repr_text(plain)}"
            return UnusableValueError(
                what, "choose a delimiter that does not begin like a line of the value"
            )
    if document.strip and _is_stripped(text, start, end):
        what = "a line of the value begins with a tab, which a `<<-` here-document removes"
        return UnusableValueError(what, "write `<<`")
    return None


def _dash_loses_line(line: str, delimiter: str) -> bool:
    """Return True if a non-ASCII byte follows the common beginning of line and delimiter.

    dash 0.5.12 takes such a byte for the end of its input while it compares them (tested).
    """
    pairs = enumerate(zip(line, delimiter, strict=False))
    alike = next((n for n, (a, b) in pairs if a != b), min(len(line), len(delimiter)))
    return 0 < alike < len(line) and not line[alike].isascii()


def _joined_lines(text: str, first: int, lines: list[str]) -> list[str]:
    """Return the lines as bash reads them: continued lines are joined.

    The first line may continue lines before it.
    """
    before = text[:first].split("\n")[:-1]
    whole = list(lines)
    while before and _is_continued(before[-1]):
        whole.insert(0, before.pop())
    joined: list[str] = [""]
    for line in whole:
        if _is_continued(line):
            joined[-1] += line[:-1]
        else:
            joined[-1] += line
            joined.append("")
    return joined


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _is_stripped(text: str, start: int, end: int) -> bool:
    at = start
    while at < end:
        begins = text.rfind("\n", 0, at) + 1
        if text[at] == "\t" and not text[begins:at].strip("\t"):
            return True
        following = text.find("\n", at, end)
        if following < 0:
            return False
        at = following + 1
    return False
