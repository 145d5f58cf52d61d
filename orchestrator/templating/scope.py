"""What a template is rendered with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedValue


class ResultPending(Exception):  # noqa: N818 - an answer, not an error
    """A value exists only after steps have run. ``names`` are their registered names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        super().__init__(", ".join(sorted(self.names)))


class Scope(Protocol):
    """What a template sees: the names at its root."""

    def resolve(self, name: str) -> object:
        """The final value of a name; it is never rendered again.

        Raises ``KeyError(name)`` where there is none, ``ResultPending`` where it is not known yet,
        ``OrchError`` where it is in error itself.
        """

    def from_host(self, name: str) -> bool:
        """Whether text that the name leads to came from a host's output, however far back."""

    def names(self) -> Iterable[str]:
        """The known names. Asked for on errors only."""

    def hint(self, name: str) -> str:
        """Return what to write in place of a name that does not exist, or ''."""

    def origin(self, name: str, hops: int = ...) -> MarkedValue | None:
        """Return what the name stands for as it was written, over at most ``hops`` more names;
        None where it is written nowhere. Asked for on errors only."""


TEMPLATE_OBJECTS = frozenset({"app", "host"})
"""Names that text from a host can be reached by, or not: it depends on what is asked of them."""


def host_text_reads_of(scope: Scope) -> int:
    """Return how often a value was taken from a scope that a host had a part in."""
    host_text_reads: int = getattr(scope, "host_text_reads", 0)
    return host_text_reads


def reset_host_text_reads(scope: Scope, host_text_reads: int) -> None:
    """Have it that no more such values were taken than ``host_text_reads``."""
    if hasattr(scope, "host_text_reads"):
        scope.host_text_reads = host_text_reads


class FieldUse(Protocol):
    """``name.field`` in a template."""

    @property
    def name(self) -> str:
        """The name of which something is taken."""

    @property
    def field(self) -> str:
        """What is taken."""

    @property
    def mark(self) -> SourcePosition:
        """Where the field stands."""


class TemplateNames(Protocol):
    """A template of any kind, as far as its names go."""

    @property
    def names(self) -> frozenset[str]:
        """Those that have to exist."""

    @property
    def optional(self) -> frozenset[str]:
        """Those that are asked after first."""

    @property
    def fields(self) -> tuple[FieldUse, ...]:
        """What is taken of names that have to exist."""

    @property
    def mark(self) -> SourcePosition:
        """Where it stands."""

    def position_of(self, name: str) -> SourcePosition:
        """Where one of the names stands first."""
