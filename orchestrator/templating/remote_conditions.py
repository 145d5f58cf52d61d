"""Compilation of conditions over earlier results to conditions that the host evaluates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any as Anything

from jinja2 import nodes
from msgspec import Struct

from orchestrator.model.condition import (
    AllOf,
    AnyOf,
    Condition,
    ConstantCondition,
    ExitStatusCondition,
    NotCondition,
    StepStateCondition,
)
from orchestrator.templating.expressions import Expression
from orchestrator.templating.scope import ResultPending, Scope

_STATE_WORDS = ("changed", "failed", "skipped", "succeeded")
_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class _NotRemoteEvaluable(Exception):  # noqa: N818 - an answer, not an error
    """The expression needs more of a result than the host can evaluate."""


def compile_condition(
    expr: Expression, pending_step: Callable[[str], int | None], scope: Scope
) -> Condition | None:
    """Return the expression as a condition, or None if the host cannot evaluate it.

    ``pending_step`` returns the step whose result has a name and is not known yet, else None.
    Sub-expressions without such a result are evaluated now and folded; short-circuited parts are
    not evaluated. ``succeeded`` means neither failed nor skipped. Raises ``DefinitionError`` and
    ``OrchError`` of the evaluated parts.
    """
    try:
        return _ConditionCompiler(expr, pending_step, scope).compile(expr.node)
    except (_NotRemoteEvaluable, ResultPending):
        return None


class _ConditionCompiler(Struct, frozen=True):
    expr: Expression
    pending_step: Callable[[str], int | None]
    scope: Scope

    def compile(self, node: nodes.Expr) -> Condition:
        if not self._is_pending(node):
            return ConstantCondition(
                self.expr.is_truthy(self.expr.value_of_part(node, self.scope), node, self.scope)
            )
        if isinstance(node, nodes.And):
            return self._compile_bool(node, stop=False)
        if isinstance(node, nodes.Or):
            return self._compile_bool(node, stop=True)
        if isinstance(node, nodes.Not):
            return negate(self.compile(node.node))
        if isinstance(node, nodes.Compare):
            return self._compile_compare(node)
        if isinstance(node, nodes.Test):
            return self._compile_word(node.node, node.name)
        if isinstance(node, nodes.Getattr):
            return self._compile_word(node.node, node.attr)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return self._compile_word(node.node, node.arg.value)
        raise _NotRemoteEvaluable

    def _is_pending(self, node: nodes.Expr) -> bool:
        names = {n.name for n in node.find_all(nodes.Name)}
        if isinstance(node, nodes.Name):
            names.add(node.name)
        return any(self.pending_step(name) is not None for name in names)

    def _compile_bool(self, node: nodes.And | nodes.Or, *, stop: bool) -> Condition:
        """Compile ``and`` (False decides) or ``or`` (True decides); drop the other constant."""
        left = self.compile(node.left)
        if left == ConstantCondition(stop):
            return left
        right = self.compile(node.right)
        if left == ConstantCondition(not stop) or right == ConstantCondition(stop):
            return right
        if right == ConstantCondition(not stop):
            return left
        kind = AnyOf if stop else AllOf
        parts: tuple[Condition, ...] = ()
        for side in (left, right):
            parts += side.conditions if isinstance(side, kind) else (side,)
        return kind(parts)

    def _compile_word(self, owner: nodes.Expr, word: object) -> Condition:
        step = self._result_step(owner)
        if word not in _STATE_WORDS:
            raise _NotRemoteEvaluable
        if word == "succeeded":
            return AllOf(
                (
                    NotCondition(StepStateCondition(step, "failed")),
                    NotCondition(StepStateCondition(step, "skipped")),
                )
            )
        return StepStateCondition(step, str(word))

    def _result_step(self, node: nodes.Expr) -> int:
        step = self.pending_step(node.name) if isinstance(node, nodes.Name) else None
        if step is None:
            raise _NotRemoteEvaluable
        return step

    def _compile_compare(self, node: nodes.Compare) -> Condition:
        left, parts = node.expr, []
        for operand in node.ops:
            parts.append(self._compile_pair(left, operand.op, operand.expr))
            left = operand.expr
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _compile_pair(self, left: nodes.Expr, op: str, right: nodes.Expr) -> Condition:
        if op in ("in", "notin"):
            found = self._one_of_condition(left, self._evaluate_now(right))
            return found if op == "in" else negate(found)
        sign = _OPERATORS[op]
        if not self._is_pending(left):
            left, right, sign = right, left, _MIRRORED[sign]
        value = self._evaluate_now(right)
        if self._is_status(left):
            return self._exit_condition(left, sign, value)
        if isinstance(value, bool) and sign in ("==", "!="):
            judged = self.compile(left)
            return judged if value is (sign == "==") else negate(judged)
        raise _NotRemoteEvaluable

    def _evaluate_now(self, node: nodes.Expr) -> Anything:
        if self._is_pending(node):
            raise _NotRemoteEvaluable
        return self.expr.value_of_part(node, self.scope)

    def _is_status(self, node: nodes.Expr) -> bool:
        if isinstance(node, nodes.Getattr):
            return node.attr == "exit_status"
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return bool(node.arg.value == "exit_status")
        return False

    def _exit_condition(self, node: nodes.Expr, sign: str, value: Anything) -> Condition:
        assert isinstance(node, nodes.Getattr | nodes.Getitem)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _NotRemoteEvaluable
        return ExitStatusCondition(self._result_step(node.node), sign, value)

    def _one_of_condition(self, node: nodes.Expr, values: Anything) -> Condition:
        if not self._is_status(node) or not isinstance(values, list | tuple | range):
            raise _NotRemoteEvaluable
        parts = tuple(self._exit_condition(node, "==", value) for value in values)
        return AnyOf(parts) if parts else ConstantCondition(False)


def negate(of: Condition) -> Condition:
    """Return the negation, without a double negation."""
    if isinstance(of, ConstantCondition):
        return ConstantCondition(not of.value)
    return of.condition if isinstance(of, NotCondition) else NotCondition(of)
