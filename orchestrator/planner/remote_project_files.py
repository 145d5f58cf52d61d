"""Project files of another process: what a worker on another machine plans and uploads.

A worker has a copy of the project from before the run. What the copy may lack, and what steps may
have changed since the run began, is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, MissingFileError, SourcePosition
from orchestrator.model.command import UploadPayload
from orchestrator.planner.file_parts import PartOptions
from orchestrator.planner.file_tree import FileTree, TreeOptions
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.templating.filter_calls import OwnFilters
from orchestrator.yamlio.local_files import (
    RemoteFiles,
    RemoteProject,
    expand_home,
    path_exists,
)


class RemoteProjectFiles(ProjectFiles):
    """Finds and reads files of the process that the run was started in.

    Paths are those of that process.
    """

    def __init__(self, project: RemoteProject, files: RemoteFiles, filters: OwnFilters) -> None:
        """Create an empty cache for a project with these filters of its own."""
        super().__init__(project.root, filters)
        self.folder = project.shown_root
        self._project, self._files = project, files
        self._expand = cache(lambda text: Path(self._ask("expand_home", text)))

    def _ask(self, what: str, *arguments: Any) -> Any:
        answer = self._files.ask(what, *arguments)
        if isinstance(answer, FileFailure):
            raise answer.error()
        return answer

    def find(self, name: str, mark: SourcePosition) -> str:
        """Return the path of a file: next to the file that names it, else below the root."""
        is_plain = mark.line and not name.startswith(("~", "/")) and ".." not in Path(name).parts
        if is_plain and not self._files.has_begun:
            found = Path(super().find(name, mark))
            if path_exists(found):
                return str(self._project.path_there(found))
        return str(self._ask("find", name, mark))

    def find_file(self, name: str, mark: SourcePosition) -> str:
        """Return the absolute path of a file, or '' if it does not exist."""
        return str(self._inside(name, mark) or "")

    def match_files(self, pattern: str, mark: SourcePosition) -> list[str]:
        """Return the absolute paths of the files that match a pattern of glob(7), in order."""
        if self._files.has_begun:
            found: list[str] = self._ask("match_files", pattern, mark)
            return found
        return super().match_files(pattern, mark)

    def _inside(self, name: str, mark: SourcePosition) -> Path | None:
        if self._files.has_begun:
            path = self._ask("find_file", name, mark)
            return Path(path) if path else None
        found = super()._inside(name, mark)
        return None if found is None else self._project.path_there(found)

    def examine(self, text: str) -> tuple[str, str]:
        """Return the absolute path with links resolved, and its kind as in ``examine_path``."""
        found: tuple[str, str] = self._ask("examine", text)
        return found

    def expand_home(self, text: str) -> Path:
        """Return the path with a leading ``~`` or ``~user`` replaced by the home folder there."""
        return self._expand(text) if text.startswith("~") else expand_home(text)

    def is_folder(self, path: Path) -> None:
        """Return None: it is decided there, when the folder is used."""

    def read(self, path: Path, mark: SourcePosition) -> bytes:
        """Return the bytes of a file."""
        own = self._own(path)
        if own is not None:
            return super().read(own, mark)
        data: bytes = self._ask("read", path, mark)
        return data

    def _own(self, path: Path) -> Path | None:
        """Return the file of the copy, if it is there and no step can have changed it."""
        if self._files.has_begun:
            return None
        own = self._project.path_here(path)
        return own if own is not None and path_exists(own) else None

    def _load_contents(self, path: Path, mark: SourcePosition) -> bytes | UploadPayload:
        own = self._own(path)
        if own is not None:
            return super()._load_contents(own, mark)
        found: bytes | UploadPayload = self._ask("contents", path, mark)
        if isinstance(found, UploadPayload):
            (local,) = self._files.bring([(str(found.path), found.size, found.digest)])
            return replace(found, path=Path(local))
        return found

    def _load_tree(self, path: Path, options: TreeOptions, mark: SourcePosition) -> FileTree:
        tree: FileTree = self._ask("tree", path, options, mark)  # the copy lacks some folders
        files = [member for member in tree.members if member[1].kind == "f"]
        paths = self._files.bring(
            [(entry.path, entry.size, entry.content.decode()) for _, entry in files]
        )
        here = dict(zip((number for number, _ in files), paths, strict=True))
        members = (
            (number, replace(entry, path=here.get(number, entry.path), stamp=()))
            for number, entry in tree.members
        )
        return replace(tree, members=tuple(members))

    def joined_parts(self, path: Path, options: PartOptions, mark: SourcePosition) -> bytes:
        """Return the files of a folder, joined."""
        data: bytes = self._ask("joined_parts", path, options, mark)
        return data


class FileFailure(Struct, frozen=True):
    """Why a file cannot be used: it is missing, or its path is not allowed."""

    diagnostics: tuple[Diagnostic, ...] = ()
    what: str = ""
    hint: str = ""

    def error(self) -> Exception:
        """Return the error to raise."""
        from orchestrator.templating.value_text import UnusableValueError  # loads Jinja

        if self.diagnostics:
            return MissingFileError(*self.diagnostics)
        return UnusableValueError(self.what, self.hint)


class FileAnswers:
    """Answers the questions of ``RemoteProjectFiles``, with the files of this process.

    ``root`` is the project's folder. As in a run without other processes, a file is read once.
    """

    def __init__(self, root: str) -> None:
        """Create an empty cache."""
        files = ProjectFiles(root)
        self._answers: dict[str, Callable[..., Any]] = {
            "find": files.find,
            "find_file": files.find_file,
            "match_files": files.match_files,
            "examine": files.examine,
            "read": files.read,
            "contents": files.contents,
            "tree": files.tree,
            "joined_parts": files.joined_parts,
            "expand_home": lambda text: str(files.expand_home(text)),
            "pieces": lambda pieces: [_read_piece(*piece) for piece in pieces],
        }

    def __call__(self, what: str, *arguments: Any) -> Any:
        """Return the answer. Raises DefinitionError and OSError."""
        from orchestrator.templating.value_text import UnusableValueError  # loads Jinja

        try:
            return self._answers[what](*arguments)
        except MissingFileError as error:
            return FileFailure(error.diagnostics)
        except UnusableValueError as error:
            return FileFailure(what=error.what, hint=error.hint)


def _read_piece(path: str, at: int, size: int) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(at)
        return file.read(size)
