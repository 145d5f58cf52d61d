"""Projects in a temp folder, and orch run on them as by a user: in its own process."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sshd import SshdServer
from tests.support.forked_orch import needs_fresh_python, run_forked_orch

TIMEOUT = 120.0
ENGINE = os.environ.get("ORCH_TEST_ENGINE", "")
"""The engine of all runs, to run tests unchanged with another one.

``cluster:3`` is a Dask cluster of three workers that all runs of this process share.
"""


@dataclass(frozen=True, slots=True)
class OrchResult:
    """The result of a call of orch."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the JSON lines on stdout, which must not have other lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def host_rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the last event, by host."""
        last = self.events[-1]
        assert last["event"] == "run_finished", self.err
        return {row["host"]: row for row in last["rows"]}

    def host_steps(self, host: str) -> list[dict[str, Any]]:
        """Return the results of the steps on one host, in order."""
        return [e for e in self.events if e["event"] == "step_finished" and e["host"] == host]


@dataclass(frozen=True, slots=True)
class OrchProject:
    """A project's folder."""

    root: Path

    def write(self, files: Mapping[str, str]) -> OrchProject:
        """Write files by their path below the root; their text is dedented."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return self

    def add_sandbox_stage(self, *hosts: str, stage: str = "dev") -> OrchProject:
        """Add a stage of sandbox hosts."""
        return self.write(
            {
                f"inventories/{stage}/stage.yml": "connect: {transport: sandbox}\n",
                **{f"inventories/{stage}/hosts/{host}.yml": "" for host in hosts},
            }
        )

    def add_sshd_stage(
        self, sshd: SshdServer, hosts: Mapping[str, str], stage: str = "real"
    ) -> OrchProject:
        """Add a stage whose hosts (name to address) are reached over a real sshd."""
        connect = {
            "user": sshd.user,
            "port": sshd.port,
            "identity": str(sshd.key),
            "identities_only": True,
            "known_hosts": str(sshd.known_hosts),
        }
        return self.write(
            {
                f"inventories/{stage}/stage.yml": json.dumps({"connect": connect}),
                f"inventories/{stage}/hosts.yml": json.dumps(
                    {name: {"address": address} for name, address in hosts.items()}
                ),
            }
        )

    def orch(self, *args: str, stdin: str = "", cwd: Path | None = None, **env: str) -> OrchResult:
        """Run orch in a process of its own and wait until it exits."""
        folder, environ = cwd or self.root, self.environ(env)
        if needs_fresh_python(env, stdin):
            done = subprocess.run(
                self.command(*args),
                cwd=folder,
                env=environ,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            code, out, err = run_forked_orch(
                args, cwd=folder, environ=environ, stdin=stdin, timeout=TIMEOUT
            )
        assert "Traceback" not in err, err
        return OrchResult(code, out, err)

    def orch_on_terminal(self, *args: str, typed: str) -> OrchResult:
        """Run orch with a terminal as its stdin, on which ``typed`` is typed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command(*args),
            cwd=self.root,
            env=self.environ({}),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)
        os.write(ours, typed.encode())
        out, err = process.communicate(timeout=TIMEOUT)
        os.close(ours)
        return OrchResult(process.returncode, out, err)

    def command(self, *args: str) -> list[str]:
        """Return the words that start orch."""
        return [sys.executable, "-m", "orchestrator", *args]

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return an environment without the tester's keys, agent and settings."""
        home = self.root.parent / "home"
        home.mkdir(exist_ok=True)
        engine = engine_environ() if ENGINE else {}
        return {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **engine, **more}

    @contextmanager
    def start_orch(self, *args: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """Start orch; it is killed at the end of the block."""
        process = subprocess.Popen(
            self.command(*args),
            cwd=self.root,
            env=self.environ(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()


def engine_environ() -> dict[str, str]:
    """Return the variables that select the engine of all runs."""
    kind, _, workers = ENGINE.partition(":")
    if kind != "cluster":
        return {"ORCH_ENGINE": ENGINE}
    from tests.support.dask_cluster import shared_cluster

    return shared_cluster(int(workers)).environ


def interrupt_until_exit(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C repeatedly until orch exits, and return its output; one came before."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=0.2)
    raise TimeoutError("orch does not end")
