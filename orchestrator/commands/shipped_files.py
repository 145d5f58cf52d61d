"""Finds the files of the repository that orch also has when it is installed as a package."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import orchestrator


def shipped_file(name: str) -> Path:
    """Return the path of a file such as ``tasks/deploy.yml``, in the checkout or the package."""
    checkout = Path(orchestrator.__file__).parents[1] / name
    if checkout.exists():
        return checkout
    return Path(sysconfig.get_path("data")) / "share" / "orch" / name
