"""Rows in aligned columns that fit the terminal without losing a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.sanitize import to_one_line
from orchestrator.output.text_width import display_width, pad_text, wrap_text

_COLUMN_GAP = "  "
_INDENT = 4
_MIN_LAST_WIDTH = 20

PaintFunction: TypeAlias = Callable[[int, int, str], str]


class TableColumn(Struct, frozen=True):
    """A column. If ``width`` is short, columns are dropped by descending ``drop``, but never 0.

    Columns with the same number are dropped together.
    """

    title: str
    right: bool = False
    drop: int = 0


def table_lines(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None = None
) -> list[str]:
    """Return the heading and all rows as lines. See ``table_blocks``."""
    return [line for block in table_blocks(columns, rows, width) for line in block]


def table_blocks(
    columns: Sequence[TableColumn],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    paint: PaintFunction | None = None,
) -> list[list[str]]:
    """Return the lines of the heading, then those of each row, within ``width`` columns.

    ``width`` is None for any width. Columns that are empty in every row are left out. If the width
    is too small, columns with ``drop`` go first; then the last column is wrapped, and if there is
    no room even for that, it is put below the others. A first column that is wider than the table
    is wrapped as well. ``paint`` is called with row (-1 for the heading), column and the padded
    text. No line ends in a space.
    """
    texts = [[to_one_line(cell) for cell in row] for row in rows]
    shown = [i for i in range(len(columns)) if any(row[i] for row in texts)] or [0]
    texts.insert(0, [column.title for column in columns])
    sizes = [max(display_width(row[i]) for row in texts) for i in range(len(columns))]
    if width is not None:
        _drop_columns(columns, shown, sizes, width)
    shape = _TableLayout(columns, shown, sizes, width, paint)
    return [shape.row_lines(number, row) for number, row in enumerate(texts, -1)]


def _drop_columns(
    columns: Sequence[TableColumn], shown: list[int], sizes: list[int], width: int
) -> None:
    """Remove columns from ``shown`` until the rest fits or no more may be dropped."""
    while _needed_width(shown, sizes) > width:
        highest = max(columns[i].drop for i in shown)
        if not highest:
            return
        shown[:] = [i for i in shown if columns[i].drop != highest]


def _needed_width(shown: Sequence[int], sizes: Sequence[int]) -> int:
    last = min(sizes[shown[-1]], _MIN_LAST_WIDTH) if len(shown) > 1 else 0
    return sum(sizes[i] + len(_COLUMN_GAP) for i in shown[:-1]) + last


class _TableLayout(Struct, frozen=True):
    columns: Sequence[TableColumn]
    shown: Sequence[int]
    sizes: Sequence[int]
    width: int | None
    paint: PaintFunction | None

    def row_lines(self, number: int, row: Sequence[str]) -> list[str]:
        """Return one row: on one line if it fits, else wrapped."""
        *fixed, last = self.shown
        start = sum(self.sizes[i] + len(_COLUMN_GAP) for i in fixed)
        if self.width is None or start + display_width(row[last]) <= self.width:
            return [self._joined_line(number, row, self.shown)]
        if not fixed:
            return self._wrapped_cell(number, last, row[last], 0)
        if start + min(_MIN_LAST_WIDTH, self.sizes[last]) <= self.width:
            body = self._wrapped_cell(number, last, row[last], start)
            return [self._joined_line(number, row, fixed, start) + body[0].lstrip(" "), *body[1:]]
        below = self._wrapped_cell(number, last, row[last], _INDENT) if row[last] else []
        if start - len(_COLUMN_GAP) <= self.width:
            return [self._joined_line(number, row, fixed), *below]
        return [*self._stacked_lines(number, row, fixed), *below]

    def _stacked_lines(self, number: int, row: Sequence[str], fixed: Sequence[int]) -> list[str]:
        """Return the first cell on lines of its own, with the others below it.

        The others are on one line if it fits, else on lines of their own.
        """
        lines = self._wrapped_cell(number, fixed[0], row[fixed[0]], 0)
        rest = [i for i in fixed[1:] if row[i]]
        if _INDENT + sum(self.sizes[i] + len(_COLUMN_GAP) for i in fixed[1:]) <= (self.width or 0):
            joined = self._joined_line(number, row, fixed[1:])
            return [*lines, *([" " * _INDENT + joined] if joined else [])]
        for i in rest:
            lines += self._wrapped_cell(number, i, row[i], _INDENT)
        return lines

    def _joined_line(
        self, number: int, row: Sequence[str], which: Sequence[int], fill: int = 0
    ) -> str:
        if not fill:
            filled = [i for i in which if row[i]]
            which = which[: list(which).index(filled[-1]) + 1] if filled else ()
        line = ""
        for i in which:
            text = pad_text(row[i], self.sizes[i], right=self.columns[i].right)
            last = not fill and i == which[-1]
            line += self._painted_text(number, i, text.rstrip() if last else text) + (
                "" if last else _COLUMN_GAP
            )
        return line

    def _wrapped_cell(self, number: int, column: int, text: str, indent: int) -> list[str]:
        room = max((self.width or 0) - indent, 8)
        return [
            " " * indent + self._painted_text(number, column, part)
            for part in wrap_text(text, room)
        ]

    def _painted_text(self, number: int, column: int, text: str) -> str:
        return self.paint(number, column, text) if self.paint else text
