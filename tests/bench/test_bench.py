"""The benchmarks are correct: every workload runs to its verified end."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.__main__ import WORKLOADS, format_table, measure_tools
from tests.bench.connection_keeping import measure_kept
from tests.bench.delay import delayed_port
from tests.bench.differences import measure_differences
from tests.bench.history_commands import COMMANDS, measure_commands
from tests.bench.inner_loops import measure_loops
from tests.bench.process_startup import measure_startup
from tests.bench.run_store import write_store
from tests.bench.sshd_farm import start_farm
from tests.bench.transfers import TransferJob, measure_jobs

FRAMES = (sys.executable, "-m", "tests.bench.frames")
OURS = ["orch", "orch (run only)", "ssh"]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_orch_and_ssh_do_all_of_the_work(tmp_path: Path, workload: str) -> None:
    delay = 0.001 if workload == "W3" else 0.0
    with start_farm(tmp_path / "farm", delay=delay) as host_farm:
        found = measure_tools(host_farm, workload, 2, OURS, 1)
    assert list(found) == [name for name in OURS if workload != "W1" or "only" not in name]
    assert all(run.is_complete for runs in found.values() for run in runs)
    assert "FAILED" not in "".join(format_table(workload, 2, found))


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("worker_processes", "--hosts", "20", "--steps", "2", "--repeat", "1"),
        ("regions", "--hosts", "20", "--regions", "2", "--delay", "0.01"),
    ],
)
def test_workers_do_all_of_the_work(words: tuple[str, ...]) -> None:
    name, *options = words
    command = [sys.executable, "-m", f"tests.bench.{name}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "20 canned hosts" in done.stdout


def test_commands_over_kept_connections_do_all_of_the_work(tmp_path: Path) -> None:
    with start_farm(tmp_path / "farm") as host_farm:
        found = measure_kept(host_farm, "W1", 2, 1)
    assert all(run.is_complete for runs in found.values() for run in runs)


def test_transfers_are_complete_both_ways(tmp_path: Path) -> None:
    jobs = [TransferJob("large", direction, 2) for direction in ("upload", "download")]
    assert measure_jobs(tmp_path, jobs, 1, 1, "orch,scp")


@pytest.mark.long
def test_of_a_large_file_only_what_differs_is_sent() -> None:
    sent = measure_differences(8, 1, ("orch",))
    assert sent.pop("all changed") > 8
    assert len(sent) == 4 and all(mb < 2 for mb in sent.values())


def test_a_host_and_a_step_pass_through_few_files() -> None:
    """In a process of its own, since it profiles all of it."""
    root = Path(__file__).parents[2]
    done = subprocess.run(FRAMES, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_gives_a_figure(tmp_path: Path) -> None:
    _, _, *rows = measure_startup(tmp_path / "small", 1)
    assert all(float(row.split("|")[2]) > 0 for row in rows)
    assert len(rows) == 5


def test_every_command_that_reads_runs_gives_a_figure(tmp_path: Path) -> None:
    root = tmp_path / "project"
    write_store(root, 3, 2)
    _, _, *rows = measure_commands(root, 2, 1)
    assert all(float(row.split("|")[2]) > 0 for row in rows)
    assert len(rows) == 2 + len(COMMANDS) + 4


def test_every_inner_loop_gives_a_figure() -> None:
    _, _, *rows = measure_loops(1)
    assert all(float(row.split("|")[2]) > 0 for row in rows)
    assert len(rows) == 4


def test_a_link_with_a_delay_passes_everything_on_in_order_and_later(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        delayed_port(server.getsockname()[1], 0.05) as port,
        socket.create_connection(("127.0.0.1", port)) as near,
    ):
        began = time.monotonic()
        near.sendall(b"ab")
        far, _ = server.accept()
        near.sendall(b"cd")
        assert far.recv(4, socket.MSG_WAITALL) == b"abcd"
        far.sendall(b"ef")
        far.close()
        assert near.recv(3, socket.MSG_WAITALL) == b"ef"
        assert time.monotonic() - began >= 0.2  # SYN, SYN ACK, ACK and data; then the answer
