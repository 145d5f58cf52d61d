"""Command lines that start in a kept folder and report the folder they end in."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model.command import StepCommand, WorkingFolder
from orchestrator.model.shell_quoting import always_shell_quote
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.folder_script import FolderReports
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import RecordingListener

pytestmark = pytest.mark.every_shell


class FolderListener(RecordingListener):
    def __init__(self) -> None:
        super().__init__()
        self.reports = FolderReports()

    def reported(self, _step: int, kind: str, text: str) -> None:
        self.reports.add_report(kind, text)


class Lines:
    """Lines typed one after the other; each starts in the folder of the one before."""

    def __init__(self, session: ShellSession) -> None:
        self.session, self.folder = session, WorkingFolder()
        self.said = FolderListener()

    def run(self, line: str) -> str:
        """Run a line and return its stdout."""
        self.said = FolderListener()
        self.session.run([StepCommand(1, line, folder=self.folder)], self.said)
        self.folder = self.said.reports.folder() or self.folder
        return decode_bytes(self.said.stdout_of(1))

    @property
    def status(self) -> int | None:
        return self.said.endings[1].exit_status

    @property
    def stderr(self) -> str:
        return decode_bytes(self.said.stderr_of(1))


@pytest.fixture
def lines(open_session: SessionOpener) -> Lines:
    return Lines(open_session()[0])


ODD_NAMES = [
    "it's",
    "two  words ",
    "line\nbreak\n",
    '"$(echo no)`',
    "-e",
    "50% %0A",
    "\udcff\udce9",
    "é",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_folder_is_kept_whatever_its_name_is(lines: Lines, home: Path, name: str) -> None:
    (home / name / "in it").mkdir(parents=True)
    (home / name / "file").write_text("here")
    quoted = "'" + name.replace("'", "'\"'\"'") + "'"
    assert lines.run(f"cd -- {quoted}") == ""
    assert lines.folder == WorkingFolder(f"{home}/{name}", str(home))
    assert lines.run("cd; cd - >/dev/null; cd") == ""
    assert lines.folder == WorkingFolder(str(home), f"{home}/{name}", is_home=True)
    lines.run("cd -")
    assert lines.run("cat file") == "here"
    lines.run("cd 'in it'")
    assert lines.run("cd ..; cat file; cd - >/dev/null") == "here"
    assert lines.folder.path == f"{home}/{name}/in it"


def test_cd_minus_goes_to_the_folder_before_also_in_another_line(
    lines: Lines, tmp_path: Path
) -> None:
    assert lines.run("cd -; echo $?") != "0\n"
    lines.run("cd /usr")
    lines.run(f"cd '{tmp_path}'")
    assert lines.run("cd -") == "/usr\n"
    assert lines.run("cd -") == f"{tmp_path}\n"


def test_a_path_of_many_parts_is_reported_whole(lines: Lines, home: Path) -> None:
    deep = home
    for _ in range(12):
        deep = deep / ("%é\n" * 60)
    deep.mkdir(parents=True)
    lines.run(f"cd {always_shell_quote(str(deep))}")
    assert lines.folder.path == str(deep)
    assert lines.run("pwd") == f"{deep}\n"


def test_a_failing_cd_leaves_the_folder_as_it_was(lines: Lines) -> None:
    lines.run("cd /usr")
    lines.run("cd /no/such/folder")
    assert lines.status != 0
    assert lines.folder == WorkingFolder("/usr", lines.folder.previous)
    assert lines.run("pwd") == "/usr\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("cd /usr; exit 3", 3),
        ("cd /usr; false", 1),
        ("cd /usr; false; true", 0),
        ("cd /usr; set -eux; false", 1),
        ("cd /usr; PWD=/etc; true", 0),
        ("cd /usr; pwd() { echo /etc; }; true", 0),
        ("cd /usr; IFS=/; set -f; true", 0),
        ("cd /usr; (cd /etc); true", 0),
    ],
)
def test_the_end_of_a_line_is_reported_however_it_ends(
    lines: Lines, line: str, status: int
) -> None:
    lines.run(line)
    assert (lines.folder.path, lines.status) == ("/usr", status)


def test_a_syntax_error_ends_the_line_only(lines: Lines) -> None:
    lines.run("cd /usr")
    lines.run("echo 'open")
    assert lines.status not in (0, None)
    assert lines.run("pwd") == "/usr\n"


def test_variables_and_traces_do_not_show_the_session_its_own_marker(
    lines: Lines, home: Path
) -> None:
    assert "o_to1=" in lines.run("set")
    assert lines.run("set -x; echo seen") == "seen\n"
    lines.run("cd /usr; BASH_XTRACEFD=1; set -x; echo seen")
    assert lines.folder == WorkingFolder("/usr", str(home))
    assert lines.run("trap; echo seen").endswith("seen\n")
    assert lines.status == 0


def test_a_line_is_not_run_elsewhere_when_its_folder_is_gone(lines: Lines, home: Path) -> None:
    (home / "away").mkdir()
    lines.run("cd away")
    (home / "away").rmdir()
    assert lines.run("echo ran; echo ran >ran") == ""
    assert lines.status == 1
    assert "not run, because the folder of the last command cannot be entered" in lines.stderr
    assert lines.run("cd ../..; cd .") == ""
    assert not (home / "ran").exists()
    assert lines.folder.path == f"{home}/away"


@pytest.mark.parametrize(
    ("line", "to"),
    [("cd", ""), ("cd ~", ""), ("cd /usr", "/usr"), (" cd -- '/usr' ", "/usr"), ("cd -", "")],
)
def test_a_folder_that_is_gone_can_be_left(lines: Lines, home: Path, line: str, to: str) -> None:
    (home / "away").mkdir()
    lines.run("cd away")
    (home / "away").rmdir()
    lines.run(line)
    assert lines.folder.path == (to or str(home))


def test_a_line_that_does_more_than_to_leave_a_folder_is_not_run_elsewhere(
    lines: Lines, home: Path
) -> None:
    (home / "away").mkdir()
    lines.run("cd away")
    (home / "away").rmdir()
    for line in ("cd /; touch ran", "cd '/`touch ran`'", "cd /usr && touch ran", "cd /\ntouch ran"):
        lines.run(line)
        assert lines.status == 1
    assert lines.folder.path == f"{home}/away"


def test_the_text_of_a_line_is_unchanged(lines: Lines) -> None:
    text = "printf '%s|' \"it's\" '$HOME' \"a\\\\b\" %25 é\nprintf '%s\\n' \"two\nlines\""
    assert lines.run(text) == "it's|$HOME|a\\b|%25|é|two\nlines\n"
