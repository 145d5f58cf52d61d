"""``copy`` and ``template``: bytes that get there whole, at once, and only if they are wanted."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import (
    WITHOUT_POWERS,
    build_start,
    check_nothing_left,
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)

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


def source_file(machine: ShellMachine, data: bytes, name: str = "source") -> str:
    path = machine.root.parent / name
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("what", BYTES)
def test_bytes_arrive_as_they_are(machine: ShellMachine, what: str) -> None:
    path, data = machine.root / "it", BYTES[what]
    step = {"copy": {"path": str(path), "src": source_file(machine, data)}}
    with check_nothing_left(machine.root.parent / "tmp", machine):
        outcome = machine.check_then_run(step, "changed")
        assert path.read_bytes() == data
        assert outcome_changes(outcome) == {"contents": (None, "as given")}
        changed = data[:-1] + (b"?" if data[-1:] != b"?" else b"!") if data else b"?"
        path.write_bytes(changed)
        path.chmod(0o640)
        outcome = machine.check_then_run(step, "changed")
        assert outcome_changes(outcome) == {"contents": ("different", "as given")}
    assert (path.read_bytes(), file_mode(path)) == (data, "0640")
    assert folder_contents(machine.root) == ["it"]


def test_files_of_any_name_are_written(machine: ShellMachine) -> None:
    def step(path: Path) -> object:
        content = f"{path.name}\n"
        return {
            "copy": {"path": str(path), "content": content, "mode": "0600", "validate": "cat %s"}
        }

    for path in odd_names(machine, step):
        assert path.read_text() == f"{path.name}\n"


@pytest.mark.parametrize("content", ["", "a", "a\n", "\n", "%s\\n\\0", "'\"$(id)`id`", "ü\r\n"])
def test_a_text_is_written_byte_for_byte(machine: ShellMachine, content: str) -> None:
    path = machine.root / "it"
    machine.check_then_run({"copy": {"path": "~/it", "content": content}}, "changed")
    assert (machine.home / "it").read_bytes() == content.encode()
    assert not path.exists()


def test_the_old_file_is_replaced_and_not_written_into(machine: ShellMachine) -> None:
    build_start(machine.root, {"it": "old", "d": "/", "link": ">d/../it"})
    path = machine.root / "it"
    os.chown(path, 7, 8)
    path.chmod(0o4751)
    inode = path.stat().st_ino
    with path.open() as reader:
        machine.check_then_run(
            {"copy": {"path": str(machine.root / "link"), "content": "new"}}, "changed"
        )
        assert reader.read() == "old"
    at = path.stat()
    assert (at.st_uid, at.st_gid, file_mode(path), path.read_text()) == (7, 8, "4751", "new")
    assert at.st_ino != inode
    assert (machine.root / "link").is_symlink()
    assert folder_contents(machine.root) == ["d", "it", "link"]


def test_attributes_are_set_with_the_contents_and_alone(machine: ShellMachine) -> None:
    path = machine.root / "a" / "it"
    step = {"path": str(path), "content": "x", "mode": "0600", "owner": "daemon", "group": 77}
    outcome = machine.check_then_run({"copy": step}, "changed")
    assert list(outcome_changes(outcome)) == ["contents", "mode", "owner", "group"]
    at = path.stat()
    assert (at.st_uid, at.st_gid, file_mode(path)) == (1, 77, "0600")
    outcome = machine.check_then_run({"copy": {**step, "mode": "0444", "owner": 0}}, "changed")
    assert outcome_changes(outcome) == {"mode": ("0600", "0444"), "owner": ("1", "0")}
    assert path.stat().st_ino == at.st_ino


def test_a_secret_is_never_for_others_to_read_on_its_way(machine: ShellMachine) -> None:
    observed = machine.root / "seen"
    tools = machine.root.parent / f"{machine.root.name}-tools"
    for name in ("chmod", "chown", "mv"):
        real = f"busybox {name}" if machine.shell == "busybox" else f"/bin/{name}"
        (tools / name).unlink(missing_ok=True)
        look = f'ls -ln "{machine.root}"/.orch* >>"{observed}"'
        (tools / name).write_text(f'#!/bin/dash\n{look}\nexec {real} "$@"\n')
        (tools / name).chmod(0o755)
    step = {"path": str(machine.root / "it"), "content": "x", "mode": "0640", "owner": "daemon"}
    assert machine.run_step({"copy": step}).status == "changed"
    looks = [line.split()[:3:2] for line in observed.read_text().splitlines()]
    bits = [(line[:10], owner) for line, owner in looks]
    assert bits == [("-rw-------", "0"), ("-rw-------", "1"), ("-rw-r-----", "1")]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"it": "/"}, "it is a directory"),
        ({"it": ">gone"}, "is a link to gone, which does not exist"),
        ({"it": ">d", "d": "/"}, "it is a directory"),
    ],
)
def test_what_is_no_file_is_refused(
    machine: ShellMachine, start: dict[str, str], message: str
) -> None:
    build_start(machine.root, start)
    check_refuses(machine, {"copy": {"path": str(machine.root / "it"), "content": "x"}}, message)


@pytest.mark.parametrize("size", [3, LIMIT + 1])
def test_what_is_not_valid_changes_nothing_and_a_check_fails_as_the_run_does(
    machine: ShellMachine, size: int
) -> None:
    path = machine.root / "it.conf"
    path.write_text("old")
    src = source_file(machine, b"x" * size)
    step = {"path": str(path), "src": src, "validate": "echo no good; wc -c %s '%s'; exit 3"}
    with check_nothing_left(machine.root.parent / "tmp", machine):
        for check in (True, False):
            outcome = machine.run_step({"copy": step}, check=check)
            assert outcome.status == "failed", result_message(outcome)
            output = outcome.stderr.text
            assert "no good" in output
            assert "(exit status 3)" in output
            assert len(re.findall(f" *{size} /.*/it.conf\n", output)) == 2
            assert (path.read_text(), folder_contents(machine.root)) == ("old", ["it.conf"])
        valid = {**step, "validate": f"test $(wc -c <%s) -eq {size}"}
        machine.check_then_run({"copy": valid}, "changed")


def test_what_is_in_place_is_not_tried_again(machine: ShellMachine) -> None:
    build_start(machine.root, {"it": "x"})
    step = {"path": str(machine.root / "it"), "content": "x", "validate": "false %s"}
    machine.check_then_run({"copy": step}, "ok")
    check_refuses(
        machine,
        {"copy": {**step, "content": "y", "validate": "true"}},
        "`validate` must contain %s",
    )


@pytest.mark.parametrize("word", ["skip", "say", "end_session"])
def test_what_tries_it_is_the_user_s_own_command(machine: ShellMachine, word: str) -> None:
    """And not the function of that name which the session's shell has."""
    step = {"path": str(machine.root / "it"), "content": "x", "validate": f"{word} %s"}
    check_refuses(machine, {"copy": step}, "not found")


def test_what_is_tried_is_for_its_owner_only(machine: ShellMachine) -> None:
    step = {"path": str(machine.root / "it"), "content": "x", "mode": "0644"}
    check_refuses(machine, {"copy": {**step, "validate": "ls -l %s; exit 1"}}, "-rw------- ")
    check_refuses(
        machine, {"copy": {**step, "validate": "ls -ld $(dirname %s); exit 1"}}, "drwx------ "
    )


def test_a_backup_is_the_old_file_itself(machine: ShellMachine) -> None:
    path = machine.root / "it"
    step = {"path": str(path), "backup": True}
    machine.check_then_run({"copy": {**step, "content": "first"}}, "changed")
    assert folder_contents(machine.root) == ["it"]
    path.chmod(0o640)
    os.utime(path, (1, 1))
    machine.check_then_run({"copy": {**step, "content": "second"}}, "changed")
    machine.check_then_run({"copy": {**step, "content": "third", "mode": "0600"}}, "changed")
    machine.check_then_run({"copy": {**step, "content": "third", "mode": "0644"}}, "changed")
    kept = [p for p in machine.root.iterdir() if p != path]
    assert sorted(p.read_text() for p in kept) == ["first", "second"]
    assert all(re.fullmatch(r"it\.[0-9]{8}T[0-9]{6}Z\+*~", p.name) for p in kept)
    first = next(p for p in kept if p.read_text() == "first")
    assert (first.stat().st_mtime, file_mode(first)) == (1, "0640")


def test_a_diff_of_texts_and_of_nothing_else(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("same\nold\n")
    outcome = machine.run_step({"copy": {"path": str(path), "content": "same\nnew"}}, check=True)
    assert outcome.diff.splitlines()[2:] == [
        *("@@ -1,2 +1,2 @@", " same", "-old", "+new", "\\ No newline at end of file")
    ]
    for data, output in ((b"\0", "binary"), (b"x" * (LIMIT + 1), "long")):
        step = {"copy": {"path": str(path), "src": source_file(machine, data)}}
        assert machine.run_step(step, check=True).diff == f"{output} contents differ\n"


def test_one_of_src_and_content_is_needed_before_anything_is_done(machine: ShellMachine) -> None:
    for more in ({}, {"src": source_file(machine, b""), "content": ""}):
        with pytest.raises(Exception, match="needs one of src, content and remote_src"):
            machine.run_step({"copy": {"path": "it", **more}})


def test_a_fix_that_fails_leaves_the_old_contents_and_no_other_file(machine: ShellMachine) -> None:
    machine.wrapper = WITHOUT_POWERS
    build_start(machine.root, {"it": "old"})
    step = {"path": str(machine.root / "it"), "content": "new", "owner": "daemon", "backup": True}
    outcome = machine.run_step({"copy": step})
    assert (outcome.status, outcome.reason) == ("failed", "its fix failed: exit status 1")
    assert "chown" in outcome.stderr.text
    assert (folder_contents(machine.root), (machine.root / "it").read_text()) == (["it"], "old")
    (machine.root / "it").chmod(0)
    check_refuses(machine, {"copy": {"path": step["path"], "content": "new"}}, "cannot read")


def test_a_host_without_a_digest_says_what_it_lacks(machine: ShellMachine) -> None:
    build_start(machine.root, {"it": "x" * (LIMIT + 1)})
    leave_only(machine)
    (Path(machine.environment["PATH"]) / "sha256sum").unlink()
    step = {
        "copy": {"path": str(machine.root / "it"), "src": source_file(machine, b"y" * (LIMIT + 1))}
    }
    check_refuses(machine, step, "this host has no sha256sum, shasum or openssl")


def test_a_template_keeps_the_ends_of_its_lines(machine: ShellMachine) -> None:
    path, lines = (
        machine.root / "it",
        "{% for i in ['a', 'b'] %}\r\n{{ i }}\r\n{% endfor %}\r\nend\r\n",
    )
    step = {"template": {"path": str(path), "src": "t.conf"}}
    machine.check_then_run(step, "changed", files={"t.conf": lines})
    assert path.read_bytes() == b"a\r\nb\r\nend\r\n"


def test_a_template_is_rendered_for_the_host_and_follows_its_variables(
    machine: ShellMachine,
) -> None:
    files = {"t.conf": "{% for n in names %}\nname {{ n }}\n{% endfor %}\n'{{ host.name }}' $x\n"}
    path = machine.root / "it"
    step = {"template": {"path": str(path), "src": "t.conf", "mode": "0600", "backup": True}}
    machine.check_then_run(step, "changed", files=files, variables={"names": ["a", "ü b"]})
    assert path.read_text() == "name a\nname ü b\n'one' $x\n"
    outcome = machine.check_then_run(step, "changed", files=files, variables={"names": ["a"]})
    assert "-name ü b" in outcome.diff
    refused = {"template": {**step["template"], "validate": "! grep -q c %s"}}
    check_refuses(machine, refused, "not valid", files=files, variables={"names": ["c"]})
    big = {"names": ["n" * 50] * 1000}
    machine.check_then_run(step, "changed", files=files, variables=big)
    assert path.read_text().count("\n") == 1001
    assert len(folder_contents(machine.root)) == 3


def test_a_file_of_the_host_is_copied_byte_for_byte(machine: ShellMachine) -> None:
    for content in (b"", b"text\n", b"no end", b"n\0ul\n", bytes(range(256)) * 999):
        source = machine.root / "-n it's\n"
        source.write_bytes(content)
        (machine.root / "link").symlink_to(source)
        (machine.root / "to").write_text("old")
        step = {"remote_src": str(machine.root / "link"), "path": str(machine.root / "to")}
        outcome = machine.check_then_run(
            {"copy": {**step, "mode": "0640", "backup": True}}, "changed"
        )
        assert (machine.root / "to").read_bytes() == content
        assert outcome_changes(outcome)["contents"] == ("different", "as given")
        if content == b"text\n":
            assert "+text" in outcome.diff and "-old" in outcome.diff
        if b"\0" in content:
            assert outcome.diff in ("binary contents differ\n", "long contents differ\n")
        kept = [path for path in machine.root.iterdir() if path.name.endswith("~")]
        assert [path.read_text() for path in kept] == ["old"]
        for path in machine.root.iterdir():
            path.unlink()


def test_what_of_the_host_cannot_be_copied_is_refused(machine: ShellMachine) -> None:
    machine.wrapper = WITHOUT_POWERS
    (machine.root / "dir").mkdir()
    (machine.root / "closed").write_text("x")
    (machine.root / "closed").chmod(0)
    for name, message in (
        ("none", "there is no file"),
        ("dir", "is not a regular file"),
        ("closed", "cannot read"),
    ):
        step = {"remote_src": str(machine.root / name), "path": str(machine.root / "to")}
        check_refuses(machine, {"copy": step}, message)
    step = {"remote_src": "/etc/passwd", "path": str(machine.root / "to"), "validate": "false %s"}
    check_refuses(machine, {"copy": step}, "not valid: false %s")


def test_a_check_does_not_know_a_copy_of_what_an_earlier_step_would_change(
    machine: ShellMachine,
) -> None:
    source, target = machine.root / "a", machine.root / "b"
    source.write_text("old")
    target.write_text("old")
    steps = [
        {"copy": {"content": "new", "path": str(source)}},
        {"copy": {"remote_src": str(source), "path": str(target)}},
        {"stat": {"path": str(target)}},
    ]
    checked = machine.run_steps(steps, check=True)
    assert checked.statuses == ["would_change", "unknown", "unknown"]
    assert machine.run_steps(steps).statuses == ["changed", "changed", "ok"]
    assert target.read_text() == "new"
    assert machine.run_steps(steps, check=True).statuses == ["ok", "ok", "ok"]


@pytest.mark.parametrize("module", ["copy", "template"])
def test_without_force_content_that_exists_is_kept(machine: ShellMachine, module: str) -> None:
    (machine.root / "has").write_text("own")
    (machine.root / "link").symlink_to("has")
    given = {"content": "new\n"} if module == "copy" else {"src": "it.j2"}
    files = {"it.j2": "new\n"}
    for name, text in (("has", "own"), ("link", "own"), ("new", "new\n")):
        step = {module: {**given, "path": str(machine.root / name), "force": False}}
        changed = "changed" if name == "new" else "ok"
        machine.check_then_run(step, changed, files=files)
        assert (machine.root / name).read_text() == text
    step = {module: {**given, "path": str(machine.root / "has"), "force": False, "mode": "0600"}}
    outcome = machine.check_then_run(step, "changed", files=files)
    assert outcome_changes(outcome) == {"mode": ("0644", "0600")}


TEMPLATE = b"{{ x }} <<x>>\n  <%if 1%>\nb\r\n  <%endif%>\n<#c#>c"


@pytest.mark.parametrize(
    ("params", "rendered"),
    [
        ({}, b"1 <<x>>\n  <%if 1%>\nb\r\n  <%endif%>\n<#c#>c"),
        ({"newline": "crlf"}, b"1 <<x>>\r\n  <%if 1%>\r\nb\r\n  <%endif%>\r\n<#c#>c"),
        (
            {"delimiters": {"variable": ["<<", ">>"]}},
            b"{{ x }} 1\n  <%if 1%>\nb\r\n  <%endif%>\n<#c#>c",
        ),
        (
            {
                "delimiters": {
                    "variable": ["<<", ">>"],
                    "block": ["<%", "%>"],
                    "comment": ["<#", "#>"],
                },
                "lstrip_blocks": True,
                "newline": "lf",
            },
            b"{{ x }} 1\nb\nc",
        ),
        (
            {"delimiters": {"block": ["<%", "%>"]}, "trim_blocks": False},
            b"1 <<x>>\n  \nb\r\n  \n<#c#>c",
        ),
    ],
)
@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_a_template_is_written_as_its_params_say(
    machine: ShellMachine, tmp_path: Path, params: dict[str, Any], rendered: bytes
) -> None:
    (tmp_path / "t.conf").write_bytes(TEMPLATE)
    path = machine.root / "it"
    step = {"template": {"path": str(path), "src": str(tmp_path / "t.conf"), **params}}
    machine.check_then_run(step, "changed", variables={"x": "1"})
    assert path.read_bytes() == rendered


@pytest.mark.parametrize(
    ("delimiters", "why"),
    [
        (
            {"variables": ["a", "b"]},
            "a mapping of variable, block, comment to pairs, found variables",
        ),
        ({"variable": ["<<"]}, "the delimiters of a variable must be two texts"),
        ({"block": ["<%", " "]}, "the delimiters of a block must be two texts"),
        (
            {"block": ["<<", ">>"], "variable": ["<<", "}}"]},
            "variable, block and comment must begin differently: <<, <<, {#",
        ),
    ],
)
@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_delimiters_that_cannot_be_told_apart_are_refused_before_anything_runs(
    machine: ShellMachine, tmp_path: Path, delimiters: dict[str, Any], why: str
) -> None:
    (tmp_path / "t.conf").write_bytes(TEMPLATE)
    params = {"src": str(tmp_path / "t.conf"), "delimiters": delimiters}
    with pytest.raises(DefinitionError) as caught:
        machine.run_step({"template": {"path": str(machine.root / "it"), **params}})
    assert why in caught.value.diagnostics[0].message
    assert caught.value.diagnostics[0].mark.path.endswith("it.yml")


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_a_host_does_not_choose_delimiters(machine: ShellMachine, tmp_path: Path) -> None:
    (tmp_path / "t.conf").write_bytes(TEMPLATE)
    params = {"src": str(tmp_path / "t.conf"), "delimiters": {"variable": ["{{ r.stdout }}", "x"]}}
    steps = [
        {"run": "echo '<<'", "register": "r"},
        {"template": {"path": str(machine.root / "it"), **params}},
    ]
    with pytest.raises(DefinitionError, match="host"):
        machine.run_steps(steps)
