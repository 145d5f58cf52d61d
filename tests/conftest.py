from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.projects import Project
from tests.sshd import sshd

__all__ = ["sshd"]

# Ignored under nohup, or in the background of a script; and what is ignored when a shell starts,
# it can never trap.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project; its hosts' homes and the tester's are in the same temp folder."""
    root = tmp_path / "project"
    (root / "inventories").mkdir(parents=True)
    return Project(root)
