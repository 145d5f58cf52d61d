"""Replays scenes of a run on a terminal, for the tests of its screens.

python -m tests.support.screen_scenarios SCENE HOSTS GO_FILE [-v]

A scene stops where the screen is looked at, until GO_FILE exists, and then ends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.step_result import (
    CapturedOutput,
    HostSummary,
    StateChange,
    Status,
    StepResult,
)
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.sinks import choose_sinks

RUN = "20261123140211-ab12"
LOG = f".orch/runs/{RUN}"
HOLD = None
"""What a scene yields where the screen is looked at."""

Scene = Iterator[RunEvent | None]


class Step(Struct, frozen=True):
    """A step of a task with a number of steps."""

    task: str
    number: int
    name: str

    def started(self, host: str, ago: float = 0.0) -> StepStarted:
        return StepStarted(
            time.time() - ago, None, task=self.task, step=self.number, name=self.name, host=host
        )

    def printed(self, host: str, data: bytes, ago: float = 0.0) -> StepOutput:
        return StepOutput(
            time.time() - ago,
            None,
            task=self.task,
            step=self.number,
            host=host,
            stream="stdout",
            data=data,
        )

    def finished(self, host: str, result: StepResult) -> StepFinished:
        return StepFinished(
            time.time(),
            None,
            task=self.task,
            step=self.number,
            name=self.name,
            host=host,
            outcome=result,
        )


CHANGED = StepResult(
    Status.CHANGED, 0, seconds=0.42, changes=(StateChange("to", "/app/r/41", "/app/r/42"),)
)
FAILED = StepResult(
    Status.FAILED,
    2,
    stderr=CapturedOutput(b"tar: unexpected end of file\n"),
    seconds=1.5,
    reason="exit status 2",
)
UNPACK = Step("deploy:publish", 1, "unpack the release")
LINK = Step("deploy:publish", 2, "link current")
RESTART = Step("deploy:publish", 3, "restart the application server")


def host_names(count: int) -> tuple[str, ...]:
    return tuple(f"web{i:03}.example.net" for i in range(1, count + 1))


def play_deploy(count: int) -> Scene:
    """Play a deploy: a host fails, one is unreachable, one is slow and talks."""
    hosts = host_names(count)
    yield RunStarted(time.time(), RUN, "prod", ("deploy",), hosts)
    away = set(hosts[5:6])
    for host in hosts:
        yield ConnectStarted(time.time(), host)
        error = "connect: connection refused" if host in away else ""
        yield ConnectFinished(
            time.time() - 3, host, 0.1, error, "is sshd running?" if error else ""
        )
    yield Warned(0.0, "role `spare` has no hosts")
    live = [host for host in hosts if host not in away]
    yield TaskStarted(time.time() - 14, None, "deploy:publish", tuple(live), 3, 2, 5)
    bad = set(hosts[3:4])
    for host in live:
        yield UNPACK.started(host)
        yield UNPACK.finished(host, FAILED if host in bad else CHANGED)
        if host in bad:
            yield HostFinished(time.time(), None, "deploy:publish", host, FAILED)
            continue
        yield LINK.started(host)
        result = StepResult(Status.CHANGED, 0, seconds=0.01, attempts=3)
        yield LINK.finished(host, result if host == hosts[0] else StepResult(Status.OK, 0))
    for host in live:
        if host not in bad:
            yield RESTART.started(host, 12)
    yield RESTART.printed(hosts[0], b"\x1b[31mwaiting\x1b[0m for the old workers\n", 2)
    for host in live[1:-1]:
        if host not in bad:
            yield RESTART.finished(host, StepResult(Status.OK, 0, seconds=0.2))
            yield HostFinished(time.time(), None, "deploy:publish", host, StepResult(Status.OK))
    yield HOLD
    rows = []
    for host in hosts:
        status = Status.UNREACHABLE if host in away else Status.FAILED if host in bad else None
        reason = "connect: connection refused" if host in away else ""
        if host in bad:
            reason = "exit status 2, in step 1 'unpack the release'"
        stderr = FAILED.stderr.text if host in bad else ""
        hint = f"is sshd running? then: orch -s prod run deploy -l {host}" if status else ""
        ran = 0 if status else 2
        row = HostSummary(host, None, status or Status.CHANGED, reason, ran, int(host not in away))
        rows.append(replace(row, seconds=14.2, roles=("web",), hint=hint, stderr=stderr))
    yield TaskFinished(time.time(), None, "deploy:publish", 14.2)
    yield RunFinished(time.time(), 14.2, 1, tuple(rows), LOG)


def play_exec(count: int, text: Callable[[int], bytes]) -> Scene:
    """Play `orch exec` with an output for each host."""
    hosts, step = host_names(count), Step("exec", 1, "uptime")
    yield RunStarted(time.time(), RUN, "prod", ("exec",), hosts)
    yield TaskStarted(time.time(), None, "exec", hosts, 1, 1, 1)
    for host in hosts:
        yield step.started(host, 2)
    for number, host in enumerate(hosts):
        yield step.printed(host, text(number))
    yield HOLD
    for number, host in enumerate(hosts):
        output = CapturedOutput(text(number))
        yield step.finished(host, StepResult(Status.OK, 0, output, seconds=0.2))
        yield HostFinished(time.time(), None, "exec", host, StepResult(Status.OK))
    yield TaskFinished(time.time(), None, "exec", 0.2)
    rows = (HostSummary(host, None, Status.OK, ok=1, seconds=0.2) for host in hosts)
    yield RunFinished(time.time(), 0.2, 0, tuple(rows), LOG)


def flood(number: int) -> bytes:
    """Return the output of a host that prints much."""
    return b"".join(b"%04d some line of a long log of host %d\n" % (i, number) for i in range(3000))


def same(number: int) -> bytes:
    """Return an output that most hosts have in common."""
    return b"Linux 6.8\nsecond line\n" if number % 7 == 3 else b"Linux 6.1\nsecond line\n"


SCENES: Mapping[str, Callable[[int], Scene]] = {
    "deploy": play_deploy,
    "flood": lambda count: play_exec(count, flood),
    "same": lambda count: play_exec(count, same),
}


def main() -> None:
    name, count, go, *rest = sys.argv[1:]
    sink = choose_sinks(
        DisplayOptions(verbose=rest.count("-v")),
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
    )
    for event in SCENES[name](int(count)):
        if event is not None:
            sink(event)
            continue
        while not Path(go).exists():
            time.sleep(0.02)
    sink.close()


if __name__ == "__main__":
    main()
