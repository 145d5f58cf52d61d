"""Logging in with keys (RFC 4252): the client's side, run by the connection's reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orchestrator.errors import ConnectError
from orchestrator.transport.agent import AgentError
from orchestrator.transport.keys import Key, Offer
from orchestrator.transport.library import Message, codes

SERVICE, METHOD = "ssh-connection", "publickey"


class Gate(Protocol):
    """The connection that is to be authenticated."""

    session_id: bytes | None
    server_extensions: dict[str, bytes]

    def post(self, message: Message) -> None: ...

    def let_in(self) -> None:
        """The server accepted us."""

    def turned_away(self, error: ConnectError) -> None:
        """It did not, and there is nothing left to try. Does not return."""


class Auth:
    """Offers one key after the other. paramiko hands it the messages of authentication.

    A request goes out right behind the service request instead of a round trip later. Keys from
    files are sent with their signature, saving another; an agent's are offered first, since a
    signature may cost its owner a touch or a click.
    """

    def __init__(self, gate: Gate, user: str, offer: Offer) -> None:
        self.accepted: Key | None = None
        self.tried: list[str] = []
        self._gate, self._user, self._offer = gate, user, offer
        self._left = list(offer.keys)
        self._key: Key | None = None
        self._algorithm = ""
        self._in = False
        self._handler_table: dict[int, Callable[[Message], None]] = {
            codes.MSG_SERVICE_ACCEPT: self._ignore,
            codes.MSG_USERAUTH_BANNER: self._ignore,
            codes.MSG_USERAUTH_SUCCESS: self._success,
            codes.MSG_USERAUTH_FAILURE: self._failure,
            codes.MSG_USERAUTH_PK_OK: self._wanted,
        }

    def begin(self) -> None:
        """Ask for the service and, in the same breath, for entry."""
        ask = Message().add_byte(codes.cMSG_SERVICE_REQUEST).add_string("ssh-userauth")
        self._gate.post(ask)
        if not self._next():  # no key at all: ask what it takes, for the message
            request = Message().add_byte(codes.cMSG_USERAUTH_REQUEST).add_string(self._user)
            self._gate.post(request.add_string(SERVICE).add_string("none"))

    def is_authenticated(self) -> bool:
        """Asked by paramiko."""
        return self._in

    def abort(self) -> None:
        """Called by paramiko when the connection ends. Nobody waits here."""

    def explained(self, goodbye: str) -> ConnectError:
        """Why the server hung up before it answered."""
        if "too many authentication failures" in goodbye.lower():
            return ConnectError(
                "auth",
                f"too many keys were offered to {self._user}@ before the right one: {self._list()}",
                "name the key (`connect: {identity: …}`) and set `identities_only: true`",
            )
        why = f": {goodbye}" if goodbye else ""
        return ConnectError("auth", f"the server hung up{why} ({self._list()})")

    def _next(self) -> bool:
        known = self._gate.server_extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        while self._left:
            key = self._left.pop(0)
            fit = [a for a in key.algorithms if not known or _base(a) in known.split(",")]
            if not fit:
                self.tried.append(f"{key}, a type the server does not take")
                continue
            self._key, self._algorithm = key, fit[0]
            try:
                self._gate.post(self._request(key, signed=not key.ask))
            except AgentError as error:
                self.tried.append(f"{key}: {error}")
                continue
            return True
        return False

    def _request(self, key: Key, *, signed: bool) -> Message:
        head = Message().add_byte(codes.cMSG_USERAUTH_REQUEST).add_string(self._user)
        head.add_string(SERVICE).add_string(METHOD).add_boolean(signed)
        head.add_string(self._algorithm).add_string(key.blob)
        if signed:
            session = Message().add_string(self._gate.session_id or b"").asbytes()
            head.add_string(key.sign(session + head.asbytes(), self._algorithm))
        return head

    def _wanted(self, _: Message) -> None:
        """PK_OK: the server would take this key."""
        if self._key is None:
            return
        try:
            self._gate.post(self._request(self._key, signed=True))
        except AgentError as error:
            self.tried.append(f"{self._key}: {error}")
            if not self._next():
                self._give_up([])

    def _success(self, _: Message) -> None:
        self._in, self.accepted = True, self._key
        self._gate.let_in()

    def _failure(self, message: Message) -> None:
        methods, partial = message.get_list(), message.get_boolean()
        if self._key is not None:
            self.tried.append(f"{self._key}{', taken, but not enough' if partial else ''}")
            if self._other_hash() or (METHOD in methods and self._next()):
                return
        self._give_up(methods)

    def _other_hash(self) -> bool:
        """An RSA key was sent before the server said which hashes it takes: once more, then."""
        known = self._gate.server_extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        key = self._key
        if key is None or not known or _base(self._algorithm) in known.split(","):
            return False
        self.tried.pop()
        self._left.insert(0, key)
        return self._next()

    def _give_up(self, methods: list[str]) -> None:
        hint = "is the user right, and the key in its ~/.ssh/authorized_keys?"
        if methods and METHOD not in methods:
            hint = "orch logs in with keys only"
        takes = f"; the server takes {', '.join(methods)}" if methods else ""
        self._gate.turned_away(
            ConnectError(
                "auth", f"{self._user}@ lets none of our keys in: {self._list()}{takes}", hint
            )
        )

    def _list(self) -> str:
        tried = f"tried {', then '.join(self.tried)}" if self.tried else "there was none to try"
        return "; ".join((tried, *self._offer.unusable))

    def _ignore(self, _: Message) -> None:
        pass


def _base(algorithm: str) -> str:
    """A certificate is signed with its key's algorithm, which is what servers list."""
    return algorithm.removesuffix("-cert-v01@openssh.com")
