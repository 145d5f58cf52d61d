"""What a check makes of steps that depend on others which it did not run."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.executor.host_state import ANYTHING, Progress, Withheld, can_be, cause
from orchestrator.executor.step_recorder import Recorder
from orchestrator.model.command import Command
from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not
from orchestrator.model.registered_result import NotRun, Result
from orchestrator.model.step_result import Outcome, Status
from orchestrator.planner.plan import PlannedStep
from orchestrator.planner.step_conditions import any_of

_MOST = 64
"""How many steps that are queued a failure may depend on."""


class Checked:
    """One task's way over one host, as a check sees it; does nothing in any other run.

    What steps would make is kept in the progress for the tasks after this one. ``open``: the steps
    of which only their end tells whether it is known.
    """

    def __init__(self, recorder: Recorder, progress: Progress) -> None:
        self._recorder, self._progress = recorder, progress
        self._queued: list[tuple[int, Withheld, Condition]] = []
        self._open: set[int] = set()

    def must_flush(self, command: Command) -> bool:
        """Return True if the queued steps have to be run before this one can be sent.

        Its conditions may ask about a queued step whose end may turn out unknown; and the host is
        sent at most ``_MOST`` queued steps that a failure may depend on, for each command.
        """
        if command.effects is None:
            return False
        if len(self._queued) >= _MOST:
            self._queued = [each for each in self._queued if not self._over(each[0])]
            if len(self._queued) >= _MOST:
                return True
        asked = set(self._asked(command))
        waiting = {number for number in asked if not self._over(number)}
        return bool(waiting & self._open) or bool(waiting and asked & self._recorder.unknown.keys())

    def seen(self, step: PlannedStep, command: Command) -> Command | Outcome:
        """The command as it is to be sent, or what is known of it already."""
        if command.effects is None:
            return command
        unknown = self._recorder.unknown
        for number in self._asked(command):
            if number in unknown:
                what = f"it depends on '{unknown[number]}', which is not known"
                return Outcome(Status.UNKNOWN, reason=what)
        on = self._recorder.target(step)
        unknown_if: Condition = Always(True)
        if cause(self._progress.withheld, command.effects, on) is None:
            before = [
                withheld
                for number, each, withheld in self._queued
                if can_be(each, command.effects, on) and not self._over(number)
            ]
            unknown_if = any_of(before) if before else Always(False)
        if unknown_if != Always(False) or command.effects.waits:
            self._open.add(step.number)
        made = command.effects
        self._recorder.effects[step.number] = made
        if made.makes or made.anything:
            self._queue(step, Withheld(step.name, made, on), Is(step.number, "withheld"))
        return replace(command, unknown_if=unknown_if)

    def ended_locally(self, step: PlannedStep, outcome: Outcome) -> None:
        """Note the end of a step for which nothing is sent to the host."""
        if outcome.status is Status.UNKNOWN and not step.readonly:
            withheld = Withheld(step.name, ANYTHING, self._recorder.target(step))
            self._queue(step, withheld, Always(True))

    def _queue(self, step: PlannedStep, withheld: Withheld, so: Condition) -> None:
        self._queued = [each for each in self._queued if not self._over(each[0])]
        self._queued.append((step.number, withheld, so))

    def _over(self, number: int) -> bool:
        return number in self._recorder.finished or number in self._recorder.broken

    def _asked(self, command: Command) -> Iterator[int]:
        """Yield the steps that its conditions ask about."""
        for condition in (command.when, command.fails, command.changes):
            if condition is not None:
                left = settled(condition, self._recorder.results, self._recorder.unknown)
                yield from (n for n in mentioned(left) if n != command.step)


class Notified(Container[str]):
    """The handlers called for. Raises NotRun for those that a step may have called for whose end
    is not known; ``maybe`` says by which."""

    def __init__(self, called: Container[str], maybe: Mapping[str, str]) -> None:
        self._called, self._maybe = called, maybe

    def __contains__(self, handler: object) -> bool:
        if handler in self._called:
            return True
        if handler in self._maybe:
            raise NotRun(self._maybe[str(handler)])
        return False


def settled(
    condition: Condition, results: Mapping[int, Result], unknown: Container[int]
) -> Condition:
    """What is left of a condition once it is said of those steps whose end is known."""
    match condition:
        case Is(step, what) if step in results and step not in unknown and what != "withheld":
            return Always(bool(getattr(results[step], what)))
        case Not(of):
            left = settled(of, results, unknown)
            return Always(not left.value) if isinstance(left, Always) else Not(left)
        case All(of) | Any(of):
            stops = isinstance(condition, Any)
            parts = [settled(each, results, unknown) for each in of]
            if Always(stops) in parts:
                return Always(stops)
            parts = [each for each in parts if each != Always(not stops)]
            if not parts:
                return Always(not stops)
            return Any(tuple(parts)) if stops else All(tuple(parts))
    return condition


def mentioned(condition: Condition) -> Iterator[int]:
    """The numbers of the steps that a condition is over."""
    match condition:
        case Is(step) | Exit(step):
            yield step
        case Not(of):
            yield from mentioned(of)
        case All(of) | Any(of):
            for each in of:
                yield from mentioned(each)


def reason_of(error: OrchError) -> str:
    """What an error says, with its place."""
    problem = error.problems[0]
    return f"{problem.mark}: {problem.what}" if problem.mark else problem.what
