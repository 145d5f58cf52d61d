"""A plan in full, host by host, as plain data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.model.command import DesiredState, DownloadSpec
from orchestrator.output.plan_step import MaskFunction
from orchestrator.planner.plan import (
    ControlAction,
    HostPlan,
    Plan,
    PlannedStep,
    PlannedTask,
    RetryPlan,
    StepProgram,
)


def plan_json(plan: Plan, mask: MaskFunction = str) -> dict[str, Any]:
    """Return the plan as plain data, with the exact text per host and step.

    ``mask`` hides secrets. All keys are always present; values that do not apply are None, '' or
    empty. The entries of ``regions`` are lists of step numbers: the steps ``tried``, the steps that
    run if one of these fails (``rescue``), and the steps that run in any case (``always``);
    ``forgives``: the failure is then recovered.
    """
    return {
        "run": plan.run_id,
        "stage": plan.stage,
        "tasks": list(plan.tasks),
        "hosts": list(plan.hosts),
        "changes": plan.changes,
        "warnings": [mask(warning) for warning in plan.warnings],
        "lanes": [
            {
                "app": app_plan.app,
                "waves": _tasks_json(app_plan.planned_tasks, mask),
                "failed": [
                    {"task": task, "waves": _tasks_json(planned_tasks, mask)}
                    for task, planned_tasks in app_plan.failed_hooks
                ],
            }
            for app_plan in plan.app_plans
        ],
    }


def _tasks_json(planned_tasks: Iterable[PlannedTask], mask: MaskFunction) -> list[dict[str, Any]]:
    return [_task_json(planned_task, mask) for planned_task in planned_tasks]


def _task_json(planned_task: PlannedTask, mask: MaskFunction) -> dict[str, Any]:
    return {
        "task": planned_task.task,
        "desc": mask(planned_task.desc),
        "changes": planned_task.changes,
        "within": list(planned_task.parents),
        "batch": planned_task.batch,
        "pause": planned_task.gate.pause if planned_task.gate else 0.0,
        "confirm": planned_task.gate is not None and planned_task.gate.confirm,
        "on_batch_failure": "continue" if planned_task.batch_scope else "stop",
        "any_errors": "stop" if planned_task.stops_at_error else "finish",
        "once": planned_task.once,
        "any": planned_task.any_host,
        "max_failures": planned_task.max_failures.limit if planned_task.max_failures else None,
        "hook": planned_task.hooked_to,
        "commit": planned_task.is_commit,
        "prompt": planned_task.prompt,
        "commits": list(planned_task.commit_scope.hosts) if planned_task.commit_scope else [],
        "hosts": [_host_json(host, mask) for host in planned_task.hosts],
    }


def _host_json(host: HostPlan, mask: MaskFunction) -> dict[str, Any]:
    return {
        "host": host.host,
        **_program_json(host.program, mask),
        "rollback": _program_json(host.rollback, mask),
    }


def _program_json(program: StepProgram, mask: MaskFunction) -> dict[str, Any]:
    return {
        "steps": [_step_json(step, mask) for step in program.steps],
        "regions": [
            {
                "tried": list(range(region.start, region.body_end)),
                "rescue": list(range(region.body_end, region.rescue_end)),
                "always": list(range(region.rescue_end, region.end)),
                "forgives": region.has_rescue,
            }
            for region in program.try_blocks
        ],
        "throttles": [
            {"limit": each.limit, "steps": list(range(each.start, each.end))}
            for each in program.throttles
        ],
        "gathers": [
            {
                "register": gather.name,
                "loop": gather.is_loop,
                "parts": [
                    {"item": _plain_data(item, mask), "steps": list(range(start, end))}
                    for item, start, end in gather.parts
                ],
            }
            for gather in program.result_groups
        ],
    }


def _step_json(step: PlannedStep, mask: MaskFunction) -> dict[str, Any]:
    command = step.command
    return {
        "number": step.number,
        "name": mask(step.name),
        "at": str(step.mark),
        "text": mask(step.display_text),
        "when": mask(step.when),
        "skip": mask(step.skip),
        "waits": [mask(name) for name in step.awaited_names],
        "register": step.register,
        "readonly": step.readonly,
        "notify": list(step.notify),
        "handler": step.handler,
        "delegate_to": step.delegate_to,
        "become": step.user,
        "pause": step.pause,
        "hides_output": step.hide_result is not None,
        "again": _retry_json(step.retry, mask) if step.retry else None,
        "judged_here": step.evaluate_result is not None,
        "ruling": _control_json(step.control_action, mask) if step.control_action else None,
        "wants": _desired_state_json(command.desired_state, mask)
        if command and command.desired_state and not command.download
        else None,
        "downloads": _download_json(command.download, mask)
        if command and command.download
        else None,
        "script": mask(command.text) if command and command.desired_state else None,
        "guard": mask(command.guard) if command else "",
        "shell": command.shell if command else None,
        "timeout": command.timeout if command else None,
        "stdin": None if command is None or command.stdin is None else mask(command.stdin),
        "ignore_errors": command.ignore_failure if command else None,
    }


def _desired_state_json(desired: DesiredState, mask: MaskFunction) -> dict[str, str]:
    return {key: mask(value) for key, value in desired.states.items()}


def _download_json(fetch: DownloadSpec, mask: MaskFunction) -> dict[str, str]:
    return {"path": mask(fetch.path), "to": mask(str(fetch.target))}


def _retry_json(again: RetryPlan, mask: MaskFunction) -> dict[str, Any]:
    return {"until": mask(again.condition_text), "retries": again.retries, "delay": again.delay}


def _control_json(ruling: ControlAction, mask: MaskFunction) -> dict[str, Any]:
    """Return a control action; ``ok`` and ``message`` are those of an assert or fail."""
    return {
        "kind": ruling.kind,
        "ok": ruling.ok,
        "message": mask(ruling.message),
        "seconds": ruling.seconds,
        "values": _plain_data(ruling.values, mask),
    }


def _plain_data(value: object, mask: MaskFunction) -> Any:
    """Return a template's value as JSON data; other types are converted to text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {mask(str(key)): _plain_data(inner, mask) for key, inner in value.items()}
    if isinstance(value, (list, tuple, range, set, frozenset)):
        return [_plain_data(inner, mask) for inner in value]
    return mask(str(value))
