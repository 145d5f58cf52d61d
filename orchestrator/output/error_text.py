"""Errors as a person reads them: what, where with the line itself, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.errors import Mark, Problem, excerpt
from orchestrator.model.sanitize import visible
from orchestrator.output.console import BOLD, CYAN, RED, Out

_PLACES = 5


def problems_text(problems: Sequence[Problem], out: Out) -> str:
    """All problems, those that differ only in their place as one; several with their count.

    ``out`` is where the text will go: it decides on colour. The text has no final newline.
    """
    places: dict[tuple[str, str], dict[Mark, None]] = {}
    for problem in problems:
        marks = places.setdefault((problem.what, problem.hint), {})
        if problem.mark is not None:
            marks[problem.mark] = None
    found = [
        "\n".join(_one(what, hint, list(marks), out)) for (what, hint), marks in places.items()
    ]
    if len(found) > 1:
        found.append(f"{len(found)} errors")
    return ("\n\n" if len(found) > 1 else "\n").join(found)


def _one(what: str, hint: str, marks: Sequence[Mark], out: Out) -> Iterator[str]:
    first, *more = visible(what).split("\n")
    yield f"{out.paint('error:', RED)} {out.paint(first, BOLD)}"
    yield from (f"  {line}" for line in more)
    for number, mark in enumerate(marks[:_PLACES]):
        yield f"  {out.paint('-->', CYAN)} {visible(str(mark))}"
        shown = "" if number else visible(excerpt(mark))
        yield from shown.split("\n") if shown else ()
    if len(marks) > _PLACES:
        yield f"  … and {len(marks) - _PLACES} more places"
    for number, line in enumerate(visible(hint).split("\n") if hint else ()):
        yield f"      {line}" if number else f"{out.paint('help:', CYAN)} {line}"
