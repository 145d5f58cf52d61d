"""The value of a registered name in templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from msgspec import Struct, field

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.model.step_result import CapturedOutput, Status, StepResult


class NotRunInCheckMode(OrchError):  # noqa: N818 - named after the condition
    """In check mode, a template uses the result of a step that was not run."""

    def __init__(self, step: str) -> None:
        """Store the message that names the step."""
        super().__init__(Diagnostic(f"it depends on '{step}', which was not run"))


class UnknownResult:
    """Placeholder for a result that depends on a step skipped in check mode.

    Any use raises NotRunInCheckMode.
    """

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        """Store the step's name."""
        self._step = step

    def __getattr__(self, name: str) -> NoReturn:
        """Raise NotRunInCheckMode, except for special attributes."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotRunInCheckMode(self._step)

    def _raise_not_run(self, *_: object) -> NoReturn:
        raise NotRunInCheckMode(self._step)

    __bool__ = __len__ = __iter__ = __str__ = __getitem__ = __contains__ = _raise_not_run
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _raise_not_run
    __add__ = __int__ = __float__ = __html__ = _raise_not_run
    __hash__ = None  # type: ignore[assignment]


_MISSING_HINT = "start a new run"


class RegisteredResult(Struct, frozen=True):
    """A step's result: ``status stdout stderr exit_status changed failed skipped``.

    Output is text without trailing newlines. A skipped step has ``skipped: true`` and empty output.
    ``failed`` stays true if the failure was ignored. The result of a loop has ``items``, a result
    for each ``item``. ``skipped_by_check`` is the step's name if check mode did not run it: it
    counts as successful, and reading its output raises NotRunInCheckMode. ``missing_output`` says
    why a resumed run does not know the output, which then cannot be read. ``values`` are those that
    a module returned, which are attributes as well; using one that is a ValueError raises an
    error. ``values_error`` says why they are not known.
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
    missing_output: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    values_error: str = ""

    def __getattr__(self, name: str) -> Any:
        """Return a value that a module returned. Raises OrchError if it is not known."""
        if name.startswith("_") or name not in self.values:
            raise AttributeError(name)
        self._check_output(f"'{name}'")
        if self.values_error:
            raise OrchError(Diagnostic(self.values_error))
        value = self.values[name]
        if isinstance(value, ValueError):
            raise OrchError(Diagnostic(f"the result cannot be used: {value}"))
        return value

    def __str__(self) -> str:
        """Raise TypeError, because rendering a whole result is a mistake."""
        raise TypeError(
            "a result cannot be rendered as text; use one of its fields, like `.stdout`"
        )

    @property
    def succeeded(self) -> bool:
        """Return True if the step ran and did not fail."""
        return not (self.failed or self.skipped)

    @property
    def stdout(self) -> str:
        """Return the standard output. Raises OrchError if part of it was dropped."""
        return self._output_text(self.stdout_output, "stdout")

    @property
    def stderr(self) -> str:
        """Return the standard error output. Raises OrchError if part of it was dropped."""
        return self._output_text(self.stderr_output, "stderr")

    def _output_text(self, captured: CapturedOutput, stream: str) -> str:
        self._check_output(stream)
        return _complete_text(captured, stream)

    def _check_output(self, part: str) -> None:
        """Raise OrchError if the output, of which a template uses a part, is not known."""
        if self.skipped_by_check:
            raise NotRunInCheckMode(self.skipped_by_check)
        if self.missing_output:
            message = f"a template uses {part} of a step whose output is not known any more"
            raise OrchError(Diagnostic(f"{message}: {self.missing_output}", None, _MISSING_HINT))


_CHANGED_STATUSES = frozenset({Status.CHANGED, Status.WOULD_CHANGE, Status.WOULD_RUN})


def registered_result(
    outcome: StepResult,
    *,
    failed: bool,
    name: str = "",
    values: Mapping[str, Any] | None = None,
    values_error: str = "",
) -> RegisteredResult:
    """Return the registered result of a step; ``name`` is the step's name."""
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
        values=values or {},
        values_error=values_error,
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
