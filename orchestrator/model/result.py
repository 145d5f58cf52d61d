"""What a registered name holds in templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.errors import OrchError, Problem
from orchestrator.model.outcome import Captured, Outcome, Status


@dataclass(frozen=True, slots=True)
class Result:
    """A step's result: ``status stdout stderr exit_status changed failed skipped``.

    Output is text without its final newlines. A skipped step has ``skipped: true`` and
    empty text. ``failed`` stays true where the failure was ignored. The result of a loop has
    ``items``, a result for each ``item``.
    """

    status: str
    out: Captured = Captured()
    err: Captured = Captured()
    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    skipped: bool = False
    item: Any = None
    items: tuple[Result, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether it ran and did not fail."""
        return not (self.failed or self.skipped)

    @property
    def stdout(self) -> str:
        """What it wrote on stdout. Raises OrchError where not all of it was kept."""
        return _whole(self.out, "stdout")

    @property
    def stderr(self) -> str:
        """What it wrote on stderr. Raises OrchError where not all of it was kept."""
        return _whole(self.err, "stderr")


def result_of(outcome: Outcome, *, failed: bool) -> Result:
    """The result that an outcome registers."""
    return Result(
        str(outcome.status),
        outcome.stdout,
        outcome.stderr,
        outcome.exit_status,
        outcome.status is Status.CHANGED,
        failed,
        outcome.status is Status.SKIPPED,
    )


def _whole(captured: Captured, stream: str) -> str:
    if captured.dropped:
        raise OrchError(
            Problem(
                f"a template uses {stream} of a step that wrote too much: "
                f"{captured.dropped} bytes of it were not kept",
                None,
                "narrow the output on the host, e.g. with `| tail -n 1`",
            )
        )
    return captured.text
