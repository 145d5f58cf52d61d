"""Local files and folders: safe reading, listing, and paths for display.

No file name and no kind of file (FIFO, device) makes a function hang.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.yamlio.naming_rules import is_ignored, yaml_stem

MAX_FILE_BYTES = 64 << 20  # bytes


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a file or pipe.

    Raises OSError if the file cannot be read, has more than ``max_bytes`` bytes (``/dev/zero`` is
    endless) or has an invalid name. A FIFO without a writer is empty.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            os.set_blocking(file.fileno(), True)
            data = file.read(max_bytes + 1)
    except ValueError:  # a NUL in the name, or a character that the file system cannot encode
        raise OSError(errno.EINVAL, "invalid file name", str(path)) from None
    except OSError as error:  # an error of read() has no file name
        error.filename = str(path)
        raise
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes} bytes", str(path))
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def is_directory(path: Path) -> bool:
    """Return True if the folder exists; False for an invalid name."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises OSError for a name too long


def path_exists(path: Path) -> bool:
    """Return True if the file or folder exists; False for an invalid name."""
    return os.path.exists(path)  # noqa: PTH110 - as above


def expand_home(text: str) -> Path:
    """Return the path with a leading ``~`` or ``~user`` replaced by the home folder.

    If there is no such user, the path is returned unchanged.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises RuntimeError


_DIGITS = lazy_regex(r"([0-9]+)")


class DirectoryListing(Struct, frozen=True):
    """The entries of a folder except ignored ones, in natural order.

    ``files`` maps the stems of YAML files to their names.
    """

    files: dict[str, str]
    folders: tuple[str, ...]
    others: tuple[str, ...]


def list_directory(folder: Path, shown: str, problems: DiagnosticCollector) -> DirectoryListing:
    """Return the entries of ``folder``; duplicate stems and read errors are reported."""
    files: dict[str, str] = {}
    folders: list[str] = []
    others: list[str] = []
    for name, is_folder in _read_entries(folder, shown, problems):
        base = yaml_stem(name)
        if is_folder:
            folders.append(name)
        elif base is None:
            others.append(name)
        elif base in files:
            what = f"'{files[base]}' and '{name}' define the same name"
            problems.add(what, SourcePosition(f"{shown}/{name}"), "remove one of them")
        else:
            files[base] = name
    return DirectoryListing(files, tuple(folders), tuple(others))


def _read_entries(
    folder: Path, shown: str, problems: DiagnosticCollector
) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            found = [(e.name, e.is_dir()) for e in entries if not is_ignored(e.name)]
    except OSError as error:
        problems.add(
            f"cannot read {shown}: {(error.strerror or '').lower()}", SourcePosition(shown)
        )
        return []
    return sorted(found, key=lambda entry: natural_sort_key(entry[0]))


def natural_sort_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts ``web2`` before ``web10``; ties are resolved by the name."""
    parts = _DIGITS.split(name.lower())
    return [(1, 0, p) if i % 2 == 0 else (0, int(p), "") for i, p in enumerate(parts)], name


class RemoteFiles(Protocol):
    """The files of another process, which this one plans for.

    ``has_begun``: the run has begun, so that steps may have changed files since they were copied.
    """

    has_begun: bool

    def ask(self, what: str, *arguments: Any) -> Any:
        """Return what the other process finds in its files. Raises its errors."""

    def bring(self, files: Sequence[tuple[str, int, str]]) -> list[str]:
        """Return paths here of files with the same contents, given by path, size and SHA-256."""

    def close(self) -> None:
        """Remove what was brought."""


class RemoteProject(Struct, frozen=True):
    """The project of another process, which this one plans for.

    ``folder`` is the working directory of the other process. Its folder ``shown_root`` is ``root``
    here, with the contents from before the run. ``files`` is None if all files are the same here.
    """

    folder: str
    root: str
    shown_root: str
    files: RemoteFiles | None = None

    def path_here(self, path: Path) -> Path | None:
        """Return where a file of the project is here; None for a path outside of the project."""
        if path.is_relative_to(self.shown_root):
            return Path(self.root, path.relative_to(self.shown_root))
        return None

    def path_there(self, path: Path) -> Path:
        """Return where a file of the project is in the other process."""
        if path.is_relative_to(self.root):
            return Path(self.shown_root, path.relative_to(self.root))
        return path


REMOTE_PROJECT: ContextVar[RemoteProject | None] = ContextVar("remote project", default=None)
"""The project that the current thread plans for; None: that of this process."""


def displayed_path(text: str) -> Path:
    """Return the path that ``display_path`` returned this text for."""
    remote = REMOTE_PROJECT.get()
    if remote is None:
        return Path(text)
    path = Path(os.path.normpath(Path(remote.folder, text)))
    return remote.path_here(path) or path


def display_path(path: Path) -> str:
    """Return the path for display.

    It is relative to the working directory if that is near and makes the path shorter.
    """
    remote = REMOTE_PROJECT.get()
    if remote is not None:
        path = remote.path_there(path)
    try:
        near = os.path.relpath(path, remote.folder if remote is not None else None)
    except FileNotFoundError:  # the working directory was deleted
        return str(path)
    whole = str(path.absolute())
    return whole if near.startswith("../../..") or len(near) > len(whole) else near
