"""Connections as found in practice: proxies, SOCKS, jump hosts, agents and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from orchestrator.errors import ExitCode
from tests.integration.matrix.account_hosts import TRANSPORTS
from tests.integration.matrix.compact_run import GREETING, MatrixProject, check_conforms
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.integration.matrix.route_cases import ACCOUNTS, make_routes, start_agent, start_socks
from tests.support.sshd_machine import SshdMachine

SOCKETS = {"run": "echo ${SSH_AUTH_SOCK:-none}; ssh-add -l || :"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixGround]:
    with make_routes(tmp_path_factory.mktemp("matrix") / "place") as prepared:
        yield prepared


@pytest.fixture
def sshd_machine(ground: MatrixGround) -> SshdMachine:
    return ground.machine


@pytest.fixture
def project(ground: MatrixGround) -> MatrixProject:
    return ground.project


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["netcat", "jumper"])
def test_everything_works(
    sshd_machine: SshdMachine, project: MatrixProject, name: str, transport: str
) -> None:
    check_conforms(
        lambda: project.run_steps(transport, name)[0],
        sshd_machine.outside_path(ACCOUNTS[name].home_folder),
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_everything_works_through_a_socks_proxy(
    sshd_machine: SshdMachine, project: MatrixProject, transport: str
) -> None:
    with start_socks(sshd_machine):
        check_conforms(
            lambda: project.run_steps(transport, "socks")[0],
            sshd_machine.outside_path(ACCOUNTS["socks"].home_folder),
        )
    connected = sshd_machine.sshd_log("main").read_text().count("Starting session: command")
    assert connected


# as the pipe's end is noticed first, or that it takes no more
CUT = (
    "(the connection was cut while waiting for the SSH banner|"
    "the server closed the connection before its SSH banner)"
)
NO_PROXY = {
    ("socks", "ssh"): f"{CUT}; the proxy command exited with status 1",
    ("socks", "openssh"): ".*Connection closed.*|.*Broken pipe.*",
    ("missing", "ssh"): (
        f"{CUT}; the proxy command exited with status 127: '/bin/sh: 1: exec: no-such-proxy: not found'"
    ),
    ("missing", "openssh"): "/bin/sh: 1: exec: no-such-proxy: not found / .*",
}


@pytest.mark.parametrize(("name", "transport"), NO_PROXY)
def test_a_proxy_command_that_fails_is_told(
    project: MatrixProject, name: str, transport: str
) -> None:
    (done,) = project.run_steps(transport, name, environ={"SHELL": "/bin/sh"})
    assert done.code is ExitCode.UNREACHABLE
    why = f"(connect|banner): {name}@127.0.0.1:22: {NO_PROXY[name, transport]}"
    assert re.fullmatch(why, done.row.reason), done.row.reason


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_agent_is_there_where_that_is_asked_for(
    sshd_machine: SshdMachine, project: MatrixProject, transport: str
) -> None:
    with start_agent(sshd_machine) as environ:
        with_it, without = project.run_steps(
            transport, "agent", "agentless", steps=[SOCKETS], environ=environ
        )
    assert without.first_stdout == b"none\n"
    path, key = with_it.first_stdout.decode().splitlines()
    assert path.startswith("/tmp/ssh-")
    assert sshd_machine.key_fingerprint(sshd_machine.key) in key


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_agent_goes_past_a_jump_host_and_not_there(
    sshd_machine: SshdMachine, project: MatrixProject, transport: str
) -> None:
    before = len(sshd_machine.sshd_log("bastion").read_text())
    with start_agent(sshd_machine) as environ:
        (done,) = project.run_steps(transport, "beyond", steps=[SOCKETS], environ=environ)
    assert sshd_machine.key_fingerprint(sshd_machine.key).encode() in done.first_stdout
    output = sshd_machine.sshd_log("bastion").read_text()[before:]
    assert "server_request_direct_tcpip" in output
    assert "auth-agent-req" not in output


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_variables_go_where_the_host_takes_them(project: MatrixProject, transport: str) -> None:
    """SetEnv needs AcceptEnv on the host; the inventory's environment needs nothing."""
    step = {"run": 'printf "%s " "$GREETING" ${COLOUR:-none} ${OTHER:-none}'}
    taken, refusing = project.run_steps(transport, "setter", "deaf", steps=[step])
    assert taken.first_stdout == f"{GREETING} blue none ".encode()
    assert refusing.first_stdout == f"{GREETING} none none ".encode()
