"""Compares two recorded runs, step by step and host by host."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct

from orchestrator.journal.run_reader import RecordedRun, read_events
from orchestrator.model.event import StepFinished
from orchestrator.model.step_number import number_parts
from orchestrator.model.step_result import StepResult

_MIN_SECONDS = 1.0  # by which a step must be slower, besides being twice as slow
_MAX_DIFF_LINES = 60

_StepKey: TypeAlias = "tuple[str | None, str, int, int, str]"
"""An app, a task and how often it came before (in another batch), a step's number and name."""


class StepDifference(Struct, frozen=True):
    """How the results of one step differ, and the hosts of which that is true.

    ``about`` are texts like ``failed → ok``; ``output`` is a unified diff, as lines.
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


def _steps_of(run: RecordedRun) -> Mapping[_StepKey, Mapping[str, StepResult]]:
    found: dict[_StepKey, dict[str, StepResult]] = {}
    times: Counter[tuple[str | None, str, int, str, str]] = Counter()
    for event in read_events(run):
        if isinstance(event, StepFinished):
            step = (event.app, event.task, event.step, event.name, event.host)
            key = (event.app, event.task, times[step], event.step, event.name)
            times[step] += 1
            found.setdefault(key, {})[event.host] = event.outcome
    return found


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
    old: StepResult | None, new: StepResult | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what differs between two results, and the diff of their outputs."""
    if old is None or new is None:
        return (("only in the first run" if new is None else "only in the second run",), ())
    about: list[str] = []
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
    return tuple(about), tuple(_output_diff(old, new))


def _reason(result: StepResult) -> str:
    return result.reason or f"exit status {result.exit_status}"


def _output_diff(old: StepResult, new: StepResult) -> Iterator[str]:
    for before, after in ((old.stdout, new.stdout), (old.stderr, new.stderr)):
        if before != after:
            texts = (before.display_text.split("\n"), after.display_text.split("\n"))
            lines = list(difflib.unified_diff(*texts, n=2, lineterm=""))[2:]
            yield from lines[:_MAX_DIFF_LINES]
            if len(lines) > _MAX_DIFF_LINES:
                yield f"[… {len(lines) - _MAX_DIFF_LINES} more lines of the diff]"
