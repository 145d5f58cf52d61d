"""Secrets of the inventory: where each comes from, and its value once something names it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, OrchError, SourcePosition
from orchestrator.model.secret_masking import MIN_SECRET_CHARS, SecretMasker


class Secret(Struct, frozen=True):
    """A value that is fetched when it is needed, as written.

    ``kind``: env, command, file or prompt; ``words``: the variable, the command, the path, the
    question. A path and a command count from ``folder``, the others have none. Two with the same
    source are equal. ``name``: what stands in its place where it is shown.
    """

    kind: str
    words: tuple[str, ...]
    folder: str = ""
    name: str = "secret"
    mark: SourcePosition = SourcePosition("")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.kind, self.words, self.folder

    def __str__(self) -> str:
        return f"‹secret: {self.kind} {' '.join(self.words)}›"

    @property
    def display_label(self) -> str:
        """What is shown in its place."""
        return f"‹{self.name}›"


class SecretResolver:
    """Gives secrets their values, and has ``masker`` hide them. Threads may share it.

    Each source is asked once, its error kept as well. Without ``fetch_secret`` none is asked: what
    ``stand_in`` makes of the secret is its value then, ``stand_in_reads`` counts how often that was
    taken, and ``affects_plan`` says that something was decided by it.
    """

    def __init__(
        self,
        masker: SecretMasker | None = None,
        fetch_secret: Callable[[Secret], str] | None = None,
        stand_in: Callable[[Secret], str] = str,
    ) -> None:
        self.masker = masker if masker is not None else SecretMasker()
        self.fetch_secret, self._stand_in = fetch_secret, stand_in
        self.stand_in_reads, self.affects_plan = 0, False
        self._lock = threading.Lock()
        self._values: dict[Secret, str] = {}
        self._errors: dict[Secret, OrchError] = {}

    def resolve_secret(self, secret: Secret) -> str:
        """Its value. Raises DefinitionError or UsageError, which shows nothing of it."""
        if self.fetch_secret is None:
            self.stand_in_reads += 1
            return self._stand_in(secret)
        with self._lock:
            if secret in self._errors:
                raise self._errors[secret]
            if secret not in self._values:
                try:
                    value = self.fetch_secret(secret)
                    self._hide_text(secret.name, value, secret.mark)
                except OrchError as error:
                    self._errors[secret] = error
                    raise
                self._values[secret] = value
            return self._values[secret]

    def hide_value(self, name: str, value: object, mark: SourcePosition) -> None:
        """Have a value, and every text in it, hidden under a name. An empty text hides nothing.
        Raises DefinitionError where one is too short for that."""
        match value:
            case str():
                if value and value != self._known_stand_in(value):
                    self._hide_text(name, value, mark)
            case bool() | None:
                return
            case int() | float():
                self._hide_text(name, str(value), mark)
            case Mapping():
                for inner in value.values():
                    self.hide_value(name, inner, mark)
            case list() | tuple():
                for inner in value:
                    self.hide_value(name, inner, mark)

    def _hide_text(self, name: str, text: str, mark: SourcePosition) -> None:
        if len(text.strip()) < MIN_SECRET_CHARS:
            found = "empty" if not text.strip() else f"shorter than {MIN_SECRET_CHARS} characters"
            message = f"the secret '{name}' is {found}, and cannot be hidden where it is shown"
            raise DefinitionError(Diagnostic(message, mark, "give it a longer value"))
        self.masker.add_secret(name, text)

    def _known_stand_in(self, text: str) -> str | None:
        """The text, where it is what stands for a secret that was not fetched."""
        return (
            text
            if self.fetch_secret is None and text.startswith("‹") and text.endswith("›")
            else None
        )
