"""Passwords and other answers that only the user knows.

Each is asked for once, one prompt at a time, and no connection stays open meanwhile.
"""

from __future__ import annotations

import codecs
import os
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from orchestrator.errors import ConnectError, OrchError
from orchestrator.model.host import InventoryPassword
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.transports.deadline import CancelledError
from orchestrator.yamlio.local_files import expand_home

PromptCallback: TypeAlias = Callable[[str, bool, threading.Event], str | None]
"""Asks the user. Arguments: the prompt text, whether to echo the input, and an event that cancels
the prompt. Returns None if there is no answer."""

SecretCallback: TypeAlias = Callable[[str, str], object]
"""Called with the kind of a secret (``ssh password``, for instance) and the secret."""

PASSWORD_FILE_VARIABLE = "ORCH_SSH_PASSWORD_FILE"
BECOME_FILE_VARIABLE = "ORCH_BECOME_PASSWORD_FILE"
MAX_REFUSALS = 3  # hosts in a row that may refuse a password that no host has accepted
POLL_INTERVAL = 0.2


class CredentialRequiredError(ConnectError):
    """Login needs a credential that is not known yet.

    The caller closes the connection, calls ``obtain`` and connects again, because a host does
    not wait as long as a person may need to type.
    """

    def __init__(self, what: str, obtain: Callable[[], None]) -> None:
        super().__init__("auth", f"{what} is needed")
        self.obtain = obtain


class CredentialPrompt(Struct, frozen=True):
    """A question to the user.

    ``echo``: whether the input is visible. ``file_variable``: the environment variable that may
    name a file with the answer, or ''. ``kind``: what the answer is, for ``SecretCallback``.
    ``known``: the inventory's answer, which is used instead if there is one.
    """

    text: str
    echo: bool = False
    file_variable: str = ""
    kind: str = "answer"
    known: InventoryPassword | None = None


AcceptedAnswers: TypeAlias = Mapping[CredentialPrompt, str]
"""Answers that hosts have accepted."""


AnswerSource: TypeAlias = "Callable[[CredentialPrompt], tuple[str | None, str]]"
"""Finds the answer to a prompt elsewhere; returns it, or None and why there is none."""


class _PromptState(Struct):
    """The state of one prompt. ``attempted_by`` is the login that may try an unproven answer."""

    answer: str | None = None
    is_asking: bool = False
    is_accepted: bool = False
    attempted_by: object = None
    refusals: int = 0
    error: str = ""


class CredentialStore:
    """The credentials of a run. Thread-safe; setting ``stop`` ends all waiting.

    Only one login at a time tries an answer that no host has accepted yet, and after
    ``MAX_REFUSALS`` refusals it is not tried again: a mistyped password must not lock the account
    on every host.
    ``on_secret`` is called with each answer that is not echoed, before the answer is sent.
    ``accepted_answers`` are not asked for again. ``find_elsewhere`` is asked instead of the user
    and the environment's files.
    """

    def __init__(
        self,
        prompt_user: PromptCallback | None,
        environ: Mapping[str, str],
        stop: threading.Event,
        on_secret: SecretCallback = lambda _kind, _answer: None,
        accepted_answers: AcceptedAnswers | None = None,
        find_elsewhere: AnswerSource | None = None,
    ) -> None:
        self._find_elsewhere = find_elsewhere
        self._prompt_user, self._environ, self._stop, self._on_secret = (
            prompt_user,
            environ,
            stop,
            on_secret,
        )
        self._prompt_lock = threading.Lock()  # one prompt at a time
        self._changed = threading.Condition()
        self._states: dict[CredentialPrompt, _PromptState] = {
            prompt: _PromptState(answer, is_accepted=True)
            for prompt, answer in (accepted_answers or {}).items()
        }

    def accepted_answers(self) -> AcceptedAnswers:
        """Return the answers that hosts have accepted."""
        with self._changed:
            return {
                prompt: state.answer
                for prompt, state in self._states.items()
                if state.is_accepted and state.answer is not None
            }

    def can_answer(self, variable: str) -> bool:
        """Return True if the user can be asked or the environment has ``variable``."""
        return self._prompt_user is not None or bool(self._environ.get(variable))

    def ask_user(self, prompt: CredentialPrompt) -> str | None:
        """Ask the user now. Return None if there is no answer. Raises CancelledError."""
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
        """Return the answer for ``attempt`` to send, or None if there is none (see ``error_for``).

        Raises CredentialRequiredError if the user must be asked or another attempt is trying it.
        """
        with self._changed:
            state = self._states.setdefault(prompt, _PromptState())
            if state.error:
                return None
            if state.answer is not None and (state.is_accepted or state.attempted_by is attempt):
                return state.answer
        raise CredentialRequiredError(
            prompt.text, lambda: self._obtain_answer(prompt, state, attempt)
        )

    def wait_for_answer(self, prompt: CredentialPrompt, attempt: object) -> str | None:
        """Wait until ``attempt`` may send the answer and return it; None if there is none."""
        while True:
            try:
                return self.get_answer(prompt, attempt)
            except CredentialRequiredError as required:
                required.obtain()

    def error_for(self, prompt: CredentialPrompt) -> str:
        """Return why there is no answer, or why it may not be sent any more."""
        return self._states[prompt].error

    def mark_accepted(self, prompt: CredentialPrompt) -> None:
        """Record that a host accepted the answer."""
        with self._changed:
            state = self._states[prompt]
            state.is_accepted, state.attempted_by = True, None
            self._changed.notify_all()

    def mark_refused(self, prompt: CredentialPrompt) -> None:
        """Record that a host refused the answer."""
        with self._changed:
            state = self._states[prompt]
            state.attempted_by = None
            _record_refusal(state, state.refusals + 1)
            self._changed.notify_all()

    def release_attempt(self, attempt: object) -> None:
        """Let other logins try the answers that ``attempt`` was trying."""
        with self._changed:
            for state in self._states.values():
                if state.attempted_by is attempt:
                    state.attempted_by = None
            self._changed.notify_all()

    def _obtain_answer(
        self, prompt: CredentialPrompt, state: _PromptState, attempt: object
    ) -> None:
        """Wait until the prompt has an answer that ``attempt`` may try, or an error."""
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
        answer, error = None, "the prompt was cancelled"
        try:
            answer, error = self.find_answer(prompt)
        finally:
            with self._changed:
                state.answer, state.error, state.attempted_by = answer, error, attempt
                state.is_asking = False
                self._changed.notify_all()

    def find_answer(self, prompt: CredentialPrompt) -> tuple[str | None, str]:
        """Return the answer, or None and why there is none."""
        if prompt.known is not None:
            try:
                known = prompt.known.find()
            except OrchError as bad:
                return None, str(bad)
            if known is not None:
                self._on_secret(prompt.kind, known)
                return known, ""
        if self._find_elsewhere is not None:
            answer, error = self._find_elsewhere(prompt)
            if answer is not None and not prompt.echo:
                self._on_secret(prompt.kind, answer)
            return answer, error
        name = self._environ.get(prompt.file_variable, "") if prompt.file_variable else ""
        if name:
            answer, error = _read_password_file(prompt.file_variable, expand_home(name))
            if answer is not None:
                self._on_secret(prompt.kind, answer)
            return answer, error
        answer = self.ask_user(prompt)
        if answer is not None:
            return answer, ""
        hint = f", and {prompt.file_variable} is not set" if prompt.file_variable else ""
        return None, f"no answer at a terminal{hint}"

    def _raise_if_cancelled(self) -> None:
        if self._stop.is_set():
            raise CancelledError


def _record_refusal(state: _PromptState, refusal_count: int) -> None:
    state.refusals = refusal_count
    if not state.is_accepted and refusal_count >= MAX_REFUSALS:
        state.error = (
            f"{refusal_count} hosts refused it and none accepted it, so it was not sent to "
            "more hosts, which may lock the account"
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
    """The credentials of one login attempt.

    ``account`` names the account in prompts; ``attempt`` identifies the login attempt. ``known`` is
    the inventory's password of the account.
    """

    credential_store: CredentialStore
    account: str
    attempt: object
    known: InventoryPassword | None = None

    def prompt_for(self, host_prompt: str = "", *, echo: bool = False) -> CredentialPrompt:
        """Return the prompt for the account's password, or for the server's ``host_prompt``."""
        if not host_prompt:
            return CredentialPrompt(
                f"Password of {self.account}",
                file_variable=PASSWORD_FILE_VARIABLE,
                kind="ssh password",
                known=self.known,
            )
        shown = "".join(sign if sign.isprintable() else " " for sign in host_prompt[:200])
        return CredentialPrompt(f"{shown.strip(' :')} (of {self.account})", echo)

    def get_answer(self, prompt: CredentialPrompt) -> str | None:
        """Call ``CredentialStore.get_answer`` for this attempt."""
        return self.credential_store.get_answer(prompt, self.attempt)
