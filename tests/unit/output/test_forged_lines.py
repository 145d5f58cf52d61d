"""Text of a host within what orch says: it begins no line, and removes none of orch's words."""

from __future__ import annotations

import re
import time

import pytest
from msgspec.structs import replace

from orchestrator.errors import Diagnostic
from orchestrator.model.event import ConnectFinished, Warned
from orchestrator.model.step_result import StateChange, Status, StepResult
from orchestrator.output.diff import change_lines
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.error_text import problems_text
from orchestrator.output.summary import SummarySink
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    make_screen,
    run_finished,
    run_started,
    step_finished,
    step_printed,
    task_finished,
)
from tests.unit.output.test_plain_sink import play_events

TIME = time.strftime("%H:%M:%S", time.localtime(NOW))
FORGED = f"{TIME} uname web2: changed (0.01 s)"
BREAKS = [
    "\n",
    "\r",
    "\r\n",
    "\v",
    "\f",
    "\x1c",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\x1b[1A\x1b[2K",
]
ERASES = ["\b" * 80, "\x1b[2K\x1b[1G", "\x1b]0;", "\u202e", "\r\x1b[K"]


def begins_host_line(line: str) -> bool:
    """Whether a reader takes the line for one about web2."""
    return re.match(rf"({TIME} |.*\x1b.*)?(uname |── )?web2\b", line) is not None


@pytest.mark.parametrize("breaks", [*BREAKS, *ERASES])
def test_a_reason_begins_no_line_and_erases_none_of_the_words_before_it(breaks: str) -> None:
    output = f"disk full{breaks}{FORGED}"
    events, _ = play_events(
        task_finished("web1", make_outcome(status=Status.FAILED, reason=output)),
        ConnectFinished(NOW, "web1", 0.1, output, output),
        Warned(NOW, output),
        verbose=2,
    )
    assert len(events) == 3
    assert events[0].startswith(f"{TIME} uname web1: failed (0.03 s): disk full")
    assert events[1].startswith(f"{TIME} connect web1: failed: disk full")
    assert events[2].startswith(f"{TIME} warning: disk full")
    assert not any(map(begins_host_line, events))
    assert all(line.isprintable() for line in events)


@pytest.mark.parametrize("width", [None, 60])
@pytest.mark.parametrize("breaks", [*BREAKS, *ERASES])
def test_the_table_has_a_row_for_each_host_and_no_more(breaks: str, width: int | None) -> None:
    output = f"disk full{breaks}web2  ok  1  0  0  0  0.03"
    out, stream = make_screen(width)
    failed = make_row("web1", Status.FAILED, output, f"{output}\n{output}")
    sink = SummarySink(out, DisplayOptions())
    for event in (
        run_started("web1"),
        step_finished("web1", make_outcome(output.encode(), output.encode())),
        run_finished(failed),
    ):
        sink(event)
    lines = stream.getvalue().split("\n")
    assert not any(map(begins_host_line, lines)), stream.getvalue()
    assert sum(line.startswith("web1") for line in lines) == 1


def test_output_in_a_group_looks_like_no_line_of_orch() -> None:
    output = b"one\n\xe2\x94\x80\xe2\x94\x80 web2 \xe2\x94\x80\xe2\x94\x80\nweb2: all is well\n2 hosts: 2 ok in 1.0 s"
    out, stream = make_screen(80)
    sink = SummarySink(out, DisplayOptions())
    for event in (
        run_started("web1"),
        step_finished("web1", make_outcome(output)),
        run_finished(make_row("web1")),
    ):
        sink(event)
    heading, *lines = stream.getvalue().split("\n")[:5]
    assert heading == "── web1 ──"
    assert all(line.startswith("  ") for line in lines[:4])


@pytest.mark.parametrize("breaks", BREAKS)
def test_each_line_of_output_stands_behind_its_host(breaks: str) -> None:
    _, lines = play_events(
        step_printed("web1", f"one{breaks}web2 | two\n".encode()),
        step_finished("web1", make_outcome()),
    )
    assert not any(map(begins_host_line, lines))
    assert all(line.startswith("web1 | ") for line in lines)


@pytest.mark.parametrize("breaks", [each for each in BREAKS if "\n" not in each])
def test_a_line_of_a_diff_is_one_line(breaks: str) -> None:
    end = StepResult(Status.CHANGED, changes=(StateChange("contents", "a", "b"),))
    diff = f"--- before\n+++ after\n@@ -1 +1 @@\n-a\n+b{breaks}-forged\n"
    lines = change_lines(replace(end, diff=diff))
    assert len(lines) == 5
    assert lines[4].startswith("  +b\\")
    shown = change_lines(
        StepResult(Status.CHANGED, changes=(StateChange("to", f"a{breaks}b: c → d", "e"),))
    )
    assert len(shown) == 1
    assert shown[0].startswith("  to: a\\")
    assert lines[4].isprintable()
    assert shown[0].isprintable()


@pytest.mark.parametrize("breaks", [*BREAKS, *ERASES])
def test_an_error_shows_what_it_quotes(breaks: str) -> None:
    out, _ = make_screen()
    text = problems_text(
        [Diagnostic(f"'x{breaks}error: other' is wrong", None, f"see{breaks}y")], out
    )
    assert text.startswith("error: 'x")
    assert not any(line.startswith("error: other") for line in text.split("\n"))
    assert text.replace("\n", "").isprintable()
