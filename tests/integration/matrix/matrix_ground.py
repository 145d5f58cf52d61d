"""The fixture of a part of the matrix: a private machine, and a project with its hosts."""

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
    """A private machine and its project.

    ``working_cases`` are the cases, a host and a transport each, that work. They need ``environ``,
    and ``answer`` as the answer to every prompt.
    """

    machine: SshdMachine
    project: MatrixProject
    working_cases: tuple[tuple[str, str], ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""


PartFactory = Callable[[Path], AbstractContextManager[MatrixGround]]
"""What makes one, with a new folder for its files."""


class OneAnswerUser:
    """A user who gives one answer, and records the prompts."""

    def __init__(self, answer: str) -> None:
        self.prompts: list[str] = []
        self._answer = answer

    def __call__(self, text: str, echo: bool, stop: threading.Event) -> str:
        self.prompts.append(text)
        return self._answer
