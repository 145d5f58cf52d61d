"""Conditions over steps that the host itself can judge, so that they cost no round trip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Always:
    """True or false, whatever happened."""

    value: bool


@dataclass(frozen=True, slots=True)
class Is:
    """A step of this host in this task ended so: ``what`` is changed, failed or skipped."""

    step: int
    what: str


@dataclass(frozen=True, slots=True)
class Exit:
    """A step's exit status compared: ``op`` is one of == != < <= > >=.

    False where the step has no exit status (it was skipped), but for ``!=``.
    """

    step: int
    op: str
    status: int


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    of: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every one holds."""

    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one holds."""

    of: tuple[Condition, ...]


Condition: TypeAlias = Always | Is | Exit | Not | All | Any
