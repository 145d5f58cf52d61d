"""What a ``download`` comes to on one host: the file there, and where its bytes go here."""

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
"""Seconds that a host may take to tell what its file consists of, where no `timeout` says more."""

FILE_STATE = "file"
"""What its script states: size and SHA-256 of the file, with a space between them."""

_TO_REFUSAL = ("to", "may lead anywhere", "use host.name; `to: folder/` keeps the file's own name")

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


def download_spec(download: DownloadStep, task_scope: TaskScope, root: str) -> DownloadSpec:
    """The file there and its place here. Raises ResultPending and DefinitionError.

    The place is below the project's ``root``, or absolute; where it ends with a slash, or is a
    folder, the file keeps its name. Text from a host has no say in which folder that is.
    """
    path = render_option(download.path, task_scope, "path", path=True) or ""
    target_text = to_path(
        render_trusted(download.to, task_scope, *_TO_REFUSAL), "to", download.to.mark
    )
    target = Path(root or ".", expand_home(target_text))
    if target_text.endswith("/") or is_directory(target):
        name = posixpath.basename(path)
        if name in ("", ".", "..", "~"):
            raise DefinitionError(Diagnostic(f"'{path}' names no file", download.path.mark))
        target /= name
    return DownloadSpec(path, Path(os.path.abspath(target)))  # noqa: PTH100 - links stay as written


def check_target(download: DownloadStep, task_scope: TaskScope) -> None:
    """Raise DefinitionError where a host would say where its file goes."""
    refuse_host_text(download.to, task_scope, *_TO_REFUSAL)


def unreachable_state() -> DesiredState:
    """No state that can be: what the file consists of is always told."""
    return DesiredState({FILE_STATE: ""})


def probe_script(path: str) -> str:
    """The script that tells what the file consists of."""
    return _PROBE.format(path=shell_word(path), state=FILE_STATE)


def read_script(path: str, chdir: str | None, environment: Mapping[str, str]) -> str:
    """The script that writes its first ``$size`` bytes to stdout."""
    path_word = shell_word(
        path if path.startswith("/") or isinstance(path, HomePath) else f"./{path}"
    )
    return wrap_script(f'exec head -c "$size" -- {path_word}', chdir, environment)


def check_targets(app_plans: Iterable[AppPlan], diagnostics: DiagnosticCollector) -> None:
    """Note where two hosts, or two apps of one host, bring a file of one task to one place."""
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
