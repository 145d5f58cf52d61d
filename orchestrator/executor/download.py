"""Downloads of files from a host: what is compared first, and how the contents are read.

The host sends a file's size, its content, and whether it changed meanwhile (``send_file`` in
modules/functions.sh). Small files of a tree are sent with nothing between them, because a process
for each would take longer than sending it; their checksums show where one ends.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.executor.local_tree import LocalTree, NewFile, local_error
from orchestrator.executor.remote_tree import RemoteEntry, send_script
from orchestrator.executor.transfer_meter import TransferMeter
from orchestrator.model.command import DownloadSpec
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output
from orchestrator.model.step_result import StateChange, Status, StepResult
from orchestrator.planner.download_script import FOLDER_STATE
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.transfer import receive
from orchestrator.yamlio.local_files import display_path

_CHUNK_BYTES = 1 << 20
_MAX_LINE_BYTES = 80
_STILL_READING = "."
_SIZE_PATTERN = lazy_regex(r"[0-9]{1,18}")
_DIGEST_PATTERN = lazy_regex(r"[0-9a-f]{64}")
_PROBE_FAILED = "its probe failed: exit status 1"
"""Reason of a failed probe, which is replaced by the last line of its stderr."""


class DownloadTransfer(Struct, frozen=True):
    """How a download reaches its host.

    ``open_channel`` returns a channel and its idle timeout in seconds. ``is_cancelled`` returns
    True if reading must stop. ``meter`` counts the bytes of files that arrive.
    """

    open_channel: Callable[[], tuple[Channel, float]]
    is_cancelled: Callable[[], bool]
    meter: TransferMeter

    def receive(
        self, script: str, on_stdout: Callable[[bytes], object], *, silence: float | None = None
    ) -> None:
        """Run a script on the host and pass on its output. Raises TransferError.

        ``silence`` is how many seconds it may send nothing; None for the channel's idle timeout.
        """
        channel, timeout = self.open_channel()
        allowed = timeout if silence is None else silence
        receive(channel, script, on_stdout, timeout=allowed, stopping=self.is_cancelled)


class FileDigest(Struct, frozen=True):
    """Size in bytes and SHA-256 (hexadecimal) of a file; its owner may execute it or not.

    The SHA-256 is '' if it is not known.
    """

    size: int
    digest: str
    is_executable: bool = False

    def __str__(self) -> str:
        """Return the size and a shortened checksum for display."""
        digest = f", sha256 {self.digest[:12]}" if self.digest else ""
        unit = f"byte{'' if self.size == 1 else 's'}"
        return f"{self.size} {unit}{digest}{', executable' if self.is_executable else ''}"


def is_folder(probe_result: StepResult) -> bool:
    """Return True if the host's path is a folder."""
    return _reported_state(probe_result) == FOLDER_STATE


def compare_download(
    probe_result: StepResult, download: DownloadSpec
) -> tuple[StepResult, FileDigest | None]:
    """Return the step's result, and the remote file's digest if the file must be read.

    ``probe_result`` is the result of the script that examined the host's path. Raises OrchError if
    the local file cannot be read.
    """
    if probe_result.status is not Status.WOULD_CHANGE:
        return probe_failure(probe_result), None
    remote_file = _parse_digest(_reported_state(probe_result))
    local_file = local_digest(download.target)
    if remote_file is not None and remote_file == local_file:
        return replace(probe_result, status=Status.OK, changes=()), None
    after = str(remote_file) if remote_file else "content not known yet"
    change = StateChange("file", None if local_file is None else str(local_file), after)
    status = Status.WOULD_CHANGE if download.check_mode else Status.CHANGED
    changed = replace(probe_result, status=status, changes=(change,))
    return changed, None if download.check_mode else remote_file


def probe_failure(probe_result: StepResult) -> StepResult:
    """Return the result of a failed probe, with its message as the reason."""
    message = probe_result.stderr.text.splitlines()[-1:] or [_PROBE_FAILED]
    return replace(probe_result, reason=probe_result.reason.replace(_PROBE_FAILED, message[0]))


def _reported_state(probe_result: StepResult) -> str | None:
    return probe_result.changes[0].before if probe_result.changes else None


class DownloadDeadline:
    """Callable that returns True if reading must stop: on cancel, or after ``timeout`` seconds.

    ``outcome`` is the step's result if the timeout expired, else None.
    """

    def __init__(
        self, timeout: float | None, is_cancelled: Callable[[], bool], spent: float = 0.0
    ) -> None:
        """Start the clock, at ``spent`` seconds; a ``timeout`` of None means no limit."""
        self._timeout, self._is_cancelled = timeout, is_cancelled
        self._started_at = time.monotonic() - spent
        self.outcome: StepResult | None = None

    def __call__(self) -> bool:
        """Return True if the timeout has expired or the run is cancelled."""
        if self._timeout is not None and time.monotonic() - self._started_at > self._timeout:
            reason = f"ended after its timeout of {self._timeout:g} s"
            self.outcome = StepResult(Status.TIMED_OUT, reason=reason)
            return True
        return self._is_cancelled()


def _parse_digest(text: str | None) -> FileDigest | None:
    """Return what the probe reported: size, checksum (or ``-``), and ``x`` or ``-``."""
    if text is None:
        return None
    size, digest, bit = (*text.split(" "), "", "")[:3]
    is_valid = _SIZE_PATTERN.fullmatch(size) and bit in ("x", "-")
    if not is_valid or not (digest == "-" or _DIGEST_PATTERN.fullmatch(digest)):
        message = "unexpected reply from the host (expected size and checksum)"
        raise OrchError(Diagnostic(f"{message}: {quote_output(text)}"))
    return FileDigest(int(size), digest.removeprefix("-"), bit == "x")


def local_digest(path: Path) -> FileDigest | None:
    """Return the digest of a local file, or None if it does not exist.

    Raises OrchError if it cannot be read or is not a regular file.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            message = f"{display_path(path)} on this machine is not a regular file"
            raise OrchError(Diagnostic(message))
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise local_error("read", path, error) from None
    return FileDigest(size, digest.hexdigest(), bool(mode & stat.S_IXUSR))


def download_file(
    transfer: DownloadTransfer, download: DownloadSpec, remote_file: FileDigest
) -> None:
    """Download the host's file and replace the local one atomically.

    Links at the local path are followed. Raises TransferError, and OrchError if the file changes
    while it is read or cannot be written; the temporary file is removed in either case.
    """
    target = Path(os.path.realpath(download.target))
    entry = RemoteEntry(
        "f",
        (os.fsencode(target.name),),
        remote_file.is_executable,
        size=remote_file.size,
        digest=remote_file.digest,
    )
    with closing(LocalTree(target.parent)) as local:
        local.check_room(remote_file.size)
        transfer.meter.total = remote_file.size
        receive_files(transfer, send_script(download.prologue), local, [entry], download.path)


def receive_files(
    transfer: DownloadTransfer,
    script: str,
    local: LocalTree,
    entries: Sequence[RemoteEntry],
    shown: str,
) -> None:
    """Receive files that the script sends with ``send_file``, and put each in its place.

    ``shown`` is the host's path of the only file, or of the folder with all of them and a slash.
    Raises TransferError and OrchError.
    """
    reader = _FileReader(local, entries, shown)

    def on_stdout(data: bytes) -> None:
        transfer.meter.count(reader.take(data))

    try:
        transfer.receive(script, on_stdout)
        reader.finish()
    finally:
        reader.discard()


class _FileReader:
    """Reads the stream of ``send_file`` for these files, in order."""

    def __init__(self, local: LocalTree, entries: Sequence[RemoteEntry], shown: str) -> None:
        self._local, self._shown = local, shown
        self._entries = list(reversed(entries))
        self._line = b""
        self._left = 0
        self._file: NewFile | None = None

    def take(self, data: bytes) -> int:
        """Handle data from the host; return how many bytes of it are contents of files."""
        rest, count = memoryview(data), 0
        while rest:
            if self._file is not None and self._left:
                piece = rest[: self._left]
                self._file.write(piece)
                self._left -= len(piece)
                count += len(piece)
                rest = rest[len(piece) :]
            else:
                rest = self._take_line(rest)
        return count

    def finish(self) -> None:
        """Raise OrchError if anything is missing."""
        if self._entries or self._file is not None:
            raise changed_error(self._path_of_current())

    def discard(self) -> None:
        """Remove a file that is not complete."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _take_line(self, rest: memoryview) -> memoryview:
        line, newline, _ = bytes(rest[:_MAX_LINE_BYTES]).partition(b"\n")
        self._line += line
        if newline:
            text, self._line = self._line.decode("ascii", "replace"), b""
            self._on_line(text)
        elif len(self._line) >= _MAX_LINE_BYTES:
            raise changed_error(self._path_of_current())
        return rest[len(line) + len(newline) :]

    def _on_line(self, line: str) -> None:
        if self._file is not None:
            if line != _STILL_READING:
                self._end_file(self._file, line)
        elif line == "gone" and self._entries:
            message = f"{self._path_of_current()} cannot be read any more"
            raise OrchError(Diagnostic(message))
        elif self._entries and _SIZE_PATTERN.fullmatch(line):
            entry, self._left = self._entries[-1], int(line)
            if self._left > entry.size:
                self._local.check_room(self._left)
            self._file = self._local.new_file(entry)
        else:
            raise changed_error(self._path_of_current())

    def _end_file(self, file: NewFile, line: str) -> None:
        if line != "same" and line != file.digest():
            raise changed_error(self._path_of_current())
        file.commit()
        self._file = None
        self._entries.pop()

    def _path_of_current(self) -> str:
        is_folder = self._shown.endswith("/") and self._entries
        return f"{self._shown}{self._entries[-1].name}" if is_folder else self._shown


def changed_error(path: str) -> OrchError:
    """Return the error for a file of the host that has another content now."""
    return OrchError(Diagnostic(f"{quote_output(path)} changed on the host while it was read"))
