"""Hosts that execute commands but whose reports do not arrive: they are lost, never unreachable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.sshd import serve_sshd

NO_REPORTS = "#!/bin/sh\nexec sh >/dev/null 2>&1\n"
CUT = "#!/bin/sh\nsh >/dev/null 2>&1\nkill -KILL $PPID\nsleep 20\n"


@pytest.mark.parametrize("wrapper", [NO_REPORTS, CUT], ids=["silent", "cut"])
@pytest.mark.parametrize("second", ["echo on", "echo {{ a.stdout }}"], ids=["one", "two segments"])
def test_a_host_that_may_have_run_its_steps_is_lost(
    project: OrchProject, tmp_path: Path, wrapper: str, second: str
) -> None:
    with serve_sshd(tmp_path / "sshd", wrapper=wrapper) as sshd:
        project.add_sshd_stage(sshd, {"a1": "127.3.0.1"}).write(
            {
                "inventories/real/hosts.yml": "a1: {address: 127.3.0.1, connect: {timeout: 2}}\n",
                "tasks/t.yml": "steps:\n"
                f"- {{run: touch {tmp_path}/ran, register: a}}\n- run: {second}\n",
            }
        )
        done = project.orch("-s", "real", "run", "t", "--json")
    row = done.host_rows["a1"]
    assert (tmp_path / "ran").exists()
    assert row["status"] == "lost", row
    assert "may have run" in row["reason"]
    assert f"@127.3.0.1:{sshd.port}: " in row["reason"]
    assert done.code == 1
