"""Display of errors: message, position with the source line, and hint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.errors import Diagnostic, SourcePosition, source_excerpt
from orchestrator.model.sanitize import show_controls
from orchestrator.output.console import BOLD, CYAN, RED, TextConsole

_MAX_POSITIONS = 5


def problems_text(problems: Sequence[Diagnostic], out: TextConsole) -> str:
    """Return all problems as text; those that differ only in their position are merged.

    Several problems are followed by their count. ``out`` is the destination, which determines
    colour. The text has no final newline.
    """
    marks_by_text: dict[tuple[str, str], dict[SourcePosition, None]] = {}
    for problem in problems:
        marks = marks_by_text.setdefault((problem.message, problem.hint), {})
        if problem.mark is not None:
            marks[problem.mark] = None
    found = [
        "\n".join(_problem_lines(what, hint, list(marks), out))
        for (what, hint), marks in marks_by_text.items()
    ]
    if len(found) > 1:
        found.append(f"{len(found)} errors")
    return ("\n\n" if len(found) > 1 else "\n").join(found)


def _problem_lines(
    what: str, hint: str, marks: Sequence[SourcePosition], out: TextConsole
) -> Iterator[str]:
    first, *more = show_controls(what).split("\n")
    yield f"{out.paint('error:', RED)} {out.paint(first, BOLD)}"
    yield from (f"  {line}" for line in more)
    for number, mark in enumerate(marks[:_MAX_POSITIONS]):
        yield f"  {out.paint('-->', CYAN)} {show_controls(str(mark))}"
        shown = "" if number else show_controls(source_excerpt(mark))
        yield from shown.split("\n") if shown else ()
    if len(marks) > _MAX_POSITIONS:
        yield f"  … and {len(marks) - _MAX_POSITIONS} more places"
    for number, line in enumerate(show_controls(hint).split("\n") if hint else ()):
        yield f"      {line}" if number else f"{out.paint('help:', CYAN)} {line}"
