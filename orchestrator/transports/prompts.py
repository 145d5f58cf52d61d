"""What only the user knows: asked once, one question at a time, with no connection waiting."""

from __future__ import annotations

import codecs
import os
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.model.text_encoding import decode
from orchestrator.transports.deadline import CancelledError
from orchestrator.yamlio.local_files import expand_home

Ask: TypeAlias = Callable[[str, bool, threading.Event], str | None]
"""Asks the user a question; whether what is typed may be seen; what to give up on. None where
nobody answers."""

Known: TypeAlias = Callable[[str, str], object]
"""Told what an answer is (ssh password, say) and the answer, which nobody else is to see."""

PASSWORD_FILE = "ORCH_SSH_PASSWORD_FILE"
BECOME_FILE = "ORCH_BECOME_PASSWORD_FILE"
REFUSALS = 3  # hosts in a row that may refuse a password which none has taken
SLICE = 0.2


class WantedError(ConnectError):
    """Logging in needs an answer. Whoever catches it calls ``settle`` and connects again: the
    host would not wait for as long as somebody may take to type.
    """

    def __init__(self, what: str, settle: Callable[[], None]) -> None:
        super().__init__("auth", f"{what} is needed")
        self.settle = settle


class Question(Struct, frozen=True):
    """``seen``: whether what is typed may be seen. ``file``: the environment's variable that may
    name a file with the answer. ``kind``: what the answer is.
    """

    text: str
    seen: bool = False
    file: str = ""
    kind: str = "answer"


class _Known(Struct):
    """What is known of one question. ``trier``: who finds out whether the answer is right."""

    answer: str | None = None
    asking: bool = False
    proven: bool = False
    trier: object = None
    refusals: int = 0
    trouble: str = ""


class Answers:
    """The run's answers. From any thread; ``stop`` ends all waiting with CancelledError.

    An answer that no host has taken yet is tried by one at a time, and by no more than three: a
    password with a slip in it must not lock an account out on every host.
    ``known`` is told each answer that is not for all to see, before anybody sends it. What hosts
    took of the answers ``before`` is not asked for again.
    """

    def __init__(
        self,
        ask: Ask | None,
        environ: Mapping[str, str],
        stop: threading.Event,
        known: Known = lambda _kind, _answer: None,
        before: Answers | None = None,
    ) -> None:
        self._ask, self._environ, self._stop, self._tell = ask, environ, stop, known
        self._one = threading.Lock()  # at the terminal
        self._changed = threading.Condition()
        self._known: dict[Question, _Known] = before.proven() if before else {}

    def proven(self) -> dict[Question, _Known]:
        """What hosts have taken."""
        with self._changed:
            taken = [(each, known.answer) for each, known in self._known.items() if known.proven]
        return {each: _Known(answer, proven=True) for each, answer in taken}

    def may_have(self, variable: str) -> bool:
        """Whether a question can have an answer, which may be in a file named by ``variable``."""
        return self._ask is not None or bool(self._environ.get(variable))

    def ask(self, question: Question) -> str | None:
        """Ask the user now. None where nobody answers. Raises CancelledError."""
        while not self._one.acquire(timeout=SLICE):
            self._not_stopped()
        try:
            self._not_stopped()
            if self._ask is None:
                return None
            answer = self._ask(f"{question.text}: ", question.seen, self._stop) or None
            if answer and not question.seen:
                self._tell(question.kind, answer)
            return answer
        finally:
            self._one.release()
            self._not_stopped()

    def take(self, question: Question, who: object) -> str | None:
        """The answer for ``who`` to send; None where there is none (see ``trouble``). Raises
        WantedError where it has to be asked for, or somebody else is just finding out.
        """
        with self._changed:
            known = self._known.setdefault(question, _Known())
            if known.trouble:
                return None
            if known.answer is not None and (known.proven or known.trier is who):
                return known.answer
        raise WantedError(question.text, lambda: self._settle(question, known, who))

    def wait(self, question: Question, who: object) -> str | None:
        """As ``take``, but it waits until there is an answer that ``who`` may send, or none."""
        while True:
            try:
                return self.take(question, who)
            except WantedError as wanted:
                wanted.settle()

    def trouble(self, question: Question) -> str:
        """Why there is no answer, or no more."""
        return self._known[question].trouble

    def accepted(self, question: Question) -> None:
        """A host took the answer."""
        with self._changed:
            known = self._known[question]
            known.proven, known.trier = True, None
            self._changed.notify_all()

    def refused(self, question: Question) -> None:
        """A host did not."""
        with self._changed:
            known = self._known[question]
            known.trier = None
            _refused(known, known.refusals + 1)
            self._changed.notify_all()

    def leave(self, who: object) -> None:
        """``who`` tries no more."""
        with self._changed:
            for known in self._known.values():
                if known.trier is who:
                    known.trier = None
            self._changed.notify_all()

    def _settle(self, question: Question, known: _Known, who: object) -> None:
        """Have an answer, or trouble; ``who`` may be the one to try it."""
        with self._changed:
            while not known.trouble and not known.proven:
                self._not_stopped()
                if known.answer is not None and known.trier in (None, who):
                    known.trier = who
                    return
                if known.answer is None and not known.asking:
                    known.asking = True
                    break
                self._changed.wait(SLICE)
            else:
                return
        answer, trouble = None, "the question was cancelled"
        try:
            answer, trouble = self._answer(question)
        finally:
            with self._changed:
                known.answer, known.trouble, known.trier = answer, trouble, who
                known.asking = False
                self._changed.notify_all()

    def _answer(self, question: Question) -> tuple[str | None, str]:
        name = self._environ.get(question.file, "") if question.file else ""
        if name:
            answer, trouble = _from_file(question.file, expand_home(name))
            if answer is not None:
                self._tell(question.kind, answer)
            return answer, trouble
        answer = self.ask(question)
        if answer is not None:
            return answer, ""
        hint = f", and {question.file} names no file with it" if question.file else ""
        return None, f"nobody answered at a terminal{hint}"

    def _not_stopped(self) -> None:
        if self._stop.is_set():
            raise CancelledError


def _refused(known: _Known, times: int) -> None:
    known.refusals = times
    if not known.proven and times >= REFUSALS:
        known.trouble = (
            f"{times} hosts refused it and none took it, so that it was sent to "
            "no more: they may lock the account"
        )


def _from_file(variable: str, path: Path) -> tuple[str | None, str]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(4096).removeprefix(codecs.BOM_UTF8)  # some editors write one
    except OSError as error:
        return None, f"{variable}: can't read {path}: {error.strerror}"
    if status.st_uid not in (os.getuid(), 0) or stat.S_IMODE(status.st_mode) & 0o077:
        return None, f"{variable}: others may read {path} (chmod 600 {path})"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None, f"{variable}: {path} is UTF-16 (save it as UTF-8)"
    password = decode(data).split("\n", 1)[0].removesuffix("\r")
    return (password, "") if password else (None, f"{variable}: {path} is empty")


class Desk(Struct, frozen=True):
    """Where one attempt to log in gets its answers. ``account`` is whose password it is, as the
    question says; ``who`` stands for the attempt.
    """

    answers: Answers
    account: str
    who: object

    def question(self, prompt: str = "", *, seen: bool = False) -> Question:
        """For the account's password, or for an answer to the host's own ``prompt``."""
        if not prompt:
            return Question(f"Password of {self.account}", file=PASSWORD_FILE, kind="ssh password")
        shown = "".join(sign if sign.isprintable() else " " for sign in prompt[:200])
        return Question(f"{shown.strip(' :')} (of {self.account})", seen)

    def take(self, question: Question) -> str | None:
        """As ``Answers.take``."""
        return self.answers.take(question, self.who)
