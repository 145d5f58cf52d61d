"""What tells a project from others, the same wherever it is checked out."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from orchestrator.model.lazy_regex import regex

_UNSAFE = regex(r"[^A-Za-z0-9._-]")
_URL = regex(r"[a-z][a-z+]*://(?:[^/@]*@)?([^/:]+)(?::[0-9]*)?/(.+)", re.S | re.I)
_AS_SSH_HAS_IT = regex(r"(?:[^/@:]*@)?([^/:]+):(.+)", re.S)


def identity(root: Path) -> str:
    """Return what tells the project at ``root`` from others: the address of its git repository's
    ``origin`` with the folder in there, or without one the folder's name. Fit to be a file's name.
    """
    address, top = _origin(root), _top(root)
    if not address or top is None:
        return _UNSAFE.sub("_", root.name) or "_"
    whole = same_address(address)
    where = f"{whole}\n{root.relative_to(top)}"
    digest = hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', whole.rpartition('/')[2])}-{digest}"


def same_address(address: str) -> str:
    """Return the repository's address as all who use it have it: without who logs in, how, and
    ``.git`` at its end."""
    remote = _URL.fullmatch(address) or _AS_SSH_HAS_IT.fullmatch(address)
    whole = f"{remote[1].lower()}/{remote[2].lstrip('/')}" if remote else address
    return whole.rstrip("/").removesuffix(".git")


def _origin(root: Path) -> str:
    """The address, or '' where there is none. Whose the folder is does not matter: orch runs no
    hook of it."""
    try:
        found = subprocess.run(
            ["git", "-c", "safe.directory=*", "config", "--get", "remote.origin.url"],
            cwd=root,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        return ""
    return found.stdout.decode("utf-8", "surrogateescape").strip()


def _top(root: Path) -> Path | None:
    return next((each for each in (root, *root.parents) if (each / ".git").exists()), None)
