"""Walking the plan over threads and sessions; knows no transport and no sink."""

from orchestrator.execute.cancel import Cancel
from orchestrator.execute.lane import Options
from orchestrator.execute.run import run

__all__ = ["Cancel", "Options", "run"]
