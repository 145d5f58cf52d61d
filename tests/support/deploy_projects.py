"""Projects with deploys: the one of `orch init`, and small ones on sandbox hosts."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.projects import OrchProject, OrchResult

WAIT_TIMEOUT = 100.0  # seconds
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")


@contextmanager
def make_demo(root: Path) -> Iterator[OrchProject]:
    """Run `orch init`; the web servers that its apps start are ended afterwards."""
    root.parent.mkdir(exist_ok=True)
    project = OrchProject(root)
    done = project.orch("init", str(root), cwd=root.parent)
    assert done.code == 0, done.err
    try:
        yield project
    finally:
        end_servers(root)


def end_servers(folder: Path) -> None:
    """End the web servers whose process IDs are in files below the folder."""
    for file in folder.rglob("server.pid"):
        pid = int(file.read_text())
        line = Path(f"/proc/{pid}/cmdline")
        if line.exists() and str(folder).encode() in line.read_bytes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def fetch_page(port: int, path: str) -> str:
    """Return the reply of the web server on this port."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
        return str(answer.read().decode())


def commit_files(folder: Path, files: Mapping[str, str], message: str) -> None:
    """Commit these files in a repository of the demo."""
    for name, text in files.items():
        (folder / name).write_text(text)
    subprocess.run([*GIT, "commit", "-q", "-am", message], cwd=folder, check=True)


def run_deploy(
    project: OrchProject, *words: str, app: str = "all", stage: str = "dev"
) -> OrchResult:
    """Run a deploy with JSON output, in another second than the deploy before it.

    Releases are named after seconds.
    """
    next_second()
    return project.orch("-s", stage, "run", "deploy", "--app", app, "--json", *words)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as the condition is true; machines that test many deploys at once are slow."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, (
            f"waited {WAIT_TIMEOUT:g} s for {what}, which did not come"
        )
        time.sleep(0.02)


def next_second() -> None:
    """Return when the next second has started."""
    now = int(time.time())
    wait_until(lambda: int(time.time()) > now, "the next second")


def summary_rows(done: OrchResult) -> dict[tuple[str, str], dict[str, object]]:
    """Return the rows of the last event, by app and host."""
    last = done.events[-1]
    assert last["event"] == "run_finished", done.err
    return {(row["app"], row["host"]): row for row in last["rows"]}


def host_home(project: OrchProject, host: str, stage: str = "dev") -> Path:
    """Return the home folder of a sandbox host."""
    return project.root / ".orch" / "sandbox" / stage / host


def folder_snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return everything in a folder: kinds, modes, owners, times, and contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        about = path.lstat()
        what: object = None
        if stat.S_ISLNK(about.st_mode):
            what = str(path.readlink())
        elif stat.S_ISREG(about.st_mode):
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        times = about.st_mtime_ns, about.st_ctime_ns
        found[str(path)] = (about.st_mode, about.st_uid, about.st_size, *times, what)
    return found
