"""A worker that is lost may still send: it does not count, and it may begin nothing."""

from __future__ import annotations

import queue

import pytest

from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool
from orchestrator.executor.worker_hosts import Workers
from orchestrator.executor.worker_messages import (
    CoordinatorAnswer,
    Events,
    Notice,
    WorkerQuestion,
)
from orchestrator.executor.worker_server import (
    SILENCE_SECONDS,
    Coordinator,
    MessageSender,
)
from orchestrator.model.event import RunEvent
from orchestrator.model.host import Host
from orchestrator.remote_shell.channel_protocol import Connection
from tests.support.journal_events import step_started


class RecordingLink:
    """Keeps what is sent to a worker."""

    name = "w"

    def __init__(self) -> None:
        self.sent: queue.SimpleQueue[object] = queue.SimpleQueue()

    def send(self, message: object) -> None:
        self.sent.put(message)


def refuse(*_: object) -> Connection:
    raise AssertionError("nothing is connected")


def no_connection(_host: Host) -> Connection:
    return refuse()


def test_what_a_lost_worker_sends_does_not_count_and_it_may_begin_nothing() -> None:
    link, events = RecordingLink(), list[RunEvent]()
    workers = Workers(
        [link],
        {"a": 0},
        prompt=None,
        fetch_secret=str,
        add_secret=lambda _name, _text: None,
        find_answer=lambda _prompt: (None, ""),
        pack_project=bytes,
        answers={},
    )
    workers.begin(events.append, ConnectionPool({}, no_connection, events.append, CancelToken()))
    workers.receive(0, (Events((step_started("a", 1),)),))
    workers.receive(0, (WorkerQuestion(1, "recorded"),))
    assert link.sent.get(timeout=30) == CoordinatorAnswer(1, True)
    workers.lose(0, "it is silent")
    assert link.sent.get(timeout=30) == Notice("abandon")
    workers.receive(0, (Events((step_started("a", 2),)),))
    workers.receive(0, (WorkerQuestion(2, "recorded"),))
    assert link.sent.get(timeout=30) == CoordinatorAnswer(2, None)
    assert len(events) == 1


def test_what_arrives_after_a_silence_of_more_than_a_lease_comes_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    coordinator = Coordinator(lambda _message: None)
    arriving: queue.SimpleQueue[object] = queue.SimpleQueue()

    def receive(_timeout: float) -> tuple[object, ...]:
        message = arriving.get()
        now[0] += SILENCE_SECONDS + 1 if message == "late" else 1
        return (message,)

    coordinator.start_receiving(receive)
    arriving.put("in time")
    arriving.put("late")
    assert coordinator.inbox.get() == "in time"
    assert coordinator.inbox.get() == Notice("abandon")
    assert coordinator.ask("recorded") is None
    assert "nothing was heard of it" in coordinator.gone_reason


def test_a_sender_that_cannot_send_says_so_once() -> None:
    broken: queue.SimpleQueue[str] = queue.SimpleQueue()

    def fail(_batch: object) -> None:
        raise OSError("the link is gone")

    sender = MessageSender(fail, 0, lambda error: broken.put(str(error)))
    sender.send(1)
    assert broken.get(timeout=30) == "the link is gone"
    sender.send(2)
    sender.close()
    assert broken.empty()
