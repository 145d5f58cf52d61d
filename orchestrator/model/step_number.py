"""The numbers of a task's steps on one host: 1, 2, 3, …

A loop whose items only a result tells is one step until then. What it unfolds into has numbers of
its own, far behind, since those of the steps after it are taken. Shown are the loop's number and
the place within: 2.1, 2.2, …
"""

from __future__ import annotations

SPAN = 100_000
"""How many steps one loop over a result may unfold into."""


def first_within(number: int) -> int:
    """Return the number of the first step that the loop with this number unfolds into."""
    return number * SPAN


def parts(number: int) -> tuple[int, ...]:
    """Return a step's number, or the loop's with the places, from 1 on, within it and within the
    loops in that."""
    if number < SPAN:
        return (number,)
    return (*parts(number // SPAN), number % SPAN + 1)


def label(number: int) -> str:
    """Return the number as it is shown: ``2``, or ``2.1``."""
    return ".".join(map(str, parts(number)))


def fields(number: int) -> dict[str, int | str]:
    """Return the number for programs: ``step``, and ``substep`` (as text) within a loop over a
    result."""
    if number < SPAN:
        return {"step": number}
    step, *within = parts(number)
    return {"step": step, "substep": ".".join(map(str, within))}
