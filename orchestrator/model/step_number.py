"""The numbers of a task's steps on one host: 1, 2, 3, …

A loop whose items only a result tells is one step until then. What it unfolds into has numbers of
its own, far behind, since those of the steps after it are taken. Shown are the loop's number and
the place within: 2.1, 2.2, …
"""

from __future__ import annotations

MAX_LOOP_STEPS = 100_000
"""How many steps one loop over a result may unfold into."""


def first_number_in_loop(number: int) -> int:
    """Return the number of the first step that the loop with this number unfolds into."""
    return number * MAX_LOOP_STEPS


def number_parts(number: int) -> tuple[int, ...]:
    """Return a step's number, or the loop's with the places, from 1 on, within it and within the
    loops in that."""
    if number < MAX_LOOP_STEPS:
        return (number,)
    return (*number_parts(number // MAX_LOOP_STEPS), number % MAX_LOOP_STEPS + 1)


def number_label(number: int) -> str:
    """Return the number as it is shown: ``2``, or ``2.1``."""
    return ".".join(map(str, number_parts(number)))


def number_fields(number: int) -> dict[str, int | str]:
    """Return the number for programs: ``step``, and ``substep`` (as text) within a loop over a
    result."""
    if number < MAX_LOOP_STEPS:
        return {"step": number}
    step, *within = number_parts(number)
    return {"step": step, "substep": ".".join(map(str, within))}
