"""Much at once, in both directions."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter

from orchestrator.model.command import Command
from orchestrator.remote_shell import Ending, How
from tests.session.conftest import Opened
from tests.session.heard import Heard, children, run, until

MANY = 50_000_000


class Counting(Heard):
    """Counts what comes and keeps none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[tuple[int, str]] = Counter()

    def output(self, step: int, stream: str, data: bytes) -> None:
        self.count[step, stream] += len(data)


def test_flood_on_both_streams_is_passed_on_and_not_kept(open_session: Opened) -> None:
    session, channel = open_session()
    run(session)
    channel.keeps = False
    text = f"head -c {MANY} /dev/zero & head -c {MANY} /dev/zero >&2; wait"
    heard = Counting()
    tracemalloc.start()
    try:
        session.run([Command(1, text), Command(2, "echo on")], heard)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    of_steps = {key: count for key, count in heard.count.items() if key[0]}
    assert of_steps == {(1, "stdout"): MANY, (1, "stderr"): MANY, (2, "stdout"): 3}
    assert peak < 4 << 20


def test_big_segment_goes_out_while_a_flood_comes_in(open_session: Opened) -> None:
    session, channel = open_session()
    size = 4_000_000
    flood = f"(head -c {size} /dev/zero; head -c {size} /dev/zero >&2; echo) & :"
    heard = Counting()
    session.run([Command(1, flood)], heard)
    line = ": 'it is' \\\n a line of a \"long\" step\n"
    big = line * (5_000_000 // len(line)) + "echo end; exit 3"
    session.run([Command(2, big, ignore=True), Command(3, "wc -c", stdin="x" * 1_000_000)], heard)
    assert heard.endings[2] == Ending(How.DONE, 3, failed=True)
    assert heard.endings[3].how is How.DONE
    assert len(channel.written) > 5_000_000


def test_flood_does_not_keep_a_timeout_or_a_cancel_from_working(open_session: Opened) -> None:
    session, channel = open_session()
    channel.keeps = False
    heard = Counting()
    yes = "yes & yes >&2"
    session.run([Command(1, yes, timeout=0.3, ignore=True), Command(2, "echo on")], heard)
    assert heard.endings[1].how is How.TIMED_OUT
    assert heard.count[2, "stdout"] == 3

    class Cancelling(Counting):
        def output(self, step: int, stream: str, data: bytes) -> None:
            super().output(step, stream, data)
            if self.count[step, stream] > 1_000_000:
                session.cancel()

    heard = Cancelling()
    session.run([Command(3, yes), Command(4, "echo no")], heard)
    assert heard.endings == {3: Ending(How.ENDED, failed=True)}


def test_full_pipe_left_non_blocking_loses_no_marker(open_session: Opened) -> None:
    session, _ = open_session()
    filled = threading.Event()

    class Slow(Heard):
        def output(self, step: int, stream: str, data: bytes) -> None:
            super().output(step, stream, data)
            if step == 1 and not filled.is_set() and b"\n" in data:
                filled.set()
                pid = int(self.out(1).split()[0])
                until(lambda: any(b"sleep\0.1" in words for _, words in children(pid)), "a retry")

    fill = "import os\nos.set_blocking(1, False)\ntry:\n while True: os.write(1, b'x' * 65536)\n"
    fill += "except BlockingIOError: pass"
    heard = Slow()
    text = f'echo $PPID\nexec python3 -c "{fill}"'
    session.run([Command(1, text), Command(2, "echo on")], heard)
    assert heard.endings[1].how is How.DONE
    assert heard.out(2) == b"on\n"
