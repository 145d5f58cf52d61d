"""Hooks around the recipe's tasks, for one of the apps."""

from __future__ import annotations

from tests.deploy.site import deploy
from tests.deploy.small import HOSTS, live, releases, small
from tests.projects import Done, Project


def tasks(done: Done, app: str) -> list[str]:
    """The tasks of an app in the order in which they began."""
    begun = [e for e in done.events if e["event"] == "task_started" and e["app"] == app]
    return [e["task"] for e in begun]


def test_a_hook_runs_right_before_the_switch_for_its_app_alone(project: Project) -> None:
    small(project, {"blog": "folder", "shop": "folder"})
    told = f"steps: [{{run: 'echo {{{{ app.name }}}} >>{project.root}/told', local: true}}]\n"
    project.write(
        {
            "tasks/warm.yml": "before: [deploy:publish]\napps: [blog]\nsteps: [{run: 'true'}]\n",
            "tasks/tell.yml": f"after: [deploy]\napps: [shop]\n{told}",
        }
    )
    check = deploy(project, "--check")
    assert check.code == 0
    assert not (project.root / "told").exists()
    done = deploy(project)
    assert done.code == 0, done.out
    blog, shop = tasks(done, "blog"), tasks(done, "shop")
    assert blog[blog.index("warm") + 1] == "deploy:publish"
    assert "warm" not in shop
    assert shop[-1] == "tell"
    assert "tell" not in blog
    assert set((project.root / "told").read_text().split()) == {"shop"}


def test_a_hook_that_fails_keeps_the_old_release_live(project: Project) -> None:
    small(project)
    assert deploy(project).code == 0
    before = live(project)
    fails = "steps: [{run: 'test {{ host.name }} != web3'}]\n"
    project.write({"tasks/warm.yml": f"before: [deploy:publish]\napps: [blog]\n{fails}"})
    done = deploy(project)
    assert done.code == 1
    assert "deploy:publish" not in tasks(done, "blog")
    assert live(project) == before
    assert [set(releases(project, host)) for host in HOSTS] == [{before["web1"]}] * len(HOSTS)
