"""The end of a run: the hosts' output, a row for each host, and the totals."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from msgspec.structs import replace

from orchestrator.model.event import RunEvent, RunFinished, RunStarted, StepFinished, TaskStarted
from orchestrator.model.host_folding import fold_hints, fold_hostnames, fold_messages, message_frame
from orchestrator.model.sanitize import sanitize_output, to_one_line
from orchestrator.model.step_number import number_parts
from orchestrator.model.step_result import CapturedOutput, HostSummary, Status, last_lines
from orchestrator.output.console import BOLD, DIM, RED, TextConsole, status_text, style_of
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.output_groups import OutputGroups, StepKey
from orchestrator.output.step_lines import LineLayout, StepResults, change_lines, fold_hosts
from orchestrator.output.tables import TableColumn, table_blocks
from orchestrator.output.text_width import wrap_text

_MAX_STDERR_LINES = 5
_MIN_SHARED_ROWS = 3  # so many rows with the same result share their reason below them
_MIN_FOLDED_TABLE = 30  # hosts of a table from which on equal rows are one
_MAX_CHANGED_STEPS = 50  # in the list of what was changed
_COLUMNS = (
    TableColumn("host"),
    TableColumn("app"),
    TableColumn("roles", drop=9),
    TableColumn("status"),
    TableColumn("ok", right=True, drop=5),
    TableColumn("changed", right=True, drop=5),
    TableColumn("unknown", right=True, drop=5),
    TableColumn("failed", right=True, drop=5),
    TableColumn("skipped", right=True, drop=5),
    TableColumn("seconds", right=True, drop=8),
    TableColumn("reason"),
)
_STATUS_COLUMN = 3


class SummarySink:
    """A sink that prints on RunFinished what the run did.

    This is the hosts' output in groups (if ``outputs``), what was changed, a row for each host, and
    the totals. ``was_output_shown`` returns True for a step whose output has been printed already;
    ``needs_changes`` returns False if the lines above show what was changed.
    """

    def __init__(
        self,
        out: TextConsole,
        options: DisplayOptions,
        *,
        outputs: bool = True,
        was_output_shown: Callable[[StepFinished], bool] = lambda _: False,
        needs_changes: Callable[[], bool] = lambda: True,
    ) -> None:
        self._out, self._options = out, options
        self._was_output_shown, self._needs_changes = was_output_shown, needs_changes
        self._outputs = OutputGroups(options) if outputs else None
        self._changes: dict[StepKey, StepResults] = {}
        self._order: dict[str, int] = {}
        self._tasks: dict[tuple[str | None, str], int] = {}

    def __call__(self, event: RunEvent) -> None:
        match event:
            case RunStarted():
                self._order = {host: i for i, host in enumerate(event.hosts)}
            case TaskStarted():
                self._tasks.setdefault((event.app, event.task), len(self._tasks))
            case StepFinished():
                self._add_step(event)
            case RunFinished():
                self._out.lines(self._summary_lines(event))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _add_step(self, event: StepFinished) -> None:
        key = (event.app, event.task, event.step, "")  # the name may differ between hosts
        if event.outcome.status is Status.CHANGED:
            step = self._changes.setdefault(key, StepResults(event.app, event.task))
            step.add(event.host, event.outcome, event.name)
        if self._outputs:
            if self._was_output_shown(event):
                shown = replace(event.outcome, stdout=CapturedOutput(), stderr=CapturedOutput())
                event = replace(event, outcome=shown)
            self._outputs.add(event)

    def _step_order(self, key: StepKey) -> tuple[int, tuple[int, ...]]:
        app, task, step, _ = key
        return self._tasks.get((app, task), len(self._tasks)), number_parts(step)

    def _summary_lines(self, event: RunFinished) -> Iterator[str]:
        if self._outputs:
            shown_stderr = {
                (row.host, row.app): _last_stderr_lines(row)
                for row in event.rows
                if row.status.is_failure
            }
            yield from self._outputs.lines(self._order, shown_stderr, self._out, self._step_order)
        if self._needs_changes():
            yield from self._change_lines()
        yield from results_table(event.rows, self._out, unfold=self._options.verbose > 0)
        totals = summary_line(event.rows, event.seconds)
        yield from wrap_text(totals, self._out.width or len(totals))
        if event.log:
            yield self._out.paint(f"log: {to_one_line(event.log)}", DIM)
        failed = sum(row.status.is_failure for row in event.rows)
        if self._options.rerun and 0 < failed < len(event.rows):
            yield f"again, where it failed: {to_one_line(self._options.rerun)}"  # to be copied
        if self._options.resume and failed:
            yield f"to resume: {to_one_line(self._options.resume)}"

    def _change_lines(self) -> Iterator[str]:
        """Yield what was changed, a line for each step and group of hosts with the same change.

        A single step without states (`orch exec`) is left to the table.
        """
        keys = sorted(self._changes, key=self._step_order)
        steps = [self._changes[key] for key in keys]
        if len(steps) < 2 and not any(
            group.name_and_detail[1] for step in steps for group in step.groups.values()
        ):
            return
        yield self._out.paint("changed:", BOLD)
        layout = LineLayout(self._out.width)
        for step in steps[:_MAX_CHANGED_STEPS]:
            yield from change_lines(step, self._order, layout)
        if len(steps) > _MAX_CHANGED_STEPS:
            yield f"  … and {len(steps) - _MAX_CHANGED_STEPS} more steps; the log has all"
        yield ""


def results_table(
    rows: Sequence[HostSummary], out: TextConsole, *, unfold: bool = False
) -> Iterator[str]:
    """Yield a row per host and app, worst last; failed rows are followed by their last stderr.

    Adjacent rows with the same result share these lines, below the last of them. Three or more such
    rows share their reason as well. In a table of 30 rows or more, equal rows are one row with the
    longest time, unless ``unfold`` is True.
    """
    if not rows:
        return
    ranked = sorted(rows, key=_row_rank)
    alike = Counter(_row_rank(row) for row in ranked)
    if unfold or len(ranked) < _MIN_FOLDED_TABLE:
        groups = [[row] for row in ranked]
    else:
        groups = _equal_rows(ranked)

    def paint(number: int, column: int, text: str) -> str:
        if number < 0:
            return out.paint(text, BOLD)
        status = groups[number][0].status
        return (
            out.paint(text, style_of(status))
            if column == _STATUS_COLUMN or status.is_failure
            else text
        )

    def is_reason_below(group: Sequence[HostSummary]) -> bool:
        return group[0].status.is_failure and alike[_row_rank(group[0])] >= _MIN_SHARED_ROWS

    unknown = any(row.unknown for row in rows)
    texts = [
        _row_cells(
            group,
            "" if is_reason_below(group) else _shared_hosts(group, [row.reason for row in group]),
            unknown=unknown,
        )
        for group in groups
    ]
    heading, *lines = table_blocks(_COLUMNS, texts, out.width, paint)
    yield from heading
    for _, pairs in groupby(
        zip(groups, lines, strict=True), key=lambda pair: _row_rank(pair[0][0])
    ):
        same_result: list[HostSummary] = []
        for group, block in pairs:
            yield from block
            same_result += group
        if same_result[0].status.is_failure:
            yield from _lines_beneath(same_result, out)


def _equal_rows(ranked: Sequence[HostSummary]) -> list[list[HostSummary]]:
    """Return groups of rows that differ only in their hosts and times."""
    groups: dict[object, list[HostSummary]] = {}
    for row in ranked:
        counts = (row.ok, row.changed, row.unknown, row.failed, row.skipped)
        reason = message_frame(row.reason, row.host) if row.reason else ()
        key = (_row_rank(row), row.app, row.roles, counts, reason)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def summary_line(rows: Sequence[HostSummary], seconds: float) -> str:
    """Return ``300 hosts: 296 ok, 2 unreachable, 2 failed in 2.3 s``, best first."""
    if not rows:
        return f"no hosts in {seconds:.1f} s"
    counts = Counter(row.status for row in rows)
    counts_text = ", ".join(f"{counts[s]} {status_text(s)}" for s in reversed(Status) if counts[s])
    hosts = _count_text(len({row.host for row in rows}), "host")
    apps = {row.app for row in rows if row.app is not None}
    about = f"{hosts}, {_count_text(len(apps), 'app')}" if apps else hosts
    return f"{about}: {counts_text} in {seconds:.1f} s"


def _count_text(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _row_cells(group: Sequence[HostSummary], reason: str, *, unknown: bool) -> list[str]:
    row = group[0]
    counts = [str(n) for n in (row.ok, row.changed, row.unknown, row.failed, row.skipped)]
    if not unknown:  # only check mode has unknown results
        counts[2] = ""
    roles = ",".join(row.roles)
    seconds = f"{max(each.seconds for each in group):.2f}"
    hosts = row.host if len(group) == 1 else fold_hosts([each.host for each in group], count=True)
    return [hosts, row.app or "", roles, status_text(row.status), *counts, seconds, reason]


def _row_rank(row: HostSummary) -> tuple[int, tuple[tuple[str, ...], ...]]:
    """Return the sort key of a row: best first, failed rows grouped by their result."""
    how = (row.reason, *_last_stderr_lines(row)) if row.status.is_failure else ()
    return -row.status.severity_rank, tuple(message_frame(text, row.host) for text in how)


def _last_stderr_lines(row: HostSummary) -> tuple[str, ...]:
    text = sanitize_output(row.stderr).rstrip()
    return tuple(last_lines(text, _MAX_STDERR_LINES))


def _lines_beneath(group: Sequence[HostSummary], out: TextConsole) -> Iterator[str]:
    """Yield the last lines of stderr and the hints of rows with the same result."""
    words = [
        _shared_hosts(group, list(lines))
        for lines in zip(*map(_last_stderr_lines, group), strict=True)
    ]
    reason = (
        _shared_hosts(group, [row.reason for row in group])
        if len(group) >= _MIN_SHARED_ROWS
        else ""
    )
    if len(group) > 1 and (words or reason):
        hosts = fold_hostnames(row.host for row in group)
        yield from _indented_lines(f"{hosts}: {reason}".rstrip(), out, "    ")
    for line in words:
        yield f"    {out.paint('!', RED)} {line}".rstrip()
    hinted: dict[tuple[str, ...], list[HostSummary]] = {}
    for row in group:
        hinted.setdefault(message_frame(row.hint, row.host), []).append(row)
    for rows in hinted.values():
        if rows[0].hint:
            hosts = f"{fold_hostnames(row.host for row in rows)}: " if len(hinted) > 1 else ""
            yield from _indented_lines(f"{hosts}{_combined_hint(rows)}", out, "    help: ")


def _shared_hosts(group: Sequence[HostSummary], texts: Sequence[str]) -> str:
    if len(group) == 1:
        return texts[0]
    return fold_messages(
        (row.host, text) for row, text in zip(group, texts, strict=True) if any(texts)
    )


def _combined_hint(group: Sequence[HostSummary]) -> str:
    """Return the hint of rows with the same result: one command for all of their hosts."""
    hosts = shlex.quote(fold_hostnames(row.host for row in group))
    hints = [
        re.sub(
            rf" -l {re.escape(shlex.quote(row.host))}(?=\n|$)", lambda _: f" -l {hosts}", row.hint
        )
        for row in group
    ]
    if len(set(hints)) == 1:
        return hints[0]
    return fold_hints((row.host, hint) for row, hint in zip(group, hints, strict=True))


def _indented_lines(text: str, out: TextConsole, label: str) -> Iterator[str]:
    for i, line in enumerate(wrap_text(to_one_line(text), (out.width or 100) - 10)):
        yield f"{'          ' if i else label}{line}"
