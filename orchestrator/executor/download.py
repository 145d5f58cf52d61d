"""Files that come from a host: compared by size and SHA-256, read, verified, put in place."""

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

from orchestrator.errors import OrchError, Problem
from orchestrator.model.command import Fetch
from orchestrator.model.lazy_regex import regex
from orchestrator.model.sanitize import quote
from orchestrator.model.step_result import Change, Outcome, Status
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.transfer import receive
from orchestrator.yamlio.local_files import show

_CHUNK = 1 << 20
_SIZE = regex(r"[0-9]{1,18}")
_PROBED = "its probe failed: exit status 1"
"""What is said of a script that wrote why there is no such file."""


class Sum(Struct, frozen=True):
    """What a file consists of: ``size`` bytes, with this SHA-256 in hexadecimal digits."""

    size: int
    digest: str

    def __str__(self) -> str:
        return f"{self.size} byte{'' if self.size == 1 else 's'}, sha256 {self.digest[:12]}"


def compared(asked: Outcome, fetch: Fetch) -> tuple[Outcome, Sum | None]:
    """What comes of a download whose script told of the host's file, and what is to be read, if
    anything. Raises OrchError where this side's file cannot be read."""
    if asked.status is not Status.WOULD_CHANGE:
        said = asked.stderr.text.splitlines()[-1:] or [_PROBED]
        return replace(asked, reason=asked.reason.replace(_PROBED, said[0])), None
    told = asked.changes[0].before if asked.changes else None
    there, here = _told(told), sum_of(fetch.to)
    if there is not None and there == here:
        return replace(asked, status=Status.OK, changes=()), None
    after = str(there) if there else "what will be there"
    change = Change("file", None if here is None else str(here), after)
    status = Status.WOULD_CHANGE if fetch.check else Status.CHANGED
    changed = replace(asked, status=status, changes=(change,))
    return changed, None if fetch.check else there


class Late:
    """Says when to stop reading: once the run is over, or the step's ``timeout`` (seconds).
    ``outcome``: how the step ended, if it was that."""

    def __init__(self, timeout: float | None, stopping: Callable[[], bool]) -> None:
        self._timeout, self._stopping = timeout, stopping
        self._began = time.monotonic()
        self.outcome: Outcome | None = None

    def __call__(self) -> bool:
        if self._timeout is not None and time.monotonic() - self._began > self._timeout:
            reason = f"ended after its timeout of {self._timeout:g} s"
            self.outcome = Outcome(Status.TIMED_OUT, reason=reason)
            return True
        return self._stopping()


def _told(text: str | None) -> Sum | None:
    if text is None:
        return None
    size, _, digest = text.partition(" ")
    if not _SIZE.fullmatch(size) or len(digest) != hashlib.sha256().digest_size * 2:
        raise OrchError(Problem(f"the host told no size and checksum, but {quote(text)}"))
    return Sum(int(size), digest)


def sum_of(path: Path) -> Sum | None:
    """What a file here consists of; None where nothing is there. Raises OrchError where it
    cannot be read or is no file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OrchError(Problem(f"{show(path)} here is no file"))
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot("read", path, error) from None
    return Sum(size, digest.hexdigest())


def bring_home(
    channel: Channel, timeout: float, fetch: Fetch, there: Sum, *, stopping: Callable[[], bool]
) -> None:
    """Have the host's file here, exactly as it was told of, in one step: what was here keeps
    its mode; a new file is its owner's alone. Raises TransferError, and OrchError where it is not
    as told or cannot be written; nothing is left then."""
    place = Path(os.path.realpath(fetch.to))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temp = place.with_name(f".orch-{secrets.token_hex(6)}")
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o600
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        channel.close()
        raise _cannot("write", place, error) from None
    digest, size = hashlib.sha256(), 0

    def take(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > there.size:
            raise _other(fetch)
        digest.update(piece)
        file.write(piece)

    try:
        with os.fdopen(handle, "wb") as file:
            script = f"size={there.size}\n{fetch.script}"
            receive(channel, script, take, timeout=timeout, stopping=stopping)
            os.fchmod(file.fileno(), mode)
        if Sum(size, digest.hexdigest()) != there:
            raise _other(fetch)
        temp.replace(place)
    except OSError as error:
        raise _cannot("write", place, error) from None
    finally:
        temp.unlink(missing_ok=True)


def _other(fetch: Fetch) -> OrchError:
    return OrchError(Problem(f"{fetch.path} changed on the host while it was read"))


def _cannot(what: str, path: Path, error: OSError) -> OrchError:
    why = (error.strerror or str(error)).lower()
    return OrchError(Problem(f"cannot {what} {show(path)} here: {why}"))
