"""Task files: found, read, typed, and held against each other."""

from orchestrator.playbook.model import Request, Task
from orchestrator.playbook.task_loader import (
    MOST_STEPS,
    Tasks,
    check_requests,
    load,
    params_below,
    required_below,
)

__all__ = [
    "MOST_STEPS",
    "Request",
    "Task",
    "Tasks",
    "check_requests",
    "load",
    "params_below",
    "required_below",
]
