"""Each host's whole output in a file of its own, however many hosts there are."""

from __future__ import annotations

import hashlib
import os
import string
import time
from collections import OrderedDict
from pathlib import Path

from msgspec import Struct

from orchestrator.model.event import StepFinished, StepOutput, StepStarted
from orchestrator.model.text import encode, escape_bytes

_OPEN = 64
_SAFE = frozenset(string.ascii_letters + string.digits + "._-@+=,")


class _State(Struct):
    """Where in a log we are: the step and stream written last, and whether a line is open."""

    place: tuple[str | None, str, int, str] | None = None
    open_line: bool = False


class HostLogs:
    """Writes ``HOST.log`` files in one folder: one for every host that came to a step.

    The host's bytes stand as they came. What orch adds are whole lines, the first of which in
    each step begins with ``=== ``, the others with ``--- ``:

        === 2026-11-23T14:02:11Z blog deploy:publish, step 2: link
        --- stderr
        --- failed, exit status 1, 0.03 s: why

    stdout is what follows a heading; a change of stream, or of the step (lanes may alternate),
    is said again. Where output has no final newline, one is added before such a line.
    At most 64 files are open at a time. Every method raises OSError where a log can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()
        self._states: dict[str, _State] = {}
        self._names: dict[tuple[str, str | None, str, int], tuple[float, str]] = {}

    def started(self, event: StepStarted) -> None:
        """Remember what the step is called, for its heading."""
        self._names[event.host, event.app, event.task, event.step] = (event.time, event.name)

    def output(self, event: StepOutput) -> None:
        """Append the bytes, under a heading where the last ones were of something else."""
        if not event.data:
            return
        state = self._states.setdefault(event.host, _State())
        place = (event.app, event.task, event.step, event.stream)
        added = b"" if state.place == place else self._heading(event, state)
        self._write(event.host, added + event.data)
        state.place, state.open_line = place, not event.data.endswith(b"\n")

    def finished(self, event: StepFinished) -> None:
        """Say how a step ended, also one that was skipped (and why) or printed nothing."""
        started = self._names.pop((event.host, event.app, event.task, event.step), None)
        state = self._states.setdefault(event.host, _State())
        here = state.place is not None and state.place[:3] == (event.app, event.task, event.step)
        text = "\n" if state.open_line else ""
        if not here:
            begun = started[0] if started else event.time
            text += _title(begun, event.task, event.app, event.step, event.name)
        outcome = event.outcome
        status = "" if outcome.exit_status is None else f", exit status {outcome.exit_status}"
        reason = f": {_line(outcome.reason)}" if outcome.reason else ""
        text += f"--- {outcome.status.value}{status}, {outcome.seconds:.2f} s{reason}\n"
        state.place, state.open_line = None, False
        self._write(event.host, encode(escape_bytes(text)))

    def close(self) -> None:
        """Close every file."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _heading(self, event: StepOutput, state: _State) -> bytes:
        text = "\n" if state.open_line else ""
        same = state.place is not None and state.place[:3] == (event.app, event.task, event.step)
        if not same:
            key = (event.host, event.app, event.task, event.step)
            begun, name = self._names.get(key, (event.time, ""))
            text += _title(begun, event.task, event.app, event.step, name)
        if same or event.stream != "stdout":
            text += f"--- {event.stream}\n"
        return encode(escape_bytes(text))

    def _write(self, host: str, data: bytes) -> None:
        left = memoryview(data)
        file = self._file(host)
        while left:
            left = left[os.write(file, left) :]

    def _file(self, host: str) -> int:
        """The host's open log; the one not used for longest is closed for it."""
        if host in self._open:
            self._open.move_to_end(host)
            return self._open[host]
        if len(self._open) >= _OPEN:
            os.close(self._open.popitem(last=False)[1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._open[host] = os.open(self._folder / f"{file_name(host)}.log", flags, 0o600)
        return self._open[host]


def file_name(host: str) -> str:
    """The host's name as one safe file name: other bytes as ``%2F``, no leading dot, not too
    long. Different names stay different."""
    raw = host.encode("utf-8", "surrogateescape")
    name = "".join(chr(b) if chr(b) in _SAFE else f"%{b:02X}" for b in raw)
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return name if len(name) <= 200 else f"{name[:160]}%{hashlib.sha256(raw).hexdigest()[:32]}"


def _title(begun: float, task: str, app: str | None, step: int, name: str) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun))
    if not task:
        return f"=== {at} before the shell was ready\n"
    about = f"{app} {task}" if app else task
    return f"=== {at} {about}, step {step}: {_line(name)}".rstrip(": ") + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
