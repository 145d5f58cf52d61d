"""Conditions over the results of earlier steps, made so that the host itself can judge them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any as Anything

from jinja2 import nodes
from msgspec import Struct

from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not
from orchestrator.templating.expressions import Expression
from orchestrator.templating.scope import Scope, Waits

_WORDS = ("changed", "failed", "skipped", "succeeded")
_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class _Needs(Exception):  # noqa: N818 - an answer, not an error
    """The expression needs more of a result than the host looks at."""


def condition(
    expr: Expression, known: Callable[[str], int | None], scope: Scope
) -> Condition | None:
    """The expression as a condition, or None where the host cannot judge it.

    ``known`` gives the step whose result has that name and is still to come, else None.
    What does not name such a result is worked out now and folded away; what a short cut
    leaves out is not looked at. ``succeeded`` is neither failed nor skipped.
    Raises ``DefinitionError`` and ``OrchError`` of the parts that are worked out.
    """
    try:
        return _Compiler(expr, known, scope).compile(expr.node)
    except (_Needs, Waits):
        return None


class _Compiler(Struct, frozen=True):
    expr: Expression
    known: Callable[[str], int | None]
    scope: Scope

    def compile(self, node: nodes.Expr) -> Condition:
        if not self._pending(node):
            return Always(self.expr.truth(self.expr.part(node, self.scope), node, self.scope))
        if isinstance(node, nodes.And):
            return self._both(node, stop=False)
        if isinstance(node, nodes.Or):
            return self._both(node, stop=True)
        if isinstance(node, nodes.Not):
            return negate(self.compile(node.node))
        if isinstance(node, nodes.Compare):
            return self._compare(node)
        if isinstance(node, nodes.Test):
            return self._word(node.node, node.name)
        if isinstance(node, nodes.Getattr):
            return self._word(node.node, node.attr)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return self._word(node.node, node.arg.value)
        raise _Needs

    def _pending(self, node: nodes.Expr) -> bool:
        names = {n.name for n in node.find_all(nodes.Name)}
        if isinstance(node, nodes.Name):
            names.add(node.name)
        return any(self.known(name) is not None for name in names)

    def _both(self, node: nodes.And | nodes.Or, *, stop: bool) -> Condition:
        """``and`` stops at False, ``or`` at True; the other constant says nothing."""
        left = self.compile(node.left)
        if left == Always(stop):
            return left
        right = self.compile(node.right)
        if left == Always(not stop) or right == Always(stop):
            return right
        if right == Always(not stop):
            return left
        kind = Any if stop else All
        parts: tuple[Condition, ...] = ()
        for side in (left, right):
            parts += side.of if isinstance(side, kind) else (side,)
        return kind(parts)

    def _word(self, owner: nodes.Expr, word: object) -> Condition:
        step = self._step(owner)
        if word not in _WORDS:
            raise _Needs
        if word == "succeeded":
            return All((Not(Is(step, "failed")), Not(Is(step, "skipped"))))
        return Is(step, str(word))

    def _step(self, node: nodes.Expr) -> int:
        step = self.known(node.name) if isinstance(node, nodes.Name) else None
        if step is None:
            raise _Needs
        return step

    def _compare(self, node: nodes.Compare) -> Condition:
        left, parts = node.expr, []
        for operand in node.ops:
            parts.append(self._pair(left, operand.op, operand.expr))
            left = operand.expr
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _pair(self, left: nodes.Expr, op: str, right: nodes.Expr) -> Condition:
        if op in ("in", "notin"):
            found = self._one_of(left, self._now(right))
            return found if op == "in" else negate(found)
        sign = _OPERATORS[op]
        if not self._pending(left):
            left, right, sign = right, left, _MIRRORED[sign]
        value = self._now(right)
        if self._is_status(left):
            return self._exit(left, sign, value)
        if isinstance(value, bool) and sign in ("==", "!="):
            judged = self.compile(left)
            return judged if value is (sign == "==") else negate(judged)
        raise _Needs

    def _now(self, node: nodes.Expr) -> Anything:
        if self._pending(node):
            raise _Needs
        return self.expr.part(node, self.scope)

    def _is_status(self, node: nodes.Expr) -> bool:
        if isinstance(node, nodes.Getattr):
            return node.attr == "exit_status"
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return bool(node.arg.value == "exit_status")
        return False

    def _exit(self, node: nodes.Expr, sign: str, value: Anything) -> Condition:
        assert isinstance(node, nodes.Getattr | nodes.Getitem)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Needs
        return Exit(self._step(node.node), sign, value)

    def _one_of(self, node: nodes.Expr, values: Anything) -> Condition:
        if not self._is_status(node) or not isinstance(values, list | tuple | range):
            raise _Needs
        parts = tuple(self._exit(node, "==", value) for value in values)
        return Any(parts) if parts else Always(False)


def negate(of: Condition) -> Condition:
    """The opposite, without a double negation."""
    if isinstance(of, Always):
        return Always(not of.value)
    return of.of if isinstance(of, Not) else Not(of)
