"""A run as a web page: one file that needs no network, for people who look at what a run did.

The data is JSON in the page, which a script in it shows; equal texts are in it once. The page may
not load anything nor run any other script (Content Security Policy, https://www.w3.org/TR/CSP3/).
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from orchestrator.model.event import (
    ConnectFinished,
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.host_folding import fold_hints, fold_hostnames, fold_messages, message_frame
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import sanitize_output, to_one_line
from orchestrator.model.step_number import number_label
from orchestrator.model.step_result import HostSummary, Status, StepResult
from orchestrator.output.console import status_text
from orchestrator.output.diff import change_lines
from orchestrator.output.step_lines import step_title
from orchestrator.output.summary import summary_line

MAX_TEXT_BYTES = 2_000_000
"""The size of all outputs and diffs in a page. Long ones are cut until they fit."""
_TEXT_LIMITS = (100_000, 50_000, 20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100)
"""Lengths to which outputs are cut, in characters; those of failures may be five times as long."""
_MAX_WARNINGS = 200
_TEMPLATES = Path(__file__).parent
_ESCAPE_AS_TEXT = lazy_regex(r"\\x1b\[[0-9;:]*[A-Za-z]")
"""An escape sequence as the log of a host has it: control characters are written as text there."""
_KINDS = {Status.OK: "ok", Status.CHANGED: "changed", Status.SKIPPED: "skipped"}
_HostPart: TypeAlias = "tuple[str, str | None]"


class RunInfo(Struct, frozen=True):
    """What a page shows of a run that is not in its events.

    ``state`` is ``ok``, ``failed``, ``running`` or ``killed``; ``argv`` are the words of the
    command line, ``plan`` are the texts of its steps; the others are as in the run's record.
    """

    state: str = ""
    user: str = ""
    version: str = ""
    commit: str = ""
    is_dirty: bool | None = None
    argv: tuple[str, ...] = ()
    plan: str = ""


def html_report(events: Iterable[RunEvent], info: RunInfo) -> str:
    """Return the run as an HTML page, with a final newline."""
    data = _ReportData()
    for event in events:
        data.add(event)
    title, page = data.page_data(info)
    style, script = _template("report_page.css"), _template("report_page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_csp_hash(style)}'; "
        f"script-src '{_csp_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": escape(title),
        "style": style,
        "script": script,
        "data": _script_json(page),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _template("report_page.html"))


@cache
def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _script_json(data: object) -> str:
    """Return the data as JSON in which no tag begins, so that it can stand in a ``script``.

    Source: https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements
    """
    text = msgspec.json.encode(data).decode()
    return re.sub("<(?=[!/sS])", r"\\u003c", text)


class _Texts:
    """Texts of a page, each once. The number 0 is the empty text."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}
        self._important: set[int] = set()

    def add(self, text: str, *, is_failure: bool = False) -> int:
        """Return the number of the text."""
        number = self._numbers.setdefault(text, len(self._numbers))
        if is_failure:
            self._important.add(number)
        return number

    def cut_texts(self) -> list[str]:
        """Return the texts in the order of their numbers, cut so that they fit into a page."""
        sizes = [
            (len(text), _json_size(text), number in self._important)
            for text, number in self._numbers.items()
        ]
        limit = next((n for n in _TEXT_LIMITS if _total_size(sizes, n) <= MAX_TEXT_BYTES), 100)
        return [
            _cut_text(text, _text_limit(limit, is_failure=number in self._important))
            for text, number in self._numbers.items()
        ]


def _json_size(text: str) -> int:
    return len(msgspec.json.encode(text)) + 5 * text.count("<")


def _total_size(sizes: Iterable[tuple[int, int, bool]], limit: int) -> float:
    """Return the size in bytes of texts (characters, bytes, whether it is of a failure)."""
    total = 0.0
    for chars, size, is_failure in sizes:
        kept = min(chars, _text_limit(limit, is_failure=is_failure) + 100)
        total += size * kept / max(chars, 1)
    return total


def _text_limit(limit: int, *, is_failure: bool) -> int:
    return min(limit * 5, _TEXT_LIMITS[0]) if is_failure else limit


def _cut_text(text: str, limit: int) -> str:
    left = len(text) - limit
    if left <= 100:
        return text
    half = limit // 2
    note = "[… left out here; the log of the host has all …]"
    return f"{text[:half]}\n{note}\n{text[-half:]}"


class _HostData(Struct):
    """A host, or an app on a host. Times are in milliseconds since the start of the run."""

    name: str
    app: str | None
    summary: HostSummary | None = None
    status: Status = Status.NOT_STARTED
    connect: tuple[int, int] = (0, 0)


class _TaskEntry(Struct):
    """A task that was started; ``hosts`` is the number of its hosts. Times are as for hosts."""

    title: str
    start: int
    milliseconds: int = 0
    hosts: int = 0
    number_text: str = ""


class _ReportData:
    """The data of a page, collected from the events of a run."""

    def __init__(self) -> None:
        self._texts = _Texts()
        self._began: RunStarted | None = None
        self._ended: RunFinished | None = None
        self._warnings: list[str] = []
        self._connects: dict[str, tuple[int, int]] = {}
        self._hosts: dict[_HostPart, _HostData] = {}
        self._host_numbers: dict[_HostPart, int] = {}
        self._tasks: list[_TaskEntry] = []
        self._running: dict[tuple[str | None, str], int] = {}
        self._steps: dict[tuple[int, str], tuple[int, int]] = {}
        self._started: dict[tuple[str, str | None, str, int], float] = {}
        self._results: list[list[int]] = []
        self._failed: set[tuple[int, int]] = set()
        self._positions: dict[_HostPart, str] = {}

    def add(self, event: RunEvent) -> None:
        """Add what the event tells."""
        match event:
            case RunStarted():
                self._began = event
                for host in event.hosts:
                    apps = [app for app, hosts in event.apps.items() if host in hosts]
                    for app in apps or (None,):
                        self._host_number(host, app)
            case ConnectFinished():
                spent = round(event.seconds * 1000)
                self._connects[event.host] = (self._since_start(event.time) - spent, spent)
            case TaskStarted():
                task = self._add_task(event.app, event.task, event.time)
                task.hosts = len(event.hosts)
                if event.total > 1:
                    task.number_text = f"{event.number} of {event.total}"
            case TaskFinished():
                number = self._running.get((event.app, event.task))
                if number is not None:
                    self._tasks[number].milliseconds = round(event.seconds * 1000)
            case StepStarted():
                self._started[event.host, event.app, event.task, event.step] = event.time
            case StepFinished():
                self._add_step(event)
            case HostFinished() if event.outcome.status.is_failure:
                self._add_lost_host(event)
            case Warned():
                self._warnings.append(to_one_line(event.text))
            case RunFinished():
                self._ended = event

    def _since_start(self, at: float) -> int:
        return 0 if self._began is None else max(0, round((at - self._began.time) * 1000))

    def _add_task(self, app: str | None, task: str, at: float) -> _TaskEntry:
        self._running[app, task] = len(self._tasks)
        self._tasks.append(_TaskEntry(step_title(app, task, ""), self._since_start(at)))
        return self._tasks[-1]

    def _task_number(self, app: str | None, task: str, at: float) -> int:
        if (app, task) not in self._running:
            self._add_task(app, task, at)
        return self._running[app, task]

    def _host_number(self, host: str, app: str | None) -> int:
        if (host, app) not in self._host_numbers:
            self._host_numbers[host, app] = len(self._host_numbers)
            self._hosts[host, app] = _HostData(host, app)
        return self._host_numbers[host, app]

    def _add_step(self, event: StepFinished) -> None:
        key = (event.host, event.app, event.task, event.step)
        started = self._started.pop(key, event.time - event.outcome.seconds)
        task = self._task_number(event.app, event.task, event.time)
        host = self._host_number(event.host, event.app)
        if event.outcome.status.is_failure:
            self._failed.add((task, host))
            self._positions[event.host, event.app] = to_one_line(event.outcome.position)
        label = number_label(event.step)
        self._add_result((task, label, event.name), host, started, event.outcome)

    def _add_lost_host(self, event: HostFinished) -> None:
        """Add a failed host as a step if none of its steps failed (unreachable, lost)."""
        task = self._task_number(event.app, event.task, event.time)
        host = self._host_number(event.host, event.app)
        if (task, host) not in self._failed and event.outcome.status is not Status.NOT_STARTED:
            step = (task, "", "reach and keep the host")
            self._add_result(step, host, event.time - event.outcome.seconds, event.outcome)

    def _add_result(
        self, step: tuple[int, str, str], host: int, started: float, outcome: StepResult
    ) -> None:
        task, label, name = step
        is_failure = outcome.status.is_failure
        name_number = self._texts.add(to_one_line(name))
        step_number, first_name = self._steps.setdefault(
            (task, label), (len(self._steps), name_number)
        )
        exit_text = f"exit status {outcome.exit_status}" if is_failure else ""
        stdout, stderr = (
            self._texts.add(_output_text(text), is_failure=is_failure)
            for text in (outcome.stdout.display_text, outcome.stderr.display_text)
        )
        changes = "\n".join(line[2:] for line in change_lines(outcome))
        row = [
            step_number,
            host,
            _STATUS_NUMBERS[outcome.status] + (len(Status) if outcome.ignored else 0),
            self._since_start(started),
            round(outcome.seconds * 1000),
            0 if name_number == first_name else name_number,
            self._texts.add(to_one_line(outcome.reason or exit_text)),
            stdout,
            stderr,
            self._texts.add(changes, is_failure=is_failure),
            outcome.attempts if outcome.attempts > 1 else 0,
            self._texts.add(to_one_line(outcome.position)),
        ]
        while not row[-1]:
            row.pop()
        self._results.append(row)

    def page_data(self, info: RunInfo) -> tuple[str, Mapping[str, Any]]:
        """Return the title of the page, and the data for its script."""
        began, ended = self._began, self._ended
        rows = ended.rows if ended else ()
        for row in rows:
            self._host_number(row.host, row.app)
            entry = self._hosts[row.host, row.app]
            entry.summary, entry.status = row, row.status
        failures = [self._failure_json(group) for group in _equal_failures(rows, self._positions)]
        hosts = [self._host_json(entry) for entry in self._hosts.values()]
        title = "orch" if began is None else _run_title(began)
        return title, {
            "title": title,
            "state": info.state,
            "totals": summary_line(rows, ended.seconds) if ended else "",
            "about": _about_json(began, info),
            "ms": round(ended.seconds * 1000) if ended else 0,
            "statuses": [
                *((status_text(each), _kind(each)) for each in Status),
                *((f"{status_text(each)}, ignored", "ignored") for each in Status),
            ],
            "hosts": hosts,
            "tasks": [
                (task.title, task.start, task.milliseconds, task.hosts, task.number_text)
                for task in self._tasks
            ],
            "steps": [(task, label, name) for (task, label), (_, name) in self._steps.items()],
            "results": self._results,
            "failures": failures,
            "warnings": self._warnings[:_MAX_WARNINGS],
            "plan": _output_text(info.plan),
            "footer": _footer_text(ended, info),
            "texts": self._texts.cut_texts(),
        }

    def _host_json(self, entry: _HostData) -> list[Any]:
        summary = entry.summary
        reason = self._texts.add(to_one_line(summary.reason)) if summary else 0
        return [
            to_one_line(entry.name),
            to_one_line(entry.app or ""),
            _STATUS_NUMBERS[entry.status],
            round(summary.seconds * 1000) if summary else 0,
            reason,
            ", ".join(summary.roles) if summary else "",
            *self._connects.get(entry.name, (0, 0)),
        ]

    def _failure_json(self, group: Sequence[HostSummary]) -> list[Any]:
        row = group[0]
        hosts = fold_hostnames(each.host for each in group)
        return [
            to_one_line(f"{hosts} {row.app}" if row.app else hosts),
            _STATUS_NUMBERS[row.status],
            to_one_line(fold_messages((each.host, each.reason) for each in group)),
            self._positions.get((row.host, row.app), ""),
            self._texts.add(_output_text(row.stderr), is_failure=True),
            to_one_line(fold_hints((each.host, each.hint) for each in group)),
        ]


_STATUS_NUMBERS = {status: number for number, status in enumerate(Status)}


def _kind(status: Status) -> str:
    """Return the class of a status in the page, by which it is coloured."""
    return "failed" if status.is_failure else _KINDS.get(status, "would")


def _output_text(text: str) -> str:
    return sanitize_output(_ESCAPE_AS_TEXT.sub("", text)).rstrip()


def _equal_failures(
    rows: Iterable[HostSummary], positions: Mapping[_HostPart, str]
) -> list[list[HostSummary]]:
    """Return the failed rows in groups that differ only in the names of their hosts."""
    groups: dict[object, list[HostSummary]] = {}
    for row in rows:
        if row.status.is_failure:
            texts = tuple(message_frame(text, row.host) for text in (row.reason, row.hint))
            position = positions.get((row.host, row.app), "")
            key = (row.status.severity_rank, row.app, texts, row.stderr, position)
            groups.setdefault(key, []).append(row)
    return list(groups.values())


def _run_title(began: RunStarted) -> str:
    check = "check of " if began.check else ""
    apps = f" for {', '.join(began.apps)}" if began.apps else ""
    return to_one_line(f"{began.stage}: {check}{' '.join(began.tasks)}{apps}")


def _about_json(began: RunStarted | None, info: RunInfo) -> list[tuple[str, str, bool]]:
    """Return labels and values, and whether the value is code."""
    started = "" if began is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began.time))
    changed = ", with changed files" if info.is_dirty else ""
    found = (
        ("run", "" if began is None else began.run, False),
        ("started", f"{started} UTC" if started else "", False),
        ("by", info.user, False),
        ("commit", f"{info.commit[:12]}{changed}" if info.commit else "", False),
        ("orch", info.version, False),
        ("command", shlex.join(("orch", *info.argv)) if info.argv else "", True),
    )
    return [(name, to_one_line(value), is_code) for name, value, is_code in found if value]


def _footer_text(ended: RunFinished | None, info: RunInfo) -> str:
    log = f" The logs of the hosts are in {ended.log}." if ended and ended.log else ""
    return to_one_line(f"Written by orch {info.version}.{log}")
