"""Task files: found, read, typed, and held against each other."""

from orchestrator.playbook.model import Task, TaskRequest
from orchestrator.playbook.task_loader import (
    MAX_STEPS,
    LoadedTasks,
    check_task_requests,
    effective_params,
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
    "load_tasks",
    "required_params",
]
