"""Conditions over steps that the host itself can judge, so that they cost no round trip."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class ConstantCondition(Struct, frozen=True):
    """True or false, whatever happened."""

    value: bool


class StepStateCondition(Struct, frozen=True):
    """A step of this host in this task ended so: ``state`` is changed, failed or skipped, or
    withheld: a check left undone what it may do."""

    step: int
    state: str


class ExitStatusCondition(Struct, frozen=True):
    """A step's exit status compared: ``operator`` is one of == != < <= > >=.

    False where the step has no exit status (it was skipped), but for ``!=``.
    """

    step: int
    operator: str
    status: int


class NotCondition(Struct, frozen=True):
    """The opposite."""

    condition: Condition


class AllOf(Struct, frozen=True):
    """Every one holds."""

    conditions: tuple[Condition, ...]


class AnyOf(Struct, frozen=True):
    """At least one holds."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = (
    ConstantCondition | StepStateCondition | ExitStatusCondition | NotCondition | AllOf | AnyOf
)
