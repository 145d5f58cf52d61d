import json

from orchestrator.model.event import ConnectFinished, StepStarted, TaskStarted, Warned
from orchestrator.model.step_result import Captured, Outcome, Status
from orchestrator.output.json_lines import JsonLines
from tests.report.made import NOW, finished, host_end, outcome, printed, row, screen, started, step


def play(*events) -> list[dict]:
    out, stream = screen()
    sink = JsonLines(out)
    for event in events:
        sink(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_step_has_exactly_the_keys_that_are_promised() -> None:
    assert play(step("a", outcome(b"Linux\n", status=Status.CHANGED))) == [
        {
            "event": "step_finished",
            "time": NOW,
            "app": None,
            "task": "uname",
            "step": 1,
            "name": "uname -a",
            "host": "a",
            "status": "changed",
            "exit_status": 0,
            "stdout": "Linux",
            "stderr": "",
            "seconds": 0.03,
        }
    ]


def test_what_was_dropped_and_why_it_failed_stand_there_when_there_is_something_to_say() -> None:
    end = Outcome(Status.FAILED, 1, Captured(b"a", b"z", 7), reason="exit 1", ignored=True)
    found = play(step("a", end))[0]
    assert found["stdout"] == "a\n[… 7 bytes not kept …]\nz"
    assert (found["stdout_dropped"], found["reason"], found["ignored"]) == (7, "exit 1", True)
    assert "stderr_dropped" not in found


def test_the_last_line_holds_the_exit_code_and_the_rows() -> None:
    last = play(finished(row("a", Status.FAILED, "exit 1"), log="/l"))[-1]
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
    found = play(
        started("a"),
        ConnectFinished(NOW, "a", 0.1, "refused", "why"),
        TaskStarted(NOW, "blog", "t", ("a",), 2),
        StepStarted(NOW, "blog", task="t", step=1, name="n", host="a"),
        printed("a", b"x"),
        host_end("a", outcome(b"x")),
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
        "status": "ok",
        "reason": "",
        "seconds": 0.03,
    }


def test_output_that_holds_line_breaks_of_any_kind_stays_on_one_line() -> None:
    out, stream = screen()
    JsonLines(out)(
        step("a", outcome("a\u2028b\x85c\x0bd\xff\n".encode("latin-1", "replace") + b"\x85"))
    )
    JsonLines(out)(Warned(NOW, "a\u2028b\x85c \udcff"))
    assert len(stream.getvalue().splitlines()) == 2
    assert stream.getvalue().isascii()
