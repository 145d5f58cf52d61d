"""Delegated steps whose own host or delegate is unreachable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.executor.test_many_hosts import closed_port
from tests.e2e.faults.test_lost_reports import CUT, NO_REPORTS
from tests.projects import OrchProject
from tests.sshd import SshdServer, serve_sshd

AWAY = "127.3.9.3"
CUT_AT_END = """#!/bin/sh
exec 3<&0
mkfifo $0.$$
sh <&3 >$0.$$ &
sed -u '/ E [0-9]* done/q' <$0.$$
exit 3
"""


@pytest.mark.parametrize("end", ["kill -KILL $PPID", "exec kill -KILL $PPID $$"])
def test_no_step_is_delegated_for_a_host_that_is_lost(project: OrchProject, end: str) -> None:
    project.add_sandbox_stage("a1", "a2").write(
        {
            "tasks/t.yml": f"steps:\n- run: {end}\n"
            f"- {{run: touch {project.root}/never, delegate_to: a2}}\n"
        }
    )
    done = project.orch("-s", "dev", "run", "t", "--json", "-l", "a1")
    assert done.host_rows["a1"]["status"] == "lost"
    assert "in step 1 'kill" in done.host_rows["a1"]["reason"].replace("exec ", "")
    assert [step["status"] for step in done.host_steps("a1")] == ["lost"]
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
    project: OrchProject, before: str, rescue: str, status: str
) -> None:
    with closed_port(AWAY) as nobody:
        lost = f"address: {AWAY}\nconnect: {{transport: ssh, port: {nobody}, retries: 0}}\n"
        step = "- block: [{run: echo, delegate_to: a2}]\n" + rescue
        project.add_sandbox_stage("a1", "a2").write(
            {"inventories/dev/hosts/a2.yml": lost, "tasks/t.yml": f"steps:\n{before}{step}"}
        )
        done = project.orch("-s", "dev", "run", "t", "--json", "--unreachable", "skip")
    assert done.host_rows["a2"]["status"] == "unreachable"
    assert done.host_rows["a1"]["status"] == status
    (step_,) = [step for step in done.host_steps("a1") if step["status"] == "failed"]
    message = "a2, which it is delegated to, is unreachable: connect: "
    assert step_["reason"].startswith(message) and f"@{AWAY}:{nobody}" in step_["reason"]


@pytest.mark.parametrize("more", ["delegate_to: a2", "until: true"])
def test_a_link_that_is_cut_right_behind_a_steps_end_ends_it_once(
    project: OrchProject, tmp_path: Path, sshd: SshdServer, more: str
) -> None:
    with serve_sshd(tmp_path / "sshd", wrapper=CUT_AT_END) as other:
        two_servers(project, sshd, other)
        project.write({"tasks/t.yml": f"steps:\n- {{run: echo, {more}}}\n- run: echo\n"})
        host = "a1" if "a2" in more else "a2"
        done = project.orch("-s", "real", "run", "t", "--json", "-l", host)
    ended = [step["status"] for step in done.host_steps(host)]
    if host == "a1":  # whose link was not cut
        assert (done.host_rows[host]["status"], ended) == ("changed", ["changed", "changed"])
    else:
        assert (done.host_rows[host]["status"], ended) == ("lost", ["lost"])
        assert "in step 1 'echo'" in done.host_rows[host]["reason"]


@pytest.mark.parametrize("wrapper", [NO_REPORTS, CUT], ids=["silent", "cut"])
def test_a_step_that_may_have_run_on_another_host_is_lost(
    project: OrchProject, tmp_path: Path, sshd: SshdServer, wrapper: str
) -> None:
    with serve_sshd(tmp_path / "sshd", wrapper=wrapper) as other:
        two_servers(project, sshd, other, timeout=2)
        step = f"{{run: touch {tmp_path}/ran, delegate_to: a2, ignore_errors: true}}"
        project.write({"tasks/t.yml": f"steps:\n- {step}\n- run: touch {tmp_path}/never\n"})
        done = project.orch("-s", "real", "run", "t", "--json", "-l", "a1")
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "never").exists()
    assert done.host_rows["a1"]["status"] == "lost"
    reason = done.host_rows["a1"]["reason"]
    assert f"@127.3.0.2:{other.port}: " in reason
    assert "it may have run on a2, in step 1 'touch" in reason


def two_servers(
    project: OrchProject, sshd: SshdServer, other: SshdServer, timeout: float = 20
) -> None:
    """Write a stage with a1 on one server and a2 on the other."""
    for name, at, server in (("a1", "127.3.0.1", sshd), ("a2", "127.3.0.2", other)):
        connect: dict[str, object] = {"known_hosts": str(server.known_hosts)}
        connect["identity"] = str(server.key)
        connect |= {"port": server.port, "user": server.user, "identities_only": True}
        host = json.dumps({"address": at, "connect": {**connect, "timeout": timeout}})
        project.write({f"inventories/real/hosts/{name}.yml": host})
