"""Modes of a terminal in a pty request."""

from __future__ import annotations

import os
import pty
import struct
import termios

from orchestrator.transports.ssh.terminal_modes import apply_modes, encode_modes


def terminal_attributes() -> list[object]:
    ours, theirs = pty.openpty()
    try:
        return termios.tcgetattr(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_modes_survive_the_encoding() -> None:
    default = terminal_attributes()
    changed = terminal_attributes()
    changed[0] ^= termios.IXON | 0x4000  # type: ignore[operator]  # IUTF8
    changed[1] ^= termios.ONLCR  # type: ignore[operator]
    changed[3] ^= termios.ECHO | termios.ICANON  # type: ignore[operator]
    characters = changed[6]
    assert isinstance(characters, list)
    characters[termios.VERASE], characters[termios.VSUSP] = b"\x08", b"\x00"
    assert apply_modes(default, encode_modes(changed)) == changed
    assert encode_modes(()) == b"\0"


def test_unknown_and_truncated_modes_are_ignored() -> None:
    default = terminal_attributes()
    unknown = struct.pack(">BI", 127, 5) + struct.pack(">BI", 53, 0)
    assert apply_modes(default, unknown + b"\xa0garbage")[3] == default[3] & ~termios.ECHO  # type: ignore[operator]
    assert apply_modes(default, struct.pack(">BI", 53, 0)[:3]) == default
