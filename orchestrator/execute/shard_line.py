"""A worker's end of the pipe to the run's first process."""

from __future__ import annotations

import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from orchestrator.execute.peers import Agreed
from orchestrator.model.event import Event, StepOutput, TaskFinished, TaskStarted

ORPHAN = 70
"""What a worker ends with whose first process is gone."""

_HELD = 64 << 10  # bytes of events that are sent at once
_EVENT = 256  # bytes that an event without output counts
_SOON = 0.02  # seconds until an event is sent at the latest


class Line:
    """Says what happens, in order, and asks. From any thread.

    Events go some at a time. Whoever has one when there are enough sends them, and waits for as
    long as the other end is busy: so what is held never grows. Where the other end is gone, the
    process ends at once.
    """

    several = True

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.RLock()
        self._events: list[Event] = []
        self._held = 0
        self._some = threading.Event()
        self._count = 0
        self._waiting: dict[int, Callable[[object], None]] = {}
        self.begin = threading.Event()

    def listen(self, interrupt: Callable[[], None]) -> None:
        """Hear the other end, which may tell to begin, and to end what runs."""
        threading.Thread(target=self._hear, args=(interrupt,), daemon=True).start()
        threading.Thread(target=self._flush_soon, daemon=True).start()

    def emit(self, event: Event) -> None:
        """Tell an event."""
        with self._lock:
            self._events.append(event)
            self._held += _EVENT + (len(event.data) if isinstance(event, StepOutput) else 0)
            if self._held >= _HELD:
                self._flush()
            elif len(self._events) == 1:
                self._some.set()

    def say(self, *words: object) -> None:
        """Say something, after all events so far."""
        with self._lock:
            self._flush()
            self._send(words)

    def agree(self, value: object) -> Agreed:
        """As ``Peers.agree``."""
        told = self._ask("agree", pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        values, lost = told
        return Agreed(tuple(map(pickle.loads, values)), lost)

    def tell(self, event: TaskStarted | TaskFinished) -> None:
        """As ``Peers.tell``."""
        self._ask("tell", event)

    def known(self, name: str, text: str) -> None:
        """Have a secret hidden from now on, wherever it is shown."""
        self._ask("known", name, text)

    def ask(self, text: str, seen: bool, stop: threading.Event) -> str | None:
        """Ask the user, through the process that they sit at."""
        answer: str | None = self._ask("ask", text, seen, stop=stop)
        return answer

    def turn(self, question: str, stop: threading.Event) -> int | None:
        """Wait until no other worker tries the answer to this question; what ``Trials`` says of
        it, None where ``stop`` was set meanwhile."""
        refusals: int | None = self._ask("turn", question, stop=stop)
        return refusals

    def tried(self, question: str, how: str) -> None:
        """Say how it went."""
        self.say("tried", question, how)

    def _ask(self, kind: str, *words: object, stop: threading.Event | None = None) -> Any:
        """Say it, and wait for the answer; None where ``stop`` was set meanwhile."""
        answers: list[object] = []
        came = threading.Event()

        def take(answer: object) -> None:
            answers.append(answer)
            came.set()

        with self._lock:
            self._count += 1
            self._waiting[self._count] = take
            self.say(kind, self._count, *words)
        while not came.wait(None if stop is None else 0.2):
            if stop is not None and stop.is_set():
                return None
        return answers[0]

    def _hear(self, interrupt: Callable[[], None]) -> None:
        try:
            self._listen(interrupt)
        except Exception:  # nobody would wake those who wait, nor notice that we are alone
            self.say("raised", None, traceback.format_exc())
        os._exit(ORPHAN)

    def _listen(self, interrupt: Callable[[], None]) -> None:
        while True:
            try:
                number, told = pickle.loads(self._pipe.recv_bytes())
            except (EOFError, OSError):
                return
            if told == "begin":
                self.begin.set()
            elif told == "stop":
                interrupt()
            else:
                self._waiting.pop(number)(told)

    def _flush_soon(self) -> None:
        while self._some.wait():
            time.sleep(_SOON)
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        events, self._events, self._held = self._events, [], 0
        self._some.clear()
        if events:
            self._send(("events", events))

    def _send(self, words: object) -> None:
        try:
            self._pipe.send_bytes(pickle.dumps(words, pickle.HIGHEST_PROTOCOL))
        except OSError:
            os._exit(ORPHAN)
