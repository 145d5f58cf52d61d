"""What a host says of itself, asked for once, when a template first names it."""

from __future__ import annotations

from functools import cache

from orchestrator.errors import OrchError
from orchestrator.execute.aside import ask
from orchestrator.library import FOLDER
from orchestrator.model.clean import quote
from orchestrator.model.facts import FACTS, NUMBERS
from orchestrator.session import Session

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
