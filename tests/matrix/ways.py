"""The private machine of ways to a host as they are out there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.matrix.compact import Project
from tests.matrix.ground import Ground
from tests.matrix.hosts import TRANSPORTS, common, hosts, settings
from tests.matrix.place import Account, Place, place
from tests.sshd import until
from tests.transport.agents import real

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
WORKS = tuple((name, each) for name in ACCOUNTS if name != "missing" for each in TRANSPORTS)


@contextmanager
def ways(folder: Path) -> Iterator[Ground]:
    """``socks`` and ``agent`` are to be had besides."""
    accounts = [*ACCOUNTS.values()]
    with place(folder) as made:
        made.add(accounts)
        made.serve("main", ["Port 22", *settings(accounts)])
        made.serve("bastion", [f"Port {BASTION}", "LogLevel DEBUG1"])
        yield Ground(made, _project(made), WORKS)


@contextmanager
def ways_in_use(folder: Path) -> Iterator[Ground]:
    """All that the cases need is there."""
    with ways(folder) as ground, socks(ground.place), agent(ground.place) as environ:
        yield replace(ground, environ=environ)


def _project(here: Place) -> Project:
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
    with real(path, here.key):
        yield {"SSH_AUTH_SOCK": str(path)}
