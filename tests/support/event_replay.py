"""Replays a synthetic run through the sinks, for demonstration and for tests of the live display.

python -m tests.support.event_replay HOSTS [--seconds S] [--apps A,B] [--connect] [--json] [-v]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

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
from orchestrator.model.step_result import CapturedOutput, HostSummary, Status, StepResult
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.sinks import choose_sinks

NASTY = [
    b"[red]not markup[/] [bold\n",
    b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J\x1b[10;10Hjump\n",
    b"10%\r20%\rdownloading 30%\r",
    "caf\xe9 latin-1\n".encode("latin-1"),
    b"x" * 1_000_000 + b"\n",
    "\u7e41\u9ad4\u4e2d\u6587 ".encode() * 30 + b"\n",
    b":smile: \x07\x08\x00 \xc2\x9b31m [/] \n",
]


def replay_events(
    count: int, seconds: float, apps: list[str | None], connect: bool
) -> Iterator[RunEvent]:
    hosts = tuple(f"web{i:03}.example.net" for i in range(1, count + 1))
    now = time.time
    start = now()
    yield RunStarted(now(), "20261123140211-ab12", "prod", ("deploy",), hosts)
    if connect:
        for host in hosts:
            yield ConnectStarted(now(), host)
        for i, host in enumerate(hosts):
            time.sleep(seconds / 2 / count)
            refused = i % 97 == 5
            error = "connect: connection refused" if refused else ""
            yield ConnectFinished(now(), host, 0.1, error, "is sshd running?" if refused else "")
    for app in apps:
        yield TaskStarted(now(), app, "deploy:publish", hosts, 3)
        for host in hosts:
            yield StepStarted(
                now(), app, task="deploy:publish", step=1, name="unpack the release", host=host
            )
    yield Warned(now(), "role `spare` has no hosts")
    rows = []
    for i, host in enumerate(hosts):
        for app in apps:
            nasty = NASTY[i % len(NASTY)]
            yield StepOutput(
                now(), app, task="deploy:publish", step=1, host=host, stream="stdout", data=nasty
            )
    for i, host in enumerate(hosts):
        time.sleep(seconds / 2 / count)
        for app in apps:
            bad = i % 41 == 3
            status = Status.FAILED if bad else Status.CHANGED if i % 2 else Status.OK
            stderr = (
                CapturedOutput(b"tar: unexpected end of file\ntar: exiting\n")
                if bad
                else CapturedOutput()
            )
            stdout = CapturedOutput(b"Linux 6.1\n" if i % 3 else b"Linux 6.8\nsecond line\n")
            end = StepResult(status, 2 if bad else 0, stdout, stderr, now() - start)
            yield StepFinished(
                now(),
                app,
                task="deploy:publish",
                step=1,
                name="unpack the release",
                host=host,
                outcome=end,
            )
            yield HostFinished(now(), app, "deploy:publish", host, end)
            reason = "step 1 'unpack the release': exit 2" if bad else ""
            counts = (0, 0, 1, 0) if bad else (1, 1, 0, 0)
            rows.append(
                HostSummary(
                    host, app, status, reason, *counts, now() - start, ("web",), "", stderr.text
                )
            )
    for app in apps:
        yield TaskFinished(now(), app, "deploy:publish", now() - start)
    yield RunFinished(now(), now() - start, 1, tuple(rows), ".orch/runs/20261123140211-ab12")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", type=int)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--apps", default="")
    parser.add_argument("--connect", action="store_true")
    parser.add_argument("--hold", type=Path)
    parser.add_argument("--abandon", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-v", action="count", default=0)
    args = parser.parse_args()
    sink = choose_sinks(
        DisplayOptions(json=args.json, verbose=args.v),
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
    )
    apps: list[str | None] = list(filter(None, args.apps.split(","))) or [None]
    ended = 0
    for event in replay_events(args.hosts, args.seconds, apps, args.connect):
        sink(event)
        ended += isinstance(event, HostFinished) or (args.hosts == 1 and type(event) is StepOutput)
        if args.hold and ended == (args.hosts + 1) // 2:
            ended += 1
            while not args.hold.exists():
                time.sleep(0.02)
            if args.abandon:
                return
    sink.close()


if __name__ == "__main__":
    main()
