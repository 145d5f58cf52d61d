"""The commands that create one file of a project: new task, module, playbook, host, role, app."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completion, options
from orchestrator.cli.group import CommandGroup, reject_repeated
from orchestrator.errors import ExitCode, suggest_nearest

if TYPE_CHECKING:
    from orchestrator.commands.scaffold import ScaffoldResult


class NewGroup(CommandGroup):
    """The group of ``new``, whose commands are kinds of files."""

    def unknown_command_hint(self, ctx: click.Context, name: str) -> str:
        """Return the nearest kind, or all of them."""
        kinds = self.list_commands(ctx)
        return suggest_nearest(name, kinds) or f"`orch new` creates a {', '.join(kinds)}"


@click.group("new", cls=NewGroup, short_help="Create a task, module, playbook, host, role or app.")
def new_command() -> None:
    """Create one file of the project, with comments on its keys.

    An existing file is never overwritten. A host, role or app is added to hosts.yml, roles.yml or
    apps.yml if the stage has that file; what is in the file stays as it is.

    \b
      orch new task deploy:warm
      orch new host web3 --address 10.0.0.7 --role web -s prod
    """


@click.command("task", short_help="Create a task: steps that each host runs.")
@options.project_options
@click.argument("name")
def new_task_command(name: str, directory: str | None) -> int:
    """Create a task, tasks/NAME.yml. A ':' in the name is a folder.

    \b
      orch new task motd
      orch new task deploy:warm      tasks/deploy/warm.yml
    """
    return _create_task_file(directory, name, "task")


@click.command("module", short_help="Create a module: a state that is checked and set.")
@options.project_options
@click.argument("name")
def new_module_command(name: str, directory: str | None) -> int:
    """Create a module, tasks/NAME.yml, which steps call like those that come with orch.

    \b
      orch new module motd
    """
    return _create_task_file(directory, name, "module")


@click.command("playbook", short_help="Create a playbook: tasks that all hosts run in turn.")
@options.project_options
@click.argument("name")
def new_playbook_command(name: str, directory: str | None) -> int:
    """Create a playbook, tasks/NAME.yml.

    \b
      orch new playbook upgrade
    """
    return _create_task_file(directory, name, "playbook")


@click.command("host", short_help="Add a host to a stage.")
@options.stage_option
@options.directory_option
@click.option(
    "--address", default="", metavar="ADDRESS", help="Its host name or IP address, if not NAME."
)
@click.option("--user", default="", metavar="USER", help="The user who logs in.")
@click.option("--port", default="", metavar="PORT", help="The port of its SSH server.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE",
    shell_complete=completion.complete_roles,
    help="Add the host to this role of the stage; repeatable.",
)
@click.argument("name")
def new_host_command(
    name: str,
    stages: tuple[str, ...],
    directory: str | None,
    address: str,
    user: str,
    port: str,
    roles: tuple[str, ...],
) -> int:
    """Add a host to a stage: inventories/STAGE/hosts/NAME.yml, or an entry of hosts.yml.

    \b
      orch -s prod new host web3.example.net --role web
      orch -s dev new host db1 --address 10.0.0.7 --user deploy --port 2222
    """
    from orchestrator.commands.scaffold import HostSettings, create_host

    root = _project_root(directory)
    stage = _choose_stage(root, stages, f"new host {shlex.quote(name)}")
    return _print_result(
        root, create_host(root, stage, name, HostSettings(address, user, port, roles))
    )


@click.command("role", short_help="Add a role to a stage.")
@options.stage_option
@options.directory_option
@click.argument("name")
def new_role_command(name: str, stages: tuple[str, ...], directory: str | None) -> int:
    """Add a role to a stage: inventories/STAGE/roles/NAME.yml, or an entry of roles.yml.

    \b
      orch -s prod new role web
    """
    from orchestrator.commands.scaffold import create_role

    root = _project_root(directory)
    stage = _choose_stage(root, stages, f"new role {shlex.quote(name)}")
    return _print_result(root, create_role(root, stage, name))


@click.command("app", short_help="Add an app.")
@click.option(
    *("-s", "--stage", "stages"),
    multiple=True,
    callback=reject_repeated,
    metavar="STAGE",
    shell_complete=completion.complete_stages,
    help="Describe the app, or what differs for it, in this stage only.",
)
@options.directory_option
@click.argument("name")
def new_app_command(name: str, stages: str | None, directory: str | None) -> int:
    """Add an app for all stages: inventories/common/apps/NAME.yml, or an entry of apps.yml.

    \b
      orch new app blog
      orch -s prod new app blog      what differs for it in prod
    """
    from orchestrator.commands.scaffold import create_app
    from orchestrator.inventory.stages import list_stages

    root = _project_root(directory)
    if stages is not None:
        list_stages(root).check_stage(stages)
    stage_option = _stage_option(root, (stages,) if stages else ())
    return _print_result(root, create_app(root, stages, name, stage_option))


def _create_task_file(directory: str | None, name: str, kind: str) -> int:
    from orchestrator.commands.scaffold import create_task_file

    root = _project_root(directory)
    return _print_result(root, create_task_file(root, name, kind, _stage_option(root, ())))


def _print_result(root: Path, result: ScaffoldResult) -> int:
    """Print what was written, and write the schemas that it may have changed."""
    from orchestrator.commands.json_schema import write_schemas
    from orchestrator.errors import UsageError

    for line in result.lines:
        click.echo(line)
    try:
        list(write_schemas(str(root)))
    except UsageError as error:
        click.echo(f"warning: {error}", err=True)
    click.echo(f"next: {result.next_command}")
    return ExitCode.OK


def _project_root(directory: str | None) -> Path:
    from orchestrator.commands.project import resolve_project_root

    return resolve_project_root(directory)


def _choose_stage(root: Path, stages: Sequence[str], example: str) -> str:
    """Return the stage like other commands do, and print the default if that is used."""
    from orchestrator.commands.project import select_stage

    choice = select_stage(root, stages, os.environ, example)
    if choice.is_default:
        click.echo(f"Defaulting to {choice.name}", err=True)
    return choice.name


def _stage_option(root: Path, stages: Sequence[str]) -> str:
    """Return how a command line selects the stage, with a space; '' for the default stage."""
    from orchestrator.commands.project import select_stage
    from orchestrator.errors import OrchError
    from orchestrator.inventory.stages import list_stages

    try:
        choice = select_stage(root, stages, os.environ, "")
        return "" if not stages else f"-s {shlex.quote(choice.name)} "
    except OrchError:
        names = list_stages(root).names
        return f"-s {shlex.quote(names[0])} " if names else "-s STAGE "


for _command in (
    new_task_command,
    new_module_command,
    new_playbook_command,
    new_host_command,
    new_role_command,
    new_app_command,
):
    new_command.add_command(_command)

NEW_COMMANDS: tuple[click.Command, ...] = (new_command,)
