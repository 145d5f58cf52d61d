"""Repeated signals, as wrappers, shells and terminals send them: the rollback still completes."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.flow.test_rollback_interrupted import RollbackScene, RunningOrch, scene
from tests.projects import OrchProject
from tests.sshd import START_TIMEOUT, SshdServer, wait_until

__all__ = ["scene"]

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
BOTH_UNDONE = ["one", "un-one", "went"]


@pytest.fixture
def waiting_rollback(scene: RollbackScene) -> RollbackScene:
    """Create a sandbox host whose step hangs, and whose rollback waits for the test."""
    scene.project.add_sandbox_stage("a1")
    return hanging_step(scene)


def hanging_step(scene: RollbackScene) -> RollbackScene:
    undo = scene.log_step("un-one", "a1", scene.waiting_step())
    scene.write_task("one", scene.log_step("one", "a1", scene.hanging_step()), undo)
    return scene


def finish_rollback(scene: RollbackScene) -> None:
    """Let the rollback complete."""
    (scene.log / "go").write_text("go\n")


ONE = ("-s", "dev", "run", "one", "--json")


@contextmanager
def run_in_group(
    scene: RollbackScene, *before: str, words: Sequence[str] = ONE
) -> Iterator[RunningOrch]:
    """Start orch with a hanging step through ``before``, in its own process group."""
    process = subprocess.Popen(
        [*before, *scene.project.command(*words)],
        cwd=scene.project.root,
        env=scene.project.environ({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        scene.step_pid()
        yield RunningOrch(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def check_rolled_back(scene: RollbackScene, running: RunningOrch, code: int = 130) -> None:
    """Check that the waiting rollback completes, and then orch exits."""
    wait_until(scene.wait_for_step("waiting"), "the rollback")
    finish_rollback(scene)
    done = running.wait_for_exit()
    assert done.code == code
    assert scene.log_lines("a1") == BOTH_UNDONE
    assert done.host_rows["a1"]["reason"].endswith("'one' is rolled back")
    assert "left at once" not in done.err


@pytest.mark.parametrize("numbers", [(TERM, TERM), (HUP, HUP), (INT, TERM), (TERM, HUP, TERM)])
def test_signals_in_a_row_let_the_rollback_come_to_its_end(
    waiting_rollback: RollbackScene, numbers: Sequence[signal.Signals]
) -> None:
    """The later signals arrive when the first was handled, within a second or not."""
    with waiting_rollback.start_run("one", stage="dev") as running:
        waiting_rollback.step_pid()
        running.process.send_signal(numbers[0])
        running.wait_for_event("warned", "interrupted: stopping")
        running.process.send_signal(numbers[1])
        wait_until(waiting_rollback.wait_for_step("waiting"), "the rollback")
        check_rolled_back(waiting_rollback, running)


def test_two_ctrl_cs_within_a_second_are_one(waiting_rollback: RollbackScene) -> None:
    def at_once() -> bool:
        with waiting_rollback.start_run("one", stage="dev") as running:
            waiting_rollback.step_pid()
            began = time.monotonic()
            running.process.send_signal(INT)
            running.wait_for_event("warned", "interrupted: stopping")
            running.process.send_signal(INT)
            if time.monotonic() - began >= 1:
                return False  # the machine is busy: try again
            check_rolled_back(waiting_rollback, running)
            return True

    assert any(at_once() for _ in range(5))


def test_gnu_timeout_sends_its_signal_twice(waiting_rollback: RollbackScene) -> None:
    """GNU timeout forwards TERM to its child, and then to its whole group."""
    with run_in_group(waiting_rollback, "timeout", "600") as running:
        running.process.send_signal(TERM)
        check_rolled_back(waiting_rollback, running)


def test_a_wrapper_answers_the_terminals_ctrl_c_with_a_signal_of_its_own(
    waiting_rollback: RollbackScene,
) -> None:
    wrapper = "import signal, subprocess, sys\nchild = subprocess.Popen(sys.argv[1:])\n"
    wrapper += "signal.signal(signal.SIGINT, lambda *_: child.terminate())\nsys.exit(child.wait())"
    with run_in_group(waiting_rollback, sys.executable, "-c", wrapper) as running:
        os.killpg(running.process.pid, INT)
        check_rolled_back(waiting_rollback, running)


def test_what_orch_has_started_hears_nothing_of_a_ctrl_c(
    scene: RollbackScene, sshd: SshdServer, tmp_path: Path
) -> None:
    """Child processes that a rollback needs have their own sessions.

    These are ssh with its ControlMaster, a ProxyCommand and the shell of local steps.
    """
    hanging_step(scene.over(sshd, "a1"))
    settings = json.loads((scene.project.root / "inventories/real/stage.yml").read_text())
    settings["connect"]["transport"] = "openssh"
    scene.project.write(
        {
            "inventories/real/stage.yml": json.dumps(settings),
            "tasks/local.yml": json.dumps(
                {
                    "steps": [{"run": scene.log_step("here"), "local": True}],
                    "rollback": [{"run": scene.log_step("un-here"), "local": True}],
                }
            ),
        }
    )
    words = ("run", "local", "one", "--json", "-F", "none")
    with run_in_group(scene, words=("-s", "real", *words)) as running:
        os.killpg(running.process.pid, INT)
        wait_until(scene.wait_for_step("waiting"), "the rollback")
        os.killpg(running.process.pid, TERM)
        finish_rollback(scene)
        done = running.wait_for_exit()
    assert done.code == 130
    assert scene.log_lines("a1") == ["here", "one", "un-one", "went", "un-here"]


def test_a_terminal_that_is_closed(waiting_rollback: RollbackScene) -> None:
    """The kernel sends HUP to the foreground group, which cannot print any more."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(waiting_rollback.project.root)
        words = waiting_rollback.project.command("-s", "dev", "run", "one")
        os.execve(words[0], words, waiting_rollback.project.environ({"TERM": "xterm"}))
    waiting_rollback.step_pid()
    os.close(terminal)
    wait_until(waiting_rollback.wait_for_step("waiting"), "the rollback")
    os.kill(pid, HUP)  # from its shell
    finish_rollback(waiting_rollback)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert waiting_rollback.log_lines("a1") == BOTH_UNDONE


@pytest.mark.parametrize("numbers", [(INT, TERM), (TERM, TERM)])
def test_a_reader_of_the_output_that_went_away_before(
    waiting_rollback: RollbackScene, numbers: Sequence[signal.Signals]
) -> None:
    with waiting_rollback.project.start_orch("-s", "dev", "run", "one") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        waiting_rollback.step_pid()
        process.stdout.close()
        process.stderr.close()
        for number in numbers:
            process.send_signal(number)
        wait_until(waiting_rollback.wait_for_step("waiting"), "the rollback")
        process.send_signal(numbers[-1])
        finish_rollback(waiting_rollback)
        assert process.wait(START_TIMEOUT) == 130
        process.stdout = process.stderr = None
    assert waiting_rollback.log_lines("a1") == BOTH_UNDONE


def test_signals_while_the_end_is_told_change_nothing_of_it(project: OrchProject) -> None:
    """The last event is larger than the pipe, and is read only after the signals were sent."""
    project.add_sandbox_stage("a1").write(
        {"tasks/t.yml": "steps: [{fail: \"{{ 'x' * 200000 }}\"}]\n"}
    )
    with project.start_orch("-s", "dev", "run", "t", "--json") as process:
        RunningOrch(process).wait_for_event("task_finished", "t")
        assert process.stdout is not None
        assert process.stderr is not None
        # More than half a pipe is the last event: what is read before leaves pages that are not full.
        wait_until(lambda: unread_bytes(process.stdout.fileno()) > 32768, "a pipe that is full")  # type: ignore[union-attr]
        process.send_signal(INT)
        process.send_signal(TERM)
        # not by communicate(), which leaves out what was read ahead with an earlier line
        out, err = process.stdout.read(), process.stderr.read()
        process.wait(START_TIMEOUT)
    assert process.returncode == 1
    assert json.loads(out.splitlines()[-1])["event"] == "run_finished"
    assert err in ("", "starting 1 worker\n")  # the latter with ORCH_TEST_ENGINE


def unread_bytes(descriptor: int) -> int:
    """Return the number of bytes in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("numbers", [(TERM,), (HUP, HUP), (INT, TERM), (TERM, INT)])
def test_before_anything_is_contacted_they_end_orch_in_order(
    project: OrchProject, tmp_path: Path, numbers: Sequence[signal.Signals]
) -> None:
    """The signals arrive while the stage is loaded by an inventory program that hangs."""
    began = tmp_path / "began"
    program = project.root / "inventories/dev/hosts"
    project.write({"tasks/t.yml": "steps: [{run: id}]\n"})
    endless = "while echo; do sleep .2; done"  # until nothing reads it any more
    project.write({"inventories/dev/hosts": f"#!/bin/sh\n>{began}\n{endless}\n"})
    program.chmod(0o755)
    with project.start_orch("-s", "dev", "run", "t") as process:
        wait_until(began.exists, "the program")
        for number in numbers:
            process.send_signal(number)
        out, err = process.communicate(timeout=START_TIMEOUT)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_while_orch_itself_is_loaded(
    project: OrchProject, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"""if 1:
        import os, sys

        class Signals:
            def find_spec(self, name, path=None, target=None):
                if name == "click":
                    os.kill(os.getpid(), {number:d})

        sys.meta_path.insert(0, Signals())
        """
    )
    done = project.orch("--version", PYTHONPATH=str(tmp_path))
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_a_question_for_a_secret_gives_the_terminal_back(
    project: OrchProject, number: signal.Signals
) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/common/stage.yml": "vars: {asked: !secret {prompt: The password?}}",
            "tasks/t.yml": "steps: [{run: 'echo {{ asked }}'}]\n",
        }
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        words = project.command("-s", "dev", "run", "t")
        os.execve(words[0], words, project.environ({"TERM": "xterm"}))
    try:
        wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "the question")
        os.kill(pid, number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
        assert termios.tcgetattr(terminal)[3] & termios.ECHO
    finally:
        os.close(terminal)


def test_a_question_before_a_task_is_given_up_and_what_was_begun_undone(
    scene: RollbackScene,
) -> None:
    scene.project.add_sandbox_stage("a1")
    scene.write_task("one", scene.log_step("one"))
    scene.write_task("two", scene.log_step("two"))
    process = subprocess.Popen(
        scene.project.command("-s", "dev", "run", "one", "two", "--step", "--json"),
        cwd=scene.project.root,
        env=scene.project.environ({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write("run\n")
        process.stdin.flush()
        running = RunningOrch(process)
        running.wait_for_event("task_finished", "one")
        running.interrupt()
        process.wait(START_TIMEOUT)
        process.stdin.close()
        process.stdin = None
        done = running.wait_for_exit()
    assert done.code == 130
    assert scene.log_lines("a1") == ["one", "un-one"]
    assert done.host_rows["a1"]["status"] == "cancelled"
