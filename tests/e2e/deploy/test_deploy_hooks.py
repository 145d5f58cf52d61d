"""Hooks around the recipe's tasks, for one of the apps."""

from __future__ import annotations

from textwrap import dedent

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import HOSTS, host_releases, live_releases, make_small_app
from tests.support.deploy_projects import run_deploy


def task_order(done: OrchResult, app: str) -> list[str]:
    """Return the tasks of an app in the order in which they started."""
    started = [e for e in done.events if e["event"] == "task_started" and e["app"] == app]
    return [e["task"] for e in started]


def test_a_hook_runs_right_before_the_switch_for_its_app_alone(project: OrchProject) -> None:
    make_small_app(project, {"blog": "folder", "shop": "folder"})
    message = f"steps: [{{run: 'echo {{{{ app.name }}}} >>{project.root}/told', local: true}}]\n"
    project.write(
        {
            "tasks/warm.yml": dedent("""\
                before: [deploy:publish]
                apps: [blog]
                steps: [{run: 'true'}]
                """),
            "tasks/tell.yml": f"after: [deploy]\napps: [shop]\n{message}",
        }
    )
    check = run_deploy(project, "--check")
    assert check.code == 0
    assert not (project.root / "told").exists()
    done = run_deploy(project)
    assert done.code == 0, done.out
    blog, shop = task_order(done, "blog"), task_order(done, "shop")
    assert blog[blog.index("warm") + 1] == "deploy:publish"
    assert "warm" not in shop
    assert shop[-1] == "tell"
    assert "tell" not in blog
    assert set((project.root / "told").read_text().split()) == {"shop"}


def test_a_hook_that_fails_keeps_the_old_release_live(project: OrchProject) -> None:
    make_small_app(project)
    assert run_deploy(project).code == 0
    before = live_releases(project)
    fails = "steps: [{run: 'test {{ host.name }} != web3'}]\n"
    project.write({"tasks/warm.yml": f"before: [deploy:publish]\napps: [blog]\n{fails}"})
    done = run_deploy(project)
    assert done.code == 1
    assert "deploy:publish" not in task_order(done, "blog")
    assert live_releases(project) == before
    assert [set(host_releases(project, host)) for host in HOSTS] == [{before["web1"]}] * len(HOSTS)
