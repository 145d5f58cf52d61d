"""Bytes to and from a host, over a channel of their own and with nothing but its shell.

The shell gets one line. That line says a fresh nonce, runs a script in a subshell whose stdin is
the channel's, and exits; it is parsed whole before any of it runs. Shells read ahead, so the first
byte of the data goes out when the nonce is back: until then it could be taken for commands, and
what comes before it is a login shell's noise. What the script leaves unread, the shell drops.

Nobody can tell a connection's cut from the data's end by reading: both are EOF. So a script that
gets data may stage it and no more. That all of it arrived is known on this side alone, once
``send`` returns: a later step puts it in its place. Where the size is known beforehand the script
can compare it, as ``upload_stage_script`` does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from enum import Enum

from orchestrator.errors import Diagnostic, ExitCode, OrchError
from orchestrator.model.sanitize import quote_output_end
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.remote_shell.bootstrap import escape_printf
from orchestrator.remote_shell.channel_protocol import Channel, ReadChunk

PIECE_BYTES = 1 << 16
"""Bytes that whoever makes up data for ``send`` best gives at a time."""

_MAX_STDOUT_BYTES = 1 << 16  # bytes of a script's stdout that are kept
_MAX_STDERR_BYTES = 1 << 12  # bytes of its stderr, and of noise
_POLL_INTERVAL = 0.25  # seconds between looks whether someone wants it to stop
_EXIT_TIMEOUT = 2.0  # seconds for the last words, once the script is known to be gone
_CHECK_ALL_READ = (
    "o_left=$(wc -c);[ $((o_left)) = 0 ]||"
    '{ echo "it left $((o_left)) bytes of the data unread" >&2;exit 1;};'
)


class TransferFailure(Enum):
    """What kept a transfer from ending well."""

    NOT_READY = "not_ready"
    """No shell answered: nothing of the script ran."""
    EXIT = "exit"
    """The script failed, or left some of the data unread."""
    IDLE = "idle"
    """Nothing moved for too long."""
    CUT = "cut"
    """The channel broke off. What the script did is not known."""
    STOPPED = "stopped"
    """This side did not want it any more."""


class TransferError(OrchError):
    """A transfer did not end well; ``exit_status`` is the script's, where it ended.

    What the script got may be a part, and may look whole to it.
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self, failure: TransferFailure, why: str, output: bytes, exit_status: int | None = None
    ) -> None:
        shown = quote_output_end(output)
        super().__init__(Diagnostic(f"{why}: {shown}" if shown else why))
        self.failure, self.exit_status = failure, exit_status


def send(
    channel: Channel,
    script: str,
    data: Iterable[bytes],
    *,
    timeout: float,
    stopping: Callable[[], bool],
) -> str:
    """Run ``script`` with ``data`` on its stdin, in the user's home; return what it wrote to
    stdout, 64 KiB of it at most. It has read everything then, and ended with 0.

    ``timeout`` is how many seconds may pass without a byte to or from the host. ``stopping`` is
    asked some times a second, and whenever the channel is woken. The channel is used up and
    closed. Raises TransferError, ConnectError where the channel does, ValueError for a NUL in
    the script, and what ``data`` raises: that, too, is an end of the data to the script.
    """
    received = bytearray()

    def collect(piece: bytes) -> None:
        received.extend(piece[: _MAX_STDOUT_BYTES - len(received)])

    with closing(channel):
        _ScriptTransfer(channel, timeout, stopping, collect).run(script, data, reads=True)
    return decode_bytes(bytes(received))


def receive(
    channel: Channel,
    script: str,
    on_stdout: Callable[[bytes], object],
    *,
    timeout: float,
    stopping: Callable[[], bool],
) -> None:
    """Run ``script`` in the user's home, without stdin, and hand what it writes to stdout to
    ``on_stdout``, byte for byte. When it returns that was all, and the script ended with 0.

    The rest is as with ``send``; what ``on_stdout`` raises ends it.
    """
    with closing(channel):
        _ScriptTransfer(channel, timeout, stopping, on_stdout).run(script, (), reads=False)


def upload_stage_script(path: str, size: int) -> str:
    """A script for ``send`` that leaves exactly ``size`` bytes in a new private file at ``path``,
    or fails, and then there is none."""
    file = shell_quote(path if path.startswith("/") else f"./{path}")
    return (
        f"umask 077; rm -f {file}; cat >{file} && o_size=$(wc -c <{file}) && {{\n"
        f"[ $((o_size)) = {size} ] || {{\n"
        f'echo "there came $((o_size)) bytes of {size}" >&2; false; }}; }} ||\n'
        f"{{ rm -f {file}; exit 1; }}"
    )


class _ScriptTransfer:
    """One script and its streams. ``hear`` gets what it writes to stdout."""

    def __init__(
        self,
        channel: Channel,
        timeout: float,
        stopping: Callable[[], bool],
        on_stdout: Callable[[bytes], object],
    ) -> None:
        self._channel, self._timeout = channel, timeout
        self._stopping, self._on_stdout = stopping, on_stdout
        self._nonce = secrets.token_hex(16)
        self._ready = False
        self._all_sent = False  # all data is out, and its end
        self._is_broken = False  # nobody reads it any more
        self._stderr = self._noise = b""
        self._sent = self._received = 0
        self._moved = time.monotonic()

    def run(self, script: str, data: Iterable[bytes], *, reads: bool) -> None:
        """Write and read until the script is over; one never waits for the other."""
        pieces = iter(data)
        unsent = memoryview(transfer_command(self._nonce, script, reads=reads))
        while True:
            self._check_progress()
            if not unsent and self._ready and not self._all_sent and not self._is_broken:
                unsent = self._next_piece(pieces)
            count = self._write_some(unsent)
            unsent = memoryview(b"") if self._is_broken else unsent[count:]
            more = self._ready and not self._all_sent and not self._is_broken
            chunk = self._channel.read(0 if more and (count or not unsent) else _POLL_INTERVAL)
            self._on_chunk(chunk)
            if chunk.eof or (reads and self._has_exited()):
                break
        self._check_end(reads=reads)

    def _next_piece(self, pieces: Iterator[bytes]) -> memoryview:
        """The next piece; at the end of all, stdin is closed."""
        piece = next(pieces, None)
        self._moved = time.monotonic()  # what it took to make was no fault of the host's
        if piece is None:
            self._channel.close_stdin()
            self._all_sent = True
        return memoryview(piece or b"")

    def _write_some(self, unsent: memoryview) -> int:
        if not unsent:
            return 0
        try:
            count = self._channel.write(unsent[:PIECE_BYTES])
        except OSError:
            self._is_broken = True  # reading brings what there is to be said about it
            return 0
        if count:
            self._moved = time.monotonic()
            self._sent += count if self._ready else 0
        return count

    def _on_chunk(self, chunk: ReadChunk) -> None:
        if chunk.stdout or chunk.stderr or chunk.waited:
            self._moved = time.monotonic()
        if chunk.stderr:
            self._stderr = (self._stderr + chunk.stderr)[-_MAX_STDERR_BYTES:]
        stdout = chunk.stdout if self._ready else self._skip_noise(chunk.stdout)
        if stdout:
            self._received += len(stdout)
            self._on_stdout(stdout)

    def _skip_noise(self, stdout: bytes) -> bytes:
        """What stands behind the nonce, once it is there; before it is noise."""
        noise, found, rest = (self._noise + stdout).partition(f"{self._nonce}\n".encode())
        self._ready = bool(found)
        self._noise = b"" if found else noise[-_MAX_STDERR_BYTES:]
        return rest

    def _has_exited(self) -> bool:
        """Whether the script ended a while ago; who else has its streams may keep them."""
        quiet = time.monotonic() - self._moved
        return quiet > _EXIT_TIMEOUT and self._channel.exit_status() is not None

    def _check_progress(self) -> None:
        if self._stopping():
            raise TransferError(TransferFailure.STOPPED, "interrupted" + self._progress_text(), b"")
        if time.monotonic() - self._moved > self._timeout:
            failure = TransferFailure.IDLE if self._ready else TransferFailure.NOT_READY
            what = "nothing moved" if self._ready else "no shell answered"
            why = f"{what} for {self._timeout:g} s{self._progress_text()}"
            if self._ready:  # they look the same from here
                why += ": either the link stalls, or the host's side of it"
            raise TransferError(failure, why, self._noise + self._stderr)

    def _check_end(self, *, reads: bool) -> None:
        status = self._channel.exit_status()
        ended = "" if status is None else f" (exit status {status})"
        if not self._ready:
            output = self._noise + self._stderr
            failure = TransferFailure.CUT if status is None else TransferFailure.NOT_READY
            raise TransferError(
                failure, f"no shell answered{ended or self._cause_text()}", output, status
            )
        if status is None or self._channel.cause():
            why = f"it was cut{self._progress_text()}{self._cause_text()}"
            raise TransferError(TransferFailure.CUT, why, self._stderr)
        if status:
            why = f"failed with exit status {status}"
            raise TransferError(TransferFailure.EXIT, why, self._stderr, status)
        if reads and not self._all_sent:
            why = f"it was cut{self._progress_text()}, and took that for the end"
            raise TransferError(TransferFailure.CUT, why, self._stderr, status)

    def _cause_text(self) -> str:
        cause = self._channel.cause()
        return f" ({cause})" if cause else ""

    def _progress_text(self) -> str:
        return f" after {max(self._sent, self._received)} bytes"


def transfer_command(nonce: str, script: str, *, reads: bool) -> bytes:
    """The line for the shell, which says ``nonce`` and runs ``script``.

    The nonce comes first, so that none is said where something ate the beginning, and not at the
    end of a line, so that a host which echoes its input is not taken for one that answers. The
    subshell is for scripts that say `return` or `exec`, and for what they do to their shell:
    behind them it must come to the `exit`. Raises ValueError for a NUL.
    """
    # mksh has no printf of its own, and another program's arguments can be seen
    write = 'if [ "$KSH_VERSION" ];then print -n -- "$1";else printf %b "$1";fi'
    before = (
        f"o_nonce={nonce};{{ set +aeuvx; }} 2>/dev/null;"
        f'o_write() {{ {write};}};{{ [ "$PWD" = "$HOME" ]||cd||cd /; }} 2>/dev/null;'
        "echo ${o_nonce:?};"
    )
    run = b"(eval \"$(o_write '" + escape_printf(script) + b"')\")"
    behind = ";o_status=$?;[ $o_status = 0 ]||exit $o_status;" + (_CHECK_ALL_READ if reads else "")
    from_ = "" if reads else " </dev/null"
    return before.encode() + run + f"{from_}{behind}exit 0\n".encode()
