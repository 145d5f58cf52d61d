"""What the regions and gathers of a program mean for each of its steps, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.plan.model import Program, Region


def notes(program: Program) -> Mapping[int, tuple[str, ...]]:
    """By number, what is to be said of a step: that it is a rescue, that it runs always, that
    failures are ignored from it on, that a name for several results ends with it."""
    found: dict[int, list[str]] = {}
    places = {step.number: step.mark for step in program.steps}

    def add(number: int, text: str) -> None:
        found.setdefault(number, []).append(text)

    even: dict[int, set[int]] = {}
    loop: dict[int, set[int]] = {}
    for region in program.regions:
        for number in range(region.body, region.rescue):
            add(number, f"rescue: runs only if {_any_of(range(region.start, region.body))} fails")
        # the items of a loop are the same step again, and not its `always`
        again = places.get(region.start) == places.get(region.rescue)
        for number in range(region.rescue, region.end):
            into = loop if again else even
            into.setdefault(number, set()).update(range(region.start, region.rescue))
        if _ignores(region):
            add(region.start, _ignored(range(region.start, region.end)))
    for number, others in even.items():
        add(number, f"always: runs even if {_any_of(others)} fails")
    for number, others in loop.items():
        add(number, f"runs even if {_any_of(others)} fails")
    for gather in program.gathers:
        if numbers := [n for _, start, end in gather.parts for n in range(start, end)]:
            what = "step" if len(numbers) == 1 else "steps"
            add(numbers[-1], f"the result of {what} {spans(numbers)} is `{gather.name}`")
    return {number: tuple(texts) for number, texts in found.items()}


def spans(numbers: Iterable[int]) -> str:
    """``1-3, 5``."""
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in _runs(numbers))


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    yield from runs


def _any_of(numbers: Iterable[int]) -> str:
    which = list(numbers)
    return f"step {which[0]}" if len(which) == 1 else f"one of steps {spans(which)}"


def _ignores(region: Region) -> bool:
    return region.forgives and region.body == region.end


def _ignored(numbers: range) -> str:
    if len(numbers) == 1:
        return "its failure is ignored"
    return f"a failure of steps {spans(numbers)} is ignored"
