"""Messages between the coordinator and workers of this machine, over a Unix socket."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.commands.worker_connections import (
    PeerEndedError,
    SocketConnection,
    connect_to_coordinator,
    listen_for_workers,
)


def test_messages_arrive_whole_and_in_order_in_both_directions(tmp_path: Path) -> None:
    with closing(listen_for_workers(None, None, "r", str(tmp_path))) as listener:
        worker = connect_to_coordinator(None, None, listener.address, 3)
        index, coordinator = listener.accept(30)
    assert index == 3
    assert not list(tmp_path.iterdir()), "the socket is removed"
    large = "x" * 5_000_000
    sender = threading.Thread(target=worker.send, args=(("a", large, 1),))
    sender.start()
    assert coordinator.receive(30) == ("a", large, 1)
    sender.join()
    coordinator.send(("b",))
    coordinator.send(("c",))
    assert [*worker.receive(30), *worker.receive(30)] == ["b", "c"]
    assert worker.receive(0) == ()


def test_the_end_of_the_other_process_is_certain_once_all_is_read() -> None:
    ours, theirs = map(SocketConnection, socket.socketpair())
    theirs.send(("last",))
    ours.send(("unread",))
    del theirs
    with pytest.raises(PeerEndedError):
        ours.send(("too late",))
    assert ours.receive(30) == ("last",)
    with pytest.raises(PeerEndedError):
        ours.receive(30)


def test_who_connects_and_says_nothing_is_not_taken_for_a_worker(tmp_path: Path) -> None:
    with closing(listen_for_workers(None, None, "r", str(tmp_path))) as listener:
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(listener.address)
        with pytest.raises(PeerEndedError):
            listener.accept(30)
        with pytest.raises(TimeoutError):
            listener.accept(0.01)
