"""Local files by the names that people and files give: no name and no file ends in a hang.

What of a folder is ours to read, and how paths are shown.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.yamlio.naming_rules import is_ignored, yaml_stem

MAX_FILE_BYTES = 64 << 20  # bytes


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a file, of a pipe as well.

    Raises OSError where it cannot be read, has more than ``max_bytes`` bytes (``/dev/zero`` has no
    end) or has a name that no file can have. A FIFO that nobody writes to is empty.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            os.set_blocking(file.fileno(), True)
            data = file.read(max_bytes + 1)
    except ValueError:  # a NUL in the name, or what the file system's encoding does not have
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    except OSError as error:  # of a read: it names no file
        error.filename = str(path)
        raise
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes} bytes", str(path))
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def is_directory(path: Path) -> bool:
    """Return True if there is such a folder; False for a name that none can have."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises OSError for a name too long


def path_exists(path: Path) -> bool:
    """Return True if there is such a file or folder; False for a name that none can have."""
    return os.path.exists(path)  # noqa: PTH110 - as above


def expand_home(text: str) -> Path:
    """Return the path with ``~`` or ``~user`` at its beginning as that home folder; as it is
    where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises RuntimeError


_DIGITS = lazy_regex(r"([0-9]+)")


class DirectoryListing(Struct, frozen=True):
    """What a folder holds, without what is ignored by rule; each in natural order.

    ``files`` are the YAML files' names by their stems.
    """

    files: dict[str, str]
    folders: tuple[str, ...]
    others: tuple[str, ...]


def list_directory(folder: Path, shown: str, problems: DiagnosticCollector) -> DirectoryListing:
    """What ``folder`` holds; ``a.yml`` beside ``a.yaml`` is a problem, as is no permission."""
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
            what = f"'{files[base]}' and '{name}' are two files for one name"
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
    """A key that sorts ``web2`` before ``web10``; the name itself settles ties."""
    parts = _DIGITS.split(name.lower())
    return [(1, 0, p) if i % 2 == 0 else (0, int(p), "") for i, p in enumerate(parts)], name


def display_path(path: Path) -> str:
    """The path as the user would type it: relative to where they stand, where that is near and
    shorter."""
    try:
        near = os.path.relpath(path)
    except FileNotFoundError:  # where they stand was deleted
        return str(path)
    whole = str(path.absolute())
    return whole if near.startswith("../../..") or len(near) > len(whole) else near
