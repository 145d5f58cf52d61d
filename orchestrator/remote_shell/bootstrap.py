"""Text in single quotes on one line, for a shell that reads it with ``printf %b``.

What is written so has no newline and no quote of its own. Where something cuts the stream to a
shell, or eats the beginning of it, a quote is left open and nothing of it is run as commands.

The prelude: the shell text that a session sends once, before anything else.
"""

from __future__ import annotations

import math
import re
import shlex
from functools import cache
from pathlib import Path

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.shell_quoting import always_shell_quote
from orchestrator.model.text_encoding import encode_text

_SAFE = lazy_regex(r"[A-Za-z0-9_./:=@%+-]+")
_SPECIAL = '\\"$`'  # the backslash first: the others get one
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"'", b"\\0047"))


def escape_printf(text: str) -> bytes:
    """The text as ``printf %b`` (POSIX.1-2017, XCU printf) turns it back, byte for byte.

    Bytes that are not UTF-8 are as they were read (model/text.py). Raises ValueError for NUL,
    which no shell can hold, and for a character that cannot be written.
    """
    data = encode_text(text)
    if b"\0" in data:
        raise ValueError("a command cannot hold a NUL character")
    for plain, escape in _ESCAPES:
        data = data.replace(plain, escape)
    return data


def printf_word(text: str) -> str:
    """Return the text as one word of a shell's command, quoted in the way that is shorter once
    ``escape_printf``; backslashes only where no locale takes them for the end of a character."""
    if _SAFE.fullmatch(text):
        return text
    marked, special = 12 * text.count("'"), 2 * sum(map(text.count, _SPECIAL))
    if marked <= special or not text.isascii():
        return always_shell_quote(text)
    for sign in _SPECIAL:
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'


RUN_VARIABLE = "ORCH_RUN"
"""The environment variable of all steps that tells which run they are a part of."""

_GRACE_NAPS = 10  # tenths of a second


def alarm_seconds(value: float) -> str:
    """``SECONDS WHOLE-SECONDS`` as the prelude's alarm wants them; the second is rounded up."""
    exact = f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")
    return f"{exact} {max(1, math.ceil(value))}"


def bootstrap_script(nonce: str, lease: float, *, run: str = "", fds: str = "/dev/fd") -> bytes:
    """The text for one session: one line, quoted as a whole.

    The nonce comes first, so that it is unset and no segment runs where something ate the
    beginning. It stands there in two halves, so that a host which echoes its input cannot be
    taken for one that answers. ``lease`` is in seconds. ``run`` is what the steps find in the
    variable ``RUN_VARIABLE``; '' leaves that as it is. ``fds`` is the folder that holds a
    process's own descriptors; on a host without it, texts travel another, slower way.
    """
    half = len(nonce) // 2
    values = {"LEASE": alarm_seconds(lease), "GRACE": str(_GRACE_NAPS), "FDS": fds}
    text = re.sub(r"%([A-Z]+)%", lambda found: values[found[1]], _bootstrap_template())
    # Background jobs get /dev/null for 0, and the watcher needs the real one. Not in the eval:
    # bash 5.2 crashes when it duplicates there what it reads its commands from.
    nonce = f"{nonce[:half]}''{nonce[half:]}"
    first = f"{{ set +aeuvx; }} 2>/dev/null;unset o_nonce;o_nonce={nonce};exec 3<&0;"
    first += f"{RUN_VARIABLE}={shlex.quote(run)};export {RUN_VARIABLE};" if run else ""
    return first.encode() + b"eval \"$(printf %b '" + escape_printf(text) + b"')\"\n"


@cache
def _bootstrap_template() -> str:
    lines = Path(__file__).with_name("bootstrap.sh").read_text("utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
