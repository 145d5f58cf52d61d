"""Modes of a terminal in the encoding of a pty request (RFC 4254 8)."""

from __future__ import annotations

import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any

_END = 0  # TTY_OP_END
_INPUT_SPEED, _OUTPUT_SPEED = 128, 129
_NO_CHARACTER = 255  # a special character that is off
_CHARACTERS: Mapping[int, str] = {
    1: "VINTR",
    2: "VQUIT",
    3: "VERASE",
    4: "VKILL",
    5: "VEOF",
    6: "VEOL",
    7: "VEOL2",
    8: "VSTART",
    9: "VSTOP",
    10: "VSUSP",
    12: "VREPRINT",
    13: "VWERASE",
    14: "VLNEXT",
    18: "VDISCARD",
}
_FLAG_NAMES = (
    (30, 0, "IGNPAR PARMRK INPCK ISTRIP INLCR IGNCR ICRNL IUCLC IXON IXANY IXOFF IMAXBEL IUTF8"),
    (50, 3, "ISIG ICANON XCASE ECHO ECHOE ECHOK ECHONL NOFLSH TOSTOP IEXTEN ECHOCTL ECHOKE PENDIN"),
    (70, 1, "OPOST OLCUC ONLCR OCRNL ONOCR ONLRET"),
    (90, 2, "CS7 CS8 PARENB PARODD"),
)
_FLAGS: Mapping[int, tuple[int, str]] = {
    first + number: (field, name)
    for first, field, names in _FLAG_NAMES
    for number, name in enumerate(names.split())
}
"""Opcodes with the index in the list of ``tcgetattr`` and the name of the flag in ``termios``."""
_OWN_FLAGS = {"IUTF8": 0x4000}  # not in Python's termios; the same number on Linux and macOS


def encode_modes(attributes: Sequence[Any]) -> bytes:
    """Return the modes of a terminal, as ``termios.tcgetattr`` returns them; b'' for none."""
    if not attributes:
        return bytes([_END])
    found: list[tuple[int, int]] = []
    for code, name in _CHARACTERS.items():
        index = getattr(termios, name, None)
        if index is not None:
            character = attributes[6][index]
            number = character[0] if isinstance(character, bytes) else int(character)
            found.append((code, number or _NO_CHARACTER))
    for code, (field, name) in _FLAGS.items():
        if flag := _flag(name):
            found.append((code, int(attributes[field] & flag == flag)))
    found += [(_INPUT_SPEED, 38400), (_OUTPUT_SPEED, 38400)]
    return b"".join(struct.pack(">BI", *each) for each in found) + bytes([_END])


def apply_modes(attributes: Sequence[Any], encoded: bytes) -> list[Any]:
    """Return the attributes with the encoded modes; those that this machine lacks are ignored."""
    changed = [*attributes[:6], list(attributes[6])]
    rest = encoded
    while len(rest) >= 5 and rest[0] != _END and rest[0] < 160:  # others may have another size
        code, value = struct.unpack(">BI", rest[:5])
        rest = rest[5:]
        if code in _CHARACTERS and (index := getattr(termios, _CHARACTERS[code], None)) is not None:
            changed[6][index] = bytes([0 if value == _NO_CHARACTER else value & 0xFF])
        elif code in _FLAGS:
            field, name = _FLAGS[code]
            if flag := _flag(name):
                changed[field] = changed[field] | flag if value else changed[field] & ~flag
    return changed


def _flag(name: str) -> int:
    return int(getattr(termios, name, _OWN_FLAGS.get(name, 0)))
