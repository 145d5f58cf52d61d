"""Arbitration of the terminal between the live view and prompts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TerminalLock:
    """A lock that lets one thread draw or prompt at a time.

    A prompt waits only until the view is removed; the view waits until all prompts are done.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asking = 0
        self._drawing = False

    @property
    def has_question(self) -> bool:
        """Return True if a prompt is active or waiting."""
        return self._asking > 0

    @contextmanager
    def question(self) -> Iterator[None]:
        """Keep the view from drawing while inside."""
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
        """Yield True if the view may draw inside; it must leave as soon as ``has_question``."""
        with self._changed:
            drawing = self._drawing = not self._asking
        try:
            yield drawing
        finally:
            with self._changed:
                self._drawing = False
                self._changed.notify_all()
