"""Files of the project that steps bring to hosts: each is read, or compiled, once per run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orchestrator import templating
from orchestrator.errors import DefinitionError, Mark, MissingFileError, OrchError, Problem
from orchestrator.model.command import Bytes
from orchestrator.planner import file_tree
from orchestrator.yamlio.local_files import expand_home, is_there, read_file, show

if TYPE_CHECKING:
    from orchestrator.templating import TextTemplate

INLINE = 32 * 1024
"""Up to so many bytes travel inside the command; what is longer is sent beside it."""

_CHUNK = 1 << 20

T = TypeVar("T")


class Files:
    """Finds and reads files; ``root`` is the project's folder. Errors are DefinitionErrors at the
    place that names the file."""

    def __init__(self, root: str = "") -> None:
        self._root = Path(root)
        self._templates: dict[Path, TextTemplate] = {}
        self._contents: dict[Path, bytes | Bytes] = {}
        self._trees: dict[tuple[Path, tuple[str, ...]], file_tree.Tree] = {}
        self._far: dict[Path, Path] = {}  # where else a file was looked for

    def find(self, name: str, mark: Mark) -> str:
        """The path of a file: found beside the file that names it, else from the project's root;
        one from the command line, beside the user first."""
        written = expand_home(name)
        folder = Path(mark.path).parent if mark.line else Path()
        near, far = Path(folder, written).absolute(), self._root / written
        found = far if is_there(far) and not is_there(near) else near
        if found is near and far != near:
            self._far[near] = far
        return str(found)

    def template(self, path: Path, mark: Mark) -> TextTemplate:
        """The file as a template."""
        if path not in self._templates:
            data = self._reading(path, mark, lambda: read_file(path))
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"template {show(path)} is not UTF-8, at byte {error.start}"
                hint = "`copy` takes any bytes"
                raise DefinitionError(Problem(what, mark, hint)) from None
            self._templates[path] = templating.text(text, Mark(show(path), 1, 1))
        return self._templates[path]

    def contents(self, path: Path, mark: Mark) -> bytes | Bytes:
        """The file's bytes or, where they are many, what is known of them."""
        if path not in self._contents:
            self._contents[path] = self._reading(path, mark, lambda: _contents(path))
        return self._contents[path]

    def tree(self, path: Path, exclude: tuple[str, ...], mark: Mark) -> file_tree.Tree:
        """The files below a folder, or the one file that it is."""
        key = (path, exclude)
        if key not in self._trees:
            self._trees[key] = self._reading(path, mark, lambda: file_tree.tree(path, exclude))
        return self._trees[key]

    def _reading(self, path: Path, mark: Mark, read: Callable[[], T]) -> T:
        try:
            return read()
        except OrchError as error:
            raise DefinitionError(Problem(error.problems[0].what, mark)) from None
        except OSError as error:
            which = Path(error.filename) if isinstance(error.filename, str) else path
            what = f"cannot read {show(which)}: {(error.strerror or str(error)).lower()}"
            if not isinstance(error, FileNotFoundError):
                raise DefinitionError(Problem(what, mark)) from None
            if which in self._far:
                what += f", nor is there {show(self._far[which])}"
            raise MissingFileError(Problem(what, mark)) from None


def carried(data: bytes) -> bytes | Bytes:
    """Bytes that were made here, as ``contents`` has those of files."""
    if len(data) <= INLINE:
        return data
    return Bytes(len(data), hashlib.sha256(data).hexdigest(), data=data)


def _contents(path: Path) -> bytes | Bytes:
    with path.open("rb") as file:
        first = file.read(INLINE + 1)
        if len(first) <= INLINE:
            return first
        digest, size = hashlib.sha256(first), len(first)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Bytes(size, digest.hexdigest(), path)
