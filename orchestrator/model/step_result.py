"""Results of steps, and summaries of hosts."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

from orchestrator.model.command import WorkingFolder
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.text_encoding import decode_bytes, escape_bytes, trim_partial_characters


class Status(StrEnum):
    """Every host ends in exactly one of these statuses; they are declared worst first."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    LOST = "lost"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    NOT_STARTED = "not_started"
    WOULD_CHANGE = "would_change"
    WOULD_RUN = "would_run"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    OK = "ok"
    SKIPPED = "skipped"

    @property
    def severity_rank(self) -> int:
        """Return the rank; 0 is the worst status."""
        return _RANKS[self]

    @property
    def is_failure(self) -> bool:
        """Return True if the status is a failure."""
        return self.severity_rank <= _RANKS[Status.NOT_STARTED]


_RANKS = {status: rank for rank, status in enumerate(Status)}


class CapturedOutput(Struct, frozen=True):
    """A stream's captured output: its head and tail, and the number of bytes dropped between."""

    head: bytes = b""
    tail: bytes = b""
    dropped: int = 0

    @property
    def is_empty(self) -> bool:
        """Return True if nothing was written."""
        return not (self.head or self.tail or self.dropped)

    @property
    def text(self) -> str:
        """Return the captured output without trailing newlines; dropped bytes are missing.

        Bytes that are not UTF-8 are kept as surrogates (``text_encoding.py``).
        """
        return decode_bytes(self.head + self.tail).rstrip("\r\n")

    @property
    def display_text(self) -> str:
        """Return the text for display: non-UTF-8 bytes as ``\\xNN``, and a note at the gap."""
        if not self.dropped:
            return escape_bytes(self.text)
        head, tail = (
            trim_partial_characters(self.head, end=True),
            trim_partial_characters(self.tail, start=True),
        )
        gap = f"\n[… {self.dropped} bytes not kept …]\n"
        return escape_bytes(f"{decode_bytes(head)}{gap}{decode_bytes(tail)}".rstrip("\r\n"))


class StateChange(Struct, frozen=True):
    """A state that differs from the desired one; ``before`` is None if it did not exist."""

    key: str
    before: str | None
    after: str


class StepResult(Struct, frozen=True):
    """The result of one step on one host. ``seconds`` is wall time on the controller.

    ``exit_status`` is None if no process exited by itself (skipped, lost, …). ``changes`` are the
    states that a module changed, or would change; ``diff`` is a unified diff of the contents that
    it replaced, or would replace. ``folder`` is the folder in which a command line ended, if it was
    asked to report it. ``attempts`` is how often the step was run (`retries`). ``position`` is
    where a failed step is written, as ``FILE:LINE:COLUMN``; it is '' for others. ``rescued``: the
    failure is ignored because a `rescue` handles it.
    """

    status: Status
    exit_status: int | None = None
    stdout: CapturedOutput = CapturedOutput()
    stderr: CapturedOutput = CapturedOutput()
    seconds: float = 0.0
    reason: str = ""
    ignored: bool = False
    changes: tuple[StateChange, ...] = ()
    diff: str = ""
    folder: WorkingFolder | None = None
    attempts: int = 1
    position: str = ""
    rescued: bool = False


class HostSummary(Struct, frozen=True):
    """The final state of one host (of one app) in a run."""

    host: str
    app: str | None
    status: Status
    reason: str = ""
    ok: int = 0
    changed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    roles: tuple[str, ...] = ()
    hint: str = ""
    stderr: str = ""
    unknown: int = 0


_CAUSE_LINE = lazy_regex(
    r"\W*(?:[\w./+-]+: )?(?:fatal|error|panic|critical|exception|err|e)\b ?:", re.I
)


def last_lines(text: str, max_lines: int) -> list[str]:
    """Return the last ``max_lines`` lines of a failed command's output.

    If they contain no error line (git prints advice after its ``fatal:``), the last error line
    before them comes first, followed by ``…``.
    """
    lines = text.splitlines()
    tail = lines[-max_lines:]
    if not any(map(_CAUSE_LINE.match, tail)):
        cause = next(
            (line for line in reversed(lines[:-max_lines]) if _CAUSE_LINE.match(line)), None
        )
        if cause is not None:
            return [cause, "…", *tail[2:]]
    return tail
