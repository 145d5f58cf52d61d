"""The listing of a host's folder, and the scripts that print it and send files.

The function ``tree_contents`` (modules/functions.sh) prints the listing. It comes from the host, so
every name in it is checked: an entry never leaves the folder, and only a folder of the listing has
entries below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.remote_shell.module_protocol import with_functions

MAX_LISTING_BYTES = 256 << 20
"""Limit in bytes of a listing, which is kept in memory; it suffices for a million files."""

_MAX_NAME_BYTES = 4096  # PATH_MAX of Linux
_MAX_PART_BYTES = 255  # NAME_MAX of Linux and macOS
_MAX_ARGUMENT_BYTES = 1 << 16  # half of the longest argument list that every POSIX system takes
_PLAIN_LINE = lazy_regex(rb"([dfxo]) (\./.*)", re.S)
_SIZE_LINE = lazy_regex(rb"[ \t]*([0-9]{1,18}) (\./.*)", re.S)
_SUM_LINE = lazy_regex(rb"([0-9a-f]{64}) [ *](\./.*)", re.S)
_SIZE_AND_SUM = lazy_regex(rb"([0-9]{1,18}) ([0-9a-f]{64})")
_TOTAL_LINE = lazy_regex(rb"[ \t]*[0-9]+ total")
_OCTAL = lazy_regex(rb"\\0([0-3][0-7]{2})")


class RemoteEntry(Struct, frozen=True):
    """An entry of a host's folder; ``parts`` are the names on the way to it.

    ``kind`` is d (folder), f (file), l (link) or o (anything else). ``size`` is in bytes, -1 for a
    file that cannot be read; ``digest`` is the SHA-256 in hexadecimal digits, '' if it was not
    asked for. ``target`` is that of a link.
    """

    kind: str
    parts: tuple[bytes, ...]
    is_executable: bool = False
    size: int = 0
    digest: str = ""
    target: bytes = b""

    @property
    def name(self) -> str:
        """Return the path below the folder, for display and for the host's shell."""
        return decode_bytes(b"/".join(self.parts))


class _ListedFiles(Struct):
    """What the lines of a listing say, by name."""

    kinds: dict[bytes, bytes]
    sizes: dict[bytes, int]
    sums: dict[bytes, str]
    targets: dict[bytes, bytes]


def parse_listing(listing: bytes) -> list[RemoteEntry]:
    """Return the entries of a listing, sorted by name; a folder precedes what is in it.

    Raises OrchError for a listing that no folder can have.
    """
    found = _ListedFiles({}, {}, {}, {})
    for line in listing.split(b"\n"):
        if line:
            _parse_line(line, found)
    entries = sorted(
        (_make_entry(name, kind, found) for name, kind in found.kinds.items()),
        key=lambda entry: entry.parts,
    )
    folders = {entry.parts for entry in entries if entry.kind == "d"} | {()}
    for entry in entries:
        if entry.parts[:-1] not in folders:
            raise _listing_error(b"/".join(entry.parts))
    return entries


def _parse_line(line: bytes, found: _ListedFiles) -> None:
    if match := _PLAIN_LINE.fullmatch(line):
        _add_kind(match[2], match[1], found)
    elif match := _SUM_LINE.fullmatch(line):
        found.sums[match[2]] = match[1].decode()
    elif match := _SIZE_LINE.fullmatch(line):
        found.sizes[match[2]] = int(match[1])
    elif not _TOTAL_LINE.fullmatch(line):
        _parse_escaped_line(line, found)


def _parse_escaped_line(line: bytes, found: _ListedFiles) -> None:
    kind, *words = line.split(b" ")
    name, *values = map(_unescape, words or [b""])
    value = values[0] if values else b""
    sizes = _SIZE_AND_SUM.fullmatch(value)
    expected = {b"D": 0, b"O": 0, b"L": 1, b"F": 1, b"X": 1}.get(kind)
    if len(values) != expected or (kind in (b"F", b"X") and not sizes and value != b"- -"):
        raise _listing_error(line)
    if kind == b"L":
        found.targets[name] = value
    elif sizes:
        found.sizes[name], found.sums[name] = int(sizes[1]), sizes[2].decode()
    _add_kind(name, kind.lower(), found)


def _add_kind(name: bytes, kind: bytes, found: _ListedFiles) -> None:
    if name in found.kinds:
        raise _listing_error(name)
    found.kinds[name] = kind


def _make_entry(name: bytes, kind: bytes, found: _ListedFiles) -> RemoteEntry:
    parts = tuple(name.removeprefix(b"./").split(b"/"))
    is_valid = (
        name.startswith(b"./")
        and len(name) <= _MAX_NAME_BYTES
        and b"\0" not in name
        and all(part not in (b"", b".", b"..") and len(part) <= _MAX_PART_BYTES for part in parts)
    )
    if not is_valid:
        raise _listing_error(name)
    if kind not in (b"f", b"x"):
        target = found.targets.get(name, b"")
        if kind == b"l" and (not target or b"\0" in target or len(target) > _MAX_NAME_BYTES):
            raise _listing_error(name)
        return RemoteEntry(kind.decode(), parts, target=target)
    return RemoteEntry(
        "f", parts, kind == b"x", size=found.sizes.get(name, -1), digest=found.sums.get(name, "")
    )


def _unescape(text: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text)


def _listing_error(found: bytes) -> OrchError:
    message = "unexpected reply from the host (expected names below the folder)"
    return OrchError(Diagnostic(f"{message}: {quote_output(decode_bytes(found[:200]))}"))


def is_inner_link(entry: RemoteEntry) -> bool:
    """Return True if a link leads to a path in the same tree, whatever other links there are.

    Only leading `..` are allowed: after another name, which may be a link, they could lead to
    anywhere.
    """
    parts = [part for part in entry.target.split(b"/") if part not in (b"", b".")]
    ups = next((at for at, part in enumerate(parts) if part != b".."), len(parts))
    is_relative = not entry.target.startswith(b"/")
    return is_relative and ups < len(entry.parts) and b".." not in parts[ups:]


def listing_script(prologue: str, *, only_small: bool) -> str:
    """Return the script that prints the listing of the folder ``path``.

    ``only_small``: without the checksums of larger files.
    """
    call = f'cd -- "$path" && tree_contents {"small" if only_small else "all"}'
    return _script(prologue, call)


def send_script(prologue: str) -> str:
    """Return the script that sends the file ``path``, as the function ``send_file`` does."""
    return _script(prologue, 'send_file "$path"')


def send_each_script(prologue: str, entries: Sequence[RemoteEntry]) -> str:
    """Return the script that sends these files one after another, as ``send_file`` does."""
    calls = (f"send_file {_quoted_name(entry)}" for entry in entries)
    return _script(prologue, "\n".join(('cd -- "$path" || exit', *calls)))


def send_all_script(prologue: str, entries: Sequence[RemoteEntry]) -> str:
    """Return the script that sends the contents of these files, with nothing between them."""
    calls = (f"cat -- {names} || :" for names in _argument_lists(entries))
    return _script(prologue, "\n".join(('cd -- "$path" || exit', *calls)))


def _argument_lists(entries: Sequence[RemoteEntry]) -> Iterator[str]:
    names: list[str] = []
    size = 0
    for entry in entries:
        name = _quoted_name(entry)
        if size + len(name) > _MAX_ARGUMENT_BYTES:
            yield " ".join(names)
            names, size = [], 0
        names.append(name)
        size += 4 * len(name) + 16  # bytes of a character, and of a pointer
    if names:
        yield " ".join(names)


def _quoted_name(entry: RemoteEntry) -> str:
    return shell_quote(f"./{entry.name}")


def _script(prologue: str, call: str) -> str:
    return with_functions(f"{prologue}\nLC_ALL=C; export LC_ALL\n{call}\n")
