"""Shells of other users: what is run in place of the login user's own, and what it says.

The tools take a password from where the session's text comes from. Where nobody has one they are
told not to ask; su, which can't be told, is tried without input first. Where somebody may have
one, nothing at all is sent until they ask or the shell is there: a password would else be run as
a command, or the text be taken for passwords.

Becoming another user on a channel: waiting for their shell, and giving a password.

The shells of other users on one connection, and what is known of getting them.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.lazy_regex import regex
from orchestrator.model.sanitize import quote_end
from orchestrator.model.shell_quoting import shell_quoted
from orchestrator.remote_shell.channel_protocol import Channel, Chunk
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.prompts import BECOME_FILE, Answers, Question

_NOT_FOUND = 127  # POSIX.1-2017, XCU 2.8.2
_PLAIN = "l=$LC_ALL;LC_ALL=C;export LC_ALL;"
_QUIET = {
    "sudo": 'exec sudo -n -H -u "$1" -- sh -c "$2" sh "$l"',
    "doas": 'exec doas -n -u "$1" sh -c "$2" sh "$l"',
    "su": (
        '[ "$(id -u)" = 0 ]||su -s /bin/sh -c : "$1" </dev/null||exit;'
        'exec su -s /bin/sh -c "$2" "$1" "$1" "$l"'
    ),
}
"""``$1`` is the user's name, ``$2`` the text for their shell, which gets the login user's locale
as its ``$1``: the tools are to speak English. doas sets HOME, USER and LOGNAME, and so does sudo
with ``-H``."""
_ASKING = {
    # %p: sudoers may want another's password than the login user's (targetpw, rootpw)
    "sudo": 'exec sudo -S -p "$3[%p]" -H -u "$1" -- sh -c "$2" sh "$l"',
    "su": 'echo "$3" >&2;exec su -s /bin/sh -c "$2" "$1" "$1" "$l"',
}
"""``$3`` is what marks the question for the password."""
_LOCALE = '[ -z "$LC_ALL" ]||LC_ALL=$1;[ "$LC_ALL" ]||unset LC_ALL;'  # sudoers may keep it out
_SBIN = (
    "case :$PATH: in *:/usr/sbin:*);;"
    "*)PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin;export PATH;;esac;"
)
_TEXTS = {
    # util-linux's su leaves USER and LOGNAME as they are where the user is root
    "su": "USER=$0 LOGNAME=$0;export USER LOGNAME;",
}
_NOBODY = ("unknown user", "unknown id", "does not exist", "no passwd entry")
_PERMITS = {
    "sudo": "sudoers on the host must let the login user become {user} with NOPASSWD",
    "doas": (
        "doas takes one from a terminal only, so that "
        "doas.conf on the host must let the login user become {user} with `permit nopass`"
    ),
    "su": "su lets nobody but root do without one",
}
_WRONG = (
    regex(rb"incorrect (password|authentication) attempt"),  # sudo, after its last one
    regex(rb"su: Authentication failure"),  # util-linux, with PAM
    regex(rb"su: incorrect password"),  # busybox
)
_BESIDE = regex(rb"^sudo: unable to resolve host .*\n?", re.MULTILINE)
"""What sudo warns of where a machine does not know its own name: it is no reason for anything."""
_RIGHT = ("not in the sudoers file", "is not allowed to execute")  # sudo looks at that later


class Become(Struct, frozen=True):
    """One shell of ``user``, started with ``method`` (sudo, su or doas) and running ``shell``
    (text as in sh). ``token`` is what says that it is there. ``asks``: it may ask for a password.

    Raises ConnectError (phase become) where no such user can be.
    """

    method: str
    user: str
    shell: str = "sh"
    asks: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    mark: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        odd = [c for c in self.user if not c.isprintable() or c in "'!"]
        if odd or self.user.startswith("-") or not self.user.strip():
            raise ConnectError("become", f"no user can be called {self.user!r}")
        if self.method not in _QUIET:
            raise ConnectError("become", f"no become_method is called {self.method!r}")

    @staticmethod
    def can_ask(method: str) -> bool:
        """Whether a password can be given to it without a terminal."""
        return method in _ASKING

    @property
    def words(self) -> list[str]:
        """The command. In it are neither newlines nor, but for a shell's text that has some, what
        login shells other than sh would read in another way.
        """
        # the root of a login user's PATH lacks what only root needs, unless sudo has a secure_path
        text = _LOCALE + _TEXTS.get(self.method, "") + (_SBIN if self.user == "root" else "")
        text += f"echo {self.token};exec {self.shell}"
        script = _PLAIN + (_ASKING if self.asks else _QUIET)[self.method]
        return ["sh", "-c", script, "sh", self.user, text, *([self.mark] if self.asks else [])]

    @property
    def command(self) -> str:
        """The same as text for a login shell."""
        return "exec " + " ".join(self._quoted())

    def asked(self, stderr: bytes, stdout: bytes, login: str) -> str:
        """Whose password it asks for at the end of what it said; empty where it asks for none.
        ``login`` is the login user.
        """
        behind = stderr.rpartition(self.mark.encode())
        if not behind[1]:
            return ""
        if self.method == "su":
            prompt = re.compile(rb"assword: ?\Z")  # busybox's goes to stdout
            return self.user if prompt.search(behind[2]) or prompt.search(stdout) else ""
        named = re.match(rb"\[([^\]]*)\]", behind[2])
        if not named:
            return ""
        account = named[1].decode("utf-8", "replace")
        return login if account in ("", "%p") else account

    def without_marks(self, stderr: bytes) -> bytes:
        """What it said besides its questions, and warnings that have no part in it."""
        mark = re.escape(self.mark.encode())
        return _reasons(re.sub(mark + rb"(\[[^\]]*\]|\n(Password: ?)?)", b"", stderr))

    def question(self, account: str) -> Question:
        """For this account's password."""
        text = f"{self.method} password of {account}"
        return Question(text, file=BECOME_FILE, kind="become password")

    def is_wrong(self, said: bytes) -> bool:
        """Whether a tool that was given a password, and ended, says that it was another."""
        return any(each.search(said) for each in _WRONG)

    def is_right(self, said: bytes) -> bool:
        """Whether it ended for another reason, and took the password."""
        return any(each.encode() in said for each in _RIGHT)

    def failed(self, why: str, hint: str = "") -> ConnectError:
        """The error for a shell that there is none of."""
        return ConnectError("become", f"{self.method} gives no shell of {self.user}: {why}", hint)

    def refused(self, said: bytes, status: int) -> ConnectError:
        """The error for a tool that ended without giving us a shell."""
        why = quote_end(_reasons(said)) or f"it ended with {status} and said nothing"
        return self.failed(why, self._hint(why, status))

    def permit(self) -> str:
        """What would do without a password."""
        return _PERMITS[self.method].format(user=self.user)

    def _hint(self, why: str, status: int) -> str:
        others = " | ".join(each for each in _QUIET if each != self.method)
        other = f"choose another way with `connect: {{become_method: {others}}}`"
        if any(words in why for words in _NOBODY):
            return f"does the host have a user {self.user}?"
        if status == _NOT_FOUND:
            return f"install {self.method} on the host, or {other}"
        if "must have a tty" in why:
            return f"sudoers on the host needs `Defaults !requiretty`: orch has no tty; or {other}"
        if any(words in why for words in _RIGHT):
            return f"sudoers on the host must let the login user become {self.user} and run sh"
        other = f"or log in as {self.user}, or {other}"
        if self.asks:
            return f"does {self.method} do it there when you try it by hand? {other}"
        return f"orch has no password to give, and {self.permit()}; {other}"

    def _quoted(self) -> list[str]:
        return [word if word == "sh" else shell_quoted(word) for word in self.words]


def _reasons(said: bytes) -> bytes:
    """Return what was said without warnings that have no part in it, unless that is all."""
    rest = _BESIDE.sub(b"", said)
    return rest if rest.strip() else said


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


class Others(Struct, frozen=True):
    """``login`` is who the connection is logged in as. ``method``, ``shell`` and ``timeout`` are
    the host's, as in ``Connect``. Without ``answers`` no password is given. Threads may share it.
    """

    login: str
    method: str
    shell: str
    timeout: float
    answers: Answers | None
    _unasked: set[str] = field(default_factory=set)  # users whose shell came without a password
    _asked: set[str] = field(default_factory=set)
    _wrong: dict[str, ConnectError] = field(default_factory=dict)

    def open(self, user: str, run: Callable[[Become], Channel]) -> Channel:
        """``user``'s shell; ``run`` has a channel for it. Raises ConnectError.

        A password that the host refused is not sent to it again.
        """
        if error := self._wrong.get(user):
            raise ConnectError(error.phase, error.why, error.hint)
        become = Become(self.method, user, self.shell, asks=self._may_ask(user))
        if not become.asks or self.answers is None:
            return Becoming(run(become), become)

        def told(error: ConnectError | None) -> None:
            if error is not None:
                self._wrong[user] = error
            elif user not in self._asked:
                self._unasked.add(user)

        def asked() -> None:
            # sudo may do without one for some minutes from now on, and then no more
            self._asked.add(user)
            self._unasked.discard(user)

        desk = Desk(self.answers, self.login, self.timeout, told, asked)
        return Becoming(run(become), become, desk)

    def _may_ask(self, user: str) -> bool:
        """Where it can't, the session's text need not wait, which saves a round trip."""
        return (
            self.answers is not None
            and self.answers.may_have(BECOME_FILE)
            and self.login != "root"
            and user not in self._unasked
            and Become.can_ask(self.method)
        )
