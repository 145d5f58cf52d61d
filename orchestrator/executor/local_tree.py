"""A local folder that receives a host's tree. No link in it is followed.

Every path is opened name by name from the folder's own descriptor, so that not even a link that
appears meanwhile leads out of it. Files are written beside their place and renamed, so that a place
has the old content or the whole new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.executor.remote_tree import RemoteEntry
from orchestrator.model.byte_size import format_size
from orchestrator.yamlio.local_files import display_path

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {"d": "a folder", "f": "a file", "l": "a link"}


class LocalTree:
    """The local folder ``root``. Errors are raised as OrchError.

    Paths are tuples of names. Used by one thread.
    """

    def __init__(self, root: Path) -> None:
        """Store the folder, which need not exist."""
        self.root = root
        self._root_handle = -1
        self._parent: tuple[bytes, ...] = ()
        self._parent_handle = -1

    def close(self) -> None:
        """Close the folder."""
        self._close_parent()
        if self._root_handle >= 0:
            os.close(self._root_handle)
            self._root_handle = -1

    @property
    def exists(self) -> bool:
        """Return True if the folder exists. Raises OrchError if it is not a folder."""
        try:
            if stat.S_ISDIR(self.root.stat().st_mode):
                return True
        except FileNotFoundError:
            if self.root.is_symlink():
                raise self._conflict(self.root, "a dangling link") from None
            return False
        except OSError as error:
            raise self._error("read", (), error) from None
        raise self._conflict(self.root, "not a folder")

    def difference(self, entry: RemoteEntry) -> str:
        """Return how the local entry differs: missing, different, of another mode, or ''.

        Raises OrchError if the entry cannot take the place of the existing one.
        """
        try:
            parent = self._open_parent(entry.parts[:-1], create=False)
            found = os.stat(entry.parts[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            raise self._error("read", entry.parts, error) from None
        if (entry.kind == "d") != stat.S_ISDIR(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a folder"
            raise self._conflict(self.path_of(entry.parts), kind, _KINDS[entry.kind])
        if entry.kind == "d":
            return ""
        if entry.kind == "l":
            is_same = stat.S_ISLNK(found.st_mode) and self._link_target(entry) == entry.target
            return "" if is_same else "different"
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return "different"
        if self._digest(entry) != entry.digest:
            return "different"
        is_executable = bool(found.st_mode & stat.S_IXUSR)
        return "" if is_executable == entry.is_executable else "of another mode"

    def make_folder(self, parts: tuple[bytes, ...]) -> None:
        """Create a folder and those above it, unless they exist."""
        self.guarded("create", parts, lambda: self._open_parent(parts, create=True))

    def make_link(self, entry: RemoteEntry) -> None:
        """Create a link, or replace a file or link by it."""

        def make() -> None:
            parent = self._open_parent(entry.parts[:-1], create=True)
            temp = _temp_name()
            os.symlink(entry.target, temp, dir_fd=parent)
            _move_into_place(temp, entry.parts[-1], parent)

        self.guarded("create", entry.parts, make)

    def set_mode(self, entry: RemoteEntry) -> None:
        """Let the owner, and everyone who may read it, execute a file, or nobody."""

        def change() -> None:
            parent = self._open_parent(entry.parts[:-1], create=False)
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(entry.parts[-1], flags, dir_fd=parent)
            try:
                mode = stat.S_IMODE(os.fstat(handle).st_mode)
                os.fchmod(handle, _with_execution(mode, entry.is_executable))
            finally:
                os.close(handle)

        self.guarded("change", entry.parts, change)

    def new_file(self, entry: RemoteEntry) -> NewFile:
        """Return a new file that ``entry`` names, to be written and then committed."""

        def make() -> NewFile:
            parent = os.dup(self._open_parent(entry.parts[:-1], create=True))
            temp = _temp_name()
            try:
                handle = os.open(temp, _NEW_FILE_FLAGS, 0o600, dir_fd=parent)
            except OSError:
                os.close(parent)
                raise
            return NewFile(self, entry, temp, parent=parent, handle=handle)

        return self.guarded("write", entry.parts, make)

    def check_room(self, size: int) -> None:
        """Raise OrchError if so many bytes do not fit on the folder's file system."""
        folder = self.root
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        try:
            found = os.statvfs(folder)
        except OSError as error:
            raise self._error("read", (), error) from None
        free = found.f_bavail * found.f_frsize
        if size > free:
            message = f"{format_size(size)} do not fit into {display_path(self.root)}"
            raise OrchError(Diagnostic(f"{message}: {format_size(free)} are free"))

    def path_of(self, parts: tuple[bytes, ...]) -> Path:
        """Return the path of an entry, for display."""
        return self.root.joinpath(*map(os.fsdecode, parts))

    def _link_target(self, entry: RemoteEntry) -> bytes:
        parent = self._open_parent(entry.parts[:-1], create=False)
        return os.fsencode(os.readlink(entry.parts[-1], dir_fd=parent))

    def _digest(self, entry: RemoteEntry) -> str:
        digest, flags = hashlib.sha256(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        parent = self._open_parent(entry.parts[:-1], create=False)

        def read() -> str:
            handle = os.open(entry.parts[-1], flags, dir_fd=parent)
            try:
                while chunk := os.read(handle, _CHUNK_BYTES):
                    digest.update(chunk)
            finally:
                os.close(handle)
            return digest.hexdigest()

        return self.guarded("read", entry.parts, read)

    def _open_parent(self, parts: tuple[bytes, ...], *, create: bool) -> int:
        """Return a descriptor of the folder, valid until the next call. Raises OSError."""
        if self._parent_handle >= 0 and parts == self._parent:
            return self._parent_handle
        self._close_parent()
        if self._root_handle < 0:
            if create:
                self.root.mkdir(parents=True, exist_ok=True)
            self._root_handle = os.open(self.root, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        handle = os.dup(self._root_handle)
        for part in parts:
            try:
                inner = _open_folder(part, handle, create=create)
            finally:
                os.close(handle)
            handle = inner
        self._parent, self._parent_handle = parts, handle
        return handle

    def _close_parent(self) -> None:
        if self._parent_handle >= 0:
            os.close(self._parent_handle)
            self._parent_handle = -1

    def guarded(self, action: str, parts: tuple[bytes, ...], call: Callable[[], T]) -> T:
        """Return the result of the call; its OSError is raised as OrchError."""
        try:
            return call()
        except OSError as error:
            raise self._error(action, parts, error) from None

    def _conflict(self, path: Path, kind: str, remote_kind: str = "a folder") -> OrchError:
        message = f"{display_path(path)} on this machine is {kind}, and {remote_kind} on the host"
        return OrchError(Diagnostic(f"{message}: move it away, or choose another target"))

    def _error(self, action: str, parts: tuple[bytes, ...], error: OSError) -> OrchError:
        path = self.path_of(parts)
        if error.errno in (errno.ELOOP, errno.ENOTDIR):  # the former is a link on the way
            message = f"cannot {action} {display_path(path)} on this machine"
            return OrchError(Diagnostic(f"{message}: a name on the way to it is not a folder"))
        return local_error(action, path, error)


class NewFile:
    """A file beside its place. It takes the place once it is committed, or is removed.

    An existing file's mode is kept, except for execution; a new file is accessible only to its
    owner. One of ``commit`` and ``discard`` must be called at the end.
    """

    def __init__(
        self, tree: LocalTree, entry: RemoteEntry, temp: bytes, *, parent: int, handle: int
    ) -> None:
        """Take over the descriptors of the file and of its folder."""
        self.entry = entry
        self._tree, self._temp, self._parent, self._handle = tree, temp, parent, handle

    def write(self, data: bytes | memoryview) -> None:
        """Append data. Raises OrchError."""
        rest = memoryview(data)

        def write_rest() -> None:
            nonlocal rest
            while rest:
                rest = rest[os.write(self._handle, rest) :]

        self._tree.guarded("write", self.entry.parts, write_rest)

    def digest(self) -> str:
        """Return the SHA-256 of what was written."""
        digest, at = hashlib.sha256(), 0
        while chunk := os.pread(self._handle, _CHUNK_BYTES, at):
            digest.update(chunk)
            at += len(chunk)
        return digest.hexdigest()

    def commit(self) -> None:
        """Move the file into its place. Raises OrchError."""
        name, parent = self.entry.parts[-1], self._parent

        def move() -> None:
            mode = _with_execution(_mode_of(name, parent), self.entry.is_executable)
            os.fchmod(self._handle, mode)
            os.replace(self._temp, name, src_dir_fd=parent, dst_dir_fd=parent)
            self._temp = b""

        try:
            self._tree.guarded("write", self.entry.parts, move)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the file, unless it was committed."""
        if self._handle < 0:
            return
        os.close(self._handle)
        self._handle = -1
        with suppress(OSError):
            if self._temp:
                os.unlink(self._temp, dir_fd=self._parent)
        os.close(self._parent)


def local_error(action: str, path: Path, error: OSError) -> OrchError:
    """Return the error of a local file operation."""
    reason = (error.strerror or str(error)).lower()
    return OrchError(Diagnostic(f"cannot {action} {display_path(path)} on this machine: {reason}"))


def _open_folder(name: bytes, parent: int, *, create: bool) -> int:
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, _FOLDER_FLAGS, dir_fd=parent)


def _mode_of(name: bytes, parent: int) -> int:
    """Return the mode of a regular file, or that of a new one."""
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if stat.S_ISREG(found):
            return stat.S_IMODE(found) & 0o777
    return 0o600


def _with_execution(mode: int, is_executable: bool) -> int:
    return mode | (mode & 0o444) >> 2 if is_executable else mode & ~0o111


def _temp_name() -> bytes:
    return b".orch-" + secrets.token_hex(6).encode()


def _move_into_place(temp: bytes, name: bytes, parent: int) -> None:
    try:
        os.replace(temp, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        with suppress(OSError):
            os.unlink(temp, dir_fd=parent)
        raise
