"""Scopes and real shells for the tests of templating."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.errors import SourcePosition, suggest_nearest
from orchestrator.templating import ResultPending

SHELLS = (("dash",), ("bash",), ("busybox", "sh"))
HERE = SourcePosition("<test>", 0, 0)


class PlainScope:
    """A scope of plain values; ``host`` names come from a host, ``later`` names are pending."""

    def __init__(self, host: Iterable[str] = (), later: Iterable[str] = (), **values: Any) -> None:
        self.values, self.host, self.later = values, set(host), set(later)
        self.asked: list[str] = []

    def resolve(self, name: str) -> object:
        self.asked.append(name)
        if name in self.later:
            raise ResultPending({name})
        return self.values[name]

    def from_host(self, name: str) -> bool:
        return name in self.host

    def hint(self, name: str) -> str:
        return suggest_nearest(name, self.names())

    def names(self) -> Iterable[str]:
        return self.values

    def origin(self, name: str, hops: int = 0) -> None:
        return None


def run_shell(
    shell: tuple[str, ...], script: str, folder: Path, environment: dict[str, str] | None = None
) -> tuple[bytes, bytes]:
    """Return a script's output on stdout and stderr; the folder must stay empty."""
    path = os.environ["PATH"]
    file = folder.parent / f"{folder.name}.script"
    file.write_bytes(os.fsencode(script))
    done = subprocess.run(
        [*shell, str(file)],
        cwd=folder,
        env={"PATH": path, "LC_ALL": "C", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not list(folder.iterdir()), "a file was made"
    return done.stdout, done.stderr
