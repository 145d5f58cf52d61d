"""What a part of the matrix stands on: a private machine, and a project with its hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.matrix.compact_run import MatrixProject
from tests.support.sshd_machine import SshdMachine


@dataclass(frozen=True, slots=True)
class MatrixGround:
    """``working_cases`` are the cases, a host and a transport each, on which everything works. They need
    ``environ``, and ``answer`` to whatever is asked."""

    machine: SshdMachine
    project: MatrixProject
    working_cases: tuple[tuple[str, str], ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""


PartFactory = Callable[[Path], AbstractContextManager[MatrixGround]]
"""What makes one, with a new folder for its files."""


class OneAnswerUser:
    """Somebody at a terminal who knows one answer, and what they were asked."""

    def __init__(self, answer: str) -> None:
        self.prompts: list[str] = []
        self._answer = answer

    def __call__(self, text: str, echo: bool, stop: threading.Event) -> str:
        self.prompts.append(text)
        return self._answer
