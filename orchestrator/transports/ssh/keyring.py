"""The keys to log in with: read once a run from files and the agent, and shared by all hosts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.model.host import Connect
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.prompts import Answers, Question, WantedError
from orchestrator.transports.ssh.agent_client import NONE, Agent, AgentError, Agents
from orchestrator.transports.ssh.key_files import (
    Certificate,
    Identity,
    Sign,
    read_certificate,
    read_identity,
)
from orchestrator.transports.ssh_config.settings import Settings

DEFAULTS = ("id_ed25519", "id_ecdsa", "id_rsa")
CERTIFICATE = "-cert-v01@openssh.com"
PROMPTS = 3  # times that a wrong passphrase is asked for again, ssh's NumberOfPasswordPrompts


class Key(Struct, frozen=True):
    """A key the server may be offered. ``blob`` is its public part or certificate as SSH sends
    it, b'' where a locked file does not say; ``sign`` takes data and an algorithm and raises
    AgentError, or WantedError for a passphrase; ``ask`` means that the server is asked whether it
    wants this key before its owner is bothered for a signature. ``locked``: for a passphrase.
    """

    blob: bytes
    where: str
    sign: Callable[[bytes, str], bytes]
    ask: bool = False
    locked: bool = False

    @property
    def kind(self) -> str:
        """Its type, like ssh-ed25519."""
        return kind_of(self.blob)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The signature algorithms for it, best first; SHA-1 is not among them."""
        if self.kind.startswith("ssh-rsa"):
            tail = CERTIFICATE if self.kind.endswith(CERTIFICATE) else ""
            return (f"rsa-sha2-512{tail}", f"rsa-sha2-256{tail}")
        return (self.kind,)

    def __str__(self) -> str:
        return f"{self.where} ({self.kind} {fingerprint(self.blob)})"


class Offer(Struct, frozen=True):
    """The keys for one host in the order to try them, and why others can't be used; the agent
    that was asked for some.
    """

    keys: tuple[Key, ...]
    unusable: tuple[str, ...]
    agent: Agent | None = None


class Keyring:
    """What there is to log in with. Files are parsed and the agent is asked once each, and so is
    the user for each passphrase that a server makes necessary.
    """

    def __init__(self, home: Path, agents: Agents, answers: Answers | None = None) -> None:
        self._home, self._agents, self._answers = home, agents, answers
        self._unlocking = threading.Lock()
        self._lock = threading.Lock()
        self._certificates: dict[str, Certificate] = {}
        self._read: dict[Path, Identity] = {}
        self._lucky: set[bytes] = set()

    def offer(self, connect: Connect, settings: Settings, deadline: Deadline) -> Offer:
        """What to try on this host: what the inventory or ssh_config names, then the agent's
        keys, then the usual files. OpenSSH tries the agent's first and may run out of attempts.
        A key that was let in somewhere comes before those that were not, and what needs a
        passphrase last. ``settings`` may have another agent, and certificates. An agent that is
        not needed is not asked. What it does has to be done by ``deadline``. Raises
        CancelledError.
        """
        named = [self._identity(n) for n in connect.identity if n.lower() != NONE]
        usual = [] if connect.identity else [self._identity(f"~/.ssh/{n}") for n in DEFAULTS]
        agent = self._agents.own(settings)
        alone = connect.identities_only and not settings.certificates
        if alone and all(identity.sign for identity in named + usual):
            agent = None
        held, trouble = self._held(agent, deadline)
        found, useless = self._certified(settings.certificates, named + usual, held)
        found += [key for identity in named for key in self._keys(identity, held)]
        found += () if connect.identities_only else held
        found += [key for identity in usual for key in self._keys(identity, held)]
        unique: dict[bytes | str, Key] = {}
        for key in sorted(found, key=lambda key: key.locked):
            unique.setdefault(key.blob or key.where, key)
        with self._lock:
            order = sorted(
                unique.values(), key=lambda key: (key.locked, key.blob not in self._lucky)
            )
        unusable = [
            identity.trouble
            for identity in named + usual
            if (identity.exists or identity in named) and not self._keys(identity, held)
        ]
        return Offer(tuple(order), (*unusable, *useless, *trouble), agent)

    def let_in(self, key: Key) -> None:
        """A server accepted this key."""
        with self._lock:
            self._lucky.add(key.blob)

    def _identity(self, name: str) -> Identity:
        path = self._path(name)
        with self._lock:
            if path not in self._read:
                self._read[path] = read_identity(path, name)
            return self._read[path]

    def _keys(self, identity: Identity, held: list[Key]) -> list[Key]:
        sign = identity.sign
        if sign is None:  # a public key alone, or a locked one: the agent may hold the rest
            keys = [key for key in held if key.blob == identity.public]
            if keys or not identity.locked or self._answers is None:
                return keys
            sign = self._locked(identity)
        some, locked = bool(identity.public), identity.locked
        keys = [Key(identity.public, identity.name, sign, locked and some, locked)]
        if identity.certificate:
            where = f"{identity.name}-cert.pub"
            keys.insert(0, Key(identity.certificate, where, sign, locked, locked))
        return keys

    def _locked(self, identity: Identity) -> Sign:
        def sign(_: bytes, __: str) -> bytes:
            what = f"the passphrase of {identity.name}"
            raise WantedError(what, lambda: self._unlock(identity))

        return sign

    def _unlock(self, identity: Identity) -> None:
        """Have it unlocked, or not be asked for any more. Raises CancelledError."""
        path = self._path(identity.name)
        with self._unlocking:
            if not self._read[path].locked or self._answers is None:
                return
            now = self._opened(path, identity, self._answers)
            with self._lock:
                self._read[path] = now

    def _opened(self, path: Path, identity: Identity, answers: Answers) -> Identity:
        ask, why = f"Passphrase of {identity.name}", f"{PROMPTS} times it was not its passphrase"
        for _ in range(PROMPTS):
            passphrase = answers.ask(Question(ask, kind="key passphrase"))
            if passphrase is None:
                why = "nobody gave its passphrase at a terminal"
                break
            now = read_identity(path, identity.name, passphrase)
            if not now.locked:
                return now
            ask = f"That does not open it. Passphrase of {identity.name}"
        trouble = f"{identity.name} is encrypted, and {why} (`ssh-add {identity.name}` helps)"
        return replace(identity, locked=False, trouble=trouble)

    def _path(self, name: str) -> Path:
        return self._home / name[2:] if name.startswith("~/") else Path(name)

    def _certified(
        self, names: tuple[str, ...], identities: list[Identity], held: list[Key]
    ) -> tuple[list[Key], list[str]]:
        """The certificates of these files, each with what signs for it, and trouble with them."""
        found: list[Key] = []
        trouble: list[str] = []
        for certificate in map(self._certificate, names):
            mine = [i for i in identities if certificate.certifies(i.public)]
            signs = [key for i in mine for key in self._keys(i, held)]
            signs = signs or [key for key in held if certificate.certifies(key.blob)]
            if signs:
                found.append(replace(signs[-1], blob=certificate.blob, where=certificate.name))
            else:
                why = f"{certificate.name} certifies a key that is not there"
                trouble.append(certificate.trouble or why)
        return found, trouble

    def _certificate(self, name: str) -> Certificate:
        with self._lock:
            if name not in self._certificates:
                self._certificates[name] = read_certificate(self._path(name), name)
            return self._certificates[name]

    def _held(self, agent: Agent | None, deadline: Deadline) -> tuple[list[Key], list[str]]:
        if agent is None:
            return [], []
        try:
            listed = agent.listed(deadline)
        except AgentError as error:
            return [], [str(error)]
        return [_agent_key(agent, blob, comment, deadline) for blob, comment in listed], []


def _agent_key(agent: Agent, blob: bytes, comment: str, deadline: Deadline) -> Key:
    def sign(data: bytes, algorithm: str) -> bytes:
        return agent.sign(blob, data, algorithm, deadline)

    return Key(blob, f"agent {comment}", sign, True)


def kind_of(blob: bytes) -> str:
    """The type that a public key's blob names."""
    size = struct.unpack_from(">I", blob)[0] if len(blob) >= 4 else 0
    return blob[4 : 4 + size].decode("ascii", "replace")


def fingerprint(blob: bytes) -> str:
    """A public key's fingerprint as `ssh-keygen -l` prints it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def decoded(text: str) -> bytes:
    """The blob that base64 ``text`` stands for, b'' where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
