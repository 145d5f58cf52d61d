"""Check mode: the results of steps that depend on steps which were not run."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.executor.host_state import (
    ANY_EFFECTS,
    CheckSkippedStep,
    HostTaskState,
    can_cause,
    changes_what_is_observed,
    find_cause,
)
from orchestrator.model.command import StepCommand
from orchestrator.model.condition import (
    AllOf,
    AnyOf,
    Condition,
    ConstantCondition,
    ExitStatusCondition,
    NotCondition,
    StepStateCondition,
)
from orchestrator.model.registered_result import NotRunInCheckMode, RegisteredResult
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.plan import PlannedStep
from orchestrator.planner.step_conditions import any_of

_MAX_QUEUED = 64
"""Limit of queued steps that a failure may depend on."""


class CheckModeFilter:
    """Adapts one task's commands on one host to check mode; does nothing in a normal run.

    Skipped steps are kept in the host state for later tasks. ``_open_steps`` are the steps whose
    result may turn out UNKNOWN when they end.
    """

    def __init__(self, state: HostTaskState, target_host: Callable[[PlannedStep], str]) -> None:
        """Create a filter with no queued steps; ``target_host`` names the host that runs a step."""
        self._state, self._target_host = state, target_host
        self._queued: list[tuple[int, CheckSkippedStep, Condition]] = []
        self._open_steps: set[int] = set()

    def must_flush(self, step: PlannedStep, command: StepCommand) -> bool:
        """Return True if the queued steps must be run before this one can be sent.

        That is the case if its conditions refer to a queued step whose result may be unknown, if it
        observes what a queued step may change, or if ``_MAX_QUEUED`` queued steps may be the cause
        of a failure: each command is sent with a condition over these.
        """
        if command.effects is None:
            return False
        if len(self._queued) >= _MAX_QUEUED:
            self._queued = [each for each in self._queued if not self._has_ended(each[0])]
            if len(self._queued) >= _MAX_QUEUED:
                return True
        if any(
            not self._has_ended(number)
            and changes_what_is_observed(each, command.effects, self._target_host(step))
            for number, each, _ in self._queued
        ):
            return True
        asked_steps = set(self._steps_asked_about(command))
        waiting = {number for number in asked_steps if not self._has_ended(number)}
        return bool(waiting & self._open_steps) or bool(
            waiting and asked_steps & self._state.uncertain_steps.keys()
        )

    def filter_command(self, step: PlannedStep, command: StepCommand) -> StepCommand | StepResult:
        """Return the command as it is to be sent, or its result if that is already known."""
        if command.effects is None:
            return command
        unknown = self._state.uncertain_steps
        for number in self._steps_asked_about(command):
            if number in unknown:
                message = f"it depends on '{unknown[number]}', whose result is not known"
                return StepResult(Status.UNKNOWN, reason=message)
        target_host = self._target_host(step)
        for skipped_step in reversed(self._state.host_state.skipped_by_check):
            if changes_what_is_observed(skipped_step, command.effects, target_host):
                self._state.effects[step.number] = command.effects
                message = skipped_step.failure_reason(command.effects, target_host)
                return StepResult(Status.UNKNOWN, reason=message)
        unknown_if: Condition = ConstantCondition(True)
        if (
            find_cause(self._state.host_state.skipped_by_check, command.effects, target_host)
            is None
        ):
            earlier_conditions = [
                skipped_step
                for number, each, skipped_step in self._queued
                if can_cause(each, command.effects, target_host) and not self._has_ended(number)
            ]
            unknown_if = (
                any_of(earlier_conditions) if earlier_conditions else ConstantCondition(False)
            )
        if unknown_if != ConstantCondition(False) or command.effects.waits_for_state:
            self._open_steps.add(step.number)
        effects = command.effects
        self._state.effects[step.number] = effects
        if effects.created_names or effects.may_change_anything:
            self._queue_skipped(
                step,
                CheckSkippedStep(step.name, effects, target_host),
                StepStateCondition(step.number, "withheld"),
            )
        return replace(command, unknown_if=unknown_if)

    def note_local_end(self, step: PlannedStep, outcome: StepResult) -> None:
        """Record the result of a step for which nothing is sent to the host."""
        if outcome.status is Status.UNKNOWN and not step.readonly:
            skipped_step = CheckSkippedStep(step.name, ANY_EFFECTS, self._target_host(step))
            self._queue_skipped(step, skipped_step, ConstantCondition(True))

    def _queue_skipped(
        self, step: PlannedStep, skipped_step: CheckSkippedStep, condition: Condition
    ) -> None:
        self._queued = [each for each in self._queued if not self._has_ended(each[0])]
        self._queued.append((step.number, skipped_step, condition))

    def _has_ended(self, number: int) -> bool:
        return number in self._state.finished_steps or number in self._state.failed_steps

    def _steps_asked_about(self, command: StepCommand) -> Iterator[int]:
        """Yield the numbers of unfinished steps that the command's conditions refer to."""
        for condition in (command.when, command.failed_condition, command.changed_condition):
            if condition is not None:
                left = simplify_condition(
                    condition, self._state.results, self._state.uncertain_steps
                )
                yield from (n for n in step_numbers_in(left) if n != command.step)


def any_step_changed(
    changed: Container[int], uncertain: Mapping[int, str], numbers: Sequence[int]
) -> bool:
    """Return True if one of the steps changed something, or would.

    ``uncertain`` are the steps whose result is not known, with their names: raises
    NotRunInCheckMode if only such a step may have.
    """
    if any(number in changed for number in numbers):
        return True
    for number in numbers:
        if number in uncertain:
            raise NotRunInCheckMode(uncertain[number])
    return False


def simplify_condition(
    condition: Condition, results: Mapping[int, RegisteredResult], unknown: Container[int]
) -> Condition:
    """Return the condition with the results of finished steps filled in."""
    match condition:
        case StepStateCondition(step, state) if (
            step in results and step not in unknown and state != "withheld"
        ):
            return ConstantCondition(bool(getattr(results[step], state)))
        case NotCondition(operand):
            simplified = simplify_condition(operand, results, unknown)
            return (
                ConstantCondition(not simplified.value)
                if isinstance(simplified, ConstantCondition)
                else NotCondition(simplified)
            )
        case AllOf(operand) | AnyOf(operand):
            absorbing_value = isinstance(condition, AnyOf)
            parts = [simplify_condition(each, results, unknown) for each in operand]
            if ConstantCondition(absorbing_value) in parts:
                return ConstantCondition(absorbing_value)
            parts = [each for each in parts if each != ConstantCondition(not absorbing_value)]
            if not parts:
                return ConstantCondition(not absorbing_value)
            return AnyOf(tuple(parts)) if absorbing_value else AllOf(tuple(parts))
    return condition


def step_numbers_in(condition: Condition) -> Iterator[int]:
    """Yield the numbers of the steps that a condition refers to."""
    match condition:
        case StepStateCondition(step) | ExitStatusCondition(step):
            yield step
        case NotCondition(operand):
            yield from step_numbers_in(operand)
        case AllOf(operand) | AnyOf(operand):
            for each in operand:
                yield from step_numbers_in(each)


def error_text(error: OrchError) -> str:
    """Return an error's first message, prefixed with its position if it has one."""
    diagnostic = error.diagnostics[0]
    return f"{diagnostic.mark}: {diagnostic.message}" if diagnostic.mark else diagnostic.message
