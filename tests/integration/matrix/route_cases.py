"""The private machine with proxies, jump hosts and agents as found in practice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.integration.matrix.account_hosts import (
    TRANSPORTS,
    account_inventory,
    common_settings,
    sshd_settings,
)
from tests.integration.matrix.compact_run import MatrixProject
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.sshd import wait_until
from tests.support.false_agents import start_ssh_agent
from tests.support.sshd_machine import LoginAccount, SshdMachine, start_machine

BASTION, SOCKS = 2040, 1080
ACCOUNTS = {
    each.name: each
    for each in (
        LoginAccount("netcat"),
        LoginAccount("socks"),
        LoginAccount("missing"),
        LoginAccount("jumper"),
        LoginAccount("agent"),
        LoginAccount("agentless"),
        LoginAccount("beyond"),
        LoginAccount("setter", match_lines=["AcceptEnv COLOUR"]),
        LoginAccount("deaf"),
    )
}
CONFIGS = {
    "netcat": "ProxyCommand nc %h %p",
    "socks": f"ProxyCommand nc -X 5 -x 127.0.0.1:{SOCKS} %h %p",
    "missing": "ProxyCommand no-such-proxy %h %p",
    "setter": "SetEnv COLOUR=blue OTHER=red",
    "deaf": "SetEnv COLOUR=blue",
}
WORKS = tuple((name, each) for name in ACCOUNTS if name != "missing" for each in TRANSPORTS)


@contextmanager
def make_routes(folder: Path) -> Iterator[MatrixGround]:
    """Set up the routes, without what ``start_socks`` and ``start_agent`` start."""
    accounts = [*ACCOUNTS.values()]
    with start_machine(folder) as machine:
        machine.add_accounts(accounts)
        machine.start_sshd("main", ["Port 22", *sshd_settings(accounts)])
        machine.start_sshd("bastion", [f"Port {BASTION}", "LogLevel DEBUG1"])
        yield MatrixGround(machine, _write_project(machine), WORKS)


@contextmanager
def start_route_helpers(folder: Path) -> Iterator[MatrixGround]:
    """Start everything that the cases need."""
    with (
        make_routes(folder) as ground,
        start_socks(ground.machine),
        start_agent(ground.machine) as environ,
    ):
        yield replace(ground, environ=environ)


def _write_project(machine: SshdMachine) -> MatrixProject:
    shared = common_settings(machine)
    connect: dict[str, dict[str, Any]] = {name: {} for name in ACCOUNTS}
    for name, lines in CONFIGS.items():
        config = machine.folder / f"config-{name}"
        config.write_text(f"KexAlgorithms curve25519-sha256\n{lines}\n")
        connect[name]["ssh_config"] = str(config)
    connect["missing"]["retries"] = connect["socks"]["retries"] = 0
    connect["agent"]["forward_agent"] = True
    connect["beyond"] |= {"forward_agent": True, "jump": "bastion"}
    connect["jumper"]["jump"] = "bastion"
    inventory = account_inventory([*ACCOUNTS.values()], connect)
    via = {"user": "jumper", "port": BASTION, "forward_agent": True}
    inventory["bastion"] = {"address": "127.0.0.1", "connect": via}
    project = MatrixProject(machine.folder / "project")
    project.write_project(inventory, shared)
    return project


@contextmanager
def start_socks(machine: SshdMachine) -> Iterator[None]:
    """Start a SOCKS server with ssh -D."""
    words = [
        "ssh",
        "-F",
        "none",
        "-ND",
        f"127.0.0.1:{SOCKS}",
        "-i",
        str(machine.key),
        "-l",
        "socks",
    ]
    words += ["-o", f"UserKnownHostsFile={machine.known_hosts}", "-o", "BatchMode=yes", "127.0.0.1"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as server:
        try:
            wait_until(
                lambda: server.poll() is not None or _is_listening(SOCKS), "the SOCKS server"
            )
            yield
        finally:
            server.terminate()


def _is_listening(port: int) -> bool:
    rows = Path("/proc/thread-self/net/tcp").read_text().splitlines()
    return any(
        row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows[1:]
    )


@contextmanager
def start_agent(machine: SshdMachine) -> Iterator[dict[str, str]]:
    """Start a real agent with the key; return its environment."""
    path = machine.folder / "agent"
    with start_ssh_agent(path, machine.key):
        yield {"SSH_AUTH_SOCK": str(path)}
