"""``request``: what is sent to a server, and what of its answer later steps see."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planner.returned_values import parse_values
from tests.integration.modules.test_process_arguments import load_module
from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_refuses
from tests.support.watched_commands import watch_commands
from tests.support.web_server import WebAnswer, WebServer, serve_web

ODD = 'it\'s \\ "x" $(id) %41 ü&=+'


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serve_web() as web:
        web.pages["/"] = WebAnswer(b"hello\n")
        yield web


def request(web: WebServer, path: str = "/", **params: Any) -> dict[str, dict[str, Any]]:
    return {"request": {"url": web.url(path), **params}}


def answer_of(machine: ShellMachine, step: Any) -> dict[str, Any]:
    """Run the step, which must not fail, and return what it registers."""
    outcome = machine.run_step(step)
    assert not outcome.status.is_failure, result_message(outcome)
    module = load_module("request").module
    assert module is not None
    return parse_values(module.returns, outcome.stdout.text)


def test_what_is_asked_is_sent_once_and_in_a_check_as_well(
    machine: ShellMachine, web: WebServer
) -> None:
    machine.check_then_run(request(web), "ok")
    assert [each[:2] for each in web.requests] == [("GET", "/")] * 3
    machine.check_then_run(request(web, method="HEAD"), "ok")
    assert [each[0] for each in web.requests[3:]] == ["HEAD"] * 3


def test_what_may_change_something_is_not_sent_in_a_check(
    machine: ShellMachine, web: WebServer
) -> None:
    step = request(web, method="DELETE")
    outcome = machine.run_step(step, check=True)
    assert (outcome.status, web.requests) == ("would_change", [])
    outcome = machine.run_step(step)
    assert outcome.status == "changed", result_message(outcome)
    change = outcome.changes[0]
    assert (change.key, change.before, change.after) == ("request", None, f"DELETE {web.url()}")
    assert [each[0] for each in web.requests] == ["DELETE"]


def test_an_answer_is_registered(machine: ShellMachine, web: WebServer) -> None:
    value = {"id": 7, "text": f"{ODD}\n\t", "list": [None, 1.5, True]}
    headers = {"Content-Type": "application/problem+json; charset=utf-8", "X-Odd": ODD}
    web.pages["/it"] = WebAnswer(json.dumps(value).encode(), 201, headers)
    found = answer_of(machine, request(web, "/it", method="POST", json=value, status=[200, 201]))
    assert found["code"] == 201
    assert found["json"] == value
    assert json.loads(found["body"]) == value
    odd = found["headers"]["x-odd"].encode("utf-8", "surrogateescape")
    assert odd == ODD.encode("latin-1")
    assert found["headers"]["content-length"] == str(len(json.dumps(value)))
    ((_, _, sent),) = web.requests
    assert sent["Content-Type"] == "application/json"
    assert json.loads(web.bodies[0]) == value
    later = [
        {**request(web, "/it", status=201), "register": "r"},
        {"run": "echo {{ r.code }} {{ r.json.id }} {{ r.headers['x-odd'] | length > 3 }}"},
    ]
    assert machine.run_steps(later).outcomes[1].stdout.text == "201 7 true"


@pytest.mark.parametrize("body", [b"", b"\n\n", b"a\0b\xff%\r\n", b"x" * 300_000])
def test_a_body_is_what_the_server_sends(
    machine: ShellMachine, web: WebServer, body: bytes
) -> None:
    web.pages["/"] = WebAnswer(body)
    found = answer_of(machine, request(web))
    assert found["body"].encode("utf-8", "surrogateescape") == body
    assert found["json"] is None


def test_a_long_body_is_left_out(machine: ShellMachine, web: WebServer) -> None:
    web.pages["/"] = WebAnswer(b"x" * (1 << 20) + b"x")
    found = answer_of(machine, request(web, contains="xxx"))
    assert (found["code"], found["body"]) == (200, None)


def test_what_is_sent_is_what_is_given(machine: ShellMachine, web: WebServer) -> None:
    source = machine.root.parent / "body"
    source.write_bytes(b"\0\xff" * 40_000)
    headers = {"X-Odd": ODD, "X-Empty": "", "content-type": "text/x"}
    for params in (
        {"method": "PUT", "body": f"{ODD}\n", "headers": headers},
        {"method": "POST", "form": {"a": ODD, "b c": 1}},
        {"method": "PATCH", "src": str(source)},
        {"method": "POST"},
        {"method": "GET", "json": ["x"]},
    ):
        answer_of(machine, request(web, **params))
    assert [each[0] for each in web.requests] == ["PUT", "POST", "PATCH", "POST", "GET"]
    sent = web.requests[0][2]
    assert sent["X-Odd"].encode("latin-1").decode() == ODD
    assert (sent["X-Empty"], sent["content-type"]) == ("", "text/x")
    assert web.requests[1][2]["Content-Type"] == "application/x-www-form-urlencoded"
    assert web.bodies == [
        f"{ODD}\n".encode(),
        b"a=it%27s+%5C+%22x%22+%24%28id%29+%2541+%C3%BC%26%3D%2B&b+c=1",
        source.read_bytes(),
        b"",
        b'["x"]',
    ]


@pytest.mark.parametrize("force", [False, True])
def test_a_user_logs_in(machine: ShellMachine, web: WebServer, force: bool) -> None:
    web.login = f"ann:{ODD}"
    step = request(web, method="POST", body="it", user="ann", password=ODD, force_basic_auth=force)
    assert answer_of(machine, step)["body"] == "hello\n"
    assert len(web.requests) == (1 if force else 2)
    assert web.bodies[-1] == b"it"
    step["request"]["password"] = "other"
    assert "the server answered 401, expected 200" in machine.run_step(step).stderr.text


def test_redirects_are_followed_as_asked(machine: ShellMachine, web: WebServer) -> None:
    web.pages["/old"] = WebAnswer(b"", 302, {"Location": "/"})
    assert answer_of(machine, request(web, "/old"))["code"] == 200
    found = answer_of(machine, request(web, "/old", redirects="none", status=302))
    assert found["headers"]["location"] == "/"
    assert answer_of(machine, request(web, "/old", method="POST", status=302))["code"] == 302
    assert answer_of(machine, request(web, "/old", method="POST", redirects="all"))["code"] == 200
    assert [each[0] for each in web.requests[-2:]] == ["POST", "GET"]


def test_another_answer_fails_and_is_registered(machine: ShellMachine, web: WebServer) -> None:
    outcome = check_refuses(machine, request(web, "/none"), "the server answered 404, expected 200")
    assert "no such page" in outcome.stderr.text
    step = request(web, status=["201", 204])
    check_refuses(machine, step, "the server answered 200, expected 201 or 204")
    check_refuses(machine, request(web, contains=ODD), f"the answer does not contain '{ODD}'")
    tolerant = [
        {**request(web, "/none", method="POST"), "register": "r", "ignore_errors": True},
        {"run": "echo {{ r.code }} {{ r.failed }}"},
    ]
    assert machine.run_steps(tolerant).outcomes[1].stdout.text == "404 true"


def test_a_request_is_repeated_until_the_answer_is_right(
    machine: ShellMachine, web: WebServer
) -> None:
    kind = {"Content-Type": "application/json"}
    replies = [WebAnswer(b"{}", 503), WebAnswer(b"{", 200, kind), WebAnswer(b"[1]", 200, kind)]
    web.pages["/up"] = replies
    step = {**request(web, "/up", status=[200, 503]), "register": "r", "retries": 3, "delay": 0}
    done = machine.run_step({**step, "until": "result.code == 200"})
    assert (done.status, done.attempts) == ("ok", 2), result_message(done)
    assert answer_of(machine, request(web, "/up"))["json"] == [1]


def test_nothing_is_sent_if_a_path_exists_or_not(machine: ShellMachine, web: WebServer) -> None:
    path = machine.root / "it"
    step = request(web, method="POST", creates=str(path), removes=str(path))
    machine.check_then_run(step, "ok")
    path.touch()
    machine.check_then_run(step, "ok")
    assert web.requests == []
    assert answer_of(machine, step)["code"] is None


def test_what_cannot_be_asked_is_refused(machine: ShellMachine, web: WebServer) -> None:
    check_refuses(machine, request(web, body="a", form={"a": 1}), "give only one of")
    check_refuses(machine, request(web, form={"a": ["1"]}), "a field must be a text or a number")
    check_refuses(machine, {"request": {"url": "file:///etc/passwd"}}, "must begin with http")
    for odd in ("a\nb", "a\rb"):
        check_refuses(machine, request(web, headers={"X": f"{odd}: c"}), "a newline in header")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        check_refuses(machine, {"request": {"url": url}}, "onnect")
    leave_only(machine)
    check_refuses(machine, request(web), "this host has no curl")


def test_a_socket_of_the_host_is_asked(machine: ShellMachine, web: WebServer) -> None:
    path = machine.root / "none"
    check_refuses(machine, request(web, unix_socket=str(path)), "onnect")
    assert web.requests == []


def test_nobody_sees_what_a_server_is_asked(
    machine: ShellMachine, web: WebServer, tmp_path: Path
) -> None:
    given = {
        "body": "c5rqbody",
        "headers": {"X": "c5rqheader"},
        "user": "c5rquser",
        "password": "c5rqpassword",
        "contains": "c5rqcontains",
        "method": "POST",
    }
    web.pages["/?c5rqurl"] = WebAnswer(b"c5rqcontains")
    with watch_commands(machine, tmp_path / "watched", ["c5rq"]) as watched:
        answer_of(machine, request(web, "/?c5rqurl", **given))
        for each in ("json", "form"):
            value = {"a": f"c5rq{each}"}
            answer_of(machine, request(web, "/?c5rqurl", method="POST", **{each: value}))
        machine.run_step(request(web, "/?c5rqurl", status="c5rqstatus"))
        assert any(word.endswith("/curl") for word in watched.all_words)
        assert not watched.exposures("c5rq")
