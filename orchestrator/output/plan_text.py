"""What the regions and gathers of a program mean for each of its steps, in words.

A plan in full, for people: equal text folded over hosts. For programs see ``plan_json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from orchestrator.model.host_folding import fold
from orchestrator.model.sanitize import one_line
from orchestrator.output.console import BOLD, CYAN, DIM, YELLOW, Out
from orchestrator.output.plan_json import plan_json
from orchestrator.output.plan_step import Mask, StepLines, same
from orchestrator.output.text_width import cells, wrap
from orchestrator.planner.plan import Lane, Plan, PlannedStep, Program, Region, Wave


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


__all__ = ["plan_json", "plan_lines"]

Key: TypeAlias = tuple[object, ...]
_Programs: TypeAlias = Callable[[Wave], Iterable[tuple[str, Program]]]


def plan_lines(plan: Plan, out: Out, mask: Mask = str) -> Iterator[str]:
    """The plan as lines: lanes, their waves with the hosts, each step's exact text; what undoes
    a wave; what runs when a task fails.

    Text stands behind a margin ``|``, a guard that must succeed first behind ``?``, standard
    input behind ``<``, values that are set behind ``=``. None of that is wrapped; control
    characters are made visible (``plan_json`` has them as they are). What is said about it
    keeps to ``out.width``. ``mask`` hides secrets in any text.
    """
    hosts = f"{len(plan.hosts)} host{'' if len(plan.hosts) == 1 else 's'}"
    about = f"stage {plan.stage}, {' '.join(plan.tasks)} on {hosts}"
    yield out.paint(one_line(mask(f"plan {plan.run}: {about}")), BOLD)
    for warning in plan.warnings:
        yield out.paint(one_line(mask(f"warning: {warning}")), YELLOW)
    for lane in plan.lanes:
        yield from _Lines(lane, out, mask).lines()
    if not any(lane.waves for lane in plan.lanes):
        yield "nothing to do"
    elif not plan.changes:
        yield out.paint("nothing in it changes a host", DIM)


class _Lines:
    """The lines of one lane."""

    def __init__(self, lane: Lane, out: Out, mask: Mask) -> None:
        self.lane, self.out, self.mask = lane, out, mask

    def lines(self) -> Iterator[str]:
        if self.lane.app is not None:
            yield ""
            yield self.out.paint(one_line(f"app {self.lane.app}"), BOLD)
        yield from self._waves(self.lane.waves)
        for task, waves in self.lane.failed:
            if waves:
                yield ""
                yield self.out.paint(one_line(f"if {task} fails:"), BOLD)
                yield from self._waves(waves)

    def _waves(self, waves: Iterable[Wave]) -> Iterator[str]:
        for number, wave in enumerate(waves, 1):
            yield ""
            title = self.out.paint(one_line(f"{number}. {wave.task}"), BOLD)
            if wave.commit:
                hosts = one_line(fold(wave.commits.hosts)) if wave.commits else ""
                yield f"{title}: from here on a failure no longer rolls back {hosts}".rstrip()
            else:
                yield from self._heading(wave, title)
            for row in self._wrapped(", ".join(_about(wave)), 3):
                yield f"   {self.out.paint(row, DIM)}"
            yield from self._steps(wave, lambda w: ((h.host, h.program) for h in w.hosts), "   ")
            if any(host.rollback.steps for host in wave.hosts):
                yield "   rollback, should the run fail before a commit:"
                yield from self._steps(
                    wave, lambda w: ((h.host, h.rollback) for h in w.hosts), "     "
                )

    def _heading(self, wave: Wave, title: str) -> Iterator[str]:
        """The task on its hosts; what it is for stands beside that, or below."""
        names = one_line(fold(host.host for host in wave.hosts)) or "no hosts"
        desc = one_line(self.mask(wave.desc))
        beside = f"{title} on {names}" + (f"  {self.out.paint(desc, DIM)}" if desc else "")
        taken = cells(f"000. {wave.task} on {names}  {desc}")
        if not desc or self.out.width is None or taken <= self.out.width:
            yield beside
            return
        yield f"{title} on {names}"
        for row in self._wrapped(desc, 3):
            yield f"   {self.out.paint(row, DIM)}"

    def _steps(self, wave: Wave, programs: _Programs, indent: str) -> Iterator[str]:
        """Each step once, with the hosts for which it is the same."""
        groups: dict[Key, tuple[PlannedStep, tuple[str, ...], list[str]]] = {}
        for host, program in programs(wave):
            known = notes(program)
            for step in program.steps:
                said = known.get(step.number, ())
                groups.setdefault((same(step), said), (step, said, []))[2].append(host)
        lines = StepLines(self.out, self.mask, indent + "   ")
        for step, said, hosts in sorted(groups.values(), key=lambda group: group[0].number):
            names = "" if len(hosts) == len(wave.hosts) else f"  on {one_line(fold(hosts))}"
            name = self.out.paint(one_line(self.mask(step.name)), CYAN)
            yield f"{indent}{step.number}  {name}{names}"
            yield from lines.of(step, said)

    def _wrapped(self, text: str, indent: int) -> list[str]:
        text = one_line(self.mask(text))
        return wrap(text, self.out.width - indent if self.out.width else len(text)) if text else []


def _about(wave: Wave) -> Iterator[str]:
    """What is said of a wave besides its task and hosts."""
    kind, _, hooked = wave.hook.partition(" ")
    above = [name for name in wave.within if name not in (wave.task, hooked)]
    if kind in ("before", "after"):
        yield wave.hook
    if above and kind != "failed":
        yield f"in {' › '.join(above)}"
    if wave.batch:
        yield f"batch {wave.batch}"
    if wave.once:
        yield "once, on the first of these that can be reached" if wave.anyone else "once"
    if wave.tolerance is not None:
        most = wave.tolerance.most
        over = " in all batches" if wave.batch else ""
        yield f"at most {most} host{'' if most == 1 else 's'} may fail{over}"
