"""Downloads from a host: compare size and SHA-256, read, verify, replace the target."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.model.command import DownloadSpec
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output
from orchestrator.model.step_result import StateChange, Status, StepResult
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.transfer import receive
from orchestrator.yamlio.local_files import display_path

_CHUNK_BYTES = 1 << 20
_SIZE_PATTERN = lazy_regex(r"[0-9]{1,18}")
_PROBE_FAILED = "its probe failed: exit status 1"
"""Reason of a failed probe, which is replaced by the last line of its stderr."""


class FileDigest(Struct, frozen=True):
    """Size in bytes and SHA-256 (hexadecimal) of a file."""

    size: int
    digest: str

    def __str__(self) -> str:
        """Return the size and a shortened checksum for display."""
        return f"{self.size} byte{'' if self.size == 1 else 's'}, sha256 {self.digest[:12]}"


def compare_download(
    probe_result: StepResult, download: DownloadSpec
) -> tuple[StepResult, FileDigest | None]:
    """Return the step's result, and the remote file's digest if the file must be read.

    ``probe_result`` is the result of the script that measured the host's file. Raises OrchError if
    the local file cannot be read.
    """
    if probe_result.status is not Status.WOULD_CHANGE:
        message = probe_result.stderr.text.splitlines()[-1:] or [_PROBE_FAILED]
        return replace(
            probe_result, reason=probe_result.reason.replace(_PROBE_FAILED, message[0])
        ), None
    file_state = probe_result.changes[0].before if probe_result.changes else None
    remote_file, local_file = _parse_digest(file_state), local_digest(download.target)
    if remote_file is not None and remote_file == local_file:
        return replace(probe_result, status=Status.OK, changes=()), None
    after = str(remote_file) if remote_file else "content not known yet"
    change = StateChange("file", None if local_file is None else str(local_file), after)
    status = Status.WOULD_CHANGE if download.check_mode else Status.CHANGED
    changed = replace(probe_result, status=status, changes=(change,))
    return changed, None if download.check_mode else remote_file


class DownloadDeadline:
    """Callable that returns True if reading must stop: on cancel, or after ``timeout`` seconds.

    ``outcome`` is the step's result if the timeout expired, else None.
    """

    def __init__(self, timeout: float | None, is_cancelled: Callable[[], bool]) -> None:
        """Start the clock; a ``timeout`` of None means no limit."""
        self._timeout, self._is_cancelled = timeout, is_cancelled
        self._started_at = time.monotonic()
        self.outcome: StepResult | None = None

    def __call__(self) -> bool:
        """Return True if the timeout has expired or the run is cancelled."""
        if self._timeout is not None and time.monotonic() - self._started_at > self._timeout:
            reason = f"ended after its timeout of {self._timeout:g} s"
            self.outcome = StepResult(Status.TIMED_OUT, reason=reason)
            return True
        return self._is_cancelled()


def _parse_digest(text: str | None) -> FileDigest | None:
    if text is None:
        return None
    size, _, digest = text.partition(" ")
    if not _SIZE_PATTERN.fullmatch(size) or len(digest) != hashlib.sha256().digest_size * 2:
        message = "unexpected reply from the host (expected size and checksum)"
        raise OrchError(Diagnostic(f"{message}: {quote_output(text)}"))
    return FileDigest(int(size), digest)


def local_digest(path: Path) -> FileDigest | None:
    """Return the digest of a local file, or None if it does not exist.

    Raises OrchError if it cannot be read or is not a regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
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
        raise _file_error("read", path, error) from None
    return FileDigest(size, digest.hexdigest())


def download_file(
    channel: Channel,
    timeout: float,
    download: DownloadSpec,
    remote_file: FileDigest,
    *,
    is_cancelled: Callable[[], bool],
) -> None:
    """Download the host's file and replace the local one atomically.

    An existing file's mode is kept; a new file is readable only by its owner. Raises TransferError,
    and OrchError if the content differs from ``remote_file`` or cannot be written; the temporary
    file is removed in either case.
    """
    target = Path(os.path.realpath(download.target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temp = target.with_name(f".orch-{secrets.token_hex(6)}")
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        channel.close()
        raise _file_error("write", target, error) from None
    digest, size = hashlib.sha256(), 0

    def write_piece(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > remote_file.size:
            raise _changed_error(download)
        digest.update(piece)
        file.write(piece)

    try:
        with os.fdopen(handle, "wb") as file:
            script = f"size={remote_file.size}\n{download.script}"
            receive(channel, script, write_piece, timeout=timeout, stopping=is_cancelled)
            os.fchmod(file.fileno(), mode)
        if FileDigest(size, digest.hexdigest()) != remote_file:
            raise _changed_error(download)
        temp.replace(target)
    except OSError as error:
        raise _file_error("write", target, error) from None
    finally:
        temp.unlink(missing_ok=True)


def _changed_error(download: DownloadSpec) -> OrchError:
    return OrchError(Diagnostic(f"{download.path} changed on the host while it was read"))


def _file_error(action: str, path: Path, error: OSError) -> OrchError:
    reason = (error.strerror or str(error)).lower()
    return OrchError(Diagnostic(f"cannot {action} {display_path(path)} on this machine: {reason}"))
