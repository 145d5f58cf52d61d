import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import console_prompt
from orchestrator.cli.console_prompt import LineHistory
from orchestrator.model.secret_masking import SecretMasker


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def recorded(path: Path) -> list[str]:
    return list(LineHistory(path, SecretMasker()).load_history_strings())


def test_lines_are_kept_the_newest_first_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = LineHistory(path, SecretMasker())
    lines = ["uname", "echo 'it''s'\ntwo lines", "echo é \udcff"]
    for line in lines:
        history.append_string(line)
    assert recorded(path) == lines[::-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_can_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.touch(0o644)
    LineHistory(path, SecretMasker()).append_string("uname")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_begins_with_a_space_or_has_a_secret_is_not_kept(tmp_path: Path) -> None:
    masker = SecretMasker()
    masker.add_secret("token", "t0psecret")
    history = LineHistory(tmp_path / "history", masker)
    for line in (" echo 1", "\techo 2", "", "login t0psecret", "echo 3"):
        history.append_string(line)
    assert recorded(tmp_path / "history") == ["echo 3"]
    assert history.get_strings() == ["login t0psecret", "echo 3"]


def test_a_long_history_is_shortened_and_damage_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_prompt, "_KEPT_LINES", 3)
    path = tmp_path / "history"
    path.write_text('"cut\n5\n' + "".join(f'"{n}"\n' for n in range(7)))
    assert recorded(path) == ["6", "5", "4"]
    assert path.read_text() == '"4"\n"5"\n"6"\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["history"]


@pytest.mark.parametrize("name", ["missing/history", "."])
def test_without_a_writable_file_nothing_is_kept(tmp_path: Path, name: str) -> None:
    history = LineHistory(tmp_path / name, SecretMasker())
    history.append_string("uname")
    assert history.get_strings() == ["uname"]
    assert recorded(tmp_path / name) == []


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "history").symlink_to(tmp_path / "target")
    LineHistory(tmp_path / "history", SecretMasker()).append_string("uname")
    assert (tmp_path / "target").read_text() == ""
