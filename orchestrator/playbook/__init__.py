"""Task files: discovery, parsing, typed parameters and checks across files."""

from orchestrator.playbook.model import Task, TaskRequest
from orchestrator.playbook.task_loader import (
    MAX_STEPS,
    LoadedTasks,
    check_task_requests,
    effective_params,
    handlers_in_reach,
    load_tasks,
    required_params,
)

__all__ = [
    "MAX_STEPS",
    "LoadedTasks",
    "Task",
    "TaskRequest",
    "check_task_requests",
    "effective_params",
    "handlers_in_reach",
    "load_tasks",
    "required_params",
]
