"""Chooses the hosts whose output is shown as it comes; that of the others is folded at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import StepFinished, StepOutput
from orchestrator.output.host_lines import HostLines

MAX_TALKING_HOSTS = 3
"""The number of hosts that may print in one step for their output to be shown as it comes."""
_HOLD_SECONDS = 1.0  # a step that ends sooner is folded with the other hosts' steps
_MAX_HELD_BYTES = 4_000_000

_HostAndApp: TypeAlias = "tuple[str, str | None]"


class _RunningOutput(Struct):
    """The output of a running step. ``held`` is None once it is known how it is shown."""

    title: str
    since: float
    held: list[StepOutput] | None = field(default_factory=list)
    held_bytes: int = 0
    is_shown: bool = False


class LiveOutput:
    """The output of running steps, as prefixed lines.

    It is shown as it comes if at most three hosts print in that step, and the step takes longer
    than a second.
    """

    def __init__(self) -> None:
        self._running: dict[_HostAndApp, _RunningOutput] = {}
        self._talking: dict[tuple[str | None, str, int], set[str]] = {}
        self._lines = HostLines()
        self._shown: set[_HostAndApp] = set()

    def add(self, event: StepOutput, title: str, *, at_once: bool) -> Iterator[str]:
        """Add output of a step and yield the lines to print now.

        ``title`` precedes the step's output, unless it is empty. ``at_once``: the step is the only
        one of the only host, so that there is nothing to fold.
        """
        key = (event.host, event.app)
        output = self._running.get(key)
        if output is None:
            output = self._running[key] = _RunningOutput(title, event.time)
        if output.held is None:
            if output.is_shown:
                yield from self._lines.feed(event)
            return
        output.held.append(event)
        output.held_bytes += len(event.data)
        if self._is_talked_by_many(event):
            output.held = None
        elif at_once:
            yield from self._show(output)
        elif output.held_bytes > _MAX_HELD_BYTES:
            output.held = None

    def due_lines(self, now: float) -> Iterator[str]:
        """Yield the lines of the steps that have taken long enough by ``now`` (epoch seconds)."""
        for output in self._running.values():
            if output.held and now - output.since >= _HOLD_SECONDS:
                if self._is_talked_by_many(output.held[-1]):
                    output.held = None
                else:
                    yield from self._show(output)

    def end_step(self, event: StepFinished) -> Iterator[str]:
        """Yield the last lines of a step, if its output was shown; later steps start anew."""
        output = self._running.pop((event.host, event.app), None)
        if output is not None and output.is_shown:
            self._shown.add((event.host, event.app))
            yield from self._lines.end_step(event.host, event.app)

    def end_task(self, app: str | None) -> None:
        """Forget which hosts printed in the steps of the app's task."""
        self._talking = {key: hosts for key, hosts in self._talking.items() if key[0] != app}

    def end_all(self) -> Iterator[str]:
        """Yield the last lines of all steps that did not end."""
        yield from self._lines.end_all()

    def take_shown(self, event: StepFinished) -> bool:
        """Return True if the output of the step that has just ended was shown as it came."""
        key = (event.host, event.app)
        was_shown = key in self._shown
        self._shown.discard(key)
        return was_shown

    def _is_talked_by_many(self, event: StepOutput) -> bool:
        hosts = self._talking.setdefault((event.app, event.task, event.step), set())
        if len(hosts) <= MAX_TALKING_HOSTS:
            hosts.add(event.host)
        return len(hosts) > MAX_TALKING_HOSTS

    def _show(self, output: _RunningOutput) -> Iterator[str]:
        held, output.held, output.is_shown = output.held or [], None, True
        if output.title:
            yield output.title
        for event in held:
            yield from self._lines.feed(event)
