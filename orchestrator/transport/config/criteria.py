"""Match lines: their conditions as written, and whether they hold for a host."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from orchestrator.errors import Mark, nearest
from orchestrator.transport.config.keywords import TRY_SSH, BadValueError
from orchestrator.transport.config.lines import token
from orchestrator.transport.config.patterns import compiled
from orchestrator.transport.config.tree import Criterion

ALONE = ("all", "canonical", "final")
LISTS = ("host", "originalhost", "user", "localuser", "tagged")
KNOWN = (*ALONE, *LISTS, "exec")
NEWER = ("localnetwork", "command", "sessiontype", "version")


class Subject(Struct, frozen=True):
    """What Match lines judge at one moment of a lookup: the host as it is named so far, how it
    was called, who logs in, who runs orch, and its tag. ``run`` tells whether a command succeeds.
    """

    host: str
    original: str
    user: str
    local: str
    tag: str
    final: bool
    run: Callable[[str, Mark], bool]


def read_criteria(text: str, mark: Mark) -> tuple[Criterion, ...]:
    """The conditions of a Match line. Raises BadValueError and QuotesError."""
    found: list[Criterion] = []
    while True:
        word, text = token(text)
        if not word or word.startswith("#"):
            break
        negated, kind = word.startswith("!"), word.removeprefix("!").lower()
        if kind in ALONE:
            found.append(Criterion(kind, negated, None, "", mark))
            if kind == "all":
                _must_be_alone(found, text)
                return tuple(found)
            continue
        _must_be_known(kind)
        value, text = token(text)
        if not value or value.startswith("#"):
            raise BadValueError(f"'{kind}' needs something to compare with")
        found.append(_with(kind, negated, value, mark))
    if not found:
        raise BadValueError("it needs a condition; `Match all` is for every host")
    return tuple(found)


def holds(criteria: tuple[Criterion, ...], subject: Subject) -> bool:
    """Whether all of them are met. Commands run only where those before are."""
    met = True
    for one in criteria:
        if one.kind == "all":
            return met and not one.negated
        if one.kind == "exec":
            met = met and subject.run(one.text, one.mark) != one.negated
        elif one.patterns is None:
            met = met and subject.final != one.negated
        else:
            met = met and one.patterns.match(_compared(one.kind, subject)) != one.negated
    return met


def _compared(kind: str, subject: Subject) -> str:
    match kind:
        case "host":
            return subject.host.lower()
        case "originalhost":
            return subject.original.lower()
        case "user":
            return subject.user
        case "localuser":
            return subject.local
        case _:
            return subject.tag


def _with(kind: str, negated: bool, value: str, mark: Mark) -> Criterion:
    if kind == "exec":
        return Criterion(kind, negated, None, value, mark)
    text = value.lower() if kind in ("host", "originalhost") else value
    return Criterion(kind, negated, compiled(text.split(",")), "", mark)


def _must_be_alone(found: list[Criterion], rest: str) -> None:
    others = [one for one in found[:-1] if one.kind not in ALONE]
    word, _ = token(rest)
    if len(others) > 1 or (word and not word.startswith("#")):
        raise BadValueError("'all' can't stand beside other conditions")


def _must_be_known(kind: str) -> None:
    if kind in NEWER:
        raise BadValueError(f"orch can't judge 'Match {kind}'")
    if kind not in KNOWN:
        near = nearest(kind, KNOWN)
        hint = f"{near} {TRY_SSH}" if near else TRY_SSH
        raise BadValueError(f"there is no condition {kind!r}", hint)
