"""Compares two recorded runs, step by step and host by host."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct

from orchestrator.journal.run_reader import RecordedRun, read_events
from orchestrator.model.event import StepFinished, StepsSent
from orchestrator.model.step_number import number_parts
from orchestrator.model.step_result import StepResult

_MIN_SECONDS = 1.0  # by which a step must be slower, besides being twice as slow
_MAX_DIFF_LINES = 60

_StepKey: TypeAlias = "tuple[str | None, str, int, int, str]"
"""An app, a task and how often it came before (in another batch), a step's number and name."""


class StepDifference(Struct, frozen=True):
    """How the results of one step differ, and the hosts of which that is true.

    ``about`` are texts like ``failed → ok``; ``output`` are the lines of unified diffs: of the text
    that was sent, and of the output.
    """

    app: str | None
    task: str
    name: str
    hosts: tuple[str, ...]
    about: tuple[str, ...]
    output: tuple[str, ...] = ()


def run_differences(old: RecordedRun, new: RecordedRun) -> Iterator[StepDifference]:
    """Yield the differences between two runs, in the order of the steps, then of the hosts.

    Hosts and steps that took part in one of the runs only are differences, too.
    """
    before, after = _steps_of(old), _steps_of(new)
    hosts_in_order = dict.fromkeys((*new.record.hosts, *old.record.hosts))
    for key in _merged_keys(before, after):
        app, task, _, _, name = key
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        old_results, new_results = before.get(key, {}), after.get(key, {})
        for host in dict.fromkeys((*hosts_in_order, *old_results, *new_results)):
            if host not in old_results and host not in new_results:
                continue
            found = _difference(old_results.get(host), new_results.get(host))
            if found != ((), ()):
                groups.setdefault(found, []).append(host)
        for (about, output), hosts in groups.items():
            yield StepDifference(app, task, name, hosts=tuple(hosts), about=about, output=output)


class _RecordedStep(Struct, frozen=True):
    """A step on one host: its last result, and the text that was sent, or ''."""

    result: StepResult
    text: str = ""


def _steps_of(run: RecordedRun) -> Mapping[_StepKey, Mapping[str, _RecordedStep]]:
    """Return the steps by host; of a step that ran again after a resume, the last time counts."""
    found: dict[_StepKey, dict[str, _RecordedStep]] = {}
    numbers: dict[tuple[str | None, str], dict[int, int]] = {}
    texts: dict[tuple[str | None, str, int, str, int], str] = {}
    for event in read_events(run):
        if isinstance(event, StepsSent):
            for step in event.steps:
                key = (event.app, event.task, event.number, event.host, step.step)
                texts[key] = _without_run(step.text, run.run)
        elif isinstance(event, StepFinished):
            before = numbers.setdefault((event.app, event.task), {})
            time = before.setdefault(event.number, len(before))
            text = texts.get((event.app, event.task, event.number, event.host, event.step), "")
            place = (event.app, event.task, time, event.step, event.name)
            found.setdefault(place, {})[event.host] = _RecordedStep(event.outcome, text)
    return found


def _without_run(text: str, run: str) -> str:
    """Return the text of a step without the run's ID and release, which differ in every run."""
    return text.replace(run, "RUN").replace(run[:14], "RELEASE")


def _merged_keys(
    before: Mapping[_StepKey, object], after: Mapping[_StepKey, object]
) -> list[_StepKey]:
    """Return the keys of both in the order of the tasks' first steps, then of the steps."""
    order: dict[tuple[str | None, str, int], int] = {}
    for app, task, time, _, _ in (*after, *before):
        order.setdefault((app, task, time), len(order))
    return sorted(
        {**after, **before},
        key=lambda key: (order[key[0], key[1], key[2]], number_parts(key[3]), key[4]),
    )


def _difference(
    first: _RecordedStep | None, second: _RecordedStep | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what differs between two steps, and the diff of their texts or outputs."""
    if first is None or second is None:
        return (("only in the first run" if second is None else "only in the second run",), ())
    old, new = first.result, second.result
    about: list[str] = []
    differs = bool(first.text and second.text) and first.text != second.text
    if differs:
        about.append("other text")
    if old.status is not new.status:
        texts = [str(each.status.value).replace("_", " ") for each in (old, new)]
        about.append(" → ".join(texts))
    elif (old.exit_status, old.reason) != (new.exit_status, new.reason):
        about.append(f"{_reason(old)} → {_reason(new)}")
    if old.changes != new.changes:
        keys = [
            ", ".join(change.key for change in each.changes) or "nothing" for each in (old, new)
        ]
        about.append(f"changed {keys[0]} → {keys[1]}" if keys[0] != keys[1] else "other values")
    slow, fast = max(old.seconds, new.seconds), min(old.seconds, new.seconds)
    if slow - fast >= _MIN_SECONDS and slow >= 2 * fast:
        about.append(f"{old.seconds:.1f} s → {new.seconds:.1f} s")
    text_diff = tuple(_diff_lines(first.text, second.text)) if differs else ()
    return tuple(about), (*text_diff, *_output_diff(old, new))


def _reason(result: StepResult) -> str:
    return result.reason or f"exit status {result.exit_status}"


def _output_diff(old: StepResult, new: StepResult) -> Iterator[str]:
    for before, after in ((old.stdout, new.stdout), (old.stderr, new.stderr)):
        if before != after:
            yield from _diff_lines(before.display_text, after.display_text)


def _diff_lines(before: str, after: str) -> Iterator[str]:
    texts = (before.split("\n"), after.split("\n"))
    lines = list(difflib.unified_diff(*texts, n=2, lineterm=""))[2:]
    yield from lines[:_MAX_DIFF_LINES]
    if len(lines) > _MAX_DIFF_LINES:
        yield f"[… {len(lines) - _MAX_DIFF_LINES} more lines of the diff]"
