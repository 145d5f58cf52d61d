"""``unarchive``: unpacked once, whole or not at all, and never outside of its folder."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from tests.support.host_tools import leave_only
from tests.support.machine import ODD_NAME_CASES, ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import (
    check_nothing_left,
    check_refuses,
    file_mode,
    outcome_changes,
    without_powers,
)
from tests.support.web_server import WebAnswer, serve_web

FILES = {"top/a b": b"one", "top/sub/-n": b"\0\xff", "top/sub/ü'$(id)": b"", "top/.hidden": b"h"}
KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "zip"]


def make_archive(at: Path, kind: str, files: dict[str, bytes] = FILES) -> Path:
    """Create an archive of these files with arbitrary names."""
    path = at / f"made.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as into:
            for name, data in files.items():
                into.writestr(name, data)
        return path
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as into_tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid = len(data), 0o640, 4242
            into_tar.addfile(member, io.BytesIO(data))
    tools = {"tar": ["cat"], "tar.gz": ["gzip"], "tar.bz2": ["bzip2"], "tar.xz": ["xz"]}
    command = tools.get(kind, ["zstd", "-q"])
    path.write_bytes(
        subprocess.run(command, input=raw.getvalue(), capture_output=True, check=True).stdout
    )
    return path


def make_tar(at: Path, *contents: tuple[str, int, bytes | str | None]) -> Path:
    """Create a tar of members: bytes for a file, text for a link, None for a folder."""
    path = at / f"members{len(file_names(at))}.tar"
    with tarfile.open(path, "w") as into:
        for name, mode, what in contents:
            member = tarfile.TarInfo(name)
            member.mode = mode
            if isinstance(what, bytes):
                member.size = len(what)
            elif what is None:
                member.type = tarfile.DIRTYPE
            else:
                member.type, member.linkname = tarfile.SYMTYPE, what
            into.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
    return path


def tree_contents(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.pop(".orch-unarchived", None)
    return found


def file_names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def unarchive_step(src: Path, path: Path, **params: Any) -> dict[str, Any]:
    return {"unarchive": {"src": str(src), "path": str(path), **params}}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_is_unpacked_once(machine: ShellMachine, tmp_path: Path, kind: str) -> None:
    path = machine.root / "to"
    outcome = machine.check_then_run(unarchive_step(make_archive(tmp_path, kind), path), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("archive", None, "as given")]
    assert tree_contents(path) == FILES
    assert (path / "top/a b").stat().st_uid == 0
    assert file_names(machine.root) == ["to"]


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_leading_folders_are_left_out(
    machine: ShellMachine, tmp_path: Path, kind: str, exclusive: bool
) -> None:
    path = machine.root / "a" / "to"
    machine.check_then_run(
        unarchive_step(make_archive(tmp_path, kind), path, strip=1, exclusive=exclusive), "changed"
    )
    assert tree_contents(path) == {name.removeprefix("top/"): data for name, data in FILES.items()}
    outcome = machine.check_then_run(
        unarchive_step(make_archive(tmp_path, kind), path, strip=4), "failed"
    )
    assert "nothing is left" in outcome.stderr.text, result_message(outcome)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_there_stays_or_goes(
    machine: ShellMachine, tmp_path: Path, exclusive: bool
) -> None:
    path = machine.root / "to"
    path.mkdir(mode=0o750)
    shutil.chown(path, "daemon")
    (path / "mine").write_bytes(b"m")
    (path / "top").mkdir()
    (path / "top/a b").write_bytes(b"old")
    outcome = machine.check_then_run(
        unarchive_step(make_archive(tmp_path, "tar"), path, exclusive=exclusive), "changed"
    )
    others = ", 1 to remove" if exclusive else ""
    assert outcome.changes[0].before == f"4 missing, 1 different{others} of 6"
    assert tree_contents(path) == (FILES if exclusive else {**FILES, "mine": b"m"})
    assert (path.stat().st_mode & 0o7777, path.stat().st_uid) == (0o750, 1)
    assert file_names(machine.root) == ["to"]
    assert ".orch-unarchived" in file_names(path)
    other = make_archive(tmp_path, "tar.gz", {"new": b"n"})
    outcome = machine.check_then_run(unarchive_step(other, path, exclusive=exclusive), "changed")
    others = ", 6 to remove" if exclusive else ""
    assert outcome.changes[0].before == f"1 missing{others} of 1"
    assert tree_contents(path) == (
        {"new": b"n"} if exclusive else {**FILES, "mine": b"m", "new": b"n"}
    )


def test_several_archives_share_a_folder(machine: ShellMachine, tmp_path: Path) -> None:
    path = machine.root / "to"
    (tmp_path / "b").mkdir()
    both = [
        unarchive_step(make_archive(tmp_path, "tar", {"a": b"1", "x/y": b"2"}), path),
        unarchive_step(make_archive(tmp_path / "b", "tar", {"b": b"3", "x/z": b"4"}), path),
    ]
    assert machine.run_steps(both).statuses == ["changed", "changed"]
    assert machine.run_steps(both).statuses == ["ok", "ok"]
    # one that replaces what another brought takes that one's place
    other = make_archive(tmp_path, "tar.gz", {"a": b"new"})
    assert (
        machine.check_then_run(unarchive_step(other, path), "changed").changes[0].before
        == "1 different of 1"
    )
    assert b"strip" in (path / ".orch-unarchived").read_bytes()
    assert (path / ".orch-unarchived").read_text().count("= sha256") == 2
    assert machine.run_steps(both, check=True).statuses == ["would_change", "ok"]


def test_what_is_not_as_unpacked_is_mended(machine: ShellMachine, tmp_path: Path) -> None:
    path, out = machine.root / "to", machine.root / "out"
    out.mkdir()
    (out / "kept").write_bytes(b"mine")
    named = [("plain", 0o644, b"p"), ("d/gone", 0o755, b"g"), ("d/odd\n", 0o600, b"o")]
    more = [("linked", 0o644, b"l"), ("d/to", 0o777, "plain"), ("d/folder", 0o777, "../d")]
    src = make_tar(tmp_path, ("d", 0o755, None), *named, *more)
    (path / "d").mkdir(parents=True)
    machine.check_then_run(unarchive_step(src, path), "changed")
    expected = tree_contents(path)
    for name in ("plain", "d/odd\n"):
        (path / name).write_bytes(b"edited")
    (path / "d/gone").unlink()
    (path / "linked").unlink()
    (path / "linked").symlink_to(out / "kept")
    (path / "d/folder").unlink()
    (path / "d/folder").symlink_to(out)
    outcome = machine.check_then_run(unarchive_step(src, path), "changed")
    assert outcome_changes(outcome) == {"archive": ("1 missing, 4 different of 7", "as given")}
    assert "-./linked (a link)\n" in outcome.diff
    assert tree_contents(path) == expected
    assert [(path / "d" / name).readlink() for name in ("to", "folder")] == [
        Path("plain"),
        Path("../d"),
    ]
    assert (file_names(out), (out / "kept").read_bytes()) == (["kept"], b"mine")
    (path / "d/gone").chmod(0o700)
    outcome = machine.check_then_run(unarchive_step(src, path), "changed")
    assert outcome_changes(outcome) == {"archive": ("1 of another mode of 7", "as given")}
    assert file_mode(path / "d/gone") == "0755"


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_all_there_is_not_unpacked_again(
    machine: ShellMachine, tmp_path: Path, exclusive: bool
) -> None:
    path = machine.root / "to"
    for files in (FILES, {"big": b"x" * 99_000}):
        src = make_archive(tmp_path, "tar", files)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        subprocess.run(["tar", "-xof", src], cwd=path, check=True)
        temp = tmp_path / f"temp{src.stat().st_size}"
        with check_nothing_left(temp, machine):
            machine.check_then_run(unarchive_step(src, path, exclusive=exclusive), "ok")
        (path / "more").touch()
        with_more = machine.check_then_run(
            unarchive_step(src, path, exclusive=exclusive), "changed" if exclusive else "ok"
        )
        if exclusive:
            assert "1 to remove" in str(with_more.changes[0].before)
            assert "more" not in file_names(path)


@pytest.mark.parametrize(
    ("target", "message"),
    [("link", "./d is not a directory, but a link"), ("folder", "./f is a directory")],
)
def test_a_folder_is_no_link_and_no_file(
    machine: ShellMachine, tmp_path: Path, target: str, message: str
) -> None:
    path, out = machine.root / "to", machine.root / "out"
    path.mkdir()
    out.mkdir()
    src = make_tar(tmp_path, ("d", 0o755, None), ("d/x", 0o644, b"x"), ("f", 0o644, b"f"))
    if target == "link":
        (path / "d").symlink_to(out)
    else:
        (path / "f").mkdir()
    check_refuses(machine, unarchive_step(src, path), message)


def test_who_owns_closed_folders_can_unpack_into_them(
    machine: ShellMachine, tmp_path: Path
) -> None:
    without_powers(machine)
    path = machine.root / "to"
    closed = [("./", 0o700, None), ("top", 0o555, None), ("top/in", 0o555, None)]
    src = make_tar(tmp_path, *closed, ("top/in/f", 0o444, b"f"), ("top/g", 0o644, b"g"))
    machine.check_then_run(unarchive_step(src, path), "changed")
    modes = {"": "0755", "top": "0555", "top/in": "0555", "top/in/f": "0444"}
    assert {name: file_mode(path / name) for name in modes} == modes
    other = make_tar(tmp_path, *closed, ("top/in/f", 0o444, b"new"), ("top/h", 0o644, b"h"))
    machine.check_then_run(unarchive_step(other, path), "changed")
    assert tree_contents(path) == {"top/in/f": b"new", "top/g": b"g", "top/h": b"h"}
    assert {name: file_mode(path / name) for name in modes} == modes
    path.chmod(0o555)
    machine.check_then_run(unarchive_step(src, path, exclusive=True, strip=1), "changed")
    assert tree_contents(path) == {"in/f": b"f", "g": b"g"}
    assert file_mode(path) == "0555"


def test_names_in_a_zip_stay_as_they_are(machine: ShellMachine, tmp_path: Path) -> None:
    path = machine.root / "to"
    files = {"a\nb": b"1", "c\rd\te": b"2", "f^Jg": b"3", "ü ": b"4"}
    machine.check_then_run(unarchive_step(make_archive(tmp_path, "zip", files), path), "changed")
    assert tree_contents(path) == files


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_any_names_will_do(machine: ShellMachine, tmp_path: Path, name: str) -> None:
    src = machine.root / name
    make_archive(tmp_path, "tar.gz").rename(src)
    path = machine.root / f"{name}x"
    path.mkdir()
    for kept in (path, path / name):
        params = {"remote_src": str(src), "path": str(kept)}
        machine.check_then_run({"unarchive": params}, "changed")
        assert tree_contents(kept).items() >= FILES.items()


def test_long_archives_travel_once(machine: ShellMachine, tmp_path: Path) -> None:
    import random

    data = {"big": random.Random(1).randbytes(200_000)}
    path = machine.root / "to"
    machine.check_then_run(unarchive_step(make_archive(tmp_path, "tar.gz", data), path), "changed")
    assert tree_contents(path) == data


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../out", "/tmp/orch-test-out", "a/../../out", "a/.."])
def test_what_leaves_the_folder_is_refused(
    machine: ShellMachine, tmp_path: Path, kind: str, name: str
) -> None:
    path = machine.root / "to"
    path.mkdir()
    (path / "mine").touch()
    outcome = machine.check_then_run(
        unarchive_step(make_archive(tmp_path, kind, {"fine": b"", name: b"x"}), path), "failed"
    )
    assert "the archive contains paths outside of the folder" in outcome.stderr.text, (
        result_message(outcome)
    )
    assert file_names(machine.root) == ["to"]
    assert file_names(path) == ["mine"]


def test_a_link_in_it_leads_nothing_out(machine: ShellMachine, tmp_path: Path) -> None:
    out = machine.root / "out"
    out.mkdir()
    src = tmp_path / "it.tar"
    with tarfile.open(src, "w") as into:
        link = tarfile.TarInfo("x")
        link.type, link.linkname = tarfile.SYMTYPE, str(out)
        into.addfile(link)
        member = tarfile.TarInfo("x/evil")
        into.addfile(member, io.BytesIO())
    machine.run_step(unarchive_step(src, machine.root / "to"))
    assert file_names(out) == []


@pytest.mark.parametrize("kind", [*KINDS, "nonsense"])
def test_what_is_broken_leaves_what_was_there(
    machine: ShellMachine, tmp_path: Path, kind: str
) -> None:
    if kind == "nonsense":
        src = tmp_path / "it"
        src.write_bytes(b"nothing" * 1000)
    else:
        src = make_archive(tmp_path, kind, {"a": b"x" * 5000})
        data = src.read_bytes()
        src.write_bytes(data[: max(30, len(data) // 3)])
    path = machine.root / "to"
    path.mkdir()
    (path / "mine").touch()
    outcome = machine.check_then_run(unarchive_step(src, path, exclusive=True), "failed")
    assert "its probe failed" in outcome.reason, result_message(outcome)
    assert file_names(path) == ["mine"]
    assert file_names(machine.root) == ["to"]


def test_nothing_is_done_where_it_is_made_already(machine: ShellMachine, tmp_path: Path) -> None:
    path = machine.root / "to"
    params = {"remote_src": str(machine.root / "none"), "path": str(path), "creates": "bin/it"}
    outcome = machine.check_then_run({"unarchive": params}, "failed")
    assert "its probe failed" in outcome.reason
    (path / "bin").mkdir(parents=True)
    (path / "bin/it").touch()
    machine.check_then_run({"unarchive": params}, "ok")


def test_a_check_knows_what_hangs_on_an_archive_to_come(
    machine: ShellMachine, tmp_path: Path
) -> None:
    src = make_archive(tmp_path, "tar")
    archive_path = machine.root / "it.tar"
    steps = [
        {"copy": {"src": str(src), "path": str(archive_path)}},
        {"unarchive": {"remote_src": str(archive_path), "path": str(machine.root / "to")}},
    ]
    assert machine.run_steps(steps, check=True).statuses == ["would_change", "unknown"]
    assert machine.run_steps(steps).statuses == ["changed", "changed"]
    assert machine.run_steps(steps).statuses == ["ok", "ok"]


def test_what_others_write_into_the_record_is_not_run(
    machine: ShellMachine, tmp_path: Path
) -> None:
    """The folder may be another user's."""
    path, created = machine.root / "to", machine.root / "made"
    step = {"unarchive": {"src": str(make_archive(tmp_path, "tar")), "path": str(path)}}
    machine.check_then_run(step, "changed")
    record = path / ".orch-unarchived"
    mark, *lines = record.read_text().splitlines(keepends=True)
    sum_ = next(line.split()[2] for line in lines if line.startswith("f "))
    odd = [
        f"f $(touch${{IFS}}{created}) {sum_} ./x\n",
        f"f 0644;touch${{IFS}}{created} {sum_} ./x\n",
    ]
    odd += [f"f 0644 {sum_} {word}\n" for word in ("-exec", "touch", str(created), ";")]
    odd += [f"d - - {word}\n" for word in ("-fprint", str(created))]
    record.write_text("".join([mark, *odd, *lines]))
    for check in (True, False):
        machine.run_step(step, check=check)
        assert not created.exists()
    machine.check_then_run(step, "ok")


@pytest.mark.parametrize("params", [{}, {"src": "x", "remote_src": "/x"}])
def test_it_needs_one_archive(
    machine: ShellMachine, tmp_path: Path, params: dict[str, Any]
) -> None:
    if "src" in params:
        params = {**params, "src": str(make_archive(tmp_path, "tar"))}
    with pytest.raises(DefinitionError, match="needs one of src and "):
        machine.run_step({"unarchive": {"path": str(machine.root / "to"), **params}})


@pytest.mark.parametrize("kind", ["file", "dangling"])
def test_what_is_in_the_way_is_told(machine: ShellMachine, tmp_path: Path, kind: str) -> None:
    path = machine.root / "to"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to("nowhere")
    outcome = machine.check_then_run(unarchive_step(make_archive(tmp_path, "tar"), path), "failed")
    assert {"file": "is a file", "dangling": "does not exist"}[kind] in outcome.stderr.text


def test_a_link_to_a_folder_stays(machine: ShellMachine, tmp_path: Path) -> None:
    (machine.root / "real").mkdir()
    (machine.root / "link").symlink_to("real")
    machine.check_then_run(
        unarchive_step(make_archive(tmp_path, "tar"), machine.root / "link", exclusive=True),
        "changed",
    )
    assert (machine.root / "link").is_symlink()
    assert tree_contents(machine.root / "real") == FILES


def test_the_home_is_not_given_up(machine: ShellMachine, tmp_path: Path) -> None:
    (machine.home / "mine").touch()
    outcome = machine.check_then_run(
        unarchive_step(make_archive(tmp_path, "tar"), machine.home, exclusive=True), "failed"
    )
    assert "is not removed" in outcome.stderr.text
    assert file_names(machine.home) == ["mine"]


@pytest.mark.parametrize(("kind", "tool"), [("tar.zst", "zstd"), ("zip", "unzip")])
def test_what_the_host_lacks_is_said(
    machine: ShellMachine, tmp_path: Path, kind: str, tool: str
) -> None:
    leave_only(machine)
    outcome = machine.check_then_run(
        unarchive_step(make_archive(tmp_path, kind), machine.root / "to"), "failed"
    )
    assert f"this host has no {tool}" in outcome.stderr.text
    assert file_names(machine.root) == []


def test_any_names_and_kinds_in_it(machine: ShellMachine, tmp_path: Path) -> None:
    path = machine.root / "to"
    odd = [*ODD_NAMES, "behind ", "tab\t", "a\rb", "\udcff\udcfe", "x" * 120]
    src = tmp_path / "it.tar"
    with tarfile.open(src, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as into:
        for name in odd:
            member = tarfile.TarInfo(f"d {name}/{name}")
            member.size = 1
            into.addfile(member, io.BytesIO(b"1"))
        for name, kind, to in (
            ("hard", tarfile.LNKTYPE, "d plain/plain"),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("odd\n", tarfile.SYMTYPE, "to\n \\x"),
            ("out", tarfile.SYMTYPE, "/nowhere/at all"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, to
            into.addfile(member)
    path.mkdir()
    (path / "before").touch()
    for name in ("odd\n", "hard"):
        machine.check_then_run(unarchive_step(src, path), "changed")
        assert all((path / f"d {name}" / name).read_text() == "1" for name in odd)
        assert (path / "odd\n").readlink() == Path("to\n \\x")
        (path / name).unlink()
        for edited in odd[::2]:
            (path / f"d {edited}" / edited).write_text("2")
    assert (path / "pipe").is_fifo()


HOSTILE = [
    "f $(touch${IFS}pwned) 00 ./a",
    "f 0644;touch${IFS}pwned 00 ./a",
    "d - - -delete",
    "d - - / -delete -o -path .",
    "f 0644 00 ./../mine",
    "f 0644 00 ./x/../../mine",
    "l - /etc ./../link",
    "d - - ./..",
    "f 0644 00 " + "".join(f"\\0{ord(char):03o}" for char in "./../mine"),
    "f 0644 00 " + "".join(f"\\0{ord(char):03o}" for char in "/etc/passwd"),
    "f 0644 00 ./$(touch pwned)\\0057",
]


def test_a_record_that_somebody_else_wrote_is_no_script(
    machine: ShellMachine, tmp_path: Path
) -> None:
    """Anyone who can write to the folder can write the record."""
    path = machine.root / "to"
    (machine.root / "mine").write_bytes(b"m")
    src = unarchive_step(make_archive(tmp_path, "tar", {"a": b"1", "x/y": b"2"}), path)
    machine.check_then_run(src, "changed")
    with (path / ".orch-unarchived").open("a") as record:
        record.write("".join(f"{line}\n" for line in HOSTILE))
    for check in (True, False):
        assert machine.run_steps([src], check=check).statuses == ["ok"]
        assert tree_contents(path) == {"a": b"1", "x/y": b"2"}
        assert not list(machine.root.parent.rglob("pwned"))
    (path / "a").unlink()
    machine.check_then_run(src, "changed")
    assert tree_contents(path) == {"a": b"1", "x/y": b"2"}
    assert (machine.root / "mine").read_bytes() == b"m"
    assert not list(machine.root.parent.rglob("pwned"))


def test_names_are_selected_after_strip(machine: ShellMachine, tmp_path: Path) -> None:
    archive = str(make_archive(tmp_path, "tar"))
    for number, (more, expected) in enumerate(
        (
            ({"include": ["sub"]}, ["sub/-n", "sub/ü'$(id)"]),
            ({"include": ["sub/-n", ".hid*"]}, [".hidden", "sub/-n"]),
            ({"exclude": ["sub/"]}, [".hidden", "a b"]),
            ({"exclude": ["-n", "a*"]}, [".hidden", "sub/ü'$(id)"]),
            ({"include": ["sub"], "exclude": ["sub/-*"]}, ["sub/ü'$(id)"]),
        )
    ):
        to = machine.root / f"to{number}"
        step = {"unarchive": {"remote_src": archive, "path": str(to), "strip": 1, **more}}
        machine.check_then_run(step, "changed")
        found = [str(each.relative_to(to)) for each in to.rglob("*") if each.is_file()]
        assert sorted(found) == sorted([*expected, ".orch-unarchived"])
    whole = {"unarchive": {"remote_src": archive, "path": str(to), "strip": 1}}
    machine.check_then_run(whole, "changed")
    nothing = {**whole["unarchive"], "include": ["none"], "path": str(machine.root / "none")}
    outcome = machine.run_step({"unarchive": nothing})
    assert outcome.status == "failed" and "nothing is left" in outcome.stderr.text
    assert not (machine.root / "none").exists()


@pytest.mark.parametrize("exclusive", [False, True])
def test_what_is_unpacked_has_the_given_owner_and_mode(
    machine: ShellMachine, tmp_path: Path, exclusive: bool
) -> None:
    archive = make_tar(
        tmp_path, ("d", 0o700, None), ("d/run", 0o700, b"x"), ("d/-n it", 0o600, b"y")
    )
    to = machine.root / "to"
    step = {"remote_src": str(archive), "path": str(to), "exclusive": exclusive}
    machine.check_then_run({"unarchive": step}, "changed")
    given = {"mode": "u=rwX,go=rX", "owner": "daemon", "group": "4321"}
    machine.check_then_run({"unarchive": {**step, **given}}, "changed")
    for name, mode in (("d/run", "0755"), ("d/-n it", "0644")):
        assert file_mode(to / name) == mode
    for name in ("d", "d/run", "d/-n it"):
        assert ((to / name).stat().st_uid, (to / name).stat().st_gid) == (1, 4321)
    shutil.chown(to / "d/run", "root")
    machine.check_then_run({"unarchive": {**step, **given}}, "changed")
    assert (to / "d/run").stat().st_uid == 1
    new = {"unarchive": {**step, **given, "path": f"{to} new"}}
    machine.check_then_run(new, "changed")
    assert file_mode(Path(f"{to} new/d")) == "0755" and Path(f"{to} new/d").stat().st_uid == 1
    check_refuses(machine, {"unarchive": {**step, "owner": "nobody such"}}, "there is no user")


def test_an_archive_of_a_url_is_unpacked_once(machine: ShellMachine, tmp_path: Path) -> None:
    data = make_archive(tmp_path, "tar.gz").read_bytes()
    sum_ = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with serve_web() as web:
        web.pages["/a.tar.gz?x=1"] = WebAnswer(data)
        step = {"path": str(machine.root / "to"), "url": web.url("/a.tar.gz?x=1"), "strip": 1}
        (machine.root / "to").mkdir()
        (machine.root / "to/own").write_text("own")
        outcome = machine.run_step({"unarchive": {**step, "checksum": f"{sum_[:-1]}z"}})
        assert outcome.status == "failed" and sum_ in outcome.stderr.text
        machine.check_then_run({"unarchive": {**step, "checksum": sum_.upper()}}, "changed")
        assert (machine.root / "to/a b").read_bytes() == b"one"
        assert len(web.requests) == 2
        (machine.root / "to/a b").write_text("changed")
        machine.check_then_run({"unarchive": {**step, "checksum": sum_.upper()}}, "changed")
        assert (machine.root / "to/a b").read_bytes() == b"one"
        assert (machine.root / "to/own").read_text() == "own"
        other = {**step, "url": web.url("/none"), "path": str(machine.root / "new")}
        outcome = machine.run_step({"unarchive": other})
        assert outcome.status == "failed" and not (machine.root / "new").exists()
    local = {**step, "url": f"file://{tmp_path}/made.tar.gz", "path": str(machine.root / "local")}
    machine.check_then_run({"unarchive": {**local, "exclusive": True}}, "changed")
    check_refuses(machine, {"unarchive": {**local, "url": "x"}}, "the url must begin with")
    check_refuses(machine, {"unarchive": {**local, "checksum": "x:1"}}, "the checksum must be")
    check_refuses(machine, {"unarchive": {**local, "remote_src": "/x"}}, "exclude each other")
