"""Task files: found, read, typed, and held against each other."""

from orchestrator.tasks.load import Tasks, check_requests, load, params_below, required_below
from orchestrator.tasks.model import Request, Task
from orchestrator.tasks.unfolding import MOST_STEPS

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
