"""The streamed shell session: one shell per host, driven through a ``Channel``."""

from orchestrator.remote_shell.shell_session import Ending, How, Listener, Lost, NotReady, Session

__all__ = ["Ending", "How", "Listener", "Lost", "NotReady", "Session"]
