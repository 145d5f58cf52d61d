"""The scope in which a template is rendered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import SecretResolver


class ResultPending(Exception):  # noqa: N818 - an answer, not an error
    """A value exists only after steps have run. ``names`` are their registered names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        super().__init__(", ".join(sorted(self.names)))


class Scope(Protocol):
    """The names at the root of a template."""

    def resolve(self, name: str) -> object:
        """Return the final value of a name, which is never rendered again.

        Raises ``KeyError(name)`` if the name does not exist, ``ResultPending`` if its value is not
        known yet, and ``OrchError`` if its value is in error.
        """

    def from_host(self, name: str) -> bool:
        """Return True if the value contains text from a host's output, even indirectly."""

    def names(self) -> Iterable[str]:
        """Return the known names. Used for errors only."""

    def hint(self, name: str) -> str:
        """Return what to write instead of a name that does not exist, or ''."""

    def origin(self, name: str, hops: int = ...) -> MarkedValue | None:
        """Return the value of a name as written, following at most ``hops`` more names.

        Return None if the value is not written anywhere. Used for errors only.
        """


class ProjectReader(Protocol):
    """The files of the project, for functions of templates. ``folder`` is '' without a project.

    A name is that of a file beside the one at ``mark``, else below the project's folder. Errors are
    raised as DefinitionError or UnusableValueError.
    """

    folder: str

    def read_text(
        self, name: str, mark: SourcePosition, secrets: SecretResolver
    ) -> tuple[str, bool]:
        """Return the text of a file, and True if it is a vault, whose text is a secret."""

    def find_file(self, name: str, mark: SourcePosition) -> str:
        """Return the absolute path of a file, or '' if it does not exist."""

    def match_files(self, pattern: str, mark: SourcePosition) -> list[str]:
        """Return the absolute paths of the files that match a pattern, in order."""

    def compile_file(
        self, name: str, mark: SourcePosition, secrets: SecretResolver
    ) -> tuple[Any, bool]:
        """Return a file as a compiled template, and True if it is a vault."""

    def examine(self, text: str) -> tuple[str, str]:
        """Return an absolute path with links resolved, and its kind; see ``examine_path``."""

    def expand_home(self, text: str) -> Path:
        """Return the path with a leading ``~`` or ``~user`` replaced by the home folder."""


RENDERED_FILE = "render()"
"""Stands for what ``render`` makes of a file, among the names that a value is made of.

It may contain text from a host, whatever the file is.
"""

TEMPLATE_OBJECTS = frozenset({"app", "host", "vars"})
"""Names that may lead to text from a host, depending on the attribute that is used."""


def host_text_reads_of(scope: Scope) -> int:
    """Return how many values that contain host text were read from a scope."""
    host_text_reads: int = getattr(scope, "host_text_reads", 0)
    return host_text_reads


def reset_host_text_reads(scope: Scope, host_text_reads: int) -> None:
    """Reset the number of values with host text that were read from a scope."""
    if hasattr(scope, "host_text_reads"):
        scope.host_text_reads = host_text_reads


class FieldUse(Protocol):
    """A ``name.field`` in a template."""

    @property
    def name(self) -> str:
        """Return the name whose field is used."""

    @property
    def field(self) -> str:
        """Return the name of the field."""

    @property
    def mark(self) -> SourcePosition:
        """Return the position of the field."""


class TemplateNames(Protocol):
    """The names used by a template of any kind."""

    @property
    def names(self) -> frozenset[str]:
        """Return the names that must exist."""

    @property
    def optional(self) -> frozenset[str]:
        """Return the names that are tested before use."""

    @property
    def fields(self) -> tuple[FieldUse, ...]:
        """Return the field accesses of names that must exist."""

    @property
    def mark(self) -> SourcePosition:
        """Return the position of the template."""

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name."""
