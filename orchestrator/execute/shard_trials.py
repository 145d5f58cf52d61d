"""Answers that no host has taken yet, which are tried by one worker at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct, field

PROVEN = -1
"""Said in place of how many hosts refused an answer: one took it."""


class _Trial(Struct):
    """``trier`` is whose turn it is; ``refusals`` is PROVEN once a host took the answer."""

    trier: int | None = None
    refusals: int = 0
    waiting: deque[tuple[int, Callable[[int], None]]] = field(default_factory=deque)


class Trials:
    """Gives turns, by question. A worker is told how many hosts refused the answer so far."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}

    def turn(self, who: int, question: str, grant: Callable[[int], None]) -> None:
        """``grant`` is called when it is this worker's turn, or the answer is known to be right."""
        trial = self._trials.setdefault(question, _Trial())
        trial.waiting.append((who, grant))
        self._next(trial)

    def tried(self, who: int, question: str, how: str) -> None:
        """A worker's turn is over: the answer was ``accepted`` or ``refused``, or neither."""
        trial = self._trials.setdefault(question, _Trial())
        if how == "accepted":
            trial.refusals = PROVEN
        elif how == "refused" and trial.refusals != PROVEN:
            trial.refusals += 1
        if trial.trier == who:
            trial.trier = None
        self._next(trial)

    def leave(self, who: int) -> None:
        """The worker tries nothing more."""
        for question in list(self._trials):
            self.tried(who, question, "")

    def _next(self, trial: _Trial) -> None:
        while trial.waiting and (
            trial.refusals == PROVEN or trial.trier in (None, trial.waiting[0][0])
        ):
            who, grant = trial.waiting.popleft()
            if trial.refusals != PROVEN:
                trial.trier = who
            grant(trial.refusals)
