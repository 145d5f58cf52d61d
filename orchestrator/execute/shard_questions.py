"""The workers' questions to the user, who is asked for the same thing once."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable

from orchestrator.execute.shard_work import Ask


class Questions:
    """Asks one question at a time. Whoever asks the same again was not helped by the answer, and
    is given another: that which somebody else had by then, or a new one."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._one = threading.Lock()
        self._answers: defaultdict[str, list[str | None]] = defaultdict(list)
        self._asked: Counter[tuple[Hashable, str]] = Counter()

    def answer(
        self, who: Hashable, text: str, seen: bool, reply: Callable[[str | None], None]
    ) -> None:
        """Have the question answered, some time."""
        number, stop = self._asked[who, text], self._stop
        self._asked[who, text] += 1

        def find() -> None:
            with self._one:
                answers = self._answers[text]
                if number < len(answers):
                    reply(answers[number])
                    return
                answer = None if stop.is_set() else self._ask(text, seen, stop)
                if not stop.is_set():
                    answers.append(answer)
            reply(answer)

        threading.Thread(target=find, name="question", daemon=True).start()

    def cancel(self) -> None:
        """Give up on what is being asked; what is asked from now on is something else."""
        self._stop.set()
        self._stop = threading.Event()
