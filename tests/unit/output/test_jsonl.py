import json

from orchestrator.model.event import ConnectFinished, StepStarted, TaskStarted, Warned
from orchestrator.model.step_result import CapturedOutput, Status, StepResult
from orchestrator.output.json_lines import JsonLinesSink
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


def play_events(*events) -> list[dict]:
    out, stream = make_screen()
    sink = JsonLinesSink(out)
    for event in events:
        sink(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_step_has_exactly_the_keys_that_are_promised() -> None:
    assert play_events(step_finished("a", make_outcome(b"Linux\n", status=Status.CHANGED))) == [
        {
            "event": "step_finished",
            "time": NOW,
            "app": None,
            "task": "uname",
            "step": 1,
            "name": "uname -a",
            "host": "a",
            "number": 0,
            "status": "changed",
            "exit_status": 0,
            "stdout": "Linux",
            "stderr": "",
            "seconds": 0.03,
        }
    ]


def test_what_was_dropped_and_why_it_failed_stand_there_when_there_is_something_to_say() -> None:
    end = StepResult(Status.FAILED, 1, CapturedOutput(b"a", b"z", 7), reason="exit 1", ignored=True)
    found = play_events(step_finished("a", end))[0]
    assert found["stdout"] == "a\n[… 7 bytes not kept …]\nz"
    assert (found["stdout_dropped"], found["reason"], found["ignored"]) == (7, "exit 1", True)
    assert "stderr_dropped" not in found


def test_the_last_line_holds_the_exit_code_and_the_rows() -> None:
    last = play_events(run_finished(make_row("a", Status.FAILED, "exit 1"), log="/l"))[-1]
    assert last["event"] == "run_finished"
    assert last["exit_code"] == 0
    assert last["rows"] == [
        {
            "host": "a",
            "app": None,
            "status": "failed",
            "reason": "exit 1",
            "ok": 1,
            "changed": 0,
            "unknown": 0,
            "failed": 0,
            "skipped": 0,
            "seconds": 0.03,
        }
    ]


def test_every_other_event_is_a_line_in_snake_case_but_output_is_none() -> None:
    found = play_events(
        run_started("a"),
        ConnectFinished(NOW, "a", 0.1, "refused", "why"),
        TaskStarted(NOW, "blog", "t", ("a",), 2),
        StepStarted(NOW, "blog", task="t", step=1, name="n", host="a"),
        step_printed("a", b"x"),
        task_finished("a", make_outcome(b"x")),
        Warned(NOW, "careful"),
    )
    names = [event["event"] for event in found]
    assert names == [
        "run_started",
        "connect_finished",
        "task_started",
        "step_started",
        "host_finished",
        "warned",
    ]
    assert found[1]["error"] == "refused"
    assert found[4] == {
        "event": "host_finished",
        "time": NOW,
        "app": None,
        "task": "uname",
        "host": "a",
        "number": 0,
        "status": "ok",
        "reason": "",
        "seconds": 0.03,
    }


def test_output_that_holds_line_breaks_of_any_kind_stays_on_one_line() -> None:
    out, stream = make_screen()
    JsonLinesSink(out)(
        step_finished(
            "a", make_outcome("a\u2028b\x85c\x0bd\xff\n".encode("latin-1", "replace") + b"\x85")
        )
    )
    JsonLinesSink(out)(Warned(NOW, "a\u2028b\x85c \udcff"))
    assert len(stream.getvalue().splitlines()) == 2
    assert stream.getvalue().isascii()
