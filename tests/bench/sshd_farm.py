"""Hosts for measurements: a real sshd on loopback, which acts as any number of hosts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.delay import delayed_port
from tests.sshd import SshdServer, serve_sshd

MOST = 2000  # hosts
_TEMPLATE = Path(__file__).with_name("project")
_LINES = ("MaxStartups 4000", "LogLevel ERROR", "Subsystem sftp internal-sftp")


@dataclass(frozen=True, slots=True)
class SshdFarm:
    """A running server with its hosts.

    ``folder`` is a new folder, with a project for orch and an ssh_config for the other tools. Peers
    use curve25519, as orch does: with a newer ssh the default key exchange would take most of its
    time.
    """

    folder: Path
    sshd: SshdServer
    port: int

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def deploy_folders(self) -> Path:
        """Return where each host keeps its deployed files, in a folder with its name."""
        return self.folder / "fleet"

    def host_addresses(self, count: int) -> list[str]:
        """Return the first addresses."""
        return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]

    def stage_name(self, count: int, transport: str = "ssh") -> str:
        """Return the name of a stage with this number of hosts."""
        name = f"{transport}{count}"
        folder = self.project / "inventories" / name
        folder.mkdir(parents=True, exist_ok=True)
        connect = {
            "user": self.sshd.user,
            "port": self.port,
            "identity": str(self.sshd.key),
            "identities_only": True,
            "known_hosts": str(self.known_hosts),
            "timeout": 300,
            "transport": transport,
        }
        stage = {"connect": connect, "vars": {"root": str(self.deploy_folders)}}
        (folder / "stage.yml").write_text(json.dumps(stage))
        hosts = {host: {"vars": {"index": n}} for n, host in enumerate(self.host_addresses(count))}
        (folder / "hosts.yml").write_text(json.dumps(hosts))
        return name

    def environ(self) -> dict[str, str]:
        """Return the environment of the tools, without keys, agent or settings of a user."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_ARGS": f"-F {self.ssh_config} -o ControlMaster=auto -o ControlPersist=5",
        }


@contextmanager
def start_farm(
    folder: Path, environment: Mapping[str, str] | None = None, delay: float = 0.0
) -> Iterator[SshdFarm]:
    """Run the server with this environment in its sessions during the block.

    ``delay``: one-way delay in seconds, in both directions.
    """
    shutil.copytree(_TEMPLATE, folder / "project")
    with ExitStack() as stack:
        sshd = stack.enter_context(serve_sshd(folder / "sshd", _LINES, environment=environment))
        port = stack.enter_context(delayed_port(sshd.port, delay)) if delay else sshd.port
        sshd_farm = SshdFarm(folder, sshd, port)
        sshd_farm.deploy_folders.mkdir()
        names = (f"[{host}]:{port}" for host in sshd_farm.host_addresses(MOST))
        sshd_farm.known_hosts.write_text("".join(f"{name} {sshd.host_key}\n" for name in names))
        sshd_farm.ssh_config.write_text(
            f"Host *\n Port {port}\n User {sshd.user}\n IdentityFile {sshd.key}\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {sshd_farm.known_hosts}\n BatchMode yes\n"
            " KexAlgorithms curve25519-sha256\n ConnectTimeout 300\n LogLevel ERROR\n"
        )
        yield sshd_farm
