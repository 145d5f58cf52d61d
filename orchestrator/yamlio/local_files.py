"""Local files by the names that people and files give: no name and no file ends in a hang.

What of a folder is ours to read, and how paths are shown.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import Mark, Problems
from orchestrator.model.lazy_regex import regex
from orchestrator.yamlio.naming_rules import ignored, stem

MOST = 64 << 20  # bytes


def read_file(path: Path, most: int = MOST) -> bytes:
    """Return the bytes of a file, of a pipe as well.

    Raises OSError where it cannot be read, has more than ``most`` bytes (``/dev/zero`` has no
    end) or has a name that no file can have. A FIFO that nobody writes to is empty.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            os.set_blocking(file.fileno(), True)
            data = file.read(most + 1)
    except ValueError:  # a NUL in the name, or what the file system's encoding does not have
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    except OSError as error:  # of a read: it names no file
        error.filename = str(path)
        raise
    if len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", str(path))
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def is_folder(path: Path) -> bool:
    """Return True if there is such a folder; False for a name that none can have."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises OSError for a name too long


def is_there(path: Path) -> bool:
    """Return True if there is such a file or folder; False for a name that none can have."""
    return os.path.exists(path)  # noqa: PTH110 - as above


def expand_home(text: str) -> Path:
    """Return the path with ``~`` or ``~user`` at its beginning as that home folder; as it is
    where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises RuntimeError


_DIGITS = regex(r"([0-9]+)")


class Folder(Struct, frozen=True):
    """What a folder holds, without what is ignored by rule; each in natural order.

    ``files`` are the YAML files' names by their stems.
    """

    files: dict[str, str]
    folders: tuple[str, ...]
    others: tuple[str, ...]


def listing(folder: Path, shown: str, problems: Problems) -> Folder:
    """What ``folder`` holds; ``a.yml`` beside ``a.yaml`` is a problem, as is no permission."""
    files: dict[str, str] = {}
    folders: list[str] = []
    others: list[str] = []
    for name, is_folder in _entries(folder, shown, problems):
        base = stem(name)
        if is_folder:
            folders.append(name)
        elif base is None:
            others.append(name)
        elif base in files:
            what = f"'{files[base]}' and '{name}' are two files for one name"
            problems.add(what, Mark(f"{shown}/{name}"), "remove one of them")
        else:
            files[base] = name
    return Folder(files, tuple(folders), tuple(others))


def _entries(folder: Path, shown: str, problems: Problems) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            found = [(e.name, e.is_dir()) for e in entries if not ignored(e.name)]
    except OSError as error:
        problems.add(f"cannot read {shown}: {(error.strerror or '').lower()}", Mark(shown))
        return []
    return sorted(found, key=lambda entry: natural(entry[0]))


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key that sorts ``web2`` before ``web10``; the name itself settles ties."""
    parts = _DIGITS.split(name.lower())
    return [(1, 0, p) if i % 2 == 0 else (0, int(p), "") for i, p in enumerate(parts)], name


def show(path: Path) -> str:
    """The path as the user would type it: relative to where they stand, where that is near and
    shorter."""
    try:
        near = os.path.relpath(path)
    except FileNotFoundError:  # where they stand was deleted
        return str(path)
    whole = str(path.absolute())
    return whole if near.startswith("../../..") or len(near) > len(whole) else near
