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
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.transports.deadline import CancelledError
from orchestrator.yamlio.local_files import expand_home

PromptCallback: TypeAlias = Callable[[str, bool, threading.Event], str | None]
"""Asks the user a question; whether what is typed may be seen; what to give up on. None where
nobody answers."""

SecretCallback: TypeAlias = Callable[[str, str], object]
"""Told what an answer is (ssh password, say) and the answer, which nobody else is to see."""

PASSWORD_FILE_VARIABLE = "ORCH_SSH_PASSWORD_FILE"
BECOME_FILE_VARIABLE = "ORCH_BECOME_PASSWORD_FILE"
MAX_REFUSALS = 3  # hosts in a row that may refuse a password which none has taken
POLL_INTERVAL = 0.2


class CredentialRequiredError(ConnectError):
    """Logging in needs an answer. Whoever catches it calls ``obtain`` and connects again: the
    host would not wait for as long as somebody may take to type.
    """

    def __init__(self, what: str, obtain: Callable[[], None]) -> None:
        super().__init__("auth", f"{what} is needed")
        self.obtain = obtain


class CredentialPrompt(Struct, frozen=True):
    """``echo``: whether what is typed may be seen. ``file_variable``: the environment's variable that may
    name a file with the answer. ``kind``: what the answer is.
    """

    text: str
    echo: bool = False
    file_variable: str = ""
    kind: str = "answer"


class _PromptState(Struct):
    """What is known of one question. ``attempted_by``: who finds out whether the answer is right."""

    answer: str | None = None
    is_asking: bool = False
    is_accepted: bool = False
    attempted_by: object = None
    refusals: int = 0
    error: str = ""


class CredentialStore:
    """The run's answers. From any thread; ``stop`` ends all waiting with CancelledError.

    An answer that no host has taken yet is tried by one at a time, and by no more than three: a
    password with a slip in it must not lock an account out on every host.
    ``known`` is told each answer that is not for all to see, before anybody sends it. What hosts
    took of the answers ``previous`` is not asked for again.
    """

    def __init__(
        self,
        prompt_user: PromptCallback | None,
        environ: Mapping[str, str],
        stop: threading.Event,
        on_secret: SecretCallback = lambda _kind, _answer: None,
        previous: CredentialStore | None = None,
    ) -> None:
        self._prompt_user, self._environ, self._stop, self._on_secret = (
            prompt_user,
            environ,
            stop,
            on_secret,
        )
        self._prompt_lock = threading.Lock()  # at the terminal
        self._changed = threading.Condition()
        self._states: dict[CredentialPrompt, _PromptState] = (
            previous.accepted_answers() if previous else {}
        )

    def accepted_answers(self) -> dict[CredentialPrompt, _PromptState]:
        """What hosts have taken."""
        with self._changed:
            taken = [
                (each, known.answer) for each, known in self._states.items() if known.is_accepted
            ]
        return {each: _PromptState(answer, is_accepted=True) for each, answer in taken}

    def can_answer(self, variable: str) -> bool:
        """Whether a question can have an answer, which may be in a file named by ``variable``."""
        return self._prompt_user is not None or bool(self._environ.get(variable))

    def ask_user(self, prompt: CredentialPrompt) -> str | None:
        """Ask the user now. None where nobody answers. Raises CancelledError."""
        while not self._prompt_lock.acquire(timeout=POLL_INTERVAL):
            self._raise_if_cancelled()
        try:
            self._raise_if_cancelled()
            if self._prompt_user is None:
                return None
            answer = self._prompt_user(f"{prompt.text}: ", prompt.echo, self._stop) or None
            if answer and not prompt.echo:
                self._on_secret(prompt.kind, answer)
            return answer
        finally:
            self._prompt_lock.release()
            self._raise_if_cancelled()

    def get_answer(self, prompt: CredentialPrompt, attempt: object) -> str | None:
        """The answer for ``attempt`` to send; None where there is none (see ``trouble``). Raises
        CredentialRequiredError where it has to be asked for, or somebody else is just finding out.
        """
        with self._changed:
            known = self._states.setdefault(prompt, _PromptState())
            if known.error:
                return None
            if known.answer is not None and (known.is_accepted or known.attempted_by is attempt):
                return known.answer
        raise CredentialRequiredError(
            prompt.text, lambda: self._obtain_answer(prompt, known, attempt)
        )

    def wait_for_answer(self, prompt: CredentialPrompt, attempt: object) -> str | None:
        """As ``get_answer``, but it waits until there is an answer that ``attempt`` may send, or none."""
        while True:
            try:
                return self.get_answer(prompt, attempt)
            except CredentialRequiredError as required:
                required.obtain()

    def error_for(self, prompt: CredentialPrompt) -> str:
        """Why there is no answer, or no more."""
        return self._states[prompt].error

    def mark_accepted(self, prompt: CredentialPrompt) -> None:
        """A host took the answer."""
        with self._changed:
            known = self._states[prompt]
            known.is_accepted, known.attempted_by = True, None
            self._changed.notify_all()

    def mark_refused(self, prompt: CredentialPrompt) -> None:
        """A host did not."""
        with self._changed:
            known = self._states[prompt]
            known.attempted_by = None
            _record_refusal(known, known.refusals + 1)
            self._changed.notify_all()

    def release_attempt(self, attempt: object) -> None:
        """``attempt`` tries no more."""
        with self._changed:
            for known in self._states.values():
                if known.attempted_by is attempt:
                    known.attempted_by = None
            self._changed.notify_all()

    def _obtain_answer(
        self, prompt: CredentialPrompt, state: _PromptState, attempt: object
    ) -> None:
        """Have an answer, or trouble; ``attempt`` may be the one to try it."""
        with self._changed:
            while not state.error and not state.is_accepted:
                self._raise_if_cancelled()
                if state.answer is not None and state.attempted_by in (None, attempt):
                    state.attempted_by = attempt
                    return
                if state.answer is None and not state.is_asking:
                    state.is_asking = True
                    break
                self._changed.wait(POLL_INTERVAL)
            else:
                return
        answer, trouble = None, "the question was cancelled"
        try:
            answer, trouble = self._fetch_answer(prompt)
        finally:
            with self._changed:
                state.answer, state.error, state.attempted_by = answer, trouble, attempt
                state.is_asking = False
                self._changed.notify_all()

    def _fetch_answer(self, prompt: CredentialPrompt) -> tuple[str | None, str]:
        name = self._environ.get(prompt.file_variable, "") if prompt.file_variable else ""
        if name:
            answer, trouble = _read_password_file(prompt.file_variable, expand_home(name))
            if answer is not None:
                self._on_secret(prompt.kind, answer)
            return answer, trouble
        answer = self.ask_user(prompt)
        if answer is not None:
            return answer, ""
        hint = f", and {prompt.file_variable} names no file with it" if prompt.file_variable else ""
        return None, f"nobody answered at a terminal{hint}"

    def _raise_if_cancelled(self) -> None:
        if self._stop.is_set():
            raise CancelledError


def _record_refusal(state: _PromptState, refusal_count: int) -> None:
    state.refusals = refusal_count
    if not state.is_accepted and refusal_count >= MAX_REFUSALS:
        state.error = (
            f"{refusal_count} hosts refused it and none took it, so that it was sent to "
            "no more: they may lock the account"
        )


def _read_password_file(variable: str, path: Path) -> tuple[str | None, str]:
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
    password = decode_bytes(data).split("\n", 1)[0].removesuffix("\r")
    return (password, "") if password else (None, f"{variable}: {path} is empty")


class LoginCredentials(Struct, frozen=True):
    """Where one attempt to log in gets its answers. ``account`` is whose password it is, as the
    question says; ``attempt`` stands for the attempt.
    """

    credential_store: CredentialStore
    account: str
    attempt: object

    def prompt_for(self, host_prompt: str = "", *, echo: bool = False) -> CredentialPrompt:
        """For the account's password, or for an answer to the host's own ``host_prompt``."""
        if not host_prompt:
            return CredentialPrompt(
                f"Password of {self.account}",
                file_variable=PASSWORD_FILE_VARIABLE,
                kind="ssh password",
            )
        shown = "".join(sign if sign.isprintable() else " " for sign in host_prompt[:200])
        return CredentialPrompt(f"{shown.strip(' :')} (of {self.account})", echo)

    def get_answer(self, prompt: CredentialPrompt) -> str | None:
        """As ``CredentialStore.take``."""
        return self.credential_store.get_answer(prompt, self.attempt)
