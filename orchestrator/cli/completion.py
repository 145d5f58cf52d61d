"""Shell completion of stages, hosts and tasks. Never an error: a broken file completes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from orchestrator.errors import OrchError

if TYPE_CHECKING:
    from orchestrator.model.host import Stage


def stages(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of stages."""
    from orchestrator.inventory.stages import stages as all_stages

    root = _root(ctx)
    try:
        return _matching(all_stages(root).names if root else (), incomplete)
    except OrchError:
        return []


def tasks(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of tasks."""
    from orchestrator.playbook.task_index import index

    root = _root(ctx)
    return _matching(index(root).files if root else (), incomplete)


def callables(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of tasks, and of modules."""
    from orchestrator.playbook.task_index import index, shipped

    root = _root(ctx)
    return _matching(index(root).names() if root else shipped(), incomplete)


def hosts(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Hosts and roles of the stage, for the last term of a pattern."""
    import re

    stage = _stage(ctx)
    if stage is None:
        return []
    head, last = re.fullmatch(r"(.*[:,&!])?([^:,&!]*)", incomplete, re.S).groups("")  # type: ignore[union-attr]
    found = _matching((*stage.roles, *stage.hosts), last)
    return [CompletionItem(head + item.value) for item in found]


def only_hosts(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the stage's hosts."""
    stage = _stage(ctx)
    return _matching(stage.hosts if stage else (), incomplete)


def apps(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the stage's apps."""
    stage = _stage(ctx)
    return _matching(stage.apps if stage else (), incomplete)


def _stage(ctx: click.Context) -> Stage | None:
    import os

    from orchestrator.commands.project import choose
    from orchestrator.inventory.stage_loader import load as load_stage

    root = _root(ctx)
    if root is None:
        return None
    named = ctx.params.get("stages") or (ctx.parent and ctx.parent.params.get("stages")) or ()
    try:
        return load_stage(root, choose(root, named, os.environ, "").name)
    except OrchError:
        return None


def _root(ctx: click.Context) -> Path | None:
    from orchestrator.inventory.stages import find_root

    named = ctx.params.get("directory")
    try:
        return Path(named).absolute() if named else find_root(Path.cwd())
    except OSError:  # the working directory was deleted
        return None


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
