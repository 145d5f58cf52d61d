"""`orch init`, and what it writes at work: two apps go out, are looked at, and go back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.yamlio.yaml_loader import parse
from tests.deploy.site import commit, demo, deploy, end_servers, get, home, next_second, rows
from tests.projects import Done, Project
from tests.sshd import free_port, serve

APPS = ("blog", "shop")
HOSTS = ("web1", "web2")
ALL = [(app, host) for app in APPS for host in HOSTS]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Project]:
    with demo(tmp_path / "demo") as project:
        yield project


def ports(project: Project, stage: str = "dev") -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for app in APPS:
        text = (project.root / f"inventories/{stage}/apps/{app}.yml").read_text()
        hosts = parse(text, app).plain()["hosts"]
        found |= {(app, host): int(hosts[host]["vars"]["port"]) for host in HOSTS}
    return found


def said(done: Done, host: str) -> str:
    assert done.code == 0, done.out + done.err
    return "".join(step["stdout"] for step in done.steps(host))


def test_two_apps_go_out_are_told_of_and_go_back(site: Project) -> None:
    assert site.orch("lint").out == "no errors\n"
    first = deploy(site)
    assert first.code == 0, first.err
    assert set(rows(first)) == set(ALL)
    assert {str(row["status"]) for row in rows(first).values()} == {"changed"}
    answers(site, ports(site), version=1)
    one = {where: get(port, "revision.txt") for where, port in ports(site).items()}

    page = "<h1>blog: version 2</h1>\n"
    commit(site.root / "apps/blog", {"public/index.html": page}, "Version 2")
    pending = said(
        site.orch("-s", "dev", "run", "deploy:pending", "--app", "blog", "--json"), "web2"
    )
    assert "→" in pending
    assert "1 commit new" in pending
    assert pending.rstrip().endswith(" Version 2")
    second = deploy(site, "-m", "it's $(id)\nfor ‘shop’", app="blog")
    assert second.code == 0, second.err
    assert {get(ports(site)["blog", host], "index.html") for host in HOSTS} == {page}
    assert get(ports(site)["shop", "web1"], "revision.txt") == one["shop", "web1"]
    new = get(ports(site)["blog", "web1"], "revision.txt")
    assert new != one["blog", "web1"]
    log = (home(site, "web1") / "apps/blog/revisions.log").read_text().splitlines()
    assert [line.split()[2:4] for line in log] == [
        ["blog", n.split()[1]] for n in (one["blog", "web1"], new)
    ]
    assert [line.split(maxsplit=5)[5:] for line in log] == [
        ["deployed"], ["deployed it's $(id) for ‘shop’"]
    ]  # fmt: skip

    told(site, new.split()[1])
    next_second()
    back = site.orch("-s", "dev", "run", "deploy:rollback", "--app", "blog", "--json")
    assert back.code == 0, back.err
    assert {get(ports(site)["blog", host], "revision.txt") for host in HOSTS} == {
        one["blog", "web1"]
    }
    assert "version 1" in get(ports(site)["blog", "web2"], "index.html")
    forth = ("deploy:rollback", f"release={new.split()[1]}", "--app", "blog", "--json")
    assert site.orch("-s", "dev", "run", *forth).code == 1  # it was rolled back
    assert site.orch("-s", "dev", "run", *forth, "force=true").code == 0
    assert get(ports(site)["blog", "web1"], "revision.txt") == new


def answers(site: Project, at: dict[tuple[str, str], int], version: int) -> None:
    for (app, _), port in at.items():
        assert f"<h1>{app}: version {version}</h1>" in get(port, "index.html")
        assert get(port, "revision.txt").startswith("release 20")


def told(site: Project, live: str) -> None:
    def run(task: str, *words: str) -> Done:
        return site.orch("-s", "dev", "run", task, "--app", "blog", "--json", *words)

    for host in HOSTS:
        listed = said(run("deploy:releases"), host).splitlines()
        assert len(listed) == 2
        assert listed[1].startswith(f"{live} ")
        assert listed[1].endswith(" (live)")
        assert all(": good, live and healthy 20" in line for line in listed)
    assert said(run("deploy:status"), "web1").startswith(f"{live} ")
    assert "DRIFT" not in run("deploy:status").out
    only = said(run("deploy:status", "-l", "web2"), "web2")
    assert only.startswith(f"{live} ")
    assert "DRIFT" not in only
    assert "nothing: " in said(run("deploy:pending"), "web2")
    page = home(site, "web1") / "apps/blog/shared/maintenance.html"
    assert run("deploy:maintenance", "state=on").code == 0
    assert page.exists()
    assert run("deploy:maintenance", "state=off").code == 0
    assert not page.exists()


def test_a_host_that_runs_something_else_is_flagged(site: Project) -> None:
    assert deploy(site, app="blog").code == 0
    assert deploy(site, "-l", "web2", app="blog").code == 0
    done = site.orch("-s", "dev", "run", "deploy:status", "--app", "blog", "--json")
    assert "DRIFT" in said(done, "web2")
    assert "DRIFT" not in said(done, "web1")


def test_the_same_goes_out_over_openssh(site: Project, tmp_path: Path) -> None:
    with serve(tmp_path / "sshd") as sshd:
        site.over(sshd, {"web1": "127.0.21.1", "web2": "127.0.21.2"})
        where = f"{tmp_path}/srv/{{{{ host.name }}}}/{{{{ app.name }}}}"
        own = {"deploy_to": where}
        site.write({"inventories/real/roles/web.yml": "[web1, web2]\n"})
        at: dict[tuple[str, str], int] = {}
        for app in APPS:
            at |= {(app, host): free_port() for host in HOSTS}
            hosts = {host: {"vars": {"port": at[app, host]}} for host in HOSTS}
            text = json.dumps({"vars": own, "hosts": hosts})
            site.write({f"inventories/real/apps/{app}.yml": text})
        try:
            first = deploy(site, stage="real")
            assert first.code == 0, first.err
            answers(site, at, version=1)
            one = get(at["shop", "web2"], "revision.txt")
            page = {"public/index.html": "<h1>shop: version 2</h1>\n"}
            commit(site.root / "apps/shop", page, "Version 2")
            assert deploy(site, stage="real").code == 0
            assert "version 2" in get(at["shop", "web2"], "index.html")
            back = site.orch("-s", "real", "run", "deploy:rollback", "--app", "all")
            assert back.code == 0, back.out
            answers(site, at, version=1)
            assert get(at["shop", "web2"], "revision.txt") == one
            assert not list((tmp_path / "srv").glob("*/*/.orch-lock*"))
        finally:
            end_servers(tmp_path / "srv")


def test_nothing_is_written_over_a_project_that_is_there(site: Project) -> None:
    done = site.orch("init", str(site.root), cwd=site.root.parent)
    assert done.code == 2
    assert "has inventories and tasks and apps already" in done.err
