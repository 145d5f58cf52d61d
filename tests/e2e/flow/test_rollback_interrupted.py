"""Rollback under dropped connections and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.flow.test_failure_matrix import OUTLASTS, connection_of
from tests.projects import OrchProject, OrchResult, interrupt_until_exit
from tests.sshd import START_TIMEOUT, SshdServer, serve_sshd, wait_until


@dataclass(frozen=True, slots=True)
class RollbackScene:
    """Hosts with a real sshd and a shared log folder, and steps that block in the middle."""

    project: OrchProject
    log: Path

    def over(self, sshd: SshdServer, *hosts: str) -> RollbackScene:
        addresses = {host: f"127.5.0.{number}" for number, host in enumerate(hosts, 1)}
        self.project.add_sshd_stage(sshd, addresses)
        return self

    def log_step(self, what: str, only: str = "", afterwards: str = "") -> str:
        """Return a step that writes to its host's log; then host ``only`` runs ``afterwards``."""
        text = f"echo {what} >> {self.log}/{{{{ host.name }}}}\n"
        if afterwards:
            text += f"if [ {{{{ host.name }}}} = {only} ]; then {afterwards}; fi\n"
        return text

    def hanging_step(self, name: str = "pid") -> str:
        """Return a script that writes its process ID and hangs."""
        return f"echo $$ > {self.log}/{name}.new; mv {self.log}/{name}.new {self.log}/{name}; exec sleep {OUTLASTS}"

    def waiting_step(self) -> str:
        """Return a script that reports its start and ends when it is allowed to."""
        fifo = self.log / "go"
        if not fifo.exists():
            os.mkfifo(fifo)
        return f"echo > {self.log}/waiting; cat {fifo} > /dev/null; echo went >> {self.log}/{{{{ host.name }}}}"

    def write_task(self, name: str, text: str, undo: str = "", **more: object) -> None:
        created = {
            "steps": [{"run": text}],
            "rollback": [{"run": undo or self.log_step(f"un-{name}")}],
        }
        self.project.write({f"tasks/{name}.yml": json.dumps({**created, **more})})

    def wait_for_step(self, name: str) -> Callable[[], bool]:
        return (self.log / name).exists

    def step_pid(self, name: str = "pid") -> int:
        wait_until(self.wait_for_step(name), f"the step that writes {name}")
        return int((self.log / name).read_text())

    def log_lines(self, host: str) -> list[str]:
        path = self.log / host
        return path.read_text().split() if path.exists() else []

    @contextmanager
    def start_run(self, *words: str, stage: str = "real") -> Iterator[RunningOrch]:
        with self.project.start_orch("-s", stage, "run", *words, "--json") as process:
            yield RunningOrch(process)


@dataclass(frozen=True, slots=True)
class RunningOrch:
    process: subprocess.Popen[str]

    def interrupt(self) -> None:
        """Press Ctrl-C, and return when orch has handled it."""
        self.process.send_signal(signal.SIGINT)
        self.wait_for_event("warned", "interrupted: stopping")

    def wait_for_event(self, what: str, more: str, times: int = 1) -> None:
        """Wait for an event with this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            times -= f'"{what}' in line and more in line
            if not times:
                return
        pytest.fail(f"it ended and did not tell of {what}")

    def wait_for_exit(self) -> OrchResult:
        out, err = self.process.communicate(timeout=3 * START_TIMEOUT)
        assert "Traceback" not in err, err
        return OrchResult(self.process.returncode, out, err)


@pytest.fixture
def scene(project: OrchProject, tmp_path: Path) -> RollbackScene:
    log = tmp_path / "log"
    log.mkdir()
    return RollbackScene(project, log)


def cut_connection(pid: int, sshd: SshdServer) -> None:
    """Cut the connection that started this process."""
    os.kill(connection_of(pid, sshd), signal.SIGKILL)


def connect_failures(done: OrchResult, host: str) -> int:
    return sum(e["event"] == "connect_started" and e["host"] == host for e in done.events)


def test_a_lost_host_is_connected_again_to_be_rolled_back(
    scene: RollbackScene, sshd: SshdServer
) -> None:
    scene.over(sshd, "a1", "a2")
    scene.write_task("one", scene.log_step("one"))
    scene.write_task("two", scene.log_step("two", "a1", scene.hanging_step()))
    with scene.start_run("one", "two") as running:
        cut_connection(scene.step_pid(), sshd)
        done = running.wait_for_exit()
    assert [scene.log_lines(host) for host in ("a1", "a2")] == [
        ["one", "two", "un-two", "un-one"]
    ] * 2
    row = done.host_rows["a1"]
    assert (done.code, row["status"], connect_failures(done, "a1")) == (1, "lost", 2)
    assert re.match(r"\S+: the session was lost \(.*?\), in step 1 ", row["reason"])
    assert row["reason"].endswith("'two' is rolled back; 'one' is rolled back")


def test_a_lost_host_that_stays_away_is_tried_once_and_named_as_not_rolled_back(
    scene: RollbackScene, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd") as own:
        scene.over(own, "a1")
        scene.write_task("one", scene.log_step("one"))
        scene.write_task("two", scene.log_step("two", "a1", scene.hanging_step()))
        with scene.start_run("one", "two") as running:
            pid = connection_of(scene.step_pid(), own)
            os.kill(own.pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            done = running.wait_for_exit()
    row = done.host_rows["a1"]
    assert (done.code, row["status"], connect_failures(done, "a1")) == (1, "lost", 2)
    assert re.match(r"\S+: the session was lost \(.*?\), in step 1 ", row["reason"])
    assert row["reason"].count("is NOT rolled back: ") == 2
    assert row["reason"].count("refused") == 2


def test_a_link_cut_during_a_rollback_leaves_the_rest_of_it_to_a_new_one(
    scene: RollbackScene, sshd: SshdServer
) -> None:
    scene.over(sshd, "a1")
    scene.write_task("one", scene.log_step("one"))
    scene.write_task("two", "exit 3", scene.hanging_step())
    with scene.start_run("one", "two") as running:
        cut_connection(scene.step_pid(), sshd)
        done = running.wait_for_exit()
    row = done.host_rows["a1"]
    assert (done.code, row["status"]) == (1, "failed")
    assert scene.log_lines("a1") == ["one", "un-one"]
    broke = r"'two' is NOT rolled back: \S+: the session was lost \(.*?\), in step 2 "
    assert re.search(broke, row["reason"])
    assert row["reason"].endswith("'one' is rolled back")


def test_a_host_is_connected_again_only_once(scene: RollbackScene, sshd: SshdServer) -> None:
    scene.over(sshd, "a1")
    scene.write_task("one", scene.log_step("one"))
    scene.write_task("two", scene.log_step("two"), scene.hanging_step("undoing"))
    scene.write_task("three", scene.hanging_step())
    with scene.start_run("one", "two", "three") as running:
        cut_connection(scene.step_pid(), sshd)
        cut_connection(scene.step_pid("undoing"), sshd)
        done = running.wait_for_exit()
    row = done.host_rows["a1"]
    assert (row["status"], connect_failures(done, "a1")) == ("lost", 2)
    assert scene.log_lines("a1") == ["one", "two", "un-three"]
    assert "'three' is rolled back; 'two' is NOT rolled back" in row["reason"]
    assert "'one' is NOT rolled back" in row["reason"]


def test_a_host_lost_within_max_failures_is_rolled_back_alone_and_the_others_go_on(
    scene: RollbackScene, sshd: SshdServer
) -> None:
    scene.over(sshd, "a1", "a2")
    scene.write_task("one", scene.log_step("one"))
    scene.write_task("two", scene.log_step("two", "a1", scene.hanging_step()))
    scene.write_task("three", scene.log_step("three"))
    item = {"name": "all", "max_failures": 1, "tasks": ["one", "two", "three"]}
    scene.project.write({"tasks/p.yml": json.dumps({"tasks": [item]})})
    with scene.start_run("p") as running:
        cut_connection(scene.step_pid(), sshd)
        done = running.wait_for_exit()
    assert scene.log_lines("a1") == ["one", "two", "un-two", "un-one"]
    assert scene.log_lines("a2") == ["one", "two", "three"]
    assert {h: r["status"] for h, r in done.host_rows.items()} == {"a1": "lost", "a2": "changed"}
    assert done.code == 1


def test_a_delegate_lost_in_the_middle_is_connected_again_to_undo(
    scene: RollbackScene, sshd: SshdServer
) -> None:
    scene.over(sshd, "a1", "a2", "lb").project.write(
        {"inventories/real/roles.yml": '{"web": ["a1", "a2"]}'}
    )
    drain = {"run": scene.log_step("drain", "a1", scene.hanging_step()), "delegate_to": "lb"}
    back = {"run": scene.log_step("un-drain"), "delegate_to": "lb"}
    scene.write_task("one", scene.log_step("one"), roles=["web"])
    scene.write_task("drain", "", roles=["web"], steps=[drain], rollback=[back])
    with scene.start_run("one", "drain") as running:
        cut_connection(scene.step_pid(), sshd)
        done = running.wait_for_exit()
    assert scene.log_lines("a1") == ["one", "drain", "un-drain", "un-one"]
    assert scene.log_lines("a2")[-2:] == ["un-drain", "un-one"]
    assert done.host_rows["a1"]["status"] == "lost"
    assert connect_failures(done, "lb") == 2
    assert done.code == 1


def test_a_lost_host_is_connected_again_also_after_an_interrupt(
    scene: RollbackScene, sshd: SshdServer
) -> None:
    scene.over(sshd, "a1", "a2")
    scene.write_task(
        "one",
        scene.log_step("one", "a1", scene.hanging_step())
        + scene.log_step("", "a2", scene.waiting_step()),
    )
    with scene.start_run("one") as running:
        wait_until(scene.wait_for_step("waiting"), "the other host")
        cut_connection(scene.step_pid(), sshd)
        running.wait_for_event("host_finished", "a1")
        running.interrupt()
        done = running.wait_for_exit()
    assert done.code == 130
    assert {h: r["status"] for h, r in done.host_rows.items()} == {"a1": "lost", "a2": "cancelled"}
    assert scene.log_lines("a1")[-1] == "un-one"


def test_an_interrupt_does_not_end_the_connecting_again_of_a_tolerated_host(
    scene: RollbackScene, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd") as own:
        scene.over(own, "a1", "a2")
        scene.write_task("one", scene.log_step("one", "a1", scene.hanging_step()))
        write_playbook(scene, 1, "one")
        with scene.start_run("p") as running:
            pid = connection_of(scene.step_pid(), own)
            os.kill(own.pid, signal.SIGSTOP)
            try:
                os.kill(pid, signal.SIGKILL)
                running.wait_for_event("connect_started", "a1", times=2)
                running.interrupt()
            finally:
                os.kill(own.pid, signal.SIGCONT)
            done = running.wait_for_exit()
    assert done.code == 130
    assert scene.log_lines("a1") == ["one", "un-one"]


@pytest.fixture
def two_hosts(scene: RollbackScene) -> RollbackScene:
    """Create sandbox hosts; the first one fails, and its rollback waits for the test."""
    scene.project.add_sandbox_stage("a1", "a2")
    scene.write_task("one", scene.log_step("one"))
    undo = scene.log_step("un-two", "a1", scene.waiting_step())
    scene.write_task("two", scene.log_step("two", "a1", "exit 3"), undo)
    scene.write_task("three", scene.log_step("three"))
    scene.project.write(
        {"tasks/hook.yml": f"failed: [p]\nsteps: [{{run: echo >> {scene.log}/hook}}]\n"}
    )
    return scene


def write_playbook(scene: RollbackScene, most: int, *tasks: str) -> None:
    item = {"name": "all", "max_failures": most, "tasks": list(tasks)}
    scene.project.write({"tasks/p.yml": json.dumps({"tasks": [item]})})


@pytest.mark.parametrize("tasks", [("one", "two", "three"), ("one", "two")])
def test_an_interrupt_lets_a_tolerated_hosts_own_rollback_end_and_then_undoes_the_rest(
    two_hosts: RollbackScene, tasks: tuple[str, ...]
) -> None:
    write_playbook(two_hosts, 1, *tasks)
    with two_hosts.start_run("p", stage="dev") as running:
        wait_until(two_hosts.wait_for_step("waiting"), "the rollback of the tolerated host")
        running.interrupt()
        (two_hosts.log / "go").write_text("go\n")
        done = running.wait_for_exit()
    assert done.code == 130
    assert two_hosts.log_lines("a1") == ["one", "two", "un-two", "went", "un-one"]
    assert two_hosts.log_lines("a2") == ["one", "two", "un-two", "un-one"]
    assert {h: r["status"] for h, r in done.host_rows.items()} == {
        "a1": "failed",
        "a2": "cancelled",
    }
    assert "NOT" not in done.host_rows["a1"]["reason"]
    assert done.host_rows["a2"]["reason"].count("interrupted") >= 1


@pytest.mark.parametrize("most", [0, 1])
def test_a_second_interrupt_ends_a_rollback_at_once_and_names_the_host(
    two_hosts: RollbackScene, most: int
) -> None:
    write_playbook(two_hosts, most, "one", "two", "three")
    with two_hosts.start_run("p", stage="dev") as running:
        wait_until(two_hosts.wait_for_step("waiting"), "the rollback")
        running.interrupt()
        _, err = interrupt_until_exit(running.process)
    assert running.process.returncode == 130
    assert "Traceback" not in err
    assert " may still be running rollback of two" in err
    assert "un-one" not in two_hosts.log_lines("a1")


def test_an_interrupt_lets_a_failures_rollback_end_but_no_failed_hook_begin(
    two_hosts: RollbackScene,
) -> None:
    write_playbook(two_hosts, 0, "one", "two", "three")
    with two_hosts.start_run("p", stage="dev") as running:
        wait_until(two_hosts.wait_for_step("waiting"), "the rollback")
        running.interrupt()
        (two_hosts.log / "go").write_text("go\n")
        done = running.wait_for_exit()
    assert done.code == 130
    assert two_hosts.log_lines("a1") == ["one", "two", "un-two", "went", "un-one"]
    assert two_hosts.log_lines("a2") == ["one", "two", "un-two", "un-one"]
    assert {h: r["status"] for h, r in done.host_rows.items()} == {
        "a1": "failed",
        "a2": "cancelled",
    }
    assert not (two_hosts.log / "hook").exists()
