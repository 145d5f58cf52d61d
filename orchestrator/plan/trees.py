"""Trees of the project's files that steps bring to hosts: listed once per run, never held.

A tree has a manifest, a line for each entry, parents first:

    f MODE SHA256 NUMBER NAME      a file
    l - TARGET - NAME              a link, with what it points to
    d - - - NAME                   a folder; the first line is the tree's own, `.`

A NAME begins with `./`. One with a newline, a backslash or a carriage return in it, or with a
space at its end, is written in octal, ``\\0ooo`` for each of its bytes (as printf(1) takes it for
%b); so is every TARGET. A tree that is one file has one line, whose NAME is `\\0056`.

Its bytes travel as a tar archive (ustar, POSIX.1-1988) whose members are called by those numbers,
so that no name and no link in it has to be trusted; `m`, where it is in there, is the manifest.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import OrchError, Problem
from orchestrator.model.command import Bytes
from orchestrator.source.folder import show

_CHUNK = 1 << 20
_BLOCK = 512  # bytes (pax, POSIX.1-2017: ustar Interchange Format)
_PRIVATE = 0o077
_END = bytes(2 * _BLOCK)
"""What ends an archive."""


class Entry(Struct, frozen=True):
    """What stands at one path of a tree. ``kind``: f, l or d; ``told``: a file's SHA-256, what
    a link points to."""

    kind: str
    name: bytes
    path: Path
    mode: int = 0
    told: bytes = b""
    size: int = 0


class Tree(Struct, frozen=True):
    """The files below a folder, or one file: ``files`` in the order of their numbers from 1."""

    manifest: bytes
    files: tuple[Entry, ...]

    @property
    def listed(self) -> Bytes:
        """An archive that holds the manifest and nothing else."""
        size = _room(len(self.manifest)) + len(_END)
        return Bytes(size, self._digest, read=self._list)

    def packed(self, *, whole: bool) -> Bytes:
        """The archive, made anew from the files whenever it is read; with the manifest where it
        is ``whole``. Reading it raises OrchError where a file is not as it was."""
        size = sum(_room(entry.size) for entry in self.files)
        size += _room(len(self.manifest)) if whole else 0
        return Bytes(size + len(_END), self._digest, read=partial(self.archive, whole=whole))

    def archive(self, *, whole: bool) -> Iterator[bytes]:
        """The archive, some bytes at a time."""
        if whole:
            yield from (_header("m", len(self.manifest)), self.manifest)
            yield _padding(len(self.manifest))
        for number, entry in enumerate(self.files, 1):
            yield _header(str(number), entry.size, entry.mode)
            yield from _contents(entry)
            yield _padding(entry.size)
        yield _END

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    def _list(self) -> Iterator[bytes]:
        yield from (_header("m", len(self.manifest)), self.manifest, _padding(len(self.manifest)))
        yield _END


def tree(path: Path, exclude: Sequence[str]) -> Tree:
    """The file or folder at ``path``, without what the patterns match: the name of an entry or,
    where they have a slash in them, its path below the folder. Raises OSError, and OrchError for
    what is no file, folder or link."""
    if path.is_dir():
        patterns = [pattern.rstrip("/") for pattern in exclude]
        entries = [Entry("d", b".", path), *_below(path, b".", patterns)]
    else:
        entries = [_file(path, b"")]
    files = tuple(entry for entry in entries if entry.kind == "f")
    numbers = {entry.name: str(number) for number, entry in enumerate(files, 1)}
    return Tree(b"".join(_line(entry, numbers.get(entry.name, "-")) for entry in entries), files)


def _below(folder: Path, name: bytes, patterns: Sequence[str]) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        listed = sorted(found, key=lambda each: os.fsencode(each.name))
    for each in listed:
        path, inner = Path(each.path), name + b"/" + os.fsencode(each.name)
        if _matches(os.fsdecode(inner[2:]), patterns):
            continue
        if each.is_symlink():
            yield Entry("l", inner, path, told=_octal(os.fsencode(path.readlink())))
        elif each.is_dir():
            yield Entry("d", inner, path)
            yield from _below(path, inner, patterns)
        else:
            yield _file(path, inner)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path if "/" in p else name, p.removeprefix("/")) for p in patterns)


def _file(path: Path, name: bytes) -> Entry:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OrchError(Problem(f"{show(path)} is no file, folder or link"))
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        bits = os.fstat(file.fileno()).st_mode
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Entry("f", name, path, _mode(bits), digest.hexdigest().encode(), size)


def _mode(bits: int) -> int:
    """As git keeps modes, so that the umask of whoever checked the project out is not in them; but
    what only its owner may read stays so."""
    mode = 0o755 if bits & stat.S_IXUSR else 0o644
    return mode if bits & _PRIVATE else mode & ~_PRIVATE


def _line(entry: Entry, number: str) -> bytes:
    mode = b"%04o" % entry.mode if entry.kind == "f" else b"-"
    return (
        b" ".join(
            (entry.kind.encode(), mode, entry.told or b"-", number.encode(), named(entry.name))
        )
        + b"\n"
    )


def named(name: bytes) -> bytes:
    """A path as the manifest has it."""
    odd = any(byte in name for byte in (b"\n", b"\r", b"\\")) or name.endswith(b" ")
    return _octal(name or b".") if odd or not name else name


def _octal(text: bytes) -> bytes:
    return b"".join(b"\\0%03o" % byte for byte in text)


def _contents(entry: Entry) -> Iterator[bytes]:
    """The file's bytes, exactly as many as there were."""
    left, digest = entry.size, hashlib.sha256()
    try:
        with entry.path.open("rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                digest.update(chunk)
                yield chunk
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OrchError(Problem(f"cannot read {show(entry.path)}: {why}")) from None
    if left or digest.hexdigest().encode() != entry.told:
        raise OrchError(Problem(f"{show(entry.path)} changed during the run"))


def _header(name: str, size: int, mode: int = 0o600) -> bytes:
    import tarfile  # 2 ms for the runs that send no tree

    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    return info.tobuf(tarfile.GNU_FORMAT)


def _room(size: int) -> int:
    return _BLOCK + size + len(_padding(size))


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
