import io
import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.model.event import (
    CONNECT_INTERRUPTED,
    ConnectFinished,
    ConnectStarted,
    StepStarted,
    TaskStarted,
)
from orchestrator.model.step_result import Status
from orchestrator.output.live_view import LiveSink, format_duration, render_progress
from orchestrator.output.run_progress import RunProgress
from orchestrator.output.terminal_lock import TerminalLock
from orchestrator.output.text_width import display_width
from tests.support.output_events import (
    NOW,
    make_outcome,
    run_finished,
    run_started,
    step_printed,
    task_finished,
)
from tests.support.tmux_terminal import DRIVE, ROOT, TmuxTerminal, wait_until


@contextmanager
def start_replay(tmp_path: Path, width: int, height: int, *args: str) -> Iterator[TmuxTerminal]:
    terminal = TmuxTerminal(tmp_path / "s", width, height, [*DRIVE, *args])
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 20)])
@pytest.mark.parametrize("hosts", [1, 20, 500])
def test_the_live_view_fits_the_terminal_and_leaves_it_as_it_was(
    tmp_path: Path, width: int, height: int, hosts: int
) -> None:
    go = tmp_path / "go"
    args = [str(hosts), "--seconds", "0", "--hold", str(go)]
    with start_replay(tmp_path, width, height, *args) as terminal:
        slowest = min(5, hosts - hosts // 2)  # each is shown from its own first second on
        wait_until(
            "the slowest hosts",
            lambda: sum(bool(re.match("  web", s)) for s in terminal.screen()) == slowest,
        )
        shown = [line for line in terminal.screen() if line]
        first = next(i for i, line in enumerate(shown) if line.startswith("deploy:publish  "))
        live = shown[first:]
        assert len(live) == 1 + slowest
        assert all(re.match(r"  web\d\d\d\S+ +\d+ s  \S", line) for line in live[1:])
        assert all(display_width(line) <= width for line in live)
        assert f"{hosts // 2}/{hosts}" in live[0]
        assert not terminal.cursor_shown()
        go.touch()
        wait_until("the end", lambda: "THE END 0" in terminal.screen())
        assert terminal.cursor_shown()
        whole = terminal.screen(joined=True, history=True)
        if hosts < 30:
            pattern = r"web\d{3}\.example\.net  (web    )?(ok|changed|failed)"
            assert sum(bool(re.match(pattern, line)) for line in whole) == hosts, whole
        else:  # equal rows are one
            begin = next(i for i, line in enumerate(whole) if re.match("host( |$)", line))
            table = "\n".join(whole[begin:])
            assert sum(map(int, re.findall(r"\((\d+)\)(?=\n|  )", table))) == hosts, whole
        assert not [line for line in whole if line.startswith(("deploy:publish  ", "  web"))]
        assert any(line.startswith(f"{hosts} host") for line in whole)


def test_what_hosts_print_never_reaches_the_terminal_as_codes(tmp_path: Path) -> None:
    go = tmp_path / "go"
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    args = [*DRIVE, "12", "--seconds", "0", "--hold", str(go)]
    drive = subprocess.Popen(args, stdout=theirs, stderr=theirs, cwd=ROOT, env=env)
    os.close(theirs)
    observed = b""
    try:
        while chunk := _read_all(ours):
            observed += chunk
            if b"latin-1" in observed:
                go.touch()
    finally:
        if not go.exists():
            drive.kill()
        os.close(ours)
    assert drive.wait(30) == 0
    assert observed.rfind(b"\x1b[?25h") > observed.rfind(b"\x1b[?25l") > -1
    left = re.sub(rb"\x1b\[(\?25[hl]|[0-9;]*[mAK]|2K)", b"", observed)
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", left)
    assert b"\x1b[2J" not in observed
    assert b"caf\\xe9 latin-1" in observed
    assert b":smile:" in observed


def _read_all(file: int) -> bytes:
    assert select.select([file], [], [], 30)[0], "nothing more came"
    try:
        return os.read(file, 65536)
    except OSError:  # Linux: the other side is closed
        return b""


def test_the_cursor_comes_back_when_a_run_ends_without_a_word(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with start_replay(
        tmp_path, 80, 24, "20", "--seconds", "0", "--hold", str(go), "--abandon"
    ) as it:
        wait_until("the live view", lambda: not it.cursor_shown())
        go.touch()
        wait_until("the end", lambda: "THE END 0" in it.screen())
        assert it.cursor_shown()


def frame_texts(
    progress: RunProgress, width: int = 80, height: int = 24, now: float = NOW
) -> list[str]:
    return [
        "".join(text for text, _ in line) for line in render_progress(progress, now, width, height)
    ]


def progress_of(hosts: int, apps: tuple[str | None, ...] = (None,)) -> RunProgress:
    progress = RunProgress()
    names = tuple(f"h{i:03}" for i in range(hosts))
    progress.count_event(run_started(*names))
    for app in apps:
        progress.count_event(TaskStarted(NOW, app, "uname", names, 1))
        for i, name in enumerate(names):
            progress.count_event(
                StepStarted(NOW + i / 1000, app, task="uname", step=1, name="uname -a", host=name)
            )
    return progress


def test_counts_and_bar_follow_the_hosts() -> None:
    progress = progress_of(4)
    progress.count_event(task_finished("h000", make_outcome()))
    progress.count_event(task_finished("h001", make_outcome(status=Status.FAILED)))
    assert frame_texts(progress, now=NOW + 75)[0] == (
        "uname  ━━━━━━━━━━━━━━━───────────────  2/4 done, 2 running, 1 failed  1:15"
    )


def test_while_connecting_the_counts_are_of_connections() -> None:
    progress = RunProgress()
    progress.count_event(run_started(*(f"h{i}" for i in range(300))))
    for i in range(3):
        progress.count_event(ConnectStarted(NOW, f"h{i}"))
    progress.connected, progress.unreachable = 9, 3
    shown = frame_texts(progress)
    assert shown[0].startswith("connecting  ")
    assert "12/300, 3 failed" in shown[0]
    assert frame_texts(progress, now=NOW + 2)[1] == "  h0  2 s  (connecting)"


def test_the_slowest_hosts_stand_with_the_last_line_that_they_printed() -> None:
    progress = progress_of(3)
    progress.count_event(step_printed("h000", b"one\ntwo\n\n"))
    progress.count_event(step_printed("h001", b"10%\r[red]20%\r"))
    assert frame_texts(progress, now=NOW + 12)[1:] == [
        "  h000  12 s  two",
        "  h001  11 s  [red]20%",
        "  h002  11 s  (uname -a)",
    ]


@pytest.mark.parametrize("width", [20, 39, 79, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 20])
def test_no_frame_is_larger_than_the_terminal(width: int, height: int) -> None:
    progress = progress_of(30, ("blog", "a-rather-long-name-of-an-app", "繁體中文", "x", "y", "z"))
    progress.count_event(step_printed("h000", "繁".encode() * 2000, app="blog"))
    shown = frame_texts(progress, width, height)
    assert 0 < len(shown) <= max(height - 1, 1)
    assert all(display_width(line) <= width for line in shown)


def test_a_megabyte_of_output_is_not_kept() -> None:
    progress = progress_of(1)
    progress.count_event(step_printed("h000", b"x" * 1_000_000))
    assert sum(len(work.tail) for work in progress.slowest_hosts(9, NOW + 60)) <= 1024


@pytest.mark.parametrize(
    ("seconds", "message"), [(-1, "0 s"), (59.9, "59 s"), (185, "3:05"), (3723, "1:02:03")]
)
def test_times_are_told_shortly(seconds: float, message: str) -> None:
    assert format_duration(seconds) == message


def test_hosts_that_an_interrupt_left_connecting_are_one_line_and_so_are_those_that_failed() -> (
    None
):
    stream = io.StringIO()
    live = LiveSink(stream, {}, 0, TerminalLock())
    for n in range(30):
        live(ConnectFinished(NOW, f"h{n}", 1.0, "connect: refused"))
    for n in range(30, 300):
        live(ConnectFinished(NOW, f"h{n}", 1.0, CONNECT_INTERRUPTED))
        live(task_finished(f"h{n}", make_outcome(status=Status.CANCELLED)))
    live(run_finished())
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "interrupted while connecting 270 hosts" in lines[0]
    assert "✘ connect  h[0-29]  unreachable  1.0 s  connect: refused" in lines[1]
