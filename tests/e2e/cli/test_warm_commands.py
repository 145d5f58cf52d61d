"""`orch warm`, `--persist` and ORCH_PERSIST: later commands use the connections of earlier ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer
from tests.support.broker import BrokerOfTests
from tests.support.doc_examples import capture_terminal, render_screen
from tests.support.session_recording import processes_with, wait_until

SHOW = ("exec", "--readonly", "--", "echo $SSH_CONNECTION")


@dataclass(frozen=True, slots=True)
class WarmProject(OrchProject):
    """A project with a broker of its own."""

    broker: BrokerOfTests

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        return OrchProject.environ(self, {**self.broker.environ, **more})

    def connections(self, *args: str, **env: str) -> set[str]:
        """Return what identifies the connections of a command."""
        done = self.orch("-s", "real", "--json", *args, *SHOW, **env)
        assert done.code == 0, done.err
        events = map(json.loads, done.out.splitlines())
        return {each["stdout"] for each in events if each["event"] == "step_finished"}


@pytest.fixture
def project(tmp_path: Path, sshd: SshdServer) -> Iterator[WarmProject]:
    created = WarmProject(tmp_path / "project", broker=BrokerOfTests(tmp_path))
    names = ("127.0.0.1", "127.0.0.2")
    created.add_sshd_stage(sshd, {name: name for name in names})
    yield created
    created.broker.close()


def kept_hosts(project: WarmProject) -> list[str]:
    done = project.orch("warm", "status", "--json")
    assert done.code == 0, done.err
    return [json.loads(line)["host"] for line in done.out.splitlines()]


def test_warm_up_keeps_what_later_commands_use(project: WarmProject) -> None:
    assert kept_hosts(project) == []
    up = project.orch("-s", "real", "warm", "up")
    assert (up.code, up.out) == (0, "2 kept\n")
    assert kept_hosts(project) == ["127.0.0.1", "127.0.0.2"]
    first = project.connections("--persist", "10m")
    assert len(first) == 2
    assert project.connections(ORCH_PERSIST="10m") == first
    assert not project.connections() & first  # nothing is kept unless it is wanted
    assert project.orch("-s", "real", "warm", "down", "-l", "127.0.0.1").out == "1 closed\n"
    assert kept_hosts(project) == ["127.0.0.2"]
    shown = project.orch("-s", "real", "warm", "status", "-l", "127.0.0.1").out
    assert shown == "no connection is kept\n"
    wrong = project.orch("-s", "real", "warm", "upp")
    assert (wrong.code, "the commands are: down, status, up" in wrong.err) == (2, True)
    assert project.orch("warm", "down").out == "1 closed\n"
    assert project.orch("warm", "down").out == "no connection was kept\n"


def test_warm_up_says_on_a_terminal_how_far_it_is(project: WarmProject) -> None:
    words = project.command("-s", "real", "warm", "up")
    environ = project.environ({"TERM": "xterm"})
    code, raw = capture_terminal(words, project.root, environ)
    assert (code, render_screen(raw).strip()) == (0, "2 kept")
    assert "connecting: 1 of 2 hosts" in raw


def test_warm_up_names_the_hosts_that_are_not_kept(project: WarmProject) -> None:
    project.write(
        {
            "inventories/real/hosts.yml": "127.0.0.1: {}\n127.0.0.2: {connect: {forward_agent: true}}\n"
            "127.0.0.3: {connect: {port: 1}}\n"
        }
    )
    done = project.orch("-s", "real", "warm", "up")
    assert (done.code, done.out) == (4, "1 kept, 2 not\n")
    assert "127.0.0.2: its connection is not kept" in done.err
    assert "127.0.0.3: " in done.err and "refused" in done.err


@pytest.mark.parametrize("text", ["soon", "10 m", "-1"])
def test_invalid_time_is_refused(project: WarmProject, text: str) -> None:
    for done in (
        project.orch("-s", "real", f"--persist={text}", *SHOW),
        project.orch("-s", "real", *SHOW, ORCH_PERSIST=text),
    ):
        assert done.code == 2
        assert f"'{text}' is not a duration: seconds, or like 250ms, 10s, 5m, 1h" in done.err


def test_runs_and_their_locks_and_files_work_over_kept_connections(project: WarmProject) -> None:
    project.write({"files/motd": "x" * 100_000})
    target = project.root / "away"
    target.mkdir()
    put = [
        {"directory": {"path": f"{target}/{{{{ host.name }}}}"}},
        {"copy": {"src": "../files/motd", "path": f"{target}/{{{{ host.name }}}}/motd"}},
        {"run": f"cat {target}/{{{{ host.name }}}}/motd", "readonly": True},
    ]
    project.write({"tasks/put.yml": json.dumps({"steps": put})})
    results: list[OrchResult] = [
        project.orch("-s", "real", "run", "put", "--persist", "5m") for _ in range(2)
    ]
    assert [done.code for done in results] == [0, 0], results[-1].err
    assert "2 hosts: 2 changed" in results[0].out + results[0].err
    assert "2 hosts: 2 ok" in results[1].out + results[1].err
    assert project.orch("-s", "real", "run", "put", "--check", "--persist", "5m").code == 0


def test_interrupt_ends_the_steps_and_keeps_the_connections(project: WarmProject) -> None:
    words = project.command("-s", "real", "exec", "--persist", "10m", "--", "sleep 4713.4713")
    process = subprocess.Popen(
        words,
        cwd=project.root,
        env=project.environ({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(processes_with("4713.4713")) > 2, "the steps to begin")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    wait_until(lambda: not processes_with("4713.4713"), "the steps' end")
    assert kept_hosts(project) == ["127.0.0.1", "127.0.0.2"]
    assert len(project.connections("--persist", "10m")) == 2
