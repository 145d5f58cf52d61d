"""Describes the current run for its record: who started it, how, and from which commit."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.commands.context import ProjectContext, current_user


def describe_invocation(context: ProjectContext) -> dict[str, Any]:
    """Return the fields of a run's record that say who started it, and how; secrets are masked."""
    mask = context.secrets.masker.mask_text
    return {
        "argv": [mask(word) for word in sys.argv[1:]],
        "user": current_user(),
        "version": orchestrator.__version__,
    }


class GitState:
    """The commit of a project's git repository, asked for while the run proceeds."""

    def __init__(self, root: Path) -> None:
        """Start git, if the project is in a repository and git is installed."""
        self._process: subprocess.Popen[bytes] | None = None
        if any((folder / ".git").exists() for folder in (root, *root.parents)):
            command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch"]
            with suppress(OSError):
                self._process = subprocess.Popen(
                    [*command, "--untracked-files=no"],
                    cwd=root,
                    env={**os.environ, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )

    def result(self) -> dict[str, Any]:
        """Return ``commit``, and ``is_dirty`` (files differ from it); nothing if it is not known.

        git is ended if it takes longer than half a second more.
        """
        if self._process is None:
            return {}
        try:
            out, _ = self._process.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return {}
        lines = out.decode("utf-8", "surrogateescape").splitlines()
        found = [line.split()[2] for line in lines if line.startswith("# branch.oid ")]
        if self._process.returncode or not found or not found[0].isalnum():
            return {}
        return {
            "commit": found[0],
            "is_dirty": any(not line.startswith("#") for line in lines),
        }
