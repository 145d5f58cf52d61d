"""The lock that marks a run as in progress."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.errors import Diagnostic, SourcePosition, UsageError
from orchestrator.yamlio.local_files import display_path

EVENTS_FILE = "events.jsonl"


def mark_running(events: int) -> None:
    """Lock the events file to mark its run as in progress.

    The lock (flock(2)) ends when the file is closed, by orch or because orch is killed. On a file
    system without such locks, a run in progress looks like a killed one.
    """
    with suppress(OSError):
        fcntl.flock(events, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_running(events: Path) -> bool:
    """Return True if the run with this events file is in progress."""
    try:
        file = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def lock_run(run: str, folder: Path) -> int:
    """Mark a run that has ended as in progress; return the file descriptor of its events.

    Raises UsageError if it is in progress, or its folder cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(folder / EVENTS_FILE, flags, 0o600)
    except OSError as error:
        message = f"run {run} cannot be written: {error.strerror}"
        raise UsageError(Diagnostic(message, SourcePosition(display_path(folder)))) from error
    if not _try_lock(file):
        os.close(file)
        raise UsageError(Diagnostic(f"run {run} is in progress", None, "wait for its end"))
    if not (folder / "run.json").exists():  # another orch was removing the run
        os.close(file)
        raise UsageError(Diagnostic(f"run {run} is not kept any more"))
    return file


@contextmanager
def lock_ended_run(folder: Path) -> Iterator[bool]:
    """Lock the run in this folder, so that it cannot be resumed; False if it is in progress.

    A run without an events file is not in progress.
    """
    try:
        file = os.open(folder / EVENTS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        yield _try_lock(file)
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    """Return False if another process has locked the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
