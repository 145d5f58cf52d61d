"""An executable ``hosts``: asked once, it prints the hosts as JSON."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.text import decode as keep_bytes
from orchestrator.model.value import Value
from orchestrator.source import child
from orchestrator.source.jsontext import parse_json
from orchestrator.source.load import decode

TIMEOUT = 30.0
_TAIL = 1000


def ask(path: Path, shown: str, root: Path, stage: str, timeout: float = TIMEOUT) -> Value:
    """What the program printed, as values whose marks are its path.

    It runs in the project's root, with ORCH_STAGE set and nothing on its standard input;
    it and what it started are ended after ``timeout`` seconds. Raises ``DefinitionError``
    where it cannot run, fails, takes too long or prints no JSON.
    """
    mark = Mark(shown)
    if not os.access(path, os.X_OK):
        hint = f"chmod +x {shown}, or name it {shown}.yml if it is a list of hosts"
        raise DefinitionError(Problem(f"{shown} is not executable", mark, hint))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [path.absolute()],
            cwd=root,
            env={**os.environ, "ORCH_STAGE": stage},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that its children can be ended with it
        )

    try:
        program, (out, err) = child.supervise(
            start, lambda program: (program, program.communicate(timeout=timeout)), _end
        )
    except OSError as error:
        hint = "its first line must name an interpreter, like #!/bin/sh"
        what = f"{shown} cannot run: {(error.strerror or str(error)).lower()}"
        raise DefinitionError(Problem(what, mark, hint)) from error
    except subprocess.TimeoutExpired as error:
        what = f"{shown} did not end within {timeout:g} seconds{_said(error.stderr or b'')}"
        raise DefinitionError(Problem(what, mark)) from error
    if program.returncode:
        how = f"exited with {program.returncode}" if program.returncode > 0 else "was killed"
        raise DefinitionError(Problem(f"{shown} {how}{_said(err)}", mark))
    return parse_json(decode(out, shown), shown)


def _end(program: subprocess.Popen[bytes]) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    for pipe in (program.stdout, program.stderr):
        if pipe is not None:
            pipe.close()


def _said(err: bytes) -> str:
    text = keep_bytes(err).strip()
    return f", saying: {text[-_TAIL:]}" if text else ""
