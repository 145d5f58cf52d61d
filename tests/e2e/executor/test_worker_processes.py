"""Runs whose hosts several workers drive: one run, one table, and nothing twice if a worker ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer, child_processes, serve_sshd, wait_until
from tests.support.dask_cluster import DaskCluster, start_cluster

HOSTS = ("web1", "web2", "web3", "db1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with start_cluster(tmp_path_factory.mktemp("cluster"), 2) as started:
        yield started


@pytest.fixture
def own_cluster() -> Iterator[DaskCluster]:
    """Start a cluster whose processes the test may kill."""
    with tempfile.TemporaryDirectory() as folder, start_cluster(Path(folder), 2) as started:
        yield started


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshdServer]:
    with serve_sshd(tmp_path / "sshd") as started:
        yield started


def compare_with_one_process(
    project: OrchProject, cluster: DaskCluster, *words: str, code: int
) -> tuple[OrchResult, OrchResult]:
    """Run the same with workers and in one process; rows and results of steps are equal."""
    with_workers = project.orch(*words, "--json", **cluster.environ)
    alone = project.orch(*words, "--json", ORCH_ENGINE="local")
    assert with_workers.code == alone.code == code, with_workers.err
    ignored = ("time", "seconds", "run", "log", "release", "shell_pid")
    rows, steps = [], []
    for done in (with_workers, alone):
        rows.append(
            {
                host: {key: value for key, value in row.items() if key not in ignored}
                for host, row in done.host_rows.items()
            }
        )
        steps.append(
            {
                host: [
                    (step["task"], step["step"], step["status"], step.get("stdout"))
                    for step in done.host_steps(host)
                ]
                for host in HOSTS
            }
        )
    assert rows[0] == rows[1]
    assert steps[0] == steps[1]
    return with_workers, alone


def test_results_cross_workers_at_the_barriers_as_in_one_process(
    project: OrchProject, cluster: DaskCluster
) -> None:
    project.add_sandbox_stage(*HOSTS).write(
        {
            "inventories/dev/roles/web.yml": "[web1, web2, web3]\n",
            "tasks/one.yml": """
                steps:
                - {run: "echo own {{ host.name }}", register: mine}
                - {set: {made: "of {{ mine.stdout }}"}}
            """,
            "tasks/key.yml": "steps: [{run: 'echo key of {{ host.name }}', register: key}]\n",
            "tasks/two.yml": """
                steps:
                - run: echo {{ hosts['db1'].mine.stdout }} {{ hosts['web2'].made }} {{ key.stdout }}
                  notify: told
                - {run: echo not here, when: mine.stdout is search('web')}
                handlers:
                  told: [{run: echo handler}]
            """,
            "tasks/three.yml": """
                roles: [web]
                steps: [{run: exit 3, when: host.name == 'web3'}]
                rollback: [{run: echo undone}]
            """,
            "tasks/all.yml": """
                tasks:
                - one
                - {key: {}, once: true}
                - {name: roll, batch: 3, tasks: [two]}
                - three
            """,
        }
    )
    done, _ = compare_with_one_process(project, cluster, "-s", "dev", "run", "all", code=1)
    texts = [step["stdout"] for step in done.host_steps("web1") if step["task"] == "two"]
    assert texts[0] == "own db1 of own web2 key of db1"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            "steps:\n- run: mkdir {busy} && sleep .1 && rmdir {busy}\n  throttle: 1\n",
            id="throttle",
        ),
        pytest.param(
            "steps:\n- run: mkdir {busy} && sleep .1 && rmdir {busy}\n  delegate_to: db1\n",
            id="delegate",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "steps:\n- run: mkdir {busy} && sleep .1 && rmdir {busy}\n  local: true\n",
            id="local",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_only_one_host_may_do_at_a_time_is_one_over_all_workers(
    project: OrchProject, cluster: DaskCluster, words: str
) -> None:
    project.add_sandbox_stage(*HOSTS)
    busy = project.root.parent / "busy"
    project.write({"tasks/one.yml": words.format(busy=busy)})
    done = project.orch("-s", "dev", "run", "one", "--json", **cluster.environ)
    assert done.code == 0, done.out + done.err
    assert {row["status"] for row in done.host_rows.values()} == {"changed"}


def test_local_steps_and_downloads_are_the_coordinators_and_a_delegate_is_connected_once(
    project: OrchProject, cluster: DaskCluster
) -> None:
    project.add_sandbox_stage(*HOSTS, "other").write(
        {
            "tasks/one.yml": """
                steps:
                - {run: "echo $MARK {{ host.name }} $PWD", local: true, register: here}
                - {run: "printf %s {{ here.stdout }} >mine"}
                - {run: "echo $ORCH_RUN >>told", delegate_to: other}
                - {copy: {path: "~/of-{{ host.name }}", src: "files/{{ host.name }}"}, delegate_to: db1}
                - {download: {path: mine, to: "got/{{ host.name }}"}}
                - {run: "cat got/{{ host.name }}", local: true, become: true}
            """,
            **{f"files/{host}": host * 20_000 for host in HOSTS},
        }
    )
    environ = {**cluster.environ, "MARK": "of-orch"}
    words = ("-s", "dev", "run", "one", "--json", "--limit", ",".join(HOSTS))
    done = project.orch(*words, **environ)
    assert done.code == 0, done.out + done.err
    for host in HOSTS:
        said = f"of-orch {host} {project.root}"
        assert (project.root / "got" / host).read_text() == said
        assert done.host_steps(host)[-1]["stdout"] == said
        sent = project.root / ".orch/sandbox/dev/db1" / f"of-{host}"
        assert sent.read_text() == host * 20_000
    told = (project.root / ".orch/sandbox/dev/other/told").read_text().split()
    assert len(told) == len(HOSTS)
    assert len(set(told)) == 1
    connected = [e["host"] for e in done.events if e["event"] == "connect_started"]
    assert sorted(connected) == sorted((*HOSTS, "other", "(this machine)"))


@pytest.mark.long
def test_a_killed_workers_local_step_is_ended_and_its_delegated_hosts_are_named(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    """The other worker's hosts cannot use the lost worker's connection."""
    project.add_sshd_stage(sshd, {"web1": "127.0.8.1", "web2": "127.0.8.2"}, stage="dev")
    stage = project.root / "inventories/dev/stage.yml"
    stage.write_text(
        json.dumps({**json.loads(stage.read_text()), "regions": {"one": ["web1"], "two": ["web2"]}})
    )
    project.write(
        {
            "tasks/one.yml": f"""
                steps:
                - {{run: "while [ ! -e {project.root}/go ]; do sleep .1; done", when: host.name == 'web2'}}
                - run: echo $$ >>{project.root}/pids; sleep 600
                  local: true
                  when: host.name == 'web1'
                - {{run: echo, delegate_to: web1}}
            """
        }
    )
    words = ("-s", "dev", "run", "one", "--json", "--keep-going")
    (tmp_path / "cluster").mkdir()
    with (
        start_cluster(tmp_path / "cluster", 2, regions=("one", "two")) as cluster,
        project.start_orch(*words, **cluster.environ) as process,
    ):
        wait_until((project.root / "pids").exists, "the local step runs")
        cluster.workers[0].send_signal(signal.SIGKILL)
        seen = read_until(process, lambda lines: count_of(lines, '"lost"') > 0)
        assert_steps_ended(project)
        (project.root / "go").touch()
        out, err = process.communicate(timeout=60)
    done = OrchResult(process.returncode, "".join(seen) + out, err)
    assert done.code == 1, err
    assert done.host_rows["web1"]["status"] == "lost"
    assert done.host_rows["web2"]["status"] == "failed"
    assert "web1, which it is delegated to, is unreachable" in done.host_rows["web2"]["reason"]


def test_a_secret_is_fetched_once_and_masked(project: OrchProject, cluster: DaskCluster) -> None:
    fetched = project.root.parent / "fetched"
    project.add_sandbox_stage(*HOSTS).write(
        {
            "inventories/dev/vars/all.yml": f"""
                token: !secret {{command: [sh, -c, "echo x >>{fetched}; echo s3cr3t-t0ken"]}}
            """,
            "tasks/one.yml": "steps: [{run: 'echo the {{ token }}'}]\n",
        }
    )
    done = project.orch("-s", "dev", "run", "one", **cluster.environ)
    assert done.code == 0, done.err
    assert "web1 | the ‹token›" in done.out
    assert "s3cr3t" not in done.out + done.err
    assert fetched.read_text() == "x\n"
    for log in cluster.folder.glob("*.log"):
        assert "s3cr3t" not in log.read_text()
    for path in (*project.root.glob(".orch/**/*"), *cluster.folder.glob("w*/**/*")):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes(), path


def test_a_worker_that_plans_something_else_is_refused_before_contact(
    project: OrchProject, cluster: DaskCluster
) -> None:
    project.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\nansible: hosts.sh\n",
            "inventories/dev/hosts.sh": """\
                #!/bin/sh
                printf '{"all": {"hosts": ["web1", "web2"], "vars": {"pid": %s}}}\\n' $$
            """,
            "tasks/one.yml": "steps: [{run: 'echo {{ pid }}'}]\n",
        }
    )
    (project.root / "inventories/dev/hosts.sh").chmod(0o755)
    done = project.orch("-s", "dev", "run", "one", **cluster.environ)
    assert done.code == 2, done.out + done.err
    assert "has another plan than this process" in done.err
    assert not (project.root / ".orch/sandbox/dev/web1").exists()


def test_a_region_without_a_worker_is_named_before_contact(
    project: OrchProject, cluster: DaskCluster
) -> None:
    project.add_sandbox_stage(*HOSTS).write(
        {
            "inventories/dev/stage.yml": """
                connect: {transport: sandbox}
                regions: {mars: [web], here: [db1]}
            """,
            "inventories/dev/roles/web.yml": "[web1, web2, web3]\n",
            "tasks/one.yml": "steps: [{run: 'true'}]\n",
        }
    )
    done = project.orch("-s", "dev", "run", "one", **cluster.environ)
    assert done.code == 2
    assert "no worker has the resource of the region 'mars': web[1-3]" in done.err
    assert "'here': db1" in done.err
    assert not (project.root / ".orch/sandbox/dev/web1").exists()


def hanging_task(project: OrchProject, sshd: SshdServer) -> None:
    """Write a task that hangs on web1 and web2 after it has begun, under a lock."""
    project.add_sshd_stage(sshd, {"web1": "127.0.8.1", "web2": "127.0.8.2"}, stage="dev")
    project.write(
        {
            "inventories/dev/apps/shop.yml": f"vars: {{lock_path: '{project.root}/lock-{{{{ host.name }}}}'}}\n",
            "tasks/quick.yml": "steps: [{run: 'true'}]\n",
            "tasks/hang.yml": f"""
                steps:
                - run: echo first >>{project.root}/log-{{{{ host.name }}}}
                - run: |
                    echo $$ >>{project.root}/pids
                    echo begun >>{project.root}/log-{{{{ host.name }}}}
                    while [ ! -e {project.root}/go ]; do sleep .1; done
            """,
        }
    )


def read_until(process: subprocess.Popen[str], enough: Callable[[list[str]], bool]) -> list[str]:
    """Read lines of the process's stdout until there are enough."""
    assert process.stdout is not None
    lines: list[str] = []
    while not enough(lines):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended before"
    return lines


def count_of(lines: list[str], text: str) -> int:
    return sum(text in line for line in lines)


def log_of(project: OrchProject, host: str) -> list[str]:
    path = project.root / f"log-{host}"
    return path.read_text().split() if path.exists() else []


def both_begun(project: OrchProject) -> bool:
    return log_of(project, "web1") + log_of(project, "web2") == ["first", "begun"] * 2


def assert_steps_ended(project: OrchProject) -> None:
    """Assert that no step is left on the hosts."""
    pids = [int(pid) for pid in (project.root / "pids").read_text().split()]
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the steps have ended"
    )


def test_a_killed_worker_loses_its_hosts_in_their_step_and_nothing_is_done_twice(
    project: OrchProject, sshd: SshdServer, own_cluster: DaskCluster
) -> None:
    hanging_task(project, sshd)
    words = ("-s", "dev", "run", "hang", "--app", "shop", "--json", "--keep-going")
    with project.start_orch(*words, **own_cluster.environ) as process:
        wait_until(lambda: both_begun(project), "the steps have begun")
        seen = read_until(process, lambda lines: count_of(lines, '"step_started"') == 4)
        own_cluster.workers[0].send_signal(signal.SIGKILL)
        own_cluster.workers[0].wait()
        seen += read_until(process, lambda lines: count_of(lines, '"lost"') > 0)
        (project.root / "go").touch()
        out, err = process.communicate(timeout=60)
    done = OrchResult(process.returncode, "".join(seen) + out, err)
    assert done.code == 1, err
    statuses = {host: row["status"] for host, row in done.host_rows.items()}
    assert sorted(statuses.values()) == ["changed", "lost"]
    (lost,) = (row for row in done.host_rows.values() if row["status"] == "lost")
    assert "its worker" in lost["reason"]
    assert "in step 2 'echo $$" in lost["reason"]
    assert both_begun(project)  # each once
    assert_steps_ended(project)
    # no lock is left, not even that of the lost host
    again = project.orch("-s", "dev", "run", "quick", "--app", "shop", ORCH_ENGINE="local")
    assert again.code == 0, again.out + again.err


def test_an_interrupt_while_the_workers_start_is_no_bug(project: OrchProject) -> None:
    project.add_sandbox_stage("web1", "web2").write(
        {"tasks/one.yml": f"steps: [{{run: echo >>{project.root}/ran}}]\n"}
    )
    process = subprocess.Popen(
        project.command("-s", "dev", "run", "one", "--engine", "dask=local:2"),
        cwd=project.root,
        env=project.environ({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "starting 2 workers\n"
    wait_until(lambda: len(list(child_processes(process.pid))) > 1, "the first of them")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not (project.root / "ran").exists()


@pytest.mark.long
def test_a_killed_scheduler_ends_the_run_and_its_steps(
    project: OrchProject, sshd: SshdServer, own_cluster: DaskCluster
) -> None:
    hanging_task(project, sshd)
    with project.start_orch("-s", "dev", "run", "hang", "--json", **own_cluster.environ) as process:
        wait_until(lambda: both_begun(project), "the steps have begun")
        own_cluster.scheduler.send_signal(signal.SIGKILL)
        own_cluster.scheduler.wait()
        out, err = process.communicate(timeout=60)
    done = OrchResult(process.returncode, out, err)
    assert done.code == 1, err
    assert {row["status"] for row in done.host_rows.values()} == {"lost"}
    assert both_begun(project)
    assert_steps_ended(project)


def test_a_killed_coordinator_ends_the_steps_of_its_own_workers(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    hanging_task(project, sshd)
    words = ("-s", "dev", "run", "hang", "--json", "--engine", "dask=local:2")
    temp = tmp_path / "t"
    temp.mkdir()
    with project.start_orch(*words, TMPDIR=str(temp)) as process:
        wait_until(lambda: both_begun(project), "the steps have begun")
        children = list(child_processes(process.pid))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert_steps_ended(project)
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the workers ended"
    )
    assert both_begun(project)
    # what it could not remove is removed by the next run
    (left,) = temp.glob("orch-dask-*")
    assert left.stat().st_mode & 0o077 == 0, "others could open its socket"
    words = ("-s", "dev", "exec", "--readonly", "--engine", "dask=local:1", "--", "true")
    assert project.orch(*words, TMPDIR=str(temp)).code == 0
    assert not left.exists()


def test_an_interrupt_ends_the_steps_and_rolls_back_with_own_workers(
    project: OrchProject, sshd: SshdServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hanging_task(project, sshd)
    path = project.root / "tasks/hang.yml"
    path.write_text(f"{path.read_text()}rollback: [{{run: echo undone >>{project.root}/undone}}]\n")
    temp = tmp_path / "t"
    temp.mkdir()
    words = ("-s", "dev", "run", "hang", "--json", "--engine", "dask=local:2")
    process = subprocess.Popen(
        project.command(*words),
        cwd=project.root,
        env=project.environ({"TMPDIR": str(temp)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: both_begun(project), "the steps have begun")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers as well
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    done = OrchResult(process.returncode, out, err)
    assert done.code == 130, err
    assert {row["status"] for row in done.host_rows.values()} == {"cancelled"}
    assert (project.root / "undone").read_text() == "undone\n" * 2
    assert_steps_ended(project)
    assert list(temp.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_worker_elsewhere_gets_the_project_and_uses_its_own_keys(
    project: OrchProject, tmp_path_factory: pytest.TempPathFactory, sshd: SshdServer
) -> None:
    project.add_sshd_stage(sshd, {"web1": "127.0.8.1", "web2": "127.0.8.2"}, stage="dev")
    project.write(
        {
            "files/motd": "hello\n",
            "tasks/one.yml": f"steps: [{{copy: {{src: files/motd, path: {project.root.parent}/out}}}}]\n",
        }
    )
    folder = tmp_path_factory.mktemp("elsewhere")
    with start_cluster(folder, 2, hidden=project.root) as cluster:
        done = project.orch("-s", "dev", "run", "one", **cluster.environ)
        assert done.code == 0, done.err
        assert (project.root.parent / "out").read_text() == "hello\n"
        copies = list(folder.glob("home/.cache/orch/projects/*"))
        assert [sorted(path.name for path in copy.iterdir()) for copy in copies] == [
            ["files", "inventories", "tasks"]
        ]
        key = project.root / "key"
        key.write_bytes(sshd.key.read_bytes())
        key.chmod(0o600)
        project.write(
            {
                "inventories/dev/roles/one.yml": f"""
            hosts: [web1]
            connect: {{identity: {key}}}
        """
            }
        )
        refused = project.orch("-s", "dev", "run", "one", **cluster.environ)
        assert refused.code == 2, refused.out
        assert f"the key file {key} does not exist: web1" in refused.err


@pytest.mark.long
def test_the_coordinators_known_hosts_are_the_workers_as_well(
    project: OrchProject, cluster: DaskCluster, sshd: SshdServer
) -> None:
    """The workers have a home of their own, without known_hosts at first."""
    project.add_sshd_stage(sshd, {"web1": "127.0.8.1", "web2": "127.0.8.2"}, stage="dev")
    stage = project.root / "inventories/dev/stage.yml"
    connect = json.loads(stage.read_text())["connect"]
    del connect["known_hosts"]
    stage.write_text(json.dumps({"connect": connect}))
    words = ("-s", "dev", "exec", "--json", "--readonly", "--", "true")
    ours = project.root.parent / "home/.ssh/known_hosts"
    theirs = cluster.folder / "home/.ssh/known_hosts"
    refused = project.orch(*words, **cluster.environ)
    assert refused.code == 4, refused.out + refused.err
    assert "here or at the coordinator" in refused.host_rows["web1"]["reason"]

    # a line of the coordinator's file is enough, and what is accepted is added to it
    ours.parent.mkdir()
    name = f"[127.0.8.1]:{sshd.port}"
    ours.write_text(f"{name} {sshd.host_key}\n")
    done = project.orch(*words, **cluster.environ)
    assert {row["status"] for row in done.host_rows.values()} == {"ok", "unreachable"}
    assert done.host_rows["web1"]["status"] == "ok"
    stage.write_text(json.dumps({"connect": {**connect, "host_keys": "accept-new"}}))
    done = project.orch("-s", "dev", "exec", "--json", "--", "true", **cluster.environ)
    assert done.code == 0, done.out + done.err
    (added,) = ours.read_text().splitlines()[1:]  # the name may be hashed
    assert added.endswith(sshd.host_key)
    assert not theirs.exists()

    stage.write_text(json.dumps({"connect": {**connect, "transport": "openssh"}}))
    done = project.orch(*words, **cluster.environ)
    assert done.code == 0, done.out + done.err
    stage.write_text(json.dumps({"connect": connect}))

    # the worker's own lines count as well: another key there is a conflict
    theirs.parent.mkdir()
    other = sshd.key.with_suffix(".pub").read_text().split()[1]
    theirs.write_text(f"{name} ssh-ed25519 {other}\n")
    try:
        refused = project.orch(*words, **cluster.environ)
    finally:
        shutil.rmtree(theirs.parent)
    assert refused.host_rows["web2"]["status"] == "ok"
    reason = refused.host_rows["web1"]["reason"]
    assert f"two keys are known for {name}: coordinator:{ours}:1 has SHA256:" in reason
    assert f"which the host shows, {theirs}:1 has SHA256:" in reason


@pytest.mark.long
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_what_steps_make_on_this_machine_is_used_by_workers_elsewhere(
    project: OrchProject, tmp_path_factory: pytest.TempPathFactory, sshd: SshdServer
) -> None:
    """Files of local steps and downloads are here, whole, and are uploaded by later steps."""
    there = project.root.parent / "there"
    hosts = {"web1": "127.0.8.1", "web2": "127.0.8.2"}
    project.add_sshd_stage(sshd, hosts, stage="dev").write(
        {
            "files/page.j2": "at first\n",
            "tasks/get.yml": f"""
                steps:
                - {{download: {{path: "{there}/{{{{ host.name }}}}/out/small", to: "~/got/{{{{ host.name }}}}"}}}}
                - {{copy: {{src: ~/outside, path: "{there}/{{{{ host.name }}}}/outside"}}}}
                - {{run: "echo {{{{ '~' | expanduser }}}} {{{{ 'files' | realpath }}}}", readonly: true}}
            """,
            "tasks/build.yml": """
                steps:
                - run: |
                    mkdir out empty && head -c 9000000 /dev/urandom >out/big && echo small >out/small
                    chmod 700 out/small && ln -s small out/link
                    echo 'for {{ host.name }}' >files/page.j2
                  local: true
                  register: built
            """,
            "tasks/all.yml": "tasks: [{build: {}, once: true}, use]\n",
            "tasks/use.yml": f"""
                steps:
                - copy: {{src: "{{{{ 'out/big' if built }}}}", path: "{there}/{{{{ host.name }}}}/big"}}
                - upload: {{src: "{{{{ 'out' if built }}}}", path: "{there}/{{{{ host.name }}}}/out"}}
                - upload: {{src: "{{{{ 'empty' if built }}}}", path: "{there}/{{{{ host.name }}}}/empty"}}
                - template:
                    src: "{{{{ 'files/page.j2' if built }}}}"
                    path: "{there}/{{{{ host.name }}}}/page"
                - {{download: {{path: "{there}/{{{{ host.name }}}}/big", to: "got/{{{{ host.name }}}}"}}}}
                - {{download: {{path: "{there}/{{{{ host.name }}}}/out", to: "got/trees/{{{{ host.name }}}}"}}}}
                - {{run: "echo {{{{ 'out/small' is file }}}} {{{{ run.folder }}}} {{{{ built.exit_status }}}}"}}
                - {{download: {{path: "{there}/{{{{ host.name }}}}/out/small", to: got/trees}}, when: host.name == 'web2'}}
            """,
        }
    )
    folder = tmp_path_factory.mktemp("elsewhere")
    with start_cluster(folder, 2, hidden=project.root) as cluster:
        done = project.orch("-s", "dev", "run", "all", "--json", **cluster.environ)
        assert done.code == 0, done.out + done.err
        big = (project.root / "out/big").read_bytes()
        for host in hosts:
            assert (there / host / "big").read_bytes() == big
            assert (there / host / "out/big").read_bytes() == big
            assert (there / host / "out/link").readlink() == Path("small")
            assert (there / host / "out/small").stat().st_mode & 0o777 == 0o700
            assert (there / host / "empty").is_dir()
            assert (there / host / "page").read_text() == "for web1\n"
            assert (project.root / "got" / host).read_bytes() == big
            assert (project.root / "got/trees" / host / "big").read_bytes() == big
            (said,) = (s["stdout"] for s in done.host_steps(host) if "echo" in s["name"])
            assert said == f"true {project.root} 0"
        assert (project.root / "got/trees/small").read_text() == "small\n"

        # outside of the project, `~` is the home folder of this machine
        home = project.root.parent / "home"
        (home / "outside").write_text("x" * 50_000)
        words = ("-s", "dev", "run", "get", "--json")
        done = project.orch(*words, **cluster.environ)
        assert done.code == 0, done.out + done.err
        for host in hosts:
            assert (home / "got" / host).read_text() == "small\n"
            assert (there / host / "outside").read_text() == "x" * 50_000
            assert done.host_steps(host)[2]["stdout"] == f"{home} {project.root}/files"
        checked = project.orch(*words, "--check", **cluster.environ)
        assert {row["status"] for row in checked.host_rows.values()} == {"ok"}, checked.out
        assert not list(Path(tempfile.gettempdir()).glob("orch-files-*"))


def test_an_engine_that_cannot_be_used_is_explained(project: OrchProject) -> None:
    project.add_sandbox_stage("web1").write({"tasks/one.yml": "steps: [{run: 'true'}]\n"})
    for engine, message, hint in (
        ("spark", "unknown engine 'spark'", "dask=local:N"),
        ("dask=local:0", "unknown engine 'dask=local:0'", "dask=local:N"),
        ("dask=tcp://h:1", "unknown engine 'dask=tcp://h:1'", "only tls://"),
        ("dask=tls://127.0.0.1:1", "no certificate for tls://127.0.0.1:1", "Dask's configuration"),
    ):
        done = project.orch("-s", "dev", "run", "one", "--engine", engine)
        assert done.code == 2
        assert message in done.err
        assert hint in done.err
    project.write({"inventories/dev/stage.yml": "connect: {transport: sandbox}\nengine: flink\n"})
    done = project.orch("-s", "dev", "run", "one")
    assert done.code == 2
    assert "unknown engine 'flink'\n  --> inventories/dev/stage.yml:2:9" in done.err
    assert project.orch("-s", "dev", "run", "one", "--engine", "local").code == 0


TWO_ARE_MANY = """
import sys
from orchestrator.cli import main, run_commands
run_commands._MANY_HOSTS = 2
main.main()
"""


def run_with_two_as_many(project: OrchProject, *words: str, **environ: str) -> OrchResult:
    """Run orch for which two hosts are many."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_ARE_MANY, "-s", "dev", *words],
        cwd=project.root,
        env={**project.environ(environ), "ORCH_ENGINE": environ.get("ORCH_ENGINE", "")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return OrchResult(done.returncode, done.stdout, done.stderr)


def test_very_many_hosts_are_driven_by_workers_unless_one_process_is_asked_for(
    project: OrchProject,
) -> None:
    project.add_sandbox_stage("web1", "web2").write(
        {
            "tasks/one.yml": "steps: [{run: 'echo {{ host.name }}'}]\n",
            "tasks/odd.yml": "steps: [{run: 'echo {{ range(99999) | random }}'}]\n",
        }
    )
    is_able = len(os.sched_getaffinity(0)) > 1  # one core has nothing to gain
    for words, reason in (
        (("run", "one"), ""),
        (("run", "odd"), "has another plan than this process: this process drives all hosts\n"),
        (("run", "one", "-l", "web1"), None),
        (("run", "one", "--engine", "local"), None),
        (("run", "one", "--persist", "60"), None),
    ):
        done = run_with_two_as_many(project, *words)
        assert done.code == 0, done.err
        assert ("starting 2 workers\n" in done.err) == (reason is not None and is_able), words
        assert not is_able or (reason or "") in done.err
        assert "web1 | " in done.out
    project.write({"inventories/dev/stage.yml": "connect: {transport: sandbox}\nengine: local\n"})
    assert "starting" not in run_with_two_as_many(project, "run", "one").err
