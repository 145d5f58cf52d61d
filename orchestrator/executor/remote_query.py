"""Questions to a host that are no steps of a task: nothing is told of them, and no step counts.

What a host says of itself, asked for once, when a template first names it.
"""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from orchestrator.errors import OrchError
from orchestrator.executor.step_recorder import OutputBuffer
from orchestrator.model.command import StepCommand
from orchestrator.model.condition import ConstantCondition
from orchestrator.model.host import FACT_NAMES, NUMERIC_FACT_NAMES
from orchestrator.model.sanitize import quote_output
from orchestrator.modules import MODULES_FOLDER
from orchestrator.remote_shell import CommandResult, EndReason, ShellSession

_QUERY_STEP = 1
_QUERY_TIMEOUT = 60.0  # seconds


class QueryResult(Struct, frozen=True):
    """``exit_status`` is None where the script did not end by itself."""

    exit_status: int | None
    stdout: str
    stderr: str


def run_remote_query(
    session: ShellSession, script: str, *, timeout: float = _QUERY_TIMEOUT
) -> QueryResult:
    """Run a script between two segments, in one round trip. Raises Lost and ConnectError."""
    listener = OutputCollector()
    command = StepCommand(
        _QUERY_STEP, script, timeout=timeout, changed_condition=ConstantCondition(False)
    )
    session.run_unreported(command, listener)
    ending = listener.ending
    has_ended = ending is not None and ending.end_reason is EndReason.DONE
    outputs = (listener.buffers[stream].captured_output().text for stream in ("stdout", "stderr"))
    return QueryResult(ending.exit_status if ending and has_ended else None, *outputs)


class OutputCollector:
    """The session's listener meanwhile."""

    def __init__(self) -> None:
        self.buffers = {"stdout": OutputBuffer(), "stderr": OutputBuffer()}
        self.ending: CommandResult | None = None

    def started(self, step: int) -> None: ...

    def reported(self, step: int, kind: str, text: str) -> None: ...

    def output(self, step: int, stream: str, data: bytes) -> None:
        if step:
            self.buffers[stream].add(data)

    def ended(self, _step: int, ending: CommandResult) -> None:
        self.ending = ending


_MAX_DIGITS = 18


def collect_facts(session: ShellSession) -> dict[str, str | int]:
    """The facts, in one round trip. Raises OrchError where it cannot tell, Lost, ConnectError."""
    query_result = run_remote_query(session, _facts_script())
    if query_result.exit_status != 0:
        reason = (
            quote_output(query_result.stderr) if query_result.stderr else "its shell did not answer"
        )
        raise OrchError(f"the host's facts could not be gathered: {reason}")
    fact_texts = dict(
        line.split("=", 1) for line in query_result.stdout.splitlines() if "=" in line
    )
    facts: dict[str, str | int] = {name: fact_texts.get(name, "") for name in FACT_NAMES}
    for name in NUMERIC_FACT_NAMES:
        facts[name] = _parse_number(name, fact_texts.get(name, ""))
    return facts


def _parse_number(name: str, text: str) -> int:
    """Some hosts cannot tell, and say so in words: that is 0."""
    if not (text.isascii() and text.isdigit()):
        return 0
    if len(text) > _MAX_DIGITS:
        message = f"{name} is a number of {len(text)} digits"
        raise OrchError(f"the host's facts could not be gathered: {message}")
    return int(text)


@cache
def _facts_script() -> str:
    return (MODULES_FOLDER / "facts.sh").read_text("utf-8")
