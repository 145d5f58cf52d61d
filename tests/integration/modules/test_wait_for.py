"""``wait_for``: ports, paths and lines, seen by whatever the host has."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.host_tools import leave_only
from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message

TOOLS = ["perl", "python3", "bash", "bash alone", "nc", "busybox nc", "curl"]


@pytest.fixture(params=TOOLS)
def knocking(request: pytest.FixtureRequest, machine: ShellMachine) -> ShellMachine:
    """Return a host with one tool for connections."""
    match request.param:
        case "busybox nc":
            leave_only(machine, busybox=("nc",))
        case "bash alone":
            leave_only(machine, "bash")
        case "python3":
            leave_only(machine)
            tool = Path(machine.environment["PATH"]) / "python3"
            tool.symlink_to("/usr/bin/python3" if Path("/usr/bin/python3").exists() else python())
        case tool:
            leave_only(machine, tool, "timeout")
    return machine


def python() -> str:
    import sys

    return str(Path(sys.executable).resolve())


@contextmanager
def bound_port(*, listening: bool) -> Iterator[int]:
    """Return an unused port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if listening:
            sock.listen(50)
        yield sock.getsockname()[1]


def wait_for_step(**params: Any) -> dict[str, Any]:
    return {"wait_for": {"within": "0", **params}}


def test_an_open_port_is_seen(knocking: ShellMachine) -> None:
    with bound_port(listening=True) as port:
        knocking.check_then_run(wait_for_step(port=port, timeout=1), "ok")
        outcome = knocking.check_then_run(
            wait_for_step(port=port, timeout=1, state="stopped"), "failed"
        )
    assert outcome.reason == "port is 'open', expected 'closed'", result_message(outcome)


def test_a_closed_port_is_seen(knocking: ShellMachine) -> None:
    with bound_port(listening=False) as port:
        knocking.check_then_run(wait_for_step(port=port, state="stopped"), "ok")
        outcome = knocking.check_then_run(wait_for_step(port=port, state="started"), "failed")
    assert outcome.reason == "port is 'closed', expected 'open'", result_message(outcome)


def test_a_port_that_opens_is_waited_for(machine: ShellMachine) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        timer = threading.Timer(0.5, sock.listen)
        timer.start()
        outcome = machine.run_step(wait_for_step(port=sock.getsockname()[1], within="1m"))
        timer.join()
    assert outcome.status == "ok", result_message(outcome)


def test_a_name_that_is_none_is_not_taken_for_a_closed_port(machine: ShellMachine) -> None:
    outcome = machine.run_step(wait_for_step(port=1, address="no such host", state="stopped"))
    assert outcome.status == "failed"
    assert "no such host" in outcome.stderr.text


@pytest.mark.parametrize("name", ["$(id)", "-z", "a b'\"", "x;id"])
def test_odd_hosts_are_harmless(machine: ShellMachine, name: str) -> None:
    outcome = machine.run_step(wait_for_step(port=1, address=name))
    assert outcome.status == "failed"
    assert "uid=" not in result_message(outcome)


def test_a_host_that_cannot_connect_says_so_at_once(machine: ShellMachine) -> None:
    leave_only(machine)
    outcome = machine.run_step(wait_for_step(port=1, within="20s"))
    assert "this host has no perl, python3, bash, nc or curl" in outcome.stderr.text


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_paths_are_seen(machine: ShellMachine, name: str) -> None:
    path = machine.root / name
    machine.check_then_run(wait_for_step(path=str(path), state="absent"), "ok")
    outcome = machine.check_then_run(wait_for_step(path=str(path)), "failed")
    assert outcome.reason == "path is 'absent', expected 'present'"
    path.symlink_to("nowhere")
    machine.check_then_run(wait_for_step(path=str(path)), "ok")


def test_a_path_that_comes_is_waited_for(machine: ShellMachine) -> None:
    path = machine.root / "pid"
    timer = threading.Timer(0.5, path.touch)
    timer.start()
    assert machine.run_step(wait_for_step(path=str(path), within="1m")).status == "ok"
    timer.join()


@pytest.mark.parametrize("name", ["log", "-n", "a\nb", "$(id) it's"])
def test_lines_are_found_in_any_file(machine: ShellMachine, name: str) -> None:
    path = machine.root / name
    expected = wait_for_step(path=str(path), line=r"^Listening on [^ ]+:[0-9]+$")
    outcome = machine.check_then_run(expected, "failed")
    assert outcome.reason == "line is 'absent', expected 'present'"
    path.write_bytes(b"\xff\n-Listening on x:1\n")
    machine.check_then_run(expected, "failed")
    path.write_bytes(b"\xff\nListening on :::80\n")
    machine.check_then_run(expected, "ok")
    machine.check_then_run(wait_for_step(path=str(path), line="[0-9]{3}", state="absent"), "ok")


@pytest.mark.parametrize("regex", ["-x", "it's", "$(id)", "ü+", r"\$\(id\)", "a b"])
def test_odd_expressions_are_expressions(machine: ShellMachine, regex: str) -> None:
    path = machine.root / "log"
    path.write_text("-x it's $(id) üü a b\n")
    machine.check_then_run(
        wait_for_step(path=str(path), line=regex), "failed" if regex == "$(id)" else "ok"
    )


def test_a_broken_expression_is_told_at_once(machine: ShellMachine) -> None:
    path = machine.root / "log"
    path.write_text("x\n")
    outcome = machine.run_step(wait_for_step(path=str(path), line="a(", within="20s"))
    assert "its probe failed: exit status 64" in outcome.reason
    assert outcome.stderr.text


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "give `port` or `path`"),
        ({"port": 1, "path": "/x"}, "use two steps to wait for both"),
        ({"line": "x"}, "give `port` or `path`"),
        ({"line": "x", "port": 1}, "a line needs a path"),
        ({"path": "/x", "state": "drained"}, "`drained` needs a port"),
        ({"port": 1, "state": "drained", "address": "x"}, "needs an IPv4 address"),
    ],
)
def test_what_makes_no_sense_is_told_at_once(
    machine: ShellMachine, params: dict[str, Any], message: str
) -> None:
    outcome = machine.run_step({"wait_for": {"within": "20s", **params}})
    assert message in outcome.stderr.text


def test_it_gives_up_in_time_where_connecting_takes_time(machine: ShellMachine) -> None:
    leave_only(machine, "perl")
    fake = Path(machine.environment["PATH"]) / "perl"
    fake.unlink()
    fake.write_text("#!/bin/sh\nsleep 1; echo Connection refused; exit 1\n")
    fake.chmod(0o755)
    began = time.monotonic()
    outcome = machine.run_step(wait_for_step(port=1, within="2s"))
    assert outcome.reason == "port is 'closed', expected 'open'", result_message(outcome)
    assert time.monotonic() - began < 9  # ten tries at .2 seconds each would be 12


def test_a_check_does_not_wait(machine: ShellMachine) -> None:
    outcome = machine.run_step(
        wait_for_step(path=str(machine.root / "none"), within="20s"), check=True
    )
    assert outcome.status == "unknown"


def test_connections_to_a_port_are_seen(machine: ShellMachine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        drained = {"port": port, "state": "drained"}
        machine.check_then_run(wait_for_step(**drained), "ok")
        with socket.create_connection(("127.0.0.1", port)):
            for address in ("127.0.0.1", "0.0.0.0", "::"):
                outcome = machine.check_then_run(
                    wait_for_step(**drained, address=address, message="it's $(id) busy"), "failed"
                )
                assert outcome.reason == "connections is '1', expected '0'"
                assert outcome.stderr.text.splitlines()[-1] == "it's $(id) busy"
            machine.check_then_run(wait_for_step(**drained, address="127.0.0.2"), "ok")


def test_it_waits_before_it_looks(machine: ShellMachine) -> None:
    began = time.monotonic()
    step = wait_for_step(path="/", delay=1, message="not shown")
    outcome = machine.run_step(step)
    assert outcome.status == "ok"
    assert outcome.stderr.text == ""
    assert time.monotonic() - began > 1
    began = time.monotonic()
    machine.run_step(wait_for_step(path="/", delay=20), check=True)
    assert time.monotonic() - began < 15
