"""Shell completion of the names in a project, and the scripts that shells load.

Files with errors complete nothing, and nothing is printed about them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from orchestrator.errors import OrchError

if TYPE_CHECKING:
    from orchestrator.inventory.programs import InventoryAccess
    from orchestrator.inventory.stage_names import InventoryNames, StageNames
    from orchestrator.playbook.task_outline import TaskOutlines

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _quietly(completer: Completer) -> Completer:
    """Decorate a completion function: if it fails, it completes nothing."""

    @wraps(completer)
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return completer(ctx, param, incomplete)
        except (OrchError, OSError, ValueError):  # the files cannot be read, or the folder is gone
            return []

    return complete


@_quietly
def complete_stages(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of stages."""
    from orchestrator.inventory.stages import list_stages as all_stages

    root = _project_root(ctx)
    try:
        return _matching_items(all_stages(root).names if root else (), incomplete)
    except OrchError:
        return []


@_quietly
def complete_runs(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the IDs of recorded runs, with what they ran."""
    from orchestrator.journal.run_index import RunIndex

    root = _project_root(ctx)
    if root is None:
        return []
    index = RunIndex(root, os.environ, lambda _: None)
    return [
        CompletionItem(run.run, help=f"{run.stage}: {' '.join(run.tasks)}")
        for run in index.runs()
        if run.run.startswith(incomplete)
    ]


@_quietly
def complete_tasks(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of tasks."""
    from orchestrator.playbook.task_index import index_tasks

    root = _project_root(ctx)
    return _matching_items(index_tasks(root).files if root else (), incomplete)


@_quietly
def complete_documented_names(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of tasks, modules, topics and sections of the troubleshooting page."""
    from orchestrator.commands import troubleshooting
    from orchestrator.commands.reference import reference_topics
    from orchestrator.playbook.task_index import index_tasks, shipped_modules

    root = _project_root(ctx)
    names = index_tasks(root).all_names() if root else shipped_modules()
    topics = [*reference_topics(), troubleshooting.TOPIC, *troubleshooting.load_sections()]
    return _matching_items([*names, *topics], incomplete)


@_quietly
def complete_facts(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of facts, with their meanings."""
    from orchestrator.planner.fact_sources import FactSources
    from orchestrator.playbook.own_facts import load_own_facts

    root = _project_root(ctx)
    known = FactSources(load_own_facts(root) if root else {}).names
    return [
        CompletionItem(name, help=text)
        for name, text in known.items()
        if name.startswith(incomplete)
    ]


def complete_schemas(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete kinds of files that have a JSON Schema."""
    from orchestrator.commands.json_schema import SCHEMA_KINDS

    return _matching_items(SCHEMA_KINDS, incomplete)


@_quietly
def complete_task_words(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of tasks, and the params of the task before with their values.

    Modules can be run as well; they are completed if neither a task nor a param matches.
    """
    outlines = _load_outlines(ctx)
    if outlines is None:
        return []
    tasks = _tasks_on_command_line(ctx)
    given = [word.partition("=")[0] for word in _task_words(ctx) if "=" in word]
    params = [
        item
        for item in _assignments(outlines, tasks[-1:], incomplete)
        if item.value.partition("=")[0] not in given
    ]
    if "=" in incomplete:
        return params
    found = [*params, *_matching_items(outlines.index.files, incomplete)]
    return found or _matching_items(outlines.index.modules, incomplete)


@_quietly
def complete_extra_variables(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the params of the tasks on the command line, and their values."""
    outlines = _load_outlines(ctx)
    return _assignments(outlines, _tasks_on_command_line(ctx), incomplete) if outlines else []


@_quietly
def complete_tags(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete tags of the tasks on the command line, or of all tasks, after the last comma."""
    outlines = _load_outlines(ctx)
    if outlines is None:
        return []
    head, comma, last = incomplete.rpartition(",")
    tags = outlines.tags(_tasks_on_command_line(ctx) or outlines.index.files)
    return [CompletionItem(head + comma + item.value) for item in _matching_items(tags, last)]


@_quietly
def complete_handlers(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete handlers of the tasks on the command line, or of all tasks."""
    outlines = _load_outlines(ctx)
    if outlines is None:
        return []
    names = _tasks_on_command_line(ctx) or outlines.index.files
    return _matching_items(outlines.handlers(names), incomplete)


@_quietly
def complete_scheduled_tasks(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete what the tasks on the command line schedule, or names of all tasks."""
    outlines = _load_outlines(ctx)
    if outlines is None:
        return []
    names = outlines.scheduled(_tasks_on_command_line(ctx)) or outlines.index.files
    return _matching_items(names, incomplete)


@_quietly
def complete_steps(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the steps in the task of --start-at, or in the tasks."""
    outlines = _load_outlines(ctx)
    if outlines is None:
        return []
    start_at = ctx.params.get("start_at")
    names = [start_at] if start_at else _tasks_on_command_line(ctx)
    return _matching_items(outlines.step_names(names), incomplete)


@_quietly
def complete_host_patterns(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete hosts and roles of the stage, in the last term of a pattern."""
    import re

    stage = _stage_names(ctx)
    if stage is None:
        return []
    head, last = re.fullmatch(r"(.*[:,&!])?([^:,&!]*)", incomplete, re.S).groups("")  # type: ignore[union-attr]
    found = _matching_items(dict.fromkeys((*stage.roles(), *stage.hosts())), last)
    return [CompletionItem(head + item.value) for item in found]


@_quietly
def complete_host_names(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the stage's hosts."""
    stage = _stage_names(ctx)
    return _matching_items(stage.hosts() if stage else (), incomplete)


@_quietly
def complete_roles(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the stage's roles."""
    stage = _stage_names(ctx)
    return _matching_items(stage.roles() if stage else (), incomplete)


@_quietly
def complete_apps(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the stage's apps; of an option that takes several, after the last comma."""
    stage = _stage_names(ctx)
    head, comma, last = incomplete.rpartition(",") if param.multiple else ("", "", incomplete)
    found = _matching_items(stage.apps() if stage else (), last)
    return [CompletionItem(head + comma + item.value) for item in found]


def complete_folders(
    _ctx: click.Context, _param: click.Parameter, _incomplete: str
) -> list[CompletionItem]:
    """Have the shell complete names of folders."""
    return [CompletionItem("", type="dir")]


def complete_files(
    _ctx: click.Context, _param: click.Parameter, _incomplete: str
) -> list[CompletionItem]:
    """Have the shell complete names of files."""
    return [CompletionItem("", type="file")]


@_quietly
def complete_recipes(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete what ``orch init --add`` can add."""
    from orchestrator.commands.init import RECIPES

    return _matching_items(RECIPES, incomplete)


def _stage_names(ctx: click.Context) -> StageNames | InventoryNames | None:
    import os

    from orchestrator.commands.project import select_stage
    from orchestrator.inventory.stage_names import InventoryNames, StageNames

    inventories = ctx.params.get("inventories") or (
        ctx.parent and ctx.parent.params.get("inventories")
    )
    if inventories:
        return InventoryNames(inventories)
    root = _project_root(ctx)
    if root is None:
        return None
    named = ctx.params.get("stages") or (ctx.parent and ctx.parent.params.get("stages")) or ()
    named = (named,) if isinstance(named, str) else named
    stage = select_stage(root, named, os.environ, "").name

    def make_access() -> InventoryAccess:
        from orchestrator.commands.inventory_access import inventory_access  # loads the journal

        return inventory_access(root, os.environ)

    return StageNames(root, stage, make_access)


def _load_outlines(ctx: click.Context) -> TaskOutlines | None:
    from orchestrator.playbook.task_index import index_tasks
    from orchestrator.playbook.task_outline import TaskOutlines

    root = _project_root(ctx)
    return TaskOutlines(index_tasks(root)) if root else None


def _task_words(ctx: click.Context) -> tuple[str, ...]:
    """Return the tasks and arguments so far; click leaves them in ``args`` if an option follows."""
    return (*(ctx.params.get("words") or ()), *ctx.args)


def _tasks_on_command_line(ctx: click.Context) -> list[str]:
    return [word for word in _task_words(ctx) if "=" not in word]


def _assignments(
    outlines: TaskOutlines, tasks: Iterable[str], incomplete: str
) -> list[CompletionItem]:
    """Return ``PARAM=`` for the params of these tasks, or ``PARAM=VALUE`` once it has a ``=``."""
    key, equals, text = incomplete.partition("=")
    params = {name: param for task in tasks for name, param in outlines.params(task).items()}
    if not equals:
        return [
            CompletionItem(f"{name}=", help=param.help or None)
            for name, param in params.items()
            if name.startswith(key)
        ]
    values = params[key].values if key in params else ()
    return [CompletionItem(f"{key}={value}") for value in values if value.startswith(text)]


def _project_root(ctx: click.Context) -> Path | None:
    from orchestrator.inventory.stages import find_project_root

    named = ctx.params.get("directory")
    try:
        return Path(named).absolute() if named else find_project_root(Path.cwd())
    except OSError:  # the working directory was deleted
        return None


def _matching_items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def completion_script(root: click.Command, shell: str) -> str:
    """Return the script that has a shell complete the command line of ``orch``.

    Those of bash and zsh are files beside this module; that of fish is click's.
    """
    from click.shell_completion import FishComplete

    if shell == "fish":
        return FishComplete(root, {}, "orch", "_ORCH_COMPLETE").source()
    return Path(__file__).with_suffix(f".{shell}").read_text("utf-8")
