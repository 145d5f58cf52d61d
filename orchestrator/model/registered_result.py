"""What a registered name holds in templates."""

from __future__ import annotations

from typing import Any, NoReturn

from msgspec import Struct

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.model.step_result import CapturedOutput, Status, StepResult


class NotRunInCheckMode(OrchError):  # noqa: N818 - says what depends on what
    """Under check: a template needs what only a step that was not run would bring."""

    def __init__(self, step: str) -> None:
        super().__init__(Diagnostic(f"it depends on '{step}', which was not run"))


class UnknownResult:
    """What a name means whose step depends on one that was not run: nothing can be done with it."""

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        self._step = step

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotRunInCheckMode(self._step)

    def _raise_not_run(self, *_: object) -> NoReturn:
        raise NotRunInCheckMode(self._step)

    __bool__ = __len__ = __iter__ = __str__ = __getitem__ = __contains__ = _raise_not_run
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _raise_not_run
    __add__ = __int__ = __float__ = __html__ = _raise_not_run
    __hash__ = None  # type: ignore[assignment]


class RegisteredResult(Struct, frozen=True):
    """A step's result: ``status stdout stderr exit_status changed failed skipped``.

    Output is text without its final newlines. A skipped step has ``skipped: true`` and
    empty text. ``failed`` stays true where the failure was ignored. The result of a loop has
    ``items``, a result for each ``item``. ``skipped_by_check`` names the step where a check did not
    run it: it is taken to succeed, and asking for its output raises NotRunInCheckMode.
    """

    status: str
    stdout_output: CapturedOutput = CapturedOutput()
    stderr_output: CapturedOutput = CapturedOutput()
    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    skipped: bool = False
    item: Any = None
    items: tuple[RegisteredResult, ...] = ()
    skipped_by_check: str = ""

    def __str__(self) -> str:
        raise TypeError("a result has no text: name the part of it that is meant, like `.stdout`")

    @property
    def succeeded(self) -> bool:
        """Whether it ran and did not fail."""
        return not (self.failed or self.skipped)

    @property
    def stdout(self) -> str:
        """What it wrote on stdout. Raises OrchError where not all of it was kept."""
        return self._output_text(self.stdout_output, "stdout")

    @property
    def stderr(self) -> str:
        """What it wrote on stderr. Raises OrchError where not all of it was kept."""
        return self._output_text(self.stderr_output, "stderr")

    def _output_text(self, captured: CapturedOutput, stream: str) -> str:
        if self.skipped_by_check:
            raise NotRunInCheckMode(self.skipped_by_check)
        return _complete_text(captured, stream)


_CHANGED_STATUSES = frozenset({Status.CHANGED, Status.WOULD_CHANGE, Status.WOULD_RUN})


def registered_result(outcome: StepResult, *, failed: bool, name: str = "") -> RegisteredResult:
    """The result that an outcome registers; ``name`` is its step's."""
    withheld = outcome.status in (Status.WOULD_CHANGE, Status.WOULD_RUN)
    return RegisteredResult(
        str(outcome.status),
        outcome.stdout,
        stderr_output=outcome.stderr,
        exit_status=outcome.exit_status,
        changed=outcome.status in _CHANGED_STATUSES,
        failed=failed,
        skipped=outcome.status is Status.SKIPPED,
        skipped_by_check=(name or "a step") if withheld else "",
    )


def _complete_text(captured: CapturedOutput, stream: str) -> str:
    if captured.dropped:
        raise OrchError(
            Diagnostic(
                f"a template uses {stream} of a step that wrote too much: "
                f"{captured.dropped} bytes of it were not kept",
                None,
                "narrow the output on the host, e.g. with `| tail -n 1`",
            )
        )
    return captured.text
