"""The command that creates or completes a project: init."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from orchestrator.cli import completion
from orchestrator.cli.stdio import read_stdin_line
from orchestrator.errors import ExitCode


@click.command("init", short_help="Create a project, or add what one lacks.")
@click.option(
    *("-s", "--stage", "stages"),
    multiple=True,
    metavar="STAGE,…",
    help="Stages to create. `dev` gets sandbox hosts. Prompts if omitted and the project has no "
    "stage.",
)
@click.option(
    "--add",
    "recipes",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.complete_recipes,
    help="Add only this to an existing project. `deploy`: the deploy recipe, tasks/deploy.yml and "
    "tasks/deploy/.",
)
@click.argument("folder", metavar="[DIR]", required=False)
def init_command(folder: str | None, stages: tuple[str, ...], recipes: tuple[str, ...]) -> int:
    """Create a new project: stages, the deploy recipe, and two apps to try it on.

    In an existing project, add what it lacks: the stages given with -s, inventories/common, a
    first task, and .orch/ in .gitignore. No existing file is changed, except that .gitignore gets a
    line.

    \b
      orch init demo && cd demo
      orch -s dev run deploy --app all
      orch init -s staging          add a stage
      orch init --add deploy        add the deploy recipe
    """
    from orchestrator.commands import init

    if recipes:
        init.check_recipes(recipes)
        if stages:
            raise click.UsageError("--add cannot be combined with --stage")
        _print_lines(init.add_recipes(folder, recipes))
        click.echo("next: `orch new app NAME`, then `orch run deploy --app NAME --check`")
        return ExitCode.OK
    target = init.find_target(folder)
    stages = tuple(name.strip() for value in stages for name in value.split(","))
    init.check_stage_names(stages)
    is_complete = init.is_project(target)
    if not is_complete or not init.has_stages(target):
        stages = stages or _ask_for_stages()
    names = tuple(dict.fromkeys(stages))
    change_directory = "" if folder in (None, ".") else f"cd {folder} && "
    if is_complete:
        _print_lines(init.complete_project(target, names))
        if names:
            click.echo(f"next: {change_directory}orch -s {names[0]} hosts")
        return ExitCode.OK
    _print_lines(init.create_project(target, names))
    click.echo(f"next: {change_directory}orch -s {names[0]} run deploy --app all --check")
    return ExitCode.OK


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _ask_for_stages() -> tuple[str, ...]:
    default = ("dev", "prod")
    if not sys.stdin.isatty():
        return default
    click.echo(f"stages [{' '.join(default)}]: ", err=True, nl=False)
    return tuple(read_stdin_line().replace(",", " ").split()) or default


INIT_COMMANDS: tuple[click.Command, ...] = (init_command,)
