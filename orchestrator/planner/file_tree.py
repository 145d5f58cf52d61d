"""Trees of the project's files that steps bring to hosts: listed once per run.

A tree has a manifest, a line for each entry, parents first:

    f MODE SHA256 NAME      a file
    l - TARGET NAME         a link, with what it points to
    d - - NAME              a folder; the first line is the tree's own, `.`

A NAME begins with `./`. One with a newline, a backslash or a carriage return in it, or with a
space at its end, is written in octal, ``\\0ooo`` for each of its bytes (as printf(1) takes it for
%b); so is every TARGET. A tree that is one file has one line, whose NAME is `\\0056`.

Its bytes travel as a tar archive (ustar, POSIX.1-1988, with GNU's members for long names): the
files, then the links, with `t/` for the `./` of their names; the one file is `t`. `m`, where it is
in there, is the manifest.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from threading import Lock

from msgspec import Struct, field

from orchestrator.errors import OrchError, Problem
from orchestrator.model.command import Bytes
from orchestrator.yamlio.local_files import show

_CHUNK = 1 << 20
_BLOCK = 512  # bytes (pax, POSIX.1-2017: ustar Interchange Format)
_PRIVATE = 0o077
_END = bytes(2 * _BLOCK)
"""What ends an archive."""
_HELD = 64 << 20
"""Archives of up to so many bytes are made once, and kept for the other hosts: to open many small
files, and to see that they are as they were, takes longer than to send them."""
_PIECE = 1 << 17
_SHORT = 100
"""Bytes of a name that a header has room for."""


class Entry(Struct, frozen=True):
    """What stands at one path of a tree. ``kind``: f, l or d; ``told``: a file's SHA-256, what
    a link points to."""

    kind: str
    name: bytes
    path: str
    mode: int = 0
    told: bytes = b""
    size: int = 0


class Tree(Struct, frozen=True):
    """The files and links below a folder, or one file. ``shared`` are archives that are held."""

    manifest: bytes
    files: tuple[Entry, ...]
    links: tuple[Entry, ...] = ()
    shared: dict[bool, _Shared] = field(default_factory=dict)

    @property
    def listed(self) -> Bytes:
        """An archive that holds the manifest and nothing else."""
        size = _room(len(self.manifest)) + len(_END)
        return Bytes(size, self._digest, read=self._list)

    def packed(self, *, whole: bool) -> Bytes:
        """The archive, made from the files; with the manifest where it is ``whole``. Reading it
        raises OrchError where a file is not as it was."""
        size = sum(_room(entry.size) + _named_room(entry) for entry in self.files)
        size += sum(_room(0) + _named_room(entry) for entry in self.links)
        size += (_room(len(self.manifest)) if whole else 0) + len(_END)
        if size > _HELD:
            return Bytes(size, self._digest, read=partial(self.archive, whole=whole))
        made = _Shared(partial(self.archive, whole=whole))
        # setdefault is atomic: hosts are planned at the same time
        return Bytes(size, self._digest, read=self.shared.setdefault(whole, made).pieces)

    def archive(self, *, whole: bool) -> Iterator[bytes]:
        """The archive, some bytes at a time."""
        if whole:
            yield from self._list_alone()
        for entry in self.files:
            yield _header(entry)
            yield from _contents(entry)
            yield _padding(entry.size)
        for entry in self.links:
            yield _header(entry)
        yield _END

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    def _list(self) -> Iterator[bytes]:
        yield from self._list_alone()
        yield _END

    def _list_alone(self) -> Iterator[bytes]:
        size = len(self.manifest)
        yield _block(b"m", 0o600, size)
        yield self.manifest
        yield _padding(size)


class _Shared:
    """Bytes that are made once, piece by piece, as the first of several readers asks for them."""

    def __init__(self, make: Callable[[], Iterator[bytes]]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[bytes] = []
        self._source: Iterator[bytes] | None = None
        self._over = False
        self._error: OrchError | None = None

    def pieces(self) -> Iterator[bytes]:
        """All of them, from the first. Raises what making them raised."""
        at = 0
        while True:
            with self._lock:
                if at == len(self._made) and not self._over:
                    self._next()
                if at == len(self._made):
                    break
                piece = self._made[at]
            at += 1
            yield piece
        if self._error is not None:
            raise self._error

    def _next(self) -> None:
        if self._source is None:
            self._source = self._make()
        piece = bytearray()
        try:
            while not self._over and len(piece) < _PIECE:
                part = next(self._source, None)
                self._over = part is None
                piece += part or b""
        except OrchError as error:
            self._over, self._error = True, error
            return
        if piece:
            self._made.append(bytes(piece))


def tree(path: Path, exclude: Sequence[str]) -> Tree:
    """The file or folder at ``path``, without what the patterns match: the name of an entry or,
    where they have a slash in them, its path below the folder. Raises OSError, and OrchError for
    what is no file, folder or link."""
    if path.is_dir():
        patterns = [pattern.rstrip("/") for pattern in exclude]
        entries = [Entry("d", b".", str(path)), *_below(str(path), b".", patterns)]
    else:
        entries = [_file(str(path), b"")]
    files = tuple(entry for entry in entries if entry.kind == "f")
    links = tuple(entry for entry in entries if entry.kind == "l")
    return Tree(b"".join(map(_line, entries)), files, links)


def _below(folder: str, name: bytes, patterns: Sequence[str]) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        listed = sorted(found, key=lambda each: os.fsencode(each.name))
    for each in listed:
        inner = name + b"/" + os.fsencode(each.name)
        if patterns and _matches(os.fsdecode(inner[2:]), patterns):
            continue
        if each.is_symlink():
            to = os.readlink(each.path)  # noqa: PTH115 - a Path for each of many takes its time
            yield Entry("l", inner, each.path, told=os.fsencode(to))
        elif each.is_dir():
            yield Entry("d", inner, each.path)
            yield from _below(each.path, inner, patterns)
        elif each.is_file():
            yield _file(each.path, inner)
        else:
            raise _other(each.path)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path if "/" in p else name, p.removeprefix("/")) for p in patterns)


def _file(path: str, name: bytes) -> Entry:
    digest, size = hashlib.sha256(), 0
    # of many small files it is the opening that takes the time
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        bits = os.fstat(file).st_mode
        if not stat.S_ISREG(bits):
            raise _other(path)
        while chunk := os.read(file, _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    finally:
        os.close(file)
    return Entry(
        "f", name, path=path, mode=_mode(bits), told=digest.hexdigest().encode(), size=size
    )


def _other(path: str) -> OrchError:
    return OrchError(Problem(f"{show(Path(path))} is no file, folder or link"))


def _mode(bits: int) -> int:
    """As git keeps modes, so that the umask of whoever checked the project out is not in them; but
    what only its owner may read stays so."""
    mode = 0o755 if bits & stat.S_IXUSR else 0o644
    return mode if bits & _PRIVATE else mode & ~_PRIVATE


def _line(entry: Entry) -> bytes:
    mode = b"%04o" % entry.mode if entry.kind == "f" else b"-"
    told = _octal(entry.told) if entry.kind == "l" else entry.told or b"-"
    return b" ".join((entry.kind.encode(), mode, told, named(entry.name))) + b"\n"


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
        file = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while left and (chunk := os.read(file, min(left, _CHUNK))):
                left -= len(chunk)
                digest.update(chunk)
                yield chunk
        finally:
            os.close(file)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OrchError(Problem(f"cannot read {show(Path(entry.path))}: {why}")) from None
    if left or digest.hexdigest().encode() != entry.told:
        raise OrchError(Problem(f"{show(Path(entry.path))} changed during the run"))


def _header(entry: Entry) -> bytes:
    name, to = _member(entry), entry.told if entry.kind == "l" else b""
    before = b""
    for long, kind in ((to, b"K"), (name, b"L")):
        if len(long) > _SHORT:
            size = len(long) + 1
            before += _block(b"././@LongLink", 0, size, kind) + long + b"\0" + _padding(size)
    kind = b"2" if entry.kind == "l" else b"0"
    return before + _block(name[:_SHORT], entry.mode or 0o777, entry.size, kind, to[:_SHORT])


def _member(entry: Entry) -> bytes:
    return b"t" + entry.name[1:]


def _named_room(entry: Entry) -> int:
    """What a name, and what a link points to, take beside the header's own block."""
    texts = (_member(entry), entry.told if entry.kind == "l" else b"")
    return sum(_room(len(text) + 1) for text in texts if len(text) > _SHORT)


def _block(name: bytes, mode: int, size: int, kind: bytes = b"0", to: bytes = b"") -> bytes:
    """A header (pax, POSIX.1-2017: ustar Interchange Format). tarfile's takes ten times as long."""
    octal = b"%011o\0" % size
    if len(octal) > 12:  # 8 GiB; as GNU's tar and busybox's have it
        octal = b"\x80" + size.to_bytes(11, "big")
    head = b"%s%07o\0%07o\0%07o\0%s%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, octal, 0)
    tail = (kind + to.ljust(100, b"\0") + b"ustar  \0").ljust(_BLOCK - len(head) - 8, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * ord(" ")) + tail


def _room(size: int) -> int:
    return _BLOCK + size + len(_padding(size))


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
