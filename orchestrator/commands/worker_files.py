"""Files of the coordinator's machine that a worker on another one needs, also known_hosts.

What the worker's copy of the project has with the same contents is taken from there; the rest is
fetched into a folder that ends with the run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import ConnectError, Diagnostic, OrchError
from orchestrator.executor.worker_server import Coordinator
from orchestrator.transports.ssh.known_hosts import HostKeyMatch
from orchestrator.yamlio.local_files import RemoteProject, display_path

_PIECE_BYTES = 4 << 20
"""How much is fetched with one question."""
_FOLDER_PREFIX = "orch-files-"


class CoordinatorFiles:
    """Asks the coordinator about its files, and fetches them. Thread-safe.

    ``has_begun`` is set when the run begins.
    """

    def __init__(self, coordinator: Coordinator, root: str, shown_root: str) -> None:
        """Store where the copy of the project is here, and where the project is there."""
        self.has_begun = False
        self._coordinator = coordinator
        self._project = RemoteProject("", root, shown_root)
        self._lock = threading.Lock()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._folder: Path | None = None

    def ask(self, what: str, *arguments: Any) -> Any:
        """Implement ``RemoteFiles.ask``."""
        return self._coordinator.ask_for("files", what, *arguments)

    def bring(self, files: Sequence[tuple[str, int, str]]) -> list[str]:
        """Implement ``RemoteFiles.bring``. Raises OrchError."""
        paths, missing = list[str](), list[tuple[str, int, Path]]()
        for path, size, digest in files:
            own = self._project.path_here(Path(path))
            if own is not None and _has_contents(own, size, digest):
                paths.append(str(own))
                continue
            fetched = self._fetched_path(digest)
            paths.append(str(fetched))
            if not fetched.exists():
                missing.append((path, size, fetched))
        for small in _batches(missing):
            self._fetch_small(small)
        for path, size, fetched in missing:
            if size > _PIECE_BYTES:
                self._fetch_large(path, size, fetched)
        return paths

    def close(self) -> None:
        """Remove what was fetched."""
        with self._lock:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _fetched_path(self, digest: str) -> Path:
        with self._lock:
            if self._folder is None:
                remove_stale_folders(_FOLDER_PREFIX)
                self._folder = make_process_folder(_FOLDER_PREFIX)
            return self._folder / digest

    def _fetch_small(self, files: Sequence[tuple[str, int, Path]]) -> None:
        pieces = self.ask("pieces", [(path, 0, size + 1) for path, size, _ in files])
        for (path, _, fetched), data in zip(files, pieces or (), strict=True):
            if hashlib.sha256(data).hexdigest() != fetched.name:
                raise _changed_error(path)
            with tempfile.NamedTemporaryFile(dir=fetched.parent, delete=False) as file:
                file.write(data)
            Path(file.name).replace(fetched)

    def _fetch_large(self, path: str, size: int, fetched: Path) -> None:
        with self._locks[fetched.name]:
            if fetched.exists():
                return
            digest = hashlib.sha256()
            with tempfile.NamedTemporaryFile(dir=fetched.parent, delete=False) as file:
                for at in range(0, size, _PIECE_BYTES):
                    (data,) = self.ask("pieces", [(path, at, _PIECE_BYTES)]) or (b"",)
                    digest.update(data)
                    file.write(data)
            if digest.hexdigest() != fetched.name:
                Path(file.name).unlink()
                raise _changed_error(path)
            Path(file.name).replace(fetched)


class CoordinatorKnownHosts:
    """The known_hosts files of the coordinator's machine."""

    def __init__(self, coordinator: Coordinator, project: RemoteProject) -> None:
        """Store where the project is, which may have such files."""
        self._coordinator, self._project = coordinator, project

    def read(self, names: tuple[str, ...]) -> Sequence[tuple[str, bytes]]:
        """Implement ``SharedKnownHosts.read``. Raises ConnectError."""
        found: Sequence[tuple[str, bytes]]
        found = self._ask("known_hosts", names)
        return found

    def record(
        self, names: tuple[str, ...], name: str, key_type: str, blob: bytes, hash_name: bool
    ) -> HostKeyMatch:
        """Implement ``SharedKnownHosts.record``. Raises ConnectError."""
        new_key = (name, key_type, blob, hash_name)
        match: HostKeyMatch = self._ask("record_host_key", names, *new_key)
        return match

    def _ask(self, what: str, names: tuple[str, ...], *arguments: Any) -> Any:
        there = tuple(
            name if name.startswith("~") else str(self._project.path_there(Path(name)))
            for name in names
        )
        try:
            answer = self._coordinator.ask(what, there, *arguments)
        except OrchError as error:
            reason = f"at the coordinator: {error.diagnostics[0].message}"
            raise ConnectError("host key", reason) from error
        if answer is None:
            raise ConnectError("host key", "the coordinator has gone")
        return answer


def _batches(files: Sequence[tuple[str, int, Path]]) -> Iterator[list[tuple[str, int, Path]]]:
    """Yield the files that are small, as many as can be fetched with one question."""
    batch, total = list[tuple[str, int, Path]](), 0
    for each in files:
        if each[1] > _PIECE_BYTES:
            continue
        if batch and total + each[1] > _PIECE_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(each)
        total += each[1]
    if batch:
        yield batch


def _has_contents(path: Path, size: int, digest: str) -> bool:
    try:
        if path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


def _changed_error(path: str) -> OrchError:
    return OrchError(Diagnostic(f"{display_path(Path(path))} changed while it was read"))


def make_process_folder(prefix: str) -> Path:
    """Create a private folder of this process; see ``remove_stale_folders``."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))


def remove_stale_folders(prefix: str) -> None:
    """Remove the folders of this user's processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        with suppress(OSError):
            is_ours = path.lstat().st_uid == os.getuid() and pid.isdecimal()
            if is_ours and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
                shutil.rmtree(path, ignore_errors=True)
