"""The output of steps, with equal output of several hosts shown once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import StepFinished
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.sanitize import sanitize_output, show_controls, to_one_line
from orchestrator.model.step_number import number_label
from orchestrator.model.step_result import CapturedOutput, Status, StepResult
from orchestrator.output.console import BOLD, DIM, TextConsole, status_text
from orchestrator.output.diff import change_lines
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.host_diff import OutputGroup, group_diff_lines, most_common_group

_MAX_LINES = 60
_MAX_LINE_CHARS = 4000
_MAX_CHARS = 20_000
_CHECK_STATUSES = (Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN)

HostAndApp: TypeAlias = tuple[str, str | None]
StepKey: TypeAlias = tuple[str | None, str, int, str]
"""A step: its app, task, number and name."""


class _PrintedOutput(Struct, frozen=True):
    """The output as displayed. ``digest`` distinguishes outputs truncated to the same lines."""

    stdout: tuple[str, ...]
    stderr: tuple[str, ...]
    digest: bytes = b""


class _StepOutputs(Struct):
    app: str | None
    task: str
    number: int
    name: str
    printed: dict[_PrintedOutput, list[str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        app = f"{self.app} " if self.app else ""
        return to_one_line(f"{app}{self.task}, step {number_label(self.number)}: {self.name}")


class OutputGroups:
    """A collection of the output of steps, displayed in groups.

    Only what can be displayed is stored: hosts with equal output share one copy, and long output is
    truncated to its head and tail on arrival (unless ``verbose`` is above 0, or outputs are
    compared); ``is_cut`` is True if any was.
    """

    def __init__(self, options: DisplayOptions) -> None:
        self._options = options
        self._titled = self.is_cut = False
        self._steps: dict[StepKey, _StepOutputs] = {}

    def add(self, event: StepFinished) -> None:
        """Store the output of a step, if any; in check mode also its planned changes.

        Values that later steps use are shown only if asked for (``verbose``).
        """
        is_data = event.has_values and event.register and not self._options.verbose
        stdout, out_sum = self._shown(CapturedOutput() if is_data else event.outcome.stdout)
        if event.outcome.status in _CHECK_STATUSES:
            self._titled = True
            stdout = (*_check_lines(event.outcome), *stdout)
        elif self._options.diff and event.outcome.changes:
            self._titled = True
            stdout = ("changed:", *change_lines(event.outcome), *stdout)
        stderr, err_sum = self._shown(event.outcome.stderr)
        if not stdout and not stderr:
            return
        key = (event.app, event.task, event.step, event.name)
        step = self._steps.setdefault(key, _StepOutputs(*key))
        step.printed.setdefault(_PrintedOutput(stdout, stderr, out_sum + err_sum), []).append(
            event.host
        )

    def lines(
        self,
        order: Mapping[str, int],
        shown_stderr: Mapping[HostAndApp, tuple[str, ...]],
        out: TextConsole,
        step_order: Callable[[StepKey], Any] = lambda _: 0,
    ) -> Iterator[str]:
        """Yield all output, without stderr in ``shown_stderr``.

        ``order`` are the places of hosts, ``step_order`` the sort key of steps.
        """
        in_order = [self._steps[key] for key in sorted(self._steps, key=step_order)]
        steps = [(step, _without_shown(step, shown_stderr)) for step in in_order]
        steps = [(step, printed) for step, printed in steps if printed]
        for step, printed in steps:
            if len(steps) > 1 or self._titled:
                yield out.paint(f"━━ {step.title} ━━", BOLD)
            for hosts in printed.values():
                hosts.sort(key=lambda host: order.get(host, len(order)))
            groups = sorted(printed.items(), key=lambda item: order.get(item[1][0], len(order)))
            if self._options.diff_hosts:
                yield from self._diff_lines(groups, out)
                continue
            for output, hosts in groups:
                yield from _group_lines(fold_hostnames(hosts), output, out)
        if steps:
            yield ""

    def _diff_lines(
        self, groups: Sequence[tuple[_PrintedOutput, list[str]]], out: TextConsole
    ) -> Iterator[str]:
        """Yield the most common output, and how the others differ from it."""
        found = [OutputGroup(tuple(hosts), part.stdout, part.stderr) for part, hosts in groups]
        base = most_common_group(found)
        is_whole = self._options.verbose > 0
        stdout, stderr = (
            lines if is_whole else tuple(_head_and_tail([_cut_middle(line) for line in lines]))
            for lines in (base.stdout, base.stderr)
        )
        yield from _group_lines(fold_hostnames(base.hosts), _PrintedOutput(stdout, stderr), out)
        others = [group for group in found if group is not base]
        for group in sorted(others, key=lambda group: -len(group.hosts)):
            yield from group_diff_lines(base, group, out, whole=is_whole)

    def _shown(self, captured: CapturedOutput) -> tuple[tuple[str, ...], bytes]:
        if not captured.head and not captured.tail:
            return (), b""
        text = sanitize_output(captured.display_text)
        lines = text.rstrip().split("\n") if text.strip() else []
        is_whole = self._options.verbose > 0 or self._options.diff_hosts
        kept = lines if is_whole else _head_and_tail([_cut_middle(line) for line in lines])
        self.is_cut = self.is_cut or kept != lines or captured.dropped > 0
        digest = hashlib.sha256(captured.head + captured.tail).digest() if kept != lines else b""
        return tuple(kept), digest


def _without_shown(
    step: _StepOutputs, shown_stderr: Mapping[HostAndApp, tuple[str, ...]]
) -> dict[_PrintedOutput, list[str]]:
    """Return each host's output without the stderr that is shown in full below the table."""
    found: dict[_PrintedOutput, list[str]] = {}
    for printed, hosts in step.printed.items():
        for host in hosts:
            same = printed.stderr and shown_stderr.get((host, step.app)) == printed.stderr
            rest = _PrintedOutput(printed.stdout, (), printed.digest) if same else printed
            if rest.stdout or rest.stderr:
                found.setdefault(rest, []).append(host)
    return found


def _group_lines(hosts: str, printed: _PrintedOutput, out: TextConsole) -> Iterator[str]:
    hosts = to_one_line(hosts)
    if len(printed.stdout) + len(printed.stderr) == 1:
        mark = ":" if printed.stdout else " !"
        yield f"{out.paint(hosts, BOLD)}{mark} {(printed.stdout or printed.stderr)[0]}"
        return
    yield out.paint(f"── {hosts} ──", BOLD)
    for line in printed.stdout:  # indented, so that no line looks like one of orch
        yield f"  {line}".rstrip()
    for line in printed.stderr:
        yield f"{out.paint('!', DIM)} {line}".rstrip()


def _check_lines(outcome: StepResult) -> list[str]:
    """Return ``would run: systemctl …``; a reason of several lines follows below."""
    if outcome.changes:
        return [f"{status_text(outcome.status)}:", *change_lines(outcome)]
    reason = show_controls(outcome.reason).strip("\n")
    if "\n" in reason:
        return [f"{status_text(outcome.status)}:", *reason.split("\n")]
    return [f"{status_text(outcome.status)}: {reason}" if reason else status_text(outcome.status)]


def _head_and_tail(lines: list[str]) -> list[str]:
    """Return the head and tail of long output, with a note about the lines left out."""
    if len(lines) <= _MAX_LINES and sum(map(len, lines)) <= _MAX_CHARS:
        return lines
    head = _fitting_lines(lines[: _MAX_LINES // 2])
    tail = _fitting_lines(lines[max(len(head), len(lines) - _MAX_LINES // 2) :][::-1])[::-1]
    left = len(lines) - len(head) - len(tail)
    return [*head, f"[… {left} lines omitted; the log has all …]", *tail]


def _fitting_lines(lines: list[str]) -> list[str]:
    """Return as many of the first lines as fit into half the size, at least one."""
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line)
        if kept and size > _MAX_CHARS // 2:
            break
        kept.append(line)
    return kept


def _cut_middle(line: str) -> str:
    if len(line) <= _MAX_LINE_CHARS:
        return line
    half = _MAX_LINE_CHARS // 2
    return f"{line[:half]}[… {len(line) - 2 * half} characters …]{line[-half:]}"
