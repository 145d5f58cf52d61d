"""``http``: what a server answers, asked with whatever the host has."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.library.machine import Machine, told
from tests.library.tools import only
from tests.library.web import Answer, Web, serving


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture(params=["curl", "wget", "busybox wget"])
def asking(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    """A host with one tool to ask by."""
    if request.param == "busybox wget":
        only(machine, "timeout", busybox=("wget",))
    else:
        only(machine, request.param, "timeout")
    return machine


def test_a_healthy_server_is_ok(asking: Machine, web: Web) -> None:
    web.pages["/health"] = Answer(b"all is well\n")
    asking.sees({"http": {"url": web.url("/health")}}, "ok")
    asking.sees({"http": {"url": web.url("/health"), "contains": "is well"}}, "ok")
    asking.sees({"http": {"url": web.url("/health"), "status": [204, 200]}}, "ok")


def test_what_came_instead_is_told(asking: Machine, web: Web) -> None:
    web.pages["/"] = Answer(b"maintenance")
    outcome = asking.sees({"http": {"url": web.url("/"), "contains": "OK"}}, "failed")
    assert "body is 'maintenance', wanted '…OK…'" in outcome.reason
    outcome = asking.sees({"http": {"url": web.url("/none")}}, "failed")
    assert "status is '404', wanted '200'" in outcome.reason, told(outcome)
    outcome = asking.sees({"http": {"url": web.url("/none"), "status": [200, 204]}}, "failed")
    assert "status is '404', wanted '200 or 204'" in outcome.reason


def test_an_error_can_be_what_is_wanted(asking: Machine, web: Web) -> None:
    asking.sees({"http": {"url": web.url("/none"), "status": 404}}, "ok")


def test_nobody_there_is_told(asking: Machine) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        outcome = asking.sees({"http": {"url": url}}, "failed")
    assert "no answer: " in outcome.reason
    assert "refused" in outcome.reason or "connect" in outcome.reason.lower()
    assert "000" not in outcome.reason


def test_it_waits_until_it_is_so(asking: Machine, web: Web) -> None:
    web.pages["/"] = [Answer(b"", 503), Answer(b"starting"), Answer(b"started")]
    step = {"http": {"url": web.url(), "contains": "started", "within": "1m"}}
    assert asking.one(step).status == "ok"
    assert len(web.asked) == 3


def test_a_check_asks_once(machine: Machine, web: Web) -> None:
    outcome = machine.one({"http": {"url": web.url("/none"), "within": "1m"}}, check=True)
    assert outcome.status == "unknown"
    assert len(web.asked) == 1


def test_the_last_answer_counts_where_it_leads_on(asking: Machine, web: Web) -> None:
    web.pages["/old"] = Answer(b"", 302, {"Location": "/new"})
    web.pages["/new"] = Answer(b"HTTP/1.1 500 in the body\nhere")
    asking.sees({"http": {"url": web.url("/old"), "contains": "here"}}, "ok")


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_redirect_can_be_what_is_wanted(machine: Machine, web: Web, tool: str) -> None:
    only(machine, tool)
    web.pages["/old"] = Answer(b"", 302, {"Location": "/new"})
    step = {"http": {"url": web.url("/old"), "status": 302, "redirects": False}}
    machine.sees(step, "ok")


@pytest.mark.parametrize("tool", ["curl", "wget"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_methods(machine: Machine, web: Web, tool: str, method: str) -> None:
    only(machine, tool)
    web.pages["/"] = Answer(b"x")
    machine.sees({"http": {"url": web.url(), "method": method}}, "ok")
    assert {each[0] for each in web.asked} == {method}


def test_a_method_that_may_change_something_is_refused(machine: Machine, web: Web) -> None:
    with pytest.raises(Exception, match="must be one of GET, HEAD, OPTIONS"):
        machine.one({"http": {"url": web.url(), "method": "POST"}})


def test_headers_and_odd_bodies_arrive_as_they_are(machine: Machine, web: Web) -> None:
    odd = "a \"quoted\" \\back 'it' $(id) `id` %41 *"
    web.pages["/?q=$(id)&b={x}"] = Answer(f"<{odd}\n>".encode() + b"\0\xff")
    step = {
        "http": {
            "url": web.url("/?q=$(id)&b={x}"),
            "headers": {"X-Odd": odd, "Host": "example.org"},
            "contains": f"{odd}\n>",
        }
    }
    machine.sees(step, "ok")
    assert {each[2]["X-Odd"] for each in web.asked} == {odd}
    assert {each[2]["Host"] for each in web.asked} == {"example.org"}


def test_headers_are_in_no_arguments(machine: Machine, web: Web) -> None:
    seen = machine.root / "seen"
    curl = machine.root.parent / f"{machine.root.name}-tools" / "curl"
    curl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{seen}\nexec /usr/bin/curl "$@"\n')
    curl.chmod(0o755)
    web.pages["/?token=hidden1"] = Answer(b"x")
    step = {"http": {"url": web.url("/?token=hidden1"), "headers": {"Authorization": "hidden2"}}}
    assert machine.one(step).status == "ok"
    assert web.asked[0][2]["Authorization"] == "hidden2"
    assert "hidden" not in seen.read_text()


def test_what_wget_cannot_do_is_said(machine: Machine, web: Web) -> None:
    only(machine, "wget")
    outcome = machine.one({"http": {"url": web.url(), "headers": {"A": "b"}, "within": "1m"}})
    assert outcome.status == "failed"
    assert "this host has no curl, which headers need" in outcome.stderr.text
    assert web.asked == []


def test_busybox_checks_no_certificates(machine: Machine) -> None:
    only(machine, busybox=("wget",))
    outcome = machine.one({"http": {"url": "https://127.0.0.1:1/", "within": "1m"}})
    assert "does not check certificates" in outcome.stderr.text


def test_a_host_without_any_says_so(machine: Machine, web: Web) -> None:
    only(machine)
    outcome = machine.one({"http": {"url": web.url(), "within": "1m"}})
    assert "this host has no curl or wget" in outcome.stderr.text


@pytest.mark.parametrize("url", ["file:///etc/passwd", "-v", "example.org", ""])
def test_other_urls_are_refused(machine: Machine, url: str) -> None:
    outcome = machine.one({"http": {"url": url, "within": "1m"}})
    assert outcome.status == "failed"
    assert "must begin with http" in outcome.stderr.text


def test_a_newline_cannot_make_a_header(machine: Machine, web: Web) -> None:
    outcome = machine.one({"http": {"url": web.url(), "headers": {"A": "b\nC: d"}}})
    assert "a newline in header" in outcome.stderr.text
    assert web.asked == []


def test_a_slow_server_is_not_waited_for_without_end(asking: Machine) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        outcome = asking.one({"http": {"url": url, "timeout": 1}})
    assert outcome.status == "failed"
    assert "no answer" in outcome.reason
