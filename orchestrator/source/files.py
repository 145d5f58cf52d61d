"""Local files by the names that people and files give: no name and no file ends in a hang."""

from __future__ import annotations

import errno
import os
from pathlib import Path

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
