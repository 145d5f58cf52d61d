"""Becoming another user on a channel: waiting for their shell, and giving a password."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.clean import quote_end
from orchestrator.session.channel import Channel, Chunk
from orchestrator.transport.ask import BECOME_FILE, Answers, Question
from orchestrator.transport.become import Become
from orchestrator.transport.deadline import CancelledError

_SAID = 2000  # bytes
_HELD = 1 << 16  # bytes of stderr that are kept before there is a shell
_MARGIN = 0.9  # of the time that a session waits for a shell, whose error would not say as much


class Desk(Struct, frozen=True):
    """Where a channel gets its password from. ``login`` is the login user; ``timeout`` how many
    seconds the host may take, not counting those that we do. ``told`` hears how it went: with
    None where the shell came unasked, with the error where a password was wrong. ``asked`` hears
    that there was a question.
    """

    answers: Answers
    login: str
    timeout: float
    told: Callable[[ConnectError | None], object]
    asked: Callable[[], object]


class Becoming:
    """A channel on which ``become`` runs. Satisfies ``session.channel.Channel``.

    What it says before the token is handed on, the token's line is not. ``read`` raises
    ConnectError (phase become) where it ends without one. Where it may ask, ``write`` takes
    nothing until the shell is there, and ``read`` waits for whoever types the password.
    """

    def __init__(self, channel: Channel, become: Become, desk: Desk | None = None) -> None:
        self._channel, self._become = channel, become
        self._token = f"{become.token}\n".encode()
        self._held = self._said = b""
        self._there = False
        self._asking = _Asking(channel, become, desk) if become.asks and desk else None

    def write(self, data: bytes | memoryview) -> int:
        """As ``Channel.write``."""
        if self._asking and not self._there:
            return 0
        return self._channel.write(data)

    def read(self, timeout: float | None) -> Chunk:
        """As ``Channel.read``."""
        chunk = self._channel.read(timeout)
        return chunk if self._there else self._awaiting(chunk)

    def wake(self) -> None:
        """As ``Channel.wake``."""
        self._channel.wake()

    def close_stdin(self) -> None:
        """As ``Channel.close_stdin``."""
        if self._asking and not self._there:
            self._asking.give_up()
        self._channel.close_stdin()

    def close(self) -> None:
        """As ``Channel.close``."""
        if self._asking and not self._there:
            self._asking.give_up()
        self._there = True  # its end is our doing
        self._channel.close()

    def exit_status(self) -> int | None:
        """As ``Channel.exit_status``."""
        return self._channel.exit_status()

    def cause(self) -> str:
        """As ``Channel.cause``."""
        return self._channel.cause()

    def _awaiting(self, chunk: Chunk) -> Chunk:
        before, found, behind = (self._held + chunk.stdout).partition(self._token)
        self._there = bool(found)
        kept = 0 if found else _beginning(before, self._token)
        self._held = before[len(before) - kept :]
        stdout = before[: len(before) - kept] + behind
        chunk = replace(chunk, stdout=stdout)
        if self._asking:
            chunk = self._asking.heard(chunk, there=self._there)
        self._said = (self._said + stdout + chunk.stderr)[-_SAID:]
        status = self.exit_status()
        if chunk.eof and not found and status is None and self._asking:
            self._asking.give_up()  # it was cut
        elif chunk.eof and not found and status is not None:
            self._refused(status)
        return chunk

    def _refused(self, status: int) -> None:
        said = self._said + self._held
        if not self._asking:
            raise self._become.refused(said, status)
        self._asking.ended(said, status)


class _Asking:
    """The part of it that has to do with the password. What comes on stderr it keeps until the
    shell is there, or will not be.
    """

    def __init__(self, channel: Channel, become: Become, desk: Desk) -> None:
        self._channel, self._become, self._desk = channel, become, desk
        self._by = time.monotonic() + desk.timeout * _MARGIN
        self._stdout = self._stderr = self._unsent = b""
        self._questions = 0
        self._sent: Question | None = None
        self._over: ConnectError | None = None
        self._given_up = False

    def heard(self, chunk: Chunk, *, there: bool) -> Chunk:
        """What to hand on of it. Raises ConnectError where the host takes too long."""
        self._stderr = (self._stderr + chunk.stderr)[-_HELD:]
        self._stdout = (self._stdout + chunk.stdout)[-_SAID:]
        waited = 0.0
        if there:
            self._succeeded()
        elif not self._given_up and not self._over:
            waited = self._answer()
            self._flush()
            if not chunk.eof and self._channel.exit_status() is None:
                self._in_time()
        stderr = b""
        if there or chunk.eof:
            stderr, self._stderr = self._become.without_marks(self._stderr), b""
        return replace(chunk, stderr=stderr, waited=waited)

    def ended(self, said: bytes, status: int) -> None:
        """The tool is over. Raises ConnectError, unless nobody wants its shell any more."""
        if self._given_up:
            return
        if self._over:
            raise self._over
        if self._sent and self._become.is_wrong(said):
            raise self._wrong(self._sent)
        if self._sent and self._become.is_right(said):
            self._desk.answers.accepted(self._sent)
        self._desk.answers.leave(self)
        raise self._become.refused(said, status)

    def give_up(self) -> None:
        """Nobody wants it any more."""
        self._given_up = True
        self._desk.answers.leave(self)

    def _succeeded(self) -> None:
        if self._sent:
            self._desk.answers.accepted(self._sent)
        else:
            self._desk.told(None)

    def _answer(self) -> float:
        """Answer a question that has come; the seconds that it took to have the answer."""
        account = self._become.asked(self._stderr, self._stdout, self._desk.login)
        if not account:
            return 0.0
        self._stderr, self._stdout = self._become.without_marks(self._stderr), b""
        if self._sent:  # once more
            self._over = self._wrong(self._sent)
            self._close_stdin()
            return 0.0
        self._desk.asked()
        began = time.monotonic()
        question = self._become.question(account)
        try:
            answer = self._desk.answers.wait(question, self)
        except CancelledError as cancelled:
            self._over = cancelled
            self._close_stdin()
            return 0.0
        waited = time.monotonic() - began
        self._by += waited
        if answer is None:
            self._over = self._nothing(question)
            self._close_stdin()
        else:
            self._sent, self._unsent = question, f"{answer}\n".encode("utf-8", "surrogateescape")
        return waited

    def _flush(self) -> None:
        if self._unsent:
            with suppress(OSError):  # it is gone, and reading says so
                self._unsent = self._unsent[self._channel.write(self._unsent) :]

    def _close_stdin(self) -> None:
        with suppress(OSError):
            self._channel.close_stdin()

    def _wrong(self, question: Question) -> ConnectError:
        answers = self._desk.answers
        answers.refused(question)
        stopped = answers.trouble(question)
        hint = stopped or "it was tried here once; what is tried more often may lock the account"
        error = self._become.failed(f"the {question.text} that was given is wrong", hint)
        self._desk.told(error)
        return error

    def _nothing(self, question: Question) -> ConnectError:
        trouble = self._desk.answers.trouble(question)
        permit = self._become.permit()
        hint = f"a file that {BECOME_FILE} names can have it; to do without one, {permit}"
        return self._become.failed(f"it needs the {question.text}: {trouble}", hint)

    def _in_time(self) -> None:
        if time.monotonic() < self._by:
            return
        said = quote_end(self._stdout + self._become.without_marks(self._stderr))
        self._desk.answers.leave(self)
        self._given_up = True
        self._close_stdin()
        raise self._become.failed(
            f"it takes longer than {self._desk.timeout:g} s; it said {said or 'nothing'}",
            "orch gives a password and no more: does PAM on the host ask in words of its own (in "
            "sudoers, `Defaults passprompt_override` helps) or for something else, or does an rc "
            "file read its input? `connect: {timeout: …}` allows more",
        )


def _beginning(data: bytes, token: bytes) -> int:
    """How many bytes at the end may be the beginning of the token."""
    longest = min(len(token) - 1, len(data))
    return next((n for n in range(longest, 0, -1) if data.endswith(token[:n])), 0)
