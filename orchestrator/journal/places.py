"""Where runs are kept, which are kept, and what the last one said."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.model.outcome import Status

KEEP = 50
_RUN = re.compile(r"[0-9]{14}-[0-9a-z]{1,16}")
_DAY = 86400
_BAD = frozenset(status.value for status in Status if status.bad)


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


def last_failed(root: Path, environ: Mapping[str, str], stage: str | None = None) -> list[str]:
    """The hosts that did not get where they should in the newest finished run, each once.

    ``stage`` narrows it to that stage's runs. Empty where no such run was kept or none failed.
    """
    for folder in _runs(places(root, environ)):
        record = _read(folder)
        rows = record.get("rows")
        if isinstance(rows, list) and stage in (None, record.get("stage")):
            hosts = (str(row.get("host")) for row in rows if row.get("status") in _BAD)
            return list(dict.fromkeys(hosts))
    return []


def prune(runs: Path, keep: int = KEEP) -> None:
    """Remove all but the newest runs; younger than a day and not finished, one may still run."""
    old = _runs([runs])[keep:]
    if not old:
        return
    import shutil  # loads every compressor there is: not for a run that removes nothing

    for folder in old:
        if "rows" in _read(folder) or not _young(folder.name):
            shutil.rmtree(folder, ignore_errors=True)  # another orch may be at it, too


def _make(runs: Path, run: str, ignored: Path | None) -> Path:
    runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    if ignored is not None and not (ignored / ".gitignore").exists():
        (ignored / ".gitignore").write_text("*\n", "utf-8")
    folder = runs / run
    folder.mkdir(mode=0o700)
    return folder


def _runs(places: Sequence[Path]) -> list[Path]:
    """Folders of runs, newest first."""
    found: list[Path] = []
    for place in places:
        try:
            found += [path for path in place.iterdir() if _RUN.fullmatch(path.name)]
        except OSError:
            continue  # not there, or not ours to read
    return sorted(found, key=lambda path: path.name, reverse=True)


def _read(folder: Path) -> Mapping[str, Any]:
    """The run's record, or nothing where it is missing or broken (a full disk, a crash)."""
    try:
        record = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _young(run: str) -> bool:
    return run[:14] > time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() - _DAY))
