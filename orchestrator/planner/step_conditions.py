"""Evaluates a step's conditions for one host: constant, evaluated on the host, or pending a result.

Also compiles ``failed_when``, ``changed_when`` and ``until``, to be evaluated on the host or on the
controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from orchestrator import templating
from orchestrator.model.condition import (
    AllOf,
    AnyOf,
    Condition,
    ConstantCondition,
    StepStateCondition,
)
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.planner.host_scope import CONTROLLER_NAMES, MAX_HOPS, ScopePosition
from orchestrator.planner.plan import ResultOverride, ResultsByName, RetryPlan
from orchestrator.planner.task_expander import ExpandedStep
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook.model import ConditionExpr
from orchestrator.templating import ResultPending, Scope
from orchestrator.templating.scope import ProjectReader, host_text_reads_of, reset_host_text_reads


class StepContext(Struct, frozen=True):
    """The state of a host at the point where a step is planned.

    ``registered`` are the names that earlier steps register, with their numbers in this task.
    ``settled_results`` are results already known, for example of steps that will not run.
    ``missing_is_none`` are names whose results are None if they were never produced (in a
    rollback). ``set_names``, ``controller_names``, ``untainted_names`` and ``returned_fields`` are
    explained in ``ScopePosition``.
    """

    position: ScopePosition
    registered: Mapping[str, tuple[int, ...]]
    settled_results: ResultsByName
    missing_is_none: frozenset[str] = frozenset()
    set_names: frozenset[str] = frozenset()
    controller_names: frozenset[str] = frozenset()
    untainted_names: frozenset[str] = frozenset()
    returned_fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def enter(self, results: ResultsByName) -> None:
        """Move the host's scope to this point, with these results."""
        self.position.results = {**self.settled_results, **results}
        self.position.registered = self.registered
        self.position.set_names = self.set_names
        self.position.returned_fields = self.returned_fields
        self.position.untainted_names = self.untainted_names
        self.position.controller_names = (self.controller_names - results.keys()) | results.get(
            CONTROLLER_NAMES, frozenset()
        )
        self.position.no_more_results = NO_MORE_RESULTS in results
        self.position.missing_is_none = (
            self.missing_is_none if NO_MORE_RESULTS in results else frozenset()
        )


NO_MORE_RESULTS = "no more to come"
"""Key that is in the results if no step is pending any more.

No template can use this name. A name whose step was not run then has the value that it would have
without the step.
"""

NO_RESULTS: ResultsByName = {}
"""The results at planning time: none is known, and none is missing."""


class StepConditions:
    """Compiles and evaluates the conditions of one step."""

    def __init__(
        self, expanded: ExpandedStep, context: StepContext, *, runs_elsewhere: bool = False
    ) -> None:
        """Share the step and context; ``runs_elsewhere``: the host's own shell does not run it."""
        self.expanded, self.context = expanded, context
        # that shell does not know the results of this host's steps
        self.runs_elsewhere = runs_elsewhere

    def when_condition(self) -> Condition | str:
        """Return the condition to run, or why the step is skipped.

        Raises ResultPending and DefinitionError.
        """
        if self.expanded.inherited.exclude_reason:
            return self.expanded.inherited.exclude_reason
        found: list[Condition] = []
        if self.expanded.notified_by or self.expanded.notified_as:
            found.append(self._notified_condition())
        for condition_expr, task_scope in self.expanded.inherited.when:
            condition = self._compile(condition_expr, task_scope)
            if condition == ConstantCondition(False):
                return f"when: {condition_text(condition_expr)}"
            found.append(condition)
        return all_of(found)

    def compile_for_host(self, conditions: tuple[ConditionExpr, ...]) -> Condition | None:
        """Return the conditions on the step's result for the host, or None if impossible."""
        found: list[Condition] = []
        task_scope = self.expanded.caller
        for condition_expr in conditions:
            if isinstance(condition_expr, bool):
                found.append(ConstantCondition(condition_expr))
                continue
            try:
                condition = templating.compile_condition(
                    condition_expr,
                    lambda name: self._registering_step(name, task_scope, of_own_result=True),
                    task_scope,
                )
            except ResultPending:
                return None
            if condition is None:
                return None
            found.append(condition)
        return all_of(found)

    def _notified_condition(self) -> Condition:
        if self.runs_elsewhere or self.expanded.notified_as:
            results = self.context.position.results
            if CHANGED_STEPS not in results:
                raise ResultPending({CHANGED_STEPS})
            known = results[CHANGED_STEPS](self.expanded.notified_by, self.expanded.notified_as)
            return ConstantCondition(known)
        return any_of(
            [StepStateCondition(number, "changed") for number in self.expanded.notified_by]
        )

    def _compile(self, condition_expr: ConditionExpr, task_scope: TaskScope) -> Condition:
        if isinstance(condition_expr, bool):
            return ConstantCondition(condition_expr)
        compiled = templating.compile_condition(
            condition_expr, lambda name: self._registering_step(name, task_scope), task_scope
        )
        return (
            ConstantCondition(condition_expr.is_true(task_scope)) if compiled is None else compiled
        )

    def _registering_step(
        self, name: str, task_scope: TaskScope, of_own_result: bool = False
    ) -> int | None:
        """Return the number of the step of this task that will register the name, or None."""
        if of_own_result and name == "result":
            return self.expanded.number
        position = self.context.position
        own = {*task_scope.task.params, *task_scope.extra}
        if self.runs_elsewhere or name in own or name in position.results:
            return None
        numbers = self.context.registered.get(name, ())
        return numbers[0] if len(numbers) == 1 else None


CHANGED_STEPS = "steps that changed something"
"""Key of the results with a function that returns True if a handler was notified.

Its arguments are the steps of the task and the keys that notify it.
It raises NotRunInCheckMode if check mode does not know that. No template can use this name.
"""


class ResultScope:
    """A scope in which ``result`` is the step's own result."""

    __slots__ = ("result", "scope")

    def __init__(self, scope: Scope, result: RegisteredResult) -> None:
        """Wrap a scope."""
        self.scope, self.result = scope, result

    def resolve(self, name: str) -> object:
        """Return the step's own result, or the value from the wrapped scope."""
        return self.result if name == "result" else self.scope.resolve(name)

    def from_host(self, name: str) -> bool:
        """Return True if the name can lead to text from a host."""
        return name == "result" or self.scope.from_host(name)

    def names(self) -> Iterable[str]:
        """Return every known name."""
        return {"result", *self.scope.names()}

    @property
    def project_files(self) -> ProjectReader | None:
        """Return what reads the project's files, or None without a project."""
        return getattr(self.scope, "project_files", None)

    @property
    def project_folder(self) -> str:
        """Return the project's folder, for paths in templates; '' without a project."""
        return getattr(self.scope, "project_folder", "")

    @property
    def host_text_reads(self) -> int:
        """Return how often a value derived from host output was read."""
        return host_text_reads_of(self.scope)

    @host_text_reads.setter
    def host_text_reads(self, count: int) -> None:
        """Set the counter, after a read that does not count."""
        reset_host_text_reads(self.scope, count)

    def hint(self, name: str) -> str:
        """Return a hint for a name that does not exist, or ''."""
        return self.scope.hint(name)

    def origin(self, name: str, hops: int = MAX_HOPS) -> MarkedValue | None:
        """Return the value of the name as written."""
        return None if name == "result" else self.scope.origin(name, hops)


def all_true(conditions: Iterable[ConditionExpr], scope: Scope) -> bool:
    """Return True if all conditions are true, evaluated now."""
    return all(j if isinstance(j, bool) else j.is_true(scope) for j in conditions)


def condition_text(condition: ConditionExpr) -> str:
    """Return a condition as written."""
    return str(condition).lower() if isinstance(condition, bool) else condition.source


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Return the conjunction of the conditions, simplified."""
    needed = tuple(c for c in conditions if c != ConstantCondition(True))
    if len(needed) == 1:
        return needed[0]
    return AllOf(needed) if needed else ConstantCondition(True)


def any_of(conditions: list[Condition]) -> Condition:
    """Return the disjunction of the conditions."""
    return conditions[0] if len(conditions) == 1 else AnyOf(tuple(conditions))


class ResultConditions:
    """The conditions on one step's result; ``skipped_by_check``: check mode does not run it."""

    def __init__(
        self,
        expanded: ExpandedStep,
        context: StepContext,
        conditions: StepConditions,
        *,
        skipped_by_check: bool,
    ) -> None:
        """Share the step, its context and its conditions."""
        self.expanded, self.step, self.context, self.conditions = (
            expanded,
            expanded.step,
            context,
            conditions,
        )
        self.skipped_by_check = skipped_by_check

    def compile_for_host(
        self, condition_exprs: tuple[ConditionExpr, ...] | None, default: Condition | None
    ) -> Condition | None:
        """Return the condition for the host; false if only the controller can evaluate it."""
        if condition_exprs is None:
            return default
        compiled = self.conditions.compile_for_host(condition_exprs)
        return ConstantCondition(False) if compiled is None else compiled

    def _conditions_by_keyword(self) -> Iterable[tuple[str, tuple[ConditionExpr, ...]]]:
        if self.step.failed_when is not None:
            yield "failed_when", self.step.failed_when
        if self.step.changed_when is not None:
            yield "changed_when", self.step.changed_when

    def evaluated_on_controller(self) -> frozenset[str]:
        """Return the keywords of the conditions that need the step's output on the controller."""
        found = set()
        for keyword, condition_exprs in self._conditions_by_keyword():
            if self.conditions.compile_for_host(condition_exprs) is None:
                found.add(keyword)
                self._check_names(condition_exprs)
        return frozenset(found)

    def _check_names(self, condition_exprs: Iterable[ConditionExpr]) -> None:
        for condition_expr in condition_exprs:
            if not isinstance(condition_expr, bool):
                self.expanded.caller.check_names(
                    condition_expr.names - {"result"}, condition_expr.mark
                )

    def evaluate(self, results: ResultsByName, result: RegisteredResult) -> ResultOverride:
        """Evaluate those conditions."""
        self.context.enter({**results, NO_MORE_RESULTS: True})
        scope = ResultScope(self.expanded.caller, result)
        truth_by_keyword = {
            keyword: all_true(condition_exprs, scope)
            for keyword, condition_exprs in self._conditions_by_keyword()
        }
        return ResultOverride(
            truth_by_keyword.get("failed_when"), truth_by_keyword.get("changed_when")
        )

    def retry_plan(self) -> RetryPlan | None:
        """Return the step's retries, or None."""
        retry = self.step.retry
        if retry is None or self.skipped_by_check:
            return None
        self._check_names(retry.until)

        def is_done(results: ResultsByName, result: RegisteredResult) -> bool:
            self.context.enter({**results, NO_MORE_RESULTS: True})
            if not retry.until:
                return not result.failed
            return all_true(retry.until, ResultScope(self.expanded.caller, result))

        condition_source = " and ".join(map(condition_text, retry.until)) or "not result.failed"
        return RetryPlan(is_done, condition_source, retry.retries, retry.delay)
