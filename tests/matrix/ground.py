"""What a part of the matrix stands on: a private machine, and a project with its hosts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

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


class Person:
    """Somebody at a terminal who knows one answer, and what they were asked."""

    def __init__(self, answer: str) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def __call__(self, text: str, seen: bool, stop: threading.Event) -> str:
        self.asked.append(text)
        return self._answer
