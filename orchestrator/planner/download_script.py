"""Plans ``download`` steps: the script that reports the host's file, and the local target."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector
from orchestrator.model.command import DesiredState, DownloadSpec
from orchestrator.model.marked_value import HomePath
from orchestrator.planner.plan import AppPlan
from orchestrator.planner.shell_text import shell_word, wrap_script
from orchestrator.planner.step_options import render_option, to_path
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.trust_checks import refuse_host_text, render_trusted
from orchestrator.playbook.model import DownloadStep
from orchestrator.yamlio.local_files import display_path, expand_home, is_directory

PROBE_TIMEOUT = 3600.0
"""Time limit in seconds for reporting size and checksum, if the step has no `timeout`."""

FILE_STATE = "file"
"""Key of the reported state; its value is the file's size and SHA-256, separated by a space."""

_TO_REFUSAL = ("to", "could be any path", "use host.name; `to: folder/` keeps the file's own name")

_PROBE = """\
probe() (
set -e
path={path}
case $path in /*) ;; *) path=./$path;; esac
why=
if [ -d "$path" ]; then why='is a directory'
elif ! present "$path"; then why='is not there'
elif [ ! -f "$path" ]; then why='is not a file'
elif [ ! -r "$path" ]; then why="cannot be read by $(id -un)"
fi
[ -z "$why" ] || {{ printf '%s\\n' "$path $why" >&2; exit 1; }}
size=$(($(wc -c <"$path")))
state {state} "$size $(head -c $size "$path" | digest /dev/stdin)"
)
apply_fixes() {{ :; }}
o_want="{state}=$o_nl" o_within=0 o_fixes=1
o_module"""


def download_spec(download: DownloadStep, task_scope: TaskScope, root: str) -> DownloadSpec:
    """Return the host's path and the local target. Raises ResultPending and DefinitionError.

    The target is absolute or relative to the project's ``root``. If it ends with a slash or is a
    folder, the file keeps its name. Text from a host cannot determine the target's folder.
    """
    path = render_option(download.path, task_scope, "path", path=True) or ""
    target_text = to_path(
        render_trusted(download.to, task_scope, *_TO_REFUSAL), "to", download.to.mark
    )
    target = Path(root or ".", expand_home(target_text))
    if target_text.endswith("/") or is_directory(target):
        name = posixpath.basename(path)
        if name in ("", ".", "..", "~"):
            raise DefinitionError(Diagnostic(f"'{path}' is not a file name", download.path.mark))
        target /= name
    return DownloadSpec(path, Path(os.path.abspath(target)))  # noqa: PTH100 - links stay as written


def check_target(download: DownloadStep, task_scope: TaskScope) -> None:
    """Raise DefinitionError if text from a host would determine the target."""
    refuse_host_text(download.to, task_scope, *_TO_REFUSAL)


def unreachable_state() -> DesiredState:
    """Return a desired state that never matches, so the host always reports size and checksum."""
    return DesiredState({FILE_STATE: ""})


def probe_script(path: str) -> str:
    """Return the script that reports size and checksum of the host's file."""
    return _PROBE.format(path=shell_word(path), state=FILE_STATE)


def read_script(path: str, chdir: str | None, environment: Mapping[str, str]) -> str:
    """Return the script that writes the file's first ``$size`` bytes to stdout."""
    path_word = shell_word(
        path if path.startswith("/") or isinstance(path, HomePath) else f"./{path}"
    )
    return wrap_script(f'exec head -c "$size" -- {path_word}', chdir, environment)


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
