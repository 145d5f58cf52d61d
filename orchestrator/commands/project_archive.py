"""A project as one file, for workers that do not share its folder, with a digest of its contents.

Left out are hidden folders at the top (`.git`, `.orch`, `.venv`) and bytecode.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.model.text_encoding import encode_text

_PIECE = 1 << 20
_CACHES = frozenset({"__pycache__", "node_modules"})


def project_digest(root: Path) -> str:
    """Return a digest of the names, kinds, modes and contents of all files. Raises OSError."""
    digest = hashlib.sha256()
    for path in _project_files(root):
        name = encode_text(str(path.relative_to(root)))
        if path.is_symlink():
            digest.update(b"l%s\0%s\0" % (name, encode_text(str(path.readlink()))))
            continue
        status = path.stat()
        digest.update(b"f%s\0%o\0%d\0" % (name, status.st_mode & 0o777, status.st_size))
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def pack_project(root: Path) -> bytes:
    """Return the files in an archive. Raises OSError."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as archive:
        for path in _project_files(root):
            archive.add(path, str(path.relative_to(root)), recursive=False)
    return data.getvalue()


def unpack_project(data: bytes, folder: Path) -> None:
    """Put the files of an archive into a new private folder, completely or not at all.

    Raises OSError and tarfile.TarError.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(staging, filter="data")
    try:
        staging.rename(folder)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not folder.is_dir():  # else another worker was faster
            raise


def _project_files(root: Path) -> Iterator[Path]:
    """Yield the files and links below the root, in a fixed order."""
    for folder, folders, files in os.walk(root):
        at_top = Path(folder) == root
        folders[:] = sorted(
            name
            for name in folders
            if not (at_top and name.startswith(".")) and name not in _CACHES
        )
        linked = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted((*files, *linked)):
            path = Path(folder) / name
            if path.is_symlink() or path.is_file():
                yield path
