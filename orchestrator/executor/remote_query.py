"""Runs a helper script on a host outside the task, for locks and facts.

A query emits no events and does not count as a step.
"""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from orchestrator.errors import OrchError
from orchestrator.executor.step_recorder import OutputBuffer
from orchestrator.model.command import StepCommand
from orchestrator.model.condition import ConstantCondition
from orchestrator.model.host import NUMERIC_FACTS, TEXT_FACTS
from orchestrator.model.sanitize import quote_output
from orchestrator.modules import MODULES_FOLDER
from orchestrator.remote_shell import CommandResult, EndReason, ShellSession

_QUERY_STEP = 1
_QUERY_TIMEOUT = 60.0  # seconds


class QueryResult(Struct, frozen=True):
    """Result of a query; ``exit_status`` is None if the script was killed or timed out."""

    exit_status: int | None
    stdout: str
    stderr: str


def run_remote_query(
    session: ShellSession, script: str, *, timeout: float = _QUERY_TIMEOUT
) -> QueryResult:
    """Run a script between two pipelines, in one round trip.

    Raises SessionLostError and ConnectError.
    """
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
    """Session listener that keeps the script's output and its result."""

    def __init__(self) -> None:
        """Create a collector with empty buffers."""
        self.buffers = {"stdout": OutputBuffer(), "stderr": OutputBuffer()}
        self.ending: CommandResult | None = None

    def started(self, step: int) -> None:
        """Ignore the start of the script."""

    def reported(self, step: int, kind: str, text: str) -> None:
        """Ignore report lines."""

    def output(self, step: int, stream: str, data: bytes) -> None:
        """Keep output of the script; step 0 is output of the shell itself."""
        if step:
            self.buffers[stream].add(data)

    def ended(self, _step: int, ending: CommandResult) -> None:
        """Keep the script's result."""
        self.ending = ending


_MAX_DIGITS = 18


def collect_facts(session: ShellSession) -> dict[str, str | int]:
    """Return the host's facts, in one round trip.

    Raises OrchError if the script fails, SessionLostError and ConnectError.
    """
    query_result = run_remote_query(session, _facts_script())
    if query_result.exit_status != 0:
        reason = (
            quote_output(query_result.stderr) if query_result.stderr else "its shell did not reply"
        )
        raise OrchError(f"the host's facts could not be collected: {reason}")
    fact_texts = dict(
        line.split("=", 1) for line in query_result.stdout.splitlines() if "=" in line
    )
    facts: dict[str, str | int] = {name: fact_texts.get(name, "") for name in TEXT_FACTS}
    for name in NUMERIC_FACTS:
        facts[name] = _parse_number(name, fact_texts.get(name, ""))
    return facts


def _parse_number(name: str, text: str) -> int:
    """Return the number, or 0 if the host reported a word because it does not know it."""
    if not (text.isascii() and text.isdigit()):
        return 0
    if len(text) > _MAX_DIGITS:
        message = f"{name} is a number of {len(text)} digits"
        raise OrchError(f"the host's facts could not be collected: {message}")
    return int(text)


@cache
def _facts_script() -> str:
    return (MODULES_FOLDER / "facts.sh").read_text("utf-8")
