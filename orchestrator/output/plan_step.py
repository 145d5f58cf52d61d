"""One planned step as lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from orchestrator.model.command import Wanted
from orchestrator.model.lazy_regex import regex
from orchestrator.model.sanitize import one_line, visible
from orchestrator.output.console import DIM, Out
from orchestrator.output.text_width import wrap
from orchestrator.planner.plan import PlannedStep, Ruling
from orchestrator.yamlio.local_files import show

Mask: TypeAlias = Callable[[str], str]

_CONTROLS = ("set", "fail", "assert", "wait")
_ITEM = regex(r"\{[{%][^}]{0,999}?\bitem\b")


def same(step: PlannedStep) -> tuple[object, ...]:
    """What two steps must have alike to be shown as one."""
    again, command = step.again, step.command
    return (
        (step.number, step.name, step.skip, step.shown, step.when, step.waits, step.register),
        (step.readonly, step.notify, step.handler, step.on, step.user, step.judge is None),
        again and (again.said, again.retries, again.delay),
        step.ruling and repr(step.ruling),
        command and (command.guard, command.stdin, command.shell, command.timeout, command.ignore),
        command and command.wanted and _wanted(command.wanted),
        command and command.fetches,
    )


def _wanted(wanted: Wanted) -> tuple[object, ...]:
    states = tuple(wanted.states.items())
    return states, wanted.brings, wanted.sends, wanted.asks, wanted.manifest


class StepLines:
    """Writes steps behind a margin; ``mask`` hides secrets."""

    def __init__(self, out: Out, mask: Mask, indent: str) -> None:
        self.out, self.mask, self.indent = out, mask, indent

    def of(self, step: PlannedStep, notes: Sequence[str]) -> Iterator[str]:
        """All that is said of a step beneath its name."""
        if step.skip:
            yield from self._said(f"skipped: {step.skip}")
            return
        for note in notes:
            yield from self._said(note)
        if step.when:
            yield from self._said(f"when: {step.when}")
        if step.waits:
            names = ", ".join(f"`{name}`" for name in step.waits)
            each = ", then runs for each item" if _loops(step) else ""
            yield from self._said(f"waits for {names}{each}")
        if step.on:
            yield from self._said(f"delegated to {step.on}")
        if step.user:
            yield from self._said(f"as {step.user}")
        if step.again:
            again = step.again
            times = f"{again.retries} time{'' if again.retries == 1 else 's'}"
            how = f"at most {times} more, {again.delay:g} s apart"
            yield from self._said(f"tried again until {again.said}: {how}")
        yield from self._said(", ".join(_around(step)), DIM)
        if step.notify:
            yield from self._said(f"a change notifies {', '.join(step.notify)}")
        yield from self._what(step)

    def _what(self, step: PlannedStep) -> Iterator[str]:
        if step.ruling is not None:
            yield from self._ruling(step.ruling)
            return
        if step.command is not None:
            yield from self._exact(step.command.guard, "?")
            if step.command.wanted is not None:
                yield from self._exact(step.shown, "|")
                if step.command.fetches is not None:
                    yield from self._exact(f"to: {show(step.command.fetches.to)}", "=")
                    return
                for key, value in step.command.wanted.states.items():
                    yield from self._exact(f"{key}: {value}", "=")
                return
        elif _undecided(step):
            yield from self._said(f"{step.shown}: its result is known then")
            return
        yield from self._exact(step.shown, "|")
        if step.command is not None and step.command.stdin is not None:
            yield from self._exact(step.command.stdin, "<")

    def _ruling(self, ruling: Ruling) -> Iterator[str]:
        match ruling.kind:
            case "set":
                for name, value in ruling.values.items():
                    text = json.dumps(value, ensure_ascii=False, default=str)
                    yield from self._exact(f"{name}: {text}", "=")
            case "wait":
                yield from self._said(f"waits {ruling.seconds:g} s")
            case _ if ruling.ok:
                yield from self._said("holds")
            case _:
                yield from self._said(f"fails: {ruling.message}")

    def _said(self, text: str, style: str = "") -> Iterator[str]:
        """A remark, within the width."""
        text = one_line(self.mask(text))
        room = self.out.width - len(self.indent) if self.out.width else len(text)
        for row in wrap(text, room) if text else ():
            yield self.indent + self.out.paint(row, style)

    def _exact(self, text: str, margin: str) -> Iterator[str]:
        """Each line behind the margin; one final newline shows as nothing."""
        text = self.mask(text)
        for line in visible(text.removesuffix("\n")).split("\n") if text else ():
            yield f"{self.indent}{self.out.paint(margin, DIM)}{' ' if line else ''}{line}"


def _loops(step: PlannedStep) -> bool:
    """Whether it surely stands for a loop whose items are not known yet: where they are, the
    name ends with what the item is called."""
    return _ITEM.search(step.shown) is not None and not step.name.endswith(")")


def _undecided(step: PlannedStep) -> bool:
    """Whether it is a set, fail, assert or wait whose values are not known yet."""
    return step.command is None and step.readonly and step.shown in _CONTROLS


def _around(step: PlannedStep) -> Iterator[str]:
    command = step.command
    if step.handler:
        yield "handler: runs once, if it was notified"
    if step.readonly and step.ruling is None and not _undecided(step):
        yield "read-only"
    if command is not None and command.shell != "sh":
        yield f"by {command.shell}"
    if command is not None and command.timeout is not None:
        yield f"at most {command.timeout:g} s"
    if command is not None and command.ignore:
        yield "its failure is ignored"
    if step.judge is not None:
        yield "whether it failed or changed something is judged here"
    if step.register:
        yield f"its result is `{step.register}`"
