"""Files of a folder of the project that are joined to one, as `assemble` does it on a host."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct


class PartOptions(Struct, frozen=True):
    """Which files of a folder are parts, and the line between two of them."""

    match: re.Pattern[str] | None = None
    hidden: bool = True
    delimiter: str | None = None


def join_parts(folder: Path, options: PartOptions) -> bytes:
    """Return the parts, hidden ones first, then by name; each begins on a line of its own.

    Raises OSError.
    """
    joined = bytearray()
    between = "" if options.delimiter is None else options.delimiter.removesuffix("\n") + "\n"
    for number, path in enumerate(_parts(folder, options)):
        if joined and not joined.endswith(b"\n"):
            joined += b"\n"
        if number:
            joined += between.encode("utf-8", "surrogateescape")
        joined += path.read_bytes()
    return bytes(joined)


def _parts(folder: Path, options: PartOptions) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=_order):
        is_wanted = options.match is None or options.match.search(path.name)
        if is_wanted and (options.hidden or path.name[0] != ".") and path.is_file():
            yield path


def _order(path: Path) -> tuple[bool, bool, bytes]:
    """Return a sort key: the order of `.[!.]* ..?* *` in a shell with the locale C."""
    return path.name[0] != ".", path.name.startswith(".."), os.fsencode(path.name)
