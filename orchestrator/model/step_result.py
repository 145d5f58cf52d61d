"""What became of a step, and of a host."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.text_encoding import decode_bytes, escape_bytes, trim_partial_characters


class Status(StrEnum):
    """Every host ends in exactly one of these; they are declared worst first."""

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
        """0 is worst."""
        return _RANKS[self]

    @property
    def is_failure(self) -> bool:
        """Whether the host did not get where it should."""
        return self.severity_rank <= _RANKS[Status.NOT_STARTED]


_RANKS = {status: rank for rank, status in enumerate(Status)}


class CapturedOutput(Struct, frozen=True):
    """A stream's output, bounded: its head and tail, and how many bytes between were dropped."""

    head: bytes = b""
    tail: bytes = b""
    dropped: int = 0

    @property
    def text(self) -> str:
        """As text, without final newlines, every byte of it kept (model/text.py); what was
        dropped is missing."""
        return decode_bytes(self.head + self.tail).rstrip("\r\n")

    @property
    def display_text(self) -> str:
        """As ``text``, for people: bytes that are not UTF-8 as ``\\xNN``; the gap said in
        words."""
        if not self.dropped:
            return escape_bytes(self.text)
        head, tail = (
            trim_partial_characters(self.head, end=True),
            trim_partial_characters(self.tail, start=True),
        )
        gap = f"\n[… {self.dropped} bytes not kept …]\n"
        return escape_bytes(f"{decode_bytes(head)}{gap}{decode_bytes(tail)}".rstrip("\r\n"))


class StateChange(Struct, frozen=True):
    """A state that differs from what is wanted: ``before`` is None where there is none."""

    key: str
    before: str | None
    after: str


class StepResult(Struct, frozen=True):
    """How one step ended on one host. ``seconds`` is wall time on this side.

    ``exit_status`` is None where no process ended by itself (skipped, lost, …). ``changes``:
    what a module changed, or would change, state by state; ``diff``: the contents that
    it replaced, or would, as a unified diff.
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


class HostSummary(Struct, frozen=True):
    """Where one host (of one app) stands at the end of the run."""

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

    If what these tell is only what follows the cause (git's advice after its ``fatal:``), the last
    line that begins with such a word stands before them, followed by ``…``.
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
