"""How far a host has come in a lane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from orchestrator.execute.withheld import Withheld
from orchestrator.model.host import Host
from orchestrator.model.number import label
from orchestrator.model.outcome import Outcome, Row, Status, last_lines
from orchestrator.plan.model import PlannedStep, Results
from orchestrator.plan.others import ended
from orchestrator.plan.scope import OWN

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
