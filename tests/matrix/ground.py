"""What a part of the matrix stands on: a private machine, and a project with its hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.matrix.compact import Project
from tests.matrix.place import Place


@dataclass(frozen=True, slots=True)
class Ground:
    """``works`` are the cases, a host and a transport each, on which everything works. They need
    ``environ``, and ``answer`` to whatever is asked."""

    place: Place
    project: Project
    works: tuple[tuple[str, str], ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""


Part = Callable[[Path], AbstractContextManager[Ground]]
"""What makes one, with a new folder for its files."""


class Person:
    """Somebody at a terminal who knows one answer, and what they were asked."""

    def __init__(self, answer: str) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def __call__(self, text: str, seen: bool, stop: threading.Event) -> str:
        self.asked.append(text)
        return self._answer
