"""Old releases are removed except the newest good ones.

Releases that were never complete, or live and healthy, do not count; those of other tools are kept.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.projects import OrchProject
from tests.support.deploy_app import HOSTS, host_releases, live_releases, make_small_app
from tests.support.deploy_projects import host_home, run_deploy

MANY = """
    cd -- "$1" || exit
    n=0
    while [ $n -lt 5000 ]; do
        release=$((20200101000000 + n))
        mkdir $release
        : >$release/.orch-release
        : >$release/.orch-published
        n=$((n+1))
    done
"""


@pytest.mark.long
def test_five_thousand_old_releases_are_removed(project: OrchProject) -> None:
    make_small_app(project, keep=4)
    folder = host_home(project, "web1") / "blog/releases"
    folder.mkdir()
    subprocess.run(["sh", "-c", MANY, "sh", folder], check=True)
    for name in ("-rf", "odd name", ".orch-0123456789ab", "20200101000000 x"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    (host_home(project, "web1") / "blog/precious").touch()
    (folder / "link").symlink_to("..")
    done = run_deploy(project)
    assert done.code == 0, done.out
    left = {path.name for path in folder.iterdir()}
    new = live_releases(project)["web1"]
    others = {"-rf", "odd name", "20200101000000 x", "link"}
    assert left == {new, "20200101004999", "20200101004998", "20200101004997", *others}
    output = "".join(step["stderr"] for step in done.host_steps("web1"))
    assert "kept, because orch did not make them: -rf, 20200101000000 x, odd name" in output
    assert (host_home(project, "web1") / "blog/precious").exists()


def test_failed_and_interrupted_releases_do_not_count(project: OrchProject) -> None:
    make_small_app(project, keep=2)
    assert run_deploy(project).code == 0
    (one,) = set(live_releases(project).values())
    for host in HOSTS:
        folder = host_home(project, host) / "blog/releases"
        for number in range(1, 7):
            (folder / f"{one}{number}").mkdir()
            line = f"2026-01-01T00:00:00Z begun {one}-0000 {one}{number}/\n"
            with (folder.parent / ".orch-releases").open("a") as record:
                record.write(line if number < 4 else "")
        for number in range(4, 7):
            (folder / f"{one}{number}/.orch-release").touch()
    assert run_deploy(project).code == 0
    two = live_releases(project)["web1"]
    for host in HOSTS:
        assert host_releases(project, host) == {one: "published", two: "published"}


@pytest.mark.long
def test_each_host_decides_from_its_own_disk_and_the_live_one_stays(project: OrchProject) -> None:
    make_small_app(project, keep=1)
    for app_hosts in ("web1", "web1,web2", "web1,web2,web3"):
        assert run_deploy(project, "-l", app_hosts.replace(",", ":")).code == 0
    new = live_releases(project)
    assert [len(host_releases(project, host)) for host in HOSTS] == [1, 1, 1]
    folder = host_home(project, "web2") / "blog/releases"
    for number in range(3):
        (folder / f"9{number}").mkdir()
        (folder / f"9{number}/.orch-published").touch()
    assert project.orch("-s", "dev", "run", "deploy:cleanup", "--app", "blog").code == 0
    assert live_releases(project) == new
    assert host_releases(project, "web2") == {new["web2"]: "published"}
