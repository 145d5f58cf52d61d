import re
import time

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.model.event import (
    CONNECT_INTERRUPTED,
    ConnectFinished,
    RunEvent,
    StepStarted,
    TaskStarted,
    Warned,
)
from orchestrator.model.step_result import Status
from orchestrator.output.plain_sink import PlainSink
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


def play_events(*events: RunEvent, verbose: int = 0) -> tuple[list[str], list[str]]:
    """Return the lines about events and the lines of the hosts."""
    message_screen, events_stream = make_screen()
    output, output_stream = make_screen()
    sink = PlainSink(message_screen, output, verbose)
    for event in events:
        sink(event)
    sink.close()
    return events_stream.getvalue().splitlines(), output_stream.getvalue().splitlines()


def test_an_event_is_one_line_with_time_task_host_state_and_seconds() -> None:
    events, _ = play_events(task_finished("devserver1", make_outcome()))
    assert events == [
        f"{time.strftime('%H:%M:%S', time.localtime(NOW))} uname devserver1: ok (0.03 s)"
    ]


def test_lines_of_hosts_stand_behind_their_name_stderr_apart() -> None:
    _, lines = play_events(
        step_printed("devserver1", b"Linux\n\n"), step_printed("devserver1", b"oh\n", "stderr")
    )
    assert lines == ["devserver1 | Linux", "devserver1 |", "devserver1 ! oh"]


def test_lines_come_out_whole_however_the_bytes_arrive() -> None:
    parts = [
        step_printed("a", b"one\ntw"),
        step_printed("b", b"x"),
        step_printed("a", b"o\nthr"),
        step_printed("a", b"ee"),
    ]
    _, lines = play_events(
        *parts, step_finished("a", make_outcome()), step_finished("b", make_outcome())
    )
    assert lines == ["a | one", "a | two", "a | three", "b | x"]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\r", b"")), max_size=8))
def test_no_byte_is_lost_between_chunks(parts: list[bytes]) -> None:
    _, whole = play_events(step_printed("a", b"".join(parts)))
    _, split = play_events(*(step_printed("a", part) for part in parts))
    assert split == whole


def test_an_unfinished_line_is_printed_when_the_run_breaks_off() -> None:
    _, lines = play_events(step_printed("a", b"half a li"))
    assert lines == ["a | half a li"]


def test_progress_bars_become_their_last_state_however_long_they_run() -> None:
    bar = [step_printed("a", b"%d%%\r" % (i % 100)) for i in range(10_000)]
    _, lines = play_events(*bar, step_printed("a", b"done\n"))
    assert lines == ["a | done"]


def test_a_megabyte_line_is_cut_and_says_so() -> None:
    chunks = [step_printed("a", b"x" * 100_000) for _ in range(10)]
    _, lines = play_events(*chunks, step_printed("a", b"\nnext\n"))
    message = f" [… {1_000_000 - 8192} more bytes; the log has all …]"
    assert lines == ["a | " + "x" * 8192 + message, "a | next"]


def test_hosts_cannot_send_control_codes_or_fake_another_host() -> None:
    _, lines = play_events(step_printed("a", b"\x1b[2J\x07\xe9 [red]\x0b\x85\xe2\x80\xa8b | ok\n"))
    assert lines == ["a | \\x07\\xe9 [red]\\x0b\\x85\\u2028b | ok"]


def test_apps_are_named_beside_the_host() -> None:
    events, lines = play_events(
        step_printed("a", b"x\n", app="blog"), task_finished("a", make_outcome(), "blog")
    )
    assert lines == ["a blog | x"]
    assert events[0].endswith("blog uname a: ok (0.03 s)")


def run(verbose: int) -> list[str]:
    events, _ = play_events(
        run_started("a", "b"),
        ConnectFinished(NOW, "a", 0.05),
        ConnectFinished(NOW, "b", 0.05, "connect: refused", "is sshd up?"),
        TaskStarted(NOW, None, "uname", ("a",), 2),
        StepStarted(NOW, None, task="uname", step=1, name="uname -a", host="a"),
        step_finished("a", make_outcome()),
        step_finished("a", make_outcome(status=Status.CHANGED), 2, name="link"),
        Warned(NOW, "role `x` is empty"),
        task_finished("a", make_outcome(status=Status.FAILED, reason="step 2: exit 1")),
        run_finished(),
        verbose=verbose,
    )
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in events]


def test_as_usual_ends_and_changes_are_told_but_no_starts_of_steps() -> None:
    assert run(0) == [
        "run 20261123140211-ab12: stage dev, uname on 2 hosts",
        "connect b: failed: connect: refused (is sshd up?)",
        "uname: begins on 1 host",
        "uname a: step 2 link: changed (0.03 s)",
        "warning: role `x` is empty",
        "uname a: failed (0.03 s): step 2: exit 1",
    ]


def test_verbose_tells_every_step_too() -> None:
    more = [
        "connect a: ok (0.05 s)",
        "uname a: step 1 begins: uname -a",
        "uname a: step 1 uname -a: ok (0.03 s)",
    ]
    assert [line for line in run(1) if line not in run(0)] == more


def test_quiet_tells_only_what_went_wrong() -> None:
    assert run(-1) == [
        "connect b: failed: connect: refused (is sshd up?)",
        "warning: role `x` is empty",
        "uname a: failed (0.03 s): step 2: exit 1",
    ]


def test_a_host_that_cannot_be_reached_is_told_once() -> None:
    why = "connect: refused"
    lost = make_outcome(status=Status.UNREACHABLE, reason=why)
    events, _ = play_events(ConnectFinished(NOW, "b", 0.05, why), task_finished("b", lost))
    assert [why in line for line in events] == [True]
    unsaid = make_outcome(status=Status.UNREACHABLE, reason="no shell there")
    assert len(play_events(ConnectFinished(NOW, "b", 0.05), task_finished("b", unsaid))[0]) == 1


def test_verbose_tells_skipped_steps_with_the_reason() -> None:
    skipped = step_finished("a", make_outcome(status=Status.SKIPPED, reason="when: 1 == 2"))
    assert play_events(skipped)[0] == []
    assert play_events(skipped, verbose=1)[0][0].endswith(
        "uname -a: skipped (0.03 s): when: 1 == 2"
    )


def test_hosts_that_an_interrupt_left_connecting_are_one_line() -> None:
    cancelled = make_outcome(status=Status.CANCELLED, reason=CONNECT_INTERRUPTED)
    ends = [ConnectFinished(NOW, f"h{n}", 1.0, CONNECT_INTERRUPTED) for n in range(300)]
    rows = [make_row(f"h{n}", Status.CANCELLED, CONNECT_INTERRUPTED) for n in range(300)]
    message = [*ends, *(task_finished(f"h{n}", cancelled) for n in range(300)), run_finished(*rows)]
    events, _ = play_events(*message)
    assert [line[9:] for line in events] == ["interrupted while connecting 300 hosts"]
    each, _ = play_events(*message, verbose=1)
    assert sum(CONNECT_INTERRUPTED in line and "h299" in line for line in each) == 2
    assert not any("300 hosts" in line for line in each)


def test_values_that_later_steps_use_are_shown_if_asked_for() -> None:
    event = replace(step_printed("a", b"exists=true\n"), is_for_steps=True)
    assert play_events(event)[1] == []
    assert play_events(event, verbose=1)[1] == ["a | exists=true"]
