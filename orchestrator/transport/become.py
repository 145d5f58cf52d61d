"""Shells of other users: what is run in place of the login user's own, and what it says.

No password is asked for. What the tools would ask with reads its answer from where the session's
text comes from, so they are told not to; su, which can't be told, is tried without input first.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from orchestrator.errors import ConnectError
from orchestrator.session.channel import Channel, Chunk
from orchestrator.session.ending import readable

_SAID = 2000  # bytes
_NOT_FOUND = 127  # POSIX.1-2017, XCU 2.8.2
_SCRIPTS = {
    "sudo": 'exec sudo -n -H -u "$1" -- sh -c "$2"',
    "doas": 'exec doas -n -u "$1" sh -c "$2"',
    "su": (
        '[ "$(id -u)" = 0 ]||su -s /bin/sh -c : "$1" </dev/null||exit;'
        'exec su -s /bin/sh -c "$2" "$1" "$1"'
    ),
}
"""``$1`` is the user's name, ``$2`` the text for their shell. doas sets HOME, USER and LOGNAME,
and so does sudo with ``-H``."""
_TEXTS = {
    # util-linux's su leaves USER and LOGNAME as they are where the user is root
    "su": "USER=$0 LOGNAME=$0;export USER LOGNAME;",
}
_NOBODY = ("unknown user", "unknown id", "does not exist", "no passwd entry")
_PERMITS = {
    "sudo": "sudoers on the host must let the login user become {user} with NOPASSWD",
    "doas": "doas.conf on the host must let the login user become {user} with `permit nopass`",
    "su": "su lets nobody but root do without one",
}


@dataclass(frozen=True, slots=True)
class Become:
    """One shell of ``user``, started with ``method`` (sudo, su or doas) and running ``shell``
    (text as in sh). ``token`` is what says that it is there.

    Raises ConnectError (phase become) where no such user can be.
    """

    method: str
    user: str
    shell: str = "sh"
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        odd = [c for c in self.user if not c.isprintable() or c in "'!"]
        if odd or self.user.startswith("-") or not self.user.strip():
            raise ConnectError("become", f"no user can be called {self.user!r}")
        if self.method not in _SCRIPTS:
            raise ConnectError("become", f"no become_method is called {self.method!r}")

    @property
    def words(self) -> list[str]:
        """The command. In it are neither newlines nor, but for a shell's text that has some, what
        login shells other than sh would read in another way.
        """
        text = f"{_TEXTS.get(self.method, '')}echo {self.token};exec {self.shell}"
        return ["sh", "-c", _SCRIPTS[self.method], "sh", self.user, text]

    @property
    def command(self) -> str:
        """The same as text for a login shell."""
        return "exec " + " ".join(f"'{word}'" if word != "sh" else word for word in self._quoted())

    def refused(self, said: bytes, status: int) -> ConnectError:
        """The error for a tool that ended without giving us a shell."""
        why = readable(said) or f"it ended with {status} and said nothing"
        why = f"{self.method} gives no shell of {self.user}: {why}"
        return ConnectError("become", why, self._hint(why, status))

    def _hint(self, why: str, status: int) -> str:
        others = " | ".join(each for each in _SCRIPTS if each != self.method)
        other = f"choose another way with `connect: {{become_method: {others}}}`"
        if any(words in why for words in _NOBODY):
            return f"does the host have a user {self.user}?"
        if status == _NOT_FOUND:
            return f"install {self.method} on the host, or {other}"
        permits = _PERMITS[self.method].format(user=self.user)
        return f"orch has no password to give, and {permits}; or log in as {self.user}, or {other}"

    def _quoted(self) -> list[str]:
        return [word.replace("'", "'\\''") for word in self.words]


class Becoming:
    """A channel on which ``become`` runs. Satisfies ``session.channel.Channel``.

    What it says before the token is handed on, the token's line is not. ``read`` raises
    ConnectError (phase become) where it ends without one.
    """

    def __init__(self, channel: Channel, become: Become) -> None:
        self._channel, self._become = channel, become
        self._token = f"{become.token}\n".encode()
        self._held = self._said = b""
        self._there = False

    def write(self, data: bytes | memoryview) -> int:
        """As ``Channel.write``."""
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
        self._channel.close_stdin()

    def close(self) -> None:
        """As ``Channel.close``."""
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
        self._said = (self._said + stdout + chunk.stderr)[-_SAID:]
        status = self.exit_status()
        if chunk.eof and not found and status is not None:  # else it was cut
            raise self._become.refused(self._said + self._held, status)
        return Chunk(stdout, chunk.stderr, chunk.eof)


def _beginning(data: bytes, token: bytes) -> int:
    """How many bytes at the end may be the beginning of the token."""
    longest = min(len(token) - 1, len(data))
    return next((n for n in range(longest, 0, -1) if data.endswith(token[:n])), 0)
