"""Project files that steps copy to hosts; each is read, or compiled, once per run."""

from __future__ import annotations

import glob
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
from orchestrator.model.secret import VAULT_VALUE, Secret, SecretResolver
from orchestrator.planner import file_tree
from orchestrator.planner.file_parts import PartOptions, join_parts
from orchestrator.templating.filter_calls import NO_FILTERS, OwnFilters
from orchestrator.templating.template_syntax import JINJA_SYNTAX, TemplateSyntax
from orchestrator.yamlio.local_files import (
    display_path,
    displayed_path,
    expand_home,
    is_directory,
    path_exists,
    read_file,
)
from orchestrator.yamlio.vault_format import is_vault_text

if TYPE_CHECKING:
    from orchestrator.templating import TextTemplate

MAX_INLINE_BYTES = 32 * 1024
"""Limit in bytes of payloads that are sent inside the command; longer ones are uploaded first."""

_READ_BYTES = 1 << 20
_READ_HINT = "a template reads files of the project only; a step reads its host's: `run: cat PATH`"

T = TypeVar("T")


class ProjectFiles:
    """Finds and reads project files; ``root`` is the project's folder.

    Errors are raised as DefinitionError, at the position that names the file.
    """

    def __init__(self, root: str = "", filters: OwnFilters = NO_FILTERS) -> None:
        """Create an empty cache for a project with these filters of its own."""
        self.folder = root
        self._root = Path(root)
        self._filters = filters
        self._cache = templating.CompileCache(templating.cache_folder(), filters)
        self._templates: dict[tuple[Path, TemplateSyntax], TextTemplate] = {}
        self._texts: dict[Path, str] = {}
        self._contents: dict[Path, bytes | UploadPayload] = {}
        self._trees: dict[tuple[Path, file_tree.TreeOptions], file_tree.FileTree] = {}
        self._fallbacks: dict[Path, Path] = {}  # second path where a file was looked for

    def find(self, name: str, mark: SourcePosition) -> str:
        """Return the path of a file: next to the file that names it, else below the project's root.

        A path from the command line is relative to the working directory first.
        """
        written = expand_home(name)
        folder = displayed_path(mark.path).parent if mark.line else Path()
        beside_file, in_project = Path(folder, written).absolute(), self._root / written
        chosen = (
            in_project if path_exists(in_project) and not path_exists(beside_file) else beside_file
        )
        if chosen is beside_file and in_project != beside_file:
            self._fallbacks[beside_file] = in_project
        return str(chosen)

    def template(
        self, path: Path, mark: SourcePosition, syntax: TemplateSyntax = JINJA_SYNTAX
    ) -> TextTemplate:
        """Return the file as a compiled template."""
        key = (path, syntax)
        if key not in self._templates:
            data = self.read(path, mark)
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                message = f"template {display_path(path)} is not UTF-8, at byte {error.start}"
                hint = "`copy` takes any bytes"
                raise DefinitionError(Diagnostic(message, mark, hint)) from None
            place = SourcePosition(display_path(path), 1, 1)
            self._templates[key] = templating.compile_text(
                text, place, self._cache, self._linked_file, syntax
            )
            self._cache.save()
        return self._templates[key]

    def _linked_file(self, name: str, mark: SourcePosition) -> tuple[str, SourcePosition] | None:
        """Return a file that a template includes, imports or extends; None if there is none."""
        from orchestrator.templating.value_text import UnusableValueError  # loads Jinja

        try:
            path = self._inside(name, mark)
            text = None if path is None else self._text(path, mark)
        except UnusableValueError as unfit:
            raise DefinitionError(Diagnostic(unfit.what, mark, unfit.hint)) from None
        if path is None or text is None:
            return None
        if is_vault_text(text):
            message, hint = f"'{name}' is encrypted", "insert it with `{{ render('FILE') }}`"
            raise DefinitionError(Diagnostic(message, mark, hint))
        return text, SourcePosition(display_path(path), 1, 1)

    def read_text(
        self, name: str, mark: SourcePosition, secrets: SecretResolver
    ) -> tuple[str, bool]:
        """Return the text of a file, and True if it is a vault, whose text is a secret."""
        path = self._inside(name, mark)
        if path is None:
            raise _unusable(f"the project has no file '{name}'", _READ_HINT)
        text = self._text(path, mark)
        if not is_vault_text(text):
            return text, False
        vault = Secret(
            VAULT_VALUE, (text,), "", path.name, SourcePosition(display_path(path), 1, 1)
        )
        return secrets.resolve_secret(vault), True

    def find_file(self, name: str, mark: SourcePosition) -> str:
        """Return the absolute path of a file, or '' if it does not exist."""
        return str(self._inside(name, mark) or "")

    def match_files(self, pattern: str, mark: SourcePosition) -> list[str]:
        """Return the absolute paths of the files that match a pattern of glob(7), in order.

        They are those beside the file at ``mark`` or, if there are none, below the root.
        """
        if "\0" in pattern:
            raise _unusable(f"'{pattern}' is not a path")
        for folder in self._folders(mark):
            # Path.glob would match hidden files
            names = sorted(glob.glob(pattern, root_dir=folder, recursive=True))  # noqa: PTH207
            found = [self.find_file(str(folder / name), mark) for name in names]
            if any(found):
                return [path for path in found if path]
        return []

    def compile_file(
        self, name: str, mark: SourcePosition, secrets: SecretResolver
    ) -> tuple[TextTemplate, bool]:
        """Return a file as a compiled template, and True if it is a vault."""
        text, is_secret = self.read_text(name, mark, secrets)
        path = self._inside(name, mark)
        if path is None or is_secret:
            place = SourcePosition(display_path(path) if path else name, 1, 1)
            own = templating.CompileCache(None, self._filters)
            return templating.compile_text(text, place, own), is_secret
        return self.template(path, mark), False

    def _inside(self, name: str, mark: SourcePosition) -> Path | None:
        """Return the file of this name, beside the one at ``mark`` or below the root, or None.

        Raises UnusableValueError for a path that leads out of the project.
        """
        root = self._root.resolve()
        for folder in self._folders(mark):
            try:
                path = (folder / name).resolve()
            except (OSError, ValueError, RuntimeError):
                raise _unusable(f"'{name}' is not a path") from None
            if folder is not root and not folder.resolve().is_relative_to(root):
                continue  # the file is not one of the project
            if not path.is_relative_to(root):
                raise _unusable(f"'{name}' is outside of the project", _READ_HINT)
            if path.is_file():
                return path
        return None

    def _folders(self, mark: SourcePosition) -> tuple[Path, ...]:
        """Return the folders that a path at ``mark`` may be relative to, the first one first."""
        root = self._root.resolve()
        return (displayed_path(mark.path).parent.absolute(), root) if mark.line else (root,)

    def _text(self, path: Path, mark: SourcePosition) -> str:
        """Return the text of a file. Raises UnusableValueError if it cannot be read."""
        if path not in self._texts:
            try:
                self._texts[path] = self.read(path, mark).decode("utf-8")
            except DefinitionError as error:
                raise _unusable(error.diagnostics[0].message) from None
            except UnicodeDecodeError as error:
                message = f"{display_path(path)} is not UTF-8, at byte {error.start}"
                raise _unusable(message, "`copy` takes any bytes") from None
        return self._texts[path]

    def read(self, path: Path, mark: SourcePosition) -> bytes:
        """Return the bytes of a file."""
        return self._read_or_raise(path, mark, lambda: read_file(path))

    def contents(self, path: Path, mark: SourcePosition) -> bytes | UploadPayload:
        """Return the file's bytes or, if it is long, an ``UploadPayload``."""
        if path not in self._contents:
            self._contents[path] = self._load_contents(path, mark)
        return self._contents[path]

    def _load_contents(self, path: Path, mark: SourcePosition) -> bytes | UploadPayload:
        return self._read_or_raise(path, mark, lambda: _file_contents(path))

    def tree(
        self, path: Path, options: file_tree.TreeOptions, mark: SourcePosition
    ) -> file_tree.FileTree:
        """Return the tree below a folder, or of a single file."""
        key = (path, options)
        if key not in self._trees:
            self._trees[key] = self._load_tree(path, options, mark)
        return self._trees[key]

    def _load_tree(
        self, path: Path, options: file_tree.TreeOptions, mark: SourcePosition
    ) -> file_tree.FileTree:
        return self._read_or_raise(path, mark, lambda: file_tree.read_tree(path, options))

    def examine(self, text: str) -> tuple[str, str]:
        """Return the absolute path with links resolved, and its kind as in ``examine_path``."""
        from orchestrator.templating.filters.project_paths import examine_path  # loads Jinja

        return examine_path(self.folder, text)

    def expand_home(self, text: str) -> Path:
        """Return the path with a leading ``~`` or ``~user`` replaced by the home folder."""
        return expand_home(text)

    def is_folder(self, path: Path) -> bool | None:
        """Return True if there is a folder at this path; None if that is known later."""
        return is_directory(path)

    def joined_parts(self, path: Path, options: PartOptions, mark: SourcePosition) -> bytes:
        """Return the files of a folder, joined."""
        return self._read_or_raise(path, mark, lambda: join_parts(path, options))

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


def _unusable(what: str, hint: str = "") -> Exception:
    """Return the error for a path in a template, which reports it at its position."""
    from orchestrator.templating.value_text import UnusableValueError  # loads Jinja

    return UnusableValueError(what, hint)


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
