"""Plans ``download`` steps: the scripts that report and send what the host has, and the target."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector
from orchestrator.model.command import DesiredState, DownloadSpec
from orchestrator.planner.plan import AppPlan
from orchestrator.planner.shell_text import shell_word, wrap_script
from orchestrator.planner.step_options import render_option, to_path
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.trust_checks import refuse_host_text, render_trusted
from orchestrator.playbook.model import DownloadStep
from orchestrator.yamlio.local_files import display_path

PROBE_TIMEOUT = 3600.0
"""Time limit in seconds for reporting size and checksum, if the step has no `timeout`."""

FILE_STATE = "file"
"""Key of the reported state; its value is the file's size and SHA-256, separated by a space."""

_TO_REFUSAL = ("to", "could be any path", "use host.name; `to: folder/` keeps the file's own name")

FOLDER_STATE = "folder"
"""The value of the state if the path is a folder."""

SMALL_BYTES = 1 << 18
"""Size up to which a file is always read for its checksum; find(1) counts blocks of 512 bytes."""

_PROBE = """\
probe() (
set -e
why=
if [ -d "$path" ]; then
if [ -r "$path" ] && [ -x "$path" ]; then state {state} {folder}; exit; fi
why="cannot be read by $(id -un)"
elif ! present "$path"; then why='is not there'
elif [ ! -f "$path" ]; then why='is not a file'
elif [ ! -r "$path" ]; then why="cannot be read by $(id -un)"
fi
[ -z "$why" ] || {{ printf '%s\\n' "$path $why" >&2; exit 1; }}
attributes "$path"
case $f_mode in ?[1357]*) bit=x;; *) bit=-;; esac
size=$(($(wc -c <"$path")))
if [ "$is_new" ] && [ $size -gt {small} ]; then state {state} "$size - $bit"
else state {state} "$size $(head -c $size "$path" | digest /dev/stdin) $bit"
fi
)
apply_fixes() {{ :; }}
o_want="{state}=$o_nl" o_within=0 o_fixes=1 o_returns=
o_module"""

_SET_PATH = "path={path}\ncase $path in /*) ;; *) path=./$path;; esac"


def download_spec(
    download: DownloadStep,
    task_scope: TaskScope,
    chdir: str | None,
    environment: Mapping[str, str],
) -> DownloadSpec:
    """Return the host's path and the local targets. Raises ResultPending and DefinitionError.

    The target is absolute or relative to the project's folder; with ``by_host``, it is below a
    folder of the host's name there. If it ends with a slash, or a file is downloaded into a folder
    that exists, the name is kept, unless the host's path ends with a slash and so means the
    contents of a folder. Text from a host cannot determine the target's folder.
    """
    path = render_option(download.path, task_scope, "path", path=True) or ""
    target_text = to_path(
        render_trusted(download.to, task_scope, *_TO_REFUSAL), "to", download.to.mark
    )
    files = task_scope.project_files
    target = Path(files.folder or ".", files.expand_home(target_text))
    if download.by_host:
        target /= str(task_scope.host.objects["host"])
    name = posixpath.basename(path.rstrip("/"))
    is_nameless = name in ("", ".", "..", "~")
    keeps_name = target_text.endswith("/") or download.by_host
    tree_target = target
    if keeps_name and not is_nameless and not path.endswith("/"):
        tree_target = target / name
    if is_nameless and keeps_name and not (path.endswith("/") and path.strip("/")):
        hint = "a slash at its end means what is in a folder"
        message = f"'{path}' is not a file name"
        raise DefinitionError(Diagnostic(message, download.path.mark, hint))
    is_folder = files.is_folder(target)
    if not is_nameless and (keeps_name or is_folder):
        target /= name
    return DownloadSpec(
        path,
        _absolute(target),
        _absolute(tree_target),
        prologue=wrap_script(_SET_PATH.format(path=shell_word(path)), chdir, environment),
        name_in_folder="" if is_nameless or keeps_name or is_folder is not None else name,
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links stay as written


def check_target(download: DownloadStep, task_scope: TaskScope) -> None:
    """Raise DefinitionError if text from a host would determine the target."""
    refuse_host_text(download.to, task_scope, *_TO_REFUSAL)


def unreachable_state() -> DesiredState:
    """Return a desired state that never matches, so the host always reports size and checksum."""
    return DesiredState({FILE_STATE: ""})


def probe_script(prologue: str) -> str:
    """Return the script that reports a file's size and checksum, or that the path is a folder.

    If ``is_new`` is not empty in it, the checksum of a file above ``SMALL_BYTES`` is ``-``.
    """
    probe = _PROBE.format(state=FILE_STATE, folder=FOLDER_STATE, small=SMALL_BYTES)
    return f"{prologue}\n{probe}"


def check_targets(app_plans: Iterable[AppPlan], diagnostics: DiagnosticCollector) -> None:
    """Report two hosts, or two apps of one host, that download to the same target in one task."""
    first_owner: dict[tuple[str, Path], str] = {}
    for app_plan in app_plans:
        for planned_task in app_plan.planned_tasks:
            for host in planned_task.hosts[:1] if planned_task.any_host else planned_task.hosts:
                owner = f"'{host.host}'" + (f" (app {app_plan.app})" if app_plan.app else "")
                for step in host.steps:
                    if step.command is None or step.command.download is None:
                        continue
                    target = step.command.download.target
                    other_owner = first_owner.setdefault((planned_task.task, target), owner)
                    if other_owner != owner:
                        message = (
                            f"{other_owner} and {owner} both download to {display_path(target)}"
                        )
                        hint = "name the host in `to`, like logs/{{ host.name }}.log"
                        diagnostics.add(message, step.mark, hint)
