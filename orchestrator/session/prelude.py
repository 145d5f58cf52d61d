"""The prelude: the shell text that a session sends once, before anything else."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

_GRACE_NAPS = 10  # tenths of a second


def seconds(value: float) -> str:
    """``SECONDS WHOLE-SECONDS`` as the prelude's alarm wants them; the second is rounded up."""
    exact = f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")
    return f"{exact} {max(1, math.ceil(value))}"


def prelude(nonce: str, lease: float, *, fds: str = "/dev/fd") -> bytes:
    """The text for one session.

    ``nonce`` stands in it in two halves, so that a host which echoes its input cannot be
    taken for one that answers. ``lease`` is in seconds. ``fds`` is the folder that holds a
    process's own descriptors; on a host without it, texts travel another, slower way.
    """
    half = len(nonce) // 2
    values = {
        "NONCE": f"{nonce[:half]}''{nonce[half:]}",
        "LEASE": seconds(lease),
        "GRACE": str(_GRACE_NAPS),
        "FDS": fds,
    }
    return re.sub(r"%([A-Z]+)%", lambda found: values[found[1]], _template()).encode()


@cache
def _template() -> str:
    lines = Path(__file__).with_name("prelude.sh").read_text("utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
