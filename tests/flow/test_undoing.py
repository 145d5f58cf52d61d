"""What undoes, and what breaks into it: cut links and Ctrl-C while hosts are rolled back."""

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

from tests.flow.test_matrix import OUTLASTS, connection_of
from tests.projects import Done, Project, insist
from tests.sshd import PATIENCE, Sshd, serve, until


@dataclass(frozen=True, slots=True)
class Scene:
    """Hosts over a real sshd that share one log folder, and steps that stop in the middle."""

    project: Project
    log: Path

    def over(self, sshd: Sshd, *hosts: str) -> Scene:
        addresses = {host: f"127.5.0.{number}" for number, host in enumerate(hosts, 1)}
        self.project.over(sshd, addresses)
        return self

    def says(self, what: str, only: str = "", then: str = "") -> str:
        """A step that writes to its host's log; ``then`` is what ``only`` that host does next."""
        text = f"echo {what} >> {self.log}/{{{{ host.name }}}}\n"
        if then:
            text += f"if [ {{{{ host.name }}}} = {only} ]; then {then}; fi\n"
        return text

    def hangs(self, name: str = "pid") -> str:
        """What leaves its process id and does not end."""
        return f"echo $$ > {self.log}/{name}.new; mv {self.log}/{name}.new {self.log}/{name}; exec sleep {OUTLASTS}"

    def waits(self) -> str:
        """What tells that it is there and ends once it may."""
        fifo = self.log / "go"
        if not fifo.exists():
            os.mkfifo(fifo)
        return f"echo > {self.log}/waiting; cat {fifo} > /dev/null; echo went >> {self.log}/{{{{ host.name }}}}"

    def task(self, name: str, text: str, undo: str = "", **more: object) -> None:
        made = {"steps": [{"run": text}], "rollback": [{"run": undo or self.says(f"un-{name}")}]}
        self.project.write({f"tasks/{name}.yml": json.dumps({**made, **more})})

    def there(self, name: str) -> Callable[[], bool]:
        return (self.log / name).exists

    def pid(self, name: str = "pid") -> int:
        until(self.there(name), f"the step that writes {name}")
        return int((self.log / name).read_text())

    def lines(self, host: str) -> list[str]:
        path = self.log / host
        return path.read_text().split() if path.exists() else []

    @contextmanager
    def run(self, *words: str, stage: str = "real") -> Iterator[Running]:
        with self.project.started("-s", stage, "run", *words, "--json") as process:
            yield Running(process)


@dataclass(frozen=True, slots=True)
class Running:
    process: subprocess.Popen[str]

    def interrupt(self) -> None:
        """Press Ctrl-C, and return when it was heard."""
        self.process.send_signal(signal.SIGINT)
        self.tells("warned", "interrupted: ending")

    def tells(self, what: str, more: str, times: int = 1) -> None:
        """Return when it told of this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            times -= f'"{what}' in line and more in line
            if not times:
                return
        pytest.fail(f"it ended and did not tell of {what}")

    def done(self) -> Done:
        out, err = self.process.communicate(timeout=3 * PATIENCE)
        assert "Traceback" not in err, err
        return Done(self.process.returncode, out, err)


@pytest.fixture
def scene(project: Project, tmp_path: Path) -> Scene:
    log = tmp_path / "log"
    log.mkdir()
    return Scene(project, log)


def cut(pid: int, sshd: Sshd) -> None:
    """Cut the link over which this process was started."""
    os.kill(connection_of(pid, sshd), signal.SIGKILL)


def connects(done: Done, host: str) -> int:
    return sum(e["event"] == "connect_started" and e["host"] == host for e in done.events)


def test_a_lost_host_is_connected_again_to_be_rolled_back(scene: Scene, sshd: Sshd) -> None:
    scene.over(sshd, "a1", "a2")
    scene.task("one", scene.says("one"))
    scene.task("two", scene.says("two", "a1", scene.hangs()))
    with scene.run("one", "two") as running:
        cut(scene.pid(), sshd)
        done = running.done()
    assert [scene.lines(host) for host in ("a1", "a2")] == [["one", "two", "un-two", "un-one"]] * 2
    row = done.rows["a1"]
    assert (done.code, row["status"], connects(done, "a1")) == (1, "lost", 2)
    assert re.match(r"\S+: the session broke off \(.*?\), in step 1 ", row["reason"])
    assert row["reason"].endswith("'two' is rolled back; 'one' is rolled back")


def test_a_lost_host_that_stays_away_is_tried_once_and_named_as_not_rolled_back(
    scene: Scene, tmp_path: Path
) -> None:
    with serve(tmp_path / "sshd") as own:
        scene.over(own, "a1")
        scene.task("one", scene.says("one"))
        scene.task("two", scene.says("two", "a1", scene.hangs()))
        with scene.run("one", "two") as running:
            pid = connection_of(scene.pid(), own)
            os.kill(own.pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            done = running.done()
    row = done.rows["a1"]
    assert (done.code, row["status"], connects(done, "a1")) == (1, "lost", 2)
    assert re.match(r"\S+: the session broke off \(.*?\), in step 1 ", row["reason"])
    assert row["reason"].count("is NOT rolled back: ") == 2
    assert row["reason"].count("refused") == 2


def test_a_link_cut_during_a_rollback_leaves_the_rest_of_it_to_a_new_one(
    scene: Scene, sshd: Sshd
) -> None:
    scene.over(sshd, "a1")
    scene.task("one", scene.says("one"))
    scene.task("two", "exit 3", scene.hangs())
    with scene.run("one", "two") as running:
        cut(scene.pid(), sshd)
        done = running.done()
    row = done.rows["a1"]
    assert (done.code, row["status"]) == (1, "failed")
    assert scene.lines("a1") == ["one", "un-one"]
    broke = r"'two' is NOT rolled back: \S+: the session broke off \(.*?\), in step 2 "
    assert re.search(broke, row["reason"])
    assert row["reason"].endswith("'one' is rolled back")


def test_a_host_is_connected_again_only_once(scene: Scene, sshd: Sshd) -> None:
    scene.over(sshd, "a1")
    scene.task("one", scene.says("one"))
    scene.task("two", scene.says("two"), scene.hangs("undoing"))
    scene.task("three", scene.hangs())
    with scene.run("one", "two", "three") as running:
        cut(scene.pid(), sshd)
        cut(scene.pid("undoing"), sshd)
        done = running.done()
    row = done.rows["a1"]
    assert (row["status"], connects(done, "a1")) == ("lost", 2)
    assert scene.lines("a1") == ["one", "two", "un-three"]
    assert "'three' is rolled back; 'two' is NOT rolled back" in row["reason"]
    assert "'one' is NOT rolled back" in row["reason"]


def test_a_host_lost_within_max_failures_is_rolled_back_alone_and_the_others_go_on(
    scene: Scene, sshd: Sshd
) -> None:
    scene.over(sshd, "a1", "a2")
    scene.task("one", scene.says("one"))
    scene.task("two", scene.says("two", "a1", scene.hangs()))
    scene.task("three", scene.says("three"))
    item = {"name": "all", "max_failures": 1, "tasks": ["one", "two", "three"]}
    scene.project.write({"tasks/p.yml": json.dumps({"tasks": [item]})})
    with scene.run("p") as running:
        cut(scene.pid(), sshd)
        done = running.done()
    assert scene.lines("a1") == ["one", "two", "un-two", "un-one"]
    assert scene.lines("a2") == ["one", "two", "three"]
    assert {h: r["status"] for h, r in done.rows.items()} == {"a1": "lost", "a2": "changed"}
    assert done.code == 1


def test_a_delegate_lost_in_the_middle_is_connected_again_to_undo(scene: Scene, sshd: Sshd) -> None:
    scene.over(sshd, "a1", "a2", "lb").project.write(
        {"inventories/real/roles.yml": '{"web": ["a1", "a2"]}'}
    )
    drain = {"run": scene.says("drain", "a1", scene.hangs()), "delegate_to": "lb"}
    back = {"run": scene.says("un-drain"), "delegate_to": "lb"}
    scene.task("one", scene.says("one"), roles=["web"])
    scene.task("drain", "", roles=["web"], steps=[drain], rollback=[back])
    with scene.run("one", "drain") as running:
        cut(scene.pid(), sshd)
        done = running.done()
    assert scene.lines("a1") == ["one", "drain", "un-drain", "un-one"]
    assert scene.lines("a2")[-2:] == ["un-drain", "un-one"]
    assert done.rows["a1"]["status"] == "lost"
    assert connects(done, "lb") == 2
    assert done.code == 1


def test_a_lost_host_is_connected_again_also_after_an_interrupt(scene: Scene, sshd: Sshd) -> None:
    scene.over(sshd, "a1", "a2")
    scene.task("one", scene.says("one", "a1", scene.hangs()) + scene.says("", "a2", scene.waits()))
    with scene.run("one") as running:
        until(scene.there("waiting"), "the other host")
        cut(scene.pid(), sshd)
        running.tells("host_finished", "a1")
        running.interrupt()
        done = running.done()
    assert done.code == 130
    assert {h: r["status"] for h, r in done.rows.items()} == {"a1": "lost", "a2": "cancelled"}
    assert scene.lines("a1")[-1] == "un-one"


def test_an_interrupt_does_not_end_the_connecting_again_of_a_tolerated_host(
    scene: Scene, tmp_path: Path
) -> None:
    with serve(tmp_path / "sshd") as own:
        scene.over(own, "a1", "a2")
        scene.task("one", scene.says("one", "a1", scene.hangs()))
        playbook(scene, 1, "one")
        with scene.run("p") as running:
            pid = connection_of(scene.pid(), own)
            os.kill(own.pid, signal.SIGSTOP)
            try:
                os.kill(pid, signal.SIGKILL)
                running.tells("connect_started", "a1", times=2)
                running.interrupt()
            finally:
                os.kill(own.pid, signal.SIGCONT)
            done = running.done()
    assert done.code == 130
    assert scene.lines("a1") == ["one", "un-one"]


@pytest.fixture
def two(scene: Scene) -> Scene:
    """Sandbox hosts; the first of them fails, and its rollback waits for us."""
    scene.project.sandbox("a1", "a2")
    scene.task("one", scene.says("one"))
    undo = scene.says("un-two", "a1", scene.waits())
    scene.task("two", scene.says("two", "a1", "exit 3"), undo)
    scene.task("three", scene.says("three"))
    scene.project.write(
        {"tasks/hook.yml": f"failed: [p]\nsteps: [{{run: echo >> {scene.log}/hook}}]\n"}
    )
    return scene


def playbook(scene: Scene, most: int, *tasks: str) -> None:
    item = {"name": "all", "max_failures": most, "tasks": list(tasks)}
    scene.project.write({"tasks/p.yml": json.dumps({"tasks": [item]})})


@pytest.mark.parametrize("tasks", [("one", "two", "three"), ("one", "two")])
def test_an_interrupt_lets_a_tolerated_hosts_own_rollback_end_and_then_undoes_the_rest(
    two: Scene, tasks: tuple[str, ...]
) -> None:
    playbook(two, 1, *tasks)
    with two.run("p", stage="dev") as running:
        until(two.there("waiting"), "the rollback of the tolerated host")
        running.interrupt()
        (two.log / "go").write_text("go\n")
        done = running.done()
    assert done.code == 130
    assert two.lines("a1") == ["one", "two", "un-two", "went", "un-one"]
    assert two.lines("a2") == ["one", "two", "un-two", "un-one"]
    assert {h: r["status"] for h, r in done.rows.items()} == {"a1": "failed", "a2": "cancelled"}
    assert "NOT" not in done.rows["a1"]["reason"]
    assert done.rows["a2"]["reason"].count("interrupted") >= 1


@pytest.mark.parametrize("most", [0, 1])
def test_a_second_interrupt_ends_a_rollback_at_once_and_names_the_host(
    two: Scene, most: int
) -> None:
    playbook(two, most, "one", "two", "three")
    with two.run("p", stage="dev") as running:
        until(two.there("waiting"), "the rollback")
        running.interrupt()
        _, err = insist(running.process)
    assert running.process.returncode == 130
    assert "Traceback" not in err
    assert " may still be busy with rollback of two" in err
    assert "un-one" not in two.lines("a1")


def test_an_interrupt_lets_a_failures_rollback_end_but_no_failed_hook_begin(two: Scene) -> None:
    playbook(two, 0, "one", "two", "three")
    with two.run("p", stage="dev") as running:
        until(two.there("waiting"), "the rollback")
        running.interrupt()
        (two.log / "go").write_text("go\n")
        done = running.done()
    assert done.code == 130
    assert two.lines("a1") == ["one", "two", "un-two", "went", "un-one"]
    assert two.lines("a2") == ["one", "two", "un-two", "un-one"]
    assert {h: r["status"] for h, r in done.rows.items()} == {"a1": "failed", "a2": "cancelled"}
    assert not (two.log / "hook").exists()
