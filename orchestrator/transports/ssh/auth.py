"""The client side of SSH authentication (RFC 4252). It runs in the connection's reader thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol

from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.sanitize import quote_output, quote_output_end, to_one_line
from orchestrator.transports.prompts import (
    CredentialPrompt,
    CredentialRequiredError,
    LoginCredentials,
)
from orchestrator.transports.ssh.agent_client import AgentError
from orchestrator.transports.ssh.keyring import KeyOffer, LoginKey
from orchestrator.transports.ssh.paramiko_compat import Message, codes

SERVICE = "ssh-connection"
PUBLICKEY, INTERACTIVE, PASSWORD = "publickey", "keyboard-interactive", "password"
METHOD_ORDER = (PUBLICKEY, INTERACTIVE, PASSWORD)  # as in OpenSSH
MAX_ATTEMPTS = 50  # a server might refuse for ever without closing the connection


class AuthenticatedConnection(Protocol):
    """The connection to authenticate, as ``ClientAuth`` uses it."""

    session_id: bytes | None
    server_extensions: dict[str, bytes]

    def send_message(self, message: Message) -> None: ...

    def auth_succeeded(self) -> None:
        """Continue after the server has accepted the login."""

    def auth_failed(self, error: ConnectError) -> NoReturn:
        """End the connection, because no method is left. Does not return."""


def _refuse_to_sign(_: bytes, __: str) -> bytes:
    raise AgentError("the key is no longer known")


class ClientAuth:
    """Authentication with keys, then passwords. paramiko calls it with the server's messages.

    The first request is sent right after the service request, which saves a round trip. Keys from
    files are sent with their signature, which saves another. An agent's keys and encrypted keys
    are first offered without one, because signing may require a touch, a click or a passphrase.
    ``credentials`` has the passwords; without it only keys are tried.
    """

    def __init__(
        self,
        connection: AuthenticatedConnection,
        user: str,
        key_offer: KeyOffer,
        credentials: LoginCredentials | None = None,
    ) -> None:
        self.accepted_key: LoginKey | None = None
        self.attempts: list[str] = []
        self._connection, self._user, self._key_offer, self._credentials = (
            connection,
            user,
            key_offer,
            credentials,
        )
        self._remaining_keys = list(key_offer.keys)
        self._key: LoginKey | None = None
        self._algorithm = ""
        self._method = ""
        self._methods: list[str] = []
        self._tried_methods: set[str] = set()
        self._unconfirmed_prompts: list[CredentialPrompt] = []  # answered; result not known yet
        self._refused_prompts: set[CredentialPrompt] = set()
        self._authenticated = False
        self._banner = b""  # the last USERAUTH_BANNER
        self._has_unanswered_prompt = False  # a prompt that followed the password's
        self._was_rejected = False
        self._handler_table: dict[int, Callable[[Message], None]] = {
            codes.MSG_SERVICE_ACCEPT: self._ignore,
            codes.MSG_USERAUTH_BANNER: self._on_banner,
            codes.MSG_USERAUTH_SUCCESS: self._on_success,
            codes.MSG_USERAUTH_FAILURE: self._on_failure,
            codes.MSG_USERAUTH_PK_OK: self._on_info_request,
        }

    def begin(self) -> None:
        """Send the service request and the first authentication request."""
        request = Message().add_byte(codes.cMSG_SERVICE_REQUEST).add_string("ssh-userauth")
        self._connection.send_message(request)
        if not self._try_next_key():  # no key at all
            self._request_methods()

    def is_authenticated(self) -> bool:
        """Return True after success. paramiko calls it."""
        return self._authenticated

    def forget_credentials(self) -> None:
        """Forget passwords and private keys, after the login; the accepted key keeps its name."""
        self._key_offer, self._remaining_keys, self._key = KeyOffer((), ()), [], None
        self._credentials, self._unconfirmed_prompts, self._refused_prompts = None, [], set()
        if self.accepted_key is not None:
            self.accepted_key = replace(self.accepted_key, sign=_refuse_to_sign)

    def abort(self) -> None:
        """Do nothing. paramiko calls it when the connection ends."""

    def disconnect_error(self, disconnect_message: str) -> ConnectError:
        """Return the error for a server that disconnected before it answered."""
        if self._method == PUBLICKEY and self._key and not self._authenticated:
            self.attempts.append(str(self._key))
        if "too many authentication failures" in disconnect_message.lower():
            return ConnectError(
                "auth",
                f"the server allows no more attempts (MaxAuthTries): {self._attempts_text()}",
                "name the key (`connect: {identity: …}`) and set `identities_only: true`",
            )
        why = f": {disconnect_message}" if disconnect_message else ""
        banner_text = f"; it sent: {quote_output_end(self._banner)}" if self._banner else ""
        return ConnectError(
            "auth", f"the server hung up{why}{banner_text} ({self._attempts_text()})"
        )

    def _request_methods(self) -> None:
        if self._methods:
            self._continue()
            return
        self._method = "none"
        self._connection.send_message(self._request_header())

    # Keys.

    def _try_next_key(self) -> bool:
        self._method, self._key = PUBLICKEY, None
        known = self._connection.server_extensions.get("server-sig-algs", b"").decode(
            "ascii", "replace"
        )
        while self._remaining_keys:
            key = self._remaining_keys.pop(0)
            must_match = known and key.blob  # the type of an encrypted key may be unknown
            usable = [
                a
                for a in key.signature_algorithms
                if not must_match or _base_algorithm(a) in known.split(",")
            ]
            if not usable:
                self.attempts.append(f"{key}, a type the server does not accept")
                continue
            self._key, self._algorithm = key, usable[0]
            if self._send_key(key, signed=not key.offer_first):
                return True
        return False

    def _send_key(self, key: LoginKey, *, signed: bool) -> bool:
        head = self._request_header(signed).add_string(self._algorithm).add_string(key.blob)
        try:
            if signed:
                session = Message().add_string(self._connection.session_id or b"").asbytes()
                head.add_string(key.sign(session + head.asbytes(), self._algorithm))
        except AgentError as error:
            self.attempts.append(f"{key}: {error}")
            return False
        except CredentialRequiredError as required:
            self._connection.auth_failed(required)
        self._connection.send_message(head)
        return True

    def _retry_with_other_hash(self) -> bool:
        """Send an RSA key again with another hash.

        Needed if the key was sent before the server announced the hashes that it supports.
        """
        known = self._connection.server_extensions.get("server-sig-algs", b"").decode(
            "ascii", "replace"
        )
        key = self._key
        if key is None or not known or _base_algorithm(self._algorithm) in known.split(","):
            return False
        self.attempts.pop()
        self._remaining_keys.insert(0, key)
        return self._try_next_key()

    # Passwords (RFC 4252 8, RFC 4256).

    def _start_interactive(self) -> bool:
        if self._credentials is None:
            return False
        self._method = INTERACTIVE
        self._connection.send_message(self._request_header().add_string("").add_string(""))
        return True

    def _answer_prompts(self, message: Message) -> None:
        """Answer every prompt of an INFO_REQUEST, or give up this method."""
        for _ in ("name", "instruction", "language"):
            message.get_string()
        prompts = [(message.get_text(), message.get_boolean()) for _ in range(message.get_int())]
        answers = [self._answer_prompt(prompt, echo=echo) for prompt, echo in prompts]
        if None in answers:
            self._settle_credentials(accepted=False)
            self._continue()
            return
        reply = Message().add_byte(codes.cMSG_USERAUTH_INFO_RESPONSE).add_int(len(answers))
        for answer in answers:
            reply.add_string((answer or "").encode("utf-8", "surrogateescape"))
        self._connection.send_message(reply)

    def _answer_prompt(self, prompt: str, *, echo: bool) -> str | None:
        """Return the answer to a prompt, or None if there is none, after recording why."""
        if self._credentials is None:
            return None
        asks = prompt.lower()
        password = not echo and ("passw" in asks or "passphrase" in asks or not asks.strip(" :"))
        question = self._credentials.prompt_for("" if password else prompt, echo=echo)
        if password and question in self._unconfirmed_prompts:
            asks = quote_output(prompt)
            self.attempts.append(
                f"{INTERACTIVE}, where the server asks for more than the password ({asks})"
            )
            self._has_unanswered_prompt = True
            return None
        return self._answer_once(question)

    def _send_password(self) -> bool:
        if self._credentials is None:
            return False
        self._method = PASSWORD
        password = self._answer_once(self._credentials.prompt_for())
        if password is None:
            return False
        text = password.encode("utf-8", "surrogateescape")
        self._connection.send_message(self._request_header(False).add_string(text))
        return True

    def _answer_once(self, prompt: CredentialPrompt) -> str | None:
        """Return the answer, or None if this server has refused it."""
        if self._credentials is None or prompt in self._refused_prompts:
            return None
        try:
            answer = self._credentials.get_answer(prompt)
        except CredentialRequiredError as required:
            self._connection.auth_failed(required)
        if answer is None:
            note = f"{prompt.text}: {self._credentials.credential_store.error_for(prompt)}"
            if note not in self.attempts:
                self.attempts.append(note)
            return None
        self._unconfirmed_prompts.append(prompt)
        return answer

    # Handlers of the server's messages.

    def _on_info_request(self, message: Message) -> None:
        """Handle PK_OK, INFO_REQUEST and PASSWD_CHANGEREQ, which share a message number."""
        if self._method == INTERACTIVE:
            self._answer_prompts(message)
        elif self._method == PUBLICKEY and self._key is not None:
            if not self._send_key(self._key, signed=True) and not self._try_next_key():
                self._request_methods()
        else:
            self.attempts.append("password, which must be changed (log in with ssh to do so)")
            self._continue()

    def _on_success(self, _: Message) -> None:
        self._authenticated = True
        if self._method == PUBLICKEY:
            self.accepted_key = self._key
        self._settle_credentials(accepted=True)
        self._connection.auth_succeeded()

    def _on_failure(self, message: Message) -> None:
        self._methods, partial = message.get_list(), message.get_boolean()
        attempt = str(self._key) if self._method == PUBLICKEY and self._key else self._method
        if attempt != "none":
            self.attempts.append(f"{attempt}{self._rejection_reason(partial)}")
        self._settle_credentials(accepted=partial)
        if partial:
            self._tried_methods.clear()
            self.accepted_key = self._key if self._method == PUBLICKEY else self.accepted_key
        elif self._method == PUBLICKEY and self._retry_with_other_hash():
            return
        self._continue()

    def _rejection_reason(self, partial: bool) -> str:
        if partial:
            return ", accepted, but another method is required as well"
        if not self._unconfirmed_prompts or self._method == PUBLICKEY:
            return ""
        self._was_rejected = True
        alone = self._credentials is not None and self._unconfirmed_prompts == [
            self._credentials.prompt_for()
        ]
        return f": the {'password' if alone else 'answer'} was rejected"

    def _settle_credentials(self, *, accepted: bool) -> None:
        if self._credentials is None:
            return
        for question in self._unconfirmed_prompts:
            if accepted:
                self._credentials.credential_store.mark_accepted(question)
            else:
                self._credentials.credential_store.mark_refused(question)
                self._refused_prompts.add(question)
        self._unconfirmed_prompts.clear()

    def _continue(self) -> None:
        """Try the next method that the server accepts, or fail."""
        if not self._authenticated and not self._try_next_method():
            self._fail()

    def _try_next_method(self) -> bool:
        if (
            PUBLICKEY in self._methods
            and len(self.attempts) < MAX_ATTEMPTS
            and self._try_next_key()
        ):
            return True
        begin = {INTERACTIVE: self._start_interactive, PASSWORD: self._send_password}
        for method in METHOD_ORDER[1:]:
            if (
                method in self._methods
                and method not in self._tried_methods
                and len(self.attempts) < MAX_ATTEMPTS
            ):
                self._tried_methods.add(method)
                if begin[method]():
                    return True
        return False

    def _fail(self) -> None:
        hint = "is the user right, and the key in its ~/.ssh/authorized_keys?"
        others = self._credentials and {INTERACTIVE, PASSWORD} & set(self._methods)
        if self._methods and not (others or PUBLICKEY in self._methods):
            hint = (
                "orch supports keys and passwords only;"
                " the system's ssh may support another method: `connect: {transport: openssh}`"
            )
        if self._was_rejected:
            hint = f"is it the password of {self._user} on this host?"
        if self._has_unanswered_prompt:
            hint = (
                "does the host require a new password, or a second one?"
                " Log in with `ssh HOST` to answer; orch sends each password once"
            )
        if self._key_offer.agent is not None and self._key_offer.agent.error:
            hint = self._key_offer.agent.remedy
        methods = to_one_line(", ".join(self._methods)[:200])
        accepts = f"; the server accepts {methods}" if methods else ""
        error = f"permission denied for {self._user}: {self._attempts_text()}{accepts}"
        self._connection.auth_failed(ConnectError("auth", error, hint))

    def _attempts_text(self) -> str:
        tried = f"tried {', then '.join(self.attempts)}" if self.attempts else "no key to try"
        return "; ".join((tried, *self._key_offer.unusable_reasons))

    def _request_header(self, *flags: bool) -> Message:
        """Return the beginning of a request: user, service and method."""
        head = Message().add_byte(codes.cMSG_USERAUTH_REQUEST).add_string(self._user)
        head.add_string(SERVICE).add_string(self._method)
        for flag in flags:
            head.add_boolean(flag)
        return head

    def _on_banner(self, message: Message) -> None:
        """Keep a USERAUTH_BANNER, which may be the reason for a disconnect that follows."""
        self._banner = message.get_string()

    def _ignore(self, _: Message) -> None:
        pass


def _base_algorithm(algorithm: str) -> str:
    """Return the algorithm of a certificate's key, which is the one that servers list."""
    return algorithm.removesuffix("-cert-v01@openssh.com")
