"""The command that creates a project: init."""

from __future__ import annotations

import sys

import click

from orchestrator.errors import ExitCode


@click.command("init", short_help="Create a new project.")
@click.option(
    *("-s", "--stage", "stages"),
    multiple=True,
    metavar="STAGE",
    help="Stage to create; repeatable. `dev` gets sandbox hosts. Prompts if omitted.",
)
@click.argument("folder", metavar="[DIR]", default=".")
def init_command(folder: str, stages: tuple[str, ...]) -> int:
    """Create a new project: stages, the deploy recipe, and two apps to try it on.

    \b
      orch init demo && cd demo
      orch -s dev run deploy --app all
    """
    from pathlib import Path

    from orchestrator.commands.init import create_project

    names = tuple(dict.fromkeys(stages or _ask_for_stages()))
    for line in create_project(Path(folder), names):
        click.echo(f"wrote {line}")
    change_directory = "" if folder == "." else f"cd {folder} && "
    click.echo(f"now: {change_directory}orch -s {names[0]} run deploy --app all --check")
    return ExitCode.OK


def _ask_for_stages() -> tuple[str, ...]:
    default = ("dev", "prod")
    if not sys.stdin.isatty():
        return default
    click.echo(f"stages [{' '.join(default)}]: ", err=True, nl=False)
    return tuple(sys.stdin.readline().replace(",", " ").split()) or default


INIT_COMMANDS: tuple[click.Command, ...] = (init_command,)
