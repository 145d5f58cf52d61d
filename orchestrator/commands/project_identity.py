"""A name for a project that is the same in every checkout."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from orchestrator.model.lazy_regex import lazy_regex

_UNSAFE_CHARS = lazy_regex(r"[^A-Za-z0-9._-]")
_URL = lazy_regex(r"[a-z][a-z+]*://(?:[^/@]*@)?([^/:]+)(?::[0-9]*)?/(.+)", re.S | re.I)
_SCP_URL = lazy_regex(r"(?:[^/@:]*@)?([^/:]+):(.+)", re.S)


def project_identity(root: Path) -> str:
    """Return a file name that identifies the project at ``root``.

    It is derived from the URL of its git remote ``origin`` and the folder inside the repository;
    without a remote it is the folder's name.
    """
    address, top = _git_origin(root), _git_root(root)
    if not address or top is None:
        return _UNSAFE_CHARS.sub("_", root.name) or "_"
    repository = normalize_repository(address)
    identity_text = f"{repository}\n{root.relative_to(top)}"
    digest = hashlib.sha256(identity_text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{_UNSAFE_CHARS.sub('_', repository.rpartition('/')[2])}-{digest}"


def normalize_repository(address: str) -> str:
    """Return the repository's address without user, protocol and the ``.git`` suffix."""
    remote = _URL.fullmatch(address) or _SCP_URL.fullmatch(address)
    whole = f"{remote[1].lower()}/{remote[2].lstrip('/')}" if remote else address
    return whole.rstrip("/").removesuffix(".git")


def _git_origin(root: Path) -> str:
    """Return the URL of the remote, or ''.

    The folder's owner does not matter, because no hook of it is run.
    """
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


def _git_root(root: Path) -> Path | None:
    return next((each for each in (root, *root.parents) if (each / ".git").exists()), None)
