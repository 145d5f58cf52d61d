"""``orch upload`` and ``orch download``: where things go, and what is refused."""

from __future__ import annotations

import os
import random
from hashlib import sha256
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.sshd import SshdServer


@pytest.fixture
def two(project: OrchProject) -> OrchProject:
    files = {"work/site/index": "hello", "work/site/css/a": "red", "work/page": "one"}
    return project.add_sandbox_stage("a1", "a2").write(files)


def host_home(project: OrchProject, host: str = "a1") -> Path:
    return project.root / ".orch" / "sandbox" / "dev" / host


def files_below(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_dir() and ".orch" not in path.parts[len(folder.parts) :]
    )


def upload(project: OrchProject, *words: str, code: int = 0) -> list[str]:
    """Upload from the folder work; return the statuses of the hosts."""
    done = project.orch("-s", "dev", "--json", "upload", *words, cwd=project.root / "work")
    assert done.code == code, done.err + done.out
    return [row["status"] for row in done.host_rows.values()]


def test_an_upload_goes_where_a_second_one_finds_it(two: OrchProject) -> None:
    found: list[str] = []
    for src, dest, more in (
        ("site", "srv", ["srv/site/css/a", "srv/site/index"]),
        ("../work/site/", "~/srv/www", ["srv/www/css/a", "srv/www/index"]),
        ("page", "srv", ["srv/page"]),
    ):
        found = sorted([*found, *more])
        assert upload(two, src, dest) == ["changed", "changed"]
        assert upload(two, src, dest) == ["ok", "ok"]
        assert [files_below(host_home(two, host)) for host in ("a1", "a2")] == [found] * 2


def test_a_folder_becomes_as_the_local_one_with_delete(two: OrchProject) -> None:
    upload(two, "site/", "srv")
    (host_home(two) / "srv" / "more").write_text("")
    (host_home(two) / "srv" / "kept.log").write_text("")
    words = ("site/", "srv", "--delete", "--exclude", "*.log", "--exclude", "css")
    assert upload(two, "--check", *words) == ["would_change", "ok"]
    assert (host_home(two) / "srv" / "more").exists()
    assert upload(two, *words) == ["changed", "ok"]
    assert files_below(host_home(two)) == ["srv/css/a", "srv/index", "srv/kept.log"]


def test_a_part_of_a_folder_with_what_links_lead_to(two: OrchProject) -> None:
    (two.root / "work" / "site" / "link").symlink_to("index")
    assert upload(two, "site/", "srv", "--include", "css", "--include", "l*", "--follow") == [
        *("changed", "changed"),
    ]
    assert files_below(host_home(two)) == ["srv/css/a", "srv/link"]
    assert not (host_home(two) / "srv" / "link").is_symlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("upload", "none", "x"), "Path 'none' does not exist"),
        (("upload", "page", " "), "DEST is empty"),
        (("upload", "page", "x", "--delete"), "--delete requires a folder as SRC"),
        (("upload", "pipe", "x"), "pipe is not a file, folder or link"),
        (("download", "", "x"), "SRC is empty"),
        (("download", "x", "page"), "'page' is a file"),
        (("download", "/", "x"), "'/' is not a file name"),
    ],
)
def test_wrong_arguments_contact_no_host(
    two: OrchProject, words: tuple[str, ...], message: str
) -> None:
    os.mkfifo(two.root / "work" / "pipe")
    done = two.orch("-s", "dev", *words, cwd=two.root / "work")
    assert done.code in (2, 3)
    assert message in done.err
    assert not (two.root / ".orch").exists()


def test_a_folder_below_a_file_is_refused_before_anything_is_sent(two: OrchProject) -> None:
    host_home(two).mkdir(parents=True)
    (host_home(two) / "it's").write_text("a file")
    for check in ((), ("--check",)):
        words = ("-s", "dev", "upload", *check, "--delete", "work/site", "it's")
        done = two.orch(*words)
        assert done.code == 1
        assert "it's is not a directory" in done.out
        again = f"orch -s dev upload --delete -l @failed {'--check ' if check else ''}work/site"
        assert f"again, where it failed: {again} 'it'\"'\"'s'" in done.out
    assert files_below(host_home(two)) == ["it's"]


def test_a_host_that_cannot_take_it_says_why(two: OrchProject) -> None:
    (host_home(two) / "srv").mkdir(parents=True)
    (host_home(two) / "srv" / "site").write_text("a file")
    done = two.orch("-s", "dev", "--json", "upload", "work/site", "srv")
    assert done.code == 1
    assert "srv/site is not a directory" in done.host_steps("a1")[0]["stderr"]
    assert done.host_rows["a2"]["status"] == "changed"
    assert files_below(host_home(two)) == ["srv/site"]


def test_a_download_goes_to_a_folder_of_the_host(two: OrchProject) -> None:
    upload(two, "site", "srv")
    words = ("-s", "dev", "--json", "download", "srv/site", "got/all")
    for status in ("would_change", "changed", "ok"):
        check = ("--check",) if status == "would_change" else ()
        done = two.orch(*words, *check, cwd=two.root / "work")
        assert [row["status"] for row in done.host_rows.values()] == [status] * 2, done.out
        found = ["site/css/a", "site/index"] if status != "would_change" else []
        for host in ("a1", "a2"):
            assert files_below(two.root / "work" / "got" / "all" / host) == found
    two.orch("-s", "dev", "download", "~/srv/site/index", "got/all", "-l", "a1")
    assert files_below(two.root / "got" / "all") == ["a1/index"]


def test_a_diff_names_what_a_download_replaces(two: OrchProject) -> None:
    upload(two, "site", "srv")
    two.orch("-s", "dev", "download", "srv/site", "got", "-l", "a1")
    (two.root / "got" / "a1" / "site" / "index").write_text("HELLO")
    (two.root / "got" / "a1" / "site" / "css" / "a").unlink()
    done = two.orch("-s", "dev", "--json", "download", "srv/site", "got", "-l", "a1", "--diff")
    (step,) = done.host_steps("a1")
    assert step["diff"].splitlines()[2:] == ["+css/a (3 bytes)", "-index", "+index (5 bytes)"]


def test_what_is_not_downloaded_is_told(two: OrchProject) -> None:
    script = "mkdir d; ln -s /etc d/out; mkfifo d/pipe; echo x >d/x"
    two.orch("-s", "dev", "exec", "-l", "a1", "--", script)
    done = two.orch("-s", "dev", "--json", "download", "d", "got", "-l", "a1")
    texts = [event["text"] for event in done.events if event["event"] == "warned"]
    assert texts == [
        "a1: links that lead out of the folder are not downloaded: 'out'",
        "a1: not a file, folder or link, and not downloaded: 'pipe'",
    ]
    assert files_below(two.root / "got") == ["a1/d/x"]


def test_values_are_not_templates(two: OrchProject) -> None:
    (two.root / "work" / "{{ x }}").write_text("braces")
    assert upload(two, "{{ x }}", "{% y %}/") == ["changed", "changed"]
    two.orch("-s", "dev", "download", "{% y %}/", "{{ z }}", "-l", "a1")
    assert files_below(two.root / "{{ z }}") == ["a1/{{ x }}"]


@pytest.mark.long
def test_a_thousand_odd_names_and_a_large_file_arrive_both_ways(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    source, dice = tmp_path / "source", random.Random("names")
    letters = ["a", "-", " ", "'", '"', "\\", "\n", "$(id)", "*", "é", "\udcff", "%0A", "\t", "~"]
    for number in range(1000):
        odd = "".join(dice.choices(letters, k=dice.randrange(1, 12)))
        path = source / f"{odd[:3]}dir {number % 7}" / f"{odd}{number}{'x' * (number % 200)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(dice.choice((0, 1, 511, 512, 513, 40_000))))
        path.chmod(dice.choice((0o644, 0o755, 0o600, 0o700, 0o640, 0o664, 0o444)))
    (source / "empty" / "inner").mkdir(parents=True)
    (source / "link").symlink_to("large")
    (source / "large").write_bytes(os.urandom(1_000_000) * 200)
    project.add_sshd_stage(sshd, {"h": "127.9.5.1"})
    for command, src, dest in (
        ("upload", str(source), str(tmp_path / "there")),
        ("download", str(tmp_path / "there" / "source"), str(tmp_path / "back")),
    ):
        for status in ("changed", "ok"):
            done = project.orch("-s", "real", "--json", command, src, dest)
            assert done.host_rows["h"]["status"] == status, done.out
    for copy in (tmp_path / "there" / "source", tmp_path / "back" / "h" / "source"):
        assert tree_of(copy) == tree_of(source)
    there = tmp_path / "there" / "source"
    modes = {path.relative_to(source): path.lstat().st_mode for path in source.rglob("*")}
    assert {path.relative_to(there): path.lstat().st_mode for path in there.rglob("*")} == modes


def tree_of(folder: Path) -> dict[Path, bytes | None]:
    """Return the hashes of files, the targets of links, and None for folders."""
    found: dict[Path, bytes | None] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_symlink():
            found[name] = os.fsencode(path.readlink())
        else:
            found[name] = None if path.is_dir() else sha256(path.read_bytes()).digest()
    return found
