"""Steps that run on another host, where this one or that one is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.execute.test_fleet import dead
from tests.projects import Project
from tests.sshd import Sshd, serve

AWAY = "127.3.9.3"
CUT_AT_END = "#!/bin/sh\nsh | { sed -u '/ E [0-9]* done/q'; kill -KILL $PPID; sleep 20; }\n"


@pytest.mark.parametrize("end", ["kill -KILL $PPID", "exec kill -KILL $PPID $$"])
def test_no_step_is_delegated_for_a_host_that_is_lost(project: Project, end: str) -> None:
    project.sandbox("a1", "a2").write(
        {
            "tasks/t.yml": f"steps:\n- run: {end}\n"
            f"- {{run: touch {project.root}/never, delegate_to: a2}}\n"
        }
    )
    done = project.orch("-s", "dev", "run", "t", "--json", "-l", "a1")
    assert done.rows["a1"]["status"] == "lost"
    assert "in step 1 'kill" in done.rows["a1"]["reason"].replace("exec ", "")
    assert [step["status"] for step in done.steps("a1")] == ["lost"]
    assert not (project.root / "never").exists()


@pytest.mark.parametrize(
    ("before", "rescue", "status"),
    [
        ("", "", "failed"),
        ("- run: echo\n", "", "failed"),
        ("", "  rescue: [run: echo]\n", "changed"),
    ],
)
def test_a_step_whose_delegate_is_away_has_failed_and_its_host_is_not_away(
    project: Project, before: str, rescue: str, status: str
) -> None:
    with dead(AWAY) as nobody:
        lost = f"address: {AWAY}\nconnect: {{transport: ssh, port: {nobody}, retries: 0}}\n"
        step = "- block: [{run: echo, delegate_to: a2}]\n" + rescue
        project.sandbox("a1", "a2").write(
            {"inventories/dev/hosts/a2.yml": lost, "tasks/t.yml": f"steps:\n{before}{step}"}
        )
        done = project.orch("-s", "dev", "run", "t", "--json", "--unreachable", "skip")
    assert done.rows["a2"]["status"] == "unreachable"
    assert done.rows["a1"]["status"] == status
    (step_,) = [step for step in done.steps("a1") if step["status"] == "failed"]
    told = "a2, which it is delegated to, is unreachable: connect: "
    assert step_["reason"].startswith(told) and f"@{AWAY}:{nobody}" in step_["reason"]


@pytest.mark.parametrize("more", ["delegate_to: a2", "until: true"])
def test_a_link_that_is_cut_right_behind_a_steps_end_ends_it_once(
    project: Project, tmp_path: Path, sshd: Sshd, more: str
) -> None:
    with serve(tmp_path / "sshd", wrapper=CUT_AT_END) as other:
        for name, at, server in (("a1", "127.3.0.1", sshd), ("a2", "127.3.0.2", other)):
            known = {"known_hosts": str(server.known_hosts), "identity": str(server.key)}
            connect = {**known, "port": server.port, "user": server.user, "identities_only": True}
            host = json.dumps({"address": at, "connect": connect})
            project.write({f"inventories/real/hosts/{name}.yml": host})
        project.write({"tasks/t.yml": f"steps:\n- {{run: echo, {more}}}\n- run: echo\n"})
        host = "a1" if "a2" in more else "a2"
        done = project.orch("-s", "real", "run", "t", "--json", "-l", host)
    ended = [step["status"] for step in done.steps(host)]
    if host == "a1":  # whose link was not cut
        assert (done.rows[host]["status"], ended) == ("changed", ["changed", "changed"])
    else:
        assert (done.rows[host]["status"], ended) == ("lost", ["lost"])
        assert "in step 1 'echo'" in done.rows[host]["reason"]
