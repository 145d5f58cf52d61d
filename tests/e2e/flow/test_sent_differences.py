"""Large files of which a host has older ones: the bytes that are sent, and what may go wrong."""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.model.byte_size import format_size
from tests.projects import OrchProject, OrchResult
from tests.sshd import wait_until
from tests.support.fault_proxy import FaultProxy, proxied_host
from tests.support.link_faults import FaultKind, LinkDirection, LinkFault

HOST, SIZE = "127.9.5.1", 6_000_000  # bytes
OLD = random.Random(1).randbytes(SIZE)
OTHER = random.Random(2).randbytes(SIZE)
PART = OTHER[:100_000]
EDITS = {
    "in place": OLD[:1_000_000] + PART + OLD[1_000_000 + len(PART) :],
    "appended": OLD + PART,
    "inserted": b"x" + OLD,
}
SERVER = 'case $1 in --server) ;; *) exec /usr/bin/rsync "$@";; esac\n'
FAULTS = {
    "other program": "echo 'openrsync: protocol version 29'",
    "ends early": SERVER + 'dd bs=1 count=30000 2>/dev/null | /usr/bin/rsync "$@"',
    "ends at once": SERVER + "echo 'no such luck' >&2; exit 5",
    "says nonsense": SERVER + "echo nonsense; exec cat >/dev/null",
    "other file": SERVER + '/usr/bin/rsync "$@" && echo >>delta/large',
}
"""What a program `rsync` on a host may do, as scripts."""


@pytest.fixture
def proxy(project: OrchProject, tmp_path: Path) -> Iterator[FaultProxy]:
    """Yield a proxy before a server, which finds programs in `tools` first."""
    (tmp_path / "temp").mkdir(mode=0o777)
    (tmp_path / "tools").mkdir()
    environment = {"TMPDIR": str(tmp_path / "temp"), "PATH": f"{tmp_path / 'tools'}:/usr/bin:/bin"}
    with proxied_host(project, tmp_path, HOST, environment) as proxy:
        yield proxy


@pytest.fixture
def destination(project: OrchProject, proxy: FaultProxy, tmp_path: Path) -> Path:
    """Return a folder of the host that has an older file of the project's folder `src`."""
    destination = tmp_path / "destination"
    for folder in (destination, project.root / "src"):
        folder.mkdir()
        (folder / "large").write_bytes(OLD)
    change(project, EDITS["in place"])
    return destination


def change(project: OrchProject, data: bytes) -> None:
    (project.root / "src" / "large").write_bytes(data)


def write_rsync(folder: Path, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "rsync").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "rsync").chmod(0o755)


def upload(project: OrchProject, destination: Path, *words: str, **env: str) -> OrchResult:
    return project.orch("-s", "real", *words, "upload", "src/", str(destination), **env)


def sent_bytes(proxy: FaultProxy) -> int:
    """Return how many bytes the last connection has sent to the host."""
    return proxy.passed[HOST, LinkDirection.TO_SERVER]


def files_of_upload(tmp_path: Path) -> list[str]:
    """Return what an upload has on the host; it may vanish meanwhile."""
    found = [name for _, folders, files in os.walk(tmp_path / "temp") for name in folders + files]
    folders = (name for _, folders, _ in os.walk(tmp_path) for name in folders)
    return [*found, *(name for name in folders if name.startswith(".orch-"))]


def has_begun(tmp_path: Path) -> bool:
    """Return True if rsync writes the new file on the host, under a name of its own."""
    return any(name.startswith(".large.") for name in files_of_upload(tmp_path))


def processes_in(folder: Path) -> list[str]:
    """Return the IDs of processes that work in a folder below this one."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended
            if each.name.isdigit() and str((each / "cwd").readlink()).startswith(str(folder)):
                found.append(each.name)
    return found


def test_only_what_differs_is_sent(
    project: OrchProject, proxy: FaultProxy, destination: Path, tmp_path: Path
) -> None:
    (destination / "large").chmod(0o600)
    for edit, data in EDITS.items():
        change(project, data)
        proxy.set_faults({})
        done = upload(project, destination, "--json")
        assert done.host_rows["h"]["status"] == "changed", done.out
        assert sent_bytes(proxy) < len(PART) + 100_000, edit
        (note,) = (each["text"] for each in done.events if each["event"] == "noted")
        assert re.fullmatch(rf"h: sent [\d.]+ [kM]B instead of {format_size(len(data))}", note)
        assert (destination / "large").read_bytes() == data
        assert (destination / "large").stat().st_mode & 0o777 == 0o644
    proxy.set_faults({})
    assert upload(project, destination, "--json").host_rows["h"]["status"] == "ok"
    assert sent_bytes(proxy) < 50_000
    assert not files_of_upload(tmp_path)


def test_a_check_sends_nothing(project: OrchProject, proxy: FaultProxy, destination: Path) -> None:
    done = upload(project, destination, "--check", "--json")
    assert done.host_rows["h"]["status"] == "would_change"
    assert sent_bytes(proxy) < 50_000
    assert (destination / "large").read_bytes() == OLD


def test_whole_files_are_sent_if_the_step_says_so(
    project: OrchProject, proxy: FaultProxy, destination: Path
) -> None:
    words = ("--whole-file", "src/", str(destination))
    done = project.orch("-s", "real", "--json", "upload", *words)
    assert done.host_rows["h"]["status"] == "changed", done.err
    assert sent_bytes(proxy) > SIZE
    assert (destination / "large").read_bytes() == EDITS["in place"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_host_whose_rsync_fails_gets_the_whole_file(
    project: OrchProject, proxy: FaultProxy, destination: Path, tmp_path: Path, fault: str
) -> None:
    write_rsync(tmp_path / "tools", FAULTS[fault])
    done = upload(project, destination, "-v")
    assert done.code == 0, done.out + done.err
    assert ("note: h: large files are sent whole: " in done.out + done.err) == (
        fault != "other program"
    )
    assert (destination / "large").read_bytes() == EDITS["in place"]
    assert sent_bytes(proxy) > SIZE
    wait_until(lambda: not files_of_upload(tmp_path), "the host to remove its files")


def test_without_an_rsync_that_can_be_used_here_the_whole_file_is_sent(
    project: OrchProject, proxy: FaultProxy, destination: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in os.environ["PATH"].split(":"):
        for each in sorted(Path(path).iterdir()) if Path(path).is_dir() else ():
            if each.name != "rsync" and not (bare / each.name).is_symlink():
                (bare / each.name).symlink_to(each)
    done = upload(project, destination, "-v", PATH=str(bare))
    assert "large files are sent whole: this machine has no rsync" in done.out + done.err
    change(project, EDITS["appended"])
    write_rsync(bare, "echo 'rsync  version 3.2.7  protocol version 31'")
    done = upload(project, destination, "-v", PATH=str(bare))
    assert "rsync on this machine is older than 3.4" in done.out + done.err
    change(project, EDITS["inserted"])
    write_rsync(bare, 'case $1 in --version) exec /usr/bin/rsync "$@";; esac; exit 4')
    done = upload(project, destination, "-v", PATH=str(bare))
    assert "rsync on this machine failed" in done.out + done.err
    assert (destination / "large").read_bytes() == EDITS["inserted"]
    wait_until(lambda: not files_of_upload(tmp_path), "the host to remove its files")


def test_a_lost_connection_leaves_nothing_and_the_next_run_completes_it(
    project: OrchProject, proxy: FaultProxy, destination: Path, tmp_path: Path
) -> None:
    change(project, OTHER)
    proxy.set_faults({HOST: LinkFault(FaultKind.RESET, LinkDirection.TO_SERVER, 2_000_000)})
    row = upload(project, destination, "--json").host_rows["h"]
    assert row["status"] == "lost"
    assert "the connection was lost after" in row["reason"]
    assert (destination / "large").read_bytes() == OLD
    wait_until(lambda: not files_of_upload(tmp_path), "the host to remove its files")
    proxy.set_faults({})
    assert upload(project, destination, "--json").host_rows["h"]["status"] == "changed"
    assert (destination / "large").read_bytes() == OTHER


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_an_end_of_orch_leaves_nothing(
    project: OrchProject,
    proxy: FaultProxy,
    destination: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    change(project, OTHER)
    slow = LinkFault(FaultKind.SLOW, LinkDirection.TO_SERVER, 2_000_000, detail=1_000_000_000)
    proxy.set_faults({HOST: slow})
    words = ("-s", "real", "--json", "upload", "src/", str(destination))
    here = tmp_path / "here"
    here.mkdir()
    with project.start_orch(*words, TMPDIR=str(here)) as process:
        wait_until(lambda: has_begun(tmp_path), "the transfer to begin")
        assert processes_in(here)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert json.loads(out.splitlines()[-1])["rows"][0]["status"] == "cancelled"
    assert (destination / "large").read_bytes() == OLD
    wait_until(lambda: not processes_in(here), "rsync on this machine to end")
    assert not [path.name for path in here.iterdir() if path.name.startswith("orch-rsync-")]
    proxy.close()
    wait_until(lambda: not files_of_upload(tmp_path), "the host to remove its files")


@pytest.mark.parametrize("variant", ["become", "openssh", "jump", "kept"])
def test_differences_are_sent_however_a_host_is_reached(
    project: OrchProject, proxy: FaultProxy, destination: Path, variant: str
) -> None:
    path = project.root / "inventories" / "real" / "stage.yml"
    stage = json.loads(path.read_text())
    more = {
        "become": {},
        "openssh": {"transport": "openssh"},
        "jump": {"jump": f"127.9.5.2:{proxy.port}"},
        "kept": {"persist": "1m"},
    }
    path.write_text(json.dumps({"connect": stage["connect"] | more[variant]}))
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        site.mkdir()
        shutil.copy(destination / "large", site)
        user = pwd.getpwnam("nobody" if variant == "become" else "root")
        for each in (Path(folder), site, site / "large"):
            each.chmod(0o700)
            os.chown(each, user.pw_uid, user.pw_gid)
        words = ("--become-user", "nobody") if variant == "become" else ()
        words = ("-s", "real", "--json", "upload", *words, "src/", str(site))
        try:
            done = project.orch(*words)
        finally:
            if variant == "kept":
                project.orch("-s", "real", "warm", "down")
        assert done.host_rows["h"]["status"] == "changed", done.out + done.err
        assert (site / "large").read_bytes() == EDITS["in place"]
        assert (site / "large").owner() == user.pw_name
    assert sent_bytes(proxy) < SIZE / 2
