"""The result of a command of the console, and the output of a single host as it comes."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from orchestrator.model.event import RunEvent, Warned
from orchestrator.model.step_result import Status
from orchestrator.output import command_sink
from orchestrator.output.command_sink import CommandSink, ConnectSink, OutputStream, WarningSink
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    make_screen,
    run_finished,
    step_finished,
    step_printed,
)


def shown(*events: RunEvent, verbose: int = 0, streamed: str = "", width: int = 60) -> list[str]:
    out, stream = make_screen(width)
    sink = CommandSink(out, verbose=verbose, streamed=streamed)
    for event in events:
        sink(event)
    sink.close()
    return stream.getvalue().splitlines()


def test_output_is_folded_and_followed_by_one_line_and_the_failed_hosts() -> None:
    failed = make_outcome(stderr=b"no", status=Status.FAILED, reason="exit status 2")
    step = ", in step 1 'x'"
    assert shown(
        step_finished("web1", make_outcome(b"a\n", status=Status.CHANGED)),
        step_finished("web2", make_outcome(b"a\n", status=Status.CHANGED)),
        step_finished("db1", failed),
        step_finished("db2", failed),
        run_finished(
            make_row("web1", Status.CHANGED),
            make_row("web2", Status.CHANGED),
            make_row("db1", Status.FAILED, f"exit status 2{step}"),
            make_row("db2", Status.FAILED, f"exit status 2{step}"),
            make_row("db3", Status.UNREACHABLE, "ann@db3:22: connection refused"),
            make_row("db4", Status.UNREACHABLE, "ann@db4:22: connection refused"),
        ),
    ) == [
        "web[1-2]: a",
        "db[1-2] ! no",
        "6 hosts: 2 ok, 2 unreachable, 2 failed in 2.3 s",
        "  db[1-2] failed: exit status 2",
        "  db[3-4] unreachable: ann@db[3-4]:22: connection refused",
    ]


def test_hosts_that_were_interrupted_have_no_line_of_their_own() -> None:
    rows = (
        make_row("web1", Status.CANCELLED, "interrupted"),
        make_row("web2", Status.NOT_STARTED, "'exec' was not started: interrupted"),
    )
    assert shown(run_finished(*rows)) == ["2 hosts: 2 cancelled in 2.3 s"]


def test_verbose_adds_the_table_and_the_log() -> None:
    lines = shown(
        step_finished("web1", make_outcome(b"a\n")),
        run_finished(replace(make_row("web1", Status.CHANGED), ok=0, changed=1), log="/r/1"),
        verbose=1,
    )
    assert lines[0] == "web1: a"
    assert any(line.split()[:4] == ["web1", "ok", "1", "0"] for line in lines)
    assert lines[-1] == "log: /r/1"


def test_the_log_is_named_if_output_was_cut() -> None:
    long = step_finished("web1", make_outcome(b"x\n" * 1000))
    assert shown(long, run_finished(make_row("web1"), log="/r/1"))[-1] == "log: /r/1"
    short = step_finished("web1", make_outcome(b"x\n"))
    assert shown(short, run_finished(make_row("web1"), log="/r/1"))[-1] == "1 host: 1 ok in 2.3 s"


def test_unreachable_hosts_of_a_connect_have_a_hint() -> None:
    out, stream = make_screen(60)
    row = replace(make_row("web1", Status.UNREACHABLE, "refused"), hint="start sshd")
    ConnectSink(out)(run_finished(make_row("db1"), row))
    assert stream.getvalue().splitlines() == ["  web1 unreachable: refused", "    start sshd"]


def test_warnings_are_printed_on_one_line() -> None:
    out, stream = make_screen()
    WarningSink(out)(Warned(NOW, "be\nware\x1b[2J"))
    assert stream.getvalue() == "be ware\n"


def test_output_of_one_host_that_ends_soon_is_folded() -> None:
    assert shown(
        step_printed("web1", b"Linux\n"),
        step_finished("web1", make_outcome(b"Linux\n")),
        run_finished(make_row("web1")),
        streamed="web1",
    ) == ["web1: Linux", "1 host: 1 ok in 2.3 s"]


def test_output_of_one_host_that_takes_a_while_is_printed_as_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_sink, "_STREAM_DELAY", 0.0)
    out, stream = make_screen()
    sink = CommandSink(out, streamed="web1")
    sink(step_printed("web1", b"one\ntw"))
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert stream.getvalue() == "── web1 ──\n  one\n"
    sink(step_printed("web1", b"o\n"))
    sink(step_printed("web1", b"\x1b[2Joops\n", "stderr"))
    sink(step_printed("web1", b"end"))
    sink(step_finished("web1", make_outcome(b"one\ntwo\nend", b"oops\n")))
    sink(run_finished(make_row("web1")))
    assert stream.getvalue().splitlines()[2:] == [
        "  two",
        "! oops",
        "  end",
        "1 host: 1 ok in 2.3 s",
    ]


def test_much_output_is_not_held_back() -> None:
    out, stream = make_screen()
    output = OutputStream(out, "web1")
    output.add("stdout", b"x\n" * 40_000)
    assert stream.getvalue().count("\n") == 40_001
    assert output.finish()
