import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.journal.host_log import HostLogWriter, log_file_name
from orchestrator.model.step_result import Status
from tests.support.journal_events import step_finished, step_printed, step_started

TITLE = b"=== 2026-11-23T12:22:11Z uname, step 1: uname -a\n"


def host_log_text(folder: Path, host: str = "a") -> bytes:
    return (folder / f"{host}.log").read_bytes()


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"caf\xc3\xa9\ttab\r\n", b"caf\xc3\xa9\ttab\r\n"),
        (b"\x00\xff\x1b[31mred\r10%\r\n", rb"\x00\xff\x1b[31mred\x0d10%" + b"\r\n"),
        (b"\x1b]0;title\x07\xc2\x9b2J\n", rb"\x1b]0;title\x07\x9b2J" + b"\n"),
        ("a\u2028b\u202ec\x85d\n".encode(), rb"a\u2028b\u202ec\x85d" + b"\n"),
        (b"--- ok, exit status 0\n---\n-- x\n", b"\\--- ok, exit status 0\n---\n-- x\n"),
        (b"x\n=== 2026 uname\n==== y\n a --- b\n", b"x\n\\=== 2026 uname\n==== y\n a --- b\n"),
    ],
)
def test_text_stands_as_it_came_but_for_what_would_move_a_cursor_or_forge_a_line(
    tmp_path: Path, data: bytes, shown: bytes
) -> None:
    for at in range(len(data)):
        logs = HostLogWriter(tmp_path)
        logs.started(step_started("a"))
        logs.output(step_printed("a", data[:at]))
        logs.output(step_printed("a", data[at:]))
        logs.finished(step_finished("a"))
        logs.close()
        assert host_log_text(tmp_path) == TITLE + shown + b"--- ok, exit status 0, 0.03 s\n"
        (tmp_path / "a.log").unlink()


def test_what_was_held_back_stands_at_the_end(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    logs.started(step_started("a"))
    logs.output(step_printed("a", b"--"))
    logs.output(step_printed("a", b"caf\xc3", "stderr"))
    logs.finished(step_finished("a"))
    logs.close()
    assert host_log_text(tmp_path) == (
        TITLE + b"--- stderr\ncaf\n--- stdout\n--\n--- stderr\n\\xc3\n"
        b"--- ok, exit status 0, 0.03 s\n"
    )


def test_a_line_cannot_be_forged_by_a_change_of_stream(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    logs.started(step_started("a"))
    logs.output(step_printed("a", b"half "))
    logs.output(step_printed("a", b"oh\n", "stderr"))
    logs.output(step_printed("a", b"--- ok\n"))
    logs.close()
    assert host_log_text(tmp_path).endswith(b"half \n--- stderr\noh\n--- stdout\n\\--- ok\n")


def test_a_change_of_stream_is_marked_on_a_line_of_its_own(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    logs.started(step_started("a"))
    logs.output(step_printed("a", b"half"))
    logs.output(step_printed("a", b"oh\n", "stderr"))
    logs.output(step_printed("a", b"done"))
    logs.finished(step_finished("a", Status.FAILED, reason="exit 1\nreally"))
    logs.close()
    assert host_log_text(tmp_path) == (
        TITLE + b"half\n--- stderr\noh\n--- stdout\ndone\n"
        b"--- failed, exit status 1, 0.03 s: exit 1 really\n"
    )


def test_lanes_that_alternate_on_a_host_are_told_apart(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    for app in ("blog", "shop", "blog"):
        logs.output(step_printed("a", b"x\n", app=app))
    logs.close()
    titles = [line for line in host_log_text(tmp_path).splitlines() if line.startswith(b"===")]
    assert [title.split()[2] for title in titles] == [b"blog", b"shop", b"blog"]


@pytest.mark.parametrize("status", [Status.OK, Status.SKIPPED, Status.LOST])
def test_a_step_that_said_nothing_has_its_heading_and_how_it_ended(
    tmp_path: Path, status: Status
) -> None:
    logs = HostLogWriter(tmp_path)
    logs.started(step_started("a"))
    logs.output(step_printed("a", b""))
    logs.finished(step_finished("a", status, reason="when: 1 == 2"))
    logs.close()
    assert (
        host_log_text(tmp_path)
        == TITLE + f"--- {status}, exit status 0, 0.03 s: when: 1 == 2\n".encode()
    )


def test_a_host_that_came_to_no_step_has_no_log(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    logs.started(step_started("a"))
    logs.close()
    assert list(tmp_path.iterdir()) == []


def test_noise_from_before_the_shell_was_ready_is_kept(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    noise = step_printed("a", b"Welcome!\n", step=0)
    logs.output(type(noise)(noise.time, None, "", 0, "a", "stdout", b"Welcome!\n"))
    logs.close()
    assert host_log_text(tmp_path).endswith(b" before the shell was ready\nWelcome!\n")


def test_thousands_of_hosts_need_few_open_files(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    before = count_open_files()
    for turn in (b"one\n", b"two\n"):
        for i in range(1000):
            logs.output(step_printed(f"h{i}", turn))
    assert count_open_files() <= before + 64
    logs.close()
    assert count_open_files() == before
    assert all(host_log_text(tmp_path, f"h{i}").endswith(b"one\ntwo\n") for i in range(1000))


def test_logs_are_nobody_elses_to_read(tmp_path: Path) -> None:
    logs = HostLogWriter(tmp_path)
    logs.output(step_printed("a", b"x"))
    logs.close()
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


def test_a_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.log").symlink_to(tmp_path / "elsewhere")
    logs = HostLogWriter(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        logs.output(step_printed("a", b"x"))
    assert not (tmp_path / "elsewhere").exists()


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_are_safe_as_files_and_stay_different(one: str, other: str) -> None:
    safe = log_file_name(one)
    assert set(safe) <= set(string.ascii_letters + string.digits + "._-@+=,%")
    assert not safe.startswith(".")
    assert len(safe) <= 200
    assert (safe == log_file_name(other)) == (one == other)


def test_hosts_names_that_would_leave_the_folder_stay_in_it() -> None:
    assert log_file_name("../../etc/passwd") == "%2E.%2F..%2Fetc%2Fpasswd"
    assert log_file_name("deploy@web1.example.net") == "deploy@web1.example.net"
    assert log_file_name("[::1]:2222") == "%5B%3A%3A1%5D%3A2222"
