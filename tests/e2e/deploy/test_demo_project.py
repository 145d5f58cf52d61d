"""The project of `orch init`: two apps are deployed, inspected and rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.yamlio.yaml_loader import parse_yaml
from tests.projects import OrchProject, OrchResult
from tests.sshd import free_port, serve_sshd
from tests.support.deploy_projects import (
    commit_files,
    end_servers,
    fetch_page,
    host_home,
    make_demo,
    next_second,
    run_deploy,
    summary_rows,
)

APPS = ("blog", "shop")
HOSTS = ("web1", "web2")
ALL = [(app, host) for app in APPS for host in HOSTS]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OrchProject]:
    with make_demo(tmp_path / "demo") as project:
        yield project


def app_ports(project: OrchProject, stage: str = "dev") -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for app in APPS:
        text = (project.root / f"inventories/{stage}/apps/{app}.yml").read_text()
        hosts = parse_yaml(text, app).to_plain()["hosts"]
        found |= {(app, host): int(hosts[host]["vars"]["port"]) for host in HOSTS}
    return found


def step_outputs(done: OrchResult, host: str) -> str:
    assert done.code == 0, done.out + done.err
    return "".join(step["stdout"] for step in done.host_steps(host))


def test_two_apps_go_out_are_told_of_and_go_back(site: OrchProject) -> None:
    assert site.orch("lint").out == "no errors\n"
    first = run_deploy(site)
    assert first.code == 0, first.err
    assert set(summary_rows(first)) == set(ALL)
    assert {str(row["status"]) for row in summary_rows(first).values()} == {"changed"}
    versions_answered(site, app_ports(site), version=1)
    one = {location: fetch_page(port, "revision.txt") for location, port in app_ports(site).items()}

    page = "<h1>blog: version 2</h1>\n"
    commit_files(site.root / "apps/blog", {"public/index.html": page}, "Version 2")
    pending = step_outputs(
        site.orch("-s", "dev", "run", "deploy:pending", "--app", "blog", "--json"), "web2"
    )
    assert "→" in pending
    assert "1 commit new" in pending
    assert pending.rstrip().endswith(" Version 2")
    second = run_deploy(site, "-m", "it's $(id)\nfor ‘shop’", app="blog")
    assert second.code == 0, second.err
    assert {fetch_page(app_ports(site)["blog", host], "index.html") for host in HOSTS} == {page}
    assert fetch_page(app_ports(site)["shop", "web1"], "revision.txt") == one["shop", "web1"]
    new = fetch_page(app_ports(site)["blog", "web1"], "revision.txt")
    assert new != one["blog", "web1"]
    log = (host_home(site, "web1") / "apps/blog/revisions.log").read_text().splitlines()
    assert [line.split()[2:4] for line in log] == [
        ["blog", n.split()[1]] for n in (one["blog", "web1"], new)
    ]
    assert [line.split(maxsplit=5)[5:] for line in log] == [
        ["deployed"], ["deployed it's $(id) for ‘shop’"]
    ]  # fmt: skip

    history_outputs(site, new.split()[1])
    next_second()
    back = site.orch("-s", "dev", "run", "deploy:rollback", "--app", "blog", "--json")
    assert back.code == 0, back.err
    assert {fetch_page(app_ports(site)["blog", host], "revision.txt") for host in HOSTS} == {
        one["blog", "web1"]
    }
    assert "version 1" in fetch_page(app_ports(site)["blog", "web2"], "index.html")
    forth = ("deploy:rollback", f"release={new.split()[1]}", "--app", "blog", "--json")
    assert site.orch("-s", "dev", "run", *forth).code == 1  # it was rolled back
    assert site.orch("-s", "dev", "run", *forth, "force=true").code == 0
    assert fetch_page(app_ports(site)["blog", "web1"], "revision.txt") == new


def versions_answered(site: OrchProject, at: dict[tuple[str, str], int], version: int) -> None:
    for (app, _), port in at.items():
        assert f"<h1>{app}: version {version}</h1>" in fetch_page(port, "index.html")
        assert fetch_page(port, "revision.txt").startswith("release 20")


def history_outputs(site: OrchProject, live: str) -> None:
    def run(task: str, *words: str) -> OrchResult:
        return site.orch("-s", "dev", "run", task, "--app", "blog", "--json", *words)

    for host in HOSTS:
        listed = step_outputs(run("deploy:releases"), host).splitlines()
        assert len(listed) == 2
        assert listed[1].startswith(f"{live} ")
        assert listed[1].endswith(" (live)")
        assert all(": good, live and healthy 20" in line for line in listed)
    assert step_outputs(run("deploy:status"), "web1").startswith(f"{live} ")
    assert "DRIFT" not in run("deploy:status").out
    only = step_outputs(run("deploy:status", "-l", "web2"), "web2")
    assert only.startswith(f"{live} ")
    assert "DRIFT" not in only
    assert "nothing: " in step_outputs(run("deploy:pending"), "web2")
    page = host_home(site, "web1") / "apps/blog/shared/maintenance.html"
    assert run("deploy:maintenance", "state=on").code == 0
    assert page.exists()
    assert run("deploy:maintenance", "state=off").code == 0
    assert not page.exists()


@pytest.mark.long
def test_a_host_that_runs_something_else_is_flagged(site: OrchProject) -> None:
    assert run_deploy(site, app="blog").code == 0
    assert run_deploy(site, "-l", "web2", app="blog").code == 0
    done = site.orch("-s", "dev", "run", "deploy:status", "--app", "blog", "--json")
    assert "DRIFT" in step_outputs(done, "web2")
    assert "DRIFT" not in step_outputs(done, "web1")


@pytest.mark.long
def test_the_same_goes_out_over_openssh(site: OrchProject, tmp_path: Path) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        site.add_sshd_stage(sshd, {"web1": "127.0.21.1", "web2": "127.0.21.2"})
        location = f"{tmp_path}/srv/{{{{ host.name }}}}/{{{{ app.name }}}}"
        own = {"deploy_to": location}
        site.write({"inventories/real/roles/web.yml": "[web1, web2]\n"})
        at: dict[tuple[str, str], int] = {}
        for app in APPS:
            at |= {(app, host): free_port() for host in HOSTS}
            hosts = {host: {"vars": {"port": at[app, host]}} for host in HOSTS}
            text = json.dumps({"vars": own, "hosts": hosts})
            site.write({f"inventories/real/apps/{app}.yml": text})
        try:
            first = run_deploy(site, stage="real")
            assert first.code == 0, first.err
            versions_answered(site, at, version=1)
            one = fetch_page(at["shop", "web2"], "revision.txt")
            page = {"public/index.html": "<h1>shop: version 2</h1>\n"}
            commit_files(site.root / "apps/shop", page, "Version 2")
            assert run_deploy(site, stage="real").code == 0
            assert "version 2" in fetch_page(at["shop", "web2"], "index.html")
            back = site.orch("-s", "real", "run", "deploy:rollback", "--app", "all")
            assert back.code == 0, back.out
            versions_answered(site, at, version=1)
            assert fetch_page(at["shop", "web2"], "revision.txt") == one
            assert not list((tmp_path / "srv").glob("*/*/.orch-lock*"))
        finally:
            end_servers(tmp_path / "srv")
