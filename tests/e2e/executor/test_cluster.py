"""`orch cluster`: workers on hosts of a stage, which runs use."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer, child_processes, free_port, serve_sshd, wait_until
from tests.support.user_systemd import fake_user_systemd

HOSTS = {"c1": "127.0.0.1", "w1": "127.0.0.2", "web1": "127.0.0.3", "web2": "127.0.0.4"}


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshdServer]:
    with serve_sshd(tmp_path / "sshd") as started:
        yield started
        for path in started.home.rglob("node.pid"):  # a test has failed
            os.kill(int(path.read_text().split()[0]), signal.SIGTERM)


def configure(project: OrchProject, sshd: SshdServer, **cluster: object) -> OrchProject:
    """Write a stage with a cluster whose nodes use the Python of the tests."""
    project.add_sshd_stage(sshd, HOSTS)
    path = project.root / "inventories/real/stage.yml"
    settings = {
        "scheduler": "c1",
        "workers": ["c1", "w1"],
        "python": sys.executable,
        "install": False,
        "port": free_port(),
        "listen": "127.0.0.1",
        "threads": 2,
        **cluster,
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), "cluster": settings}))
    return project


def orch(project: OrchProject, *words: str, **env: str) -> OrchResult:
    return project.orch("-s", "real", *words, **env)


@contextmanager
def running_cluster(project: OrchProject) -> Iterator[str]:
    """Start the cluster, yield its engine, and end it."""
    try:
        done = orch(project, "cluster", "up", "--diff")
        assert done.code == 0, done.err
        yield done.out.splitlines()[-1].removeprefix("engine: ")
    finally:
        done = orch(project, "cluster", "down", "--force")
        assert done.code == 0, done.err


def node_folder(sshd: SshdServer, host: str) -> Path:
    return sshd.home / ".orch/cluster/project/real" / host


def node_pid(sshd: SshdServer, host: str) -> int:
    return int((node_folder(sshd, host) / "node.pid").read_text().split()[0])


def processes_with(text: str) -> dict[int, str]:
    """Return the command lines with this text of processes that run, by process ID."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if text in line:
            found[int(folder.name)] = line
    return found


def children_of(pid: int) -> dict[int, str]:
    """Return the command lines of the processes of Dask that a process has started."""
    own = set(child_processes(pid))
    return {each: line for each, line in processes_with("distributed.cli").items() if each in own}


def statuses(done: OrchResult) -> Mapping[str, str]:
    return {host: row["status"] for host, row in done.host_rows.items()}


def private_keys(project: OrchProject) -> list[str]:
    folder = project.root / ".orch/cluster/real"
    return [path.read_text() for path in folder.rglob("*.key")]


def test_a_run_uses_the_cluster_that_up_started_and_down_leaves_nothing(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd).write({"tasks/name.yml": "steps: [{run: uname, readonly: true}]\n"})
    checked = orch(project, "cluster", "up", "--check", "--json")
    assert statuses(checked) == {"c1": "would_change", "w1": "would_change"}, checked.err
    missing = orch(project, "cluster", "check", "--json")
    assert missing.code == 1
    actions = {each["hint"] for each in missing.events if each["state"] == "fail"}
    assert actions == {"run `orch cluster up`"}
    assert not node_folder(sshd, "c1").exists()
    assert not (project.root / ".orch/cluster").exists()
    with running_cluster(project) as engine:
        complete = orch(project, "cluster", "check")
        assert complete.code == 0, complete.out
        assert "log in: workers log in to 4 hosts" in complete.out
        assert f"write `engine: {engine}` to stage.yml" in complete.out
        ran = orch(project, "run", "name", "--engine", engine, "--json")
        assert statuses(ran) == dict.fromkeys(HOSTS, "ok"), ran.err
        shown = orch(project, "cluster", "status", "--json")
        assert [(row["host"], row["process"], row["state"]) for row in shown.events] == [
            ("c1", "scheduler", "runs"),
            ("c1", "worker 1", "runs"),
            ("w1", "worker 1", "runs"),
        ]
        pids = [node_pid(sshd, host) for host in ("c1", "w1")]
        again = orch(project, "cluster", "up", "--json")
        assert statuses(again) == {"c1": "ok", "w1": "ok"}, again.out
        assert [node_pid(sshd, host) for host in ("c1", "w1")] == pids
        files = [
            *(project.root / ".orch/cluster/real").rglob("*"),
            *(
                node_folder(sshd, host) / "tls" / f"{name}.pem"
                for host in ("c1", "w1")
                for name in ("key", "cert", "ca")
            ),
        ]
        modes = {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()}
        assert modes == {0o600}
        keys = private_keys(project)
    assert len(keys) == 4
    for path in (project.root / ".orch/runs").rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not any(line in text for key in keys for line in key.splitlines()[1:-1]), path
    assert processes_with(str(sshd.home)) == {}
    assert not list((sshd.home / ".orch").rglob("*.*"))
    assert not (project.root / ".orch/cluster/real").exists()


def test_what_ends_is_started_again_and_nothing_outlives_its_node(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd, workers=["w1"])
    with running_cluster(project):
        node = node_pid(sshd, "w1")
        (worker,) = children_of(node)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: children_of(node).keys() - {worker}, "the worker runs again")
        second = children_of(node)
        os.kill(node, signal.SIGKILL)
        wait_until(
            lambda: not second.keys() & processes_with("distributed.cli").keys(), "its worker ends"
        )
        shown = orch(project, "cluster", "status", "--json")
        assert shown.code == 1
        assert [row["state"] for row in shown.events] == ["runs", "missing"]
        again = orch(project, "cluster", "up", "--json")
        assert statuses(again) == {"c1": "ok", "w1": "changed"}, again.err


@pytest.mark.long
def test_workers_that_a_run_uses_are_not_ended_without_force(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd).write(
        {"tasks/hold.yml": f"steps: [{{run: 'until [ -e {sshd.home}/go ]; do sleep 0.1; done'}}]\n"}
    )
    with running_cluster(project) as engine:
        words = ("-s", "real", "run", "hold", "-l", "web1", "--engine", engine)
        with project.start_orch(*words) as running:

            def is_busy() -> bool:
                rows = orch(project, "cluster", "status", "--json").events
                return any(row["busy"] for row in rows)

            wait_until(is_busy, "a worker takes part in the run")
            for command in ("up", "down"):
                refused = orch(project, "cluster", command)
                assert refused.code == 2
                assert "runs use workers of the cluster: " in refused.err
            (sshd.home / "go").touch()
            running.communicate(timeout=60)
            assert running.returncode == 0
        wait_until(lambda: not is_busy(), "the worker is free again")
        assert orch(project, "cluster", "up").code == 0


@pytest.mark.long
def test_a_scheduler_that_is_killed_comes_back_with_its_workers(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd).write({"tasks/name.yml": "steps: [{run: uname, readonly: true}]\n"})
    with running_cluster(project) as engine:
        found = children_of(node_pid(sshd, "c1")).items()
        (scheduler,) = (pid for pid, line in found if "dask_scheduler" in line)
        os.kill(scheduler, signal.SIGKILL)
        wait_until(lambda: scheduler not in processes_with("dask_scheduler"), "the scheduler ends")
        wait_until(lambda: orch(project, "cluster", "status").code == 0, "all processes run again")
        ran = orch(project, "run", "name", "--engine", engine, "--json")
        assert statuses(ran) == dict.fromkeys(HOSTS, "ok"), ran.err


@pytest.mark.long
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_nodes_start_and_end_with_every_shell(
    project: OrchProject, sshd: SshdServer, shell: str
) -> None:
    configure(project, sshd, workers=["c1"])
    program = sshd.home / "shell"
    program.write_text(f'#!/bin/sh\nexec {shell} {"sh" if shell == "busybox" else ""} "$@"\n')
    program.chmod(0o755)
    path = project.root / "inventories/real/stage.yml"
    settings = json.loads(path.read_text())
    settings["connect"]["shell"] = str(program)
    path.write_text(json.dumps(settings))
    with running_cluster(project):
        again = orch(project, "cluster", "up", "--json")
        assert statuses(again) == {"c1": "ok"}, again.out
        assert orch(project, "cluster", "check").code == 0
        pid = node_pid(sshd, "c1")
    assert pid not in processes_with("cluster_node")


@pytest.mark.long
def test_up_with_other_settings_restarts_the_host_that_they_are_for(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd)
    with running_cluster(project):
        pids = {host: node_pid(sshd, host) for host in ("c1", "w1")}
        path = project.root / "inventories/real/stage.yml"
        settings = json.loads(path.read_text())
        settings["regions"] = {"eu": ["web1"], "us": ["web2"]}
        settings["cluster"]["workers"] = {"eu": ["c1"], "us": ["w1", "c1"]}
        path.write_text(json.dumps(settings))
        limited = orch(project, "cluster", "up", "-l", "w1", "--json")
        assert statuses(limited) == {"w1": "changed"}, limited.err
        assert node_pid(sshd, "c1") == pids["c1"]
        assert node_pid(sshd, "w1") != pids["w1"]
        shown = orch(project, "cluster", "status", "--json")
        assert [row["regions"] for row in shown.events] == [[], [], ["us"]]
        assert orch(project, "cluster", "up").code == 0
        shown = orch(project, "cluster", "status", "--json")
        assert [row["regions"] for row in shown.events] == [[], ["eu", "us"], ["us"]]


def test_a_host_with_certificates_of_another_machine_is_left_alone(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd, workers=["c1"])
    foreign = node_folder(sshd, "c1") / "tls/ca.pem"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("-----BEGIN CERTIFICATE-----\nabc\nxyz=\n-----END CERTIFICATE-----\n")
    refused = orch(project, "cluster", "up")
    assert refused.code == 1
    assert "certificates that this machine does not have" in refused.out
    assert [path.name for path in foreign.parent.iterdir()] == ["ca.pem"]
    checked = orch(project, "cluster", "check")
    assert "its certificates are those of another machine" in checked.out
    replaced = orch(project, "cluster", "up", "--new-certificates", "--check")
    assert replaced.code == 0, replaced.err


@pytest.mark.long
def test_a_run_with_certificates_of_another_authority_is_refused(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd, workers=["c1"]).write(
        {"tasks/name.yml": "steps: [{run: uname, readonly: true}]\n"}
    )
    own = project.root / ".orch/cluster"
    with running_cluster(project) as engine:
        own.rename(project.root / "kept")
        orch(project, "cluster", "up")  # makes others, and is refused by the host
        refused = orch(project, "run", "name", "--engine", engine)
        assert refused.code == 2
        assert "no connection to the scheduler" in refused.err
        pid = node_pid(sshd, "c1")
        assert orch(project, "cluster", "up", "--new-certificates").code == 0
        assert node_pid(sshd, "c1") != pid
        assert orch(project, "run", "name", "--engine", engine).code == 0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 3.9", "is Python 3.9, and orch runs here with Python"),
        pytest.param(
            "case $1 in -c) echo VERSION;; *) exit 1;; esac",
            "has no orch and distributed",
            marks=pytest.mark.long,
        ),
        ("case $1 in -c) echo VERSION;; *) echo {};; esac", "has other versions than the machine"),
    ],
)
def test_a_python_that_cannot_run_workers_is_refused_before_anything_changes(
    project: OrchProject, sshd: SshdServer, script: str, message: str
) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    python = sshd.home / "python"
    python.write_text(f"#!/bin/sh\n{script.replace('VERSION', version)}\n")
    python.chmod(0o755)
    configure(project, sshd, workers=["c1"], python="~/python")
    done = orch(project, "cluster", "up")
    assert done.code == 1
    assert message in done.out
    assert not node_folder(sshd, "c1").exists()


@pytest.mark.long
def test_hosts_get_an_environment_with_the_same_code(
    project: OrchProject, sshd: SshdServer
) -> None:
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    own = {"workers": ["w1"], "scheduler": "w1", "listen": HOSTS["w1"]}
    configure(project, sshd, **own, install=True, python=python).write(
        {"tasks/name.yml": "steps: [{run: uname, readonly: true}]\n"}
    )
    checked = orch(project, "cluster", "up", "--check", "--json")
    assert statuses(checked) == {"w1": "would_change"}, checked.out
    with running_cluster(project) as engine:
        ran = orch(project, "run", "name", "--engine", engine, "--json")
        assert statuses(ran) == dict.fromkeys(HOSTS, "ok"), ran.err
        earlier = node_folder(sshd, "w1") / "orch-0.0.1+abc-py3-none-any.whl"
        earlier.touch()
        old = node_folder(sshd, "w1") / "venv-3.9"
        (old / "bin").mkdir(parents=True)
        assert statuses(orch(project, "cluster", "up", "--json")) == {"w1": "changed"}
        assert not earlier.exists() and not old.exists()
        again = orch(project, "cluster", "up", "--json")
        assert statuses(again) == {"w1": "ok"}, again.out
        package = node_folder(sshd, "w1").glob("venv-*/lib/python*/site-packages/orchestrator")
        assert len(list(package)) == 1
        lines = children_of(node_pid(sshd, "w1")).values()
        assert len(lines) == 2
        assert all(line.startswith(str(node_folder(sshd, "w1") / "venv-")) for line in lines)


def test_check_names_what_workers_lack_to_reach_their_hosts(
    project: OrchProject, sshd: SshdServer
) -> None:
    configure(project, sshd, workers={"eu": ["w1"]}, listen="127.0.0.9")
    path = project.root / "inventories/real/stage.yml"
    regions = {"eu": ["web1"], "us": ["web2"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "regions": regions}))
    hosts = {name: {"address": address} for name, address in HOSTS.items()}
    closed = free_port()
    own = {"port": closed, "identity": "~/.ssh/of_web1"}
    hosts["web1"]["connect"] = own  # type: ignore[assignment]
    (project.root / "inventories/real/hosts.yml").write_text(json.dumps(hosts))
    done = orch(project, "cluster", "check")
    assert done.code == 1
    assert "the region 'us' has no workers (inventories/real/stage.yml:1:" in done.out
    assert f"w1: hosts: it does not reach web1, port {closed}: Connection refused" in done.out
    assert "it has no key " in done.out and "/.ssh/of_web1, which is for web1" in done.out
    assert "web2," not in done.out
    assert not list((project.root / ".orch").rglob("events.jsonl"))


@pytest.mark.long
def test_with_systemd_a_unit_of_the_user_runs_the_node(
    project: OrchProject, tmp_path: Path
) -> None:
    state = tmp_path / "systemd"
    with serve_sshd(tmp_path / "sshd", environment=fake_user_systemd(state)) as sshd:
        configure(project, sshd, workers=["c1"])
        with running_cluster(project):
            (unit,) = (sshd.home / ".config/systemd/user").glob("orch-cluster-real-c1-*.service")
            assert '-m orchestrator.commands.cluster_node "%h/.orch/' in unit.read_text()
            assert (state / f"{unit.name}.enabled").exists()
            assert (state / "logins").read_text() == "enable-linger\n"
            pid = node_pid(sshd, "c1")
            assert (state / f"{unit.name}.pid").read_text() == f"{pid}\n"
            again = orch(project, "cluster", "up", "--json")
            assert statuses(again) == {"c1": "ok"}, again.out
            kept = orch(project, "cluster", "down", "--keep", "--json")
            assert statuses(kept) == {"c1": "changed"}, kept.out
            assert not (state / f"{unit.name}.enabled").exists()
            assert pid not in processes_with("cluster_node")
            assert (node_folder(sshd, "c1") / "tls/key.pem").exists()
        assert not unit.exists()
        assert not node_folder(sshd, "c1").exists()
