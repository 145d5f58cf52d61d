"""Walking the plan over threads and sessions; knows no transport and no sink."""

from orchestrator.executor.app_runner import RunOptions
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.run import execute_plan

__all__ = ["CancelToken", "RunOptions", "execute_plan"]
