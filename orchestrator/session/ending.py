"""How steps and sessions end: what a session tells whoever runs commands on it."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.model.clean import quote_end


class How(Enum):
    """What ended a step."""

    DONE = "done"
    """Its shell ended by itself, or was killed by something that is not ours."""
    SKIPPED = "skipped"
    """Its condition did not hold, or its guard said no."""
    TIMED_OUT = "timed_out"
    """It ran longer than its timeout, and was killed."""
    ENDED = "ended"
    """The run was cancelled, and it was killed."""


class Ending(Struct, frozen=True):
    """How one step ended.

    ``unknown``: it failed in a check, perhaps because of what was withheld before it.
    ``exit_status`` is its shell's (128 + N where signal N killed that), None where nothing
    ended by itself. ``reason`` says more where ``how`` alone does not: which of condition and
    guard skipped it, what was missing.
    """

    how: How
    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    unknown: bool = False
    reason: str = ""


class Listener(Protocol):
    """Hears what happens while a segment runs, in order, from the thread that runs it.

    What takes its time in here keeps the host from going on once its pipes are full.
    """

    def started(self, step: int) -> None:
        """The host began this step."""

    def output(self, step: int, stream: str, data: bytes) -> None:
        """Bytes from the host's ``stdout`` or ``stderr``, as they came.

        Step 0: from before the shell was ready, or from between two steps.
        """

    def reported(self, step: int, kind: str, text: str) -> None:
        """What a module's script says of itself (``reports.py``); part of a text that goes on
        where the kind begins with ``+``."""

    def ended(self, step: int, ending: Ending) -> None:
        """This step is over, and all it had written by then was told.

        A skipped step may end without having started. One that never ends did not run,
        unless ``Lost`` names it.
        """


class Lost(Exception):  # noqa: N818 - says what became of the session
    """The session broke off, and no more than what was told is known.

    ``step`` is the one that was running, None between steps. ``said`` is the end of what the
    shell itself said, which may tell why.
    """

    def __init__(self, step: int | None, reason: str, said: bytes = b"") -> None:
        self.step, self.reason, self.said = step, reason, said
        told = quote_end(said)
        super().__init__(f"{reason}; it said: {told}" if told else reason)


class NotReady(ConnectError):  # noqa: N818 - says what the host is
    """No shell answered at the other end. ``said`` is what came in its place. ``sent``: all that
    was to be run had gone out, so that it may have been run.
    """

    def __init__(self, why: str, said: bytes, *, sent: bool = False) -> None:
        self.said, self.sent = said, sent
        told = quote_end(said)
        super().__init__(
            "shell",
            f"{why}; the host said: {told}" if told else f"{why}; the host said nothing",
            "a login shell's rc file that reads its input, a forced command or a closed account"
            " does this: see what `ssh HOST 'exec sh'` does",
        )
