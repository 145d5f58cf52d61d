"""Ways to a host as they are out there: proxy commands, SOCKS, jump hosts with and without the
agent, and the environment.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Exit
from tests.matrix.compact import GREETING, Project, conforms
from tests.matrix.hosts import TRANSPORTS, common, hosts, settings
from tests.matrix.place import Account, Place, place
from tests.sshd import until

BASTION, SOCKS = 2040, 1080
ACCOUNTS = {
    each.name: each
    for each in (
        Account("netcat"),
        Account("socks"),
        Account("missing"),
        Account("jumper"),
        Account("agent"),
        Account("agentless"),
        Account("beyond"),
        Account("setter", match=["AcceptEnv COLOUR"]),
        Account("deaf"),
    )
}
CONFIGS = {
    "netcat": "ProxyCommand nc %h %p",
    "socks": f"ProxyCommand nc -X 5 -x 127.0.0.1:{SOCKS} %h %p",
    "missing": "ProxyCommand no-such-proxy %h %p",
    "setter": "SetEnv COLOUR=blue OTHER=red",
    "deaf": "SetEnv COLOUR=blue",
}
SOCKETS = {"run": "echo ${SSH_AUTH_SOCK:-none}; ssh-add -l || :"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    accounts = [*ACCOUNTS.values()]
    with place(tmp_path_factory.mktemp("matrix") / "place") as made:
        made.add(accounts)
        made.serve("main", ["Port 22", *settings(accounts)])
        made.serve("bastion", [f"Port {BASTION}", "LogLevel DEBUG1"])
        yield made


@pytest.fixture(scope="module")
def project(here: Place) -> Project:
    shared = common(here)
    connect: dict[str, dict[str, Any]] = {name: {} for name in ACCOUNTS}
    for name, lines in CONFIGS.items():
        config = here.folder / f"config-{name}"
        config.write_text(f"KexAlgorithms curve25519-sha256\n{lines}\n")
        connect[name]["ssh_config"] = str(config)
    connect["missing"]["retries"] = connect["socks"]["retries"] = 0
    connect["agent"]["forward_agent"] = True
    connect["beyond"] |= {"forward_agent": True, "jump": "bastion"}
    connect["jumper"]["jump"] = "bastion"
    inventory = hosts([*ACCOUNTS.values()], connect)
    via = {"user": "jumper", "port": BASTION, "forward_agent": True}
    inventory["bastion"] = {"address": "127.0.0.1", "connect": via}
    project = Project(here.folder / "project")
    project.write(inventory, shared)
    return project


@contextmanager
def socks(here: Place) -> Iterator[None]:
    """A SOCKS server: ssh's own."""
    words = ["ssh", "-F", "none", "-ND", f"127.0.0.1:{SOCKS}", "-i", str(here.key), "-l", "socks"]
    words += ["-o", f"UserKnownHostsFile={here.known_hosts}", "-o", "BatchMode=yes", "127.0.0.1"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as server:
        try:
            until(lambda: server.poll() is not None or _listens(SOCKS), "the SOCKS server")
            yield
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    rows = Path("/proc/thread-self/net/tcp").read_text().splitlines()
    return any(
        row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows[1:]
    )


@contextmanager
def agent(here: Place) -> Iterator[dict[str, str]]:
    """A real agent with the key; its environment."""
    path = here.folder / "agent"
    words = ["ssh-agent", "-D", "-a", str(path)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            until(path.exists, "the agent's socket")
            environ = {"SSH_AUTH_SOCK": str(path)}
            subprocess.run(["ssh-add", "-q", here.key], check=True, env={**os.environ, **environ})
            yield environ
        finally:
            server.terminate()


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
        f"{CUT}; the proxy command ended with 127: /bin/sh: 1: exec: no-such-proxy: not found"
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
