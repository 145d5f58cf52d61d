"""Loading tasks with each shipped module parsed once in a process: it takes most of a short run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

from orchestrator.model.marked_value import MarkedValue
from orchestrator.modules import MODULES_FOLDER
from orchestrator.playbook import task_loader
from orchestrator.playbook.model import Task
from orchestrator.playbook.task_parser import TaskParser


class RememberingParser(TaskParser):
    """A parser that keeps the shipped modules in which it found no error."""

    _parsed: ClassVar[dict[str, Task]] = {}

    def parse_task(self, name: str, value: MarkedValue) -> Task:
        path = value.mark.path
        if path not in self._parsed:
            task = super().parse_task(name, value)
            is_shipped = Path(path).resolve().is_relative_to(MODULES_FOLDER)
            if task.module is None or not is_shipped or self.problems.diagnostics:
                return task
            self._parsed[path] = task
        return self._parsed[path]


def load_tasks(root: Path, names: Iterable[str] | None) -> task_loader.LoadedTasks:
    """Load tasks as ``playbook.load_tasks`` does."""
    with patch.object(task_loader, "TaskParser", RememberingParser):
        return task_loader.load_tasks(root, names)
