"""Trees of project files that steps copy to hosts; each tree is listed once per run.

A tree has a manifest, one line for each entry, parents first:

    f MODE SHA256 NAME      a file; with times, MODE@SECONDS is its mode and when it was modified
    l - TARGET NAME         a symbolic link and its target
    d - - NAME              a folder; the first line is the tree's own, `.`
    d 0700 - NAME           a folder that only its owner may access

A NAME starts with `./`. A NAME with a newline, a backslash or a carriage return, or with a space at
its end, is written in octal, ``\\0ooo`` for each byte (the format of printf(1) for %b); so is every
TARGET. A tree that is a single file has one line, whose NAME is `\\0056`.

The contents are sent as a tar archive (ustar, POSIX.1-1988, with GNU's members for long names):
first the files, then the links, with `t/` in place of the `./` of their names; a single file is
`t`. The member `m`, if there is one, is the manifest.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.model.command import DeltaFile, LineRanges, UploadPayload
from orchestrator.yamlio.local_files import display_path

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 512  # bytes (pax, POSIX.1-2017: ustar Interchange Format)
_PRIVATE_BITS = 0o077
_END_OF_ARCHIVE = bytes(2 * _BLOCK_BYTES)
"""Two zero blocks, which end a tar archive."""
_MAX_SHARED_BYTES = 64 << 20
"""Archives up to this size are built once and kept in memory for the other hosts.

Opening many small files and verifying that they are unchanged takes longer than sending them.
"""
_MAX_SHARED_ARCHIVES = 4
_STAMP_MARGIN = 100_000_000
"""Nanoseconds for which another change could leave a file's times as they are (coarse clocks)."""
_PIECE_BYTES = 1 << 17
_MAX_NAME_BYTES = 100
"""Maximum length in bytes of a name in a ustar header."""
_MIN_DELTA_BYTES = 4_000_000
"""Size from which sending a file whole takes longer than to find out what differs."""
_MAX_LARGE_FILES = 1000
"""Limit of the large files of a tree that a host is told of, which is done in its script."""


ManifestLines: TypeAlias = "tuple[tuple[int, int], ...]"
"""Line ranges that can be the key of a dict."""


class TreeEntry(Struct, frozen=True):
    """One entry of a tree.

    ``mtime`` is when a file was modified, in seconds since 1970; negative if it does not matter.
    ``kind`` is f (file), l (link) or d (folder). ``content`` is a file's SHA-256, or a link's
    target. ``stamp`` differs if a file has changed since it was listed; empty if it may not.
    """

    kind: str
    name: bytes
    path: str
    mode: int = 0
    content: bytes = b""
    size: int = 0
    stamp: tuple[int, ...] = ()
    mtime: int = -1


class TreeOptions(Struct, frozen=True):
    """What of a folder is a part of its tree.

    Entries that match one of the patterns ``exclude`` are left out. With ``include``, so are
    entries that match none of its patterns, unless a folder above them does, and folders without
    entries. A pattern is matched against an entry's name or, if it contains a slash, its path below
    the folder. ``keep_modes``: files have all their permissions. ``follow``: links are replaced by
    what they lead to. ``times``: files have the times at which they were modified.
    ``whole_files``: they are sent whole, also to hosts that have older ones.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    keep_modes: bool = False
    follow: bool = False
    times: bool = False
    whole_files: bool = False


class FileTree(Struct, frozen=True):
    """The files and links below a folder, or one file.

    ``members`` are the entries of the archive, each with the number of its line in the manifest;
    ``lines`` is the number of all lines, ``large_lines`` are those of files of which only what
    differs may be sent. ``shared_archives`` are archives kept in memory, by whether they have the
    manifest, and by the lines of it that they are for.
    """

    manifest: bytes
    members: tuple[tuple[int, TreeEntry], ...]
    lines: int
    large_lines: tuple[int, ...] = ()
    shared_archives: dict[tuple[bool, ManifestLines | None], SharedPieces] = field(
        default_factory=dict
    )

    @property
    def manifest_archive(self) -> UploadPayload:
        """Return an archive that contains only the manifest."""
        size = _member_bytes(len(self.manifest)) + len(_END_OF_ARCHIVE)
        return UploadPayload(size, self._digest, read_chunks=self._manifest_chunks)

    def payload(self, *, whole: bool, lines: ManifestLines | None = None) -> UploadPayload:
        """Return the archive of the files and links, with the manifest if ``whole``.

        ``lines`` are those of the manifest whose entries are needed; None for all. Reading the
        chunks raises OrchError if a file has changed since it was listed.
        """
        members = self._members(lines)
        size = sum(_member_bytes(entry.size) + _long_name_bytes(entry) for _, entry in members)
        size += (_member_bytes(len(self.manifest)) if whole else 0) + len(_END_OF_ARCHIVE)
        read_chunks: Callable[[], Iterator[bytes]]
        read_chunks = partial(self.archive, whole=whole, lines=lines)
        key = (whole, lines)
        is_shared = key in self.shared_archives or len(self.shared_archives) < _MAX_SHARED_ARCHIVES
        if size <= _MAX_SHARED_BYTES and is_shared:
            # setdefault is atomic: hosts are planned in parallel
            shared = self.shared_archives.setdefault(key, SharedPieces(read_chunks))
            read_chunks = shared.pieces
        select = partial(self._select, whole=whole) if lines is None else None
        split = partial(self._split, whole=whole) if lines is None and self.large_lines else None
        return UploadPayload(
            size,
            self._digest,
            read_chunks=read_chunks,
            select=select,
            split=split,
            large_lines=self.large_lines,
        )

    def archive(self, *, whole: bool, lines: ManifestLines | None = None) -> Iterator[bytes]:
        """Yield the archive in pieces."""
        if whole:
            yield from self._manifest_member()
        for _, entry in self._members(lines):
            yield _member_header(entry)
            if entry.kind == "f":
                yield from _entry_bytes(entry)
                yield _padding(entry.size)
        yield _END_OF_ARCHIVE

    def _select(self, lines: LineRanges, *, whole: bool) -> UploadPayload:
        return self.payload(whole=whole, lines=tuple(lines))

    def _split(
        self, needed: LineRanges | None, old: LineRanges, *, whole: bool
    ) -> tuple[UploadPayload, list[DeltaFile]]:
        """Return the payload without the large files among the old lines, and these files."""
        is_old = self._flags(old)
        large = {number for number in self.large_lines if is_old[number]}
        members = self._members(None if needed is None else tuple(needed))
        rest = tuple((number, number) for number, _ in members if number not in large)
        files = [
            DeltaFile(
                path=entry.path,
                name=entry.name.removeprefix(b"./"),
                size=entry.size,
                digest=entry.content.decode(),
                mode=entry.mode,
                mtime=entry.mtime,
            )
            for number, entry in members
            if number in large
        ]
        return self.payload(whole=whole, lines=rest), files

    def _members(self, lines: ManifestLines | None) -> Sequence[tuple[int, TreeEntry]]:
        """Return the entries of the archive that are needed, with their line numbers."""
        if lines is None:
            return self.members
        is_needed = self._flags(lines)
        return [member for member in self.members if is_needed[member[0]]]

    def _flags(self, lines: LineRanges) -> bytearray:
        """Return for each line number whether it is in one of these ranges."""
        flags = bytearray(self.lines + 1)
        for first, last in lines:
            size = len(flags[first : last + 1])
            flags[first : first + size] = b"\1" * size
        return flags

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    def _manifest_chunks(self) -> Iterator[bytes]:
        yield from self._manifest_member()
        yield _END_OF_ARCHIVE

    def _manifest_member(self) -> Iterator[bytes]:
        size = len(self.manifest)
        yield _header_block(b"m", 0o600, size)
        yield self.manifest
        yield _padding(size)


class SharedPieces:
    """A byte stream that is produced once and shared by several readers.

    The reader that is ahead produces the next piece; the others get the stored ones.
    """

    def __init__(self, make: Callable[[], Iterator[bytes]]) -> None:
        """Store the producer; it is called when the first piece is needed."""
        self._make = make
        self._lock = Lock()
        self._pieces: list[bytes] = []
        self._source: Iterator[bytes] | None = None
        self._is_complete = False
        self._error: OrchError | None = None

    def pieces(self) -> Iterator[bytes]:
        """Yield all pieces from the first one. Re-raise the producer's OrchError."""
        at = 0
        while True:
            with self._lock:
                if at == len(self._pieces) and not self._is_complete:
                    self._make_next()
                if at == len(self._pieces):
                    break
                piece = self._pieces[at]
            at += 1
            yield piece
        if self._error is not None:
            raise self._error

    def _make_next(self) -> None:
        if self._source is None:
            self._source = self._make()
        piece = bytearray()
        try:
            while not self._is_complete and len(piece) < _PIECE_BYTES:
                part = next(self._source, None)
                self._is_complete = part is None
                piece += part or b""
        except OrchError as error:
            self._is_complete, self._error = True, error
            return
        if piece:
            self._pieces.append(bytes(piece))


def read_tree(path: Path, options: TreeOptions | None = None) -> FileTree:
    """List the file or folder at ``path``.

    Raises OSError, and OrchError for an entry that is not a file, folder or link.
    """
    options = options or TreeOptions()
    if path.is_dir():
        status = path.stat()
        inside = _TreeLister(options).entries_below(
            str(path), b".", ((status.st_dev, status.st_ino),)
        )
        entries = [_folder_entry(str(path), b"."), *inside]
    else:
        entries = [_file_entry(str(path), b"", options)]
    members = [(number, entry) for number, entry in enumerate(entries, 1) if entry.kind != "d"]
    members.sort(key=lambda member: member[1].kind)  # files before links
    large = () if options.whole_files else _large_lines(members)
    return FileTree(b"".join(map(_manifest_line, entries)), tuple(members), len(entries), large)


def _large_lines(members: Sequence[tuple[int, TreeEntry]]) -> tuple[int, ...]:
    large = (number for number, entry in members if entry.size >= _MIN_DELTA_BYTES)
    return tuple(islice(large, _MAX_LARGE_FILES))


class _TreeLister:
    """Lists the entries of a folder that the options select."""

    def __init__(self, options: TreeOptions) -> None:
        self._exclude = [pattern.rstrip("/") for pattern in options.exclude]
        self._include = [pattern.rstrip("/") for pattern in options.include]
        self._options, self._follow = options, options.follow

    def entries_below(
        self, folder: str, name: bytes, outer: tuple[tuple[int, int], ...]
    ) -> Iterator[TreeEntry]:
        """Yield what is in the folder; ``outer`` are this one and those that contain it."""
        with os.scandir(folder) as found:
            listed = sorted(found, key=lambda each: os.fsencode(each.name))
        for each in listed:
            inner = name + b"/" + os.fsencode(each.name)
            path = os.fsdecode(inner[2:])
            if self._exclude and _matches(path, self._exclude):
                continue
            if each.is_symlink() and not self._follow:
                if self._is_included(path):
                    to = os.readlink(each.path)  # noqa: PTH115 - creating a Path for each is slow
                    yield TreeEntry("l", inner, each.path, content=os.fsencode(to))
            elif each.is_dir():
                yield from self._folder_entries(each, inner, outer)
            elif not self._is_included(path):
                continue
            elif each.is_file():
                yield _file_entry(each.path, inner, self._options)
            elif each.is_symlink():
                raise OrchError(Diagnostic(f"{display_path(Path(each.path))} is a dangling link"))
            else:
                raise _unsupported_error(each.path)

    def _folder_entries(
        self, entry: os.DirEntry[str], name: bytes, outer: tuple[tuple[int, int], ...]
    ) -> Iterator[TreeEntry]:
        """Yield a folder and what is in it; without `include`d entries in it, only if it is one."""
        if self._follow:
            status = entry.stat()
            here = (status.st_dev, status.st_ino)
            if here in outer:
                shown = display_path(Path(entry.path))
                raise OrchError(Diagnostic(f"{shown} is a link to a folder that contains it"))
            outer = (*outer, here)
        inside = self.entries_below(entry.path, name, outer)
        if not self._is_included(os.fsdecode(name[2:])):
            first = next(inside, None)
            if first is None:
                return
            inside = chain((first,), inside)
        yield _folder_entry(entry.path, name)
        yield from inside

    def _is_included(self, path: str) -> bool:
        return not self._include or any(_is_at_or_below(path, each) for each in self._include)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path if "/" in p else name, p.removeprefix("/")) for p in patterns)


def _is_at_or_below(path: str, pattern: str) -> bool:
    """Return True if the pattern matches the path, or a folder that contains it.

    A host decides it by the same patterns, see modules/upload.yml.
    """
    if _matches(path, (pattern,)):
        return True
    if "/" in pattern:
        return fnmatchcase(path, f"{pattern.removeprefix('/')}/*")
    return fnmatchcase(f"./{path}", f"*/{pattern}/*")


def _folder_entry(path: str, name: bytes) -> TreeEntry:
    is_private = not os.stat(path).st_mode & _PRIVATE_BITS  # noqa: PTH116 - as above
    return TreeEntry("d", name, path, mode=0o700 if is_private else 0)


def _file_entry(path: str, name: bytes, options: TreeOptions) -> TreeEntry:
    digest, size, began = hashlib.sha256(), 0, time.time_ns()
    # opening many small files takes most of the time
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise _unsupported_error(path)
        while chunk := os.read(file, _CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    finally:
        os.close(file)
    is_settled = max(found.st_mtime_ns, found.st_ctime_ns) < began - _STAMP_MARGIN
    return TreeEntry(
        "f",
        name,
        path=path,
        mode=found.st_mode & 0o777 if options.keep_modes else _git_mode(found.st_mode),
        content=digest.hexdigest().encode(),
        size=size,
        stamp=_stamp(found) if is_settled else (),
        mtime=max(0, found.st_mtime_ns // 10**9) if options.times else -1,
    )


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _unsupported_error(path: str) -> OrchError:
    return OrchError(Diagnostic(f"{display_path(Path(path))} is not a file, folder or link"))


def _git_mode(bits: int) -> int:
    """Return the mode as git would store it, so the umask of the checkout does not matter.

    A file that only its owner may access stays private.
    """
    mode = 0o755 if bits & stat.S_IXUSR else 0o644
    return mode if bits & _PRIVATE_BITS else mode & ~_PRIVATE_BITS


def _manifest_line(entry: TreeEntry) -> bytes:
    has_mode = entry.kind == "f" or (entry.kind == "d" and entry.mode)
    mode = b"%04o" % entry.mode if has_mode else b"-"
    mode += b"@%d" % entry.mtime if entry.mtime >= 0 else b""
    content = _octal_escape(entry.content) if entry.kind == "l" else entry.content or b"-"
    return b" ".join((entry.kind.encode(), mode, content, manifest_name(entry.name))) + b"\n"


def manifest_name(name: bytes) -> bytes:
    """Return a path as it is written in the manifest."""
    is_odd = any(byte in name for byte in (b"\n", b"\r", b"\\")) or name.endswith(b" ")
    return _octal_escape(name or b".") if is_odd or not name else name


def _octal_escape(text: bytes) -> bytes:
    return b"".join(b"\\0%03o" % byte for byte in text)


def _entry_bytes(entry: TreeEntry) -> Iterator[bytes]:
    """Yield the file's bytes; raise OrchError unless they are the ones that were listed.

    Their checksum is needed only if the stamp does not show it.
    """
    left, digest = entry.size, hashlib.sha256()
    try:
        file = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            has_stamp = bool(entry.stamp) and _stamp(os.fstat(file)) == entry.stamp
            while left and (chunk := os.read(file, min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                if not has_stamp:
                    digest.update(chunk)
                yield chunk
            is_same = (
                _stamp(os.fstat(file)) == entry.stamp
                if has_stamp
                else (digest.hexdigest().encode() == entry.content)
            )
        finally:
            os.close(file)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OrchError(
            Diagnostic(f"cannot read {display_path(Path(entry.path))}: {reason}")
        ) from None
    if left or not is_same:
        raise OrchError(Diagnostic(f"{display_path(Path(entry.path))} changed during the run"))


def _member_header(entry: TreeEntry) -> bytes:
    name, to = _member_name(entry), entry.content if entry.kind == "l" else b""
    before = b""
    for long, kind in ((to, b"K"), (name, b"L")):
        if len(long) > _MAX_NAME_BYTES:
            size = len(long) + 1
            before += _header_block(b"././@LongLink", 0, size, kind) + long + b"\0" + _padding(size)
    kind = b"2" if entry.kind == "l" else b"0"
    return before + _header_block(
        name[:_MAX_NAME_BYTES],
        0o777 if entry.kind == "l" else entry.mode,
        entry.size,
        kind,
        to[:_MAX_NAME_BYTES],
        max(0, entry.mtime),
    )


def _member_name(entry: TreeEntry) -> bytes:
    return b"t" + entry.name[1:]


def _long_name_bytes(entry: TreeEntry) -> int:
    """Return the bytes that GNU's members for a long name and a long link target take."""
    texts = (_member_name(entry), entry.content if entry.kind == "l" else b"")
    return sum(_member_bytes(len(text) + 1) for text in texts if len(text) > _MAX_NAME_BYTES)


def _header_block(
    name: bytes, mode: int, size: int, kind: bytes = b"0", to: bytes = b"", mtime: int = 0
) -> bytes:
    """Return a tar header (pax, POSIX.1-2017: ustar Interchange Format).

    tarfile takes ten times as long.
    """
    octal = b"%011o\0" % size
    if len(octal) > 12:  # 8 GiB or more: the base-256 format of GNU tar and busybox
        octal = b"\x80" + size.to_bytes(11, "big")
    head = b"%s%07o\0%07o\0%07o\0%s%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, octal, mtime)
    tail = (kind + to.ljust(100, b"\0") + b"ustar  \0").ljust(_BLOCK_BYTES - len(head) - 8, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * ord(" ")) + tail


def _member_bytes(size: int) -> int:
    return _BLOCK_BYTES + size + len(_padding(size))


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK_BYTES)
