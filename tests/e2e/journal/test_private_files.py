"""What orch keeps in a project is its user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.projects import OrchProject


def file_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write({"tasks/t.yml": "steps: [{run: 'true'}]"})


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o277])
def test_folders_are_private_whatever_the_umask(one: OrchProject, umask: int) -> None:
    before = os.umask(umask)
    try:
        done = one.orch("-s", "dev", "run", "t")
    finally:
        os.umask(before)
    assert done.code == 0, done.err
    top = one.root / ".orch"
    (run,) = (top / "runs").iterdir()
    assert [file_mode(folder) for folder in (top, top / "runs", run)] == [0o700] * 3


def test_one_that_others_can_write_to_is_refused(one: OrchProject) -> None:
    top = one.root / ".orch"
    top.mkdir()
    for bad in (0o770, 0o707, 0o722):
        top.chmod(bad)
        for words in (("run", "t"), ("exec", "--", "id"), ("run", "t", "--check")):
            done = one.orch("-s", "dev", *words)
            assert done.code == 3
            assert "can be written by others" in done.err
            assert "chmod go-w" in done.err
    assert list(top.iterdir()) == []
    top.chmod(0o755)
    assert one.orch("-s", "dev", "run", "t").code == 0


def test_one_of_another_user_is_refused(one: OrchProject) -> None:
    top = one.root / ".orch"
    top.mkdir(mode=0o700)
    os.chown(top, 12345, -1)
    done = one.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "belongs to another user (uid 12345)" in done.err
    assert "chown -R" in done.err
