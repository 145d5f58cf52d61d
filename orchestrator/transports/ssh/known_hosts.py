"""The known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): read once a run and indexed."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hmac
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from msgspec import Struct

from orchestrator.transports.ssh_config.patterns import pattern_regex
from orchestrator.yamlio.local_files import read_file

REVOKED, AUTHORITY = "@revoked", "@cert-authority"


class KnownHostsEntry(Struct, frozen=True):
    """One line. ``key`` is base64, as written; ``host_patterns`` the line's comma-separated names."""

    path: str
    line_number: int
    marker: str
    host_patterns: str
    key_type: str
    key: str


class HostKeyStatus(Enum):
    """What the files say about a host's key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    OTHER_TYPE = "other kind"
    REVOKED = "revoked"


class HostKeyMatch(Struct, frozen=True):
    """The answer, and the lines it rests on. ``authority``: a line with a CA names the host."""

    status: HostKeyStatus
    entries: tuple[KnownHostsEntry, ...] = ()
    authority: KnownHostsEntry | None = None


class KnownHosts:
    """An index over some known_hosts files, the first of which is written to.

    A host that is known is found without looking at other hosts' lines. A hashed name can only
    be found by hashing ours with each line's salt; to accept a key that is done for the lines
    with that very key alone, and for all of them only where it is not accepted.
    Files that do not exist are empty. Raises OSError where one can't be read.
    Safe in threads: only ``add`` changes it, and only by adding.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._adding = threading.Lock()
        self._plain: dict[str, list[KnownHostsEntry]] = {}
        self._patterns: list[KnownHostsEntry] = []
        self._hashed: list[KnownHostsEntry] = []
        self._hashed_keys: dict[str, list[KnownHostsEntry]] = {}
        self._revoked: dict[str, list[KnownHostsEntry]] = {}
        self._authorities: list[KnownHostsEntry] = []
        self._bytes_read = self._lines_read = 0  # how much of the first file is indexed
        for path in reversed(self.paths):
            self._bytes_read = self._lines_read = 0
            self._index_lines(path, _read_or_empty(path))

    def key_types(self, name: str) -> tuple[str, ...]:
        """The key types that unhashed lines hold for ``name``."""
        return tuple(
            dict.fromkeys(entry.key_type for entry in self._unhashed_entries(name.lower()))
        )

    def check(self, name: str, key_type: str, blob: bytes) -> HostKeyMatch:
        """What the files say to this key of a host that they call ``name``."""
        name, key = name.lower(), base64.b64encode(blob).decode()
        revoked = self.revoking_entries(name, blob)
        if revoked:
            return HostKeyMatch(HostKeyStatus.REVOKED, revoked)
        near = self._unhashed_entries(name)
        same = [e for e in near if e.key == key]
        same = same or [e for e in self._hashed_keys.get(key, ()) if _entry_matches(e, name)]
        if same:
            return HostKeyMatch(HostKeyStatus.KNOWN, tuple(same))
        keys = near + [entry for entry in self._hashed if _entry_matches(entry, name)]
        authority = next(iter(self.authorities(name)), None)
        alike = [e for e in keys if e.key_type == key_type]
        if alike:
            return HostKeyMatch(HostKeyStatus.CHANGED, tuple(alike), authority)
        return HostKeyMatch(
            HostKeyStatus.OTHER_TYPE if keys else HostKeyStatus.UNKNOWN, tuple(keys), authority
        )

    def authorities(self, name: str) -> tuple[KnownHostsEntry, ...]:
        """The lines with a CA whose certificates count for ``name``."""
        return tuple(e for e in self._authorities if _entry_matches(e, name.lower()))

    def revoking_entries(self, name: str, blob: bytes) -> tuple[KnownHostsEntry, ...]:
        """The lines that revoke this key, a CA's or a host's, for ``name``."""
        key = base64.b64encode(blob).decode()
        return tuple(e for e in self._revoked.get(key, ()) if _entry_matches(e, name.lower()))

    def add(
        self, name: str, key_type: str, blob: bytes, *, write_file: bool, hash_name: bool = False
    ) -> HostKeyMatch:
        """Trust this key from now on if it is still UNKNOWN, and return the verdict after that:
        KNOWN, or what another thread or process found out meanwhile. With ``write_file`` the first
        file holds it afterwards: one line, however many ask at once, and ``hash_name`` one that does
        not tell the name. Raises OSError.
        """
        shown = _hash_name(name.lower()) if hash_name else name.lower()
        line = f"{shown} {key_type} {base64.b64encode(blob).decode()}\n".encode()
        with self._adding:
            if not (write_file and self.paths):
                if self.check(name, key_type, blob).status is HostKeyStatus.UNKNOWN:
                    self._index_lines(Path("(this run)"), line)
            else:
                path = self.paths[0]
                with _open_locked(path) as file:
                    self._read_appended(path, file)
                    if self.check(name, key_type, blob).status is HostKeyStatus.UNKNOWN:
                        _append_line(file, line)
                        self._read_appended(path, file)
                if self.check(name, key_type, blob).status is HostKeyStatus.UNKNOWN:
                    self._index_lines(path, line)  # a file that keeps nothing, like /dev/null
            return self.check(name, key_type, blob)

    def _read_appended(self, path: Path, file: int) -> None:
        size = os.fstat(file).st_size
        if size > self._bytes_read:
            self._index_lines(path, os.pread(file, size - self._bytes_read, self._bytes_read))

    def _index_lines(self, path: Path, data: bytes) -> None:
        rows = data.decode("utf-8", "replace").split("\n")
        for number, row in enumerate(rows, self._lines_read + 1):
            entry = _parse_line(str(path), number, row)
            if entry is not None:
                self._add_entry(entry)
        self._bytes_read += len(data)
        self._lines_read += len(rows) - 1

    def _add_entry(self, entry: KnownHostsEntry) -> None:
        if entry.marker == REVOKED:
            self._revoked.setdefault(entry.key, []).append(entry)
        elif entry.marker == AUTHORITY:
            self._authorities.append(entry)
        elif entry.marker:
            return  # ssh passes over what it does not know, too
        elif entry.host_patterns.startswith("|"):
            self._hashed.append(entry)
            self._hashed_keys.setdefault(entry.key, []).append(entry)
        elif any(sign in entry.host_patterns for sign in "*?!"):
            self._patterns.append(entry)
        else:
            for name in entry.host_patterns.lower().split(","):
                self._plain.setdefault(name, []).append(entry)

    def _unhashed_entries(self, name: str) -> list[KnownHostsEntry]:
        return [*self._plain.get(name, ()), *(e for e in self._patterns if _entry_matches(e, name))]


def known_hosts_name(address: str, port: int) -> str:
    """What known_hosts calls this address at this port."""
    return address.lower() if port == 22 else f"[{address.lower()}]:{port}"


def _parse_line(path: str, number: int, text: str) -> KnownHostsEntry | None:
    words = text.split(None, 4)
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#"):
        return None
    return KnownHostsEntry(path, number, marker, *words[:3])


def _entry_matches(entry: KnownHostsEntry, name: str) -> bool:
    if entry.host_patterns.startswith("|1|"):
        return _hash_matches(entry.host_patterns, name)
    found = False
    for pattern in entry.host_patterns.lower().split(","):
        if pattern.startswith("!"):
            if _pattern_matches(pattern[1:], name):
                return False
        else:
            found = found or _pattern_matches(pattern, name)
    return found


def _hash_matches(field: str, name: str) -> bool:
    """Whether ``field``, |1|SALT|HASH, stands for ``name``: HMAC-SHA1 keyed with the salt."""
    try:
        salt, digest = (binascii.a2b_base64(part) for part in field[3:].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)


def _hash_name(name: str) -> str:
    salt = os.urandom(20)
    parts = (salt, hmac.digest(salt, name.encode(), "sha1"))
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in parts)


def _pattern_matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    return re.fullmatch(pattern_regex(pattern), name, re.DOTALL) is not None


def _read_or_empty(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError:
        return b""


@contextmanager
def _open_locked(path: Path) -> Iterator[int]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _append_line(file: int, line: bytes) -> None:
    size = os.fstat(file).st_size
    cut = bool(size) and os.pread(file, 1, size - 1) != b"\n"  # somebody's editor left it open
    os.write(file, b"\n" + line if cut else line)
