"""The bootstrap: the shell text that a session sends once, before anything else.

The text is quoted on one line for a shell that decodes it with ``printf %b``: it contains no
newline and no single quote. If the stream to the shell is cut, or its beginning is lost, a quote
stays open and no part of the text runs as a command.
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
_SPECIAL = '\\"$`'  # the backslash first, because escaping the others adds backslashes
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"'", b"\\0047"))


def escape_printf(text: str) -> bytes:
    """Return the text escaped for ``printf %b``, which decodes it byte for byte.

    The escapes are those of POSIX.1-2017, XCU printf. Bytes that are not UTF-8 are represented as
    in model/text.py. Raises ValueError for NUL, which no shell can store, and for a character that
    cannot be encoded.
    """
    data = encode_text(text)
    if b"\0" in data:
        raise ValueError("a command cannot contain a NUL character")
    for plain, escape in _ESCAPES:
        data = data.replace(plain, escape)
    return data


def printf_word(text: str) -> str:
    """Return the text as one word of a shell command, in the quoting that is shorter once escaped.

    Backslashes are used only for ASCII text: in some locales a backslash may be read as the end of
    a multibyte character.
    """
    if _SAFE.fullmatch(text):
        return text
    marked, special = 12 * text.count("'"), 2 * sum(map(text.count, _SPECIAL))
    if marked <= special or not text.isascii():
        return always_shell_quote(text)
    for sign in _SPECIAL:
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'


RUN_VARIABLE = "ORCH_RUN"
"""The environment variable that holds the run ID in all steps."""

_GRACE_NAPS = 10  # tenths of a second


def alarm_seconds(value: float) -> str:
    """Return ``SECONDS WHOLE-SECONDS`` for the bootstrap's alarm; the second is rounded up."""
    exact = f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")
    return f"{exact} {max(1, math.ceil(value))}"


def bootstrap_script(nonce: str, lease: float, *, run: str = "", fds: str = "/dev/fd") -> bytes:
    """Return the bootstrap text of one session: one line, quoted as a whole.

    The nonce comes first: if the beginning of the stream is lost, the nonce is unset and no
    pipeline runs. The nonce is written in two halves, so that an echo of the input is not taken for
    an answer.

    ``lease`` is in seconds. ``run`` is the value of the variable ``RUN_VARIABLE`` in all steps; ''
    leaves the variable unchanged. ``fds`` is the folder of a process's own file descriptors;
    without it on the host, texts are passed in a slower way.
    """
    half = len(nonce) // 2
    values = {"LEASE": alarm_seconds(lease), "GRACE": str(_GRACE_NAPS), "FDS": fds}
    text = re.sub(r"%([A-Z]+)%", lambda found: values[found[1]], _bootstrap_template())
    # Background jobs get /dev/null as stdin, but the watcher needs the real one. Not inside the
    # eval: bash 5.2 crashes there when it duplicates the descriptor that it reads commands from.
    nonce = f"{nonce[:half]}''{nonce[half:]}"
    first = f"{{ set +aeuvx; }} 2>/dev/null;unset o_nonce;o_nonce={nonce};exec 3<&0;"
    first += f"{RUN_VARIABLE}={shlex.quote(run)};export {RUN_VARIABLE};" if run else ""
    return first.encode() + b"eval \"$(printf %b '" + escape_printf(text) + b"')\"\n"


@cache
def _bootstrap_template() -> str:
    lines = Path(__file__).with_name("bootstrap.sh").read_text("utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
