"""Taint tracking: a value derived from a secret is a secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.model.secret import SecretResolver
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.templating.scope import Scope


def secrets_of(scope: Scope) -> SecretResolver:
    """Return the secrets of the run that a scope belongs to."""
    found: SecretResolver | None = getattr(scope, "secrets", None)
    return SecretResolver() if found is None else found


def propagate_taint(masks: SecretMasker, inputs: Iterable[object], output: object) -> object:
    """Return ``output``, and mask every text in it that was derived from a secret.

    An iterator is returned as a list. A text is left alone if it still shows the secrets in its
    inputs, which are masked anyway, or if it is a part of the inputs outside secrets.
    """
    leaves = list(_iter_texts(inputs))
    secrets = {s: name for leaf in leaves for s, name in masks.secrets_shown_in(leaf).items()}
    if not secrets:
        return output
    output = list(output) if isinstance(output, Iterator) else output
    same = set(map(id, leaves))
    rest = "\0".join(map(masks.blank_secrets, leaves))
    for text in _iter_texts((output,)):
        if (
            id(text) in same
            or text in rest
            or secrets.keys() <= masks.secrets_shown_in(text).keys()
        ):
            continue
        masks.add_secret(next(iter(secrets.values())), text)
    return output


def shows_secret(masks: SecretMasker, values: Iterable[object]) -> bool:
    """Return True if a text in plain values contains a secret, or what was made of one."""
    return any(masks.secrets_shown_in(leaf) for leaf in _iter_texts(values))


def _iter_texts(values: Iterable[object]) -> Iterator[str]:
    """Yield every text in plain values.

    Other objects are skipped: reading their attributes may resolve values that nobody used.
    """
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _iter_texts(value.keys())
            yield from _iter_texts(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            yield from _iter_texts(value)
