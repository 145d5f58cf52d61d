"""orch: run commands and deploy applications on fleets of servers over SSH."""

__version__ = "0.1.0"
