"""What a registered name holds in templates."""

from __future__ import annotations

from typing import Any, NoReturn

from msgspec import Struct

from orchestrator.errors import OrchError, Problem
from orchestrator.model.step_result import Captured, Outcome, Status


class NotRun(OrchError):  # noqa: N818 - says what depends on what
    """Under check: a template needs what only a step that was not run would bring."""

    def __init__(self, step: str) -> None:
        super().__init__(Problem(f"it depends on '{step}', which was not run"))


class Unknown:
    """What a name means whose step depends on one that was not run: nothing can be done with it."""

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        self._step = step

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotRun(self._step)

    def _unknown(self, *_: object) -> NoReturn:
        raise NotRun(self._step)

    __bool__ = __len__ = __iter__ = __str__ = __getitem__ = __contains__ = _unknown
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown
    __add__ = __int__ = __float__ = __html__ = _unknown
    __hash__ = None  # type: ignore[assignment]


class Result(Struct, frozen=True):
    """A step's result: ``status stdout stderr exit_status changed failed skipped``.

    Output is text without its final newlines. A skipped step has ``skipped: true`` and
    empty text. ``failed`` stays true where the failure was ignored. The result of a loop has
    ``items``, a result for each ``item``. ``withheld`` names the step where a check did not
    run it: it is taken to succeed, and asking for its output raises NotRun.
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
    withheld: str = ""

    def __str__(self) -> str:
        raise TypeError("a result has no text: name the part of it that is meant, like `.stdout`")

    @property
    def succeeded(self) -> bool:
        """Whether it ran and did not fail."""
        return not (self.failed or self.skipped)

    @property
    def stdout(self) -> str:
        """What it wrote on stdout. Raises OrchError where not all of it was kept."""
        return self._text(self.out, "stdout")

    @property
    def stderr(self) -> str:
        """What it wrote on stderr. Raises OrchError where not all of it was kept."""
        return self._text(self.err, "stderr")

    def _text(self, captured: Captured, stream: str) -> str:
        if self.withheld:
            raise NotRun(self.withheld)
        return _whole(captured, stream)


_CHANGED = frozenset({Status.CHANGED, Status.WOULD_CHANGE, Status.WOULD_RUN})


def result_of(outcome: Outcome, *, failed: bool, name: str = "") -> Result:
    """The result that an outcome registers; ``name`` is its step's."""
    withheld = outcome.status in (Status.WOULD_CHANGE, Status.WOULD_RUN)
    return Result(
        str(outcome.status),
        outcome.stdout,
        err=outcome.stderr,
        exit_status=outcome.exit_status,
        changed=outcome.status in _CHANGED,
        failed=failed,
        skipped=outcome.status is Status.SKIPPED,
        withheld=(name or "a step") if withheld else "",
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
