"""Ways to hosts: SSH, this machine, and a sandbox. The only part that knows an SSH library."""

from orchestrator.transport.connector import Connector

__all__ = ["Connector"]
