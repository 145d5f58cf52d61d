"""What a host says of itself, asked for once, when a template first names it."""

from __future__ import annotations

from functools import cache

from orchestrator.errors import OrchError
from orchestrator.execute.capture import Capture
from orchestrator.library import FOLDER
from orchestrator.model.command import Command
from orchestrator.model.condition import Always
from orchestrator.session import Ending, How, Session

FACTS = ("os", "arch", "distro", "release", "hostname", "packager", "init", "user")
NUMBERS = ("cpus", "memory")
"""``memory`` is in MiB."""

_STEP = 1
_TIMEOUT = 60.0  # seconds


def gather(session: Session) -> dict[str, str | int]:
    """The facts, in one round trip. Raises OrchError where it cannot tell, Lost, ConnectError.

    To be asked of a session between two segments: what it knows of steps is kept.
    """
    heard = _Heard()
    command = Command(_STEP, _script(), timeout=_TIMEOUT, changes=Always(False))
    session.aside(command, heard)
    if heard.ending is None or heard.ending.failed or heard.ending.how is not How.DONE:
        why = heard.said["stderr"].done().text or "its shell did not answer"
        raise OrchError(f"the host's facts could not be gathered: {why}")
    lines = heard.said["stdout"].done().text.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    facts: dict[str, str | int] = {name: found.get(name, "") for name in FACTS}
    for name in NUMBERS:
        facts[name] = int(found[name]) if found.get(name, "").isdecimal() else 0
    return facts


@cache
def _script() -> str:
    return (FOLDER / "facts.sh").read_text("utf-8")


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
