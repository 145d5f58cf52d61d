"""The private folder of the brokers' sockets, and who is at the other end of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import orchestrator

RUNTIME_VARIABLE = "XDG_RUNTIME_DIR"
_CODE_FOLDERS = ("", "remote_shell", "transports", "transports/broker", "transports/ssh")
_MAX_SOCKET_PATH = 100  # bytes; sun_path has 104 on macOS and 108 on Linux


class UnsafeFolderError(Exception):
    """The folder of the sockets is not the user's own."""


def broker_socket_path(project: Path, environ: Mapping[str, str]) -> Path:
    """Return the path of the socket of this user's broker for a project.

    Its folder is made if it does not exist: ``orch`` in ``$XDG_RUNTIME_DIR``, else
    ``/tmp/orch-UID``. Raises UnsafeFolderError if another user could have made or can write it, and
    OSError.
    """
    name = hashlib.sha256(os.fsencode(project.resolve())).hexdigest()[:16] + ".sock"
    runtime = environ.get(RUNTIME_VARIABLE, "")
    folder = Path(runtime, "orch") if runtime.startswith("/") and Path(runtime).is_dir() else None
    if folder is None or len(os.fsencode(folder / name)) > _MAX_SOCKET_PATH:
        folder = Path(f"/tmp/orch-{os.getuid()}")
    make_private_folder(folder)
    return folder / name


def make_private_folder(folder: Path) -> None:
    """Make the folder with mode 0700, or check that it is the user's own. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFolderError(f"{folder} is not a folder")
    if status.st_uid != os.getuid():
        raise UnsafeFolderError(f"{folder} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UnsafeFolderError(f"{folder} is open to others (chmod 700 {folder})")


def peer_uid(sock: socket.socket) -> int:
    """Return the user ID of the process at the other end of a Unix socket; -1 if unknown.

    SO_PEERCRED of unix(7); LOCAL_PEERCRED on macOS and the BSDs (``struct xucred``).
    """
    try:
        if sys.platform == "linux":
            size = struct.calcsize("3i")
            found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            return int(struct.unpack("3i", found)[1])
        return int(struct.unpack_from("II", sock.getsockopt(0, 1, 128))[1])
    except (OSError, struct.error):
        return -1


def code_identity() -> str:
    """Return what identifies the code that runs: the version, and the state of its files."""
    root = Path(orchestrator.__file__).parent
    digest = hashlib.sha256(f"{orchestrator.__version__}\n{sys.version}\n{root}".encode())
    for folder in _CODE_FOLDERS:
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.name.endswith((".py", ".sh")):
                    status = entry.stat()
                    text = f"\n{entry.name} {status.st_mtime_ns} {status.st_size} {status.st_ino}"
                    digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
