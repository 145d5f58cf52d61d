"""The width of sanitized text on a terminal.

rich's tables are loaded only for text that is not ASCII: most runs never need them.
"""

from __future__ import annotations


def display_width(text: str) -> int:
    """Return how many columns the text takes; a tab counts as one."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def pad_text(text: str, width: int, *, right: bool = False) -> str:
    """Return the text padded with spaces to ``width`` columns, on the left if ``right``."""
    blank = " " * (width - display_width(text))
    return blank + text if right else text + blank


def truncate_text(text: str, width: int) -> str:
    """Return the text in at most ``width`` columns; an ellipsis replaces what is cut."""
    if display_width(text) <= width:
        return text
    return _fitting_head(text, width - 1) + "…" if width > 0 else ""


def wrap_text(text: str, width: int) -> list[str]:
    """Return the text in lines of at most ``width`` columns, broken at spaces if possible.

    Only the spaces at the breaks are dropped.
    """
    rows = [""]
    for word in text.split(" "):
        joined = f"{rows[-1]} {word}" if rows[-1] else word
        if len(joined) <= width * 2 and display_width(joined) <= width:
            rows[-1] = joined
        else:
            rows += _split_word(word, width)
    return [row for row in rows if row] or [""]


def _split_word(word: str, width: int) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        piece = _fitting_head(word[start : start + max(width, 1)], width) or word[start]
        pieces.append(piece)
        start += len(piece)
    return pieces


def _fitting_head(text: str, width: int) -> str:
    """Return the longest beginning of the text that fits."""
    end = min(len(text), max(width, 0))
    while end and display_width(text[:end]) > width:
        end -= 1
    return text[:end]
