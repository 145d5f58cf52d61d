"""Files of another process: what is read from the copy, and what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import MissingFileError, SourcePosition
from orchestrator.model.command import UploadPayload
from orchestrator.planner.file_tree import TreeOptions
from orchestrator.planner.remote_project_files import FileAnswers, RemoteProjectFiles
from orchestrator.templating.filter_calls import NO_FILTERS
from orchestrator.templating.value_text import UnusableValueError
from orchestrator.yamlio.local_files import REMOTE_PROJECT, RemoteProject

MARK = SourcePosition("tasks/t.yml", 1, 1)


class OtherProcess:
    """Answers at once, from the files below ``root``."""

    def __init__(self, root: Path) -> None:
        self.has_begun, self._answers = False, FileAnswers(str(root))
        self.asked: list[str] = []

    def ask(self, what: str, *arguments: Any) -> Any:
        self.asked.append(what)
        return Context().run(self._answers, what, *arguments)

    def bring(self, files: Sequence[tuple[str, int, str]]) -> list[str]:
        self.asked.append("bring")
        return [path for path, _, _ in files]

    def close(self) -> None:
        pass


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("there", "copy"):
        (tmp_path / name / "tasks").mkdir(parents=True)
        (tmp_path / name / "tasks/motd").write_text("first")
    monkeypatch.chdir(tmp_path / "there")
    return tmp_path / "there"


def test_the_copy_counts_until_the_run_begins_then_what_steps_have_changed(root: Path) -> None:
    other = OtherProcess(root)
    project = RemoteProject(str(root), str(root.parent / "copy"), str(root), other)
    token = REMOTE_PROJECT.set(project)
    try:
        files = RemoteProjectFiles(project, other, NO_FILTERS)
        found = Path(files.find("motd", MARK))
        assert found == root / "tasks/motd"
        assert files.contents(found, MARK) == b"first"
        assert other.asked == []

        other.has_begun = True
        (root / "tasks/motd").write_text("second")
        (root / "made").write_bytes(b"x" * 100_000)
        assert files.contents(found, MARK) == b"first"  # a run reads a file once
        made = files.contents(Path(files.find("made", MARK)), MARK)
        assert isinstance(made, UploadPayload)
        assert (made.size, made.path) == (100_000, root / "made")
        assert files.read_text("motd", MARK, None)[0] == "second"  # type: ignore[arg-type]
        assert files.examine("made") == (str(root / "made"), "file")
        tree = files.tree(root / "tasks", TreeOptions(), MARK)
        assert [entry.name for _, entry in tree.members] == [b"./motd"]
        with pytest.raises(MissingFileError, match="cannot read gone"):
            files.contents(root / "gone", MARK)
        with pytest.raises(UnusableValueError, match="outside of the project"):
            files.find_file("../../etc/passwd", MARK)
    finally:
        REMOTE_PROJECT.reset(token)
