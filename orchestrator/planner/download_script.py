"""What a ``download`` comes to on one host: the file there, and where its bytes go here."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.errors import DefinitionError, Problem, Problems
from orchestrator.model.command import Fetch, Wanted
from orchestrator.model.marked_value import HomePath
from orchestrator.planner.plan import Lane
from orchestrator.planner.shell_text import script, word
from orchestrator.planner.step_options import option, path_text
from orchestrator.planner.task_scope import Frame
from orchestrator.planner.trust_checks import refuse_host_text, render_own
from orchestrator.playbook.model import Download
from orchestrator.yamlio.local_files import expand_home, is_folder, show

PATIENCE = 3600.0
"""Seconds that a host may take to tell what its file consists of, where no `timeout` says more."""

STATE = "file"
"""What its script states: size and SHA-256 of the file, with a space between them."""

_TO = ("to", "may lead anywhere", "use host.name; `to: folder/` keeps the file's own name")

_PROBE = """\
probe() (
set -e
path={path}
case $path in /*) ;; *) path=./$path;; esac
why=
if [ -d "$path" ]; then why='is a directory'
elif ! present "$path"; then why='is not there'
elif [ ! -f "$path" ]; then why='is no file'
elif [ ! -r "$path" ]; then why="cannot be read by $(id -un)"
fi
[ -z "$why" ] || {{ printf '%s\\n' "$path $why" >&2; exit 1; }}
size=$(($(wc -c <"$path")))
state {state} "$size $(head -c $size "$path" | digest /dev/stdin)"
)
mend() {{ :; }}
o_want="{state}=$o_nl" o_within=0 o_fixes=1
o_module"""


def fetch(download: Download, frame: Frame, root: str) -> Fetch:
    """The file there and its place here. Raises Waits and DefinitionError.

    The place is below the project's ``root``, or absolute; where it ends with a slash, or is a
    folder, the file keeps its name. Text from a host has no say in which folder that is.
    """
    path = option(download.path, frame, "path", path=True) or ""
    to = path_text(render_own(download.to, frame, *_TO), "to", download.to.mark)
    place = Path(root or ".", expand_home(to))
    if to.endswith("/") or is_folder(place):
        name = posixpath.basename(path)
        if name in ("", ".", "..", "~"):
            raise DefinitionError(Problem(f"'{path}' names no file", download.path.mark))
        place /= name
    return Fetch(path, Path(os.path.abspath(place)))  # noqa: PTH100 - links stay as written


def check_place(download: Download, frame: Frame) -> None:
    """Raise DefinitionError where a host would say where its file goes."""
    refuse_host_text(download.to, frame, *_TO)


def wanted() -> Wanted:
    """No state that can be: what the file consists of is always told."""
    return Wanted({STATE: ""})


def asking(path: str) -> str:
    """The script that tells what the file consists of."""
    return _PROBE.format(path=word(path), state=STATE)


def reading(path: str, chdir: str | None, environment: Mapping[str, str]) -> str:
    """The script that writes its first ``$size`` bytes to stdout."""
    at = word(path if path.startswith("/") or isinstance(path, HomePath) else f"./{path}")
    return script(f'exec head -c "$size" -- {at}', chdir, environment)


def check_places(lanes: Iterable[Lane], problems: Problems) -> None:
    """Note where two hosts, or two apps of one host, bring a file of one task to one place."""
    first: dict[tuple[str, Path], str] = {}
    for lane in lanes:
        for wave in lane.waves:
            for host in wave.hosts[:1] if wave.anyone else wave.hosts:
                who = f"'{host.host}'" + (f" (app {lane.app})" if lane.app else "")
                for step in host.steps:
                    if step.command is None or step.command.fetches is None:
                        continue
                    place = step.command.fetches.to
                    other = first.setdefault((wave.task, place), who)
                    if other != who:
                        what = f"{other} and {who} both download to {show(place)}"
                        hint = "name the host in `to`, like logs/{{ host.name }}.log"
                        problems.add(what, step.mark, hint)
