"""Conditions over steps that the host itself can judge, so that they cost no round trip."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Always(Struct, frozen=True):
    """True or false, whatever happened."""

    value: bool


class Is(Struct, frozen=True):
    """A step of this host in this task ended so: ``what`` is changed, failed or skipped, or
    withheld: a check left undone what it may do."""

    step: int
    what: str


class Exit(Struct, frozen=True):
    """A step's exit status compared: ``op`` is one of == != < <= > >=.

    False where the step has no exit status (it was skipped), but for ``!=``.
    """

    step: int
    op: str
    status: int


class Not(Struct, frozen=True):
    """The opposite."""

    of: Condition


class All(Struct, frozen=True):
    """Every one holds."""

    of: tuple[Condition, ...]


class Any(Struct, frozen=True):
    """At least one holds."""

    of: tuple[Condition, ...]


Condition: TypeAlias = Always | Is | Exit | Not | All | Any
