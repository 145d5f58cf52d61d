"""``copy`` and ``template``: bytes that get there whole, at once, and only if they are wanted."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from tests.library.files import (
    WITHOUT_POWERS,
    build,
    changes,
    listed,
    mode,
    nothing_left_in,
    odd_names,
    refuses,
)
from tests.library.machine import Machine, told
from tests.library.tools import only

LIMIT = 32 * 1024
"""What is longer is sent beside the command."""

BYTES = {
    "nothing": b"",
    "a NUL": b"\0",
    "NULs among digits and escapes": b"a\0001\\0\\n\\\\%s\0\n",
    "every byte": bytes(range(256)) * 3,
    "no end of line": b"a\nb",
    "ends of lines only": b"\n\n\n",
    "CRLF": b"a\r\nb\r\n",
    "no UTF-8": b"\xff\xfe \xc3\x28 \xed\xa0\x80 \x01\x7f'\"$(id)`id`\n",
    "just below the limit": b"x" * (LIMIT - 1),
    "the limit": b"\n" * LIMIT,
    "just above the limit": b"y" * LIMIT + b"\n",
    "a megabyte": random.Random(4).randbytes(1 << 20),
}


def source(machine: Machine, data: bytes, name: str = "source") -> str:
    path = machine.root.parent / name
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("what", BYTES)
def test_bytes_arrive_as_they_are(machine: Machine, what: str) -> None:
    path, data = machine.root / "it", BYTES[what]
    step = {"copy": {"path": str(path), "src": source(machine, data)}}
    with nothing_left_in(machine.root.parent / "tmp", machine):
        outcome = machine.sees(step, "changed")
        assert path.read_bytes() == data
        assert changes(outcome) == {"contents": (None, "as given")}
        changed = data[:-1] + (b"?" if data[-1:] != b"?" else b"!") if data else b"?"
        path.write_bytes(changed)
        path.chmod(0o640)
        outcome = machine.sees(step, "changed")
        assert changes(outcome) == {"contents": ("different", "as given")}
    assert (path.read_bytes(), mode(path)) == (data, "0640")
    assert listed(machine.root) == ["it"]


def test_files_of_any_name_are_written(machine: Machine) -> None:
    def step(path: Path) -> object:
        content = f"{path.name}\n"
        return {
            "copy": {"path": str(path), "content": content, "mode": "0600", "validate": "cat %s"}
        }

    for path in odd_names(machine, step):
        assert path.read_text() == f"{path.name}\n"


@pytest.mark.parametrize("content", ["", "a", "a\n", "\n", "%s\\n\\0", "'\"$(id)`id`", "ü\r\n"])
def test_a_text_is_written_byte_for_byte(machine: Machine, content: str) -> None:
    path = machine.root / "it"
    machine.sees({"copy": {"path": "~/it", "content": content}}, "changed")
    assert (machine.home / "it").read_bytes() == content.encode()
    assert not path.exists()


def test_the_old_file_is_replaced_and_not_written_into(machine: Machine) -> None:
    build(machine.root, {"it": "old", "d": "/", "link": ">d/../it"})
    path = machine.root / "it"
    os.chown(path, 7, 8)
    path.chmod(0o4751)
    inode = path.stat().st_ino
    with path.open() as reader:
        machine.sees({"copy": {"path": str(machine.root / "link"), "content": "new"}}, "changed")
        assert reader.read() == "old"
    at = path.stat()
    assert (at.st_uid, at.st_gid, mode(path), path.read_text()) == (7, 8, "4751", "new")
    assert at.st_ino != inode
    assert (machine.root / "link").is_symlink()
    assert listed(machine.root) == ["d", "it", "link"]


def test_attributes_are_set_with_the_contents_and_alone(machine: Machine) -> None:
    path = machine.root / "a" / "it"
    step = {"path": str(path), "content": "x", "mode": "0600", "owner": "daemon", "group": 77}
    outcome = machine.sees({"copy": step}, "changed")
    assert list(changes(outcome)) == ["contents", "mode", "owner", "group"]
    at = path.stat()
    assert (at.st_uid, at.st_gid, mode(path)) == (1, 77, "0600")
    outcome = machine.sees({"copy": {**step, "mode": "0444", "owner": 0}}, "changed")
    assert changes(outcome) == {"mode": ("0600", "0444"), "owner": ("1", "0")}
    assert path.stat().st_ino == at.st_ino


def test_a_secret_is_never_for_others_to_read_on_its_way(machine: Machine) -> None:
    seen = machine.root / "seen"
    tools = machine.root.parent / f"{machine.root.name}-tools"
    for name in ("chmod", "chown", "mv"):
        real = f"busybox {name}" if machine.shell == "busybox" else f"/bin/{name}"
        (tools / name).unlink(missing_ok=True)
        look = f'ls -ln "{machine.root}"/.orch* >>"{seen}"'
        (tools / name).write_text(f'#!/bin/dash\n{look}\nexec {real} "$@"\n')
        (tools / name).chmod(0o755)
    step = {"path": str(machine.root / "it"), "content": "x", "mode": "0640", "owner": "daemon"}
    assert machine.one({"copy": step}).status == "changed"
    looks = [line.split()[:3:2] for line in seen.read_text().splitlines()]
    bits = [(line[:10], owner) for line, owner in looks]
    assert bits == [("-rw-------", "0"), ("-rw-------", "1"), ("-rw-r-----", "1")]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"it": "/"}, "it is a directory"),
        ({"it": ">gone"}, "is a link to gone, which is not there"),
        ({"it": ">d", "d": "/"}, "it is a directory"),
    ],
)
def test_what_is_no_file_is_refused(machine: Machine, start: dict[str, str], said: str) -> None:
    build(machine.root, start)
    refuses(machine, {"copy": {"path": str(machine.root / "it"), "content": "x"}}, said)


@pytest.mark.parametrize("size", [3, LIMIT + 1])
def test_what_is_not_valid_changes_nothing_and_a_check_fails_as_the_run_does(
    machine: Machine, size: int
) -> None:
    path = machine.root / "it.conf"
    path.write_text("old")
    src = source(machine, b"x" * size)
    step = {"path": str(path), "src": src, "validate": "echo no good; wc -c %s '%s'; exit 3"}
    with nothing_left_in(machine.root.parent / "tmp", machine):
        for check in (True, False):
            outcome = machine.one({"copy": step}, check=check)
            assert outcome.status == "failed", told(outcome)
            said = outcome.stderr.text
            assert "no good" in said
            assert "(exit status 3)" in said
            assert len(re.findall(f" *{size} /.*/it.conf\n", said)) == 2
            assert (path.read_text(), listed(machine.root)) == ("old", ["it.conf"])
        valid = {**step, "validate": f"test $(wc -c <%s) -eq {size}"}
        machine.sees({"copy": valid}, "changed")


def test_what_is_in_place_is_not_tried_again(machine: Machine) -> None:
    build(machine.root, {"it": "x"})
    step = {"path": str(machine.root / "it"), "content": "x", "validate": "false %s"}
    machine.sees({"copy": step}, "ok")
    refuses(machine, {"copy": {**step, "content": "y", "validate": "true"}}, "validate needs %s")


@pytest.mark.parametrize("word", ["skip", "say", "bye"])
def test_what_tries_it_is_the_user_s_own_command(machine: Machine, word: str) -> None:
    """And not the function of that name which the session's shell has."""
    step = {"path": str(machine.root / "it"), "content": "x", "validate": f"{word} %s"}
    refuses(machine, {"copy": step}, "not found")


def test_what_is_tried_is_for_its_owner_only(machine: Machine) -> None:
    step = {"path": str(machine.root / "it"), "content": "x", "mode": "0644"}
    refuses(machine, {"copy": {**step, "validate": "ls -l %s; exit 1"}}, "-rw------- ")
    refuses(machine, {"copy": {**step, "validate": "ls -ld $(dirname %s); exit 1"}}, "drwx------ ")


def test_a_backup_is_the_old_file_itself(machine: Machine) -> None:
    path = machine.root / "it"
    step = {"path": str(path), "backup": True}
    machine.sees({"copy": {**step, "content": "first"}}, "changed")
    assert listed(machine.root) == ["it"]
    path.chmod(0o640)
    os.utime(path, (1, 1))
    machine.sees({"copy": {**step, "content": "second"}}, "changed")
    machine.sees({"copy": {**step, "content": "third", "mode": "0600"}}, "changed")
    machine.sees({"copy": {**step, "content": "third", "mode": "0644"}}, "changed")
    kept = [p for p in machine.root.iterdir() if p != path]
    assert sorted(p.read_text() for p in kept) == ["first", "second"]
    assert all(re.fullmatch(r"it\.[0-9]{8}T[0-9]{6}Z\+*~", p.name) for p in kept)
    first = next(p for p in kept if p.read_text() == "first")
    assert (first.stat().st_mtime, mode(first)) == (1, "0640")


def test_a_diff_of_texts_and_of_nothing_else(machine: Machine) -> None:
    path = machine.root / "it"
    path.write_text("same\nold\n")
    outcome = machine.one({"copy": {"path": str(path), "content": "same\nnew"}}, check=True)
    assert outcome.diff.splitlines()[2:] == [
        *("@@ -1,2 +1,2 @@", " same", "-old", "+new", "\\ No newline at end of file")
    ]
    for data, said in ((b"\0", "binary"), (b"x" * (LIMIT + 1), "long")):
        step = {"copy": {"path": str(path), "src": source(machine, data)}}
        assert machine.one(step, check=True).diff == f"{said} contents differ\n"


def test_one_of_src_and_content_is_needed_before_anything_is_done(machine: Machine) -> None:
    for more in ({}, {"src": source(machine, b""), "content": ""}):
        with pytest.raises(Exception, match="needs one of src and content"):
            machine.one({"copy": {"path": "it", **more}})


def test_a_fix_that_fails_leaves_the_old_contents_and_no_other_file(machine: Machine) -> None:
    machine.within = WITHOUT_POWERS
    build(machine.root, {"it": "old"})
    step = {"path": str(machine.root / "it"), "content": "new", "owner": "daemon", "backup": True}
    outcome = machine.one({"copy": step})
    assert (outcome.status, outcome.reason) == ("failed", "its fix failed: exit status 1")
    assert "chown" in outcome.stderr.text
    assert (listed(machine.root), (machine.root / "it").read_text()) == (["it"], "old")
    (machine.root / "it").chmod(0)
    refuses(machine, {"copy": {"path": step["path"], "content": "new"}}, "cannot read")


def test_a_host_without_a_digest_says_what_it_lacks(machine: Machine) -> None:
    build(machine.root, {"it": "x" * (LIMIT + 1)})
    only(machine)
    (Path(machine.environment["PATH"]) / "sha256sum").unlink()
    step = {"copy": {"path": str(machine.root / "it"), "src": source(machine, b"y" * (LIMIT + 1))}}
    refuses(machine, step, "this host has no sha256sum, shasum or openssl")


def test_a_template_keeps_the_ends_of_its_lines(machine: Machine) -> None:
    path, lines = (
        machine.root / "it",
        "{% for i in ['a', 'b'] %}\r\n{{ i }}\r\n{% endfor %}\r\nend\r\n",
    )
    step = {"template": {"path": str(path), "src": "t.conf"}}
    machine.sees(step, "changed", files={"t.conf": lines})
    assert path.read_bytes() == b"a\r\nb\r\nend\r\n"


def test_a_template_is_rendered_for_the_host_and_follows_its_variables(machine: Machine) -> None:
    files = {"t.conf": "{% for n in names %}\nname {{ n }}\n{% endfor %}\n'{{ host.name }}' $x\n"}
    path = machine.root / "it"
    step = {"template": {"path": str(path), "src": "t.conf", "mode": "0600", "backup": True}}
    machine.sees(step, "changed", files=files, variables={"names": ["a", "ü b"]})
    assert path.read_text() == "name a\nname ü b\n'one' $x\n"
    outcome = machine.sees(step, "changed", files=files, variables={"names": ["a"]})
    assert "-name ü b" in outcome.diff
    refused = {"template": {**step["template"], "validate": "! grep -q c %s"}}
    refuses(machine, refused, "not valid", files=files, variables={"names": ["c"]})
    big = {"names": ["n" * 50] * 1000}
    machine.sees(step, "changed", files=files, variables=big)
    assert path.read_text().count("\n") == 1001
    assert len(listed(machine.root)) == 3
