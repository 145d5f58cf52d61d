"""Uploads and downloads that do not come to their end: nothing half-written is left anywhere."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.sshd import wait_until
from tests.support.fault_proxy import FaultProxy, proxied_host
from tests.support.link_faults import FaultKind, LinkDirection, LinkFault

HOST = "127.9.4.1"
SIZE, BREAK = 6_000_000, 2_000_000  # bytes of the file, and those that pass before the fault
DIRECTIONS = {"upload": LinkDirection.TO_SERVER, "download": LinkDirection.TO_CLIENT}


@pytest.fixture
def proxy(project: OrchProject, tmp_path: Path) -> Iterator[FaultProxy]:
    """Yield a proxy before a server whose temporary folder is `temp`; the project has its host."""
    (tmp_path / "temp").mkdir()
    environment = {"TMPDIR": str(tmp_path / "temp")}
    with proxied_host(project, tmp_path, HOST, environment) as proxy:
        yield proxy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(SIZE))
    return folder


def temporary_files(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "temp").rglob("*"), *tmp_path.rglob(".orch-*")]


def words_of(command: str, source: Path, tmp_path: Path) -> tuple[str, ...]:
    target = tmp_path / "to" / "h" if command == "upload" else tmp_path / "to"
    return ("-s", "real", "--json", command, str(source), str(target))


def break_link(proxy: FaultProxy, kind: FaultKind, command: str, detail: int = 0) -> None:
    fault = LinkFault(kind, DIRECTIONS[command], BREAK, detail=detail)
    proxy.set_faults({HOST: fault})


@pytest.mark.parametrize("command", DIRECTIONS)
def test_a_lost_connection_leaves_nothing_and_the_next_run_completes_it(
    project: OrchProject, proxy: FaultProxy, source: Path, tmp_path: Path, command: str
) -> None:
    words, file = words_of(command, source, tmp_path), tmp_path / "to" / "h" / "source" / "large"
    break_link(proxy, FaultKind.RESET, command)
    done = project.orch(*words)
    assert (done.code, done.host_rows["h"]["status"]) == (1, "lost")
    assert "the connection was lost after" in done.host_rows["h"]["reason"]
    assert not file.exists()
    wait_until(lambda: not temporary_files(tmp_path), "the host to remove its files")
    proxy.set_faults({})
    assert project.orch(*words).host_rows["h"]["status"] == "changed"
    assert file.read_bytes() == (source / "large").read_bytes()


@pytest.mark.parametrize("command", DIRECTIONS)
def test_an_interrupt_leaves_nothing(
    project: OrchProject, proxy: FaultProxy, source: Path, tmp_path: Path, command: str
) -> None:
    break_link(proxy, FaultKind.SLOW, command, detail=1_000_000_000)
    with project.start_orch(*words_of(command, source, tmp_path)) as process:
        wait_until(lambda: temporary_files(tmp_path), "the transfer to begin")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["rows"][0]["status"] == "cancelled"
    assert not (tmp_path / "to" / "h" / "source" / "large").exists()
    assert not list(tmp_path.rglob(".orch-*"))
    proxy.close()
    wait_until(lambda: not temporary_files(tmp_path), "the host to remove its files")
