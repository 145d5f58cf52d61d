"""``stat``, ``slurp`` and ``find``: what they return, and that a check knows when it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import check_refuses, without_powers


def returned(machine: ShellMachine, steps: list[Any], *fields: str, check: bool = False) -> Any:
    """Return these fields of the results of the steps, as a template sees them."""
    all_steps = []
    for number, step in enumerate(steps):
        values = ", ".join(f"r{number}.{field}" for field in fields)
        all_steps += [
            {**step, "register": f"r{number}"},
            {"debug": {"msg": f"{{{{ [{values}] | to_json }}}}"}},
        ]
    run = machine.run_steps(all_steps, check=check)
    assert set(run.statuses) == {"ok"}, list(map(result_message, run.outcomes))
    return [json.loads(outcome.stdout.text) for outcome in run.outcomes[1::2]]


def stat_step(path: Path | str, **more: Any) -> dict[str, Any]:
    return {"stat": {"path": str(path), **more}}


def test_stat_tells_the_type_and_the_attributes(machine: ShellMachine) -> None:
    root = machine.root
    (root / "file").write_text("content")
    os.chown(root / "file", 1, 4321)
    (root / "file").chmod(0o4751)
    os.utime(root / "file", (1000, 2000))
    (root / "dir").mkdir()
    (root / "link").symlink_to("file")
    (root / "to dir").symlink_to("dir/")
    (root / "dangling").symlink_to("no/where")
    os.mkfifo(root / "fifo")
    os.link(root / "file", root / "hard")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))
    paths = ["file", "dir", "link", "dangling", "fifo", "socket", "none", "none/below"]
    fields = ("exists", "type", "mode", "uid", "gid", "owner", "group", "size", "mtime", "target")
    sticky = "0755"
    got = returned(machine, [stat_step(root / name) for name in paths], *fields)
    daemon = [True, "file", "4751", 1, 4321, "daemon", None, 7, 2000, None]
    assert got[0] == daemon
    assert got[1][:4] == [True, "directory", sticky, os.getuid()]
    assert got[2][1:3] == ["link", "0777"] and got[2][9] == "file"
    assert got[3][0:2] == [True, "link"] and got[3][9] == "no/where"
    assert [each[1] for each in got[4:6]] == ["fifo", "socket"]
    assert got[6] == got[7] == [False, "absent", *[None] * 8]
    followed = [stat_step(root / name, follow=True) for name in ("link", "dangling")]
    got = returned(machine, followed, *fields)
    assert got == [daemon, [False, "absent", *[None] * 8]]
    fields = ("path", "real_path", "links", "readable", "executable", "checksum", "inode")
    step = stat_step(root / "file", checksum="sha1")
    got = returned(machine, [step, stat_step(root / "to dir"), stat_step("/dev/null")], *fields)
    digest = hashlib.sha1(b"content").hexdigest()
    inode = (root / "file").stat().st_ino
    assert got[0] == [str(root / "file"), None, 2, True, True, digest, inode]
    assert got[1][:2] == [str(root / "to dir"), str(root / "dir")]
    assert got[2][3:6] == [True, False, None]


def test_stat_takes_any_name_and_says_what_it_cannot_see(machine: ShellMachine) -> None:
    names = [*ODD_NAMES, os.fsdecode(b"\xff\xfe")]
    for name in names:
        (machine.root / name).symlink_to(name + "%41\n'")
    fields = ("exists", "path", "target")
    got = returned(machine, [stat_step(machine.root / name) for name in ODD_NAMES], *fields)
    assert got == [[True, str(machine.root / name), name + "%41\n'"] for name in ODD_NAMES]
    closed = machine.root / "closed"
    closed.mkdir()
    closed.chmod(0o600)
    without_powers(machine)
    check_refuses(machine, stat_step(closed / "x"), f"cannot look into {closed}")


def test_a_check_does_not_know_what_an_earlier_step_would_change(machine: ShellMachine) -> None:
    path = machine.root / "new"
    steps = [
        {"copy": {"path": str(path), "content": "x"}},
        {"register": "new", **stat_step(path)},
        {"register": "up", **stat_step(machine.root)},
        {"register": "other", **stat_step(f"{path}er")},
        {"run": "true", "readonly": True, "when": "not new.exists"},
        {"run": "true", "readonly": True, "when": "not other.exists"},
        {"debug": {"msg": "{{ new.mode }}"}},
    ]
    checked = machine.run_steps(steps, check=True)
    unknown = ["unknown", "unknown"]
    assert checked.statuses == ["would_change", *unknown, "ok", "unknown", "ok", "unknown"]
    assert "it depends on 'copy " in checked.outcomes[1].reason
    done = machine.run_steps(steps)
    assert done.statuses == ["changed", "ok", "ok", "ok", "skipped", "ok", "ok"]
    again = machine.run_steps(steps, check=True)
    assert again.statuses == ["ok", "ok", "ok", "ok", "skipped", "ok", "ok"]


def test_fields_that_no_step_returns_are_errors_before_the_run(machine: ShellMachine) -> None:
    for field, hint in (
        ("stat.exists", "write st.exists"),
        ("exist", "exists"),
        ("content", "stdout"),
    ):
        steps = [{"register": "st", **stat_step("/x")}, {"run": "true", "when": f"st.{field}"}]
        with pytest.raises(DefinitionError) as error:
            machine.run_steps(steps)
        shown = f"{error.value} {error.value.diagnostics[0].hint}"
        assert f"'st.{field.split('.')[0]}' is undefined" in shown and hint in shown


def test_results_of_loops_and_of_steps_that_did_not_run(machine: ShellMachine) -> None:
    steps = [
        {"loop": ["/", "/no"], "register": "all", "stat": {"path": "{{ item }}"}},
        {"debug": {"msg": "{{ all.items | map(attribute='exists') | list | to_json }}"}},
        {"register": "gone", "when": "1 > 2", **stat_step("/")},
        {"run": "true", "readonly": True, "when": "gone.exists"},
        {"register": "slow", "until": "result.exists", "retries": 0, **stat_step("/")},
        {"register": "bad", "ignore_errors": True, "slurp": {"path": "/no/such"}},
        {"debug": {"msg": "{{ bad.content is none }}"}},
    ]
    run = machine.run_steps(steps)
    texts = [outcome.stdout.text for outcome in run.outcomes]
    assert texts[2] == "[true, false]" and texts[-1] == "true"
    assert run.statuses[3:6] == ["skipped", "skipped", "ok"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"line\n",
        b"no end",
        b"\n\n100%25 %0A\r\n\n",
        "\ttab ünï 'quoted'\r".encode(),
        b"a\0b\n\0\xff",
        b"\xff\xfe latin\n",
        bytes(range(256)) * 8,
    ],
)
def test_slurp_returns_the_content_byte_for_byte(machine: ShellMachine, content: bytes) -> None:
    source, target = machine.root / "in", machine.root / "out"
    source.write_bytes(content)
    steps = [
        {"register": "got", "slurp": {"path": str(source)}},
        {"debug": {"msg": "{{ got.size }} {{ got.path }}"}},
        *(
            []
            if b"\0" in content
            else [{"copy": {"path": str(target), "content": "{{ got.content }}"}}]
        ),
        {"debug": {"msg": "{{ got.content | hash('sha256') }}"}},
    ]
    run = machine.run_steps(steps)
    assert run.code == 0, list(map(result_message, run.outcomes))
    assert run.outcomes[1].stdout.text == f"{len(content)} {source}"
    assert run.outcomes[-1].stdout.text == hashlib.sha256(content).hexdigest()
    if b"\0" not in content:
        assert target.read_bytes() == content


def test_slurp_refuses_what_is_no_file_or_too_large(machine: ShellMachine) -> None:
    (machine.root / "large").write_bytes(b"x" * 100)
    os.mkfifo(machine.root / "fifo")
    for path, message in (
        (machine.root / "none", "there is no"),
        (machine.root, "is a directory"),
        (machine.root / "fifo", "is not a regular file"),
        (machine.root / "large", "has more than 99 bytes (max_size)"),
    ):
        check_refuses(machine, {"slurp": {"path": str(path), "max_size": 99}}, message)
    (machine.root / "big").write_bytes(os.urandom(300_000))
    run = machine.run_steps(
        [
            {"register": "got", "slurp": {"path": str(machine.root / "big")}},
            {"debug": {"msg": "{{ got.content | length > 200000 }}"}},
        ]
    )
    assert run.outcomes[-1].stdout.text == "true"


def test_the_content_that_a_secret_step_reads_is_masked(machine: ShellMachine) -> None:
    (machine.root / "key").write_text("a % key\nof two lines\n")
    steps = [
        {"register": "key", "secret": True, "slurp": {"path": str(machine.root / "key")}},
        {"run": "printf %s {{ key.content }}", "readonly": True},
    ]
    run = machine.run_steps(steps)
    assert run.outcomes[0].stdout.text == "‹key›"


def found_names(machine: ShellMachine, *steps: dict[str, Any]) -> list[list[str]]:
    got = returned(machine, [{"find": each} for each in steps], "files", "count")
    for files, count in got:
        assert len(files) == count
    return [[file["path"].removeprefix(f"{machine.root}/") for file in files] for files, _ in got]


def test_find_selects_by_name_type_age_size_and_content(machine: ShellMachine) -> None:
    root = machine.root
    for name in (
        "a.log",
        "b.log",
        "c.txt",
        ".hid.log",
        "sub/a.log",
        "sub/deep/z.log",
        ".git/x.log",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}\n" * (100 if name == "b.log" else 1))
    os.utime(root / "a.log", (0, 100_000))
    (root / "l.log").symlink_to("a.log")
    base = {"path": str(root)}
    table: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["a.log", "b.log", "c.txt"]),
        ({"hidden": True}, [".hid.log", "a.log", "b.log", "c.txt"]),
        ({"recurse": True, "pattern": "[az].log"}, ["a.log", "sub/a.log", "sub/deep/z.log"]),
        ({"depth": 2, "pattern": ["[az].log", "c*"]}, ["a.log", "c.txt", "sub/a.log"]),
        ({"recurse": True, "exclude": ["deep", "?.txt"]}, ["a.log", "b.log", "sub/a.log"]),
        ({"type": "directory", "recurse": True}, ["sub", "sub/deep"]),
        ({"type": "link"}, ["l.log"]),
        ({"type": "any"}, ["a.log", "b.log", "c.txt", "l.log", "sub"]),
        ({"age": "1w"}, ["a.log"]),
        ({"age": "-1w"}, ["b.log", "c.txt"]),
        ({"size": "1k"}, ["b.log"]),
        ({"size": "-100"}, ["a.log", "c.txt"]),
        ({"contains": "is (c|[.]hid)", "hidden": True}, [".hid.log", "c.txt"]),
        ({"limit": 2}, ["a.log", "b.log"]),
        (
            {"path": [f"{root}/sub/", f"{root}/none", f"{root}/sub/deep"]},
            ["sub/a.log", "sub/deep/z.log"],
        ),
        ({"path": f"{root}/none"}, []),
    ]
    got = found_names(machine, *({**base, **params} for params, _ in table))
    assert got == [names for _, names in table]
    [[files]] = returned(
        machine, [{"find": {**base, "pattern": "a.*", "checksum": "md5"}}], "files"
    )
    at = (root / "a.log").stat()
    assert files == [
        {
            "path": str(root / "a.log"),
            "type": "file",
            "mode": f"{at.st_mode & 0o7777:04o}",
            "uid": at.st_uid,
            "gid": at.st_gid,
            "size": at.st_size,
            "mtime": 100_000,
            "checksum": hashlib.md5(b"this is a.log\n").hexdigest(),
        }
    ]


def test_find_takes_any_name_and_removes_what_it_found(machine: ShellMachine) -> None:
    for name in ODD_NAMES:
        (machine.root / name).write_text("x")
    folder = machine.home / "-n 'it"
    machine.root.rename(folder)
    machine.root.symlink_to(folder)
    steps = [
        {"register": "old", "find": {"path": str(machine.root)}},
        {"loop": "{{ old.files }}", "file": {"path": "{{ item.path }}", "state": "absent"}},
    ]
    run = machine.run_steps(steps)
    assert run.code == 0, list(map(result_message, run.outcomes))
    assert list(folder.iterdir()) == []


def test_find_refuses_what_it_cannot_tell(machine: ShellMachine) -> None:
    closed = machine.root / "closed"
    closed.mkdir()
    (machine.root / "file").write_text("")
    base = {"path": str(machine.root), "recurse": True}
    for params, message in (
        ({"age": "1x"}, "is not a number with one of the units"),
        ({"size": "m"}, "is not a number with one of the units"),
        ({"size": "1 k; id"}, "is not a number with one of the units"),
        ({"path": str(machine.root / "file")}, "is not a directory"),
    ):
        check_refuses(machine, {"find": {**base, **params}}, message)
    closed.chmod(0)
    without_powers(machine)
    outcome = machine.run_step({"find": base})
    assert outcome.status == "failed" and "closed" in outcome.stderr.text
    closed.chmod(0o700)


def test_a_hundred_files_take_few_processes(machine: ShellMachine) -> None:
    for number in range(450):
        (machine.root / f"{number:03}").write_text("")
    counter = machine.home / "stats"
    tools = Path(machine.environment["PATH"].split(":")[0])
    (tools / "stat").unlink(missing_ok=True)
    script = f'#!/bin/sh\necho x >> {shlex.quote(str(counter))}\nexec /usr/bin/stat "$@"\n'
    (tools / "stat").write_text(script)
    (tools / "stat").chmod(0o755)
    assert len(found_names(machine, {"path": str(machine.root)})[0]) == 450
    assert counter.read_text().count("x") == 3
