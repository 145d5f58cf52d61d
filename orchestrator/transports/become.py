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
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output_end
from orchestrator.model.shell_quoting import always_shell_quote
from orchestrator.remote_shell.channel_protocol import Channel, ReadChunk
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.prompts import BECOME_FILE_VARIABLE, CredentialPrompt, CredentialStore

_NOT_FOUND = 127  # POSIX.1-2017, XCU 2.8.2
_C_LOCALE = "l=$LC_ALL;LC_ALL=C;export LC_ALL;"
_SCRIPTS = {
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
_PROMPTING_SCRIPTS = {
    # %p: sudoers may want another's password than the login user's (targetpw, rootpw)
    "sudo": 'exec sudo -S -p "$3[%p]" -H -u "$1" -- sh -c "$2" sh "$l"',
    "su": 'echo "$3" >&2;exec su -s /bin/sh -c "$2" "$1" "$1" "$l"',
}
"""``$3`` is what marks the question for the password."""
_RESTORE_LOCALE = (
    '[ -z "$LC_ALL" ]||LC_ALL=$1;[ "$LC_ALL" ]||unset LC_ALL;'  # sudoers may keep it out
)
_SBIN_PATH = (
    "case :$PATH: in *:/usr/sbin:*);;"
    "*)PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin;export PATH;;esac;"
)
_ENVIRONMENT_FIXES = {
    # util-linux's su leaves USER and LOGNAME as they are where the user is root
    "su": "USER=$0 LOGNAME=$0;export USER LOGNAME;",
}
_UNKNOWN_USER = ("unknown user", "unknown id", "does not exist", "no passwd entry")
_PERMIT_HINTS = {
    "sudo": "sudoers on the host must let the login user become {user} with NOPASSWD",
    "doas": (
        "doas takes one from a terminal only, so that "
        "doas.conf on the host must let the login user become {user} with `permit nopass`"
    ),
    "su": "su lets nobody but root do without one",
}
_WRONG_PASSWORD = (
    lazy_regex(rb"incorrect (password|authentication) attempt"),  # sudo, after its last one
    lazy_regex(rb"su: Authentication failure"),  # util-linux, with PAM
    lazy_regex(rb"su: incorrect password"),  # busybox
)
_UNRELATED_WARNING = lazy_regex(rb"^sudo: unable to resolve host .*\n?", re.MULTILINE)
"""What sudo warns of where a machine does not know its own name: it is no reason for anything."""
_NOT_PERMITTED = (
    "not in the sudoers file",
    "is not allowed to execute",
)  # sudo looks at that later


class BecomeCommand(Struct, frozen=True):
    """One shell of ``user``, started with ``method`` (sudo, su or doas) and running ``shell``
    (text as in sh). ``token`` is what says that it is there. ``may_prompt``: it may ask for a password.

    Raises ConnectError (phase become) where no such user can be.
    """

    method: str
    user: str
    shell: str = "sh"
    may_prompt: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    prompt_marker: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        odd = [c for c in self.user if not c.isprintable() or c in "'!"]
        if odd or self.user.startswith("-") or not self.user.strip():
            raise ConnectError("become", f"no user can be called {self.user!r}")
        if self.method not in _SCRIPTS:
            raise ConnectError("become", f"no become_method is called {self.method!r}")

    @staticmethod
    def can_prompt(method: str) -> bool:
        """Whether a password can be given to it without a terminal."""
        return method in _PROMPTING_SCRIPTS

    @property
    def argv(self) -> list[str]:
        """The command. In it are neither newlines nor, but for a shell's text that has some, what
        login shells other than sh would read in another way.
        """
        # the root of a login user's PATH lacks what only root needs, unless sudo has a secure_path
        text = (
            _RESTORE_LOCALE
            + _ENVIRONMENT_FIXES.get(self.method, "")
            + (_SBIN_PATH if self.user == "root" else "")
        )
        text += f"echo {self.token};exec {self.shell}"
        script = _C_LOCALE + (_PROMPTING_SCRIPTS if self.may_prompt else _SCRIPTS)[self.method]
        return [
            "sh",
            "-c",
            script,
            "sh",
            self.user,
            text,
            *([self.prompt_marker] if self.may_prompt else []),
        ]

    @property
    def command_line(self) -> str:
        """The same as text for a login shell."""
        return "exec " + " ".join(self._quoted_argv())

    def password_account(self, stderr: bytes, stdout: bytes, login_user: str) -> str:
        """Whose password it asks for at the end of what it said; empty where it asks for none.
        ``login_user`` is the login user.
        """
        behind = stderr.rpartition(self.prompt_marker.encode())
        if not behind[1]:
            return ""
        if self.method == "su":
            prompt = re.compile(rb"assword: ?\Z")  # busybox's goes to stdout
            return self.user if prompt.search(behind[2]) or prompt.search(stdout) else ""
        named = re.match(rb"\[([^\]]*)\]", behind[2])
        if not named:
            return ""
        account = named[1].decode("utf-8", "replace")
        return login_user if account in ("", "%p") else account

    def strip_prompts(self, stderr: bytes) -> bytes:
        """What it said besides its questions, and warnings that have no part in it."""
        mark = re.escape(self.prompt_marker.encode())
        return _strip_warnings(re.sub(mark + rb"(\[[^\]]*\]|\n(Password: ?)?)", b"", stderr))

    def password_prompt(self, account: str) -> CredentialPrompt:
        """For this account's password."""
        text = f"{self.method} password of {account}"
        return CredentialPrompt(text, file_variable=BECOME_FILE_VARIABLE, kind="become password")

    def is_wrong_password(self, output: bytes) -> bool:
        """Whether a tool that was given a password, and ended, says that it was another."""
        return any(each.search(output) for each in _WRONG_PASSWORD)

    def is_password_accepted(self, output: bytes) -> bool:
        """Whether it ended for another reason, and took the password."""
        return any(each.encode() in output for each in _NOT_PERMITTED)

    def become_error(self, why: str, hint: str = "") -> ConnectError:
        """The error for a shell that there is none of."""
        return ConnectError("become", f"{self.method} gives no shell of {self.user}: {why}", hint)

    def exit_error(self, output: bytes, status: int) -> ConnectError:
        """The error for a tool that ended without giving us a shell."""
        why = (
            quote_output_end(_strip_warnings(output)) or f"it ended with {status} and said nothing"
        )
        return self.become_error(why, self._exit_hint(why, status))

    def permit_hint(self) -> str:
        """What would do without a password."""
        return _PERMIT_HINTS[self.method].format(user=self.user)

    def _exit_hint(self, why: str, status: int) -> str:
        others = " | ".join(each for each in _SCRIPTS if each != self.method)
        other = f"choose another way with `connect: {{become_method: {others}}}`"
        if any(words in why for words in _UNKNOWN_USER):
            return f"does the host have a user {self.user}?"
        if status == _NOT_FOUND:
            return f"install {self.method} on the host, or {other}"
        if "must have a tty" in why:
            return f"sudoers on the host needs `Defaults !requiretty`: orch has no tty; or {other}"
        if any(words in why for words in _NOT_PERMITTED):
            return f"sudoers on the host must let the login user become {self.user} and run sh"
        other = f"or log in as {self.user}, or {other}"
        if self.may_prompt:
            return f"does {self.method} do it there when you try it by hand? {other}"
        return f"orch has no password to give, and {self.permit_hint()}; {other}"

    def _quoted_argv(self) -> list[str]:
        return [word if word == "sh" else always_shell_quote(word) for word in self.argv]


def _strip_warnings(output: bytes) -> bytes:
    """Return what was said without warnings that have no part in it, unless that is all."""
    rest = _UNRELATED_WARNING.sub(b"", output)
    return rest if rest.strip() else output


_MAX_OUTPUT_BYTES = 2000  # bytes
_MAX_HELD_BYTES = 1 << 16  # bytes of stderr that are kept before there is a shell
_TIMEOUT_SHARE = (
    0.9  # of the time that a session waits for a shell, whose error would not say as much
)


class BecomeCredentials(Struct, frozen=True):
    """Where a channel gets its password from. ``login_user`` is the login user; ``timeout`` how many
    seconds the host may take, not counting those that we do. ``on_result`` hears how it went: with
    None where the shell came unasked, with the error where a password was wrong. ``asked`` hears
    that there was a question.
    """

    credential_store: CredentialStore
    login_user: str
    timeout: float
    on_result: Callable[[ConnectError | None], object]
    on_prompt: Callable[[], object]


class BecomeChannel:
    """A channel on which ``become`` runs. Satisfies ``session.channel.Channel``.

    What it says before the token is handed on, the token's line is not. ``read`` raises
    ConnectError (phase become) where it ends without one. Where it may ask, ``write`` takes
    nothing until the shell is there, and ``read`` waits for whoever types the password.
    """

    def __init__(
        self, channel: Channel, become: BecomeCommand, credentials: BecomeCredentials | None = None
    ) -> None:
        self._channel, self._become = channel, become
        self._token = f"{become.token}\n".encode()
        self._held = self._output = b""
        self._shell_started = False
        self._password_prompt = (
            _BecomePasswordPrompt(channel, become, credentials)
            if become.may_prompt and credentials
            else None
        )

    def write(self, data: bytes | memoryview) -> int:
        """As ``Channel.write``."""
        if self._password_prompt and not self._shell_started:
            return 0
        return self._channel.write(data)

    def read(self, timeout: float | None) -> ReadChunk:
        """As ``Channel.read``."""
        chunk = self._channel.read(timeout)
        return chunk if self._shell_started else self._await_shell(chunk)

    def wake(self) -> None:
        """As ``Channel.wake``."""
        self._channel.wake()

    def close_stdin(self) -> None:
        """As ``Channel.close_stdin``."""
        if self._password_prompt and not self._shell_started:
            self._password_prompt.abandon()
        self._channel.close_stdin()

    def close(self) -> None:
        """As ``Channel.close``."""
        if self._password_prompt and not self._shell_started:
            self._password_prompt.abandon()
        self._shell_started = True  # its end is our doing
        self._channel.close()

    def exit_status(self) -> int | None:
        """As ``Channel.exit_status``."""
        return self._channel.exit_status()

    def cause(self) -> str:
        """As ``Channel.cause``."""
        return self._channel.cause()

    def _await_shell(self, chunk: ReadChunk) -> ReadChunk:
        before, found, behind = (self._held + chunk.stdout).partition(self._token)
        self._shell_started = bool(found)
        kept = 0 if found else _partial_match_size(before, self._token)
        self._held = before[len(before) - kept :]
        stdout = before[: len(before) - kept] + behind
        chunk = replace(chunk, stdout=stdout)
        if self._password_prompt:
            chunk = self._password_prompt.filter_chunk(chunk, shell_started=self._shell_started)
        self._output = (self._output + stdout + chunk.stderr)[-_MAX_OUTPUT_BYTES:]
        status = self.exit_status()
        if chunk.eof and not found and status is None and self._password_prompt:
            self._password_prompt.abandon()  # it was cut
        elif chunk.eof and not found and status is not None:
            self._raise_exit_error(status)
        return chunk

    def _raise_exit_error(self, status: int) -> None:
        output = self._output + self._held
        if not self._password_prompt:
            raise self._become.exit_error(output, status)
        self._password_prompt.on_exit(output, status)


class _BecomePasswordPrompt:
    """The part of it that has to do with the password. What comes on stderr it keeps until the
    shell is there, or will not be.
    """

    def __init__(
        self, channel: Channel, become: BecomeCommand, credentials: BecomeCredentials
    ) -> None:
        self._channel, self._become, self._credentials = channel, become, credentials
        self._deadline = time.monotonic() + credentials.timeout * _TIMEOUT_SHARE
        self._stdout = self._stderr = self._unsent = b""
        self._questions = 0
        self._sent_prompt: CredentialPrompt | None = None
        self._error: ConnectError | None = None
        self._is_abandoned = False

    def filter_chunk(self, chunk: ReadChunk, *, shell_started: bool) -> ReadChunk:
        """What to hand on of it. Raises ConnectError where the host takes too long."""
        self._stderr = (self._stderr + chunk.stderr)[-_MAX_HELD_BYTES:]
        self._stdout = (self._stdout + chunk.stdout)[-_MAX_OUTPUT_BYTES:]
        waited = 0.0
        if shell_started:
            self._on_shell_started()
        elif not self._is_abandoned and not self._error:
            waited = self._answer_prompt()
            self._flush_password()
            if not chunk.eof and self._channel.exit_status() is None:
                self._check_deadline()
        stderr = b""
        if shell_started or chunk.eof:
            stderr, self._stderr = self._become.strip_prompts(self._stderr), b""
        return replace(chunk, stderr=stderr, waited=waited)

    def on_exit(self, output: bytes, status: int) -> None:
        """The tool is over. Raises ConnectError, unless nobody wants its shell any more."""
        if self._is_abandoned:
            return
        if self._error:
            raise self._error
        if self._sent_prompt and self._become.is_wrong_password(output):
            raise self._wrong_password_error(self._sent_prompt)
        if self._sent_prompt and self._become.is_password_accepted(output):
            self._credentials.credential_store.mark_accepted(self._sent_prompt)
        self._credentials.credential_store.release_attempt(self)
        raise self._become.exit_error(output, status)

    def abandon(self) -> None:
        """Nobody wants it any more."""
        self._is_abandoned = True
        self._credentials.credential_store.release_attempt(self)

    def _on_shell_started(self) -> None:
        if self._sent_prompt:
            self._credentials.credential_store.mark_accepted(self._sent_prompt)
        else:
            self._credentials.on_result(None)

    def _answer_prompt(self) -> float:
        """Answer a question that has come; the seconds that it took to have the answer."""
        account = self._become.password_account(
            self._stderr, self._stdout, self._credentials.login_user
        )
        if not account:
            return 0.0
        self._stderr, self._stdout = self._become.strip_prompts(self._stderr), b""
        if self._sent_prompt:  # once more
            self._error = self._wrong_password_error(self._sent_prompt)
            self._close_stdin()
            return 0.0
        self._credentials.on_prompt()
        began = time.monotonic()
        question = self._become.password_prompt(account)
        try:
            answer = self._credentials.credential_store.wait_for_answer(question, self)
        except CancelledError as cancelled:
            self._error = cancelled
            self._close_stdin()
            return 0.0
        waited = time.monotonic() - began
        self._deadline += waited
        if answer is None:
            self._error = self._no_password_error(question)
            self._close_stdin()
        else:
            self._sent_prompt, self._unsent = (
                question,
                f"{answer}\n".encode("utf-8", "surrogateescape"),
            )
        return waited

    def _flush_password(self) -> None:
        if self._unsent:
            with suppress(OSError):  # it is gone, and reading says so
                self._unsent = self._unsent[self._channel.write(self._unsent) :]

    def _close_stdin(self) -> None:
        with suppress(OSError):
            self._channel.close_stdin()

    def _wrong_password_error(self, prompt: CredentialPrompt) -> ConnectError:
        answers = self._credentials.credential_store
        answers.mark_refused(prompt)
        stopped = answers.error_for(prompt)
        hint = stopped or "it was tried here once; what is tried more often may lock the account"
        error = self._become.become_error(f"the {prompt.text} that was given is wrong", hint)
        self._credentials.on_result(error)
        return error

    def _no_password_error(self, prompt: CredentialPrompt) -> ConnectError:
        trouble = self._credentials.credential_store.error_for(prompt)
        permit = self._become.permit_hint()
        hint = f"a file that {BECOME_FILE_VARIABLE} names can have it; to do without one, {permit}"
        return self._become.become_error(f"it needs the {prompt.text}: {trouble}", hint)

    def _check_deadline(self) -> None:
        if time.monotonic() < self._deadline:
            return
        output = quote_output_end(self._stdout + self._become.strip_prompts(self._stderr))
        self._credentials.credential_store.release_attempt(self)
        self._is_abandoned = True
        self._close_stdin()
        raise self._become.become_error(
            f"it takes longer than {self._credentials.timeout:g} s; it said {output or 'nothing'}",
            "orch gives a password and no more: does PAM on the host ask in words of its own (in "
            "sudoers, `Defaults passprompt_override` helps) or for something else, or does an rc "
            "file read its input? `connect: {timeout: …}` allows more",
        )


def _partial_match_size(data: bytes, token: bytes) -> int:
    """How many bytes at the end may be the beginning of the token."""
    longest = min(len(token) - 1, len(data))
    return next((n for n in range(longest, 0, -1) if data.endswith(token[:n])), 0)


class BecomeShells(Struct, frozen=True):
    """``login_user`` is who the connection is logged in as. ``method``, ``shell`` and ``timeout`` are
    the host's, as in ``Connect``. Without ``credential_store`` no password is given. Threads may share it.
    """

    login_user: str
    method: str
    shell: str
    timeout: float
    credential_store: CredentialStore | None
    _passwordless_users: set[str] = field(
        default_factory=set
    )  # users whose shell came without a password
    _prompted_users: set[str] = field(default_factory=set)
    _refused_users: dict[str, ConnectError] = field(default_factory=dict)

    def open(self, user: str, start_command: Callable[[BecomeCommand], Channel]) -> Channel:
        """``user``'s shell; ``start_command`` has a channel for it. Raises ConnectError.

        A password that the host refused is not sent to it again.
        """
        if error := self._refused_users.get(user):
            raise ConnectError(error.phase, error.reason, error.hint)
        become = BecomeCommand(self.method, user, self.shell, may_prompt=self._can_prompt(user))
        if not become.may_prompt or self.credential_store is None:
            return BecomeChannel(start_command(become), become)

        def on_result(error: ConnectError | None) -> None:
            if error is not None:
                self._refused_users[user] = error
            elif user not in self._prompted_users:
                self._passwordless_users.add(user)

        def on_prompt() -> None:
            # sudo may do without one for some minutes from now on, and then no more
            self._prompted_users.add(user)
            self._passwordless_users.discard(user)

        credentials = BecomeCredentials(
            self.credential_store, self.login_user, self.timeout, on_result, on_prompt
        )
        return BecomeChannel(start_command(become), become, credentials)

    def _can_prompt(self, user: str) -> bool:
        """Where it can't, the session's text need not wait, which saves a round trip."""
        return (
            self.credential_store is not None
            and self.credential_store.can_answer(BECOME_FILE_VARIABLE)
            and self.login_user != "root"
            and user not in self._passwordless_users
            and BecomeCommand.can_prompt(self.method)
        )
