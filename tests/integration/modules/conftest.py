"""Machines under each shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.container_engines import ContainerHost, serve_containers
from tests.support.machine import ShellMachine
from tests.support.private_copy import run_inside_copy


@pytest.fixture(params=["dash", "bash", "busybox"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> ShellMachine:
    root = tmp_path / "root"
    root.mkdir()
    return ShellMachine(request.param, root)


@pytest.fixture
def private(machine: ShellMachine) -> Iterator[ShellMachine]:
    """Yield a private copy of this machine, with its users and packages."""
    with run_inside_copy(machine):
        yield machine


@pytest.fixture(scope="module")
def containers() -> Iterator[ContainerHost]:
    """Serve Docker, podman and two registries to the tests of a file."""
    with serve_containers() as host:
        yield host
