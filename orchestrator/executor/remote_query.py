"""Questions to a host that are no steps of a task: nothing is told of them, and no step counts.

What a host says of itself, asked for once, when a template first names it.
"""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from orchestrator.errors import OrchError
from orchestrator.executor.step_recorder import Capture
from orchestrator.model.command import Command
from orchestrator.model.condition import Always
from orchestrator.model.host import FACTS, NUMBERS
from orchestrator.model.sanitize import quote
from orchestrator.modules import FOLDER
from orchestrator.remote_shell import Ending, How, Session

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


_DIGITS = 18


def gather(session: Session) -> dict[str, str | int]:
    """The facts, in one round trip. Raises OrchError where it cannot tell, Lost, ConnectError."""
    answer = ask(session, _script())
    if answer.exit_status != 0:
        why = quote(answer.stderr) if answer.stderr else "its shell did not answer"
        raise OrchError(f"the host's facts could not be gathered: {why}")
    found = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    facts: dict[str, str | int] = {name: found.get(name, "") for name in FACTS}
    for name in NUMBERS:
        facts[name] = _number(name, found.get(name, ""))
    return facts


def _number(name: str, text: str) -> int:
    """Some hosts cannot tell, and say so in words: that is 0."""
    if not (text.isascii() and text.isdigit()):
        return 0
    if len(text) > _DIGITS:
        what = f"{name} is a number of {len(text)} digits"
        raise OrchError(f"the host's facts could not be gathered: {what}")
    return int(text)


@cache
def _script() -> str:
    return (FOLDER / "facts.sh").read_text("utf-8")
