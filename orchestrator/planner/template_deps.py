"""Names used by a step's templates: whether they are defined and which results they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from orchestrator import templating
from orchestrator.errors import DefinitionError
from orchestrator.model import ansible
from orchestrator.planner import module_script
from orchestrator.planner.fact_sources import FACTS_RESULT
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.step_conditions import StepContext
from orchestrator.planner.task_expander import ExpandedStep, ScopedTemplate, evaluate_loop_items
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.template_objects import check_fields
from orchestrator.playbook.model import (
    ArgumentTemplate,
    ControlStep,
    DownloadStep,
    ModuleSpec,
    RunStep,
)
from orchestrator.templating import ResultPending, Scope
from orchestrator.templating.scope import TemplateNames

if TYPE_CHECKING:
    from orchestrator.templating import ShellTemplate, TextTemplate, ValueTemplate

    AnyTemplate: TypeAlias = ShellTemplate | TextTemplate | ValueTemplate


class TemplateDependencies:
    """All templates of one step, each with the scope it is rendered in."""

    def __init__(
        self, expanded: ExpandedStep, host_environment: Mapping[str, ScopedTemplate]
    ) -> None:
        """Share the expanded step and the host's environment."""
        self.expanded, self.host_environment = expanded, host_environment
        self.frame, self.step = expanded.task_scope, expanded.step

    def _written_templates(self) -> Iterable[tuple[AnyTemplate, TaskScope]]:
        """Yield the templates that are written in the project's task files."""
        action, inherited = self.step.action, self.expanded.inherited
        if isinstance(action, RunStep):
            for own in (
                action.text,
                action.stdin,
                action.creates,
                action.removes,
                action.unless,
                action.onlyif,
            ):
                if own is not None:
                    yield own, self.frame
        if isinstance(action, ModuleSpec):
            for value in self.frame.written_args.values():
                yield _value_template(value), self.expanded.caller
            file = module_script.payload_template(action, self.frame)
            if file is not None:
                yield file, self.expanded.caller
        if isinstance(action, ControlStep):
            yield action.value, self.frame
            if action.test is not None:
                yield action.test, self.frame
        for scoped_template in (inherited.chdir, *(s for _, s in inherited.environment)):
            if scoped_template is not None:
                yield scoped_template.template, scoped_template.task_scope

    def _all_templates(self) -> Iterable[tuple[TemplateNames, TaskScope]]:
        inherited = self.expanded.inherited
        action = self.step.action
        if isinstance(action, RunStep):
            run = action
            for own in (run.text, run.stdin, run.creates, run.removes, run.unless, run.onlyif):
                if own is not None:
                    yield own, self.frame
        if isinstance(action, ModuleSpec):
            yield from self._module_templates(action)
        if isinstance(action, DownloadStep):
            for own in (action.path, action.to):
                yield own, self.frame
        if isinstance(action, ControlStep):
            yield action.value, self.frame
            if action.test is not None:
                yield action.test, self.frame
            for assertion in action.conditions:
                if not isinstance(assertion, bool):
                    yield assertion, self.frame
        if self.step.loop is not None and self.expanded.is_open_loop:
            yield self.step.loop.over, self.frame
        for scoped_template in (
            inherited.chdir,
            inherited.timeout,
            inherited.become,
            *(s for _, s in inherited.environment),
        ):
            if scoped_template is not None:
                yield scoped_template.template, scoped_template.task_scope
        for condition, task_scope in inherited.when:
            if not isinstance(condition, bool):
                yield condition, task_scope

    def _module_templates(self, module: ModuleSpec) -> Iterable[tuple[TemplateNames, TaskScope]]:
        for script in (module.functions, module.probe, *(fix.text for fix in module.fixes)):
            if script is not None:
                yield script, self.frame
        payloads = (each for load in module.payloads for each in load.templates)
        for value in (*module.want.values(), *payloads, module.validates, module.within):
            if value is not None:
                yield value, self.frame
        for argument in self.frame.written_args.values():
            yield argument, self.expanded.caller
        file = module_script.payload_template(module, self.frame)
        if file is not None:
            yield file, self.expanded.caller

    def item_names(self) -> frozenset[str]:
        """Return the names whose values depend on the item of an open loop.

        These are the loop's own, and the variables of the step whose templates use them.
        """
        loop = self.step.loop
        if loop is None or not self.expanded.is_open_loop:
            return frozenset()
        found, templates = {*loop.names}, self.frame.host.templates
        uses = {
            name: templates.value(value).names | templates.value(value).optional
            for name, value in self.frame.step_vars.items()
        }
        for _ in uses:
            found |= {name for name, names in uses.items() if not found.isdisjoint(names)}
        return frozenset(found)

    def check_names(self) -> None:
        """Raise DefinitionError if a name can never be resolved."""
        item_names = self.item_names()
        for template, task_scope in self._all_templates():
            self._check_fields(template, task_scope)
            task_scope.check_names(template.names - item_names, template.mark)
            task_scope.fetch_secrets(template.names | template.optional)
        for scoped_template in self.host_environment.values():
            with suppress(ResultPending):
                scoped_template.template.render(scoped_template.task_scope)

    def check_renderable(self, context: StepContext) -> None:
        """Raise DefinitionError if a template cannot be rendered, whatever the pending results are.

        Names in a pending condition count as unknown: the condition may ensure that the rest is
        valid.
        """
        open_names = {"facts", "hosts", "hostvars", "item", *self.item_names()} | (
            context.registered.keys() - context.settled_results
        )
        for condition, _ in self.expanded.inherited.when:
            if not isinstance(condition, bool):
                open_names |= condition.names | condition.optional
        for template, scope in self._reached_templates():
            names = template.names | template.optional
            unknown = frozenset(n for n in names if n in open_names or _is_pending(scope, n))
            with suppress(ResultPending):
                templating.check_known(template, scope, unknown)

    def _reached_templates(self) -> Iterator[tuple[AnyTemplate, Scope]]:
        """Yield the written templates, and the pending templates that give their names values."""
        found: list[tuple[AnyTemplate, Scope]] = list(self._written_templates())
        visited: set[tuple[int, str]] = set()
        for template, scope in found:  # grows during the loop
            yield template, scope
            if not isinstance(scope, TaskScope | HostScope):
                continue
            for name in templating.names_in_any_case(template):
                if (id(scope), name) not in visited and _is_pending(scope, name):
                    visited.add((id(scope), name))
                    behind = scope.template_behind(name)
                    found += [(_value_template(behind[0]), behind[1])] if behind is not None else []

    def check_result_fields(self) -> None:
        """Raise DefinitionError if a condition on the step's result uses an unknown field."""
        step = self.step
        until = step.retry.until if step.retry else ()
        conditions = (*(step.changed_when or ()), *(step.failed_when or ()), *until)
        for condition in conditions:
            if not isinstance(condition, bool):
                self._check_fields(condition, self.expanded.caller)

    def _check_fields(self, template: TemplateNames, task_scope: TaskScope) -> None:
        own = {*task_scope.task.params, *task_scope.extra}
        position = task_scope.host.position
        uses = [use for use in template.fields if use.name not in own]
        if task_scope.is_known(ansible.FACTS_VARIABLE):
            uses = [use for use in uses if use.name != ansible.FACTS_VARIABLE]
        results = position.registered.keys() - position.set_names
        returned = position.returned_fields
        if isinstance(self.step.action, ModuleSpec):
            own_values = {name: param.help for name, param in self.step.action.returns.items()}
            returned = {**returned, "result": own_values}
        check_fields(uses, results, returned, task_scope.host.facts.fields)

    def items_awaited(self) -> frozenset[str]:
        """Return the names that a loop's items wait for, including names of other hosts."""
        try:
            evaluate_loop_items(self.step, self.frame)
        except ResultPending as pending:
            return pending.names
        return frozenset()

    def names_awaited(self, context: StepContext) -> set[str]:
        """Return the names that the step needs and that are still pending."""
        names_used = {name for template, _ in self._all_templates() for name in template.names}
        facts_used = {
            f"{FACTS_RESULT}.{use.field}"
            for template, _ in self._all_templates()
            for use in template.fields
            if use.name == FACTS_RESULT
        }
        if not facts_used:
            facts_used = {FACTS_RESULT} & names_used
        awaited = {
            n for n in names_used if n in context.registered and n not in context.settled_results
        }
        return awaited | facts_used


def _is_pending(scope: Scope, name: str) -> bool:
    """Return True if a name leads to a pending result."""
    try:
        scope.resolve(name)
    except ResultPending:
        return True
    except (DefinitionError, KeyError):
        return False  # rendering reports the error if it gets there
    return False


def _value_template(written: ArgumentTemplate) -> AnyTemplate:
    """Return the template of a param's value; of a command, that of its text."""
    from orchestrator.templating import CommandTemplate

    return written.template if isinstance(written, CommandTemplate) else written
