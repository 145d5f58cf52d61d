"""Conditions over steps that the host itself can evaluate, without another round trip."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class ConstantCondition(Struct, frozen=True):
    """Always true or always false."""

    value: bool


class StepStateCondition(Struct, frozen=True):
    """The step of this host and task with this number ended in ``state``.

    ``state`` is ``changed``, ``failed``, ``skipped``, or ``withheld`` (check mode did not run what
    it may do).
    """

    step: int
    state: str


class ExitStatusCondition(Struct, frozen=True):
    """A comparison of a step's exit status; ``operator`` is one of == != < <= > >=.

    If the step has no exit status (it was skipped), only ``!=`` is true.
    """

    step: int
    operator: str
    status: int


class NotCondition(Struct, frozen=True):
    """Negation of a condition."""

    condition: Condition


class AllOf(Struct, frozen=True):
    """True if all conditions are true."""

    conditions: tuple[Condition, ...]


class AnyOf(Struct, frozen=True):
    """True if at least one condition is true."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = (
    ConstantCondition | StepStateCondition | ExitStatusCondition | NotCondition | AllOf | AnyOf
)
