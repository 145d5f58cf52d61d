"""Step numbers of a task on one host, starting at 1.

A loop over a pending result is one step until the result is known. Its expanded steps then get
their own, much higher numbers, since the next numbers are taken by the steps after it. They are
displayed as the loop's number and the position within it: 2.1, 2.2, …
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_LOOP_STEPS = 100_000
"""Limit of steps in one loop over a result."""


def first_number_in_loop(number: int) -> int:
    """Return the number of the first step that the loop with this number expands into."""
    return number * MAX_LOOP_STEPS


def number_parts(number: int) -> tuple[int, ...]:
    """Return a step's number, or a loop's number and the positions in it, from 1."""
    if number < MAX_LOOP_STEPS:
        return (number,)
    return (*number_parts(number // MAX_LOOP_STEPS), number % MAX_LOOP_STEPS + 1)


def number_label(number: int) -> str:
    """Return the number as it is displayed: ``2``, or ``2.1``."""
    return ".".join(map(str, number_parts(number)))


def number_from_label(label: str) -> int:
    """Return the number that ``number_label`` returned this text for. Raises ValueError."""
    first, *within = map(int, label.split("."))
    for part in within:
        first = first * MAX_LOOP_STEPS + part - 1
    return first


def number_from_fields(fields: Mapping[str, object]) -> int:
    """Return the number that ``number_fields`` returned these fields for. Raises ValueError."""
    number = int(str(fields["step"]))
    for part in str(fields["substep"]).split(".") if "substep" in fields else ():
        number = number * MAX_LOOP_STEPS + int(part) - 1
    return number


def number_fields(number: int) -> dict[str, int | str]:
    """Return the number as fields: ``step``, and ``substep`` (text) in a loop over a result."""
    if number < MAX_LOOP_STEPS:
        return {"step": number}
    step, *within = number_parts(number)
    return {"step": step, "substep": ".".join(map(str, within))}
