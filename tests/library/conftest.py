"""Machines under each shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.library.machine import Machine


@pytest.fixture(params=["dash", "bash", "busybox"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    root = tmp_path / "root"
    root.mkdir()
    return Machine(request.param, root)
