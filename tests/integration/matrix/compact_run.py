"""A compact conformance run: the steps of a task on one host, and their expected results."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from orchestrator import playbook
from orchestrator.errors import ExitCode
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.event import RunEvent, RunFinished, StepFinished
from orchestrator.model.step_result import HostSummary
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.transports import TransportRegistry
from orchestrator.transports.prompts import PromptCallback as Question
from tests.support.session_recording import processes_with, wait_until

LARGE = random.Random(6).randbytes(50_000)  # beyond what goes with a command
SMALL = 'it\'s a "small" one\n'
GREETING = "it's ü $HOME `id`\t\\n"
MARK = f"98765.{uuid4().int}"  # seconds that nothing else on this machine sleeps
_SMALL = {"path": "{{ at }}/the small", "content": SMALL}
_LARGE = {"path": "{{ at }}/large", "src": "large"}
STEPS: list[dict[str, Any]] = [
    {"run": r"printf 'out\377\0\n\n'; printf 'err\376' >&2"},
    {"run": 'printf %s "$GREETING"', "readonly": True},
    {"copy": _SMALL},
    {"copy": _LARGE},
    {"copy": _SMALL},
    {"copy": _LARGE},
    {"run": f"sleep {MARK}", "timeout": "100ms", "ignore_errors": True},
    {"run": "echo last words >&2; exit 3"},
]
ENDS = [
    ("changed", 0, b"out\377\0\n\n", b"err\376"),
    ("ok", 0, GREETING.encode(), b""),
    ("changed", 0, b"", b""),
    ("changed", 0, b"", b""),
    ("ok", 0, b"", b""),
    ("ok", 0, b"", b""),
    ("timed_out", None, b"", b""),
    ("failed", 3, b"", b"last words\n"),
]


@dataclass(frozen=True, slots=True)
class CompactResult:
    """The result of a run on one host."""

    code: ExitCode
    row: HostSummary
    steps: list[StepFinished]

    @property
    def step_ends(self) -> list[tuple[str, int | None, bytes, bytes]]:
        outcomes = [step.outcome for step in self.steps]
        return [
            (
                str(o.status),
                o.exit_status,
                o.stdout.head + o.stdout.tail,
                o.stderr.head + o.stderr.tail,
            )
            for o in outcomes
        ]

    @property
    def first_stdout(self) -> bytes:
        """Return the stdout of the first step."""
        return self.step_ends[0][2]


@dataclass(frozen=True, slots=True)
class MatrixProject:
    """A project whose hosts are set up by the tests."""

    root: Path

    def write_project(
        self, hosts: Mapping[str, Mapping[str, Any]], connect: Mapping[str, Any]
    ) -> None:
        """Write the project. Its stages are the transports; ``connect`` applies to all hosts."""
        (self.root / "tasks").mkdir(parents=True)
        (self.root / "tasks/large").write_bytes(LARGE)
        (self.root / "tasks/compact.yml").write_text(yaml.safe_dump({"steps": STEPS}))
        for transport in ("ssh", "openssh"):
            stage = self.root / "inventories" / transport
            stage.mkdir(parents=True)
            common = {
                "connect": {**connect, "transport": transport},
                "environment": {"GREETING": GREETING},
                "vars": {"at": "~"},
            }
            (stage / "stage.yml").write_text(yaml.safe_dump(common, allow_unicode=True))
            (stage / "hosts.yml").write_text(yaml.safe_dump(dict(hosts), allow_unicode=True))

    def run_steps(
        self,
        transport: str,
        *names: str,
        steps: list[dict[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
        ask: Question | None = None,
    ) -> list[CompactResult]:
        """Run the task, or other steps, on these hosts; return the result of each."""
        stage = load_stage(self.root, transport)
        hosts = tuple(stage.hosts[name] for name in names)
        if steps is not None:
            (self.root / "tasks/other.yml").write_text(yaml.safe_dump({"steps": steps}))
        task = "compact" if steps is None else "other"
        loaded = playbook.load_tasks(self.root, [task])
        view = run_view("r", "tester", 0.0)
        plan = build_plan(
            PlanRequest(stage, hosts, (playbook.TaskRequest(task),), loaded.by_name, view)
        )
        events: list[RunEvent] = []
        settings = {"PATH": "/usr/bin:/bin", **(environ or {})}
        home = self.root.parent
        with closing(
            TransportRegistry(
                home=home,
                environ=settings,
                hosts=stage.hosts,
                prompt_user=ask,
                ssh_config="/dev/null",
            )
        ) as connector:
            code = execute_plan(
                plan,
                stage.hosts,
                connector.connect,
                events.append,
                options=RunOptions(),
                cancel=CancelToken(),
            )
        rows = next(event.rows for event in events if isinstance(event, RunFinished))
        ends = [event for event in events if isinstance(event, StepFinished)]
        return [CompactResult(code, r, [e for e in ends if e.host == r.host]) for r in rows]


def check_conforms(run: Callable[[], CompactResult], folder: Path) -> None:
    """Check that every step had its expected result and that no process is left.

    ``folder`` is where the host's files are, seen from here.
    """
    for name in ("the small", "large"):
        (folder / name).unlink(missing_ok=True)
    done = run()
    assert done.step_ends == ENDS, done.row
    assert (folder / "the small").read_text() == SMALL
    assert (folder / "large").read_bytes() == LARGE
    wait_until(lambda: not processes_with(MARK), "the end of what was timed out")
