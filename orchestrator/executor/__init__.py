"""Runs a plan on the hosts with threads and shell sessions; independent of transports and sinks."""

from orchestrator.executor.app_runner import RunOptions
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.kept_connections import KeptConnections
from orchestrator.executor.run import controller_host, execute_plan

__all__ = ["CancelToken", "KeptConnections", "RunOptions", "controller_host", "execute_plan"]
