"""The folders in which runs are recorded."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.journal.run_lock import lock_ended_run
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.yamlio.local_files import display_path

KEPT_COMMANDS = 200
STATE_FOLDER = ".orch"
"""The name of orch's folder in a project."""
RUNS_FOLDER = "runs"
CONSOLE_FOLDER = "console"
TEXTS_FILE = "texts.jsonl"
RESULTS_FILE = "results.jsonl"
"""The folders of recorded runs, and of recorded commands of `orch console`, in orch's folder."""
_RUN_NAME = lazy_regex(r"[0-9]{14}-[0-9a-z]{1,16}")
_DAY_SECONDS = 86400


class SummaryRow(Struct, frozen=True):
    """A row of a run's record, with the fields that are read again."""

    host: str
    status: str


class Resumption(Struct, frozen=True):
    """A time at which a run went on; ``time`` is in seconds since the epoch."""

    time: float = 0.0
    argv: tuple[str, ...] = ()
    user: str = ""


class RunRecord(Struct, frozen=True):
    """A run's record, with the fields that are read again.

    ``started`` is in seconds since the epoch. ``rows`` is None for a run that is not finished, or
    was killed. ``within`` are the runs that started it, outermost first. ``argv`` are the words of
    the command line, ``version`` that of orch, ``commit`` that of the project's git repository;
    ``is_dirty`` is True if files in it differed from the commit, None if that is not known.
    ``folder`` is the working folder of orch. ``changes``: a step may change a host. ``plan_digest``
    identifies the plan. ``resumed`` are the times at which the run went on. ``is_resumable``: the
    same command line plans it again.
    """

    stage: str = ""
    tasks: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    apps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    check: bool = False
    started: float = 0.0
    seconds: float = 0.0
    exit_code: int | None = None
    argv: tuple[str, ...] = ()
    user: str = ""
    version: str = ""
    commit: str = ""
    is_dirty: bool | None = None
    rows: tuple[SummaryRow, ...] | None = None
    folder: str = ""
    changes: bool | None = None
    plan_digest: str = ""
    resumed: tuple[Resumption, ...] = ()
    is_resumable: bool = False


def make_run_folder(
    root: Path, run: str, environ: Mapping[str, str], parent: str = RUNS_FOLDER
) -> Path:
    """Create a private folder for a run in the project, or else in the user's state folder.

    Raises OSError if neither is writable, DefinitionError if others can write there.
    """
    inside, *elsewhere = run_parents(root, environ, parent)
    try:
        return _make_below(inside, run)
    except OSError:
        if not elsewhere:
            raise
        return _make_below(elsewhere[0], run)


def check_private(root: Path, environ: Mapping[str, str]) -> None:
    """Create the project's state folder for its owner alone, or check the existing one.

    Another user with write access could make a user's runs do anything. Raises DefinitionError if
    the folder belongs to another user or others can write to it.
    """
    for runs in run_parents(root, environ):
        try:
            _make_private(runs)
            return
        except OSError:
            continue  # try the next folder; without any, the run has no log and warns about it


def check_readable(root: Path, environ: Mapping[str, str]) -> None:
    """Raise DefinitionError if others can write to the records of earlier runs."""
    for runs in run_parents(root, environ):
        for folder in _state_folders(runs):
            with suppress(OSError):
                _check_owner(folder)


def _make_private(runs: Path) -> None:
    """Create the folders down to the one of the runs, with mode 0700 whatever the umask is."""
    outer, *_ = own = _state_folders(runs)
    if outer.name != STATE_FOLDER:
        outer.parent.mkdir(0o700, parents=True, exist_ok=True)  # ~/.local/state
    for folder in (*own, runs):
        try:
            folder.mkdir(0o700)
            folder.chmod(0o700)
        except FileExistsError:
            _check_owner(folder)
            if not folder.is_symlink():
                folder.chmod(0o700)


def _check_owner(folder: Path) -> None:
    """Raise DefinitionError if the folder belongs to another user or others can write to it.

    Raises OSError if the folder does not exist.
    """
    link, about = folder.lstat(), folder.stat()
    if not stat.S_ISDIR(about.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    shown = display_path(folder)
    others = {link.st_uid, about.st_uid} - {os.geteuid()}
    if others:
        who = f"another user (uid {others.pop()})"
        what = f"{shown} belongs to {who}, who can change its contents"
        hint = f"run orch as that user, or take the folder over: chown -R {os.geteuid()} {shown}"
        raise DefinitionError(Diagnostic(what, SourcePosition(shown), hint))
    if about.st_mode & 0o022:
        what = f"{shown} can be written by others, who can change its contents"
        hint = f"check its contents, then: chmod go-w {shown}"
        raise DefinitionError(Diagnostic(what, SourcePosition(shown), hint))


def private_state_file(root: Path, environ: Mapping[str, str], name: str) -> Path | None:
    """Return the path of a file in the project's state folder, or else in the user's.

    The folder is created if necessary; None if neither is writable. Raises DefinitionError if
    others can write to it.
    """
    for runs in run_parents(root, environ):
        try:
            _make_private(runs)
        except OSError:
            continue
        if os.access(runs.parent, os.W_OK):
            _ignore_in_git(runs.parent)
            return runs.parent / name
    return None


def _ignore_in_git(inside: Path) -> None:
    if inside.name == STATE_FOLDER and not (inside / ".gitignore").exists():
        (inside / ".gitignore").write_text("*\n", "utf-8")


def run_parents(root: Path, environ: Mapping[str, str], parent: str = RUNS_FOLDER) -> list[Path]:
    """Return the folders that may contain this project's runs, in order of preference.

    XDG_STATE_HOME is used only if it is absolute (XDG Base Directory Specification 0.8).
    """
    found = [root / STATE_FOLDER / parent]
    state = environ.get("XDG_STATE_HOME", "")
    home = environ.get("HOME", "")
    if not Path(state).is_absolute():
        state = f"{home}/.local/state" if Path(home).is_absolute() else ""
    if state:
        whole = root.resolve()
        digest = hashlib.sha256(str(whole).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        found.append(Path(state) / "orch" / f"{whole.name or 'root'}-{digest}" / parent)
    return found


def prune_runs(runs: Path, keep: int, own: Path | None = None) -> None:
    """Remove all but the newest runs.

    Runs in progress, unfinished ones younger than a day, and ``own`` are not removed.
    """
    old = [folder for folder in _runs_beyond(runs, keep) if folder != own]
    if not old:
        return
    import shutil  # loads all compression modules: only if there is something to remove

    for folder in old:
        with lock_ended_run(folder) as is_ended:
            record = read_record(folder) if is_ended else None
            is_finished = record is not None and record.rows is not None
            if is_ended and (is_finished or not _is_recent(folder.name)):
                shutil.rmtree(folder, ignore_errors=True)  # another orch may be removing it


def _runs_beyond(runs: Path, keep: int) -> list[Path]:
    """Return all runs but the newest; those of the same second are ordered by their start time."""
    folders = list(list_runs([runs]))
    if len(folders) <= keep:
        return []

    def started(folder: Path) -> float:
        record = read_record(folder)
        return record.started if record is not None else 0.0

    second = folders[keep].name[:14]
    same = [folder for folder in folders if folder.name[:14] == second]
    first = folders.index(same[0])
    same.sort(key=started, reverse=True)
    return [*same[keep - first :], *folders[first + len(same) :]]


def _make_below(runs: Path, run: str) -> Path:
    _make_private(runs)
    _ignore_in_git(runs.parent)
    folder = runs / run
    folder.mkdir(0o700)
    folder.chmod(0o700)
    return folder


def _state_folders(runs: Path) -> tuple[Path, ...]:
    """Return orch's own folders above the one of the runs, outermost first."""
    inner = runs.parent
    return (inner,) if inner.name == STATE_FOLDER else (inner.parent, inner)


def list_runs(parents: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders of all runs, newest first (in any order within one second)."""
    found = [(name, number) for number, p in enumerate(parents) for name in run_names(p)]
    for name, number in sorted(found, reverse=True):
        yield parents[number] / name


def run_names(parent: Path) -> list[str]:
    """Return the names of the runs' folders, in any order."""
    try:
        with os.scandir(parent) as entries:
            return [entry.name for entry in entries if _RUN_NAME.fullmatch(entry.name)]
    except OSError:
        return []  # missing or not readable


def read_record(folder: Path) -> RunRecord | None:
    """Return the record in ``run.json``, or None if it is missing or damaged (full disk, crash)."""
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def read_raw_record(folder: Path) -> dict[str, Any]:
    """Return all of the record in ``run.json``; empty if it is missing or damaged."""
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return {}


def _is_recent(run: str) -> bool:
    return run[:14] > time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() - _DAY_SECONDS))
