"""Builds the plan: every task, host and step, before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.inventory.precedence import VariableMerger, defaults_of, environment_of
from orchestrator.model.host import App, Host
from orchestrator.model.marked_value import Values
from orchestrator.planner.download_script import check_targets
from orchestrator.planner.host_diagnostics import HostDiagnostics
from orchestrator.planner.host_program import HostPlanState
from orchestrator.planner.plan import AppPlan, Plan
from orchestrator.planner.request import PlanRequest, ScopeFactory
from orchestrator.planner.resource_claims import check_claims
from orchestrator.planner.schedule import TaskScheduler
from orchestrator.planner.shell_text import shell_word
from orchestrator.planner.task_expander import ScopedTemplate
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.template_objects import AppView
from orchestrator.playbook.model import Task


def build_plan(plan_request: PlanRequest) -> Plan:
    """Build the whole plan.

    Raises DefinitionError with the errors of all hosts and steps, and if no host is selected for
    any task.
    """
    diagnostics = HostDiagnostics(len(plan_request.hosts))
    if plan_request.apps:
        check_claims(plan_request, diagnostics)
    schedulers = [
        _schedule_app(plan_request, app, diagnostics) for app in plan_request.apps or (None,)
    ]
    diagnostics.raise_any()
    if plan_request.start_at and not any(scheduler.has_started for scheduler in schedulers):
        message = f"no scheduled task is named '{plan_request.start_at}'"
        hint = (
            suggest_nearest(plan_request.start_at, plan_request.tasks)
            or "see `orch plan` for their names"
        )
        raise DefinitionError(Diagnostic(message, SourcePosition("--start-at"), hint))
    warnings = tuple(dict.fromkeys(w for scheduler in schedulers for w in scheduler.warnings))
    app_plans = tuple(
        AppPlan(
            s.app.name if s.app else None, tuple(s.planned_tasks), tuple(s.failed_hooks.items())
        )
        for s in schedulers
    )
    if not plan_request.check_mode and any(
        planned_task.changes for app_plan in app_plans for planned_task in app_plan.planned_tasks
    ):
        found = zip(app_plans, schedulers, strict=True)
        app_plans = tuple(
            replace(app_plan, lock_paths=_lock_paths(app_plan, s, diagnostics))
            for app_plan, s in found
        )
    check_targets(app_plans, diagnostics)
    diagnostics.raise_any()
    taking_part = {
        h.host
        for app_plan in app_plans
        for planned_task in app_plan.planned_tasks
        for h in planned_task.hosts
    }
    if not taking_part:
        reason = "; ".join(warnings) or "no step is selected"
        raise DefinitionError(Diagnostic(f"nothing to do: {reason}", None, "see `orch hosts`"))
    return Plan(
        run_id=plan_request.run.id,
        stage=plan_request.stage.name,
        tasks=tuple(request.task for request in plan_request.requests),
        hosts=tuple(host.name for host in plan_request.hosts if host.name in taking_part),
        app_plans=tuple(
            app_plan
            for app_plan in app_plans
            if any(planned_task.hosts for planned_task in app_plan.planned_tasks)
        ),
        warnings=warnings,
        check_mode=plan_request.check_mode,
    )


def _lock_paths(
    app_plan: AppPlan, scheduler: TaskScheduler, diagnostics: HostDiagnostics
) -> dict[str, str]:
    taking_part = {
        host.host for planned_task in app_plan.planned_tasks for host in planned_task.hosts
    }
    paths: dict[str, str] = {}
    if scheduler.app is None:
        return paths
    for plan_state in scheduler.hosts:
        if plan_state.host.name in taking_part:
            app = cast(AppView, plan_state.scope.objects["app"])
            try:
                paths[plan_state.host.name] = shell_word(app.lock)
            except DefinitionError as error:
                diagnostics.add_for_host(plan_state.host.name, error, scheduler.app.mark)
    return paths


def _schedule_app(
    plan_request: PlanRequest, app: App | None, diagnostics: HostDiagnostics
) -> TaskScheduler:
    """Schedule one app, as far as its errors allow."""
    scheduler = TaskScheduler(plan_request, _plan_states(plan_request, app), diagnostics, app)
    if not scheduler.hosts:
        scheduler.warnings.append(f"app '{app.name if app else ''}' is not on any selected host")
        return scheduler
    for request in plan_request.requests:
        scheduler.add_request(request)
    scheduler.plan_rollbacks()
    return scheduler


def _plan_states(plan_request: PlanRequest, app: App | None) -> list[HostPlanState]:
    scopes, environments = ScopeFactory(plan_request, app), VariableMerger(environment_of)
    defaults = VariableMerger(defaults_of)
    found = []
    for host in plan_request.hosts:
        if app is None or app.lives_on(host):
            own = app.layers_on(host) if app else ()
            found.append(
                _plan_state(
                    host, scopes, environments.values_of(host, own), defaults.values_of(host, own)
                )
            )
    return found


def _plan_state(
    host: Host, scopes: ScopeFactory, environment: Values, defaults: Values
) -> HostPlanState:
    scope = scopes.scope_of(host)
    task_scope = TaskScope(_NO_TASK, scope, passed_args={})
    by_module: Mapping[str, Values] = {
        name: cast(Values, value.data) if isinstance(value.data, dict) else {}
        for name, value in defaults.items()
    }
    environment_templates = {
        name: ScopedTemplate(scopes.templates.value(v), task_scope)
        for name, v in environment.items()
    }
    return HostPlanState(host, scope, environment_templates, by_module)


_NO_TASK = Task("", SourcePosition(""))
