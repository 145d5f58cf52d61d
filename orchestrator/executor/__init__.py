"""Walking the plan over threads and sessions; knows no transport and no sink."""

from orchestrator.executor.app_runner import Options
from orchestrator.executor.cancel import Cancel
from orchestrator.executor.run import run

__all__ = ["Cancel", "Options", "run"]
