"""Secrets of the inventory: their sources, and their values once they are fetched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, OrchError, SourcePosition
from orchestrator.model.secret_masking import MIN_SECRET_CHARS, SecretMasker

VAULT_VALUE = "vault"
"""The kind of secrets that are encrypted in a file of the inventory, in Ansible's format."""


class Secret(Struct, frozen=True):
    """A secret as written; its value is fetched when it is needed.

    ``kind`` is env, command, file, prompt or vault; ``words`` is the variable, the command, the
    path, the question or the encrypted text. A path or command is relative to ``folder``, which is
    empty for the other kinds.
    Secrets with the same source are equal. ``name`` is shown in place of the value.
    """

    kind: str
    words: tuple[str, ...]
    folder: str = ""
    name: str = "secret"
    mark: SourcePosition = SourcePosition("")

    def __eq__(self, other: object) -> bool:
        """Return True if both have the same source."""
        return isinstance(other, Secret) and self._identity == other._identity

    def __hash__(self) -> int:
        """Return the hash of the source."""
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.kind, self.words, self.folder

    def __str__(self) -> str:
        """Return a text that describes the source."""
        if self.kind == VAULT_VALUE:
            return self.display_label
        return f"‹secret: {self.kind} {' '.join(self.words)}›"

    @property
    def display_label(self) -> str:
        """Return the text shown in place of the value."""
        return f"‹{self.name}›"


class SecretResolver:
    """Resolves secrets to their values and adds these to ``masker``. Thread-safe.

    Each source is queried once; its error is remembered, too. Without ``fetch_secret`` no source is
    queried: the value is what ``stand_in`` returns, ``stand_in_reads`` counts its uses, and
    ``affects_plan`` is set if a decision depended on it.
    """

    def __init__(
        self,
        masker: SecretMasker | None = None,
        fetch_secret: Callable[[Secret], str] | None = None,
        stand_in: Callable[[Secret], str] = str,
    ) -> None:
        """Create a resolver that has fetched nothing."""
        self.masker = masker if masker is not None else SecretMasker()
        self.fetch_secret, self._stand_in = fetch_secret, stand_in
        self.stand_in_reads, self.affects_plan = 0, False
        self._lock = threading.Lock()
        self._values: dict[Secret, str] = {}
        self._errors: dict[Secret, OrchError] = {}

    def resolve_secret(self, secret: Secret) -> str:
        """Return the value. Raises DefinitionError or UsageError, without any part of the value."""
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

    def fetched_values(self) -> dict[Secret, str]:
        """Return the values of all secrets that have been fetched."""
        with self._lock:
            return dict(self._values)

    def decrypt_text(self, secret: Secret) -> str | None:
        """Return the text of an encrypted file, which is not masked as a whole.

        Return None if no source is queried. Raises DefinitionError or UsageError.
        """
        if self.fetch_secret is None:
            self.stand_in_reads += 1
            self.affects_plan = True
            return None
        with self._lock:
            if secret in self._errors:
                raise self._errors[secret]
            if secret not in self._values:
                try:
                    self._values[secret] = self.fetch_secret(secret)
                except OrchError as error:
                    self._errors[secret] = error
                    raise
            return self._values[secret]

    def hide_texts(self, name: str, value: object) -> None:
        """Mask every text and number in a value that is long enough to be masked."""
        match value:
            case bool() | None:
                return
            case str() | int() | float():
                text = str(value)
                if len(text.strip()) >= MIN_SECRET_CHARS and text != self._known_stand_in(text):
                    self.masker.add_secret(name, text)
            case Mapping():
                for inner in value.values():
                    self.hide_texts(name, inner)
            case list() | tuple():
                for inner in value:
                    self.hide_texts(name, inner)

    def hide_value(self, name: str, value: object, mark: SourcePosition) -> None:
        """Mask a value, and every text in it, under a name; empty texts are ignored.

        Raises DefinitionError if a text is too short to be masked.
        """
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
            message = f"the secret '{name}' is {found}, so it cannot be masked in output"
            raise DefinitionError(Diagnostic(message, mark, "give it a longer value"))
        self.masker.add_secret(name, text)

    def _known_stand_in(self, text: str) -> str | None:
        """Return the text if it is the stand-in of a secret that was not fetched, or None."""
        return (
            text
            if self.fetch_secret is None and text.startswith("‹") and text.endswith("›")
            else None
        )
