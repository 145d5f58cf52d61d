"""What the hosts printed, equal output once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import StepFinished
from orchestrator.model.host_folding import fold
from orchestrator.model.sanitize import clean, one_line, visible
from orchestrator.model.step_number import label
from orchestrator.model.step_result import Captured, Outcome, Status
from orchestrator.output.console import BOLD, DIM, Out, said
from orchestrator.output.diff import change_lines

_LINES = 60
_LINE = 4000
_SIZE = 20_000
_WITHHELD = (Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN)

Target: TypeAlias = tuple[str, str | None]


class _Printed(Struct, frozen=True):
    """One output as it will be shown. ``sum`` tells apart what was cut to the same lines."""

    stdout: tuple[str, ...]
    stderr: tuple[str, ...]
    sum: bytes = b""


class _Step(Struct):
    app: str | None
    task: str
    number: int
    name: str
    printed: dict[_Printed, list[str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        app = f"{self.app} " if self.app else ""
        return one_line(f"{app}{self.task}, step {label(self.number)}: {self.name}")


class Outputs:
    """Collects the output of steps and shows it folded.

    What cannot be shown is not kept: hosts that printed the same share one copy, and long
    output is cut to its head and tail on arrival (unless ``whole``).
    """

    def __init__(self, *, whole: bool = False, diff: bool = False) -> None:
        self._whole, self._diff = whole, diff
        self._titled = False
        self._steps: dict[tuple[str | None, str, int, str], _Step] = {}

    def add(self, event: StepFinished) -> None:
        """Keep what a step printed, if it did; under check, also what it would do."""
        stdout, out_sum = self._shown(event.outcome.stdout)
        if event.outcome.status in _WITHHELD:
            self._titled = True
            stdout = (*_withheld(event.outcome), *stdout)
        elif self._diff and event.outcome.changes:
            self._titled = True
            stdout = ("changed:", *change_lines(event.outcome), *stdout)
        stderr, err_sum = self._shown(event.outcome.stderr)
        if not stdout and not stderr:
            return
        key = (event.app, event.task, event.step, event.name)
        step = self._steps.setdefault(key, _Step(*key))
        step.printed.setdefault(_Printed(stdout, stderr, out_sum + err_sum), []).append(event.host)

    def lines(
        self, order: Mapping[str, int], told: Mapping[Target, tuple[str, ...]], out: Out
    ) -> Iterator[str]:
        """All of it. Hosts stand as in ``order``; stderr that is ``told`` elsewhere is left out."""
        steps = [(step, _without(step, told)) for step in self._steps.values()]
        steps = [(step, printed) for step, printed in steps if printed]
        for step, printed in steps:
            if len(steps) > 1 or self._titled:
                yield out.paint(f"━━ {step.title} ━━", BOLD)
            for hosts in printed.values():
                hosts.sort(key=lambda host: order.get(host, len(order)))
            groups = sorted(printed.items(), key=lambda item: order.get(item[1][0], len(order)))
            for output, hosts in groups:
                yield from _group(fold(hosts), output, out)
        if steps:
            yield ""

    def _shown(self, captured: Captured) -> tuple[tuple[str, ...], bytes]:
        if not captured.head and not captured.tail:
            return (), b""
        text = clean(captured.shown)
        lines = text.rstrip().split("\n") if text.strip() else []
        kept = lines if self._whole else _ends([_middle_cut(line) for line in lines])
        digest = hashlib.sha256(captured.head + captured.tail).digest() if kept != lines else b""
        return tuple(kept), digest


def _without(step: _Step, told: Mapping[Target, tuple[str, ...]]) -> dict[_Printed, list[str]]:
    """What each host printed, less the stderr that is shown whole beneath the table."""
    found: dict[_Printed, list[str]] = {}
    for printed, hosts in step.printed.items():
        for host in hosts:
            same = printed.stderr and told.get((host, step.app)) == printed.stderr
            rest = _Printed(printed.stdout, (), printed.sum) if same else printed
            if rest.stdout or rest.stderr:
                found.setdefault(rest, []).append(host)
    return found


def _group(hosts: str, printed: _Printed, out: Out) -> Iterator[str]:
    hosts = one_line(hosts)
    if len(printed.stdout) + len(printed.stderr) == 1:
        mark = ":" if printed.stdout else " !"
        yield f"{out.paint(hosts, BOLD)}{mark} {(printed.stdout or printed.stderr)[0]}"
        return
    yield out.paint(f"── {hosts} ──", BOLD)
    for line in printed.stdout:  # behind a margin: none of it looks like a line of orch
        yield f"  {line}".rstrip()
    for line in printed.stderr:
        yield f"{out.paint('!', DIM)} {line}".rstrip()


def _withheld(outcome: Outcome) -> list[str]:
    """``would run: systemctl …``; a reason of several lines stands below."""
    if outcome.changes:
        return [f"{said(outcome.status)}:", *change_lines(outcome)]
    reason = visible(outcome.reason).strip("\n")
    if "\n" in reason:
        return [f"{said(outcome.status)}:", *reason.split("\n")]
    return [f"{said(outcome.status)}: {reason}" if reason else said(outcome.status)]


def _ends(lines: list[str]) -> list[str]:
    """The head and the tail of what is too long, with a word on what lies between."""
    if len(lines) <= _LINES and sum(map(len, lines)) <= _SIZE:
        return lines
    head = _fitting(lines[: _LINES // 2])
    tail = _fitting(lines[max(len(head), len(lines) - _LINES // 2) :][::-1])[::-1]
    left = len(lines) - len(head) - len(tail)
    return [*head, f"[… {left} lines not shown here; the log has them all …]", *tail]


def _fitting(lines: list[str]) -> list[str]:
    """As many of the first lines as half the size holds, at least one."""
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line)
        if kept and size > _SIZE // 2:
            break
        kept.append(line)
    return kept


def _middle_cut(line: str) -> str:
    if len(line) <= _LINE:
        return line
    half = _LINE // 2
    return f"{line[:half]}[… {len(line) - 2 * half} characters …]{line[-half:]}"
