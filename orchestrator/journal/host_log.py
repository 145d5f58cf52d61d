"""Each host's whole output in a file of its own, however many hosts there are."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import string
import time
from collections import OrderedDict
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.event import StepFinished, StepOutput, StepStarted
from orchestrator.model.lazy_regex import regex
from orchestrator.model.sanitize import one_line, visible
from orchestrator.model.step_number import label
from orchestrator.model.text_encoding import encode

_OPEN = 64
_SAFE = frozenset(string.ascii_letters + string.digits + "._-@+=,")
_OURS = regex(r"^(?==== |--- )", re.MULTILINE)
"""A line that looks like one of those that orch adds."""
_SPECIAL = regex(r"===|---|[^\t\n -~]")
"""What is in no text that can be written as it came."""
_UNSURE = regex(r"(?:^(?:={1,3}|-{1,3}))?\r?\Z", re.MULTILINE)
"""What may be the beginning of such a line, or of a line's end."""

_Place: TypeAlias = "tuple[str | None, str, int, str]"


class _State(Struct):
    """Where in a log we are: the step and stream written last, and whether a line is open."""

    place: _Place | None = None
    open_line: bool = False


class _Text:
    """What one stream of a step wrote, as its log shows it: safe to print on a terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = ""

    def feed(self, data: bytes, *, begins: bool, final: bool = False) -> str:
        """Take the next bytes; what can be written by now. ``begins``: at the start of a line."""
        text = self._held + self._decoder.decode(data, final)
        if text[-1:] == "\n" and text.isascii() and not _SPECIAL.search(text):
            self._held = ""
            return text
        before = "" if begins else "."
        unsure = None if final else _UNSURE.search(before + text)
        self._held = unsure[0] if unsure else ""
        whole = before + text[: len(text) - len(self._held)]
        text = _OURS.sub(r"\\", whole).removeprefix(before)
        return "\r\n".join(map(visible, text.split("\r\n")))


class HostLogs:
    """Writes ``HOST.log`` files in one folder: one for every host that came to a step.

    The host's text stands as it came, but for what a terminal would obey: controls and bytes that
    are no UTF-8 are ``\\x1b``. What orch adds are whole lines, the first of which in each step
    begins with ``=== ``, the others with ``--- ``; a ``\\`` stands before a host's line that does:

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
        self._texts: dict[tuple[str, _Place], _Text] = {}

    def started(self, event: StepStarted) -> None:
        """Remember what the step is called, for its heading."""
        self._names[event.host, event.app, event.task, event.step] = (event.time, event.name)

    def output(self, event: StepOutput) -> None:
        """Append the text, under a heading where the last one was of something else."""
        place = (event.app, event.task, event.step, event.stream)
        text = self._texts.setdefault((event.host, place), _Text())
        self._append(event.host, place, text, event.time, event.data)

    def finished(self, event: StepFinished) -> None:
        """Say how a step ended, also one that was skipped (and why) or printed nothing."""
        for stream in ("stdout", "stderr"):
            self._end(event.host, (event.app, event.task, event.step, stream), event.time)
        started = self._names.pop((event.host, event.app, event.task, event.step), None)
        state = self._states.setdefault(event.host, _State())
        here = state.place is not None and state.place[:3] == (event.app, event.task, event.step)
        text = "\n" if state.open_line else ""
        if not here:
            begun = started[0] if started else event.time
            text += _title(begun, event.task, event.app, event.step, event.name)
        outcome = event.outcome
        status = "" if outcome.exit_status is None else f", exit status {outcome.exit_status}"
        reason = f": {one_line(outcome.reason)}" if outcome.reason else ""
        text += f"--- {outcome.status.value}{status}, {outcome.seconds:.2f} s{reason}\n"
        state.place, state.open_line = None, False
        self._write(event.host, encode(visible(text)))

    def close(self) -> None:
        """Write what is held back, and close every file."""
        for host, place in list(self._texts):
            self._end(host, place, time.time())
        while self._open:
            os.close(self._open.popitem()[1])

    def _end(self, host: str, place: _Place, now: float) -> None:
        text = self._texts.pop((host, place), None)
        if text is not None:
            self._append(host, place, text, now, b"", final=True)

    def _append(
        self, host: str, place: _Place, text: _Text, now: float, data: bytes, *, final: bool = False
    ) -> None:
        state = self._states.setdefault(host, _State())
        begins = state.place != place or not state.open_line
        shown = text.feed(data, begins=begins, final=final)
        if not shown:
            return
        added = "" if state.place == place else self._heading(host, place, state, now)
        self._write(host, encode(f"{added}{shown}"))
        state.place, state.open_line = place, not shown.endswith("\n")

    def _heading(self, host: str, place: _Place, state: _State, now: float) -> str:
        app, task, step, stream = place
        text = "\n" if state.open_line else ""
        same = state.place is not None and state.place[:3] == (app, task, step)
        if not same:
            begun, name = self._names.get((host, app, task, step), (now, ""))
            text += _title(begun, task, app, step, name)
        if same or stream != "stdout":
            text += f"--- {stream}\n"
        return text

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
    return f"=== {at} {about}, step {label(step)}: {one_line(name)}".rstrip(": ") + "\n"
