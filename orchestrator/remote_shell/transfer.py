"""Transfers of bytes to and from a host, on a separate channel and with only a shell on the host.

The shell is sent one line, which prints a fresh nonce, runs a script in a subshell with the
channel's stdin, and exits; the shell parses the line completely before it runs any of it. Shells
read ahead, so the data is sent only after the nonce has arrived: until then it could be taken for
commands. Output before the nonce is a login shell's noise. Input that the script does not read is
discarded by the shell.

A lost connection and the end of the data are both EOF to the script. So a script that receives data
must only stage it. Only this side knows that all data arrived, once ``send`` returns; a later step
moves the file into place. If the size is known in advance the script can compare it, as
``upload_stage_script`` does.
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
from orchestrator.remote_shell.channel_protocol import Channel, ReadChunk
from orchestrator.remote_shell.quoting import escape_printf

PIECE_BYTES = 1 << 16
"""Recommended size in bytes of the pieces passed to ``send``."""

_MAX_STDOUT_BYTES = 1 << 16  # maximum of a script's stdout that is kept
_MAX_STDERR_BYTES = 1 << 12  # maximum of its stderr, and of noise before the nonce
_POLL_INTERVAL = 0.25  # seconds between calls of ``stopping``
_EXIT_TIMEOUT = 2.0  # seconds for the last output to arrive after the script has exited
_CHECK_ALL_READ = (
    "o_left=$(wc -c);[ $((o_left)) = 0 ]||"
    '{ echo "$((o_left)) bytes of the data were not read" >&2;exit 1;};'
)


class TransferFailure(Enum):
    """Why a transfer failed."""

    NOT_READY = "not_ready"
    """No shell answered: no part of the script ran."""
    EXIT = "exit"
    """The script failed, or left some of the data unread."""
    IDLE = "idle"
    """No byte was transferred for too long."""
    CUT = "cut"
    """The connection was lost. What the script did is unknown."""
    STOPPED = "stopped"
    """The transfer was interrupted on this side."""


class InputUse(Enum):
    """What a script reads of its stdin."""

    NONE = "none"
    """Nothing: its stdin is empty."""
    ALL = "all"
    """All of it, or the transfer fails."""
    AS_LIKED = "as_liked"
    """As much as it likes. It may leave its stdin in non-blocking mode, as rsync does."""


class TransferError(OrchError):
    """A transfer failed; ``exit_status`` is that of the script, or None if it did not exit.

    The script may have received only a part of the data and taken it for everything.
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
    """Run ``script`` with ``data`` on its stdin, in the user's home; return its stdout.

    At most 64 KiB of stdout are returned. The script has read all data and exited with 0.
    ``timeout`` is the maximum number of seconds without a byte to or from the host. ``stopping`` is
    called several times per second and whenever the channel is woken. The channel is closed.

    Raises TransferError, ConnectError if the channel does, ValueError for a NUL in the script, and
    any exception of ``data``, which the script also sees as the end of the data.
    """
    received = bytearray()

    def collect(piece: bytes) -> None:
        received.extend(piece[: _MAX_STDOUT_BYTES - len(received)])

    with closing(channel):
        transfer = _ScriptTransfer(channel, timeout, stopping, collect)
        transfer.run(script, data, input_use=InputUse.ALL)
    return decode_bytes(bytes(received))


def receive(
    channel: Channel,
    script: str,
    on_stdout: Callable[[bytes], object],
    *,
    timeout: float,
    stopping: Callable[[], bool],
) -> None:
    """Run ``script`` in the user's home, without stdin, and pass its stdout to ``on_stdout``.

    On return, all output was passed and the script has exited with 0. The other parameters are
    those of ``send``; an exception of ``on_stdout`` ends the transfer.
    """
    with closing(channel):
        transfer = _ScriptTransfer(channel, timeout, stopping, on_stdout)
        transfer.run(script, (), input_use=InputUse.NONE)


def exchange(
    channel: Channel,
    script: str,
    data: Iterable[bytes | None],
    on_stdout: Callable[[bytes], object],
    *,
    timeout: float,
    stopping: Callable[[], bool],
) -> None:
    """Run ``script`` like ``send``, and pass its stdout to ``on_stdout`` while data is sent.

    A piece of data that is None means that nothing is ready yet; the channel must be woken when it
    is. The script decides how much it reads, and what comes after is discarded. An exception
    of ``on_stdout`` ends the transfer.
    """
    with closing(channel):
        transfer = _ScriptTransfer(channel, timeout, stopping, on_stdout)
        transfer.run(script, data, input_use=InputUse.AS_LIKED)


def upload_stage_script(path: str, size: int) -> str:
    """Return a script for ``send`` that stores exactly ``size`` bytes in a new private file.

    If it fails, there is no file at ``path``.
    """
    file = shell_quote(path if path.startswith("/") else f"./{path}")
    return (
        f"umask 077; rm -f {file}; cat >{file} && o_size=$(wc -c <{file}) && {{\n"
        f"[ $((o_size)) = {size} ] || {{\n"
        f'echo "received $((o_size)) bytes of {size}" >&2; false; }}; }} ||\n'
        f"{{ rm -f {file}; exit 1; }}"
    )


class _ScriptTransfer:
    """The transfer of one script. ``on_stdout`` receives its output."""

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
        self._all_sent = False  # all data and EOF were sent
        self._has_to_wait = False  # there is no data yet
        self._is_broken = False  # the channel accepts no more data
        self._stderr = self._noise = b""
        self._sent = self._received = 0
        self._moved = time.monotonic()

    def run(self, script: str, data: Iterable[bytes | None], *, input_use: InputUse) -> None:
        """Write and read until the script has ended; neither blocks the other."""
        pieces = iter(data)
        unsent = memoryview(transfer_command(self._nonce, script, input_use=input_use))
        while True:
            self._check_progress()
            if not unsent and self._ready and not self._all_sent and not self._is_broken:
                unsent = self._next_piece(pieces)
            count = self._write_some(unsent)
            unsent = memoryview(b"") if self._is_broken else unsent[count:]
            more = self._ready and not (self._all_sent or self._is_broken or self._has_to_wait)
            chunk = self._channel.read(0 if more and (count or not unsent) else _POLL_INTERVAL)
            self._on_chunk(chunk)
            if chunk.eof or (input_use is not InputUse.NONE and self._has_exited()):
                break
        self._check_end(must_send_all=input_use is InputUse.ALL)

    def _next_piece(self, pieces: Iterator[bytes | None]) -> memoryview:
        """Return the next piece of data, if there is one; after the last one, close stdin."""
        try:
            piece = next(pieces)
        except StopIteration:
            self._channel.close_stdin()
            self._all_sent = True
            piece = b""
        self._has_to_wait = piece is None
        if piece is not None:
            self._moved = time.monotonic()  # producing the piece does not count against the host
        return memoryview(piece or b"")

    def _write_some(self, unsent: memoryview) -> int:
        if not unsent:
            return 0
        try:
            count = self._channel.write(unsent[:PIECE_BYTES])
        except OSError:
            self._is_broken = True  # the next read reports the cause
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
        """Return the output after the nonce; output before it is noise."""
        noise, found, rest = (self._noise + stdout).partition(f"{self._nonce}\n".encode())
        self._ready = bool(found)
        self._noise = b"" if found else noise[-_MAX_STDERR_BYTES:]
        return rest

    def _has_exited(self) -> bool:
        """Return True if the script exited a while ago; others may keep its streams open."""
        quiet = time.monotonic() - self._moved
        return quiet > _EXIT_TIMEOUT and self._channel.exit_status() is not None

    def _check_progress(self) -> None:
        if self._stopping():
            raise TransferError(TransferFailure.STOPPED, "interrupted" + self._progress_text(), b"")
        if time.monotonic() - self._moved > self._timeout:
            failure = TransferFailure.IDLE if self._ready else TransferFailure.NOT_READY
            what = "no data was transferred" if self._ready else "no shell answered"
            why = f"{what} for {self._timeout:g} s{self._progress_text()}"
            if self._ready:  # both cases look the same from this side
                why += ": the connection or the script on the host has stalled"
            raise TransferError(failure, why, self._noise + self._stderr)

    def _check_end(self, *, must_send_all: bool) -> None:
        status = self._channel.exit_status()
        ended = "" if status is None else f" (exit status {status})"
        if not self._ready:
            output = self._noise + self._stderr
            failure = TransferFailure.CUT if status is None else TransferFailure.NOT_READY
            raise TransferError(
                failure, f"no shell answered{ended or self._cause_text()}", output, status
            )
        if status is None or self._channel.cause():
            why = f"the connection was lost{self._progress_text()}{self._cause_text()}"
            raise TransferError(TransferFailure.CUT, why, self._stderr)
        if status:
            why = f"failed with exit status {status}"
            raise TransferError(TransferFailure.EXIT, why, self._stderr, status)
        if must_send_all and not self._all_sent:
            why = (
                f"the connection was lost{self._progress_text()}, which the script took for the end"
            )
            raise TransferError(TransferFailure.CUT, why, self._stderr, status)

    def _cause_text(self) -> str:
        cause = self._channel.cause()
        return f" ({cause})" if cause else ""

    def _progress_text(self) -> str:
        return f" after {max(self._sent, self._received)} bytes"


def transfer_command(nonce: str, script: str, *, input_use: InputUse) -> bytes:
    """Return the line for the shell that prints ``nonce`` and runs ``script``.

    The nonce assignment comes first: if the beginning of the stream is lost, no nonce is printed.
    The nonce is not at the end of a line, so that an echo of the input is not taken for an answer.
    The subshell contains scripts that call `return` or `exec` or change their shell, so that the
    final `exit` is always reached. Raises ValueError for a NUL.
    """
    # mksh has no built-in printf, and the arguments of an external one are visible in ps
    write = 'if [ "$KSH_VERSION" ];then print -n -- "$1";else printf %b "$1";fi'
    before = (
        f"o_nonce={nonce};{{ set +aeuvx; }} 2>/dev/null;"
        f'o_write() {{ {write};}};{{ [ "$PWD" = "$HOME" ]||cd||cd /; }} 2>/dev/null;'
        "echo ${o_nonce:?};"
    )
    run = b"(eval \"$(o_write '" + escape_printf(script) + b"')\")"
    behind = ";o_status=$?;[ $o_status = 0 ]||exit $o_status;"
    behind += _CHECK_ALL_READ if input_use is InputUse.ALL else ""
    from_ = " </dev/null" if input_use is InputUse.NONE else ""
    return before.encode() + run + f"{from_}{behind}exit 0\n".encode()
