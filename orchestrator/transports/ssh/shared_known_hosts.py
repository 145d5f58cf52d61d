"""The known_hosts files of another machine, which a worker there trusts like its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from orchestrator.errors import ConnectError
from orchestrator.transports.ssh.known_hosts import HostKeyMatch, KnownHosts
from orchestrator.yamlio.local_files import read_file

OTHER_MACHINE = "coordinator:"
"""Stands before the path of a file of the other machine."""


class SharedKnownHosts(Protocol):
    """The known_hosts files of another machine. Thread-safe."""

    def read(self, names: tuple[str, ...]) -> Sequence[tuple[str, bytes]]:
        """Return the path and content of each of the files that exists."""

    def record(
        self, names: tuple[str, ...], name: str, key_type: str, blob: bytes, hash_name: bool
    ) -> HostKeyMatch:
        """Add the key to the first of the files, as ``KnownHosts.add`` does.

        Raises ConnectError.
        """


class OwnKnownHosts:
    """The files of this machine, for others; ``~`` is ``home``."""

    def __init__(self, home: Path) -> None:
        """Read nothing yet."""
        self._home, self._lock = home, threading.Lock()
        self._indexes: dict[tuple[str, ...], KnownHosts] = {}

    def read(self, names: tuple[str, ...]) -> Sequence[tuple[str, bytes]]:
        """Implement ``SharedKnownHosts.read``. Raises ConnectError."""
        found = []
        for path in known_hosts_paths(names, self._home):
            try:
                found.append((f"{OTHER_MACHINE}{path}", read_file(path)))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConnectError("host key", f"can't read {path}: {error.strerror}") from error
        return found

    def record(
        self, names: tuple[str, ...], name: str, key_type: str, blob: bytes, hash_name: bool
    ) -> HostKeyMatch:
        """Implement ``SharedKnownHosts.record``. Raises ConnectError."""
        paths = known_hosts_paths(names, self._home)
        try:
            with self._lock:
                index = self._indexes.setdefault(names, KnownHosts(paths))
            return index.add(name, key_type, blob, write_file=True, hash_name=hash_name)
        except OSError as error:
            raise ConnectError(
                "host key", f"can't write to {paths[0]}: {error.strerror}"
            ) from error


def known_hosts_paths(names: tuple[str, ...], home: Path) -> list[Path]:
    """Return the paths of known_hosts files; ``none`` is an empty one."""
    names = ("/dev/null",) if names == ("none",) else names
    return [home / name[2:] if name.startswith("~/") else Path(name) for name in names]
