"""Lines for the results of steps, with equal results of several hosts in one line.

``✔ deploy:publish › link current  web[01-20]  changed  0.1 s  to: …/41 → …/42``
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import (
    CONNECT_INTERRUPTED,
    ConnectFinished,
    HostFinished,
    RunEvent,
    RunStarted,
    StepFinished,
    TaskStarted,
)
from orchestrator.model.host_folding import fold_hostnames, fold_messages, message_frame
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_number import number_parts
from orchestrator.model.step_result import StateChange, Status, StepResult, last_lines
from orchestrator.output.console import DIM, status_text, style_of
from orchestrator.output.diff import short_change
from orchestrator.output.text_width import display_width, truncate_text, wrap_text

_MAX_HOSTS_CHARS = 40  # of the names in a line that several hosts share
_MAX_GROUPS = 10  # different results of one step that are shown at once
_MIN_DETAIL_WIDTH = 20
_WAIT = 2.0  # seconds after which a step is shown that some hosts have not reached
_QUIET_STATUSES = (Status.OK, Status.SKIPPED)
_ASCII_SIGNS = {"✔": "+", "✘": "x", "~": "~", "-": "-"}

StepPosition: TypeAlias = tuple[int, ...]
"""The place of a step in its task (``number_parts``); the empty one is before the first step."""
_AFTER_ALL_STEPS: StepPosition = (2**63,)

StyledLine: TypeAlias = tuple[str, str]
"""A line and its style (``console.py``)."""


class EqualResults(Struct):
    """Hosts with the same result of a step. ``seconds`` is the longest time.

    ``texts`` are the step's name and what is to be said about the result, with ``\\0`` between
    them: one, or one for each host if they differ in the names of the hosts.
    """

    outcome: StepResult
    hosts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def name_and_detail(self) -> tuple[str, str]:
        """Return the step's name, and what is to be said; the hosts' own names in them folded."""
        text = self.texts[0]
        if len(self.texts) > 1:
            text = fold_messages(zip(self.hosts, self.texts, strict=True))
        name, _, detail = text.partition("\0")
        return name, detail


class StepResults(Struct):
    """The results of one step on its hosts. ``since`` is when the first one ended (epoch)."""

    app: str | None
    task: str
    since: float = 0.0
    groups: dict[tuple[Status, bool, int, str], EqualResults] = field(default_factory=dict)
    is_partial: bool = False

    def sorted_groups(self, order: Mapping[str, int]) -> list[EqualResults]:
        """Return the groups, failures last, and the hosts in each, sorted by their places.

        Results whose texts differ only in the name of the host are one group.
        """
        merged: dict[object, EqualResults] = {}
        groups = sorted(self.groups.items(), key=lambda item: order.get(item[1].hosts[0], 0))
        for (*kind, text), group in groups:
            group.hosts.sort(key=lambda host: order.get(host, 0))
            host = group.hosts[0]
            if len(group.hosts) > 1 or host not in text:
                merged[(*kind, text)] = group
                continue
            into = merged.setdefault((*kind, message_frame(text, host)), group)
            if into is not group:
                into.hosts.append(host)
                into.texts.append(text)
                into.seconds = max(into.seconds, group.seconds)
        return sorted(merged.values(), key=lambda group: group.outcome.status.is_failure)

    def add(self, host: str, outcome: StepResult, name: str) -> None:
        """Add the result of a host, with the name of the step there (empty for a whole task)."""
        text = f"{name}\0{result_detail(outcome)}"
        key = (outcome.status, outcome.ignored, outcome.attempts, text)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = EqualResults(outcome, texts=[text])
        group.hosts.append(host)
        group.seconds = max(group.seconds, outcome.seconds)


def step_title(app: str | None, task: str, name: str) -> str:
    """Return a step, or (without ``name``) a task, as ``blog deploy:publish › link current``."""
    title = f"{task} › {name}" if name else task
    return to_one_line(f"{app} {title}" if app else title)


def result_detail(outcome: StepResult) -> str:
    """Return a result's changes in one line; of a failure its reason and last line of stderr."""
    if outcome.status.is_failure:
        reason = outcome.reason or (f"exit {outcome.exit_status}" if outcome.exit_status else "")
        said = last_lines(outcome.stderr.display_text, 1)
        cause = next((line.strip() for line in said if line.strip()), "")
        return to_one_line(": ".join(filter(None, (reason, cause))))
    changes = "; ".join(_elided_change(change) for change in outcome.changes)
    return to_one_line(outcome.reason or changes)


def _elided_change(change: StateChange) -> str:
    """Return a change like ``short_change``, of paths only the last part: ``to: …/41 → …/42``."""
    paths = (change.before or "", change.after)
    names = [path.rpartition("/")[2] for path in paths]
    if all(path.startswith(("/", "~/")) for path in paths) and names[0] != names[1]:
        change = StateChange(change.key, f"…/{names[0]}", f"…/{names[1]}")
    return short_change(change)


class StepLines:
    """A collector of the results of steps, which yields their lines in the order of the steps.

    The lines of a step are due when every host has passed it, or two seconds after its first result
    for the hosts that have one; the others follow when they have passed it. With ``verbose`` above
    0, results that changed nothing have lines too; with ``verbose`` below 0, only failures have.
    ``has_partial`` becomes True if the hosts of a step get lines at two times. Set
    ``only_failures`` for a run whose other results are all shown at its end.
    """

    def __init__(self, verbose: int = 0) -> None:
        self._verbose = verbose
        self.has_partial, self.only_failures = False, False
        self._order: Mapping[str, int] = {}
        self._tasks: Counter[str | None] = Counter()  # that have started, of each app
        self._apps: dict[str | None, dict[tuple[int, StepPosition], StepResults]] = {}
        self._connects: StepResults | None = None
        self._failed: set[tuple[str | None, str]] = set()
        self._unreachable: dict[str, str] = {}
        self._interrupted: set[str] = set()

    def add(self, event: RunEvent) -> None:
        """Add the result in the event, if it has one that is shown."""
        match event:
            case RunStarted(hosts=hosts):
                self._order = {host: place for place, host in enumerate(hosts)}
            case TaskStarted():
                self._tasks[event.app] += 1
            case StepFinished(outcome=outcome):
                if outcome.status.is_failure:
                    self._failed.add((event.app, event.host))
                elif not self._is_shown(outcome):
                    return
                self._add_result(event, number_parts(event.step), event.name)
            case HostFinished(outcome=outcome) if event.host not in self._interrupted:
                is_told = (event.app, event.host) in self._failed
                is_told |= self._unreachable.get(event.host) == outcome.reason
                self._failed.discard((event.app, event.host))
                if outcome.status.is_failure and not is_told:
                    self._add_result(event, _AFTER_ALL_STEPS, "")
            case ConnectFinished(error=error) if error == CONNECT_INTERRUPTED:
                self._interrupted.add(event.host)
            case ConnectFinished() if event.error:
                self._unreachable[event.host] = event.error
                self._connects = self._connects or StepResults(None, "connect", event.time)
                result = StepResult(Status.UNREACHABLE, seconds=event.seconds, reason=event.error)
                self._connects.add(event.host, result, "")

    def due_lines(
        self, now: float, reached: Mapping[str | None, StepPosition], layout: LineLayout
    ) -> list[StyledLine]:
        """Return the lines that are due, and forget them.

        ``reached`` is, for each app with a running task, the last step that all hosts have passed.
        The steps of earlier tasks, and of an app without a running one, are due.
        """
        lines: list[StyledLine] = []
        if self._connects is not None and now - self._connects.since >= _WAIT:
            lines += self._take_connects(layout)
        for app, steps in self._apps.items():
            for key in sorted(steps):
                step, (task, position) = steps[key], key
                is_over = app not in reached or task < self._tasks[app]
                if is_over or position <= reached[app]:
                    lines += step_lines(steps.pop(key), self._order, layout)
                elif step.is_partial:
                    continue
                elif now - step.since >= _WAIT:
                    lines += step_lines(step, self._order, layout)
                    step.groups, step.is_partial = {}, True
                    self.has_partial = True
                else:
                    break
        return lines

    def all_lines(self, layout: LineLayout) -> list[StyledLine]:
        """Return all lines that are left, and forget them."""
        connects = self._take_connects(layout)
        return connects + self.due_lines(0.0, {}, layout)

    def _is_shown(self, outcome: StepResult) -> bool:
        if self._verbose or self.only_failures:
            return self._verbose > 0
        return outcome.status not in _QUIET_STATUSES or outcome.attempts > 1

    def _add_result(
        self, event: StepFinished | HostFinished, position: StepPosition, name: str
    ) -> None:
        steps = self._apps.setdefault(event.app, {})
        key = (self._tasks[event.app], position)
        if key not in steps:
            steps[key] = StepResults(event.app, event.task, event.time)
        steps[key].add(event.host, event.outcome, name)

    def _take_connects(self, layout: LineLayout) -> list[StyledLine]:
        connects, self._connects = self._connects, None
        return step_lines(connects, self._order, layout) if connects else []


class LineLayout(Struct, frozen=True):
    """How lines are laid out: ``width`` in columns, or None for lines of any length."""

    width: int | None = None
    is_unicode: bool = True


def step_lines(step: StepResults, order: Mapping[str, int], layout: LineLayout) -> list[StyledLine]:
    """Return a line for each group of equal results, with its style; long ones are wrapped.

    ``order`` are the places of the hosts.
    """
    groups = step.sorted_groups(order)
    shown = groups if len(groups) <= _MAX_GROUPS else groups[: _MAX_GROUPS - 1]
    lines = [line for group in shown for line in _group_lines(step, group, layout)]
    if len(shown) < len(groups):
        left = sum(len(group.hosts) for group in groups[len(shown) :])
        name, _ = groups[len(shown)].name_and_detail
        title = step_title(step.app, step.task, name)
        text = f"  {title}: {left} more hosts with other results"
        lines.append((truncate_text(text, layout.width or len(text)), DIM))
    return lines


def _group_lines(
    step: StepResults, group: EqualResults, layout: LineLayout
) -> Iterator[StyledLine]:
    outcome = group.outcome
    name, detail = group.name_and_detail
    title = step_title(step.app, step.task, name)
    sign = _sign(outcome.status) if layout.is_unicode else _ASCII_SIGNS[_sign(outcome.status)]
    status = status_text(outcome.status) + (", ignored" if outcome.ignored else "")
    if outcome.attempts > 1:
        status += f" after {outcome.attempts} attempts"
    head = f"{sign} {title}  {to_one_line(fold_hosts(group.hosts))}  {status}"
    spent, width = f"{group.seconds:.1f} s", layout.width or sys.maxsize
    line = f"{head}  {spent}  {detail}".rstrip()
    if display_width(line) <= width:
        rows = [line]
    elif outcome.status.is_failure:
        rows = wrap_text(line, width - 4)
    else:
        if display_width(f"{head}  {spent}") <= width:
            head += f"  {spent}"
        else:
            detail = f"{spent}  {detail}".rstrip()
        rows = wrap_text(head, width if display_width(head) <= width else width - 4)
        if len(rows) > 1 and display_width(f"{rows[-1]}  {detail}") <= width - 4:
            rows[-1] += f"  {detail}" if detail else ""
        elif detail:
            rows.append(truncate_text(detail, width - 4))
    style = style_of(outcome.status)
    for number, row in enumerate(rows):
        yield f"{'    ' if number else ''}{row}".rstrip(), style


def change_lines(step: StepResults, order: Mapping[str, int], layout: LineLayout) -> Iterator[str]:
    """Yield a line for each group of hosts that a step changed in the same way."""
    for group in step.sorted_groups(order):
        name, detail = group.name_and_detail
        title = step_title(step.app, step.task, name)
        line = f"{title}  {to_one_line(fold_hosts(group.hosts))}"
        width = layout.width and layout.width - 4
        room = (width or sys.maxsize) - display_width(line) - 2
        if detail and room >= min(_MIN_DETAIL_WIDTH, display_width(detail)):
            line += f"  {truncate_text(detail, room)}"
        for number, row in enumerate(wrap_text(line, width or len(line))):
            yield f"{'    ' if number else '  '}{row}".rstrip()


def fold_hosts(names: Sequence[str], *, count: bool = False) -> str:
    """Return the names of hosts, folded; only the first ones if they are long.

    Their number follows if ``count`` is True or names are left out.
    """
    shown, left = fold_hostnames(names), min(len(names), _MAX_HOSTS_CHARS)
    is_whole = len(shown) <= _MAX_HOSTS_CHARS
    while len(shown) > _MAX_HOSTS_CHARS and left > 1:
        left -= 1
        shown = f"{fold_hostnames(names[:left])},…"
    return f"{shown} ({len(names)})" if count or not is_whole else shown


def _sign(status: Status) -> str:
    if status.is_failure:
        return "✘"
    return {Status.CHANGED: "✔", Status.OK: "✔", Status.SKIPPED: "-"}.get(status, "~")
