"""Transports to hosts: SSH, this machine, and a sandbox.

No other package imports an SSH library.
"""

from orchestrator.transports.registry import TransportRegistry

__all__ = ["TransportRegistry"]
