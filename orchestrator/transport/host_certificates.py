"""Host certificates (OpenSSH's PROTOCOL.certkeys): whose key, for which names, by whom."""

from __future__ import annotations

import time

from msgspec import Struct

from orchestrator.transport.keys import CERTIFICATE, kind_of
from orchestrator.transport.library import Message, SSHException, Transport

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
