"""A rollback undoes the changes of its own run only."""

from __future__ import annotations

from pathlib import Path

from tests.projects import OrchProject
from tests.support.deploy_app import HOSTS, live_releases, make_small_app
from tests.support.deploy_projects import host_home, run_deploy, summary_rows


def current_release(project: OrchProject, host: str) -> Path:
    return host_home(project, host) / "blog/current"


def write_hook(project: OrchProject, when: str, run: str) -> None:
    """Write a task that is a hook."""
    text = f"{when}\nsteps:\n  - run: |\n      cd -- {{{{ deploy_to }}}}\n"
    text += "".join(f"      {line}\n" for line in run.splitlines())
    project.write({"tasks/hook.yml": text})


def test_what_is_in_the_links_place_stays_and_a_check_refuses_it(project: OrchProject) -> None:
    make_small_app(project)
    taken = """case {{ host.name }} in
web1) mkdir current; : >current/precious;;
web2) echo precious >current;;
esac"""
    write_hook(project, "before: [deploy:publish]", taken)
    done = run_deploy(project)
    assert done.code == 1
    assert "current is not a link: move it away" in done.out
    assert (current_release(project, "web1") / "precious").exists()
    assert current_release(project, "web2").read_text() == "precious\n"
    assert not current_release(project, "web3").is_symlink()
    for host in HOSTS:
        reason = str(summary_rows(done)["blog", host]["reason"])
        assert "NOT rolled back" not in reason
        assert "'deploy:update' is rolled back" in reason
        log = host_home(project, host) / "blog/revisions.log"
        assert log.exists() is (host == "web3")
        assert list((host_home(project, host) / "blog/releases").iterdir()) == []
    (project.root / "tasks/hook.yml").unlink()
    check = run_deploy(project, "--check")
    assert check.code == 1
    for host in ("web1", "web2"):
        assert "current is not a link" in "".join(s["stderr"] for s in check.host_steps(host))


def test_a_link_that_somebody_else_set_in_between_stays(project: OrchProject) -> None:
    make_small_app(project)
    assert run_deploy(project).code == 0
    before = live_releases(project)
    moved = """mkdir -p releases/other
[ {{ host.name }} = web3 ] || ln -sfn releases/other current
[ {{ host.name }} != web2 ]"""
    write_hook(project, "after: [deploy:publish]", moved)
    done = run_deploy(project)
    assert done.code == 1
    for host in ("web1", "web2"):
        assert str(current_release(project, host).readlink()) == "releases/other"
        assert "NOT rolled back" not in str(summary_rows(done)["blog", host]["reason"])
    assert live_releases(project, hosts=["web3"]) == {"web3": before["web3"]}


def test_a_release_that_is_still_live_through_any_link_is_not_removed(project: OrchProject) -> None:
    make_small_app(project)
    moved = "ln -sfn ../blog/releases/{{ run.release }} current\n[ {{ host.name }} != web2 ]"
    write_hook(project, "after: [deploy:publish]", moved)
    done = run_deploy(project)
    assert done.code == 1
    for host in HOSTS:
        assert (current_release(project, host) / ".orch-release").exists()
        assert "is still live" in done.out
