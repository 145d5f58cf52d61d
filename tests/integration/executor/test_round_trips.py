"""The number of round trips of a task, which is its cost on a slow connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.errors import ExitCode
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.event import RunEvent, StepFinished
from orchestrator.model.host import Host
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.playbook import TaskRequest, load_tasks
from orchestrator.remote_shell.channel_protocol import Channel, Connection, PreparedShell, ReadChunk
from orchestrator.transports.registry import TransportRegistry
from tests.projects import OrchProject
from tests.sshd import SshdServer

TWELVE = [
    "mkdir -p rel",
    "echo conf > rel/conf",
    "echo 1 > rel/REVISION",
    "test -d rel",
    "cat rel/REVISION",
    "date -u",
    "ln -sfn shared rel/shared",
    "wc -c rel/conf",
    "ln -sfn rel current",
    "readlink current",
    "uname -r",
    "ls",
]


class CountingConnection:
    """A connection whose channels count writes that follow a read."""

    def __init__(self, connection: Connection) -> None:
        self.of, self.channels = connection, list[CountingChannel]()

    @property
    def endpoint(self) -> str:
        return self.of.endpoint

    def open(self, become: str = "") -> Channel:
        self.channels.append(CountingChannel(self.of.open(become)))
        return self.channels[-1]

    def close(self) -> None:
        self.of.close()


class CountingChannel:
    def __init__(self, channel: Channel) -> None:
        self.of, self.turns, self.answered = channel, 0, True

    def write(self, data: bytes | memoryview) -> int:
        if self.answered:
            self.turns, self.answered = self.turns + 1, False
        return self.of.write(data)

    def read(self, timeout: float | None) -> ReadChunk:
        chunk = self.of.read(timeout)
        self.answered = self.answered or bool(chunk.stdout)
        return chunk

    def wake(self) -> None:
        self.of.wake()

    def close_stdin(self) -> None:
        self.of.close_stdin()

    def close(self) -> None:
        self.of.close()

    def exit_status(self) -> int | None:
        return self.of.exit_status()

    def cause(self) -> str:
        return self.of.cause()

    def prepared_shell(self) -> PreparedShell | None:
        return self.of.prepared_shell()


@pytest.fixture
def connector() -> Iterator[TransportRegistry]:
    created = TransportRegistry()
    yield created
    created.close()


def count_round_trips(
    project: OrchProject, sshd: SshdServer, connector: TransportRegistry, steps: str
) -> tuple[int, int]:
    """Return the number of round trips, and of steps that succeeded."""
    project.add_sshd_stage(sshd, {"a1": "127.3.0.1"}).write({"tasks/t.yml": steps})
    stage = load_stage(project.root, "real")
    tasks = load_tasks(project.root, ["t"]).by_name
    hosts = tuple(stage.hosts.values())
    plan = build_plan(
        PlanRequest(stage, hosts, (TaskRequest("t"),), tasks, run_view("r", "me", 0.0))
    )
    created: list[CountingConnection] = []
    events: list[RunEvent] = []

    def connect(host: Host) -> Connection:
        created.append(CountingConnection(connector.connect(host)))
        return created[-1]

    code = execute_plan(
        plan, stage.hosts, connect, events.append, options=RunOptions(), cancel=CancelToken()
    )
    assert code is ExitCode.OK, events
    (counting,) = created
    (channel,) = counting.channels
    return channel.turns, sum(isinstance(e, StepFinished) for e in events)


def command_lines(commands: list[str]) -> str:
    return "steps:\n" + "".join(f"- run: {c}\n  chdir: /tmp\n" for c in commands)


def test_twelve_steps_wait_once_as_one_step_does(
    project: OrchProject, sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    twelve = "steps:\n" + "".join(f"- run: {c}\n  chdir: {tmp_path}\n" for c in TWELVE)
    assert count_round_trips(project, sshd, connector, twelve) == (1, 12)
    assert count_round_trips(project, sshd, connector, "steps: [{run: 'true'}]\n") == (1, 1)


def test_conditions_over_how_a_step_ended_do_not_wait(
    project: OrchProject, sshd: SshdServer, connector: TransportRegistry
) -> None:
    steps = dedent("""\
            steps:
            - {run: exit 3, register: a, ignore_errors: true}
            - {run: echo b, when: a.failed and a.exit_status == 3, register: b}
            - {run: echo c, when: b.changed or not a.changed, failed_when: result.exit_status > 2}
            """)
    assert count_round_trips(project, sshd, connector, steps) == (1, 3)


def test_a_text_that_needs_a_result_waits_once_for_it(
    project: OrchProject, sshd: SshdServer, connector: TransportRegistry
) -> None:
    steps = dedent("""\
            steps:
            - {run: echo 1, register: a}
            - {run: echo 2, register: b}
            - run: echo {{ a.stdout }} {{ b.stdout }}
            - run: echo {{ a.stdout }}
            - run: echo end
            """)
    assert count_round_trips(project, sshd, connector, steps) == (2, 5)


def test_a_failure_that_only_output_shows_waits_and_a_change_that_nobody_asks_for_does_not(
    project: OrchProject, sshd: SshdServer, connector: TransportRegistry
) -> None:
    failed = dedent("""\
        steps:
        - {run: echo ok, failed_when: result.stdout != 'ok'}
        - run: echo end
        """)
    assert count_round_trips(project, sshd, connector, failed) == (2, 2)
    changed = dedent("""\
        steps:
        - {run: echo ok, changed_when: result.stdout != 'ok'}
        - run: echo end
        """)
    assert count_round_trips(project, sshd, connector, changed) == (1, 2)


def test_a_hundred_templates_wait_once_as_one_does(
    project: OrchProject, sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    project.write({"tasks/t.j2": "{{ host.name }} {{ n }}\n"})
    steps = "".join(
        f"- template: {{src: t.j2, path: {tmp_path}/{n}, mode: '0640'}}\n  notify: told\n"
        for n in range(100)
    )
    text = f"vars: {{n: 1}}\nsteps:\n{steps}handlers: {{told: [{{run: 'true'}}]}}\n"
    assert count_round_trips(project, sshd, connector, text) == (1, 101)
    assert count_round_trips(project, sshd, connector, text) == (1, 101)
