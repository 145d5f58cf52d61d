"""Host key checking: known_hosts, host certificates (OpenSSH's PROTOCOL.certkeys), and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.ssh.algorithms import require_algorithms
from orchestrator.transports.ssh.keyring import (
    CERTIFICATE_SUFFIX,
    decode_key,
    fingerprint,
    key_type_of,
)
from orchestrator.transports.ssh.known_hosts import (
    HostKeyMatch,
    HostKeyStatus,
    KnownHosts,
    KnownHostsEntry,
    known_hosts_name,
)
from orchestrator.transports.ssh.paramiko_compat import Message, PrivateTransport, SSHException
from orchestrator.transports.ssh.shared_known_hosts import (
    OTHER_MACHINE,
    SharedKnownHosts,
    known_hosts_paths,
)
from orchestrator.transports.ssh_config.settings import SshSettings

_IF_NOT = "if not, this may be a man-in-the-middle attack"
_HOST_CERTIFICATE = 2  # SSH_CERT_TYPE_HOST
_KEY_FIELD_COUNTS = {"ssh-ed25519": 1}  # fields of a public key after its type
_DEFAULT_FIELD_COUNT = 2


class HostCertificate(Struct, frozen=True):
    """A host certificate.

    ``key`` and ``authority`` are public keys in SSH's format; ``signature`` is the authority's
    signature over ``signed_data``. It is valid from ``valid_from`` until ``valid_until``, in
    seconds since the epoch, for the hosts in ``names``, or for all hosts if there are none.
    """

    key: bytes
    authority: bytes
    is_for_hosts: bool
    names: tuple[str, ...]
    valid_from: int
    valid_until: int
    has_critical_options: bool
    signed_data: bytes
    signature: bytes

    def invalid_reason(self, name: str) -> str:
        """Return why the certificate is not valid for the host ``name`` now, or '' if it is."""
        now = time.time()
        if not _is_signed_by(self.authority, self.signature, self.signed_data):
            return "its signature is wrong"
        if not self.is_for_hosts:
            return "it is a user certificate"
        if self.has_critical_options:
            return "it has unknown critical options"
        if now < self.valid_from:
            return f"it is valid from {_format_time(self.valid_from)}"
        if now >= self.valid_until:
            return f"it was valid until {_format_time(self.valid_until)}"
        if self.names and name not in self.names:
            return f"it is for {', '.join(self.names)}"
        return ""


def is_certificate(blob: bytes) -> bool:
    """Return True if this is a certificate rather than a plain key."""
    return key_type_of(blob).endswith(CERTIFICATE_SUFFIX)


def read_host_certificate(blob: bytes) -> HostCertificate:
    """Parse a certificate. Missing fields are empty, so that its signature is invalid."""
    message = Message(blob)
    kind = message.get_text().removesuffix(CERTIFICATE_SUFFIX)
    message.get_string()  # the nonce
    key = Message().add_string(kind)
    for _ in range(_KEY_FIELD_COUNTS.get(kind, _DEFAULT_FIELD_COUNT)):
        key.add_string(message.get_string())
    message.get_int64()  # the serial number
    for_hosts = message.get_int() == _HOST_CERTIFICATE
    message.get_string()  # the key id
    names = _read_strings(message.get_string())
    since, until = message.get_int64(), message.get_int64()
    critical = bool(message.get_string())
    message.get_string()  # extensions, which may be ignored
    message.get_string()  # reserved
    authority, signature = message.get_string(), message.get_string()
    signed = blob[: len(blob) - len(signature) - 4]
    return HostCertificate(
        key.asbytes(),
        authority,
        is_for_hosts=for_hosts,
        names=names,
        valid_from=since,
        valid_until=until,
        has_critical_options=critical,
        signed_data=signed,
        signature=signature,
    )


def _is_signed_by(authority: bytes, signature: bytes, signed: bytes) -> bool:
    key_type = key_type_of(authority)
    key_class = PrivateTransport._key_info.get(
        "rsa-sha2-512" if key_type == "ssh-rsa" else key_type
    )
    if key_class is None or key_type.endswith(CERTIFICATE_SUFFIX):
        return False
    try:
        return bool(key_class(Message(authority)).verify_ssh_sig(signed, Message(signature)))
    except (SSHException, ValueError):
        return False


def _read_strings(data: bytes) -> tuple[str, ...]:
    message, found = Message(data), []
    while message.get_remainder():
        found.append(message.get_string().decode("utf-8", "replace"))
    return tuple(found)


def _format_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


STANDARD_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")
SIGNATURE_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # of other types: the type
USUAL_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


class HostKeyTypeMismatchError(ConnectError):
    """The host sent a key of another type than known_hosts has for it (``key_types``)."""

    def __init__(self, error: ConnectError, key_types: tuple[str, ...]) -> None:
        super().__init__(error.phase, error.reason, error.hint)
        self.key_types = key_types


class HostKeyVerifier:
    """Checks the keys of one host."""

    def __init__(
        self,
        known_hosts: KnownHosts,
        connect: ConnectionOptions,
        port: int,
        *,
        record_host_keys: bool,
        settings: SshSettings | None = None,
        shared: SharedKnownHosts | None = None,
    ) -> None:
        self._known_hosts, self._record_host_keys = known_hosts, record_host_keys
        self._shared, self._files = shared, connect.known_hosts or STANDARD_FILES
        self._settings = settings or SshSettings(connect.address, connect.address)
        self._accept_new = connect.host_keys == "accept-new"
        self._address, self._port = connect.address, port
        self._alias = self._settings.host_key_alias.lower()
        self._name = self._alias or known_hosts_name(connect.address, port)
        self._certificate_error = "the host shows no certificate"

    def algorithm_order(self, preferred: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the signature algorithms to offer, in order.

        As in OpenSSH, types that are known for this host come first, so that a host with several
        keys sends the one that can be checked. Certificates come before all if a CA is known for
        the host, unless ``preferred`` key types are given.
        Raises ConnectError if HostKeyAlgorithms leaves none of them.
        """
        known_types = (*preferred, *self._known_hosts.key_types(self._name))
        key_types = dict.fromkeys(
            [*(k for k in known_types if k in USUAL_KEY_TYPES), *USUAL_KEY_TYPES]
        )
        names = [name for kind in key_types for name in SIGNATURE_ALGORITHMS.get(kind, (kind,))]
        if not preferred and any(
            self._known_hosts.authorities(name) for name in self._known_names()
        ):
            names = [*(f"{name}{CERTIFICATE_SUFFIX}" for name in names), *names]
        setting = self._settings.host_key_algorithms
        return require_algorithms("HostKeyAlgorithms", setting, names, names)

    def verify(self, blob: bytes) -> None:
        """Return if this is the host's key.

        A certificate without a CA in known_hosts is checked as its plain key. Raises ConnectError;
        HostKeyTypeMismatchError if known_hosts has keys of other types for the host, which the
        caller may request.
        """
        if is_certificate(blob):
            certificate = read_host_certificate(blob)
            if self._is_certified(certificate):
                return
            blob = certificate.key
        key_type, name = key_type_of(blob), self._name
        match = self._known_hosts.check(name, key_type, blob)
        if match.status is HostKeyStatus.UNKNOWN and self._port != 22 and not self._alias:
            # as in ssh: a key of the host's port 22 is valid for its other ports
            plain_name = known_hosts_name(self._address, 22)
            default_port_match = self._known_hosts.check(plain_name, key_type, blob)
            if default_port_match.status in (HostKeyStatus.KNOWN, HostKeyStatus.REVOKED):
                match, name = default_port_match, plain_name
        if match.status is HostKeyStatus.UNKNOWN and self._accept_new:
            match = self._record_key(key_type, blob)
        if match.status is not HostKeyStatus.KNOWN:
            raise self._refusal_error(match, key_type, blob)
        for part in self._known_hosts.parts:
            other = part.check(name, key_type, blob)
            if other.status is HostKeyStatus.CHANGED:
                raise self._conflict_error(match.entries[0], other.entries[0])

    def _known_names(self) -> tuple[str, ...]:
        """Return the host's names in known_hosts; as in ssh, port 22's name is the last resort."""
        plain = () if self._alias or self._port == 22 else (known_hosts_name(self._address, 22),)
        return (self._name, *plain)

    def _is_certified(self, certificate: HostCertificate) -> bool:
        names = self._known_names()
        for subject, blob in (("the CA", certificate.authority), ("the key", certificate.key)):
            for entry in (
                each for name in names for each in self._known_hosts.revoking_entries(name, blob)
            ):
                raise self._revoked_error(
                    entry, subject, f"{key_type_of(blob)} {fingerprint(blob)}"
                )
        authorities = [entry for name in names for entry in self._known_hosts.authorities(name)]
        if not any(decode_key(entry.key) == certificate.authority for entry in authorities):
            self._certificate_error = (
                f"its certificate is signed by {fingerprint(certificate.authority)}"
            )
            return False
        why = certificate.invalid_reason(self._alias or self._address.lower())
        self._certificate_error = f"its certificate is not valid: {why}"
        return not why

    def _record_key(self, key_type: str, blob: bytes) -> HostKeyMatch:
        hashed = self._settings.hash_known_hosts
        if self._shared is not None and self._record_host_keys:
            match = self._shared.record(self._files, self._name, key_type, blob, hashed)
            if match.status is not HostKeyStatus.KNOWN:
                return match
            return self._known_hosts.add(self._name, key_type, blob, write_file=False)
        try:
            return self._known_hosts.add(
                self._name, key_type, blob, write_file=self._record_host_keys, hash_name=hashed
            )
        except OSError as error:
            raise ConnectError(
                "host key", f"can't write to {self._known_hosts.paths[0]}: {error.strerror}"
            ) from error

    def _refusal_error(self, key_match: HostKeyMatch, key_type: str, blob: bytes) -> ConnectError:
        shown = f"{key_type} {fingerprint(blob)}"
        if key_match.status is HostKeyStatus.REVOKED:
            return self._revoked_error(key_match.entries[0], "the key", shown)
        if key_match.status is HostKeyStatus.CHANGED:
            old = key_match.entries[0]
            lax = self._accept_new and self._settings.host_keys == "no"
            return ConnectError(
                "host key",
                f"the key of {self._name} changed: {_entry_location(old)} has "
                f"{_entry_fingerprint(old)}, the host shows {fingerprint(blob)} ({key_type})",
                f"if the host was reinstalled: {self._removal(old)}; {_IF_NOT}"
                + ("; orch treats `StrictHostKeyChecking no` as accept-new" if lax else ""),
            )
        if key_match.status is HostKeyStatus.OTHER_TYPE:
            old = key_match.entries[0]
            return HostKeyTypeMismatchError(
                ConnectError(
                    "host key",
                    f"{self._name} shows a key of another type: {_entry_location(old)} has "
                    f"{old.key_type} {_entry_fingerprint(old)}, the host shows {shown}",
                    f"if the host was reinstalled: {self._removal(old)}",
                ),
                tuple(dict.fromkeys(entry.key_type for entry in key_match.entries)),
            )
        return self._unknown_error(key_match, shown)

    def _removal(self, entry: KnownHostsEntry) -> str:
        """Return the command that removes the host's keys from a file."""
        place = "at the coordinator, " if entry.path.startswith(OTHER_MACHINE) else ""
        path = entry.path.removeprefix(OTHER_MACHINE)
        return f"{place}ssh-keygen -f {path} -R '{self._name}'"

    def _conflict_error(self, same: KnownHostsEntry, other: KnownHostsEntry) -> ConnectError:
        return ConnectError(
            "host key",
            f"two keys are known for {self._name}: {_entry_location(same)} has "
            f"{_entry_fingerprint(same)}, which the host shows, {_entry_location(other)} has "
            f"{_entry_fingerprint(other)}",
            f"if the host was reinstalled: {self._removal(other)}; {_IF_NOT}",
        )

    def _revoked_error(self, entry: KnownHostsEntry, subject: str, key_text: str) -> ConnectError:
        return ConnectError(
            "host key",
            f"{subject} of {self._name} is revoked at {_entry_location(entry)}: {key_text}",
            "another machine may be impersonating the host; ask its administrators",
        )

    def _unknown_error(self, key_match: HostKeyMatch, key_text: str) -> ConnectError:
        files, first = ", ".join(map(str, self._known_hosts.paths)), self._known_hosts.paths[0]
        if self._shared is not None:
            files, first = f"{files}, here or at the coordinator", Path(self._files[0])
        ca_note = ""
        if key_match.authority:
            location = _entry_location(key_match.authority)
            ca_note = f"; {location} is a @cert-authority, but {self._certificate_error}"
        port = f"-p {self._port} " if self._port != 22 else ""
        return ConnectError(
            "host key",
            f"{self._name} is not in {files}{ca_note}; its key is {key_text}",
            f"compare that with `ssh-keygen -lf` on the host, then: ssh-keyscan {port}"
            f"{self._address} >> {first}; or set `host_keys: accept-new`",
        )


class KnownHostsStore:
    """The known_hosts indexes of a run, one for each set of files. Each is read once.

    With ``shared``, the same files of another machine are used as well.
    """

    def __init__(
        self, home: Path, *, record_host_keys: bool, shared: SharedKnownHosts | None = None
    ) -> None:
        self._home, self._record_host_keys, self._shared = home, record_host_keys, shared
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, ...], KnownHosts] = {}

    def verifier_for(
        self, connect: ConnectionOptions, port: int, settings: SshSettings | None = None
    ) -> HostKeyVerifier:
        """Return the verifier for a host. Raises ConnectError if a file cannot be read."""
        names = connect.known_hosts or STANDARD_FILES
        with self._lock:
            if names not in self._indexes:
                self._indexes[names] = self._load_index(names)
            hosts = self._indexes[names]
        return HostKeyVerifier(
            hosts,
            connect,
            port,
            record_host_keys=self._record_host_keys,
            settings=settings,
            shared=self._shared,
        )

    def _load_index(self, names: tuple[str, ...]) -> KnownHosts:
        paths = known_hosts_paths(names, self._home)
        try:
            index = KnownHosts(paths)
            if self._shared is not None:
                others = self._shared.read(names)
                index.parts = KnownHosts(paths), KnownHosts(())
                index.parts[1].include(others)
                index.include(others)
        except OSError as error:
            raise ConnectError(
                "host key", f"can't read {error.filename}: {error.strerror}"
            ) from error
        return index


def _entry_location(entry: KnownHostsEntry) -> str:
    return f"{entry.path}:{entry.line_number}"


def _entry_fingerprint(entry: KnownHostsEntry) -> str:
    return fingerprint(decode_key(entry.key))
