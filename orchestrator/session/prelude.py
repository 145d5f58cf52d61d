"""The prelude: the shell text that a session sends once, before anything else."""

from __future__ import annotations

import math
import re
import shlex
from functools import cache
from pathlib import Path

from orchestrator.session.quoting import escaped

RUN = "ORCH_RUN"
"""The environment variable of all steps that tells which run they are a part of."""

_GRACE_NAPS = 10  # tenths of a second


def seconds(value: float) -> str:
    """``SECONDS WHOLE-SECONDS`` as the prelude's alarm wants them; the second is rounded up."""
    exact = f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")
    return f"{exact} {max(1, math.ceil(value))}"


def prelude(nonce: str, lease: float, *, run: str = "", fds: str = "/dev/fd") -> bytes:
    """The text for one session: one line, quoted as a whole.

    The nonce comes first, so that it is unset and no segment runs where something ate the
    beginning. It stands there in two halves, so that a host which echoes its input cannot be
    taken for one that answers. ``lease`` is in seconds. ``run`` is what the steps find in the
    variable ``RUN``; '' leaves that as it is. ``fds`` is the folder that holds a
    process's own descriptors; on a host without it, texts travel another, slower way.
    """
    half = len(nonce) // 2
    values = {"LEASE": seconds(lease), "GRACE": str(_GRACE_NAPS), "FDS": fds}
    text = re.sub(r"%([A-Z]+)%", lambda found: values[found[1]], _template())
    # Background jobs get /dev/null for 0, and the watcher needs the real one. Not in the eval:
    # bash 5.2 crashes when it duplicates there what it reads its commands from.
    nonce = f"{nonce[:half]}''{nonce[half:]}"
    first = f"{{ set +aeuvx; }} 2>/dev/null;unset o_nonce;o_nonce={nonce};exec 3<&0;"
    first += f"{RUN}={shlex.quote(run)};export {RUN};" if run else ""
    return first.encode() + b"eval \"$(printf %b '" + escaped(text) + b"')\"\n"


@cache
def _template() -> str:
    lines = Path(__file__).with_name("prelude.sh").read_text("utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
