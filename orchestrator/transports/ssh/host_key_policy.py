"""Host certificates (OpenSSH's PROTOCOL.certkeys): whose key, for which names, by whom.

Whether to believe a host's key, and what to say where not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect
from orchestrator.transports.ssh.algorithms import chosen
from orchestrator.transports.ssh.keyring import CERTIFICATE, decoded, fingerprint, kind_of
from orchestrator.transports.ssh.known_hosts import (
    Answer,
    Entry,
    KnownHosts,
    Verdict,
    known_name,
)
from orchestrator.transports.ssh.paramiko_compat import Message, SSHException, Transport
from orchestrator.transports.ssh_config.settings import Settings

_HOST = 2  # SSH_CERT_TYPE_HOST
_FIELDS = {"ssh-ed25519": 1}  # of a public key, behind its type; of all others
_FIELDS_ELSE = 2


class HostCertificate(Struct, frozen=True):
    """``key`` and ``authority`` are public keys as SSH sends them; ``signature`` is what the
    authority put under ``signed``. Valid from ``since`` to ``until``, in seconds of the epoch,
    for the hosts called ``names``, or for all where there is none.
    """

    key: bytes
    authority: bytes
    for_hosts: bool
    names: tuple[str, ...]
    since: int
    until: int
    critical: bool
    signed: bytes
    signature: bytes

    def trouble(self, name: str) -> str:
        """Why it does not speak for the host called ``name`` now; '' where it does."""
        now = time.time()
        if not _signs(self.authority, self.signature, self.signed):
            return "its signature is wrong"
        if not self.for_hosts:
            return "it is a user's"
        if self.critical:
            return "it has options that orch does not know"
        if now < self.since:
            return f"it is valid from {_day(self.since)}"
        if now >= self.until:
            return f"it was valid until {_day(self.until)}"
        if self.names and name not in self.names:
            return f"it is for {', '.join(self.names)}"
        return ""


def is_certificate(blob: bytes) -> bool:
    """Whether this is one, and no plain key."""
    return kind_of(blob).endswith(CERTIFICATE)


def read_host_certificate(blob: bytes) -> HostCertificate:
    """What it says. What is cut off reads as empty, so that its signature is wrong."""
    message = Message(blob)
    kind = message.get_text().removesuffix(CERTIFICATE)
    message.get_string()  # the nonce
    key = Message().add_string(kind)
    for _ in range(_FIELDS.get(kind, _FIELDS_ELSE)):
        key.add_string(message.get_string())
    message.get_int64()  # the serial number
    for_hosts = message.get_int() == _HOST
    message.get_string()  # what the authority calls it
    names = _strings(message.get_string())
    since, until = message.get_int64(), message.get_int64()
    critical = bool(message.get_string())
    message.get_string()  # extensions, which may be ignored
    message.get_string()  # reserved
    authority, signature = message.get_string(), message.get_string()
    signed = blob[: len(blob) - len(signature) - 4]
    return HostCertificate(
        key.asbytes(),
        authority,
        for_hosts=for_hosts,
        names=names,
        since=since,
        until=until,
        critical=critical,
        signed=signed,
        signature=signature,
    )


def _signs(authority: bytes, signature: bytes, signed: bytes) -> bool:
    kind = kind_of(authority)
    known = Transport._key_info.get("rsa-sha2-512" if kind == "ssh-rsa" else kind)
    if known is None or kind.endswith(CERTIFICATE):
        return False
    try:
        return bool(known(Message(authority)).verify_ssh_sig(signed, Message(signature)))
    except (SSHException, ValueError):
        return False


def _strings(data: bytes) -> tuple[str, ...]:
    message, found = Message(data), []
    while message.get_remainder():
        found.append(message.get_string().decode("utf-8", "replace"))
    return tuple(found)


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


STANDARD = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")
ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # a type's signatures; else its own
USUAL = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


class OtherKindError(ConnectError):
    """The host showed a key of a type that known_hosts lacks, but it has ``kinds`` for it."""

    def __init__(self, error: ConnectError, kinds: tuple[str, ...]) -> None:
        super().__init__(error.phase, error.why, error.hint)
        self.kinds = kinds


class Trust:
    """Judges the keys of one host. ``order`` is what to ask it for, best known first."""

    def __init__(
        self,
        hosts: KnownHosts,
        connect: Connect,
        port: int,
        *,
        record: bool,
        settings: Settings | None = None,
    ) -> None:
        self._hosts, self._record = hosts, record
        self._settings = settings or Settings(connect.address, connect.address)
        self._accept_new = connect.host_keys == "accept-new"
        self._address, self._port = connect.address, port
        self._alias = self._settings.host_key_alias.lower()
        self._name = self._alias or known_name(connect.address, port)
        self._trouble = "the host shows no certificate"

    def order(self, first: Sequence[str] = ()) -> tuple[str, ...]:
        """Signature algorithms: of the types known for this host, then the others, as OpenSSH
        has it, so that a host with several keys shows the one that can be checked. Certificates
        come before all where a CA is known for it, unless a key of type ``first`` is wanted.
        Raises ConnectError where HostKeyAlgorithms leaves none of them.
        """
        known = (*first, *self._hosts.kinds(self._name))
        kinds = dict.fromkeys([*(k for k in known if k in USUAL), *USUAL])
        names = [name for kind in kinds for name in ALGORITHMS.get(kind, (kind,))]
        if not first and any(self._hosts.authorities(name) for name in self._names()):
            names = [*(f"{name}{CERTIFICATE}" for name in names), *names]
        wanted = self._settings.host_key_algorithms
        return chosen("HostKeyAlgorithms", wanted, names, names)

    def judge(self, blob: bytes) -> None:
        """Return if this key is the host's. Raises ConnectError; OtherKindError where known_hosts
        has keys of other types for the host, which it may be asked for. A certificate that no
        CA of known_hosts stands behind is as good as the key in it.
        """
        if is_certificate(blob):
            certificate = read_host_certificate(blob)
            if self._certified(certificate):
                return
            blob = certificate.key
        kind = kind_of(blob)
        verdict = self._hosts.check(self._name, kind, blob)
        if verdict.answer is Answer.UNKNOWN and self._port != 22 and not self._alias:
            # as ssh does: a key known for the host's port 22 serves its other ports
            plain = self._hosts.check(known_name(self._address, 22), kind, blob)
            verdict = plain if plain.answer in (Answer.KNOWN, Answer.REVOKED) else verdict
        if verdict.answer is Answer.UNKNOWN and self._accept_new:
            verdict = self._learn(kind, blob)
        if verdict.answer is not Answer.KNOWN:
            raise self._refusal(verdict, kind, blob)

    def _names(self) -> tuple[str, ...]:
        """What lines may call it: ssh takes those for port 22 where none is for its own."""
        plain = () if self._alias or self._port == 22 else (known_name(self._address, 22),)
        return (self._name, *plain)

    def _certified(self, certificate: HostCertificate) -> bool:
        names = self._names()
        for whose, blob in (("the CA", certificate.authority), ("the key", certificate.key)):
            for entry in (each for name in names for each in self._hosts.revoked(name, blob)):
                raise self._revoked(entry, whose, f"{kind_of(blob)} {fingerprint(blob)}")
        authorities = [entry for name in names for entry in self._hosts.authorities(name)]
        if not any(decoded(entry.key) == certificate.authority for entry in authorities):
            self._trouble = f"its certificate is by {fingerprint(certificate.authority)}"
            return False
        why = certificate.trouble(self._alias or self._address.lower())
        self._trouble = f"its certificate does not count: {why}"
        return not why

    def _learn(self, kind: str, blob: bytes) -> Verdict:
        try:
            hashed = self._settings.hash_known_hosts
            return self._hosts.add(self._name, kind, blob, record=self._record, hashed=hashed)
        except OSError as error:
            raise ConnectError(
                "host key", f"can't write to {self._hosts.paths[0]}: {error.strerror}"
            ) from error

    def _refusal(self, verdict: Verdict, kind: str, blob: bytes) -> ConnectError:
        shown = f"{kind} {fingerprint(blob)}"
        if verdict.answer is Answer.REVOKED:
            return self._revoked(verdict.entries[0], "the key", shown)
        if verdict.answer is Answer.CHANGED:
            old = verdict.entries[0]
            lax = self._accept_new and self._settings.host_keys == "no"
            return ConnectError(
                "host key",
                f"the key of {self._name} changed: {_place(old)} has {_shown(old)}, "
                f"the host shows {fingerprint(blob)} ({kind})",
                f"if it was set up anew: ssh-keygen -f {old.path} -R '{self._name}'; "
                "if not, somebody may stand between you and it"
                + ("; `StrictHostKeyChecking no` is accept-new for orch" if lax else ""),
            )
        if verdict.answer is Answer.OTHER_KIND:
            old = verdict.entries[0]
            return OtherKindError(
                ConnectError(
                    "host key",
                    f"{self._name} shows a key of another type: {_place(old)} has {old.kind} "
                    f"{_shown(old)}, the host shows {shown}",
                    f"if it was set up anew: ssh-keygen -f {old.path} -R '{self._name}'",
                ),
                tuple(dict.fromkeys(entry.kind for entry in verdict.entries)),
            )
        return self._unknown(verdict, shown)

    def _revoked(self, entry: Entry, whose: str, shown: str) -> ConnectError:
        return ConnectError(
            "host key",
            f"{whose} of {self._name} is revoked at {_place(entry)}: {shown}",
            "someone else may answer in the place of the host; ask its administrators",
        )

    def _unknown(self, verdict: Verdict, shown: str) -> ConnectError:
        looked = ", ".join(str(path) for path in self._hosts.paths)
        noted = ""
        if verdict.authority:
            noted = f"; {_place(verdict.authority)} is a @cert-authority, but {self._trouble}"
        port = f"-p {self._port} " if self._port != 22 else ""
        return ConnectError(
            "host key",
            f"{self._name} is not known in {looked}{noted}; it shows {shown}",
            f"compare that with `ssh-keygen -lf` on the host, then: ssh-keyscan {port}"
            f"{self._address} >> {self._hosts.paths[0]}; or set `host_keys: accept-new`",
        )


class TrustStore:
    """The run's known_hosts indexes, one for each choice of files, read once."""

    def __init__(self, home: Path, *, record: bool) -> None:
        self._home, self._record = home, record
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, ...], KnownHosts] = {}

    def of(self, connect: Connect, port: int, settings: Settings | None = None) -> Trust:
        """Who judges this host. Raises ConnectError where a file can't be read."""
        names = connect.known_hosts or STANDARD
        with self._lock:
            if names not in self._indexes:
                self._indexes[names] = self._index(names)
            hosts = self._indexes[names]
        return Trust(hosts, connect, port, record=self._record, settings=settings)

    def _index(self, names: tuple[str, ...]) -> KnownHosts:
        names = ("/dev/null",) if names == ("none",) else names
        paths = [self._home / n[2:] if n.startswith("~/") else Path(n) for n in names]
        try:
            return KnownHosts(paths)
        except OSError as error:
            raise ConnectError(
                "host key", f"can't read {error.filename}: {error.strerror}"
            ) from error


def _place(entry: Entry) -> str:
    return f"{entry.path}:{entry.line}"


def _shown(entry: Entry) -> str:
    return fingerprint(decoded(entry.key))
