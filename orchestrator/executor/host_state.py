"""How far a host has come in a lane.

The way through a program: which step comes next, after a good end and after a failure.

Which step that a check did not run can be why a later one fails there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from orchestrator.model.command import Effects
from orchestrator.model.host import Host
from orchestrator.model.step_number import label
from orchestrator.model.step_result import Outcome, Row, Status, last_lines
from orchestrator.planner.host_scope import OWN, ended
from orchestrator.planner.plan import HERE, PlannedStep, Program, Region, Results

STDERR_LINES = 10


class Progress(Struct):
    """One host's way through one lane; its worker writes it, the lane reads it at barriers.

    ``made``: the names that got a result since the lane last emptied it. ``pending``: by task
    and name the handlers that were called for and not run, with what runs them. ``withheld``:
    the steps that a check did not run.
    """

    host: Host
    app: str | None
    status: Status | None = None
    reason: str = ""
    hint: str = ""
    stderr: str = ""
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED.values(), 0))
    results: dict[str, Any] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    pending: dict[tuple[str, str], str] = field(default_factory=dict)
    withheld: list[Withheld] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be done on this host."""
        return self.status is not None and self.status.bad

    @property
    def did(self) -> bool:
        """Whether any step of it ended on the host or on this side."""
        return any(self.counts[what] for what in ("ok", "changed", "failed"))

    def register(self, name: str, result: object, *, own: bool = False) -> None:
        """The name means this result from now on; ``own``: no host had a part in it."""
        owned = self.results.get(OWN, frozenset()) - {name}
        self.results[OWN] = owned | {name} if own else owned
        self.results[name] = result
        self.made.add(name)

    def share(self, other: Progress) -> None:
        """Have what was registered here mean the same there."""
        owned = self.results.get(OWN, frozenset()) & self.made
        others = other.results.get(OWN, frozenset()) - self.made
        other.results.update({name: self.results[name] for name in self.made})
        other.results[OWN] = others | owned
        if other is not self:
            other.withheld += (each for each in self.withheld if each not in other.withheld)

    def count(self, step: PlannedStep, outcome: Outcome) -> None:
        """Take a step's end into account."""
        if outcome.status is not Status.CANCELLED:
            self.counts["ok" if outcome.ignored else COUNTED[outcome.status]] += 1
        if outcome.ignored:
            self.worst(Status.OK)
        else:
            reason = f"{outcome.reason}, in step {label(step.number)} '{step.name}'"
            self.worst(outcome.status, reason, stderr=_last_lines(outcome))

    def worst(self, status: Status, reason: str = "", hint: str = "", stderr: str = "") -> None:
        """The host is in this state, unless it is in a worse one already."""
        if self.status is None or status.rank < self.status.rank:
            self.status = status
            if status.bad:
                self.reason, self.hint, self.stderr = reason, hint, stderr

    def rolled_back(self, task: str, undone: Progress, why: str) -> None:
        """Take into account how undoing a task went on this host."""
        if undone.stopped:
            said = f"'{task}' is NOT rolled back: {undone.reason}"
        elif not undone.counts["changed"] and not undone.counts["ok"]:
            said = f"'{task}': nothing to roll back to"
        else:
            said = f"'{task}' is rolled back"
            self.pending = {key: how for key, how in self.pending.items() if key[0] != task}
        if not self.stopped or self.status in (Status.NOT_STARTED, Status.STOPPED):
            self.status, self.reason = Status.CANCELLED, why
        self.reason = "; ".join(part for part in (self.reason, said) if part)

    def hooked(self, task: str, ran: Progress) -> None:
        """Take into account how a task that runs because of a failure went on this host."""
        if not ran.stopped:
            self.status = self.status or ran.status or Status.SKIPPED
            return
        said = f"'{task}', which runs on a failure, failed: {ran.reason}"
        self.worst(ran.status or Status.FAILED, self.reason, self.hint, self.stderr or ran.stderr)
        self.reason = f"{self.reason}; {said}" if self.reason else said

    def row(self) -> Row:
        """Where the host stands."""
        hints = [self.hint, *(f"not run yet: {command}" for command in self.pending.values())]
        return Row(
            host=self.host.name,
            app=self.app,
            status=self.status or Status.NOT_STARTED,
            reason=self.reason,
            seconds=self.seconds,
            roles=self.host.roles,
            hint="\n".join(hint for hint in hints if hint),
            stderr=self.stderr,
            ok=self.counts["ok"],
            changed=self.counts["changed"],
            failed=self.counts["failed"],
            skipped=self.counts["skipped"],
            unknown=self.counts["unknown"],
        )


def so_far(every: Mapping[str, Progress]) -> Results:
    """What each host is to know of the others' results as the next task begins."""
    return ended({name: progress.results for name, progress in every.items()})


def _last_lines(outcome: Outcome) -> str:
    if not outcome.status.bad:
        return ""
    text = outcome.stderr.shown or outcome.stdout.shown
    return "\n".join(last_lines(text, STDERR_LINES))


COUNTED: dict[Status, str] = {status: "failed" for status in Status if status.bad} | {
    Status.OK: "ok",
    Status.CHANGED: "changed",
    Status.SKIPPED: "skipped",
    Status.WOULD_CHANGE: "changed",
    Status.WOULD_RUN: "changed",
    Status.UNKNOWN: "unknown",
}


class Way:
    """Walks one program. ``over`` is what the next step is called when there is none: None.

    A failure on the way is kept for as long as what always follows it runs, and then goes on
    outward: to a region that makes up for it, or to the end of the program (``failed``).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.index = {step.number: n for n, step in enumerate(program.steps)}
        self.pending: list[Region] = []
        self.failed = False

    def begin(self) -> PlannedStep | None:
        """The first step."""
        return self.program.steps[0] if self.program.steps else None

    def after(self, step: PlannedStep) -> PlannedStep | None:
        """What follows a step that did not fail, or whose failure is ignored."""
        return self._at(step.number, step.number + 1)

    def rescue(self, step: PlannedStep) -> PlannedStep | None:
        """What follows a step that failed; the program has failed where nothing makes up."""
        return self._out(step.number, self.program.regions)

    def forgiven(self, step: PlannedStep) -> bool:
        """Whether something makes up for a failure of this step."""
        return any(r.forgives and r.start <= step.number < r.body for r in self.program.regions)

    def waits_at(self, number: int) -> bool:
        """Whether a failure is pending whose region ends right before this number."""
        return any(region.end == number for region in self.pending)

    def _at(self, came: int, number: int) -> PlannedStep | None:
        """The step at a place, after stepping over what runs only on failure."""
        moved = True
        while moved:
            moved = False
            for position, region in enumerate(self.program.regions):
                inside = region.start <= came < region.body
                if inside and number == region.body and region.rescue > number:
                    number, moved = region.rescue, True
                if number == region.end and region in self.pending:
                    self.pending.remove(region)
                    return self._out(region.start, self.program.regions[position + 1 :])
        return self._step(number)

    def _out(self, number: int, regions: tuple[Region, ...]) -> PlannedStep | None:
        """Go outward from a failed step, or region, to what takes care of it."""
        for position, region in enumerate(regions):
            if not region.start <= number < region.end or number >= region.rescue:
                continue
            if number < region.body and region.forgives:
                return (
                    self._at(region.body, region.body)
                    if region.rescue > region.body
                    else (self._at(region.rescue, region.rescue))
                )
            if region.rescue < region.end:
                self.pending.append(region)
                return self._step(region.rescue)
            return self._out(region.start, regions[position + 1 :])
        self.failed = True
        return None

    def _step(self, number: int) -> PlannedStep | None:
        at = self.index.get(number)
        return None if at is None else self.program.steps[at]


ANYTHING = Effects(anything=True, looks=True)
"""What is known of a step that is not made yet, for what it is made of is not known."""


class Withheld(Struct, frozen=True):
    """A step that a check did not run, by its name. ``on``: the host that it would change;
    ``unknown``: whether a run would come to it is not known."""

    name: str
    effects: Effects
    on: str
    unknown: bool = False

    def reason(self, effects: Effects, on: str) -> str:
        """Return why the failure of a step with these effects says nothing of a run."""
        depends = "depends" if _exactly(self, effects, on) else "may depend"
        return f"it {depends} on '{self.name}', which was not run"


def cause(withheld: Sequence[Withheld], effects: Effects, on: str) -> Withheld | None:
    """Return the step that can be why one with these effects fails on a host: the last one that
    makes what it needs, else the last one that can make anything."""
    can = [each for each in reversed(withheld) if can_be(each, effects, on)]
    ranked = sorted(can, key=lambda each: (not _exactly(each, effects, on), each.unknown))
    return ranked[0] if ranked else None


def can_be(withheld: Withheld, effects: Effects, on: str) -> bool:
    """Return True if it can be why a step with these effects fails on a host."""
    if withheld.effects.anything or _exactly(withheld, effects, on):
        return True
    # what would have been downloaded to this machine is no file of another host
    return effects.looks and (on == HERE or withheld.on != HERE)


def _exactly(withheld: Withheld, effects: Effects, on: str) -> bool:
    return withheld.on == on and any(
        _meet(made, needed) for made in withheld.effects.makes for needed in effects.needs
    )


def _meet(made: str, needed: str) -> bool:
    """Whether a path that is made is the one needed, or above or below it; whether a user's or a
    group's name is the one needed, or part of a path: its home folder's."""
    if made[:1] not in ("/", "~"):
        return made == needed or (needed[:1] in ("/", "~") and made in needed.split("/"))
    if needed[:1] not in ("/", "~"):
        return False
    (root, *parts), (other, *others) = _parts(made), _parts(needed)
    if root == other or (root and other):
        # who logs in may be the user of another step: their home folders may be one
        return _along(parts, others)
    inside, absolute = (parts, others) if root else (others, parts)
    # nobody here knows where a home folder is: it may be any folder but /
    return any(_along(inside, absolute[at:]) for at in range(1, len(absolute)))


def _parts(path: str) -> list[str]:
    """First whose home folder it is in, '' for none."""
    root, _, rest = posixpath.normpath(path).partition("/")
    return [root, *filter(None, rest.split("/"))]


def _along(one: Iterable[str], other: Iterable[str]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))
