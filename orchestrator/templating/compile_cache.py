"""Compiled templates on disk, so that a template is compiled once for many runs.

They are in ``$XDG_CACHE_HOME/orch/templates`` (default: ``~/.cache``), in a folder for this version
of orch, Jinja and Python, one file for each file of templates. An entry is found by the whole text
of its template, so it never is out of date. Errors are not kept.

The files contain code that is executed. So only files and folders are used that belong to this user
and that nobody else can write to; a file that is missing, damaged or not trusted is as good as
none, and so is a folder that cannot be written.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.errors import SourcePosition
from orchestrator.templating.filter_calls import NO_FILTERS, OwnFilters

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIGEST_BYTES = hashlib.sha256().digest_size
_MAX_FILE_BYTES = 8 << 20
_MAX_FILES = 1000  # then all are removed: those of deleted projects are among them
_MAX_AGE = 30 * 24 * 3600  # seconds after which the folder of another version is removed

_Key = tuple[str, str]


class CompileCache:
    """The compiled templates that earlier runs kept; ``save`` adds those of this run.

    ``folder`` is the user's folder for caches, or None to keep nothing. ``filters`` are the
    project's own, which its templates may use.
    """

    def __init__(self, folder: Path | None, filters: OwnFilters = NO_FILTERS) -> None:
        self._folder, self.filters = folder, filters
        self._kept: dict[str, dict[_Key, Any]] = {}
        self._used: dict[str, dict[_Key, Any]] = {}

    def find(self, kind: str, text: str, mark: SourcePosition) -> Any:
        """Return what was added for this text of the file that ``mark`` names, or None."""
        if self._folder is None or not mark.line:
            return None
        if mark.path not in self._kept:
            self._kept[mark.path] = self._read(mark.path)
            self._used[mark.path] = {}
        found = self._kept[mark.path].get((kind, text))
        if found is not None:
            self._used[mark.path][kind, text] = found
        return found

    def add(self, kind: str, text: str, mark: SourcePosition, compiled: Any) -> None:
        """Keep plain data and code for this text, for which nothing was found."""
        if mark.path in self._used:
            self._used[mark.path][kind, text] = compiled

    def save(self) -> None:
        """Write the files with new templates, each without those that were not used."""
        for path, used in self._used.items():
            if used.keys() - self._kept[path].keys():
                with suppress(OSError, ValueError):  # ValueError: not plain data
                    self._write(path, used)
                self._kept[path] = dict(used)

    def _read(self, path: str) -> dict[_Key, Any]:
        try:
            with self._open_folder(create=False) as folder:
                handle = os.open(_file_name(path), _READ_FLAGS, dir_fd=folder)
                with os.fdopen(handle, "rb") as file:
                    status = os.fstat(handle)
                    if not stat.S_ISREG(status.st_mode) or not _is_trusted(status):
                        return {}
                    data = file.read(_MAX_FILE_BYTES)
            if hashlib.sha256(data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
                found = marshal.loads(data[_DIGEST_BYTES:])
                return found if isinstance(found, dict) else {}
        except (OSError, ValueError, EOFError, TypeError):
            pass
        return {}

    def _write(self, path: str, entries: dict[_Key, Any]) -> None:
        data = marshal.dumps(entries)
        if len(data) + _DIGEST_BYTES > _MAX_FILE_BYTES:
            return
        with self._open_folder(create=True) as folder:
            _make_room(folder)
            temp = f".{secrets.token_hex(8)}"
            handle = os.open(temp, _WRITE_FLAGS, 0o600, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                os.rename(temp, _file_name(path), src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(temp, dir_fd=folder)
                raise

    @contextmanager
    def _open_folder(self, *, create: bool) -> Iterator[int]:
        """Open the folder of this version. Raises OSError also if somebody else could write to it.

        Every folder is opened from the one above it, so none can be exchanged in between.
        """
        assert self._folder is not None
        if create and not self._folder.exists():
            _check_owner(self._folder.parent.stat())
            self._folder.mkdir(mode=0o700)
        handle = os.open(self._folder, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            _check_owner(os.fstat(handle))
            for name in ("orch", "templates", _version_name()):
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=handle)
                        _remove_old_versions(handle)
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=handle)
                os.close(handle)
                handle = inner
                if not _is_trusted(os.fstat(handle)):
                    raise PermissionError(f"{name} belongs to others")
            yield handle
        finally:
            os.close(handle)


def filters_of(cache: CompileCache | None) -> OwnFilters:
    """Return the project's filters that templates of this cache may use."""
    return cache.filters if cache else NO_FILTERS


def cache_folder() -> Path | None:
    """Return the user's folder for caches, or None if there is none."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder
        return None
    return folder if folder.is_absolute() else None


def _check_owner(status: os.stat_result) -> None:
    """Raise PermissionError for another user's folder: root leaves nothing in anybody's home."""
    if status.st_uid != os.geteuid():
        raise PermissionError("the folder belongs to another user")


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _file_name(path: str) -> str:
    return hashlib.sha256(os.fsencode(Path(path).absolute())).hexdigest()[:32]


def _make_room(folder: int) -> None:
    if len(_names_in(folder)) >= _MAX_FILES:
        _remove_files(folder)


def _remove_old_versions(folder: int) -> None:
    """Remove the files of versions that were not written to for long, and empty folders."""
    for name in _names_in(folder):
        with suppress(OSError):
            inner = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            try:
                if os.fstat(inner).st_mtime > time.time() - _MAX_AGE:
                    continue
                _remove_files(inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=folder)


def _names_in(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _remove_files(folder: int) -> None:
    for name in _names_in(folder):
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


_version_names: list[str] = []


def _version_name() -> str:
    """Return a name for all that determines what a template is compiled to.

    The files of the code stand for its version: those of a clone change without a new number.
    """
    if not _version_names:
        import jinja2  # takes 10 ms

        digest = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.hexversion}".encode())
        package, templating = Path(orchestrator.__file__).parent, Path(__file__).parent
        for folder in (
            package,
            package / "model",
            templating,
            templating / "filters",
            templating / "shell",
            Path(jinja2.__file__).parent,
        ):
            _add_files(digest, folder)
        _version_names.append(digest.hexdigest()[:32])
    return _version_names[0]


def _add_files(digest: Any, folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in sorted((e for e in entries if e.name.endswith(".py")), key=lambda e: e.name):
            status = entry.stat()
            digest.update(f"{entry.path}\0{status.st_size} {status.st_mtime_ns}\n".encode())
