"""The streamed shell session: one shell per host, driven through a ``Channel``."""

from orchestrator.session.ending import Ending, How, Listener, Lost, NotReady
from orchestrator.session.session import Session

__all__ = ["Ending", "How", "Listener", "Lost", "NotReady", "Session"]
