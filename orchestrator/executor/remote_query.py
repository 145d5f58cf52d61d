"""Runs a helper script on a host outside the task, for locks and facts.

A query emits no events and does not count as a step.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.executor.step_recorder import OutputBuffer
from orchestrator.model.command import StepCommand
from orchestrator.model.condition import ConstantCondition
from orchestrator.model.sanitize import quote_output
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.planner.fact_parser import MAX_REPORT_BYTES, facts_error
from orchestrator.planner.fact_sources import FactQuery
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


class BoundedCollector(OutputCollector):
    """Session listener that keeps all of the script's standard output, up to a limit."""

    def __init__(self, max_bytes: int) -> None:
        """Create a collector; ``is_too_long`` if there was more."""
        super().__init__()
        self.stdout = bytearray()
        self.is_too_long, self._max_bytes = False, max_bytes

    def output(self, step: int, stream: str, data: bytes) -> None:
        """Keep output of the script."""
        if not step or stream != "stdout":
            super().output(step, stream, data)
        elif len(self.stdout) + len(data) > self._max_bytes:
            self.is_too_long = True
        else:
            self.stdout += data


def collect_facts(session: ShellSession, query: FactQuery) -> dict[str, object]:
    """Return the values of facts of the host, in one round trip.

    Raises OrchError if the script fails or reports what cannot be, SessionLostError and
    ConnectError.
    """
    listener = BoundedCollector(MAX_REPORT_BYTES)
    command = StepCommand(
        _QUERY_STEP,
        query.script,
        timeout=_QUERY_TIMEOUT,
        changed_condition=ConstantCondition(False),
    )
    session.run_unreported(command, listener)
    ending = listener.ending
    stderr = listener.buffers["stderr"].captured_output().text
    if ending is None or ending.end_reason is not EndReason.DONE:
        reason = f"they were not reported within {_QUERY_TIMEOUT:g} s"
        if ending is None or ending.end_reason is not EndReason.TIMED_OUT:
            reason = "its shell did not reply"
        raise facts_error(reason)
    if listener.is_too_long:
        raise facts_error(f"they are more than {MAX_REPORT_BYTES >> 20} MiB")
    if ending.exit_status != 0:
        raise facts_error(
            quote_output(stderr) if stderr else f"its shell ended with status {ending.exit_status}"
        )
    return query.parse(decode_bytes(bytes(listener.stdout)), stderr)
