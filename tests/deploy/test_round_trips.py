"""What a deploy costs on a slow link: round trips per task, however many steps or hosts."""

from __future__ import annotations

from pathlib import Path

from orchestrator import playbook
from orchestrator.errors import Exit
from orchestrator.executor import Cancel, Options, run
from orchestrator.inventory.stage_loader import load as load_stage
from orchestrator.model.event import Event, StepFinished
from orchestrator.model.host import Host
from orchestrator.planner.plan_builder import build
from orchestrator.planner.request import Ask
from orchestrator.planner.template_objects import run_view
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.registry import Connector
from tests.deploy.small import small
from tests.execute.test_round_trips import Counting
from tests.projects import Project


def test_a_task_of_a_deploy_takes_a_handful_of_round_trips(
    project: Project, tmp_path: Path
) -> None:
    small(project, {"blog": "repository"})
    stage = load_stage(project.root, "dev")
    plan = build(
        Ask(
            stage,
            tuple(stage.hosts.values()),
            (playbook.Request("deploy"),),
            playbook.load(project.root, ["deploy"]).by_name,
            run_view("r", "me", 0.0),
            apps=tuple(stage.apps.values()),
            root=str(project.root),
        )
    )
    made: dict[str, Counting] = {}
    events: list[Event] = []
    connector = Connector(sandbox=project.root / ".orch" / "sandbox" / "dev", home=tmp_path)

    def connect(host: Host) -> Connection:
        made[host.name] = Counting(connector.connect(host))
        return made[host.name]

    try:
        code = run(plan, stage.hosts, connect, events.append, options=Options(), cancel=Cancel())
    finally:
        connector.close()
    assert code is Exit.OK, events[-1]
    waves = sum(not wave.commit for wave in plan.lanes[0].waves)
    for name in stage.hosts:
        turns = sum(channel.turns for channel in made[name].channels)
        steps = sum(isinstance(e, StepFinished) and e.host == name for e in events)
        assert turns <= 2 * waves, (turns, waves, steps)
