"""The streamed shell session: one shell per host, driven through a ``Channel``."""

from orchestrator.remote_shell.shell_session import (
    CommandResult,
    EndReason,
    SessionListener,
    SessionLostError,
    ShellNotReadyError,
    ShellSession,
)

__all__ = [
    "CommandResult",
    "EndReason",
    "SessionListener",
    "SessionLostError",
    "ShellNotReadyError",
    "ShellSession",
]
