"""The known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), indexed; read once per run."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hmac
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from msgspec import Struct

from orchestrator.transports.ssh_config.patterns import pattern_regex
from orchestrator.yamlio.local_files import read_file

REVOKED, AUTHORITY = "@revoked", "@cert-authority"


class KnownHostsEntry(Struct, frozen=True):
    """A line of a file. ``key`` is in base64; ``host_patterns`` are the comma-separated names."""

    path: str
    line_number: int
    marker: str
    host_patterns: str
    key_type: str
    key: str


class HostKeyStatus(Enum):
    """The result of looking up a host's key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    OTHER_TYPE = "other kind"
    REVOKED = "revoked"


class HostKeyMatch(Struct, frozen=True):
    """The status of a key and the lines that decided it. ``authority``: a CA line for the host."""

    status: HostKeyStatus
    entries: tuple[KnownHostsEntry, ...] = ()
    authority: KnownHostsEntry | None = None


class KnownHosts:
    """An index of known_hosts files. ``add`` writes to the first one.

    A known host is found without looking at other hosts' lines. To find a hashed name, the host's
    name must be hashed with each line's salt. To accept a key, this is done only for the lines
    with the same key; for all lines only if the key is not accepted.
    Files that do not exist count as empty. Raises OSError if a file cannot be read.
    ``parts`` are the indexes that it was joined from, if it was.
    Thread-safe: only ``add`` changes the index, and it only adds to it.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.parts: tuple[KnownHosts, ...] = ()
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

    def include(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Index the lines of other files as well, each given by its path and content."""
        read = self._bytes_read, self._lines_read
        for path, data in files:
            self._lines_read = 0
            self._index_lines(path, data)
        self._bytes_read, self._lines_read = read

    def key_types(self, name: str) -> tuple[str, ...]:
        """Return the key types of the unhashed lines for ``name``."""
        return tuple(
            dict.fromkeys(entry.key_type for entry in self._unhashed_entries(name.lower()))
        )

    def check(self, name: str, key_type: str, blob: bytes) -> HostKeyMatch:
        """Look up this key of a host, which the files call ``name``."""
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
        """Return the CA lines that apply to ``name``."""
        return tuple(e for e in self._authorities if _entry_matches(e, name.lower()))

    def revoking_entries(self, name: str, blob: bytes) -> tuple[KnownHostsEntry, ...]:
        """Return the lines that revoke this key, of a host or a CA, for ``name``."""
        key = base64.b64encode(blob).decode()
        return tuple(e for e in self._revoked.get(key, ()) if _entry_matches(e, name.lower()))

    def add(
        self, name: str, key_type: str, blob: bytes, *, write_file: bool, hash_name: bool = False
    ) -> HostKeyMatch:
        """Trust this key from now on if its status is UNKNOWN; return the status after that.

        The status is KNOWN, or the one that another thread or process has caused meanwhile. With
        ``write_file``, one line is appended to the first file, even if several threads add the
        same key; ``hash_name`` hashes the name in it. Raises OSError.
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
                    self._index_lines(path, line)  # a file that stays empty, like /dev/null
            return self.check(name, key_type, blob)

    def _read_appended(self, path: Path, file: int) -> None:
        size = os.fstat(file).st_size
        if size > self._bytes_read:
            self._index_lines(path, os.pread(file, size - self._bytes_read, self._bytes_read))

    def _index_lines(self, path: Path | str, data: bytes) -> None:
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
            return  # an unknown marker, which ssh also ignores
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
    """Return the name of this address and port in known_hosts."""
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
    """Return True if ``field``, |1|SALT|HASH, is the hash of ``name`` (HMAC-SHA1 with the salt)."""
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
    cut = bool(size) and os.pread(file, 1, size - 1) != b"\n"  # the last line has no newline
    os.write(file, b"\n" + line if cut else line)
