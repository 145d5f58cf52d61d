"""Questions to a host that are no steps of a task: nothing is told of them, and no step counts."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.execute.capture import Capture
from orchestrator.model.command import Command
from orchestrator.model.condition import Always
from orchestrator.session import Ending, How, Session

_STEP = 1
_TIMEOUT = 60.0  # seconds


class Answer(Struct, frozen=True):
    """``exit_status`` is None where the script did not end by itself."""

    exit_status: int | None
    stdout: str
    stderr: str


def ask(session: Session, script: str, *, timeout: float = _TIMEOUT) -> Answer:
    """Run a script between two segments, in one round trip. Raises Lost and ConnectError."""
    heard = _Heard()
    command = Command(_STEP, script, timeout=timeout, changes=Always(False))
    session.aside(command, heard)
    ending = heard.ending
    ended = ending is not None and ending.how is How.DONE
    said = (heard.said[stream].done().text for stream in ("stdout", "stderr"))
    return Answer(ending.exit_status if ending and ended else None, *said)


class _Heard:
    """The session's listener meanwhile."""

    def __init__(self) -> None:
        self.said = {"stdout": Capture(), "stderr": Capture()}
        self.ending: Ending | None = None

    def started(self, step: int) -> None: ...

    def reported(self, step: int, kind: str, text: str) -> None: ...

    def output(self, step: int, stream: str, data: bytes) -> None:
        if step:
            self.said[stream].add(data)

    def ended(self, _step: int, ending: Ending) -> None:
        self.ending = ending
