import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from orchestrator.model.event import RunEvent, Warned
from orchestrator.output.console import TextConsole, open_console, supports_live_output
from orchestrator.output.display_options import DisplayOptions, OutputMode
from orchestrator.output.live_view import LiveSink
from orchestrator.output.sinks import MultiSink, choose_sinks
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    run_finished,
    run_started,
    step_finished,
    step_printed,
    task_finished,
)
from tests.support.tmux_terminal import DRIVE, ROOT

PLAIN = {"TERM": "xterm-256color"}


@contextmanager
def terminal() -> Iterator[TextIO]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        yield stream
    os.close(ours)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "CI": "false"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_control_codes_need_a_terminal_that_wants_them(
    environ: dict[str, str], expected: bool
) -> None:
    with terminal() as stream:
        assert supports_live_output(stream, environ) is expected
    assert not supports_live_output(io.StringIO(), environ)


def test_columns_sets_the_width_even_off_a_terminal() -> None:
    assert open_console(io.StringIO(), {"COLUMNS": "40"}).width == 40
    assert open_console(io.StringIO(), {"COLUMNS": "wide"}).width is None
    assert open_console(io.StringIO(), {}).width is None


def play_events(options: DisplayOptions) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    sink = choose_sinks(options, stdout=stdout, stderr=stderr, environ=PLAIN)
    hosts = ("a", "b")
    sink(run_started(*hosts))
    for host in hosts:
        sink(step_printed(host, b"Linux\n"))
        sink(step_finished(host, make_outcome(b"Linux\n")))
        sink(task_finished(host, make_outcome()))
    sink(run_finished(*(make_row(host) for host in hosts)))
    sink.close()
    return stdout.getvalue(), stderr.getvalue()


def test_off_a_terminal_output_and_table_go_to_stdout_and_events_to_stderr() -> None:
    stdout, stderr = play_events(DisplayOptions())
    lines = stdout.split("\n")
    assert lines[:2] == ["a | Linux", "b | Linux"]
    assert lines[2].startswith("host  status  ok")
    assert lines[-2] == "2 hosts: 2 ok in 2.3 s"
    assert "uname a: ok" in stderr
    assert "\x1b" not in stdout + stderr


@pytest.mark.parametrize(
    ("options", "first_lines"),
    [
        (DisplayOptions(mode=OutputMode.LINES), ["a | Linux", "b | Linux", "host  status"]),
        (DisplayOptions(mode=OutputMode.LIVE), ["a | Linux", "b | Linux", "host  status"]),
        (DisplayOptions(mode=OutputMode.FOLDED), ["a,b: Linux", "", "host  status"]),
        (DisplayOptions(mode=OutputMode.QUIET), ["host  status"]),
        (DisplayOptions(diff_hosts=True), ["a,b: Linux", "", "host  status"]),
    ],
)
def test_in_a_pipe_the_mode_chooses_how_output_is_shown(
    options: DisplayOptions, first_lines: list[str]
) -> None:
    stdout, stderr = play_events(options)
    assert [line[:12] for line in stdout.split("\n")][: len(first_lines)] == first_lines
    assert "uname a: ok" in stderr


def test_on_a_terminal_the_mode_lines_draws_no_live_view() -> None:
    for mode, live in ((OutputMode.LINES, False), (OutputMode.FOLDED, True)):
        with terminal() as stream:
            sink = choose_sinks(
                DisplayOptions(mode=mode), stdout=stream, stderr=stream, environ=PLAIN
            )
            assert isinstance(sink, MultiSink)
            assert any(isinstance(part, LiveSink) for part in sink.sinks) is live
            sink.close()


def test_json_is_all_there_is_on_stdout_and_nothing_on_stderr() -> None:
    stdout, stderr = play_events(DisplayOptions(json=True))
    assert [json.loads(line)["event"] for line in stdout.splitlines()][-1] == "run_finished"
    assert stderr == ""


@pytest.mark.parametrize("args", [["--json"], []])
def test_rich_is_not_loaded_where_it_is_not_needed(args: list[str]) -> None:
    code = (
        "import sys; from tests.support.event_replay import main; sys.argv[0] = 'x'; main();"
        "sys.exit(any(name.split('.')[0] == 'rich' for name in sys.modules))"
    )
    command = [sys.executable, "-c", code, "1", "--seconds", "0", *args]
    env = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def closed_pipe() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w", encoding="utf-8")


@pytest.mark.parametrize("json_mode", [True, False])
def test_a_reader_that_went_away_is_told_once_and_then_no_more(json_mode: bool) -> None:
    stdout, stderr = closed_pipe(), io.StringIO()
    sink = choose_sinks(DisplayOptions(json=json_mode), stdout=stdout, stderr=stderr, environ=PLAIN)
    with pytest.raises(BrokenPipeError):
        for event in (run_started("a"), step_printed("a", b"x\n")):
            sink(event)
    sink(step_printed("a", b"more\n"))
    sink(run_finished(make_row("a")))
    sink.close()
    with pytest.raises(BrokenPipeError):  # what Python still holds; the caller lets it go
        stdout.close()


def test_a_stream_that_cannot_say_it_all_gets_question_marks() -> None:
    raw = io.BytesIO()
    out = TextConsole(io.TextIOWrapper(raw, encoding="latin-1"))
    out.lines(["é 繁 \udcff"])
    assert raw.getvalue() == "é ? \\xff\n".encode("latin-1")


class RecordingSink:
    """A sink that remembers, and may fail or emit."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.closed = False
        self.act = lambda event: None

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)
        self.act(event)

    def close(self) -> None:
        self.closed = True
        self.act(Warned(NOW, "close"))


def test_a_sink_that_raises_keeps_nothing_from_the_others() -> None:
    def fail(event: RunEvent) -> None:
        raise BrokenPipeError

    bad, good = RecordingSink(), RecordingSink()
    bad.act = fail
    tee = MultiSink((bad, good))
    with pytest.raises(BrokenPipeError):
        tee(Warned(NOW, "x"))
    with pytest.raises(BrokenPipeError):
        tee.close()
    assert good.events == [Warned(NOW, "x")]
    assert good.closed


def test_what_a_sink_emits_comes_to_all_after_the_event_in_hand() -> None:
    first, second = RecordingSink(), RecordingSink()
    tee = MultiSink((first, second))
    first.act = lambda event: tee(Warned(NOW, "b")) if event == Warned(NOW, "a") else None
    tee(Warned(NOW, "a"))
    assert first.events == second.events == [Warned(NOW, "a"), Warned(NOW, "b")]


def test_the_output_is_whole_off_a_terminal_at_forty_columns() -> None:
    env = {"PATH": os.environ["PATH"], "COLUMNS": "40", "TERM": "dumb", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [*DRIVE, "500", "--seconds", "0"],
        cwd=ROOT, env=env, capture_output=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    table = done.stdout[done.stdout.index("\nhost") :].split("\n")
    counts = [int(count) for line in table for count in re.findall(r"^\((\d+)\)$", line)]
    assert sum(counts) == 500
    assert all(len(line) <= 40 for line in table if not line.startswith("    web["))
    assert "\x1b" not in done.stdout + done.stderr
