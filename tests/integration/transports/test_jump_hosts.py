"""Jump hosts: the hosts behind one share its connection, and its errors name it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports import TransportRegistry
from tests.integration.transports.test_ssh_auth import ask_shell
from tests.projects import OrchProject
from tests.sshd import SshdServer, serve_sshd


def connect_behind(target: SshdServer, *bastions: SshdServer) -> ConnectionOptions:
    hops = ",".join(f"{b.user}@127.0.0.1:{b.port}" for b in bastions)
    everyone = (target, *bastions)
    return replace(
        target.connect_options(),
        jump=hops,
        identity=tuple(str(each.key) for each in everyone),
        known_hosts=tuple(str(each.known_hosts) for each in everyone),
    )


def test_a_host_is_reached_through_one_and_through_two(
    connector: TransportRegistry, tmp_path: Path
) -> None:
    with (
        serve_sshd(tmp_path / "one") as one,
        serve_sshd(tmp_path / "two") as two,
        serve_sshd(tmp_path / "far") as far,
    ):
        for bastions in ((one,), (one, two)):
            host = far.inventory_host(connect=connect_behind(far, *bastions))
            assert ask_shell(connector.connect(host), "echo in").stdout == b"in\n"


def test_many_hosts_share_the_connection_to_their_jump_host(
    connector: TransportRegistry, tmp_path: Path
) -> None:
    with (
        serve_sshd(tmp_path / "one", ["MaxStartups 1:100:1"]) as one,
        serve_sshd(tmp_path / "far") as far,
    ):

        def reach(number: int) -> bytes:
            connect = replace(connect_behind(far, one), address=f"127.8.0.{number}")
            return ask_shell(
                connector.connect(far.inventory_host(f"h{number}", connect)), "echo in"
            ).stdout

        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(reach, range(1, 21))) == [b"in\n"] * 20


@pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.long)])
def test_all_of_many_hosts_behind_one_jump_host_succeed(
    project: OrchProject, tmp_path: Path, count: int
) -> None:
    """With the default number of concurrent connections."""
    limit = ["MaxStartups 10:30:60"]
    with serve_sshd(tmp_path / "one", limit) as one, serve_sshd(tmp_path / "far") as far:
        hosts = {f"h{number:03}": f"127.8.3.{number}" for number in range(1, count + 1)}
        connect = connect_behind(far, one)
        keys, known = connect.identity, tmp_path / "known"
        known.write_text("".join(Path(name).read_text() for name in connect.known_hosts or ()))
        stage = {"port": far.port, "user": far.user, "identities_only": True, "jump": connect.jump}
        stage |= {"identity": list(keys), "known_hosts": str(known)}
        project.add_sshd_stage(far, hosts).write(
            {
                "inventories/real/stage.yml": json.dumps({"connect": stage}),
                "tasks/t.yml": "steps:\n- {run: 'echo {{ host.name }}', readonly: true}\n",
            }
        )
        done = project.orch("-s", "real", "run", "t", "--json")
        assert one.log().count("Accepted publickey") == 1
    assert {row["status"] for row in done.host_rows.values()} == {"ok"}
    message = [e["stdout"].strip() for e in done.events if e["event"] == "step_finished"]
    assert sorted(message) == list(hosts)


@pytest.mark.parametrize("lines", [["AllowTcpForwarding no"], ["PermitOpen none"]])
def test_a_jump_host_that_forwards_nothing_is_named(
    connector: TransportRegistry, tmp_path: Path, lines: list[str]
) -> None:
    with serve_sshd(tmp_path / "one", lines) as one, serve_sshd(tmp_path / "far") as far:
        with pytest.raises(ConnectError) as caught:
            connector.connect(far.inventory_host(connect=connect_behind(far, one)))
        assert f"127.0.0.1:{one.port}" in caught.value.reason


def test_a_jump_host_that_does_not_let_us_in_is_named(
    connector: TransportRegistry, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "one") as one, serve_sshd(tmp_path / "far") as far:
        connect = replace(connect_behind(far, one), identity=(str(far.key),))
        with pytest.raises(ConnectError) as caught:
            connector.connect(far.inventory_host(connect=connect))
        assert caught.value.phase == "auth"
        assert "jump host" in caught.value.reason
