"""Machines under each shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.library.machine import Machine
from tests.library.private import inside


@pytest.fixture(params=["dash", "bash", "busybox"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    root = tmp_path / "root"
    root.mkdir()
    return Machine(request.param, root)


@pytest.fixture
def private(machine: Machine) -> Iterator[Machine]:
    """A machine that is a private copy of this one: users, packages and all."""
    with inside(machine):
        yield machine
