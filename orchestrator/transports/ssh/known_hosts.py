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

from orchestrator.transports.ssh_config.patterns import regex_of
from orchestrator.yamlio.local_files import read_file

REVOKED, AUTHORITY = "@revoked", "@cert-authority"


class Entry(Struct, frozen=True):
    """One line. ``key`` is base64, as written; ``names`` the line's comma-separated names."""

    path: str
    line: int
    marker: str
    names: str
    kind: str
    key: str


class Answer(Enum):
    """What the files say about a host's key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    OTHER_KIND = "other kind"
    REVOKED = "revoked"


class Verdict(Struct, frozen=True):
    """The answer, and the lines it rests on. ``authority``: a line with a CA names the host."""

    answer: Answer
    entries: tuple[Entry, ...] = ()
    authority: Entry | None = None


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
        self._plain: dict[str, list[Entry]] = {}
        self._patterns: list[Entry] = []
        self._hashed: list[Entry] = []
        self._hashed_keys: dict[str, list[Entry]] = {}
        self._revoked: dict[str, list[Entry]] = {}
        self._authorities: list[Entry] = []
        self._read = self._lines = 0  # how much of the first file is indexed
        for path in reversed(self.paths):
            self._read = self._lines = 0
            self._index(path, _contents(path))

    def kinds(self, name: str) -> tuple[str, ...]:
        """The key types that unhashed lines hold for ``name``."""
        return tuple(dict.fromkeys(entry.kind for entry in self._unhashed(name.lower())))

    def check(self, name: str, kind: str, blob: bytes) -> Verdict:
        """What the files say to this key of a host that they call ``name``."""
        name, key = name.lower(), base64.b64encode(blob).decode()
        revoked = self.revoked(name, blob)
        if revoked:
            return Verdict(Answer.REVOKED, revoked)
        near = self._unhashed(name)
        same = [e for e in near if e.key == key]
        same = same or [e for e in self._hashed_keys.get(key, ()) if _names(e, name)]
        if same:
            return Verdict(Answer.KNOWN, tuple(same))
        keys = near + [entry for entry in self._hashed if _names(entry, name)]
        authority = next(iter(self.authorities(name)), None)
        alike = [e for e in keys if e.kind == kind]
        if alike:
            return Verdict(Answer.CHANGED, tuple(alike), authority)
        return Verdict(Answer.OTHER_KIND if keys else Answer.UNKNOWN, tuple(keys), authority)

    def authorities(self, name: str) -> tuple[Entry, ...]:
        """The lines with a CA whose certificates count for ``name``."""
        return tuple(e for e in self._authorities if _names(e, name.lower()))

    def revoked(self, name: str, blob: bytes) -> tuple[Entry, ...]:
        """The lines that revoke this key, a CA's or a host's, for ``name``."""
        key = base64.b64encode(blob).decode()
        return tuple(e for e in self._revoked.get(key, ()) if _names(e, name.lower()))

    def add(
        self, name: str, kind: str, blob: bytes, *, record: bool, hashed: bool = False
    ) -> Verdict:
        """Trust this key from now on if it is still UNKNOWN, and return the verdict after that:
        KNOWN, or what another thread or process found out meanwhile. With ``record`` the first
        file holds it afterwards: one line, however many ask at once, and ``hashed`` one that does
        not tell the name. Raises OSError.
        """
        shown = _hash(name.lower()) if hashed else name.lower()
        line = f"{shown} {kind} {base64.b64encode(blob).decode()}\n".encode()
        with self._adding:
            if not (record and self.paths):
                if self.check(name, kind, blob).answer is Answer.UNKNOWN:
                    self._index(Path("(this run)"), line)
            else:
                path = self.paths[0]
                with _locked(path) as file:
                    self._catch_up(path, file)
                    if self.check(name, kind, blob).answer is Answer.UNKNOWN:
                        _append(file, line)
                        self._catch_up(path, file)
                if self.check(name, kind, blob).answer is Answer.UNKNOWN:
                    self._index(path, line)  # a file that keeps nothing, like /dev/null
            return self.check(name, kind, blob)

    def _catch_up(self, path: Path, file: int) -> None:
        size = os.fstat(file).st_size
        if size > self._read:
            self._index(path, os.pread(file, size - self._read, self._read))

    def _index(self, path: Path, data: bytes) -> None:
        rows = data.decode("utf-8", "replace").split("\n")
        for number, row in enumerate(rows, self._lines + 1):
            entry = _entry(str(path), number, row)
            if entry is not None:
                self._file(entry)
        self._read += len(data)
        self._lines += len(rows) - 1

    def _file(self, entry: Entry) -> None:
        if entry.marker == REVOKED:
            self._revoked.setdefault(entry.key, []).append(entry)
        elif entry.marker == AUTHORITY:
            self._authorities.append(entry)
        elif entry.marker:
            return  # ssh passes over what it does not know, too
        elif entry.names.startswith("|"):
            self._hashed.append(entry)
            self._hashed_keys.setdefault(entry.key, []).append(entry)
        elif any(sign in entry.names for sign in "*?!"):
            self._patterns.append(entry)
        else:
            for name in entry.names.lower().split(","):
                self._plain.setdefault(name, []).append(entry)

    def _unhashed(self, name: str) -> list[Entry]:
        return [*self._plain.get(name, ()), *(e for e in self._patterns if _names(e, name))]


def known_name(address: str, port: int) -> str:
    """What known_hosts calls this address at this port."""
    return address.lower() if port == 22 else f"[{address.lower()}]:{port}"


def _entry(path: str, number: int, row: str) -> Entry | None:
    words = row.split(None, 4)
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#"):
        return None
    return Entry(path, number, marker, *words[:3])


def _names(entry: Entry, name: str) -> bool:
    if entry.names.startswith("|1|"):
        return _hashes(entry.names, name)
    found = False
    for pattern in entry.names.lower().split(","):
        if pattern.startswith("!"):
            if _matches(pattern[1:], name):
                return False
        else:
            found = found or _matches(pattern, name)
    return found


def _hashes(field: str, name: str) -> bool:
    """Whether ``field``, |1|SALT|HASH, stands for ``name``: HMAC-SHA1 keyed with the salt."""
    try:
        salt, digest = (binascii.a2b_base64(part) for part in field[3:].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)


def _hash(name: str) -> str:
    salt = os.urandom(20)
    parts = (salt, hmac.digest(salt, name.encode(), "sha1"))
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in parts)


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    return re.fullmatch(regex_of(pattern), name, re.DOTALL) is not None


def _contents(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError:
        return b""


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _append(file: int, line: bytes) -> None:
    size = os.fstat(file).st_size
    cut = bool(size) and os.pread(file, 1, size - 1) != b"\n"  # somebody's editor left it open
    os.write(file, b"\n" + line if cut else line)
