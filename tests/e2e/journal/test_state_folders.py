"""State files belong to their owner alone, whatever the umask and whatever was there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.journal.run_dirs import check_private, make_run_folder
from orchestrator.journal.run_history import last_run
from orchestrator.yamlio.local_files import display_path
from tests.projects import OrchProject
from tests.support.journal_events import RUN

OTHER = 7  # a user who is not the tester; nothing runs as them


def file_mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(params=[0o000, 0o002, 0o027, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_all_of_it_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    folder = make_run_folder(tmp_path, RUN, {})
    for path in (folder, folder.parent, folder.parent.parent):
        assert file_mode(path) == 0o700


def test_so_is_what_stands_in_the_users_state(tmp_path: Path, umask: int) -> None:
    (tmp_path / ".orch").write_text("in the way, for root too")
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    folder = make_run_folder(tmp_path, RUN, {"XDG_STATE_HOME": str(state)})
    assert folder.is_relative_to(state / "orch")
    for path in (folder, *folder.parents):
        if path == state:
            break
        assert file_mode(path) == 0o700
    assert file_mode(state) == 0o755, "it is not orch's"


@pytest.mark.parametrize("before", [0o755, 0o750, 0o700, 0o500])
def test_one_that_others_could_read_is_no_more(tmp_path: Path, before: int) -> None:
    folder = tmp_path / ".orch"
    folder.mkdir()
    folder.chmod(before)
    check_private(tmp_path, {})
    assert file_mode(folder) == 0o700


@pytest.mark.parametrize("before", [0o777, 0o775, 0o722, 0o1777])
def test_one_that_others_can_write_to_is_refused(tmp_path: Path, before: int) -> None:
    folder = tmp_path / ".orch"
    folder.mkdir()
    folder.chmod(before)
    for attempt in (
        lambda: check_private(tmp_path, {}),
        lambda: make_run_folder(tmp_path, RUN, {}),
        lambda: last_run(tmp_path, {}),
    ):
        with pytest.raises(DefinitionError, match="can be written by others") as error:
            attempt()
        assert f"chmod go-w {display_path(folder)}" in error.value.diagnostics[0].hint
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a file can be given away by root only")
@pytest.mark.parametrize("linked", [False, True])
def test_one_that_belongs_to_another_user_is_refused(tmp_path: Path, linked: bool) -> None:
    folder = tmp_path / "elsewhere" if linked else tmp_path / ".orch"
    folder.mkdir(mode=0o700)
    if linked:
        (tmp_path / ".orch").symlink_to(folder)
    os.chown(folder, OTHER, OTHER)
    for attempt in (lambda: check_private(tmp_path, {}), lambda: last_run(tmp_path, {})):
        with pytest.raises(DefinitionError, match=r"\.orch belongs to another user") as error:
            attempt()
        assert "chown -R" in error.value.diagnostics[0].hint


@pytest.mark.skipif(os.geteuid() != 0, reason="a link can be given away by root only")
def test_a_link_that_another_user_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / ".orch").symlink_to("mine")
    os.lchown(tmp_path / ".orch", OTHER, OTHER)
    with pytest.raises(DefinitionError, match="belongs to"):
        check_private(tmp_path, {})


def test_a_link_of_ones_own_is_fine_and_what_it_leads_to_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir(mode=0o755)
    (tmp_path / ".orch").symlink_to("scratch")
    folder = make_run_folder(tmp_path, RUN, {})
    assert file_mode(tmp_path / "scratch") == 0o755
    assert file_mode(folder) == 0o700


def test_the_state_of_a_project_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".orch").write_text("in the way, for root too")
    state = tmp_path / "state"
    (state / "orch").mkdir(parents=True)
    (state / "orch").chmod(0o777)
    with pytest.raises(DefinitionError, match="can be written by others"):
        check_private(tmp_path, {"XDG_STATE_HOME": str(state)})


def test_a_run_ends_with_what_to_type_before_anything_is_contacted(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": "steps: [{run: touch ~/ran}]"})
    folder = project.root / ".orch"
    folder.mkdir()
    folder.chmod(0o777)
    for args in (("run", "t"), ("exec", "--", "true"), ("doctor",), ("run", "t", "-l", "@failed")):
        done = project.orch("-s", "dev", *args)
        assert done.code == 3, done.err
        assert ".orch can be written by others" in done.err
        assert "chmod go-w .orch" in done.err
    assert list(folder.iterdir()) == []
    folder.chmod(0o700)
    assert project.orch("-s", "dev", "run", "t").code == 0
