"""Secrets on their way through expressions: what is made of one is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.model.secret import Secrets
from orchestrator.model.secret_masking import Masks
from orchestrator.templating.scope import Scope


def secrets_of(scope: Scope) -> Secrets:
    """The secrets of the run that a scope belongs to."""
    found: Secrets | None = getattr(scope, "secrets", None)
    return Secrets() if found is None else found


def follow(masks: Masks, given: Iterable[object], made: object) -> object:
    """``made``, which a filter or a function made of what it was ``given``, with each text in it
    that a secret was changed into hidden, too. What comes bit by bit is a list then.

    A text that still shows the secrets it was made of needs no more; nor does one that is a part
    of what was given without a secret in it.
    """
    leaves = list(_texts(given))
    secrets = {s: name for leaf in leaves for s, name in masks.shown(leaf).items()}
    if not secrets:
        return made
    made = list(made) if isinstance(made, Iterator) else made
    same = set(map(id, leaves))
    rest = "\0".join(map(masks.blank, leaves))
    for text in _texts((made,)):
        if id(text) in same or text in rest or secrets.keys() <= masks.shown(text).keys():
            continue
        masks.add(next(iter(secrets.values())), text)
    return made


def _texts(values: Iterable[object]) -> Iterator[str]:
    """Every text in plain values. Other objects are left alone: looking into them may ask for
    what nobody named."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts(value.keys())
            yield from _texts(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            yield from _texts(value)
