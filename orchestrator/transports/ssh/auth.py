"""Logging in (RFC 4252): the client's side, run by the connection's reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol

from orchestrator.errors import ConnectError
from orchestrator.model.sanitize import one_line, quote, quote_end
from orchestrator.transports.prompts import Desk, Question, WantedError
from orchestrator.transports.ssh.agent_client import AgentError
from orchestrator.transports.ssh.keyring import Key, Offer
from orchestrator.transports.ssh.paramiko_compat import Message, codes

SERVICE = "ssh-connection"
KEY, INTERACTIVE, PASSWORD = "publickey", "keyboard-interactive", "password"
ORDER = (KEY, INTERACTIVE, PASSWORD)  # OpenSSH's
MOST = 50  # attempts, with a server that never says no for good


class Gate(Protocol):
    """The connection that is to be authenticated."""

    session_id: bytes | None
    server_extensions: dict[str, bytes]

    def post(self, message: Message) -> None: ...

    def let_in(self) -> None:
        """The server accepted us."""

    def turned_away(self, error: ConnectError) -> NoReturn:
        """It did not, and there is nothing left to try. Does not return."""


class Auth:
    """Offers one key after the other, and then a password. paramiko hands it the messages of
    authentication.

    A request goes out right behind the service request instead of a round trip later. Keys from
    files are sent with their signature, saving another; an agent's and locked ones are offered
    first, since a signature may cost their owner a touch, a click or a passphrase.
    ``desk`` has the passwords; without one only keys are tried.
    """

    def __init__(self, gate: Gate, user: str, offer: Offer, desk: Desk | None = None) -> None:
        self.accepted: Key | None = None
        self.tried: list[str] = []
        self._gate, self._user, self._offer, self._desk = gate, user, offer, desk
        self._left = list(offer.keys)
        self._key: Key | None = None
        self._algorithm = ""
        self._method = ""
        self._methods: list[str] = []
        self._done: set[str] = set()
        self._given: list[Question] = []  # what was answered and not yet taken
        self._refused: set[Question] = set()
        self._in = False
        self._said = b""  # the last of the server's words to its users
        self._unanswered = False  # a question that the password was not enough for
        self._rejected = False
        self._handler_table: dict[int, Callable[[Message], None]] = {
            codes.MSG_SERVICE_ACCEPT: self._ignore,
            codes.MSG_USERAUTH_BANNER: self._told,
            codes.MSG_USERAUTH_SUCCESS: self._success,
            codes.MSG_USERAUTH_FAILURE: self._failure,
            codes.MSG_USERAUTH_PK_OK: self._more,
        }

    def begin(self) -> None:
        """Ask for the service and, in the same breath, for entry."""
        ask = Message().add_byte(codes.cMSG_SERVICE_REQUEST).add_string("ssh-userauth")
        self._gate.post(ask)
        if not self._next_key():  # no key at all
            self._ask_what_it_takes()

    def is_authenticated(self) -> bool:
        """Asked by paramiko."""
        return self._in

    def abort(self) -> None:
        """Called by paramiko when the connection ends. Nobody waits here."""

    def explained(self, goodbye: str) -> ConnectError:
        """Why the server hung up before it answered."""
        if self._method == KEY and self._key and not self._in:
            self.tried.append(str(self._key))
        if "too many authentication failures" in goodbye.lower():
            return ConnectError(
                "auth",
                f"the server takes no more attempts (MaxAuthTries): {self._list()}",
                "name the key (`connect: {identity: …}`) and set `identities_only: true`",
            )
        why = f": {goodbye}" if goodbye else ""
        said = f" and said: {quote_end(self._said)}" if self._said else ""
        return ConnectError("auth", f"the server hung up{why}{said} ({self._list()})")

    def _ask_what_it_takes(self) -> None:
        if self._methods:
            self._on()
            return
        self._method = "none"
        self._gate.post(self._head())

    # Keys.

    def _next_key(self) -> bool:
        self._method, self._key = KEY, None
        known = self._gate.server_extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        while self._left:
            key = self._left.pop(0)
            some = known and key.blob  # of a locked one it may be unknown what it is
            fit = [a for a in key.algorithms if not some or _base(a) in known.split(",")]
            if not fit:
                self.tried.append(f"{key}, a type the server does not take")
                continue
            self._key, self._algorithm = key, fit[0]
            if self._send_key(key, signed=not key.ask):
                return True
        return False

    def _send_key(self, key: Key, *, signed: bool) -> bool:
        head = self._head(signed).add_string(self._algorithm).add_string(key.blob)
        try:
            if signed:
                session = Message().add_string(self._gate.session_id or b"").asbytes()
                head.add_string(key.sign(session + head.asbytes(), self._algorithm))
        except AgentError as error:
            self.tried.append(f"{key}: {error}")
            return False
        except WantedError as wanted:
            self._gate.turned_away(wanted)
        self._gate.post(head)
        return True

    def _other_hash(self) -> bool:
        """An RSA key was sent before the server said which hashes it takes: once more, then."""
        known = self._gate.server_extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        key = self._key
        if key is None or not known or _base(self._algorithm) in known.split(","):
            return False
        self.tried.pop()
        self._left.insert(0, key)
        return self._next_key()

    # Passwords (RFC 4252 8, RFC 4256).

    def _interactive(self) -> bool:
        if self._desk is None:
            return False
        self._method = INTERACTIVE
        self._gate.post(self._head().add_string("").add_string(""))
        return True

    def _prompted(self, message: Message) -> None:
        """INFO_REQUEST: answer all of it, or let the method be."""
        for _ in ("name", "instruction", "language"):
            message.get_string()
        prompts = [(message.get_text(), message.get_boolean()) for _ in range(message.get_int())]
        answers = [self._answer(prompt, seen=seen) for prompt, seen in prompts]
        if None in answers:
            self._settle(taken=False)
            self._on()
            return
        reply = Message().add_byte(codes.cMSG_USERAUTH_INFO_RESPONSE).add_int(len(answers))
        for answer in answers:
            reply.add_string((answer or "").encode("utf-8", "surrogateescape"))
        self._gate.post(reply)

    def _answer(self, prompt: str, *, seen: bool) -> str | None:
        """None where nobody knows, which is noted."""
        if self._desk is None:
            return None
        asks = prompt.lower()
        password = not seen and ("passw" in asks or "passphrase" in asks or not asks.strip(" :"))
        question = self._desk.question("" if password else prompt, seen=seen)
        if password and question in self._given:
            asks = quote(prompt)
            self.tried.append(f"{INTERACTIVE}, where the password is not enough ({asks})")
            self._unanswered = True
            return None
        return self._given_to(question)

    def _password(self) -> bool:
        if self._desk is None:
            return False
        self._method = PASSWORD
        password = self._given_to(self._desk.question())
        if password is None:
            return False
        text = password.encode("utf-8", "surrogateescape")
        self._gate.post(self._head(False).add_string(text))
        return True

    def _given_to(self, question: Question) -> str | None:
        """The answer, which is not given twice to a server that refused it."""
        if self._desk is None or question in self._refused:
            return None
        try:
            answer = self._desk.take(question)
        except WantedError as wanted:
            self._gate.turned_away(wanted)
        if answer is None:
            note = f"{question.text}: {self._desk.answers.trouble(question)}"
            if note not in self.tried:
                self.tried.append(note)
            return None
        self._given.append(question)
        return answer

    # What the server says.

    def _more(self, message: Message) -> None:
        """PK_OK, INFO_REQUEST or PASSWD_CHANGEREQ: they have one number."""
        if self._method == INTERACTIVE:
            self._prompted(message)
        elif self._method == KEY and self._key is not None:
            if not self._send_key(self._key, signed=True) and not self._next_key():
                self._ask_what_it_takes()
        else:
            self.tried.append("password, which the server wants changed (log in with ssh to do so)")
            self._on()

    def _success(self, _: Message) -> None:
        self._in = True
        if self._method == KEY:
            self.accepted = self._key
        self._settle(taken=True)
        self._gate.let_in()

    def _failure(self, message: Message) -> None:
        self._methods, partial = message.get_list(), message.get_boolean()
        what = str(self._key) if self._method == KEY and self._key else self._method
        if what != "none":
            self.tried.append(f"{what}{self._why_not(partial)}")
        self._settle(taken=partial)
        if partial:
            self._done.clear()
            self.accepted = self._key if self._method == KEY else self.accepted
        elif self._method == KEY and self._other_hash():
            return
        self._on()

    def _why_not(self, partial: bool) -> str:
        if partial:
            return ", taken, but not enough"
        if not self._given or self._method == KEY:
            return ""
        self._rejected = True
        alone = self._desk is not None and self._given == [self._desk.question()]
        return f": the {'password' if alone else 'answer'} was rejected"

    def _settle(self, *, taken: bool) -> None:
        if self._desk is None:
            return
        for question in self._given:
            if taken:
                self._desk.answers.accepted(question)
            else:
                self._desk.answers.refused(question)
                self._refused.add(question)
        self._given.clear()

    def _on(self) -> None:
        """Try what is left of what the server takes."""
        if not self._in and not self._tries():
            self._give_up()

    def _tries(self) -> bool:
        if KEY in self._methods and len(self.tried) < MOST and self._next_key():
            return True
        begin = {INTERACTIVE: self._interactive, PASSWORD: self._password}
        for method in ORDER[1:]:
            if method in self._methods and method not in self._done and len(self.tried) < MOST:
                self._done.add(method)
                if begin[method]():
                    return True
        return False

    def _give_up(self) -> None:
        hint = "is the user right, and the key in its ~/.ssh/authorized_keys?"
        others = self._desk and {INTERACTIVE, PASSWORD} & set(self._methods)
        what = "nothing that we have" if others else "none of our keys"
        if self._methods and not (others or KEY in self._methods):
            hint = (
                "orch itself logs in with keys and passwords only;"
                " the system's ssh may know another way: `connect: {transport: openssh}`"
            )
        if self._rejected:
            hint = f"is it the password of {self._user} on this host?"
        if self._unanswered:
            hint = (
                "does the host want the password changed, or a second one?"
                " `ssh HOST` lets you answer; orch gives each password once"
            )
        if self._offer.agent is not None and self._offer.agent.trouble:
            hint = self._offer.agent.remedy
        methods = one_line(", ".join(self._methods)[:200])
        takes = f"; the server takes {methods}" if methods else ""
        error = f"{what} lets {self._user} in: {self._list()}{takes}"
        self._gate.turned_away(ConnectError("auth", error, hint))

    def _list(self) -> str:
        tried = f"tried {', then '.join(self.tried)}" if self.tried else "there was none to try"
        return "; ".join((tried, *self._offer.unusable))

    def _head(self, *flags: bool) -> Message:
        """A request's beginning: who wants in, and how."""
        head = Message().add_byte(codes.cMSG_USERAUTH_REQUEST).add_string(self._user)
        head.add_string(SERVICE).add_string(self._method)
        for flag in flags:
            head.add_boolean(flag)
        return head

    def _told(self, message: Message) -> None:
        """USERAUTH_BANNER: its usual one, or why it is about to hang up."""
        self._said = message.get_string()

    def _ignore(self, _: Message) -> None:
        pass


def _base(algorithm: str) -> str:
    """A certificate is signed with its key's algorithm, which is what servers list."""
    return algorithm.removesuffix("-cert-v01@openssh.com")
