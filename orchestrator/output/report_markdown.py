"""A run as Markdown, for job summaries and comments (https://github.github.com/gfm/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TypeAlias

from orchestrator.model.event import RunEvent, RunFinished, RunStarted, StepFinished
from orchestrator.model.host_folding import fold_hostnames, message_frame
from orchestrator.model.sanitize import sanitize_output, to_one_line
from orchestrator.model.step_result import HostSummary, Status
from orchestrator.output.console import status_text
from orchestrator.output.step_lines import StepResults, fold_hosts, step_title
from orchestrator.output.summary import summary_line

_MAX_CHANGED_STEPS = 100
_MAX_STDERR_LINES = 20
_HostPart: TypeAlias = "tuple[str, str | None]"


def markdown_report(events: Iterable[RunEvent]) -> str:
    """Return the run as Markdown: the failures, what was changed, and the result of each host."""
    began: RunStarted | None = None
    ended: RunFinished | None = None
    changed: dict[tuple[str | None, str, int], StepResults] = {}
    positions: dict[_HostPart, str] = {}
    for event in events:
        match event:
            case RunStarted():
                began = event
            case StepFinished() if event.outcome.status is Status.CHANGED:
                key = (event.app, event.task, event.step)
                step = changed.setdefault(key, StepResults(event.app, event.task))
                step.add(event.host, event.outcome, event.name)
            case StepFinished() if event.outcome.position:
                positions[event.host, event.app] = event.outcome.position
            case RunFinished():
                ended = event
    order = {host: place for place, host in enumerate(began.hosts)} if began else {}
    lines = [*_heading_lines(began, ended)]
    if ended is not None:
        lines += _failure_lines(ended.rows, positions)
    lines += _change_lines(list(changed.values()), order)
    if ended is not None:
        lines += _row_lines(ended.rows)
    return "\n".join(lines).rstrip() + "\n"


def _heading_lines(began: RunStarted | None, ended: RunFinished | None) -> Iterator[str]:
    if began is not None:
        check = "check of " if began.check else ""
        apps = f" for {', '.join(began.apps)}" if began.apps else ""
        yield f"## {_text(f'{began.stage}: {check}' + ' '.join(began.tasks) + apps)}"
        yield ""
    if ended is not None:
        run = f" Run {_code(began.run)}." if began else ""
        yield f"{_text(summary_line(ended.rows, ended.seconds))}.{run}"
        yield ""


def _failure_lines(
    rows: Iterable[HostSummary], positions: Mapping[_HostPart, str]
) -> Iterator[str]:
    groups: dict[object, list[HostSummary]] = {}
    for row in rows:
        if row.status.is_failure:
            reason, position = message_frame(row.reason, row.host), positions.get(_part(row))
            key = (row.app, row.status, reason, row.stderr, position)
            groups.setdefault(key, []).append(row)
    if groups:
        yield from ("### Failed", "")
    for group in groups.values():
        row = group[0]
        app = f" {_code(row.app)}" if row.app else ""
        hosts = _code(fold_hostnames(each.host for each in group))
        position = positions.get(_part(row), "")
        at = f" (at {_code(position)})" if position else ""
        yield f"- {hosts}{app} {status_text(row.status)}: {_text(row.reason)}{at}"
        stderr = sanitize_output(row.stderr).rstrip().split("\n")[-_MAX_STDERR_LINES:]
        if any(stderr):
            yield f"  <pre>{'<br>'.join(escape(line, quote=False) for line in stderr)}</pre>"
    if groups:
        yield ""


def _part(row: HostSummary) -> _HostPart:
    return row.host, row.app


def _change_lines(steps: list[StepResults], order: dict[str, int]) -> Iterator[str]:
    if not steps:
        return
    yield from ("### Changed", "")
    for step in steps[:_MAX_CHANGED_STEPS]:
        for group in step.sorted_groups(order):
            name, detail = group.name_and_detail
            title = _text(step_title(step.app, step.task, name))
            about = f": {_text(detail)}" if detail else ""
            yield f"- {title} on {_code(fold_hosts(group.hosts))}{about}"
    if len(steps) > _MAX_CHANGED_STEPS:
        yield f"- and {len(steps) - _MAX_CHANGED_STEPS} more steps"
    yield ""


def _row_lines(rows: Iterable[HostSummary]) -> Iterator[str]:
    groups: dict[tuple[str | None, Status, tuple[int, ...]], list[HostSummary]] = {}
    for row in sorted(rows, key=lambda row: row.status.severity_rank):
        key = (row.app, row.status, (row.ok, row.changed, row.failed, row.skipped))
        groups.setdefault(key, []).append(row)
    yield "| hosts | app | status | ok | changed | failed | skipped |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for (app, status, counts), group in groups.items():
        hosts = fold_hosts([row.host for row in group], count=len(group) > 1)
        cells = (_code(hosts), _text(app or ""), status_text(status), *map(str, counts))
        yield f"| {' | '.join(cells)} |"


_MARKUP = {char: f"\\{char}" for char in "\\`*_{}[]+!|~"} | {
    char: f"&#{ord(char)};" for char in "&<>#@"
}


def _text(text: str) -> str:
    """Return the text with everything escaped that Markdown, HTML or GitHub take as markup."""
    return "".join(_MARKUP.get(char, char) for char in to_one_line(text))


def _code(text: str) -> str:
    """Return the text as code; a backquote in it is shown as an apostrophe."""
    line = to_one_line(text).replace("`", "'").replace("|", "\\|")
    return f"`{line}`" if line else ""
