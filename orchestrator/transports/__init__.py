"""Ways to hosts: SSH, this machine, and a sandbox. The only part that knows an SSH library."""

from orchestrator.transports.registry import Connector

__all__ = ["Connector"]
