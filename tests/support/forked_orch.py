"""orch in a process of its own that is forked from one which has imported orch's modules.

Importing takes nine tenths of the time of most calls. What depends on how Python itself starts
(``needs_fresh_python``) is to run as ``python -m orchestrator``. Imports only what orch imports,
since each process imports this module.
"""

from __future__ import annotations

import multiprocessing
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path

import orchestrator
from orchestrator.cli.main import main

_PACKAGE = Path(orchestrator.__file__).parent
_MAIN = _PACKAGE / "__main__.py"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(_PACKAGE.rglob("*.py"))
        if path != _MAIN and "starter" not in path.parts
    ]
    + (["distributed"] if os.environ.get("ORCH_TEST_ENGINE") else [])
)
_ONE_ASKS = threading.Lock()
"""Held to start a process, which reads the exit codes of all that have ended, or to read one."""
_SETTINGS_OF_PYTHON = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "FAKETIME")
_PIPE_SIZE = 4096  # what a pipe takes at least without a reader


def start_fork_server() -> None:
    """Start what the processes are forked from, unless it runs: it stays until this process ends."""
    forkserver.ensure_running()


def needs_fresh_python(more: Mapping[str, str], stdin: str) -> bool:
    """Return whether a call with these variables, or this input, cannot be forked."""
    return (
        _has_own_namespaces()
        or any(name.startswith(_SETTINGS_OF_PYTHON) for name in more)
        or (len(stdin.encode()) > _PIPE_SIZE)
    )


def _has_own_namespaces() -> bool:
    """Return whether this process has entered a private machine, where the fork server is not."""
    pid = forkserver._forkserver._forkserver_pid
    if pid is None:
        return False
    try:
        return any(
            Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
            for kind in ("net", "mnt")
        )
    except OSError:  # not visible from here
        return True


def run_forked_orch(
    args: Sequence[str], *, cwd: Path, environ: Mapping[str, str], stdin: str, timeout: float
) -> tuple[int, str, str]:
    """Run orch until it exits and its output is closed; return the exit code, stdout and stderr.

    The code is negative after a signal. Raises subprocess.TimeoutExpired after ``timeout`` seconds,
    when it has been killed.
    """
    end = time.monotonic() + timeout
    typed, keyboard = _FORKS.Pipe(duplex=False)
    out, stdout = _FORKS.Pipe(duplex=False)
    err, stderr = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(
        target=_become_orch, args=((typed, stdout, stderr), args, cwd, dict(environ))
    )
    with out, err:
        with typed, keyboard, stdout, stderr:
            with _ONE_ASKS:
                process.start()
            os.write(keyboard.fileno(), stdin.encode())
        try:
            texts = _read_all((out, err), end)
            wait([process.sentinel], max(0.0, end - time.monotonic()))
            with _ONE_ASKS:
                code = process.exitcode
            if texts is None or code is None:
                raise subprocess.TimeoutExpired(["orch", *args], timeout)
            return code, *texts
        finally:
            with _ONE_ASKS:
                process.kill()
                process.join()
                process.close()


def _read_all(pipes: Sequence[Connection], end: float) -> tuple[str, str] | None:
    """Return what is written to both pipes until they are closed; None if that takes too long."""
    texts = {pipe: bytearray() for pipe in pipes}
    with selectors.DefaultSelector() as ready:
        for pipe in pipes:
            ready.register(pipe, selectors.EVENT_READ)
        while ready.get_map():
            if not (keys := ready.select(end - time.monotonic())):
                return None
            for key, _ in keys:
                data = os.read(key.fd, 1 << 16)
                texts[key.fileobj] += data  # type: ignore[index]
                if not data:
                    ready.unregister(key.fileobj)
    out, err = (_universal_lines(texts[pipe].decode()) for pipe in pipes)
    return out, err


def _universal_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _become_orch(
    streams: Sequence[Connection], args: Sequence[str], cwd: Path, environ: Mapping[str, str]
) -> None:
    """Go on as `python -m orchestrator` does, when it has imported its modules."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.path.insert(0, str(cwd))
    sys.argv = [str(_MAIN), *args]
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = open(  # noqa: SIM115 - open as long as the process
            number, mode, encoding="utf-8", errors="surrogateescape", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    main()
