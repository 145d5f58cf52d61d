"""Many hosts, some of them faulty: each has its own correct row."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.projects import OrchProject, interrupt_until_exit
from tests.sshd import SshdServer, generate_key, wait_until

LONG = 10**8 + secrets.randbelow(10**8)
"""Seconds for which nothing else on this machine sleeps."""

UNAME = {
    "tasks/uname.yml": dedent("""\
    steps:
      - run: uname
        readonly: true
    """)
}
CHANGE = {"tasks/change.yml": "steps:\n  - run: echo done\n"}


def loopback_addresses(count: int) -> dict[str, str]:
    return {f"h{n:03}": f"127.3.{n // 200}.{n % 200 + 1}" for n in range(count)}


@contextlib.contextmanager
def silent_port(address: str) -> Iterator[int]:
    """Open a port that accepts connections and never sends data."""
    with socket.create_server((address, 0), backlog=64) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def closed_port(address: str) -> Iterator[int]:
    """Bind a port that does not listen."""
    with socket.socket() as holder:
        holder.bind((address, 0))
        yield holder.getsockname()[1]


def set_host(project: OrchProject, host: str, **connect: object) -> None:
    address = str(connect.pop("address"))
    path = project.root / "inventories/real/hosts.yml"
    hosts = json.loads(path.read_text())
    hosts[host] = {"address": address, "connect": connect}
    path.write_text(json.dumps(hosts))


def test_300_hosts_give_300_right_rows(project: OrchProject, sshd: SshdServer) -> None:
    project.add_sshd_stage(sshd, loopback_addresses(300)).write(UNAME)
    done = project.orch("-s", "real", "run", "uname", "--json")
    assert done.code == 0, done.err
    assert len(done.host_rows) == 300
    assert {row["status"] for row in done.host_rows.values()} == {"ok"}
    outputs = [e["stdout"].strip() for e in done.events if e["event"] == "step_finished"]
    assert outputs == ["Linux"] * 300


def test_hosts_in_trouble_have_their_own_states_and_reasons(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    """The faulty hosts are down, silent, have an unknown or changed key, or reject the login."""
    project.add_sshd_stage(sshd, loopback_addresses(30)).write(UNAME)
    stranger = generate_key(tmp_path / "stranger")
    known = tmp_path / "known_hosts"
    other = Path(f"{stranger}.pub").read_text().split()
    known.write_text(f"[127.3.9.3]:{sshd.port} {other[0]} {other[1]}\n")
    with silent_port("127.3.9.1") as quiet, closed_port("127.3.9.2") as nobody:
        set_host(project, "h001", address="127.3.9.2", port=nobody)
        set_host(project, "h002", address="127.3.9.1", port=quiet, timeout=2)
        set_host(project, "h003", address="127.3.9.3", known_hosts=str(known))
        set_host(project, "h004", address="127.3.9.4", known_hosts="/dev/null")
        set_host(project, "h005", address="127.3.9.5", identity=str(stranger))
        set_host(project, "h006", address="no-such-host.invalid", timeout=5)
        began = time.monotonic()
        done = project.orch("-s", "real", "run", "uname", "--json")
        took = time.monotonic() - began
    assert done.code == 4
    rows = done.host_rows
    assert {name for name, row in rows.items() if row["status"] == "unreachable"} == {
        f"h00{n}" for n in range(1, 7)
    }
    assert [row["status"] for row in rows.values()].count("ok") == 24
    for host, words in {
        "h001": ("connect", "refused"),
        "h002": ("banner", "2 s"),
        "h003": ("host key", "changed"),
        "h004": ("host key", "is not in /dev/null"),
        "h005": ("auth", str(stranger)),
        "h006": ("resolve",),
    }.items():
        for word in words:
            assert word in rows[host]["reason"], rows[host]["reason"]
    assert took < 30  # nothing runs longer than the connect timeout


def test_a_host_that_is_away_stops_a_changing_run_before_anything_is_touched(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    project.add_sshd_stage(sshd, loopback_addresses(3)).write(
        {"tasks/change.yml": f"steps:\n- run: touch {tmp_path}/touched-$$\n"}
    )
    with closed_port("127.3.9.2") as nobody:
        set_host(project, "h001", address="127.3.9.2", port=nobody)
        done = project.orch("-s", "real", "run", "change", "--json")
        assert done.code == 4
        assert [row["status"] for row in done.host_rows.values()] == [
            "not_started",
            "unreachable",
            "not_started",
        ]
        assert not list(tmp_path.glob("touched-*"))
        skip = project.orch("-s", "real", "run", "change", "--json", "--unreachable", "skip")
    assert [row["status"] for row in skip.host_rows.values()] == [
        "changed",
        "unreachable",
        "changed",
    ]
    assert skip.code == 4
    assert len(list(tmp_path.glob("touched-*"))) == 2


def test_two_failures_are_both_told_and_the_slow_third_host_finishes_its_task(
    project: OrchProject, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    project.add_sandbox_stage("a1", "a2", "a3").write(
        {
            "tasks/one.yml": "steps:\n- run: |\n    case {{ host.name }} in\n"
            f"    a3) cat {go}; echo late;;\n    *) exit 5;;\n    esac\n",
            "tasks/two.yml": "steps:\n- run: echo two\n",
        }
    )
    with project.start_orch("-s", "dev", "run", "one", "two", "--json") as process:
        assert process.stdout is not None
        lines = []
        while sum('"host_finished"' in line for line in lines) < 2:
            lines.append(process.stdout.readline())
        go.write_text("now\n")
        lines += process.stdout.readlines()
        assert process.wait(30) == 1
    rows = {r["host"]: r for r in json.loads(lines[-1])["rows"]}
    assert rows["a1"]["status"] == rows["a2"]["status"] == "failed"
    assert rows["a3"]["status"] == "stopped"
    assert rows["a3"]["changed"] == 1
    assert rows["a3"]["reason"] == "stopped before 'two': a1 failed"
    assert not any('"task": "two"' in line and "step_started" in line for line in lines)


def test_keep_going_lets_the_healthy_hosts_go_on(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2").write(
        {
            "tasks/one.yml": "steps:\n- run: test {{ host.name }} = a2\n",
            "tasks/two.yml": "steps:\n- run: echo two\n",
        }
    )
    done = project.orch("-s", "dev", "run", "one", "two", "--json", "--keep-going")
    assert done.code == 1
    assert [row["status"] for row in done.host_rows.values()] == ["failed", "changed"]
    assert [s["task"] for s in done.host_steps("a2")] == ["one", "two"]
    assert [s["task"] for s in done.host_steps("a1")] == ["one"]


def test_every_host_finishes_a_task_before_any_begins_the_next(project: OrchProject) -> None:
    hosts = [f"a{n}" for n in range(1, 6)]
    project.add_sandbox_stage(*hosts).write(
        {
            "tasks/one.yml": dedent("""\
                steps:
                - run: 'true'
                - run: echo {{ host.name }}
                """),
            "tasks/two.yml": "steps:\n- run: 'true'\n",
        }
    )
    done = project.orch("-s", "dev", "run", "one", "two", "--json")
    order = [e["task"] for e in done.events if e["event"] in ("step_started", "step_finished")]
    assert order == ["one"] * 20 + ["two"] * 10


def test_limit_failed_runs_again_where_the_last_run_failed(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2", "a3").write(
        {"tasks/one.yml": "steps:\n- run: test {{ host.name }} = a2\n"}
    )
    assert project.orch("-s", "dev", "run", "one").code == 1
    again = project.orch("-s", "dev", "run", "one", "-l", "@failed", "--json")
    assert list(again.host_rows) == ["a1", "a3"]


def test_a_host_in_two_roles_runs_once_and_its_row_shows_both(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/roles/web.yml": "[a1]\n",
            "inventories/dev/roles/db.yml": "[a1]\n",
            "tasks/t.yml": dedent("""\
                roles: [web, db]
                steps:
                - run: echo x
                """),
        }
    )
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert len(done.host_steps("a1")) == 1
    assert "db,web" in project.orch("-s", "dev", "run", "t").out


@pytest.mark.parametrize(
    ("role", "code", "word"),
    [
        ("web", 0, ""),
        ("empty", 3, "no host of this stage has the role empty"),
        ("wbe", 3, "did you mean 'web'?"),
    ],
)
def test_a_role_that_gives_no_host_is_never_a_silent_success(
    project: OrchProject, role: str, code: int, word: str
) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/roles/web.yml": "[a1]\n",
            "inventories/dev/roles/empty.yml": "[]\n",
            "tasks/t.yml": f"roles: [{role}]\nsteps:\n- run: echo x\n",
            "tasks/u.yml": "steps:\n- run: echo x\n",
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == code
    assert word in done.err
    if role == "empty":
        both = project.orch("-s", "dev", "run", "t", "u")
        assert both.code == 0
        assert "task 't' is skipped" in both.err


def test_ctrl_c_ends_the_running_steps_and_says_where_everyone_stands(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    project.add_sshd_stage(sshd, {"a1": "127.3.0.1", "a2": "127.3.0.2"}).write(
        {
            "tasks/t.yml": f"steps:\n- run: touch {tmp_path}/on-{{{{ host.name }}}}; sleep {LONG}\n"
            "- run: echo never\n",
            "tasks/u.yml": "steps: [{run: echo never}]\n",
        }
    )
    with project.start_orch("-s", "real", "run", "t", "u", "--json") as process:
        wait_until(lambda: len(list(tmp_path.glob("on-*"))) == 2, "both steps run")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = json.loads(out.splitlines()[-1])
    assert [row["status"] for row in last["rows"]] == ["cancelled", "cancelled"]
    wait_until(lambda: not _is_running(f"sleep {LONG}"), "the steps' processes are gone")


@pytest.mark.parametrize("words", [(), ("--engine", "dask=local:1")], ids=["", "own worker"])
def test_a_second_ctrl_c_leaves_at_once_and_names_who_is_busy(
    project: OrchProject, sshd: SshdServer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    on = tmp_path / "on"
    project.add_sshd_stage(sshd, {"a1": "127.3.0.1"}).write(
        {"tasks/t.yml": f"steps:\n- run: touch {on}; sleep {LONG}\n"}
    )
    with project.start_orch("-s", "real", "run", "t", *words) as process:
        wait_until(on.exists, "the step runs")
        stopped = sshd.session_processes()
        for child in stopped:  # or the step would end before the second Ctrl-C
            os.kill(child, signal.SIGSTOP)
        try:
            _, err = interrupt_until_exit(process)
        finally:
            for child in stopped:
                os.kill(child, signal.SIGCONT)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "a1 may still be running t: " in err
    assert err.splitlines()[-1].startswith("to resume: orch resume ")
    wait_until(lambda: not _is_running(f"sleep {LONG}"), "the step's processes are gone")


def test_a_connection_cut_in_the_middle_is_lost_with_its_step_and_never_ok(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    on = tmp_path / "on"
    project.add_sshd_stage(sshd, {"a1": "127.3.0.1"}).write(
        {
            "tasks/t.yml": f"steps:\n- run: echo one\n- run: touch {on}; sleep {LONG}\n"
            f"- run: touch {tmp_path}/never\n"
        }
    )
    with project.start_orch("-s", "real", "run", "t", "--json") as process:
        wait_until(on.exists, "the step runs")
        for child in sshd.session_processes():
            os.kill(child, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (row,) = json.loads(out.splitlines()[-1])["rows"]
    assert row["status"] == "lost"
    assert "in step 2" in row["reason"]
    assert not (tmp_path / "never").exists()
    wait_until(lambda: not _is_running(f"sleep {LONG}"), "the step's processes are gone")


def test_a_reader_that_goes_away_ends_the_run_in_order(
    project: OrchProject, tmp_path: Path
) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": "steps:\n- run: yes | head -n 200000\n"})
    with project.start_orch("-s", "dev", "run", "t") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(30)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def _is_running(command: str) -> bool:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return any(line.strip() == command for line in found.stdout.splitlines())
