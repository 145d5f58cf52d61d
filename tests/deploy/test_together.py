"""Deploys at the same moment: of one app only one goes ahead, of two apps both do."""

from __future__ import annotations

from tests.deploy.site import until
from tests.deploy.small import HOSTS, live, locks, releases, small
from tests.projects import Project

HELD = """
    after: [deploy:check]
    steps:
      - run: |
          : >{root}/began.{{{{ app.name }}}}
          while [ ! -e {root}/go ]; do sleep .1; done
"""


def held(project: Project) -> Project:
    """Deploys of two apps wait for a word, their locks in hand."""
    small(project, {"blog": "folder", "shop": "repository"})
    return project.write({"tasks/held.yml": HELD.format(root=project.root)})


def test_of_two_deploys_of_one_app_exactly_one_goes_ahead(project: Project) -> None:
    words = ("-s", "dev", "run", "deploy", "--app", "blog")
    with (
        held(project).started(*words, "-m", "first of two") as one,
        project.started(*words, "-m", "first of two") as other,
    ):
        until(lambda: one.poll() is not None or other.poll() is not None, "one to be refused")
        refused = one if one.poll() is not None else other
        (project.root / "go").touch()
        assert sorted((one.wait(60), other.wait(60))) == [0, 5]
        said = refused.communicate()[0]
    assert "'blog' on web1 is locked by " in said
    assert "first of two" in said
    (release,) = set(live(project).values())
    assert [set(releases(project, host)) for host in HOSTS] == [{release}] * len(HOSTS)
    assert locks(project) == []


def test_of_two_apps_both_go_ahead(project: Project) -> None:
    words = ("-s", "dev", "run", "deploy", "--app")
    with (
        held(project).started(*words, "blog") as one,
        project.started(*words, "shop") as other,
    ):
        both = [project.root / "began.blog", project.root / "began.shop"]
        until(lambda: all(path.exists() for path in both), "both to begin")
        (project.root / "go").touch()
        assert (one.wait(60), other.wait(60)) == (0, 0)
    assert "" not in {*live(project, "blog").values(), *live(project, "shop").values()}
    assert locks(project) == []
