"""Ways to hosts: SSH, this machine, and a sandbox. The only part that knows an SSH library."""

from orchestrator.transports.registry import TransportRegistry

__all__ = ["TransportRegistry"]
