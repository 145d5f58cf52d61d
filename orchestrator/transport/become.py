"""Shells of other users: what is run in place of the login user's own, and what it says.

The tools take a password from where the session's text comes from. Where nobody has one they are
told not to ask; su, which can't be told, is tried without input first. Where somebody may have
one, nothing at all is sent until they ask or the shell is there: a password would else be run as
a command, or the text be taken for passwords.
"""

from __future__ import annotations

import re
import secrets

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.model.clean import quote_end
from orchestrator.model.regex import regex
from orchestrator.model.shellquote import shell_quoted
from orchestrator.transport.ask import BECOME_FILE, Question

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
