"""A run in the log of a CI server: a group of lines for each task, and annotations of failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import (
    EventSink,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    TaskFinished,
    TaskStarted,
)
from orchestrator.model.host_folding import fold_messages, message_frame
from orchestrator.model.sanitize import sanitize_output, to_one_line
from orchestrator.model.step_result import HostSummary, Status, last_lines
from orchestrator.output.ci_log import GroupMarkers, error_annotation
from orchestrator.output.console import TextConsole, status_text
from orchestrator.output.step_lines import EqualResults, StepResults, fold_hosts, step_title

_MAX_HELD_CHARS = 4_000_000
_MAX_ANNOTATIONS = 10
"""GitHub shows at most 10 errors of a step."""
_MAX_STDERR_LINES = 5
_AppAndTask: TypeAlias = "tuple[str | None, str]"


class _TaskGroup(Struct):
    """A task that has started, and its lines that are held back."""

    title: str
    held: list[str] = field(default_factory=list)
    held_chars: int = 0
    dropped: int = 0
    is_finished: bool = False

    def hold(self, text: str) -> None:
        """Keep lines for later, up to a limit."""
        if self.held_chars + len(text) > _MAX_HELD_CHARS:
            self.dropped += text.count("\n")
            return
        self.held.append(text)
        self.held_chars += len(text)

    def take_held(self) -> str:
        """Return the lines that were held back."""
        note = f"[… {self.dropped} lines omitted; the log has all …]\n" if self.dropped else ""
        text = "".join(self.held) + note
        self.held, self.held_chars, self.dropped = [], 0, 0
        return text


class _RedirectedConsole(TextConsole):
    """A console that passes its text on."""

    def __init__(self, like: TextConsole, write: Callable[[str], None]) -> None:
        super().__init__(like.stream, width=like.width)
        self._pass_on = write

    def write(self, text: str) -> None:
        self._pass_on(text)


class TaskGroupSink:
    """A sink that prints the lines of another one, with a group for each task.

    Groups cannot overlap in a log. If tasks of several apps run at the same time, the lines of the
    first one are printed as they come, those of the others when it has ended. ``make_sink`` returns
    the sink that prints on a console.
    """

    def __init__(
        self,
        out: TextConsole,
        markers: GroupMarkers,
        make_sink: Callable[[TextConsole], EventSink],
    ) -> None:
        self._out, self._markers = out, markers
        self._sink = make_sink(_RedirectedConsole(out, self._write))
        self._groups: list[_TaskGroup] = []
        self._running: dict[_AppAndTask, _TaskGroup] = {}
        self._current: _TaskGroup | None = None
        self._target: _TaskGroup | None = None
        self._time = 0.0

    def __call__(self, event: RunEvent) -> None:
        self._time = event.time
        if isinstance(event, TaskStarted):
            group = _TaskGroup(_group_title(event))
            self._groups.append(group)
            self._running[event.app, event.task] = group
            self._begin_next()
        elif isinstance(event, RunFinished):
            self._end_all()
        key = (getattr(event, "app", None), getattr(event, "task", ""))
        self._target = self._running.get(key)
        self._sink(event)
        if isinstance(event, TaskFinished) and self._target is not None:
            del self._running[key]
            self._target.is_finished = True
            self._end_finished()

    def close(self) -> None:
        """Print what is held back, and end the groups."""
        self._target = self._current
        self._sink.close()
        self._end_all()

    def _write(self, text: str) -> None:
        if self._target is None or self._target is self._current:
            self._out.write(text)
        else:
            self._target.hold(text)

    def _begin_next(self) -> None:
        """Begin the group of a task that has started, unless one is open."""
        if self._current is None and self._groups:
            self._current = self._groups[0]
            self._out.command(self._markers.begin(self._current.title, self._time))
            self._out.write(self._current.take_held())

    def _end_finished(self) -> None:
        """End the open group if its task has ended, and print those that waited for it."""
        while self._current is not None and self._current.is_finished:
            self._out.command(self._markers.end(self._time))
            self._groups = [each for each in self._groups if each is not self._current]
            self._groups.sort(key=lambda group: not group.is_finished)
            self._current = None
            self._begin_next()

    def _end_all(self) -> None:
        for group in self._groups:
            group.is_finished = True
        self._running.clear()
        self._end_finished()


def _group_title(event: TaskStarted) -> str:
    count = len(event.hosts)
    number = f" ({event.number}/{event.total})" if event.total > 1 else ""
    hosts = f"{count} host{'' if count == 1 else 's'}"
    return f"{step_title(event.app, event.task, '')}{number} on {hosts}"


class AnnotationSink:
    """A sink that prints annotations of what failed, as commands of GitHub Actions.

    A step that failed has one for all hosts with the same result.
    """

    def __init__(self, out: TextConsole, environ: Mapping[str, str]) -> None:
        self._out, self._environ = out, environ
        self._order: dict[str, int] = {}
        self._steps: dict[tuple[str | None, str, int], StepResults] = {}
        self._failed: set[tuple[str, str | None]] = set()
        self._left = _MAX_ANNOTATIONS

    def __call__(self, event: RunEvent) -> None:
        match event:
            case RunStarted():
                self._order = {host: number for number, host in enumerate(event.hosts)}
            case StepFinished(outcome=outcome) if outcome.status.is_failure:
                if not outcome.ignored:
                    self._failed.add((event.host, event.app))
                    key = (event.app, event.task, event.step)
                    step = self._steps.setdefault(key, StepResults(event.app, event.task))
                    step.add(event.host, outcome, event.name)
            case TaskFinished():
                self._print(self._step_annotations(event.app, event.task))
            case RunFinished():
                for app, task in {key[:2]: None for key in self._steps}:
                    self._print(self._step_annotations(app, task))
                self._print(self._host_annotations(event.rows))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _print(self, annotations: Iterable[str]) -> None:
        for annotation in annotations:
            if self._left:
                self._left -= 1
                self._out.command(annotation)

    def _step_annotations(self, app: str | None, task: str) -> Iterator[str]:
        keys = [key for key in self._steps if key[:2] == (app, task)]
        for step in [self._steps.pop(key) for key in sorted(keys, key=lambda key: key[2])]:
            for group in step.sorted_groups(self._order):
                yield self._step_annotation(step, group)

    def _step_annotation(self, step: StepResults, group: EqualResults) -> str:
        outcome = group.outcome
        name, detail = group.name_and_detail
        lines = last_lines(sanitize_output(outcome.stderr.display_text), _MAX_STDERR_LINES)
        if len(lines) > 1:
            detail = detail.removesuffix(f": {to_one_line(lines[-1])}")
        about = f"{fold_hosts(group.hosts)}: {status_text(outcome.status)}: {detail}"
        return error_annotation(
            step_title(step.app, step.task, name),
            "\n".join((about, *lines) if len(lines) > 1 else (about,)),
            outcome.position,
            self._environ,
        )

    def _host_annotations(self, rows: Iterable[HostSummary]) -> Iterator[str]:
        """Yield an annotation for hosts that failed without a failed step."""
        groups: dict[object, list[HostSummary]] = {}
        for row in rows:
            is_reason = row.status.is_failure and row.status is not Status.NOT_STARTED
            if is_reason and (row.host, row.app) not in self._failed:
                key = (row.app, row.status, message_frame(row.reason, row.host))
                groups.setdefault(key, []).append(row)
        for group in groups.values():
            hosts = fold_hosts([row.host for row in group])
            title = f"{hosts}: {status_text(group[0].status)}"
            reason = fold_messages((row.host, row.reason) for row in group)
            yield error_annotation(title, reason or title, "", self._environ)
