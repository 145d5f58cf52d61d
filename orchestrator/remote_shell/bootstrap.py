"""The bootstrap: the shell text that a session sends once, before anything else."""

from __future__ import annotations

import math
import re
import shlex
from functools import cache
from pathlib import Path

from orchestrator.remote_shell.quoting import escape_printf

RUN_VARIABLE = "ORCH_RUN"
"""The environment variable that holds the run ID in all steps."""

_GRACE_NAPS = 10  # tenths of a second


def alarm_seconds(value: float) -> str:
    """Return ``SECONDS WHOLE-SECONDS`` for the bootstrap's alarm; the second is rounded up."""
    exact = f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")
    return f"{exact} {max(1, math.ceil(value))}"


def bootstrap_script(nonce: str, lease: float, *, run: str = "", fds: str = "/dev/fd") -> bytes:
    """Return the bootstrap text of one session: one line, quoted as a whole.

    The nonce comes first: if the beginning of the stream is lost, the nonce is unset and no
    pipeline runs. The nonce is written in two halves, so that an echo of the input is not taken for
    an answer.

    ``lease`` is in seconds. ``run`` is the value of the variable ``RUN_VARIABLE`` in all steps; ''
    leaves the variable unchanged. ``fds`` is the folder of a process's own file descriptors;
    without it on the host, texts are passed in a slower way.
    """
    half = len(nonce) // 2
    values = {"LEASE": alarm_seconds(lease), "GRACE": str(_GRACE_NAPS), "FDS": fds}
    text = re.sub(r"%([A-Z]+)%", lambda found: values[found[1]], _bootstrap_template())
    # Background jobs get /dev/null as stdin, but the watcher needs the real one. Not inside the
    # eval: bash 5.2 crashes there when it duplicates the descriptor that it reads commands from.
    nonce = f"{nonce[:half]}''{nonce[half:]}"
    first = f"{{ set +aeuvx; }} 2>/dev/null;unset o_nonce;o_nonce={nonce};exec 3<&0;"
    return (
        first.encode()
        + (run_assignment(run) + b";" if run else b"")
        + b"eval \"$(printf %b '"
        + escape_printf(text)
        + b"')\"\n"
    )


def run_assignment(run: str) -> bytes:
    """Return the shell text that gives the steps this run ID; '' unsets it."""
    if not run:
        return f"unset {RUN_VARIABLE}".encode()
    return f"{RUN_VARIABLE}={shlex.quote(run)};export {RUN_VARIABLE}".encode()


@cache
def _bootstrap_template() -> str:
    lines = Path(__file__).with_name("bootstrap.sh").read_text("utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
