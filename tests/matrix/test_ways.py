"""Ways to a host as they are out there: proxy commands, SOCKS, jump hosts with and without the
agent, and the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from orchestrator.errors import Exit
from tests.matrix.compact import GREETING, Project, conforms
from tests.matrix.ground import Ground
from tests.matrix.hosts import TRANSPORTS
from tests.matrix.place import Place
from tests.matrix.ways import ACCOUNTS, agent, socks, ways

SOCKETS = {"run": "echo ${SSH_AUTH_SOCK:-none}; ssh-add -l || :"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ways(tmp_path_factory.mktemp("matrix") / "place") as made:
        yield made


@pytest.fixture
def here(ground: Ground) -> Place:
    return ground.place


@pytest.fixture
def project(ground: Ground) -> Project:
    return ground.project


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["netcat", "jumper"])
def test_everything_works(here: Place, project: Project, name: str, transport: str) -> None:
    conforms(lambda: project.run(transport, name)[0], here.at(ACCOUNTS[name].folder))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_everything_works_through_a_socks_proxy(
    here: Place, project: Project, transport: str
) -> None:
    with socks(here):
        conforms(lambda: project.run(transport, "socks")[0], here.at(ACCOUNTS["socks"].folder))
    connected = here.log("main").read_text().count("Starting session: command")
    assert connected


# as the pipe's end is noticed first, or that it takes no more
CUT = (
    "(the connection was cut while waiting for the server to name itself|"
    "the server closed the connection before naming itself)"
)
NO_PROXY = {
    ("socks", "ssh"): f"{CUT}; the proxy command ended with 1",
    ("socks", "openssh"): ".*Connection closed.*|.*Broken pipe.*",
    ("missing", "ssh"): (
        f"{CUT}; the proxy command ended with 127: '/bin/sh: 1: exec: no-such-proxy: not found'"
    ),
    ("missing", "openssh"): "/bin/sh: 1: exec: no-such-proxy: not found / .*",
}


@pytest.mark.parametrize(("name", "transport"), NO_PROXY)
def test_a_proxy_command_that_fails_is_told(project: Project, name: str, transport: str) -> None:
    (done,) = project.run(transport, name, environ={"SHELL": "/bin/sh"})
    assert done.code is Exit.UNREACHABLE
    why = f"(connect|banner): {name}@127.0.0.1:22: {NO_PROXY[name, transport]}"
    assert re.fullmatch(why, done.row.reason), done.row.reason


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_agent_is_there_where_that_is_asked_for(
    here: Place, project: Project, transport: str
) -> None:
    with agent(here) as environ:
        with_it, without = project.run(
            transport, "agent", "agentless", steps=[SOCKETS], environ=environ
        )
    assert without.out == b"none\n"
    path, key = with_it.out.decode().splitlines()
    assert path.startswith("/tmp/ssh-")
    assert here.fingerprint(here.key) in key


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_agent_goes_past_a_jump_host_and_not_there(
    here: Place, project: Project, transport: str
) -> None:
    before = len(here.log("bastion").read_text())
    with agent(here) as environ:
        (done,) = project.run(transport, "beyond", steps=[SOCKETS], environ=environ)
    assert here.fingerprint(here.key).encode() in done.out
    said = here.log("bastion").read_text()[before:]
    assert "server_request_direct_tcpip" in said
    assert "auth-agent-req" not in said


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_variables_go_where_the_host_takes_them(project: Project, transport: str) -> None:
    """SetEnv needs AcceptEnv there; the inventory's environment needs nothing."""
    step = {"run": 'printf "%s " "$GREETING" ${COLOUR:-none} ${OTHER:-none}'}
    taken, deaf = project.run(transport, "setter", "deaf", steps=[step])
    assert taken.out == f"{GREETING} blue none ".encode()
    assert deaf.out == f"{GREETING} none none ".encode()
