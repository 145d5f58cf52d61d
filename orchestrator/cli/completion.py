"""Shell completion of stages, hosts, roles, apps and tasks; invalid files complete nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from orchestrator.errors import OrchError

if TYPE_CHECKING:
    from orchestrator.model.host import Stage


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


def complete_tasks(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of tasks."""
    from orchestrator.playbook.task_index import index_tasks

    root = _project_root(ctx)
    return _matching_items(index_tasks(root).files if root else (), incomplete)


def complete_documented_names(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of tasks, modules and topics of the reference."""
    from orchestrator.commands.reference import reference_topics
    from orchestrator.playbook.task_index import index_tasks, shipped_modules

    root = _project_root(ctx)
    names = index_tasks(root).all_names() if root else shipped_modules()
    return _matching_items([*names, *reference_topics()], incomplete)


def complete_schemas(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete kinds of files that have a JSON Schema."""
    from orchestrator.commands.json_schema import SCHEMA_KINDS

    return _matching_items(SCHEMA_KINDS, incomplete)


def complete_host_patterns(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete hosts and roles of the stage, in the last term of a pattern."""
    import re

    stage = _load_stage(ctx)
    if stage is None:
        return []
    head, last = re.fullmatch(r"(.*[:,&!])?([^:,&!]*)", incomplete, re.S).groups("")  # type: ignore[union-attr]
    found = _matching_items((*stage.roles, *stage.hosts), last)
    return [CompletionItem(head + item.value) for item in found]


def complete_host_names(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the stage's hosts."""
    stage = _load_stage(ctx)
    return _matching_items(stage.hosts if stage else (), incomplete)


def complete_roles(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the stage's roles."""
    stage = _load_stage(ctx)
    return _matching_items(stage.roles if stage else (), incomplete)


def complete_apps(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of the stage's apps."""
    stage = _load_stage(ctx)
    return _matching_items(stage.apps if stage else (), incomplete)


def complete_recipes(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete what ``orch init --add`` can add."""
    from orchestrator.commands.init import RECIPES

    return _matching_items(RECIPES, incomplete)


def _load_stage(ctx: click.Context) -> Stage | None:
    import os

    from orchestrator.commands.project import select_stage
    from orchestrator.inventory.stage_loader import load_stage

    root = _project_root(ctx)
    if root is None:
        return None
    named = ctx.params.get("stages") or (ctx.parent and ctx.parent.params.get("stages")) or ()
    try:
        return load_stage(root, select_stage(root, named, os.environ, "").name)
    except OrchError:
        return None


def _project_root(ctx: click.Context) -> Path | None:
    from orchestrator.inventory.stages import find_project_root

    named = ctx.params.get("directory")
    try:
        return Path(named).absolute() if named else find_project_root(Path.cwd())
    except OSError:  # the working directory was deleted
        return None


def _matching_items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
