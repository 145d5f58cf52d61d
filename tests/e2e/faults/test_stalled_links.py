"""Servers that stop answering at some point without closing the connection.

Each connection ends within the timeout set for it, with a line that names the user, the host, the
jump hosts, the phase and what was expected.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.projects import OrchProject
from tests.sshd import SshdServer, serve_sshd
from tests.support.fault_proxy import FaultProxy
from tests.support.link_faults import FaultKind, LinkDirection, LinkFault

LONG = 10**8  # seconds
BANNER, KEX, AUTH, STEP, BASTION, BEHIND = (f"127.9.3.{n}" for n in range(1, 7))


def write_project(
    project: OrchProject, folder: Path, transport: str, port: int, *servers: SshdServer
) -> None:
    """Hosts that are called as what they stop in; the last server stops in authentication."""
    good, stuck = servers
    known = folder / "known"
    keys = "".join(f"[*]:{server.port} {server.host_key}\n" for server in servers)
    known.write_text(f"[*]:{port} {good.host_key}\n{keys}")
    connect = {
        "user": good.user,
        "port": port,
        "identity": [str(server.key) for server in servers],
        "identities_only": True,
        "known_hosts": str(known),
        "timeout": 3,
        "keepalive": 0.5 if transport == "ssh" else 1,
        "retries": 0,
        "transport": transport,
    }
    hosts: dict[str, Any] = {
        "banner": {"address": BANNER},
        "kex": {"address": KEX},
        "auth": {"address": AUTH, "connect": {"port": stuck.port}},
        "step": {"address": STEP},
        "bastion": {"address": BASTION},
        "behind": {"address": BEHIND, "connect": {"jump": "bastion", "port": good.port}},
    }
    project.write(
        {
            "inventories/real/stage.yml": json.dumps({"connect": connect}),
            "inventories/real/hosts.yml": json.dumps(hosts),
            "tasks/t.yml": f"steps:\n- run: 'true'\n- run: sleep {LONG}\n- run: touch {folder}/never\n",
        }
    )


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_every_place_where_a_link_can_stop_has_its_line(
    project: OrchProject, tmp_path: Path, sshd: SshdServer, transport: str
) -> None:
    stuck = [
        f"AuthorizedKeysCommand /usr/bin/sleep {LONG}",
        f"AuthorizedKeysCommandUser {sshd.user}",
    ]
    with (
        serve_sshd(tmp_path / "stuck", [*stuck, "AuthorizedKeysFile none"]) as other,
        closing(FaultProxy(sshd.port)) as proxy,
    ):
        proxy.set_faults(
            {
                BANNER: LinkFault(FaultKind.STALL, LinkDirection.TO_CLIENT, 0),
                KEX: LinkFault(FaultKind.STALL, LinkDirection.TO_CLIENT, 200),
            }
        )
        write_project(project, tmp_path, transport, proxy.port, sshd, other)
        names = "banner,kex,auth,step,behind"
        words = ("-s", "real", "run", "t", "--json", "--unreachable", "skip", "-l", names)
        with project.start_orch(*words) as process:
            assert process.stdout
            started = 0
            while started < 2 and (line := process.stdout.readline()):
                event = json.loads(line)
                started += event["event"] == "step_started" and event["step"] == 2
            proxy.stall({STEP, BASTION})
            out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    rows = {row["host"]: row for row in json.loads(out.splitlines()[-1])["rows"]}
    me, port = sshd.user, proxy.port
    for phase, location in (
        ("banner", f"{me}@{BANNER}:{port}"),
        ("kex", f"{me}@{KEX}:{port}"),
        ("auth", f"{me}@{AUTH}:{other.port}"),
    ):
        assert rows[phase]["status"] == "unreachable", rows[phase]
        message = f"{phase}: {location}: timed out after 3 s "
        assert rows[phase]["reason"].startswith(message), rows[phase]["reason"]
    for host, location in (
        ("step", f"{me}@{STEP}:{port}: "),
        ("behind", f"{me}@{BEHIND}:{sshd.port} via bastion: "),
    ):
        reason = rows[host]["reason"]
        assert rows[host]["status"] == "lost", rows[host]
        assert location in reason and "in step 2 '" in reason, reason
        if transport == "ssh":
            assert re.search("no reply to keepalives for 2 s", reason), reason
    assert all(row["reason"].isprintable() for row in rows.values())
    assert not (tmp_path / "never").exists()


def test_a_link_that_stalls_under_a_file_fails_its_step_which_did_not_begin(
    project: OrchProject, tmp_path: Path, sshd: SshdServer
) -> None:
    with closing(FaultProxy(sshd.port)) as proxy:
        proxy.set_faults({STEP: LinkFault(FaultKind.STALL, LinkDirection.TO_SERVER, 200_000)})
        known = tmp_path / "known"
        known.write_text(f"[*]:{proxy.port} {sshd.host_key}\n")
        connect = {"user": sshd.user, "port": proxy.port, "identity": str(sshd.key)}
        connect |= {"identities_only": True, "known_hosts": str(known), "timeout": 2}
        hosts = {"a1": {"address": STEP, "connect": {**connect, "keepalive": 60}}}
        (project.root / "tasks").mkdir()
        (project.root / "tasks/big").write_bytes(bytes(400_000))
        project.write(
            {
                "inventories/real/hosts.yml": json.dumps(hosts),
                "tasks/t.yml": f"steps: [{{copy: {{src: big, path: {tmp_path}/there}}}}]\n",
            }
        )
        done = project.orch("-s", "real", "run", "t", "--json")
    row = done.host_rows["a1"]
    assert row["status"] == "failed"
    location = re.escape(f"{sshd.user}@{STEP}:{proxy.port}")
    message = rf"the upload failed: {location}: no data was transferred for 2 s after \d+ bytes: the connection"
    assert re.match(message, row["reason"]), row["reason"]
    assert not (tmp_path / "there").exists()
