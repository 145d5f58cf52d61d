"""Finds the step that a run starts at (``--start-step``), and stands for the results before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NoReturn

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.planner.plan import PlannedStep, StepProgram

BEFORE_START = "it is before --start-step"
"""Why a step is skipped."""
_OPTION = SourcePosition("--start-step")
_NUMBERS_HINT = "see `orch plan` for the steps and their numbers"


class ResultBeforeStart:
    """Placeholder for a result of a step before the start. Any use raises DefinitionError."""

    __slots__ = ("_name", "_number")

    def __init__(self, name: str, number: int) -> None:
        """Store the registered name and the number of its step."""
        self._name, self._number = name, number

    def __getattr__(self, name: str) -> NoReturn:
        """Raise DefinitionError, except for special attributes."""
        if name.startswith("__"):
            raise AttributeError(name)
        self._raise_missing()

    def _raise_missing(self, *_: object) -> NoReturn:
        message = f"'{self._name}' comes from step {self._number}, which --start-step skips"
        raise DefinitionError(Diagnostic(message, None, f"start at step {self._number}"))

    __bool__ = __len__ = __iter__ = __str__ = __getitem__ = __contains__ = _raise_missing
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _raise_missing
    __add__ = __int__ = __float__ = __html__ = _raise_missing
    __hash__ = None  # type: ignore[assignment]


@cache
def result_before_start(name: str, number: int) -> ResultBeforeStart:
    """Return the placeholder, which is the same object on every host: it cannot be compared."""
    return ResultBeforeStart(name, number)


def find_start_numbers(
    task: str, start_step: str, programs: Mapping[str, StepProgram]
) -> dict[str, int]:
    """Return the number of the step to start at, by host.

    ``start_step`` is a number, or the name of a step. Raises DefinitionError if it is not a step of
    the task on every host, or not the same one, or a step that runs only after another one.
    """
    found = {host: _matching_steps(start_step, program) for host, program in programs.items()}
    missing = [host for host, steps in found.items() if not steps]
    if missing:
        raise _no_step_error(task, start_step, missing, programs)
    places = {step.mark: step for steps in found.values() for step in steps}
    if len(places) > 1:
        raise _ambiguous_error(task, start_step, found)
    starts = {host: min(steps, key=lambda step: step.number) for host, steps in found.items()}
    for host, step in starts.items():
        _check_start(step, programs[host])
    return {host: step.number for host, step in starts.items()}


def _matching_steps(start_step: str, program: StepProgram) -> list[PlannedStep]:
    if start_step.isdecimal():
        return [step for step in program.steps if step.number == int(start_step)]
    return [step for step in program.steps if _is_named(step, start_step)]


def _is_named(step: PlannedStep, name: str) -> bool:
    """Return True if it is the step's name; a loop's item in parentheses may follow it."""
    return any(
        shown == name or (shown.startswith(f"{name} (") and shown.endswith(")"))
        for shown in _names_of(step)
    )


def _names_of(step: PlannedStep) -> tuple[str, str]:
    """Return the name of the step as it is shown, and without the tasks that call it."""
    return step.name, step.name.rpartition(" › ")[2]


def _no_step_error(
    task: str, start_step: str, missing: list[str], programs: Mapping[str, StepProgram]
) -> DefinitionError:
    where = "" if len(missing) == len(programs) else f" on {fold_hostnames(missing)}"
    steps = [step for host in missing for step in programs[host].steps]
    loop, dot, _ = start_step.partition(".")
    if dot and loop.isdecimal() and any(step.number == int(loop) for step in steps):
        message = f"'{start_step}' is an item of a loop, whose items only the run knows"
        return DefinitionError(Diagnostic(message, _OPTION, f"start at step {loop}"))
    if start_step.isdecimal():
        message = f"task '{task}' has no step {start_step}{where}"
        last = max((step.number for step in steps), default=0)
        return DefinitionError(
            Diagnostic(message, _OPTION, f"its last step is {last}; {_NUMBERS_HINT}")
        )
    message = f"task '{task}' has no step named '{start_step}'{where}"
    names = {name for step in steps for name in _names_of(step)}
    hint = suggest_nearest(start_step, names) or _NUMBERS_HINT
    return DefinitionError(Diagnostic(message, _OPTION, hint))


def _ambiguous_error(
    task: str, start_step: str, found: Mapping[str, list[PlannedStep]]
) -> DefinitionError:
    if start_step.isdecimal():
        named: dict[str, str] = {}
        for host, steps in found.items():
            for step in steps:
                named.setdefault(step.name, host)
        listed = " and ".join(f"'{name}' on {host}" for name, host in sorted(named.items()))
        message = f"step {start_step} of '{task}' is not the same on every host: {listed}"
        return DefinitionError(Diagnostic(message, _OPTION, "give its name, or select hosts"))
    numbers = _listed({step.number for steps in found.values() for step in steps})
    message = f"several steps of '{task}' are named '{start_step}': {numbers}"
    return DefinitionError(Diagnostic(message, _OPTION, "give its number"))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _check_start(step: PlannedStep, program: StepProgram) -> None:
    """Raise DefinitionError for a step that runs only after another one."""
    if step.handler:
        message = f"step {step.number} is of the handler '{step.handler}', which runs if notified"
        raise DefinitionError(Diagnostic(message, _OPTION, f"use `--handler {step.handler}`"))
    for block in program.try_blocks:
        if block.body_end <= step.number < block.rescue_end:
            message = f"step {step.number} is in a `rescue`, which runs only after a failure"
            raise DefinitionError(Diagnostic(message, _OPTION, f"start at step {block.start}"))
