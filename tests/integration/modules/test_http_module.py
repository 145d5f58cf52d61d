"""``http``: what a server answers, asked with whatever the host has."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine, result_message
from tests.support.web_server import WebAnswer, WebServer, serve_web


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serve_web() as web:
        yield web


@pytest.fixture(params=["curl", "wget", "busybox wget"])
def asking(request: pytest.FixtureRequest, machine: ShellMachine) -> ShellMachine:
    """Return a host with one HTTP client."""
    if request.param == "busybox wget":
        leave_only(machine, "timeout", busybox=("wget",))
    else:
        leave_only(machine, request.param, "timeout")
    return machine


def test_a_healthy_server_is_ok(asking: ShellMachine, web: WebServer) -> None:
    web.pages["/health"] = WebAnswer(b"all is well\n")
    asking.check_then_run({"http": {"url": web.url("/health")}}, "ok")
    asking.check_then_run({"http": {"url": web.url("/health"), "contains": "is well"}}, "ok")
    asking.check_then_run({"http": {"url": web.url("/health"), "status": [204, 200]}}, "ok")


def test_what_came_instead_is_told(asking: ShellMachine, web: WebServer) -> None:
    web.pages["/"] = WebAnswer(b"maintenance")
    outcome = asking.check_then_run({"http": {"url": web.url("/"), "contains": "OK"}}, "failed")
    assert "body is 'maintenance', expected '…OK…'" in outcome.reason
    outcome = asking.check_then_run({"http": {"url": web.url("/none")}}, "failed")
    assert "status is '404', expected '200'" in outcome.reason, result_message(outcome)
    outcome = asking.check_then_run(
        {"http": {"url": web.url("/none"), "status": [200, 204]}}, "failed"
    )
    assert "status is '404', expected '200 or 204'" in outcome.reason


def test_an_error_can_be_what_is_wanted(asking: ShellMachine, web: WebServer) -> None:
    asking.check_then_run({"http": {"url": web.url("/none"), "status": 404}}, "ok")


def test_nobody_there_is_told(asking: ShellMachine) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        outcome = asking.check_then_run({"http": {"url": url}}, "failed")
    assert "no answer: " in outcome.reason
    assert "refused" in outcome.reason or "connect" in outcome.reason.lower()
    assert "000" not in outcome.reason


def test_it_waits_until_it_is_so(asking: ShellMachine, web: WebServer) -> None:
    web.pages["/"] = [WebAnswer(b"", 503), WebAnswer(b"starting"), WebAnswer(b"started")]
    step = {"http": {"url": web.url(), "contains": "started", "within": "1m"}}
    assert asking.run_step(step).status == "ok"
    assert len(web.requests) == 3


def test_a_check_asks_once(machine: ShellMachine, web: WebServer) -> None:
    outcome = machine.run_step({"http": {"url": web.url("/none"), "within": "1m"}}, check=True)
    assert outcome.status == "unknown"
    assert len(web.requests) == 1


def test_the_last_answer_counts_where_it_leads_on(asking: ShellMachine, web: WebServer) -> None:
    web.pages["/old"] = WebAnswer(b"", 302, {"Location": "/new"})
    web.pages["/new"] = WebAnswer(b"HTTP/1.1 500 in the body\nhere")
    asking.check_then_run({"http": {"url": web.url("/old"), "contains": "here"}}, "ok")


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_redirect_can_be_what_is_wanted(machine: ShellMachine, web: WebServer, tool: str) -> None:
    leave_only(machine, tool)
    web.pages["/old"] = WebAnswer(b"", 302, {"Location": "/new"})
    step = {"http": {"url": web.url("/old"), "status": 302, "redirects": False}}
    machine.check_then_run(step, "ok")


@pytest.mark.parametrize("tool", ["curl", "wget"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_methods(machine: ShellMachine, web: WebServer, tool: str, method: str) -> None:
    leave_only(machine, tool)
    web.pages["/"] = WebAnswer(b"x")
    machine.check_then_run({"http": {"url": web.url(), "method": method}}, "ok")
    assert {each[0] for each in web.requests} == {method}


def test_a_method_that_may_change_something_is_refused(
    machine: ShellMachine, web: WebServer
) -> None:
    with pytest.raises(Exception, match="must be one of GET, HEAD, OPTIONS"):
        machine.run_step({"http": {"url": web.url(), "method": "POST"}})


def test_headers_and_odd_bodies_arrive_as_they_are(machine: ShellMachine, web: WebServer) -> None:
    odd = "a \"quoted\" \\back 'it' $(id) `id` %41 *"
    web.pages["/?q=$(id)&b={x}"] = WebAnswer(f"<{odd}\n>".encode() + b"\0\xff")
    step = {
        "http": {
            "url": web.url("/?q=$(id)&b={x}"),
            "headers": {"X-Odd": odd, "Host": "example.org"},
            "contains": f"{odd}\n>",
        }
    }
    machine.check_then_run(step, "ok")
    assert {each[2]["X-Odd"] for each in web.requests} == {odd}
    assert {each[2]["Host"] for each in web.requests} == {"example.org"}


def test_headers_are_in_no_arguments(machine: ShellMachine, web: WebServer) -> None:
    observed = machine.root / "seen"
    curl = machine.root.parent / f"{machine.root.name}-tools" / "curl"
    curl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{observed}\nexec /usr/bin/curl "$@"\n')
    curl.chmod(0o755)
    web.pages["/?token=hidden1"] = WebAnswer(b"x")
    step = {"http": {"url": web.url("/?token=hidden1"), "headers": {"Authorization": "hidden2"}}}
    assert machine.run_step(step).status == "ok"
    assert web.requests[0][2]["Authorization"] == "hidden2"
    assert "hidden" not in observed.read_text()


def test_what_wget_cannot_do_is_said(machine: ShellMachine, web: WebServer) -> None:
    leave_only(machine, "wget")
    outcome = machine.run_step({"http": {"url": web.url(), "headers": {"A": "b"}, "within": "1m"}})
    assert outcome.status == "failed"
    assert "this host has no curl, which headers need" in outcome.stderr.text
    assert web.requests == []


def test_busybox_checks_no_certificates(machine: ShellMachine) -> None:
    leave_only(machine, busybox=("wget",))
    outcome = machine.run_step({"http": {"url": "https://127.0.0.1:1/", "within": "1m"}})
    assert "does not check certificates" in outcome.stderr.text


def test_a_host_without_any_says_so(machine: ShellMachine, web: WebServer) -> None:
    leave_only(machine)
    outcome = machine.run_step({"http": {"url": web.url(), "within": "1m"}})
    assert "this host has no curl or wget" in outcome.stderr.text


@pytest.mark.parametrize("url", ["file:///etc/passwd", "-v", "example.org", ""])
def test_other_urls_are_refused(machine: ShellMachine, url: str) -> None:
    outcome = machine.run_step({"http": {"url": url, "within": "1m"}})
    assert outcome.status == "failed"
    assert "must begin with http" in outcome.stderr.text


def test_a_newline_cannot_make_a_header(machine: ShellMachine, web: WebServer) -> None:
    outcome = machine.run_step({"http": {"url": web.url(), "headers": {"A": "b\nC: d"}}})
    assert "a newline in header" in outcome.stderr.text
    assert web.requests == []


def test_a_slow_server_is_not_waited_for_without_end(asking: ShellMachine) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        outcome = asking.run_step({"http": {"url": url, "timeout": 1}})
    assert outcome.status == "failed"
    assert "no answer" in outcome.reason
