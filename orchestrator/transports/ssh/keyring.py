"""The keys to log in with, read once per run from files and agents and shared by all hosts."""

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

from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.prompts import (
    CredentialPrompt,
    CredentialRequiredError,
    CredentialStore,
)
from orchestrator.transports.ssh.agent_client import NONE, AgentClient, AgentError, AgentRegistry
from orchestrator.transports.ssh.key_files import (
    PrivateKeyFile,
    SignFunction,
    UserCertificate,
    read_private_key,
    read_user_certificate,
)
from orchestrator.transports.ssh_config.settings import SshSettings

DEFAULT_KEY_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")
CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
MAX_PASSPHRASE_PROMPTS = 3  # attempts for a passphrase, as with ssh's NumberOfPasswordPrompts


class LoginKey(Struct, frozen=True):
    """A key to offer to a server.

    ``blob`` is the public key or certificate in SSH's format, or b'' if an encrypted file does
    not tell. ``sign`` takes data and an algorithm; it raises AgentError, or
    CredentialRequiredError if a passphrase is needed. ``offer_first``: ask the server whether it
    accepts the key before signing, which may bother the user. ``is_locked``: a passphrase is
    needed. ``in_agent``: an agent signs.
    """

    blob: bytes
    source: str
    sign: Callable[[bytes, str], bytes]
    offer_first: bool = False
    is_locked: bool = False
    in_agent: bool = False

    @property
    def key_type(self) -> str:
        """The key's type, for instance ``ssh-ed25519``."""
        return key_type_of(self.blob)

    @property
    def signature_algorithms(self) -> tuple[str, ...]:
        """The signature algorithms for the key, best first, without SHA-1."""
        if self.key_type.startswith("ssh-rsa"):
            tail = CERTIFICATE_SUFFIX if self.key_type.endswith(CERTIFICATE_SUFFIX) else ""
            return (f"rsa-sha2-512{tail}", f"rsa-sha2-256{tail}")
        return (self.key_type,)

    def __str__(self) -> str:
        return f"{self.source} ({self.key_type} {fingerprint(self.blob)})"


class KeyOffer(Struct, frozen=True):
    """The keys for one host in the order to try them, and the reasons why others cannot be used.

    ``agent`` is the agent that was asked for keys, or None.
    """

    keys: tuple[LoginKey, ...]
    unusable_reasons: tuple[str, ...]
    agent: AgentClient | None = None


class Keyring:
    """The keys of a run.

    Each file is parsed once, each agent is asked once, and so is the user for each passphrase
    that is needed.
    """

    def __init__(
        self, home: Path, agents: AgentRegistry, credential_store: CredentialStore | None = None
    ) -> None:
        self._home, self._agents, self._credential_store = home, agents, credential_store
        self._unlocking = threading.Lock()
        self._lock = threading.Lock()
        self._certificates: dict[str, UserCertificate] = {}
        self._key_files: dict[Path, PrivateKeyFile] = {}
        self._accepted_blobs: set[bytes] = set()

    def make_offer(
        self, connect: ConnectionOptions, settings: SshSettings, deadline: Deadline
    ) -> KeyOffer:
        """Return the keys to try on a host, in order.

        First those that the inventory or ssh_config names, then the agent's, then the default
        files; OpenSSH tries the agent's keys first and may run out of attempts. Keys that a server
        has accepted precede the others, and keys that need a passphrase come last. ``settings``
        may name another agent, and certificates. The agent is asked only if it is needed, and
        until ``deadline`` at most. Raises CancelledError.
        """
        configured = [self._key_file(n) for n in connect.identity if n.lower() != NONE]
        default = (
            [] if connect.identity else [self._key_file(f"~/.ssh/{n}") for n in DEFAULT_KEY_FILES]
        )
        agent = self._agents.agent_for_keys(settings)
        files_only = connect.identities_only and not settings.certificates
        if files_only and all(identity.sign for identity in configured + default):
            agent = None
        agent_keys, agent_errors = self._agent_keys(agent, deadline)
        found, certificate_errors = self._certificate_keys(
            settings.certificates, configured + default, agent_keys
        )
        found += [key for identity in configured for key in self._login_keys(identity, agent_keys)]
        found += () if connect.identities_only else agent_keys
        found += [key for identity in default for key in self._login_keys(identity, agent_keys)]
        unique: dict[bytes | str, LoginKey] = {}
        for key in sorted(found, key=lambda key: key.is_locked):
            unique.setdefault(key.blob or key.source, key)
        with self._lock:
            order = sorted(
                unique.values(),
                key=lambda key: (key.is_locked, key.blob not in self._accepted_blobs),
            )
        unusable = [
            identity.error
            for identity in configured + default
            if (identity.exists or identity in configured)
            and not self._login_keys(identity, agent_keys)
        ]
        return KeyOffer(tuple(order), (*unusable, *certificate_errors, *agent_errors), agent)

    def mark_accepted(self, key: LoginKey) -> None:
        """Record that a server accepted this key."""
        with self._lock:
            self._accepted_blobs.add(key.blob)

    def _key_file(self, name: str) -> PrivateKeyFile:
        path = self._expand_path(name)
        with self._lock:
            if path not in self._key_files:
                self._key_files[path] = read_private_key(path, name)
            return self._key_files[path]

    def _login_keys(self, key_file: PrivateKeyFile, agent_keys: list[LoginKey]) -> list[LoginKey]:
        sign = key_file.sign
        if sign is None:  # only a public key, or encrypted: the agent may have the private key
            keys = [key for key in agent_keys if key.blob == key_file.public_blob]
            if keys or not key_file.is_locked or self._credential_store is None:
                return keys
            sign = self._locked_signer(key_file)
        some, locked = bool(key_file.public_blob), key_file.is_locked
        keys = [LoginKey(key_file.public_blob, key_file.name, sign, locked and some, locked)]
        if key_file.certificate_blob:
            source = f"{key_file.name}-cert.pub"
            keys.insert(0, LoginKey(key_file.certificate_blob, source, sign, locked, locked))
        return keys

    def _locked_signer(self, key_file: PrivateKeyFile) -> SignFunction:
        def sign(_: bytes, __: str) -> bytes:
            what = f"the passphrase of {key_file.name}"
            raise CredentialRequiredError(what, lambda: self._unlock_key(key_file))

        return sign

    def _unlock_key(self, key_file: PrivateKeyFile) -> None:
        """Unlock the key, or give up asking for its passphrase. Raises CancelledError."""
        path = self._expand_path(key_file.name)
        with self._unlocking:
            if not self._key_files[path].is_locked or self._credential_store is None:
                return
            result = self._unlock_with_passphrase(path, key_file, self._credential_store)
            with self._lock:
                self._key_files[path] = result

    def _unlock_with_passphrase(
        self, path: Path, key_file: PrivateKeyFile, credential_store: CredentialStore
    ) -> PrivateKeyFile:
        prompt, why = (
            f"Passphrase of {key_file.name}",
            f"{MAX_PASSPHRASE_PROMPTS} passphrases were wrong",
        )
        for _ in range(MAX_PASSPHRASE_PROMPTS):
            passphrase = credential_store.ask_user(CredentialPrompt(prompt, kind="key passphrase"))
            if passphrase is None:
                why = "no passphrase was entered at a terminal"
                break
            unlocked = read_private_key(path, key_file.name, passphrase)
            if not unlocked.is_locked:
                return unlocked
            prompt = f"Wrong passphrase. Passphrase of {key_file.name}"
        error = (
            f"{key_file.name} is encrypted, and {why}; "
            f"load it into the agent with `ssh-add {key_file.name}`"
        )
        return replace(key_file, is_locked=False, error=error)

    def _expand_path(self, name: str) -> Path:
        return self._home / name[2:] if name.startswith("~/") else Path(name)

    def _certificate_keys(
        self, names: tuple[str, ...], key_files: list[PrivateKeyFile], agent_keys: list[LoginKey]
    ) -> tuple[list[LoginKey], list[str]]:
        """Return the certificates of these files as keys, and the reasons why some are unusable."""
        found: list[LoginKey] = []
        errors: list[str] = []
        for certificate in map(self._load_certificate, names):
            matching = [i for i in key_files if certificate.certifies(i.public_blob)]
            signing_keys = [key for i in matching for key in self._login_keys(i, agent_keys)]
            signing_keys = signing_keys or [
                key for key in agent_keys if certificate.certifies(key.blob)
            ]
            if signing_keys:
                found.append(
                    replace(signing_keys[-1], blob=certificate.blob, source=certificate.name)
                )
            else:
                why = f"{certificate.name} has no matching private key"
                errors.append(certificate.error or why)
        return found, errors

    def _load_certificate(self, name: str) -> UserCertificate:
        with self._lock:
            if name not in self._certificates:
                self._certificates[name] = read_user_certificate(self._expand_path(name), name)
            return self._certificates[name]

    def _agent_keys(
        self, agent: AgentClient | None, deadline: Deadline
    ) -> tuple[list[LoginKey], list[str]]:
        if agent is None:
            return [], []
        try:
            listed = agent.list_keys(deadline)
        except AgentError as error:
            return [], [str(error)]
        return [_make_agent_key(agent, blob, comment, deadline) for blob, comment in listed], []


def _make_agent_key(agent: AgentClient, blob: bytes, comment: str, deadline: Deadline) -> LoginKey:
    def sign(data: bytes, algorithm: str) -> bytes:
        return agent.sign(blob, data, algorithm, deadline)

    return LoginKey(blob, f"agent {comment}", sign, True, in_agent=True)


def key_type_of(blob: bytes) -> str:
    """Return the key type that a public key's blob names."""
    size = struct.unpack_from(">I", blob)[0] if len(blob) >= 4 else 0
    return blob[4 : 4 + size].decode("ascii", "replace")


def fingerprint(blob: bytes) -> str:
    """Return a public key's fingerprint as `ssh-keygen -l` prints it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def decode_key(text: str) -> bytes:
    """Return the bytes of base64 ``text``, or b'' if it is invalid."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
