"""Task files: found, read, typed, and held against each other."""

from orchestrator.tasks.load import Tasks, check_requests, load, params_below, required_below
from orchestrator.tasks.model import Request, Task

__all__ = ["Request", "Task", "Tasks", "check_requests", "load", "params_below", "required_below"]
