"""Whose the terminal is: the live view's, or a question's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TerminalLock:
    """One draws or asks at a time, from any threads. A question need not wait for longer than
    the view takes to leave its place, and the view waits until all questions are over.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asking = 0
        self._drawing = False

    @property
    def has_question(self) -> bool:
        """Whether somebody asks, or waits to."""
        return self._asking > 0

    @contextmanager
    def question(self) -> Iterator[None]:
        """While inside, nothing is drawn."""
        with self._changed:
            self._asking += 1
            while self._drawing:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._asking -= 1

    @contextmanager
    def view(self) -> Iterator[bool]:
        """Whether something may be drawn inside; whoever does leaves as soon as ``has_question``."""
        with self._changed:
            drawing = self._drawing = not self._asking
        try:
            yield drawing
        finally:
            with self._changed:
                self._drawing = False
                self._changed.notify_all()
