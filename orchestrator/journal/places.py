"""Where runs are kept, and which."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.source.folder import show

KEEP = 50
_RUN = re.compile(r"[0-9]{14}-[0-9a-z]{1,16}")
_DAY = 86400


class RecordRow(Struct, frozen=True):
    """A row of a run's record, as far as it is read again."""

    host: str
    status: str


class Record(Struct, frozen=True):
    """A run's record, as far as it is read again. ``started``: seconds since the epoch; ``rows``:
    None in a run that is not over, or was killed; ``within``: the runs that started it, outermost
    first."""

    stage: str = ""
    tasks: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    apps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0
    rows: tuple[RecordRow, ...] | None = None


def make_folder(root: Path, run: str, environ: Mapping[str, str]) -> Path:
    """A new private folder for a run, in the project or, failing that, in the user's state.

    Raises OSError where neither can be written.
    """
    inside, *elsewhere = places(root, environ)
    try:
        return _make(inside, run, inside.parent)
    except OSError:
        if not elsewhere:
            raise
        return _make(elsewhere[0], run, None)


def places(root: Path, environ: Mapping[str, str]) -> list[Path]:
    """The folders that may hold this project's runs, the preferred first.

    XDG_STATE_HOME counts only where it is absolute (XDG Base Directory Specification 0.8).
    """
    found = [root / ".orch" / "runs"]
    state = environ.get("XDG_STATE_HOME", "")
    home = environ.get("HOME", "")
    if not Path(state).is_absolute():
        state = f"{home}/.local/state" if Path(home).is_absolute() else ""
    if state:
        whole = root.resolve()
        digest = hashlib.sha256(str(whole).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        found.append(Path(state) / "orch" / f"{whole.name or 'root'}-{digest}" / "runs")
    return found


def prune(runs: Path, keep: int = KEEP) -> None:
    """Remove all but the newest runs; younger than a day and not finished, one may still run."""
    old = kept([runs])[keep:]
    if not old:
        return
    import shutil  # loads every compressor there is: not for a run that removes nothing

    for folder in old:
        record = read_record(folder)
        if (record is not None and record.rows is not None) or not _young(folder.name):
            shutil.rmtree(folder, ignore_errors=True)  # another orch may be at it, too


def check_private(root: Path) -> None:
    """Raise DefinitionError where the project's ``.orch`` is another user's, or can be written by
    others: what is kept there tells who failed, holds output, and is what hosts are chosen by."""
    folder = root / ".orch"
    try:
        found = folder.stat()
    except OSError:
        return  # it is made, or another place is taken
    shown = show(folder)
    if found.st_uid != os.geteuid():
        what = f"{shown} belongs to another user (uid {found.st_uid})"
        hint = f"run orch as that user, or take the folder over: chown -R {os.geteuid()} {shown}"
        raise DefinitionError(Problem(what, Mark(shown), hint))
    if stat.S_IMODE(found.st_mode) & 0o022:
        what = f"{shown} can be written by others"
        raise DefinitionError(Problem(what, Mark(shown), f"chmod go-w {shown}"))


def _make(runs: Path, run: str, ignored: Path | None) -> Path:
    top = runs.parent
    if not top.exists():
        top.parent.mkdir(parents=True, exist_ok=True)
        top.mkdir(mode=0o700, exist_ok=True)
        top.chmod(0o700)  # whatever the umask takes away
    runs.mkdir(mode=0o700, exist_ok=True)
    if ignored is not None and not (ignored / ".gitignore").exists():
        (ignored / ".gitignore").write_text("*\n", "utf-8")
    folder = runs / run
    folder.mkdir(mode=0o700)
    for made in (runs, folder):
        made.chmod(0o700)
    return folder


def kept(places: Sequence[Path]) -> list[Path]:
    """The folders of all runs in these places, newest first (of the same second in any order)."""
    found: list[Path] = []
    for place in places:
        try:
            found += [path for path in place.iterdir() if _RUN.fullmatch(path.name)]
        except OSError:
            continue  # not there, or not ours to read
    return sorted(found, key=lambda path: path.name, reverse=True)


def read_record(folder: Path) -> Record | None:
    """What ``run.json`` says, or None where it is missing or broken (a full disk, a crash)."""
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def _young(run: str) -> bool:
    return run[:14] > time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() - _DAY))
