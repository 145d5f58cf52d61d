"""Concurrent deploys: of one app only one continues, of two apps both do."""

from __future__ import annotations

from tests.projects import OrchProject
from tests.support.deploy_app import HOSTS, held_locks, host_releases, live_releases, make_small_app
from tests.support.deploy_projects import wait_until

HELD = """
    after: [deploy:check]
    steps:
      - run: |
          : >{root}/began.{{{{ app.name }}}}
          while [ ! -e {root}/go ]; do sleep .1; done
"""


def held_deploys(project: OrchProject) -> OrchProject:
    """Start deploys of two apps that wait for a file while they hold their locks."""
    make_small_app(project, {"blog": "folder", "shop": "repository"})
    return project.write({"tasks/held.yml": HELD.format(root=project.root)})


def test_of_two_deploys_of_one_app_exactly_one_goes_ahead(project: OrchProject) -> None:
    words = ("-s", "dev", "run", "deploy", "--app", "blog")
    with (
        held_deploys(project).start_orch(*words, "-m", "first of two") as one,
        project.start_orch(*words, "-m", "first of two") as other,
    ):
        wait_until(lambda: one.poll() is not None or other.poll() is not None, "one to be refused")
        refused = one if one.poll() is not None else other
        (project.root / "go").touch()
        assert sorted((one.wait(60), other.wait(60))) == [0, 5]
        output = refused.communicate()[0]
    assert "'blog' on web1 is locked by " in output
    assert "first of two" in output
    (release,) = set(live_releases(project).values())
    assert [set(host_releases(project, host)) for host in HOSTS] == [{release}] * len(HOSTS)
    assert held_locks(project) == []


def test_of_two_apps_both_go_ahead(project: OrchProject) -> None:
    words = ("-s", "dev", "run", "deploy", "--app")
    with (
        held_deploys(project).start_orch(*words, "blog") as one,
        project.start_orch(*words, "shop") as other,
    ):
        both = [project.root / "began.blog", project.root / "began.shop"]
        wait_until(lambda: all(path.exists() for path in both), "both to begin")
        (project.root / "go").touch()
        assert (one.wait(60), other.wait(60)) == (0, 0)
    assert "" not in {
        *live_releases(project, "blog").values(),
        *live_releases(project, "shop").values(),
    }
    assert held_locks(project) == []
