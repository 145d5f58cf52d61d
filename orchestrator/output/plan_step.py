"""One planned step as lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from orchestrator.model.command import DesiredState
from orchestrator.model.sanitize import show_controls, to_one_line
from orchestrator.output.console import DIM, TextConsole
from orchestrator.output.text_width import wrap_text
from orchestrator.planner.plan import ControlAction, PlannedStep
from orchestrator.yamlio.local_files import display_path

MaskFunction: TypeAlias = Callable[[str], str]

_CONTROL_KINDS = ("set", "fail", "assert", "wait")


def step_group_key(step: PlannedStep) -> tuple[object, ...]:
    """Return the key of a step; steps with equal keys are shown once."""
    again, command = step.retry, step.command
    return (
        (
            step.number,
            step.name,
            step.skip,
            step.display_text,
            step.when,
            step.awaited_names,
            step.register,
        ),
        (
            step.readonly,
            step.notify,
            step.handler,
            step.delegate_to,
            step.user,
            step.evaluate_result is None,
            step.pause,
            step.hide_result is None,
        ),
        again and (again.condition_text, again.retries, again.delay),
        step.control_action and repr(step.control_action),
        command
        and (command.guard, command.stdin, command.shell, command.timeout, command.ignore_failure),
        command and command.desired_state and _desired_state_key(command.desired_state),
        command and command.download,
    )


def _desired_state_key(desired: DesiredState) -> tuple[object, ...]:
    states = tuple(desired.states.items())
    return states, desired.new_content, desired.payload, desired.probe_payload, desired.manifest


class StepTextRenderer:
    """A renderer of steps, indented by a margin; ``mask`` hides secrets."""

    def __init__(self, out: TextConsole, mask: MaskFunction, indent: str) -> None:
        self.out, self.mask, self.indent = out, mask, indent

    def step_lines(self, step: PlannedStep, notes: Sequence[str]) -> Iterator[str]:
        """Yield the lines below a step's name."""
        if step.skip:
            yield from self._remark_lines(f"skipped: {step.skip}")
            return
        for note in notes:
            yield from self._remark_lines(note)
        if step.when:
            yield from self._remark_lines(f"when: {step.when}")
        if step.awaited_names:
            names = ", ".join(f"`{name}`" for name in step.awaited_names)
            each = ", then runs for each item" if step.is_open_loop else ""
            yield from self._remark_lines(f"waits for {names}{each}")
        if step.pause:
            yield from self._remark_lines(f"{step.pause:g} s after the item before")
        if step.delegate_to:
            yield from self._remark_lines(f"delegated to {step.delegate_to}")
        if step.user:
            yield from self._remark_lines(f"as {step.user}")
        if step.retry:
            again = step.retry
            times = f"{again.retries} time{'' if again.retries == 1 else 's'}"
            how = f"at most {times} more, {again.delay:g} s apart"
            yield from self._remark_lines(f"retried until {again.condition_text}: {how}")
        yield from self._remark_lines(", ".join(_context_lines(step)), DIM)
        if step.notify:
            yield from self._remark_lines(f"a change notifies {', '.join(step.notify)}")
        yield from self._action_lines(step)

    def _action_lines(self, step: PlannedStep) -> Iterator[str]:
        if step.control_action is not None:
            yield from self._control_lines(step.control_action)
            return
        if step.command is not None:
            yield from self._exact_lines(step.command.guard, "?")
            if step.command.desired_state is not None:
                yield from self._exact_lines(step.display_text, "|")
                if step.command.download is not None:
                    yield from self._exact_lines(
                        f"to: {display_path(step.command.download.target)}", "="
                    )
                    return
                for key, value in step.command.desired_state.states.items():
                    yield from self._exact_lines(f"{key}: {value}", "=")
                return
        elif _is_undecided(step):
            yield from self._remark_lines(f"{step.display_text}: evaluated then")
            return
        yield from self._exact_lines(step.display_text, "|")
        if step.command is not None and step.command.stdin is not None:
            yield from self._exact_lines(step.command.stdin, "<")

    def _control_lines(self, ruling: ControlAction) -> Iterator[str]:
        match ruling.kind:
            case "set":
                for name, value in ruling.values.items():
                    text = json.dumps(value, ensure_ascii=False, default=str)
                    yield from self._exact_lines(f"{name}: {text}", "=")
            case "wait":
                yield from self._remark_lines(f"waits {ruling.seconds:g} s")
            case "wait_for_connection":
                after = f", after {ruling.seconds:g} s" if ruling.seconds else ""
                yield from self._remark_lines(f"tries for {ruling.timeout:g} s{after}")
                if ruling.test:
                    yield from self._exact_lines(f"until {ruling.test}", "|")
            case _ if ruling.ok:
                yield from self._remark_lines("holds")
            case _:
                yield from self._remark_lines(f"fails: {ruling.message}")

    def _remark_lines(self, text: str, style: str = "") -> Iterator[str]:
        """Yield a remark, wrapped to the console's width."""
        text = to_one_line(self.mask(text))
        room = self.out.width - len(self.indent) if self.out.width else len(text)
        for row in wrap_text(text, room) if text else ():
            yield self.indent + self.out.paint(row, style)

    def _exact_lines(self, text: str, margin: str) -> Iterator[str]:
        """Yield each line after the margin; one final newline is not shown."""
        text = self.mask(text)
        for line in show_controls(text.removesuffix("\n")).split("\n") if text else ():
            yield f"{self.indent}{self.out.paint(margin, DIM)}{' ' if line else ''}{line}"


def _is_undecided(step: PlannedStep) -> bool:
    """Return True if the step is a set, fail, assert or wait whose values are not known yet."""
    return step.command is None and step.readonly and step.display_text in _CONTROL_KINDS


def _context_lines(step: PlannedStep) -> Iterator[str]:
    command = step.command
    if step.handler:
        yield "handler: runs once, if it was notified"
    if step.readonly and step.control_action is None and not _is_undecided(step):
        yield "read-only"
    if command is not None and command.shell != "sh":
        yield f"by {command.shell}"
    if command is not None and command.timeout is not None:
        yield f"at most {command.timeout:g} s"
    if command is not None and command.ignore_failure:
        yield "its failure is ignored"
    if step.evaluate_result is not None:
        yield "failed and changed are evaluated on this machine"
    if step.hide_result is not None:
        yield "its output is secret"
    if step.register:
        yield f"its result is `{step.register}`"
