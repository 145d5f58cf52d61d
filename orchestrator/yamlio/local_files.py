"""Local files and folders: safe reading, listing, and paths for display.

No file name and no kind of file (FIFO, device) makes a function hang.
"""

from __future__ import annotations

import errno
import os
from contextvars import ContextVar
from pathlib import Path

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


class DisplayFolders(Struct, frozen=True):
    """Where paths are displayed from, in a process that plans for another one.

    ``folder`` is the working directory of the other process. The folder ``root`` of this process is
    shown as ``shown_root``.
    """

    folder: str
    root: str
    shown_root: str


DISPLAY_FOLDERS: ContextVar[DisplayFolders | None] = ContextVar("display folders", default=None)
"""The folders of the current thread; None: this process, as it is."""


def displayed_path(text: str) -> Path:
    """Return the path that ``display_path`` returned this text for."""
    folders = DISPLAY_FOLDERS.get()
    if folders is None:
        return Path(text)
    path = Path(os.path.normpath(Path(folders.folder, text)))
    if path.is_relative_to(folders.shown_root):
        return Path(folders.root, path.relative_to(folders.shown_root))
    return path


def display_path(path: Path) -> str:
    """Return the path for display.

    It is relative to the working directory if that is near and makes the path shorter.
    """
    folders = DISPLAY_FOLDERS.get()
    if folders is not None and path.is_relative_to(folders.root):
        path = Path(folders.shown_root, path.relative_to(folders.root))
    try:
        near = os.path.relpath(path, folders.folder if folders is not None else None)
    except FileNotFoundError:  # the working directory was deleted
        return str(path)
    whole = str(path.absolute())
    return whole if near.startswith("../../..") or len(near) > len(whole) else near
