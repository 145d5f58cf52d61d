"""A stage of three hosts, reached over a real sshd, for `orch console`."""

from __future__ import annotations

import json

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer

HOSTS = {
    "web1": {"address": "127.0.0.21", "roles": ["web"]},
    "web2": {"address": "127.0.0.22", "roles": ["web"]},
    "db1": {"address": "127.0.0.23", "roles": ["db"]},
}
# The three hosts are one machine: a command knows its host by the address that it was reached at.
ON_HOST = 'case $SSH_CONNECTION in *" {address} "*) {command};; esac'


def on_host(name: str, command: str) -> str:
    """Return a command that does something on one of the hosts only."""
    return ON_HOST.format(address=HOSTS[name]["address"], command=command)


@pytest.fixture
def stage(project: OrchProject, sshd: SshdServer) -> OrchProject:
    project.add_sshd_stage(sshd, {})
    return project.write({"inventories/real/hosts.yml": json.dumps(HOSTS)})


def run_lines(project: OrchProject, *lines: str, args: tuple[str, ...] = ()) -> OrchResult:
    """Run `orch console` with these lines as its stdin."""
    return project.orch(
        "-s", "real", "console", *args, stdin="".join(f"{line}\n" for line in lines)
    )
