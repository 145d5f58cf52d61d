"""Many logins at one address: all succeed, although the server refuses many at first."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.transports import TransportRegistry
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.ssh.handshake_limiter import HandshakeLimiter
from tests.sshd import SshdServer, serve_sshd, wait_until
from tests.support.shell_talk import ask_shell

CROWD = 40


@pytest.mark.parametrize("startups", ["2:30:10", "4:100:4", "1:100:1", "10:30:100"])
def test_forty_hosts_at_one_address_all_get_in(
    tmp_path: Path, connector: TransportRegistry, startups: str
) -> None:
    with serve_sshd(tmp_path / "sshd", [f"MaxStartups {startups}"]) as sshd:

        def run(number: int) -> bytes:
            connection = connector.connect(sshd.inventory_host())
            try:
                return ask_shell(connection, f"echo {number}").stdout
            finally:
                connection.close()

        with ThreadPoolExecutor(CROWD) as pool:
            outputs = list(pool.map(run, range(CROWD)))
    assert outputs == [f"{number}\n".encode() for number in range(CROWD)]


def test_a_server_that_always_hangs_up_is_tried_as_often_as_was_said(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    with ExitStack() as stack:
        sshd = stack.enter_context(serve_sshd(tmp_path / "sshd", ["MaxStartups 1:100:1"]))
        wait_until(lambda: _starts_up(sshd, stack), "a stranger to be the one that may start up")
        before = sshd.log().count("drop connection")
        with pytest.raises(ConnectError) as caught:
            connector.connect(sshd.inventory_host(connect=sshd.connect_options(retries=3)))
        assert caught.value.phase == "banner"
        wait_until(lambda: sshd.log().count("drop connection") >= before + 4, "four attempts")
        assert sshd.log().count("drop connection") == before + 4


def test_sixty_addresses_of_one_server_all_get_in(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    """The server accepts two at a time, and each address is a host of its own."""
    with serve_sshd(tmp_path / "sshd", ["MaxStartups 2:30:10"]) as sshd:

        def run(number: int) -> bytes:
            connection = connector.connect(sshd.inventory_host(f"127.8.1.{number}"))
            try:
                return ask_shell(connection, f"echo {number}").stdout
            finally:
                connection.close()

        with ThreadPoolExecutor(60) as pool:
            outputs = list(pool.map(run, range(1, 61)))
        assert sshd.log().count("drop connection") > 2
    assert outputs == [f"{number}\n".encode() for number in range(1, 61)]


def test_servers_that_all_hang_up_are_each_tried_as_often_as_was_said(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    """They are not retried until the timeout: if no login succeeds, the number is not the cause."""
    hosts, knocks = 20, 0

    def slam(listener: socket.socket) -> None:
        nonlocal knocks
        with suppress(OSError):  # the listener is closed
            while True:
                listener.accept()[0].close()
                knocks += 1

    with closing(socket.create_server(("0.0.0.0", 0), backlog=100)) as listener:
        thread = threading.Thread(target=slam, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]

        def fail(number: int) -> ConnectError:
            connect = replace(
                sshd.connect_options(f"127.8.2.{number}", retries=2, timeout=60), port=port
            )
            with pytest.raises(ConnectError) as caught:
                connector.connect(sshd.inventory_host(connect=connect))
            return caught.value

        with ThreadPoolExecutor(hosts) as pool:
            errors = list(pool.map(fail, range(1, hosts + 1)))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert {error.phase for error in errors} == {"banner"}
    assert 3 * hosts <= knocks < 20 * hosts, knocks


def _starts_up(sshd: SshdServer, stack: ExitStack) -> bool:
    stranger = stack.enter_context(socket.create_connection(("127.0.0.1", sshd.port)))
    return stranger.recv(4) == b"SSH-"


def wait_times(
    pacing: HandshakeLimiter, address: str, deadline: Deadline, inside: Callable[[], object]
) -> None:
    with pacing.slot((address, 22), deadline):
        inside()


def test_one_address_has_its_limit_and_others_do_not_wait_for_it() -> None:
    stop = threading.Event()
    pacing, deadline = HandshakeLimiter(2), Deadline(60, stop)
    gate, inside, most, lock = threading.Event(), 0, 0, threading.Lock()

    def stay() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        gate.wait()
        with lock:
            inside -= 1

    with ThreadPoolExecutor(20) as pool:
        crowd = [pool.submit(wait_times, pacing, "a", deadline, stay) for _ in range(10)]
        wait_until(lambda: inside == 2, "two to be inside")
        others = [
            pool.submit(wait_times, pacing, f"b{n}", deadline, lambda: None) for n in range(9)
        ]
        for other in others:
            other.result(20)
        assert not any(one.done() for one in crowd)
        gate.set()
        for one in crowd:
            one.result(20)
    assert most == 2


def test_the_wait_for_a_turn_does_not_count_against_the_timeout() -> None:
    pacing, stop = HandshakeLimiter(1), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with pacing.slot(("a", 22), Deadline(60, stop)):
            second = Deadline(60, stop)
            end = second.end
            waiting = pool.submit(wait_times, pacing, "a", second, lambda: None)
            wait_until(lambda: pacing._limits["a", 22].queue, "the other to wait")
            since = time.monotonic()
            wait_until(lambda: time.monotonic() > since + 0.05, "some time to pass")
        waiting.result(20)
    assert second.end >= end + 0.05


def test_a_cancelled_run_waits_for_no_turn() -> None:
    pacing, stop = HandshakeLimiter(1), threading.Event()
    with ThreadPoolExecutor(1) as pool, pacing.slot(("a", 22), Deadline(60, stop)):
        waiting = pool.submit(wait_times, pacing, "a", Deadline(60, stop), lambda: None)
        wait_until(lambda: pacing._limits["a", 22].queue, "the other to wait")
        stop.set()
        pacing.wake_waiting()
        with pytest.raises(CancelledError):
            waiting.result(20)
    with pacing.slot(("a", 22), Deadline(60, threading.Event())):
        pass


def test_drops_lower_the_limit_to_one_and_successes_raise_it_again() -> None:
    pacing, deadline = HandshakeLimiter(8), Deadline(60, threading.Event())
    for _ in range(5):
        with pacing.slot(("a", 22), deadline) as turn:
            turn.was_dropped = True
    assert pacing._limits["a", 22].limit == 1
    for _ in range(100):
        with pacing.slot(("a", 22), deadline):
            pass
    assert pacing._limits["a", 22].limit == 8
