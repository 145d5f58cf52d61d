"""A rollback undoes what its run did, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.deploy.site import deploy, home, rows
from tests.deploy.small import HOSTS, live, small
from tests.projects import Project


def current(project: Project, host: str) -> Path:
    return home(project, host) / "blog/current"


def hook(project: Project, when: str, run: str) -> None:
    """A task that runs there."""
    text = f"{when}\nsteps:\n  - run: |\n      cd -- {{{{ deploy_to }}}}\n"
    text += "".join(f"      {line}\n" for line in run.splitlines())
    project.write({"tasks/hook.yml": text})


def test_what_is_in_the_links_place_stays_and_a_check_refuses_it(project: Project) -> None:
    small(project)
    taken = """case {{ host.name }} in
web1) mkdir current; : >current/precious;;
web2) echo precious >current;;
esac"""
    hook(project, "before: [deploy:publish]", taken)
    done = deploy(project)
    assert done.code == 1
    assert "current is not a link: move it away" in done.out
    assert (current(project, "web1") / "precious").exists()
    assert current(project, "web2").read_text() == "precious\n"
    assert not current(project, "web3").is_symlink()
    for host in HOSTS:
        reason = str(rows(done)["blog", host]["reason"])
        assert "NOT rolled back" not in reason
        assert "'deploy:update' is rolled back" in reason
        log = home(project, host) / "blog/revisions.log"
        assert log.exists() is (host == "web3")
        assert list((home(project, host) / "blog/releases").iterdir()) == []
    (project.root / "tasks/hook.yml").unlink()
    check = deploy(project, "--check")
    assert check.code == 1
    for host in ("web1", "web2"):
        assert "current is not a link" in "".join(s["stderr"] for s in check.steps(host))


def test_a_link_that_somebody_else_set_in_between_stays(project: Project) -> None:
    small(project)
    assert deploy(project).code == 0
    before = live(project)
    moved = """mkdir -p releases/other
[ {{ host.name }} = web3 ] || ln -sfn releases/other current
[ {{ host.name }} != web2 ]"""
    hook(project, "after: [deploy:publish]", moved)
    done = deploy(project)
    assert done.code == 1
    for host in ("web1", "web2"):
        assert str(current(project, host).readlink()) == "releases/other"
        assert "NOT rolled back" not in str(rows(done)["blog", host]["reason"])
    assert live(project, hosts=["web3"]) == {"web3": before["web3"]}


def test_a_release_that_is_still_live_through_any_link_is_not_removed(project: Project) -> None:
    small(project)
    moved = "ln -sfn ../blog/releases/{{ run.release }} current\n[ {{ host.name }} != web2 ]"
    hook(project, "after: [deploy:publish]", moved)
    done = deploy(project)
    assert done.code == 1
    for host in HOSTS:
        assert (current(project, host) / ".orch-release").exists()
        assert "is live still" in done.out
