"""The logs of a run: each host's complete output in a file of its own."""

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
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import show_controls, to_one_line
from orchestrator.model.step_number import number_label
from orchestrator.model.text_encoding import encode_text

_MAX_OPEN_FILES = 64
_SAFE_CHARS = frozenset(string.ascii_letters + string.digits + "._-@+=,")
_OWN_PREFIX = lazy_regex(r"^(?==== |--- )", re.MULTILINE)
"""The beginning of a line that looks like a line added by orch."""
_SPECIAL = lazy_regex(r"===|---|[^\t\n -~]")
"""Characters that do not occur in text which can be written unchanged."""
_UNSURE_END = lazy_regex(r"(?:^(?:={1,3}|-{1,3}))?\r?\Z", re.MULTILINE)
"""An end of the text that may be the beginning of such a line, or half of a line ending."""

_LogStream: TypeAlias = "tuple[str | None, str, int, str]"


class _LogPosition(Struct):
    """The position in a log: the step and stream written last, and whether a line is open."""

    stream: _LogStream | None = None
    open_line: bool = False


class _LogText:
    """The output of one stream of a step, made safe to print on a terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = ""

    def feed(self, data: bytes, *, begins: bool, final: bool = False) -> str:
        """Add bytes and return the text that can be written now.

        ``begins``: the text starts at the beginning of a line.
        """
        text = self._held + self._decoder.decode(data, final)
        if text[-1:] == "\n" and text.isascii() and not _SPECIAL.search(text):
            self._held = ""
            return text
        before = "" if begins else "."
        unsure = None if final else _UNSURE_END.search(before + text)
        self._held = unsure[0] if unsure else ""
        whole = before + text[: len(text) - len(self._held)]
        text = _OWN_PREFIX.sub(r"\\", whole).removeprefix(before)
        return "\r\n".join(map(show_controls, text.split("\r\n")))


class HostLogWriter:
    r"""A writer of the ``HOST.log`` files in one folder, one for every host that started a step.

    A host's output is written unchanged, except that control characters and bytes that are not
    UTF-8 are written as ``\x1b``. Lines added by orch begin with ``=== `` (the first one of each
    step) or ``--- ``; a ``\`` is put before a line of output that begins likewise:

        === 2026-11-23T14:02:11Z blog deploy:publish, step 2: link
        --- stderr
        --- failed, exit status 1, 0.03 s: why

    Output after a heading is stdout; every change of the stream, or of the step (apps may
    alternate), is marked. Output without a final newline gets one before such a line. At most 64
    files are open at a time. Every method raises OSError if a log cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()
        self._states: dict[str, _LogPosition] = {}
        self._names: dict[tuple[str, str | None, str, int], tuple[float, str]] = {}
        self._texts: dict[tuple[str, _LogStream], _LogText] = {}

    def started(self, event: StepStarted) -> None:
        """Remember the name of the step, for its heading."""
        self._names[event.host, event.app, event.task, event.step] = (event.time, event.name)

    def output(self, event: StepOutput) -> None:
        """Append output, under a heading if the previous output was from another step or stream."""
        log_stream = (event.app, event.task, event.step, event.stream)
        text = self._texts.setdefault((event.host, log_stream), _LogText())
        self._append(event.host, log_stream, text, event.time, event.data)

    def finished(self, event: StepFinished) -> None:
        """Write the result of a step, even if the step was skipped or had no output."""
        for stream in ("stdout", "stderr"):
            self._end_stream(event.host, (event.app, event.task, event.step, stream), event.time)
        started = self._names.pop((event.host, event.app, event.task, event.step), None)
        state = self._states.setdefault(event.host, _LogPosition())
        is_current = state.stream is not None and state.stream[:3] == (
            event.app,
            event.task,
            event.step,
        )
        text = "\n" if state.open_line else ""
        if not is_current:
            started_at = started[0] if started else event.time
            text += _step_heading(started_at, event.task, event.app, event.step, event.name)
        outcome = event.outcome
        status = "" if outcome.exit_status is None else f", exit status {outcome.exit_status}"
        reason = f": {to_one_line(outcome.reason)}" if outcome.reason else ""
        text += f"--- {outcome.status.value}{status}, {outcome.seconds:.2f} s{reason}\n"
        state.stream, state.open_line = None, False
        self._write(event.host, encode_text(show_controls(text)))

    def close(self) -> None:
        """Write the buffered output and close every file."""
        for host, log_stream in list(self._texts):
            self._end_stream(host, log_stream, time.time())
        while self._open:
            os.close(self._open.popitem()[1])

    def _end_stream(self, host: str, log_stream: _LogStream, now: float) -> None:
        text = self._texts.pop((host, log_stream), None)
        if text is not None:
            self._append(host, log_stream, text, now, b"", final=True)

    def _append(
        self,
        host: str,
        log_stream: _LogStream,
        text: _LogText,
        now: float,
        data: bytes,
        *,
        final: bool = False,
    ) -> None:
        state = self._states.setdefault(host, _LogPosition())
        begins = state.stream != log_stream or not state.open_line
        shown = text.feed(data, begins=begins, final=final)
        if not shown:
            return
        added = "" if state.stream == log_stream else self._heading(host, log_stream, state, now)
        self._write(host, encode_text(f"{added}{shown}"))
        state.stream, state.open_line = log_stream, not shown.endswith("\n")

    def _heading(self, host: str, log_stream: _LogStream, state: _LogPosition, now: float) -> str:
        app, task, step, stream = log_stream
        text = "\n" if state.open_line else ""
        same = state.stream is not None and state.stream[:3] == (app, task, step)
        if not same:
            started_at, name = self._names.get((host, app, task, step), (now, ""))
            text += _step_heading(started_at, task, app, step, name)
        if same or stream != "stdout":
            text += f"--- {stream}\n"
        return text

    def _write(self, host: str, data: bytes) -> None:
        left = memoryview(data)
        file = self._open_log(host)
        while left:
            left = left[os.write(file, left) :]

    def _open_log(self, host: str) -> int:
        """Return the host's open log; the least recently used one may be closed for it."""
        if host in self._open:
            self._open.move_to_end(host)
            return self._open[host]
        if len(self._open) >= _MAX_OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._open[host] = os.open(self._folder / f"{log_file_name(host)}.log", flags, 0o600)
        return self._open[host]


def log_file_name(host: str) -> str:
    """Return a safe file name for the host: other bytes as ``%2F``, no leading dot, limited length.

    Different names have different file names.
    """
    raw = host.encode("utf-8", "surrogateescape")
    name = "".join(chr(b) if chr(b) in _SAFE_CHARS else f"%{b:02X}" for b in raw)
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return name if len(name) <= 200 else f"{name[:160]}%{hashlib.sha256(raw).hexdigest()[:32]}"


def _step_heading(started_at: float, task: str, app: str | None, step: int, name: str) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_at))
    if not task:
        return f"=== {at} before the shell was ready\n"
    return f"=== {at} {heading_text(task, app, step, name)}\n"


def heading_text(task: str, app: str | None, step: int, name: str) -> str:
    """Return the heading of a step without its time: ``blog deploy:publish, step 2: link``."""
    about = f"{app} {task}" if app else task
    text = f"{about}, step {number_label(step)}: {to_one_line(name)}".rstrip(": ")
    return show_controls(text)
