"""The bootstrap: the shell text that a session sends once, before anything else."""

from __future__ import annotations

import math
import re
import shlex
from functools import cache
from pathlib import Path

from orchestrator.remote_shell.quoting import escape_printf

RUN_VARIABLE = "ORCH_RUN"
"""The environment variable that holds the run ID in all steps."""

LEASE_SECONDS = 60.0
"""How long a host waits for data, by default, before it kills everything that runs."""

_GRACE_NAPS = 10  # tenths of a second
_NOTES_FOLDER = ".orch/ended"  # in the home folder; also in bootstrap.sh


def alarm_seconds(value: float) -> str:
    """Return ``SECONDS WHOLE-SECONDS`` for the bootstrap's alarm; the second is rounded up."""
    exact = f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".")
    return f"{exact} {max(1, math.ceil(value))}"


def bootstrap_script(
    nonce: str, lease: float, *, run: str = "", session: str = "", fds: str = "/dev/fd"
) -> bytes:
    """Return the bootstrap text of one session: one line, quoted as a whole.

    The nonce comes first: if the beginning of the stream is lost, the nonce is unset and no
    pipeline runs. The nonce is written in two halves, so that an echo of the input is not taken for
    an answer.

    ``lease`` is in seconds. ``run`` is the value of the variable ``RUN_VARIABLE`` in all steps; ''
    leaves the variable unchanged. ``session``: if the connection breaks while a pipeline runs, the
    file ``~/.orch/ended/SESSION`` says how far it came (see ``ended_note_script``); '' for none.
    ``fds`` is the folder of a process's own file descriptors;
    without it on the host, texts are passed in a slower way.
    """
    half = len(nonce) // 2
    # Background jobs get /dev/null as stdin, but the watcher needs the real one. Not inside the
    # eval: bash 5.2 crashes there when it duplicates the descriptor that it reads commands from.
    nonce = f"{nonce[:half]}''{nonce[half:]}"
    first = f"{{ set +aeuvx; }} 2>/dev/null;unset o_nonce;o_nonce={nonce};"
    first += f"{session_assignment(session).decode()};exec 3<&0;"
    return (
        first.encode()
        + (run_assignment(run) + b";" if run else b"")
        + b"eval \"$(printf %b '"
        + _escaped_bootstrap(lease, fds)
        + b"')\"\n"
    )


def ended_note_script(session: str, shell_pid: int, seconds: int) -> str:
    """Return a script that waits for the end of a broken session, and prints its note.

    The note has two words: the number of the last step that began to run in the pipeline, and that
    of the last one that ended; ``-`` stands for none. The exit status is 3 if there is none when
    the shell with this process ID (0: not known) is gone, or after ``seconds``.
    """
    is_over = f"! kill -0 {shell_pid} 2>/dev/null" if shell_pid else "false"
    return (
        f"note=~/{_NOTES_FOLDER}/{session} n=0\n"
        f"until [ -f $note ] || {is_over} || [ $n -ge {seconds} ]; do n=$((n+1)); sleep 1; done\n"
        "[ -f $note ] || exit 3; cat $note"
    )


def remove_note_script(session: str) -> str:
    """Return a script that removes a session's note, and its folders if they are empty."""
    return f"rm -f ~/{_NOTES_FOLDER}/{session}; rmdir ~/{_NOTES_FOLDER} ~/.orch 2>/dev/null; true"


def session_assignment(session: str) -> bytes:
    """Return the shell text that names the session's note; see ``bootstrap_script``."""
    return f"o_session={session}".encode()


def run_assignment(run: str) -> bytes:
    """Return the shell text that gives the steps this run ID; '' unsets it."""
    if not run:
        return f"unset {RUN_VARIABLE}".encode()
    return f"{RUN_VARIABLE}={shlex.quote(run)};export {RUN_VARIABLE}".encode()


@cache
def _escaped_bootstrap(lease: float, fds: str) -> bytes:
    values = {"LEASE": alarm_seconds(lease), "GRACE": str(_GRACE_NAPS), "FDS": fds}
    text = re.sub(r"%([A-Z]+)%", lambda found: values[found[1]], _bootstrap_template())
    return escape_printf(text)


@cache
def _bootstrap_template() -> str:
    lines = Path(__file__).with_name("bootstrap.sh").read_text("utf-8").splitlines()
    stripped = (line.strip() for line in lines)
    return "".join(f"{line}\n" for line in stripped if line and not line.startswith("#"))
