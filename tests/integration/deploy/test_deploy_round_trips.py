"""The round trips per task of a deploy, which must not grow with steps or hosts."""

from __future__ import annotations

from pathlib import Path

from orchestrator import playbook
from orchestrator.errors import ExitCode
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.event import RunEvent, StepFinished
from orchestrator.model.host import Host
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.registry import TransportRegistry
from tests.integration.executor.test_round_trips import CountingConnection
from tests.projects import OrchProject
from tests.support.deploy_app import make_small_app


def test_a_task_of_a_deploy_takes_a_handful_of_round_trips(
    project: OrchProject, tmp_path: Path
) -> None:
    make_small_app(project, {"blog": "repository"})
    stage = load_stage(project.root, "dev")
    plan = build_plan(
        PlanRequest(
            stage,
            tuple(stage.hosts.values()),
            (playbook.TaskRequest("deploy"),),
            playbook.load_tasks(project.root, ["deploy"]).by_name,
            run_view("r", "me", 0.0),
            apps=tuple(stage.apps.values()),
            root=str(project.root),
        )
    )
    created: dict[str, CountingConnection] = {}
    events: list[RunEvent] = []
    connector = TransportRegistry(
        sandbox_folder=project.root / ".orch" / "sandbox" / "dev", home=tmp_path
    )

    def connect(host: Host) -> Connection:
        created[host.name] = CountingConnection(connector.connect(host))
        return created[host.name]

    try:
        code = execute_plan(
            plan, stage.hosts, connect, events.append, options=RunOptions(), cancel=CancelToken()
        )
    finally:
        connector.close()
    assert code is ExitCode.OK, events[-1]
    waves = sum(not wave.is_commit for wave in plan.app_plans[0].planned_tasks)
    for name in stage.hosts:
        turns = sum(channel.turns for channel in created[name].channels)
        steps = sum(isinstance(e, StepFinished) and e.host == name for e in events)
        assert turns <= 2 * waves, (turns, waves, steps)
