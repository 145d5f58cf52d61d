"""Much at once, in both directions."""

from __future__ import annotations

import subprocess
import threading
import tracemalloc
from collections import Counter

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import CommandResult, EndReason
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import (
    RecordingListener,
    child_processes,
    run_pipeline,
    wait_until,
)

MANY = 50_000_000


class CountingListener(RecordingListener):
    """Counts what comes and keeps none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[tuple[int, str]] = Counter()

    def output(self, step: int, stream: str, data: bytes) -> None:
        self.count[step, stream] += len(data)


def test_flood_on_both_streams_is_passed_on_and_not_kept(open_session: SessionOpener) -> None:
    session, channel = open_session()
    run_pipeline(session)
    channel.keeps = False
    text = f"head -c {MANY} /dev/zero & head -c {MANY} /dev/zero >&2; wait"
    recording = CountingListener()
    tracemalloc.start()
    try:
        session.run([StepCommand(1, text), StepCommand(2, "echo on")], recording)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    of_steps = {key: count for key, count in recording.count.items() if key[0]}
    assert of_steps == {(1, "stdout"): MANY, (1, "stderr"): MANY, (2, "stdout"): 3}
    assert peak < 4 << 20


def test_big_segment_goes_out_while_a_flood_comes_in(open_session: SessionOpener) -> None:
    session, channel = open_session()
    size = 4_000_000
    flood = f"(head -c {size} /dev/zero; head -c {size} /dev/zero >&2; echo) & :"
    recording = CountingListener()
    session.run([StepCommand(1, flood)], recording)
    line = ": 'it is' \\\n a line of a \"long\" step\n"
    big = line * (5_000_000 // len(line)) + "echo end; exit 3"
    session.run(
        [StepCommand(2, big, ignore_failure=True), StepCommand(3, "wc -c", stdin="x" * 1_000_000)],
        recording,
    )
    assert recording.endings[2] == CommandResult(EndReason.DONE, 3, failed=True)
    assert recording.endings[3].end_reason is EndReason.DONE
    assert len(channel.written) > 5_000_000


def test_flood_does_not_keep_a_timeout_or_a_cancel_from_working(
    open_session: SessionOpener,
) -> None:
    session, channel = open_session()
    channel.keeps = False
    recording = CountingListener()
    yes = "yes & yes >&2"
    session.run(
        [StepCommand(1, yes, timeout=0.3, ignore_failure=True), StepCommand(2, "echo on")],
        recording,
    )
    assert recording.endings[1].end_reason is EndReason.TIMED_OUT
    assert recording.count[2, "stdout"] == 3

    class CancellingCounter(CountingListener):
        def output(self, step: int, stream: str, data: bytes) -> None:
            super().output(step, stream, data)
            if self.count[step, stream] > 1_000_000:
                session.cancel()

    recording = CancellingCounter()
    session.run([StepCommand(3, yes), StepCommand(4, "echo no")], recording)
    assert recording.endings == {3: CommandResult(EndReason.TERMINATED, failed=True)}


def test_full_pipe_left_non_blocking_loses_no_marker(open_session: SessionOpener) -> None:
    session, _ = open_session()
    filled = threading.Event()

    class SlowListener(RecordingListener):
        def output(self, step: int, stream: str, data: bytes) -> None:
            super().output(step, stream, data)
            if step == 1 and not filled.is_set() and b"\n" in data:
                filled.set()
                pid = int(self.stdout_of(1).split()[0])
                wait_until(
                    lambda: any(b"sleep\0.1" in words for _, words in child_processes(pid)),
                    "a retry",
                )

    fill = "import os\nos.set_blocking(1, False)\ntry:\n while True: os.write(1, b'x' * 65536)\n"
    fill += "except BlockingIOError: pass"
    recording = SlowListener()
    text = f'echo $PPID\nexec python3 -c "{fill}"'
    session.run([StepCommand(1, text), StepCommand(2, "echo on")], recording)
    assert recording.endings[1].end_reason is EndReason.DONE
    assert recording.stdout_of(2) == b"on\n"


@pytest.mark.long
def test_job_messages_of_the_session_reach_no_step(open_session: SessionOpener) -> None:
    """bash reports a child that a signal ended; on a busy machine signals come early."""
    spinning = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(8)]
    try:
        for _ in range(60):
            session, _ = open_session()
            for _ in range(4):
                run_pipeline(session)
                session.begin_task()
                told = run_pipeline(session, StepCommand(1, "echo x >&2"), StepCommand(2, ":"))
                assert (told.stderr_of(1), told.stderr_of(2)) == (b"x\n", b"")
            session.close()
    finally:
        for process in spinning:
            process.kill()
            process.wait()
