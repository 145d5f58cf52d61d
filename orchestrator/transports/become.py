"""Become: run the shell of another user with sudo, su or doas, and answer its password prompt.

The tools read a password from stdin, which also carries the session's commands. If orch has no
password, the tool is run so that it never asks; su has no such option and is first tried without
input. If orch may have a password, nothing is sent until the tool asks or the shell has started:
otherwise the password might be run as a command, or commands be taken for passwords.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions, InventoryPassword
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output_end
from orchestrator.model.shell_quoting import always_shell_quote
from orchestrator.remote_shell.channel_protocol import (
    Channel,
    CommandChannel,
    ReadChunk,
    TerminalSize,
)
from orchestrator.remote_shell.start_script import TERMINAL_SETUP
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
"""``$1`` is the user name, ``$2`` the text for the user's shell, which receives the login user's
locale as its ``$1``: the tools run with LC_ALL=C so that their messages are in English. doas sets
HOME, USER and LOGNAME, and so does sudo with ``-H``."""
_PROMPTING_SCRIPTS = {
    # %p: sudoers may require another user's password than the login user's (targetpw, rootpw)
    "sudo": 'exec sudo -S -p "$3[%p]" -H -u "$1" -- sh -c "$2" sh "$l"',
    "su": 'echo "$3" >&2;exec su -s /bin/sh -c "$2" "$1" "$1" "$l"',
}
"""``$3`` is the marker that precedes the password prompt."""
# With -c, util-linux's su takes the terminal away from the shell (setsid); words after the user are
# the shell's own arguments.
_SU_ON_TERMINAL = 'exec su -s /bin/sh -- "$1" -c "$2" "$1" "$l"'
_TERMINAL_SCRIPTS = {
    **_SCRIPTS,
    "su": f'[ "$(id -u)" = 0 ]||su -s /bin/sh -c : "$1" </dev/null||exit;{_SU_ON_TERMINAL}',
}
_PROMPTING_TERMINAL_SCRIPTS = {
    "sudo": 'exec sudo -p "$3[%p]" -H -u "$1" -- sh -c "$2" sh "$l"',
    "doas": 'echo "$3";exec doas -u "$1" sh -c "$2" sh "$l"',
    "su": f'echo "$3";{_SU_ON_TERMINAL}',
}
_RESTORE_LOCALE = (
    '[ -z "$LC_ALL" ]||LC_ALL=$1;[ "$LC_ALL" ]||unset LC_ALL;'  # sudoers may have removed it
)
_SBIN_PATH = (
    "case :$PATH: in *:/usr/sbin:*);;"
    "*)PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin;export PATH;;esac;"
)
_LEAD_GROUP = (
    "{ read -r o_x o_x o_x o_x o_leader o_x </proc/$$/stat;} 2>/dev/null;"
    'case $o_leader in "$$"|"");;*)if command -v setsid >/dev/null;then exec setsid %s;fi;;esac;'
)
"""Makes the shell lead a process group, the fifth field of proc_pid_stat(5): sudo without
``use_pty`` leaves it in its own. ``setsid`` would start another process if it led one already."""
_ENVIRONMENT_FIXES = {
    # util-linux's su keeps USER and LOGNAME if the user is root
    "su": "USER=$0 LOGNAME=$0;export USER LOGNAME;",
}
_UNKNOWN_USER = ("unknown user", "unknown id", "does not exist", "no passwd entry")
_PERMIT_HINTS = {
    "sudo": (
        "sudoers on the host must let the login user run a shell as {user} with NOPASSWD, not only "
        "single commands"
    ),
    "doas": (
        "doas.conf on the host must let the login user become {user} with `permit nopass` "
        "(doas reads passwords from a terminal only)"
    ),
    "su": "log in as root (su asks every other user)",
}
_WRONG_PASSWORD = (
    lazy_regex(rb"incorrect (password|authentication) attempt"),  # sudo, after its last one
    lazy_regex(rb"su: Authentication failure"),  # util-linux, with PAM
    lazy_regex(rb"su: incorrect password"),  # busybox
)
_UNRELATED_WARNING = lazy_regex(rb"^sudo: unable to resolve host .*\n?", re.MULTILINE)
"""sudo's warning on a machine that cannot resolve its own name; never the cause of a failure."""
_NOT_PERMITTED = (  # sudo checks this after the password
    "not in the sudoers file",
    "is not allowed to execute",
)


class BecomeCommand(Struct, frozen=True):
    """A command that starts a shell as another user.

    ``method`` is sudo, su or doas; ``shell`` is the shell's command line in sh syntax. The shell
    prints ``token`` when it has started. ``may_prompt``: the tool may ask for a password, and
    prints ``prompt_marker`` before it asks. ``on_terminal``: all runs on a terminal, which no
    longer echoes or changes a byte when the tool starts. ``leads_group``: the shell leads a process
    group if the host has ``setsid``, so that steps need none of their own (``encoder.py``).

    Raises ConnectError (phase become) if the user name or the method is invalid.
    """

    method: str
    user: str
    shell: str = "sh"
    may_prompt: bool = False
    on_terminal: bool = False
    leads_group: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    prompt_marker: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        odd = [c for c in self.user if not c.isprintable() or c in "'!"]
        if odd or self.user.startswith("-") or not self.user.strip():
            raise ConnectError("become", f"invalid user name {self.user!r}")
        if self.method not in _SCRIPTS:
            raise ConnectError("become", f"unknown become_method {self.method!r}")

    @staticmethod
    def can_prompt(method: str, *, on_terminal: bool = False) -> bool:
        """Return True if the method accepts a password, on a terminal or without one."""
        return on_terminal or method in _PROMPTING_SCRIPTS

    @property
    def argv(self) -> list[str]:
        """The command as a list of words.

        It contains no newline and, unless ``shell`` does, nothing that a login shell other than
        sh would parse differently.
        """
        # a login user's PATH lacks the sbin folders, and only sudo's secure_path would add them
        text = (
            _RESTORE_LOCALE
            + _ENVIRONMENT_FIXES.get(self.method, "")
            + (_SBIN_PATH if self.user == "root" else "")
        )
        text += f"echo {self.token};{_LEAD_GROUP % self.shell if self.leads_group else ''}"
        text += f"exec {self.shell}"
        if self.on_terminal:
            scripts = _PROMPTING_TERMINAL_SCRIPTS if self.may_prompt else _TERMINAL_SCRIPTS
        else:
            scripts = _PROMPTING_SCRIPTS if self.may_prompt else _SCRIPTS
        setup = TERMINAL_SETUP if self.on_terminal else ""
        script = f"{_C_LOCALE}{setup}{scripts[self.method]}"
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
        """The command as text for a login shell."""
        return "exec " + " ".join(self._quoted_argv())

    def password_account(self, stderr: bytes, stdout: bytes, login_user: str) -> str:
        """Return whose password the tool asks for at the end of its output; '' if it does not ask.

        ``login_user`` is the name of the login user, whom sudo may mean.
        """
        marked = stderr.rpartition(self.prompt_marker.encode())
        if not marked[1]:
            return ""
        if self.method in ("su", "doas"):
            prompt = re.compile(rb"assword: ?\Z")  # busybox's goes to stdout
            account = self.user if self.method == "su" else login_user
            return account if prompt.search(marked[2]) or prompt.search(stdout) else ""
        account_match = re.match(rb"\[([^\]]*)\]", marked[2])
        if not account_match:
            return ""
        account = account_match[1].decode("utf-8", "replace")
        return login_user if account in ("", "%p") else account

    def strip_prompts(self, stderr: bytes) -> bytes:
        """Return the output without password prompts and unrelated warnings."""
        mark = re.escape(self.prompt_marker.encode())
        return _strip_warnings(re.sub(mark + rb"(\[[^\]]*\]|\n(Password: ?)?)", b"", stderr))

    def password_prompt(
        self, account: str, known: InventoryPassword | None = None
    ) -> CredentialPrompt:
        """Return the prompt for this account's password, which the inventory may know."""
        text = f"{self.method} password of {account}"
        return CredentialPrompt(
            text, file_variable=BECOME_FILE_VARIABLE, kind="become password", known=known
        )

    def is_wrong_password(self, output: bytes) -> bool:
        """Return True if the tool exited because the password was wrong."""
        return any(each.search(output) for each in _WRONG_PASSWORD)

    def is_password_accepted(self, output: bytes) -> bool:
        """Return True if the tool exited for another reason, after it accepted the password."""
        return any(each.encode() in output for each in _NOT_PERMITTED)

    def become_error(self, why: str, hint: str = "") -> ConnectError:
        """Return the error for a shell that could not be started."""
        return ConnectError("become", f"{self.method} to {self.user} failed: {why}", hint)

    def exit_error(self, output: bytes, status: int) -> ConnectError:
        """Return the error for a tool that exited before the shell started."""
        why = quote_output_end(_strip_warnings(output)) or f"exit status {status} without output"
        return self.become_error(why, self._exit_hint(why, status))

    def permit_hint(self) -> str:
        """Return what the host must permit so that no password is needed."""
        return _PERMIT_HINTS[self.method].format(user=self.user)

    def _exit_hint(self, why: str, status: int) -> str:
        others = " | ".join(each for each in _SCRIPTS if each != self.method)
        other = f"use another method: `connect: {{become_method: {others}}}`"
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
            return f"does {self.method} work on the host when you run it by hand? {other}"
        return f"orch has no password to send; to need none, {self.permit_hint()}; {other}"

    def _quoted_argv(self) -> list[str]:
        return [word if word == "sh" else always_shell_quote(word) for word in self.argv]


def _strip_warnings(output: bytes) -> bytes:
    """Return the output without unrelated warnings, or all of it if nothing else is left."""
    rest = _UNRELATED_WARNING.sub(b"", output)
    return rest if rest.strip() else output


_MAX_OUTPUT_BYTES = 2000  # bytes
_MAX_HELD_BYTES = 1 << 16  # bytes of stderr that are kept before the shell has started
# A part of the session's timeout for a shell, so that this error, which says more, comes first.
_TIMEOUT_SHARE = 0.9


class BecomeCredentials(Struct, frozen=True):
    """The source of a become password, and callbacks for the result.

    ``login_user`` is the login user; ``timeout`` is how many seconds the host may take, not
    counting the time that the user takes. ``on_result`` is called with None if the shell started
    without a password, and with the error if the password was wrong. ``on_prompt`` is called
    when the tool asks for a password. ``password`` is the inventory's.
    """

    credential_store: CredentialStore
    login_user: str
    timeout: float
    on_result: Callable[[ConnectError | None], object]
    on_prompt: Callable[[], object]
    password: InventoryPassword | None = None


class BecomeChannel:
    """A ``Channel`` on which a ``BecomeCommand`` runs.

    Output before the token is passed on; the line with the token is not. ``read`` raises
    ConnectError (phase become) if the tool exits before the shell has started. If the tool may
    ask for a password, ``write`` accepts nothing until the shell has started, and ``read`` blocks
    while the user types. ``on_started`` is called when the shell has started.
    """

    def __init__(
        self,
        channel: Channel,
        become: BecomeCommand,
        credentials: BecomeCredentials | None = None,
        on_started: Callable[[], object] = lambda: None,
    ) -> None:
        self._channel, self._become, self._on_started = channel, become, on_started
        self._token = f"{become.token}\n".encode()
        self._held = self._output = b""
        self._shell_started = False
        self._password_prompt = (
            _BecomePasswordPrompt(channel, become, credentials)
            if become.may_prompt and credentials
            else None
        )

    def write(self, data: bytes | memoryview) -> int:
        """Implement ``Channel.write``."""
        if self._password_prompt and not self._shell_started:
            return 0
        return self._channel.write(data)

    def read(self, timeout: float | None) -> ReadChunk:
        """Implement ``Channel.read``."""
        chunk = self._channel.read(timeout)
        return chunk if self._shell_started else self._await_shell(chunk)

    def wake(self) -> None:
        """Implement ``Channel.wake``."""
        self._channel.wake()

    def close_stdin(self) -> None:
        """Implement ``Channel.close_stdin``."""
        if self._password_prompt and not self._shell_started:
            self._password_prompt.abandon()
        self._channel.close_stdin()

    def close(self) -> None:
        """Implement ``Channel.close``."""
        if self._password_prompt and not self._shell_started:
            self._password_prompt.abandon()
        self._shell_started = True  # closing it is not a failed start
        self._channel.close()

    def exit_status(self) -> int | None:
        """Implement ``Channel.exit_status``."""
        return self._channel.exit_status()

    def cause(self) -> str:
        """Implement ``Channel.cause``."""
        return self._channel.cause()

    def prepared_shell(self) -> None:
        """Return None: the shell starts when the tool has changed the user."""

    def _await_shell(self, chunk: ReadChunk) -> ReadChunk:
        before, token, after = (self._held + chunk.stdout).partition(self._token)
        self._shell_started = bool(token)
        if token:
            self._on_started()
        kept = 0 if token else _partial_match_size(before, self._token)
        self._held = before[len(before) - kept :]
        stdout = before[: len(before) - kept] + after
        chunk = replace(chunk, stdout=stdout)
        if self._password_prompt:
            chunk = self._password_prompt.filter_chunk(chunk, shell_started=self._shell_started)
        self._output = (self._output + chunk.stdout + chunk.stderr)[-_MAX_OUTPUT_BYTES:]
        status = self.exit_status()
        if chunk.eof and not token and status is None and self._password_prompt:
            self._password_prompt.abandon()  # the connection was lost
        elif chunk.eof and not token and status is not None:
            self._raise_exit_error(status)
        return chunk

    def _raise_exit_error(self, status: int) -> None:
        output = self._output + self._held
        if not self._password_prompt:
            raise self._become.exit_error(output, status)
        self._password_prompt.on_exit(output, status)


class BecomeCommandChannel(BecomeChannel):
    """A become channel for a user's command. Satisfies ``CommandChannel``."""

    def __init__(
        self,
        channel: CommandChannel,
        become: BecomeCommand,
        credentials: BecomeCredentials | None = None,
    ) -> None:
        super().__init__(channel, become, credentials)
        self._command_channel = channel

    def resize(self, size: TerminalSize) -> None:
        """Implement ``CommandChannel.resize``."""
        self._command_channel.resize(size)


class _BecomePasswordPrompt:
    """The password dialogue of a become channel.

    It keeps stderr until the shell has started or the tool has exited.
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
        """Return what to pass on of a chunk. Raises ConnectError if the host takes too long.

        On a terminal, all output before the shell has started is kept like stderr.
        """
        if self._become.on_terminal:
            chunk = replace(chunk, stdout=b"", stderr=chunk.stdout)
        self._stderr = (self._stderr + chunk.stderr)[-_MAX_HELD_BYTES:]
        self._stdout = (self._stdout + chunk.stdout)[-_MAX_OUTPUT_BYTES:]
        waited = 0.0
        if shell_started:
            self._on_shell_started()
        elif not self._is_abandoned and not self._error:
            waited = self._answer_prompt()
            if self._error and self._become.on_terminal:
                raise self._error  # closing stdin would not end the tool's prompt
            self._flush_password()
            if not chunk.eof and self._channel.exit_status() is None:
                self._check_deadline()
        stderr = b""
        if shell_started or chunk.eof:
            stderr, self._stderr = self._become.strip_prompts(self._stderr), b""
        return replace(chunk, stderr=stderr, waited=waited)

    def on_exit(self, output: bytes, status: int) -> None:
        """Raise the error for a tool that exited, unless the channel was abandoned."""
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
        """Stop waiting for the shell, and let other channels try the password."""
        self._is_abandoned = True
        self._credentials.credential_store.release_attempt(self)

    def _on_shell_started(self) -> None:
        if self._sent_prompt:
            self._credentials.credential_store.mark_accepted(self._sent_prompt)
        else:
            self._credentials.on_result(None)

    def _answer_prompt(self) -> float:
        """Answer a password prompt if there is one; return the seconds spent on the answer."""
        account = self._become.password_account(
            self._stderr, self._stdout, self._credentials.login_user
        )
        if not account:
            return 0.0
        self._stderr, self._stdout = self._become.strip_prompts(self._stderr), b""
        if self._sent_prompt:  # asked a second time: the first answer was wrong
            self._error = self._wrong_password_error(self._sent_prompt)
            self._close_stdin()
            return 0.0
        self._credentials.on_prompt()
        began = time.monotonic()
        prompt = self._become.password_prompt(account, self._credentials.password)
        try:
            answer = self._credentials.credential_store.wait_for_answer(prompt, self)
        except CancelledError as cancelled:
            self._error = cancelled
            self._close_stdin()
            return 0.0
        waited = time.monotonic() - began
        self._deadline += waited
        if answer is None:
            self._error = self._no_password_error(prompt)
            self._close_stdin()
        else:
            self._sent_prompt, self._unsent = (
                prompt,
                f"{answer}\n".encode("utf-8", "surrogateescape"),
            )
        return waited

    def _flush_password(self) -> None:
        if self._unsent:
            with suppress(OSError):  # the tool has exited, which the next read reports
                self._unsent = self._unsent[self._channel.write(self._unsent) :]

    def _close_stdin(self) -> None:
        with suppress(OSError):
            self._channel.close_stdin()

    def _wrong_password_error(self, prompt: CredentialPrompt) -> ConnectError:
        store = self._credentials.credential_store
        store.mark_refused(prompt)
        store_error = store.error_for(prompt)
        hint = (
            store_error
            or "the password was sent only once, because repeated failures may lock the account"
        )
        error = self._become.become_error(f"wrong {prompt.text}", hint)
        self._credentials.on_result(error)
        return error

    def _no_password_error(self, prompt: CredentialPrompt) -> ConnectError:
        error = self._credentials.credential_store.error_for(prompt)
        permit = self._become.permit_hint()
        hint = (
            f"put it in a file and set {BECOME_FILE_VARIABLE} to its path; "
            f"or, to need none, {permit}"
        )
        return self._become.become_error(f"the {prompt.text} is required: {error}", hint)

    def _check_deadline(self) -> None:
        if time.monotonic() < self._deadline:
            return
        output = quote_output_end(self._stdout + self._become.strip_prompts(self._stderr))
        self._credentials.credential_store.release_attempt(self)
        self._is_abandoned = True
        self._close_stdin()
        raise self._become.become_error(
            f"no shell within {self._credentials.timeout:g} s; output: {output or 'none'}",
            "orch answers a password prompt only: does PAM on the host use its own prompt (set "
            "`Defaults passprompt_override` in sudoers) or ask for something else, or does an rc "
            "file read its input? `connect: {timeout: …}` allows more",
        )


def _partial_match_size(data: bytes, token: bytes) -> int:
    """Return how many bytes at the end of ``data`` may be the beginning of the token."""
    longest = min(len(token) - 1, len(data))
    return next((n for n in range(longest, 0, -1) if data.endswith(token[:n])), 0)


class BecomeShells(Struct, frozen=True):
    """The become shells of one connection. Thread-safe.

    ``login_user`` is the user of the connection. ``method``, ``shell`` and ``timeout`` are the
    host's, as in ``ConnectionOptions``, and so is ``password``. Without ``credential_store`` no
    password is sent.
    """

    login_user: str
    method: str
    shell: str
    timeout: float
    credential_store: CredentialStore | None
    password: InventoryPassword | None = None
    _passwordless_users: set[str] = field(default_factory=set)  # became without a password
    _prompted_users: set[str] = field(default_factory=set)
    _refused_users: dict[str, ConnectError] = field(default_factory=dict)

    @classmethod
    def of_host(
        cls, connect: ConnectionOptions, login_user: str, credential_store: CredentialStore
    ) -> BecomeShells:
        """Return the become shells of a connection with these options."""
        return cls(
            login_user,
            connect.become_method,
            connect.shell,
            connect.timeout,
            credential_store=credential_store,
            password=connect.become_password,
        )

    def open(self, user: str, start_command: Callable[[BecomeCommand], Channel]) -> Channel:
        """Open a shell as ``user`` on the channel that ``start_command`` returns.

        A shell that was prepared there is the user's already. Raises ConnectError. A password that
        the host refused is not sent to it again.
        """
        become = BecomeCommand(
            self.method,
            user,
            self.shell,
            may_prompt=self._can_prompt(user),
            leads_group=True,
        )
        self._raise_if_refused(user)
        channel = start_command(become)
        if channel.prepared_shell() is not None:
            self._passwordless_users.add(user)
            return channel
        users = self._passwordless_users
        on_started = (lambda: None) if become.may_prompt else partial(users.add, user)
        return BecomeChannel(channel, become, self._credentials(become), on_started)

    def passwordless_users(self) -> list[str]:
        """Return the users who were become without a password."""
        return sorted(self._passwordless_users)

    def start_command(
        self,
        user: str,
        command: str,
        start_command: Callable[[BecomeCommand], CommandChannel],
        *,
        on_terminal: bool,
    ) -> CommandChannel:
        """Run a command, in the syntax of sh, as ``user``, like ``open``. Raises ConnectError."""
        may_prompt = self._can_prompt(user, on_terminal=on_terminal)
        become = BecomeCommand(self.method, user, command, may_prompt, on_terminal)
        self._raise_if_refused(user)
        channel = start_command(become)
        return BecomeCommandChannel(channel, become, self._credentials(become))

    def _raise_if_refused(self, user: str) -> None:
        if error := self._refused_users.get(user):
            raise ConnectError(error.phase, error.reason, error.hint)

    def _credentials(self, become: BecomeCommand) -> BecomeCredentials | None:
        """Return where the password of the command comes from; None if none is sent."""
        user = become.user
        if not become.may_prompt or self.credential_store is None:
            return None

        def on_result(error: ConnectError | None) -> None:
            if error is not None:
                self._refused_users[user] = error
            elif user not in self._prompted_users:
                self._passwordless_users.add(user)

        def on_prompt() -> None:
            # sudo may need no password for some minutes after this, and then need one again
            self._prompted_users.add(user)
            self._passwordless_users.discard(user)

        return BecomeCredentials(
            self.credential_store,
            self.login_user,
            self.timeout,
            on_result,
            on_prompt,
            password=self.password,
        )

    def _can_prompt(self, user: str, *, on_terminal: bool = False) -> bool:
        """Return True if the tool may ask for a password.

        If it cannot ask, commands are sent at once, which saves a round trip.
        """
        return (
            self.credential_store is not None
            and (
                self.password is not None or self.credential_store.can_answer(BECOME_FILE_VARIABLE)
            )
            and self.login_user != "root"
            and user not in self._passwordless_users
            and BecomeCommand.can_prompt(self.method, on_terminal=on_terminal)
        )
