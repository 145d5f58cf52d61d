"""``get_url``: fetched with whatever the host has, verified, in place at once or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host_tools import leave_only
from tests.support.machine import ODD_NAME_CASES, ShellMachine
from tests.support.web_server import WebAnswer, WebServer, serve_web

BODY = b"one\0two\xff\nthree"
CHECKSUM = "sha256:" + hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serve_web() as web:
        web.pages["/file"] = WebAnswer(BODY)
        yield web


@pytest.fixture(params=["curl", "wget", "busybox wget"])
def fetching(request: pytest.FixtureRequest, machine: ShellMachine) -> ShellMachine:
    """Return a host with one download tool."""
    if request.param == "busybox wget":
        leave_only(machine, busybox=("wget",))
    else:
        leave_only(machine, request.param)
    return machine


def file_names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_is_fetched_once(fetching: ShellMachine, web: WebServer) -> None:
    path = fetching.root / "file"
    outcome = fetching.check_then_run(
        {"get_url": {"url": web.url("/file"), "path": str(path)}}, "changed"
    )
    assert path.read_bytes() == BODY
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("state", None, "file")]
    assert len(web.requests) == 1
    assert file_names(fetching.root) == ["file"]


def test_with_a_checksum_what_has_it_is_kept(fetching: ShellMachine, web: WebServer) -> None:
    path = fetching.root / "file"
    step = {"get_url": {"url": web.url("/file"), "path": str(path), "checksum": CHECKSUM.upper()}}
    path.write_bytes(b"other")
    outcome = fetching.check_then_run(step, "changed")
    before = "sha256:" + hashlib.sha256(b"other").hexdigest()
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("checksum", before, CHECKSUM)]
    assert path.read_bytes() == BODY
    assert len(web.requests) == 1


def test_what_has_another_checksum_is_not_kept(fetching: ShellMachine, web: WebServer) -> None:
    path = fetching.root / "file"
    path.write_bytes(b"old")
    step = {"url": web.url("/file"), "path": str(path), "checksum": "sha256:" + 64 * "0"}
    outcome = fetching.check_then_run({"get_url": step}, "failed")
    assert f"the download has the checksum {CHECKSUM}, expected sha256:0000" in outcome.stderr.text
    assert path.read_bytes() == b"old"
    assert file_names(fetching.root) == ["file"]


@pytest.mark.parametrize(
    "answer",
    [WebAnswer(b"gone", 404), WebAnswer(b"broken", 500), WebAnswer(b"cut", claimed_length=1000)],
)
def test_what_fails_leaves_what_was_there(
    fetching: ShellMachine, web: WebServer, answer: WebAnswer
) -> None:
    web.pages["/file"] = answer
    path = fetching.root / "file"
    path.write_bytes(b"old")
    params = {"url": web.url("/file"), "path": str(path), "checksum": CHECKSUM}
    outcome = fetching.check_then_run({"get_url": params}, "failed")
    assert "its fix failed" in outcome.reason
    assert outcome.stderr.text
    assert path.read_bytes() == b"old"
    assert file_names(fetching.root) == ["file"]


def test_without_a_checksum_a_file_is_kept(machine: ShellMachine, web: WebServer) -> None:
    path = machine.root / "file"
    path.write_bytes(b"mine")
    machine.check_then_run({"get_url": {"url": web.url("/file"), "path": str(path)}}, "ok")
    assert path.read_bytes() == b"mine"
    assert web.requests == []


def test_force_compares_with_what_is_served(fetching: ShellMachine, web: WebServer) -> None:
    path = fetching.root / "file"
    path.write_bytes(b"mine")
    step = {"get_url": {"url": web.url("/file"), "path": str(path), "force": True}}
    outcome = fetching.check_then_run(step, "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [("contents", "different")]
    assert path.read_bytes() == BODY
    web.pages["/file"] = WebAnswer(b"", 500)
    assert fetching.run_step(step).status == "failed"
    assert path.read_bytes() == BODY


def test_force_fetches_what_is_not_there(fetching: ShellMachine, web: WebServer) -> None:
    path = fetching.root / "file"
    fetching.check_then_run(
        {"get_url": {"url": web.url("/file"), "path": str(path), "force": True}}, "changed"
    )
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_any_name_is_written(machine: ShellMachine, web: WebServer, name: str) -> None:
    path = machine.root / name
    machine.check_then_run({"get_url": {"url": web.url("/file"), "path": str(path)}}, "changed")
    assert path.read_bytes() == BODY


def test_mode_and_owner_are_set_and_kept(machine: ShellMachine, web: WebServer) -> None:
    path = machine.root / "file"
    step = {"url": web.url("/file"), "path": str(path), "checksum": CHECKSUM, "mode": "0600"}
    machine.check_then_run({"get_url": {**step, "owner": "daemon"}}, "changed")
    assert (path.stat().st_mode & 0o7777, path.stat().st_uid) == (0o600, 1)
    outcome = machine.check_then_run({"get_url": {**step, "mode": "0640", "group": "1"}}, "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("mode", "0600", "0640"),
        ("group", "0", "1"),
    ]
    assert len(web.requests) == 1
    path.write_bytes(b"changed")
    del step["mode"]
    machine.check_then_run({"get_url": step}, "changed")
    assert (path.stat().st_mode & 0o7777, path.stat().st_uid) == (0o640, 1)


def test_a_link_is_followed_and_stays(machine: ShellMachine, web: WebServer) -> None:
    (machine.root / "real").mkdir()
    (machine.root / "real" / "file").write_bytes(b"old")
    link = machine.root / "link"
    link.symlink_to("real/file")
    step = {"url": web.url("/file"), "path": str(link), "checksum": CHECKSUM}
    machine.check_then_run({"get_url": step}, "changed")
    assert link.is_symlink()
    assert (machine.root / "real" / "file").read_bytes() == BODY
    assert file_names(machine.root / "real") == ["file"]


@pytest.mark.parametrize("kind", ["directory", "dangling"])
def test_what_is_in_the_way_is_told(machine: ShellMachine, web: WebServer, kind: str) -> None:
    path = machine.root / "it"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    outcome = machine.check_then_run(
        {"get_url": {"url": web.url("/file"), "path": str(path)}}, "failed"
    )
    assert {"directory": "is a directory", "dangling": "does not exist"}[
        kind
    ] in outcome.stderr.text
    assert web.requests == []


@pytest.mark.parametrize("sum_", ["md5:abc", "sha256:abc", "sha256:" + "x" * 64, "sha256:"])
def test_other_checksums_are_refused(machine: ShellMachine, web: WebServer, sum_: str) -> None:
    step = {"url": web.url("/file"), "path": str(machine.root / "it"), "checksum": sum_}
    outcome = machine.check_then_run({"get_url": step}, "failed")
    assert "must be sha256: and 64 hex digits" in outcome.stderr.text
    assert web.requests == []


def test_headers_reach_the_server_and_nobody_else(machine: ShellMachine, web: WebServer) -> None:
    observed = machine.root.parent / "seen"
    curl = machine.root.parent / f"{machine.root.name}-tools" / "curl"
    curl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{observed}\nexec /usr/bin/curl "$@"\n')
    curl.chmod(0o755)
    secret = "a \"b\" \\c $(id) 'd'"
    url = web.url("/file").replace("://", "://user:hidden@")
    step = {"url": url, "path": str(machine.root / "it"), "headers": {"X-Token": secret}}
    machine.check_then_run({"get_url": step}, "changed")
    assert web.requests[0][2]["X-Token"] == secret
    assert web.requests[0][2]["Authorization"].startswith("Basic ")
    assert secret not in observed.read_text()
    assert "hidden" not in observed.read_text()


@pytest.mark.parametrize("tool", ["wget", "busybox"])
def test_what_wget_cannot_do_is_said(machine: ShellMachine, web: WebServer, tool: str) -> None:
    leave_only(
        machine, *([tool] if tool == "wget" else []), busybox=() if tool == "wget" else ("wget",)
    )
    step = {"url": web.url("/file"), "path": str(machine.root / "it"), "headers": {"A": "b"}}
    outcome = machine.check_then_run({"get_url": step}, "failed")
    assert "this host has no curl, which headers need" in outcome.stderr.text
    if tool == "busybox":
        step = {"url": "https://127.0.0.1:1/", "path": str(machine.root / "it")}
        outcome = machine.check_then_run({"get_url": step}, "failed")
        assert "does not check certificates" in outcome.stderr.text
        step = {"url": "http://a:b@127.0.0.1:1/", "path": str(machine.root / "it")}
        outcome = machine.check_then_run({"get_url": step}, "failed")
        assert "show the url" in outcome.stderr.text
    assert file_names(machine.root) == []


def test_a_host_without_any_says_so(machine: ShellMachine, web: WebServer) -> None:
    leave_only(machine)
    step = {"url": web.url("/file"), "path": str(machine.root / "it")}
    outcome = machine.check_then_run({"get_url": step}, "failed")
    assert "this host has no curl or wget" in outcome.stderr.text


def test_a_missing_folder_is_foretold_and_made(machine: ShellMachine, web: WebServer) -> None:
    path = machine.root / "a" / "b" / "file"
    machine.check_then_run({"get_url": {"url": web.url("/file"), "path": str(path)}}, "changed")
    assert path.read_bytes() == BODY


def test_any_checksum_and_lists_of_them_are_verified(machine: ShellMachine, web: WebServer) -> None:
    def sum_of(name: str, data: bytes = BODY) -> str:
        return hashlib.new(name, data).hexdigest()

    web.pages["/sums"] = WebAnswer(
        f"{sum_of('sha512', b'x')}  other\n{sum_of('sha512').upper()} *./dir/file\n".encode()
    )
    web.pages["/only"] = WebAnswer(f"{sum_of('md5')}\n".encode())
    for number, checksum in enumerate(
        (
            *(
                f"{name}:{sum_of(name).upper()}"
                for name in ("md5", "sha1", "sha224", "sha384", "sha512")
            ),
            f"sha512:{web.url('/sums')}",
            f"md5:{web.url('/only')}",
        )
    ):
        path = machine.root / f"it{number}"
        step = {"url": web.url("/file?a=b"), "path": str(path), "checksum": checksum}
        web.pages["/file?a=b"] = WebAnswer(BODY)
        machine.check_then_run({"get_url": step}, "changed")
        assert path.read_bytes() == BODY
        path.write_text("changed")
        machine.check_then_run({"get_url": step}, "changed")
        assert path.read_bytes() == BODY
    web.pages["/sums"] = WebAnswer(f"{sum_of('sha512', b'x')}  other\n".encode())
    step = {"url": web.url("/file"), "path": str(machine.root / "no")}
    for checksum, message in (
        (f"sha512:{web.url('/sums')}", "has no checksum for file"),
        (f"md5:{sum_of('md5', b'x')}", "the download has the checksum md5:"),
    ):
        outcome = machine.run_step({"get_url": {**step, "checksum": checksum}})
        assert outcome.status == "failed" and message in outcome.stderr.text
        assert not (machine.root / "no").exists()


def test_a_file_of_the_host_needs_no_tool(machine: ShellMachine) -> None:
    source = machine.root / "-n it's"
    source.write_bytes(BODY)
    step = {"url": f"file://{source}", "path": str(machine.root / "to"), "force": True}
    machine.check_then_run({"get_url": {**step, "checksum": CHECKSUM}}, "changed")
    source.write_text("new")
    machine.check_then_run({"get_url": step}, "changed")
    assert (machine.root / "to").read_text() == "new"
