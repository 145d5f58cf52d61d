"""Orch and others doing the same work: how each is called. Who is not installed is left out.

W1 is `uname -a` on every host. W2 is a deploy of twelve steps to a new release; W3 is W2 over a
link with a delay, and W4 W2 once more, with nothing left to change. `ssh` does W2 as one script
per host, with the file made beforehand and nothing compared.

Each program is looked for on PATH; several of the same name, of which each has its own Python,
can be told by ``BENCH_ANSIBLE``, ``BENCH_MITOGEN``, … : the folder with its programs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.farm import Farm

_HERE = Path(__file__).parent
_SCRIPT = """set -e; b={root}/$1; d=$b/releases/{release}; mkdir -p $d; cat >$d/app.conf
echo {release} >$d/REVISION; test -d $d; cat $d/REVISION; date -u; ln -sfn $b/shared $d/shared
wc -c $d/app.conf; ln -sfn $d $b/current; readlink $b/current; uname -r
ls -1dt $b/releases/* | tail -n +6 | xargs -r rm -rf"""


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

    @property
    def names(self) -> list[str]:
        return self.farm.hosts(self.hosts)

    def written(self) -> Path:
        """All of it in a file, for what has no inventory of its own."""
        sshd = self.farm.sshd
        path = self.farm.folder / "job.json"
        path.write_text(
            json.dumps(
                {
                    "hosts": self.names,
                    "user": sshd.user,
                    "port": self.farm.port,
                    "key": str(sshd.key),
                    "known_hosts": str(self.farm.known_hosts),
                    "ssh_config": str(self.farm.ssh_config),
                    "root": str(self.farm.fleet),
                    "release": self.release,
                    "page": str(self.farm.project / "templates/app.conf"),
                    "folder": str(self.farm.folder),
                }
            )
        )
        return path


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
    names.write_text("".join(f"{host}\n" for host in job.names))
    line = f"ssh -F {job.farm.ssh_config} {{}} "
    if job.deploys:
        script, conf = job.farm.folder / "script", job.farm.folder / "app.conf"
        script.write_text(_SCRIPT.format(root=job.farm.fleet, release=job.release))
        conf.write_text("# made beforehand\n" + "x" * 10_200)
        line += f'"set -- {{}}; $(cat {script})" <{conf}'
    else:
        line += "uname -a"
    return ["xargs", "-a", str(names), "-P", str(job.hosts), "-I{}", "sh", "-c", line]


def ansible(job: Job, kind: str = "ansible") -> list[str]:
    """Ansible, with pipelining and its usual ControlPersist."""
    shared = {
        "ansible_user": job.farm.sshd.user,
        "ansible_port": job.farm.port,
        "ansible_python_interpreter": sys.executable,
        "root": str(job.farm.fleet),
        "release": job.release,
    }
    hosts = {host: {"index": n} for n, host in enumerate(job.names)}
    inventory = job.farm.folder / "ansible.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    common = ["-i", str(inventory), "-f", str(job.hosts)]
    if job.deploys:
        return [_at(kind, "ansible-playbook"), *common, str(_HERE / "ansible.yml")]
    return [_at(kind, "ansible"), "all", *common, "-m", "command", "-a", "uname -a"]


def mitogen(job: Job) -> list[str]:
    """Ansible with Mitogen's strategy, where BENCH_MITOGEN says whose Python has it."""
    folder = os.environ.get("BENCH_MITOGEN", "")
    found = [*Path(folder).parent.glob("lib/*/site-packages/ansible_mitogen/plugins/strategy")]
    if not folder or not found:
        return []
    setting = [f"ANSIBLE_STRATEGY_PLUGINS={found[0]}", "ANSIBLE_STRATEGY=mitogen_linear"]
    return ["env", *setting, f"ANSIBLE_SSH_ARGS=-F {job.farm.ssh_config}", *ansible(job, "mitogen")]


def clush(job: Job) -> list[str]:
    """ClusterShell, which has no templates."""
    if job.deploys:
        return []
    return [_at("clush", "clush"), "-w", ",".join(job.names), "-f", str(job.hosts), "-t", "300",
            "-o", f"-F {job.farm.ssh_config}", "uname", "-a"]  # fmt: skip


def pyinfra(job: Job) -> list[str]:
    """pyinfra, with operations."""
    data = {
        "ssh_user": job.farm.sshd.user,
        "ssh_port": job.farm.port,
        "ssh_key": str(job.farm.sshd.key),
        "ssh_known_hosts_file": str(job.farm.known_hosts),
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
    }
    inventory = job.farm.folder / "fleet.py"
    inventory.write_text(f"hosts = {[(host, data) for host in job.names]!r}\n")
    start = [_at("pyinfra", "pyinfra"), "-y", "--parallel", str(job.hosts), str(inventory)]
    if not job.deploys:
        return [*start, "exec", "--", "uname -a"]
    return ["env", f"BENCH_JOB={job.written()}", *start, str(_HERE / "pyinfra_work.py")]


def fabric(job: Job) -> list[str]:
    """Fabric: a script with a thread for each host."""
    program = shutil.which(_at("fabric", "fab"))
    if not program:
        return []
    with Path(program).open() as text:
        python = shlex.split(text.readline().removeprefix("#!"))
    workload = "W2" if job.deploys else "W1"
    return [*python, str(_HERE / "fabric_work.py"), workload, str(job.written())]


def capistrano(job: Job) -> list[str]:
    """Capistrano, a connection for each host at once, which is its own way."""
    program = shutil.which(_at("capistrano", "cap"))
    task = "w2" if job.deploys else "w1"
    folder = str(_HERE / "capistrano")
    start = ["env", "-C", folder, f"BENCH_JOB={job.written()}"]
    return [*start, program, "bench", task] if program else []


def _at(kind: str, program: str) -> str:
    folder = os.environ.get(f"BENCH_{kind.upper()}")
    return str(Path(folder, program)) if folder else program


Peer = Callable[[Job], list[str]]
PEERS: Mapping[str, Peer] = {
    "orch": orch,
    "orch (run only)": orch_run,
    "ssh": ssh,
    "ansible": ansible,
    "mitogen": mitogen,
    "clush": clush,
    "pyinfra": pyinfra,
    "fabric": fabric,
    "capistrano": capistrano,
}


def command(name: str, job: Job) -> list[str]:
    """Its words, or none where it is not installed or does no such work."""
    words = PEERS[name](job)
    program = next((w for w in words if w != "env" and "=" not in w), "")
    if words[:2] == ["env", "-C"]:
        program = "env"
    return words if program and shutil.which(program) else []
