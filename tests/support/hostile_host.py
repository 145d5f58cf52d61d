"""A host that replies to the session's bootstrap as no shell would: ``python -m … MODE``.

It reports that its shell is ready, waits for steps, writes the output of its mode, and then only
reads.
"""

from __future__ import annotations

import os
import re
import sys

DIGITS = "9" * 5000

SCRIPTED_OUTPUT: dict[str, tuple[str, ...]] = {
    "a step of 5,000 digits": (f"B {DIGITS}",),
    "an end with 5,000 digits": ("B 1", f"E 1 done {DIGITS} 0 1"),
    "other digits": ("B ١",),
    "a negative status": ("B 1", "E 1 done -7 0 1"),
    "an end of an unknown step": ("E 77 done 0 0 1",),
    "an end of another kind": ("B 1", "E 1 perhaps 0 0 1"),
    "a step that begins twice": ("B 1", "B 1"),
    "a step that ends twice": ("B 1", "E 1 done 0 0 1", "E 1 done 0 0 1"),
    "a step that begins after its end": ("B 1", "E 1 done 0 0 1", "B 1"),
    "the end of all in a step": ("B 1", "S"),
    "a marker of no kind": ("Z 1 2 3",),
    "a marker without words": ("",),
    "a marker that does not end": ("B " + "1" * 20_000,),
    "half a report": ("B 1", "T 1"),
    "a report between steps": ("T 1 have x=y",),
    "a report of another step": ("B 1", "T 5 have x=y"),
    "a report of a step of 5,000 digits": ("B 1", f"T {DIGITS} have x=y"),
    "a probe's status of 5,000 digits": ("B 1", f"T 1 probe {DIGITS}", "E 1 done 1 1 0"),
    "a fix's status that is none": ("B 1", "T 1 fix x", "E 1 done 1 1 0"),
    "a report of no kind": ("B 1", "T 1 \udcff\udcfe x", "E 1 done 0 0 1"),
    "two ends at once": ("B 1", "|E 1 done 0 0 1", "!E 2 done 0 0 1"),
}
"""Output on both streams, or only on stdout (``|``) or stderr (``!``)."""

ODD_OUTPUT: dict[str, tuple[str, ...]] = {
    "an end without a beginning": ("E 1 done 0 0 1", "|S"),
    "a last line cut that is not there": ("B 1", "|T 1 old# cut", "E 1 done 79 0 1", "|S"),
    "ends of lines of no kind": ("B 1", "|T 1 new# \udcff", "|T 1 new# x", "E 1 done 79 0 1", "|S"),
    "states of no name": ("B 1", "|T 1 have =", "|T 1 have ", "E 1 done 79 0 1", "|S"),
    "no states": ("B 1", "E 1 done 79 0 1", "|S"),
}
"""Output as above that may be valid: the step may succeed or fail."""


def main(mode: str) -> None:
    """Behave as such a host."""
    received = b""
    while b"\n" not in received:
        received += os.read(0, 1 << 16)
    found = re.search(rb"o_nonce=([0-9a-f]+)''([0-9a-f]+);", received)
    assert found
    nonce = (found[1] + found[2]).decode()
    write_marker(nonce, "R")
    while b"run_pipeline '" not in received or received.count(b"\n") < 2:
        received += os.read(0, 1 << 16)
    started = re.findall(rb"begin_step ([0-9]+)", received)
    if mode == "reports":
        flood_reports(nonce, started[0].decode())
    for line in (SCRIPTED_OUTPUT | ODD_OUTPUT).get(mode, SILENT_OUTPUT.get(mode, ())):
        write_marker(
            nonce, re.sub(r"\b1\b", started[0].decode(), line, count=1) if started else line
        )
    while os.read(0, 1 << 16):
        pass


SILENT_OUTPUT: dict[str, tuple[str, ...]] = {
    "no beginning": (),
    "no end": ("B 1",),
    "no end of all": ("B 1", "E 1 done 0 0 1"),
    "an end on one stream": ("B 1", "|E 1 done 0 0 1"),
}


def write_marker(nonce: str, line: str) -> None:
    """Write a marker to both streams or only to the named one; some exist only on stdout."""
    only = line[:1] if line[:1] in ("|", "!") else ""
    data = f"{nonce} {line.removeprefix(only)}\n".encode("utf-8", "surrogateescape")
    alone = line[:1] in ("B", "T", "S", "Z")
    for descriptor, mark in ((2, "!"), (1, "|")):
        if only in ("", mark) and not (alone and descriptor == 2):
            write_all(descriptor, data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all data."""
    while data:
        data = data[os.write(descriptor, data) :]


def flood_reports(nonce: str, step: str) -> None:
    """Write more reports than are kept, each with the second argument."""
    write_all(1, f"{nonce} B {step}\n".encode())
    line = f"{nonce} T {step} {sys.argv[2]}\n".encode()
    write_all(1, line * ((2 << 20) // len(line)))
    for descriptor in (2, 1):
        write_all(descriptor, f"{nonce} E {step} done 79 0 1\n".encode())
    write_all(1, f"{nonce} S\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
