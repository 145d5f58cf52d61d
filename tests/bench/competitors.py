"""Commands of orch and other tools for the same work; tools that are not installed are left out.

W1 is `uname -a` on every host. W2 is a deploy of twelve steps to a new release; W3 is W2 over a
slow link, and W4 is W2 again, with nothing left to change. `ssh` does W2 as one script per host,
with the file prepared before and nothing compared.

Each program is searched on PATH. ``BENCH_ANSIBLE``, ``BENCH_MITOGEN``, … can name the folder with a
tool's programs, if it has its own Python.
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

from tests.bench.sshd_farm import SshdFarm

_HERE = Path(__file__).parent
_SCRIPT = """set -e; b={root}/$1; d=$b/releases/{release}; mkdir -p $d; cat >$d/app.conf
echo {release} >$d/REVISION; test -d $d; cat $d/REVISION; date -u; ln -sfn $b/shared $d/shared
wc -c $d/app.conf; ln -sfn $d $b/current; readlink $b/current; uname -r
ls -1dt $b/releases/* | tail -n +6 | xargs -r rm -rf"""


@dataclass(frozen=True, slots=True)
class BenchJob:
    """One run of a workload, on a number of hosts in parallel, for a release."""

    farm: SshdFarm
    workload: str
    hosts: int
    release: str

    @property
    def is_deploy(self) -> bool:
        return self.workload != "W1"

    @property
    def host_names(self) -> list[str]:
        return self.farm.host_addresses(self.hosts)

    def write_hosts_file(self) -> Path:
        """Write all hosts to one file, for tools without an inventory."""
        sshd = self.farm.sshd
        path = self.farm.folder / "job.json"
        path.write_text(
            json.dumps(
                {
                    "hosts": self.host_names,
                    "user": sshd.user,
                    "port": self.farm.port,
                    "key": str(sshd.key),
                    "known_hosts": str(self.farm.known_hosts),
                    "ssh_config": str(self.farm.ssh_config),
                    "root": str(self.farm.deploy_folders),
                    "release": self.release,
                    "page": str(self.farm.project / "templates/app.conf"),
                    "folder": str(self.farm.folder),
                }
            )
        )
        return path


def orch(job: BenchJob, task: str = "deploy12") -> list[str]:
    """Return the command of orch with modules."""
    start = [sys.executable, "-m", "orchestrator", "-C", str(job.farm.project)]
    start += ["-s", job.farm.stage_name(job.hosts), "-f", str(job.hosts), "-F", "none"]
    if not job.is_deploy:
        return [*start, "exec", "--readonly", "--", "uname", "-a"]
    return [*start, "run", task, f"release={job.release}"]


def orch_run_only(job: BenchJob) -> list[str]:
    """Return the command of orch with `run` steps only."""
    return orch(job, "deploy12_run") if job.is_deploy else []


def ssh(job: BenchJob) -> list[str]:
    """Return the command of a shell script that runs ssh for all hosts in parallel."""
    names = job.farm.folder / "names"
    names.write_text("".join(f"{host}\n" for host in job.host_names))
    line = f"ssh -F {job.farm.ssh_config} {{}} "
    if job.is_deploy:
        script, conf = job.farm.folder / "script", job.farm.folder / "app.conf"
        script.write_text(_SCRIPT.format(root=job.farm.deploy_folders, release=job.release))
        conf.write_text("# made beforehand\n" + "x" * 10_200)
        line += f'"set -- {{}}; $(cat {script})" <{conf}'
    else:
        line += "uname -a"
    return ["xargs", "-a", str(names), "-P", str(job.hosts), "-I{}", "sh", "-c", line]


def ansible(job: BenchJob, kind: str = "ansible") -> list[str]:
    """Return the command of Ansible with pipelining and its usual ControlPersist."""
    shared = {
        "ansible_user": job.farm.sshd.user,
        "ansible_port": job.farm.port,
        "ansible_python_interpreter": sys.executable,
        "root": str(job.farm.deploy_folders),
        "release": job.release,
    }
    hosts = {host: {"index": n} for n, host in enumerate(job.host_names)}
    inventory = job.farm.folder / "ansible.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    common = ["-i", str(inventory), "-f", str(job.hosts)]
    if job.is_deploy:
        return [_program_path(kind, "ansible-playbook"), *common, str(_HERE / "ansible.yml")]
    return [_program_path(kind, "ansible"), "all", *common, "-m", "command", "-a", "uname -a"]


def mitogen(job: BenchJob) -> list[str]:
    """Return the command of Ansible with Mitogen, if BENCH_MITOGEN names its Python."""
    folder = os.environ.get("BENCH_MITOGEN", "")
    found = [*Path(folder).parent.glob("lib/*/site-packages/ansible_mitogen/plugins/strategy")]
    if not folder or not found:
        return []
    setting = [f"ANSIBLE_STRATEGY_PLUGINS={found[0]}", "ANSIBLE_STRATEGY=mitogen_linear"]
    return ["env", *setting, f"ANSIBLE_SSH_ARGS=-F {job.farm.ssh_config}", *ansible(job, "mitogen")]


def clush(job: BenchJob) -> list[str]:
    """Return the command of ClusterShell, which has no templates."""
    if job.is_deploy:
        return []
    return [_program_path("clush", "clush"), "-w", ",".join(job.host_names), "-f", str(job.hosts), "-t", "300",
            "-o", f"-F {job.farm.ssh_config}", "uname", "-a"]  # fmt: skip


def pyinfra(job: BenchJob) -> list[str]:
    """Return the command of pyinfra with operations."""
    data = {
        "ssh_user": job.farm.sshd.user,
        "ssh_port": job.farm.port,
        "ssh_key": str(job.farm.sshd.key),
        "ssh_known_hosts_file": str(job.farm.known_hosts),
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
    }
    inventory = job.farm.folder / "fleet.py"
    inventory.write_text(f"hosts = {[(host, data) for host in job.host_names]!r}\n")
    start = [
        _program_path("pyinfra", "pyinfra"),
        "-y",
        "--parallel",
        str(job.hosts),
        str(inventory),
    ]
    if not job.is_deploy:
        return [*start, "exec", "--", "uname -a"]
    return ["env", f"BENCH_JOB={job.write_hosts_file()}", *start, str(_HERE / "pyinfra_work.py")]


def fabric(job: BenchJob) -> list[str]:
    """Return the command of Fabric: a script with a thread for each host."""
    program = shutil.which(_program_path("fabric", "fab"))
    if not program:
        return []
    with Path(program).open() as text:
        python = shlex.split(text.readline().removeprefix("#!"))
    workload = "W2" if job.is_deploy else "W1"
    return [*python, str(_HERE / "fabric_work.py"), workload, str(job.write_hosts_file())]


def capistrano(job: BenchJob) -> list[str]:
    """Return the command of Capistrano with its default: all hosts in parallel."""
    program = shutil.which(_program_path("capistrano", "cap"))
    task = "w2" if job.is_deploy else "w1"
    folder = str(_HERE / "capistrano")
    start = ["env", "-C", folder, f"BENCH_JOB={job.write_hosts_file()}"]
    return [*start, program, "bench", task] if program else []


def _program_path(kind: str, program: str) -> str:
    folder = os.environ.get(f"BENCH_{kind.upper()}")
    return str(Path(folder, program)) if folder else program


Competitor = Callable[[BenchJob], list[str]]
COMPETITORS: Mapping[str, Competitor] = {
    "orch": orch,
    "orch (run only)": orch_run_only,
    "ssh": ssh,
    "ansible": ansible,
    "mitogen": mitogen,
    "clush": clush,
    "pyinfra": pyinfra,
    "fabric": fabric,
    "capistrano": capistrano,
}


def job_command(name: str, job: BenchJob) -> list[str]:
    """Return the words of a job, or none if the tool is not installed or cannot do it."""
    words = COMPETITORS[name](job)
    program = next((w for w in words if w != "env" and "=" not in w), "")
    if words[:2] == ["env", "-C"]:
        program = "env"
    return words if program and shutil.which(program) else []
