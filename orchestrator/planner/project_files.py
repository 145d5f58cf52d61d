"""Project files that steps copy to hosts; each is read, or compiled, once per run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orchestrator import templating
from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    MissingFileError,
    OrchError,
    SourcePosition,
)
from orchestrator.model.command import UploadPayload
from orchestrator.planner import file_tree
from orchestrator.yamlio.local_files import display_path, expand_home, path_exists, read_file

if TYPE_CHECKING:
    from orchestrator.templating import TextTemplate

MAX_INLINE_BYTES = 32 * 1024
"""Limit in bytes of payloads that are sent inside the command; longer ones are uploaded first."""

_READ_BYTES = 1 << 20

T = TypeVar("T")


class ProjectFiles:
    """Finds and reads project files; ``root`` is the project's folder.

    Errors are raised as DefinitionError, at the position that names the file.
    """

    def __init__(self, root: str = "") -> None:
        """Create an empty cache for a project."""
        self.folder = root
        self._root = Path(root)
        self._cache = templating.CompileCache(templating.cache_folder())
        self._templates: dict[Path, TextTemplate] = {}
        self._contents: dict[Path, bytes | UploadPayload] = {}
        self._trees: dict[tuple[Path, tuple[str, ...], bool], file_tree.FileTree] = {}
        self._fallbacks: dict[Path, Path] = {}  # second path where a file was looked for

    def find(self, name: str, mark: SourcePosition) -> str:
        """Return the path of a file: next to the file that names it, else below the project's root.

        A path from the command line is relative to the working directory first.
        """
        written = expand_home(name)
        folder = Path(mark.path).parent if mark.line else Path()
        beside_file, in_project = Path(folder, written).absolute(), self._root / written
        chosen = (
            in_project if path_exists(in_project) and not path_exists(beside_file) else beside_file
        )
        if chosen is beside_file and in_project != beside_file:
            self._fallbacks[beside_file] = in_project
        return str(chosen)

    def template(self, path: Path, mark: SourcePosition) -> TextTemplate:
        """Return the file as a compiled template."""
        if path not in self._templates:
            data = self._read_or_raise(path, mark, lambda: read_file(path))
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                message = f"template {display_path(path)} is not UTF-8, at byte {error.start}"
                hint = "`copy` takes any bytes"
                raise DefinitionError(Diagnostic(message, mark, hint)) from None
            self._templates[path] = templating.compile_text(
                text, SourcePosition(display_path(path), 1, 1), self._cache
            )
            self._cache.save()
        return self._templates[path]

    def contents(self, path: Path, mark: SourcePosition) -> bytes | UploadPayload:
        """Return the file's bytes or, if it is long, an ``UploadPayload``."""
        if path not in self._contents:
            self._contents[path] = self._read_or_raise(path, mark, lambda: _file_contents(path))
        return self._contents[path]

    def tree(
        self,
        path: Path,
        exclude: tuple[str, ...],
        mark: SourcePosition,
        *,
        keep_modes: bool = False,
    ) -> file_tree.FileTree:
        """Return the tree below a folder, or of a single file."""
        key = (path, exclude, keep_modes)
        if key not in self._trees:
            self._trees[key] = self._read_or_raise(
                path, mark, lambda: file_tree.read_tree(path, exclude, keep_modes=keep_modes)
            )
        return self._trees[key]

    def _read_or_raise(self, path: Path, mark: SourcePosition, read: Callable[[], T]) -> T:
        try:
            return read()
        except OrchError as error:
            raise DefinitionError(Diagnostic(error.diagnostics[0].message, mark)) from None
        except OSError as error:
            which = Path(error.filename) if isinstance(error.filename, str) else path
            message = f"cannot read {display_path(which)}: {(error.strerror or str(error)).lower()}"
            if not isinstance(error, FileNotFoundError):
                raise DefinitionError(Diagnostic(message, mark)) from None
            if which in self._fallbacks:
                message += f"; also not found: {display_path(self._fallbacks[which])}"
            raise MissingFileError(Diagnostic(message, mark)) from None


def to_payload(data: bytes) -> bytes | UploadPayload:
    """Return the data as ``contents`` returns a file: as bytes, or as an ``UploadPayload``."""
    if len(data) <= MAX_INLINE_BYTES:
        return data
    return UploadPayload(len(data), hashlib.sha256(data).hexdigest(), data=data)


def _file_contents(path: Path) -> bytes | UploadPayload:
    with path.open("rb") as file:
        first = file.read(MAX_INLINE_BYTES + 1)
        if len(first) <= MAX_INLINE_BYTES:
            return first
        digest, size = hashlib.sha256(first), len(first)
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return UploadPayload(size, digest.hexdigest(), path)
