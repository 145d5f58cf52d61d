"""Orch and others doing the same work: how each is called. Who is not installed is left out.

W1 is `uname -a` on every host. W2 is a deploy of twelve steps to a new release, and W4 the same
once more, with nothing left to change; `ssh` does it as one script per host, with the file made
beforehand and nothing compared.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.farm import Farm

_SCRIPT = """set -e; b={root}/$1; d=$b/releases/{release}; mkdir -p $d; cat >$d/app.conf
echo {release} >$d/REVISION; test -d $d; cat $d/REVISION; date -u; ln -sfn $b/shared $d/shared
wc -c $d/app.conf; ln -sfn $d $b/current; readlink $b/current; uname -r
ls -1dt $b/releases/* | tail -n +6 | xargs -r rm -rf"""
_PLAYBOOK = Path(__file__).with_name("ansible.yml")


@dataclass(frozen=True, slots=True)
class Job:
    """One run: of a workload, on so many hosts at once, of a release."""

    farm: Farm
    workload: str
    hosts: int
    release: str

    @property
    def deploys(self) -> bool:
        return self.workload != "W1"


def orch(job: Job, task: str = "deploy12") -> list[str]:
    """Orch, with modules."""
    start = [sys.executable, "-m", "orchestrator", "-C", str(job.farm.project)]
    start += ["-s", job.farm.stage(job.hosts), "-f", str(job.hosts), "-F", "none"]
    if not job.deploys:
        return [*start, "exec", "--readonly", "--", "uname", "-a"]
    return [*start, "run", task, f"release={job.release}"]


def orch_run(job: Job) -> list[str]:
    """Orch, with `run` lines only."""
    return orch(job, "deploy12_run") if job.deploys else []


def ssh(job: Job) -> list[str]:
    """A shell script around the ssh program: one of it for each host, as many at a time."""
    names = job.farm.folder / "names"
    names.write_text("".join(f"{host}\n" for host in job.farm.hosts(job.hosts)))
    line = f"ssh -F {job.farm.ssh_config} {{}} "
    if job.deploys:
        script, conf = job.farm.folder / "script", job.farm.folder / "app.conf"
        script.write_text(_SCRIPT.format(root=job.farm.fleet, release=job.release))
        conf.write_text("# made beforehand\n" + "x" * 10_200)
        line += f'"set -- {{}}; $(cat {script})" <{conf}'
    else:
        line += "uname -a"
    return ["xargs", "-a", str(names), "-P", str(job.hosts), "-I{}", "sh", "-c", line]


def ansible(job: Job) -> list[str]:
    """Ansible, with pipelining and its usual ControlPersist."""
    shared = {
        "ansible_user": job.farm.sshd.user,
        "ansible_port": job.farm.sshd.port,
        "ansible_python_interpreter": sys.executable,
        "root": str(job.farm.fleet),
        "release": job.release,
    }
    hosts = {host: {"index": n} for n, host in enumerate(job.farm.hosts(job.hosts))}
    inventory = job.farm.folder / "ansible.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    common = ["-i", str(inventory), "-f", str(job.hosts)]
    if job.deploys:
        return ["ansible-playbook", *common, str(_PLAYBOOK)]
    return ["ansible", "all", *common, "-m", "command", "-a", "uname -a"]


def clush(job: Job) -> list[str]:
    """ClusterShell, which has no templates."""
    if job.deploys:
        return []
    nodes = ",".join(job.farm.hosts(job.hosts))
    return ["clush", "-w", nodes, "-f", str(job.hosts), "-t", "300", "-o",
            f"-F {job.farm.ssh_config}", "uname", "-a"]  # fmt: skip


def pyinfra(job: Job) -> list[str]:
    """pyinfra, of which only W1 is here."""
    if job.deploys:
        return []
    data = {
        "ssh_user": job.farm.sshd.user,
        "ssh_port": job.farm.sshd.port,
        "ssh_key": str(job.farm.sshd.key),
        "ssh_known_hosts_file": str(job.farm.sshd.known_hosts),
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
    }
    inventory = job.farm.folder / "fleet.py"
    hosts = [(host, data) for host in job.farm.hosts(job.hosts)]
    inventory.write_text(f"hosts = {hosts!r}\n")
    return ["pyinfra", "-y", "--parallel", str(job.hosts), str(inventory), "exec", "--", "uname -a"]


Peer = Callable[[Job], list[str]]
PEERS: Mapping[str, Peer] = {
    "orch": orch,
    "orch (run only)": orch_run,
    "ssh": ssh,
    "ansible": ansible,
    "clush": clush,
    "pyinfra": pyinfra,
}


def command(name: str, job: Job) -> list[str]:
    """Its words, or none where it is not installed or does no such work."""
    words = PEERS[name](job)
    return words if words and shutil.which(words[0]) else []
