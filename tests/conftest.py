from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import Project
from tests.sshd import sshd

__all__ = ["sshd"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project; its hosts' homes and the tester's are in the same temp folder."""
    root = tmp_path / "project"
    (root / "inventories").mkdir(parents=True)
    return Project(root)
