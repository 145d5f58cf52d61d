"""Commands that show the project: stages, hosts, tasks, doc, vars, lint, completion."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completion, options
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.user_notes import tell_user
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from orchestrator.commands.context import ProjectSelector
    from orchestrator.commands.show_vars import ValueOrigin


_MAX_DOC_WIDTH = 90  # columns of the documentation's text


@click.command("stages", short_help="List the stages.")
@options.project_options
@options.json_option
def stages_command(directory: str | None, as_json: bool) -> int:
    """List the stages of the project: the folders of inventories/."""
    from orchestrator.commands.listing import list_stage_entries

    rows, refused = list_stage_entries(directory)
    if as_json:
        _print_json(
            [{"stage": r.name, "desc": r.desc, "hosts": r.hosts, "error": r.error} for r in rows]
        )
        return ExitCode.OK
    _print_table(
        [("STAGE", False), ("HOSTS", True), ("", False)],
        [(r.name, str(r.hosts) if r.hosts is not None else "", r.error or r.desc) for r in rows],
    )
    _print_errors(refused)
    return ExitCode.OK


@click.command("hosts", short_help="List a stage's hosts.")
@options.stage_options
@options.limit_option
@options.json_option
@options.pass_options
def hosts_command(command_options: CommandOptions) -> int:
    """List the hosts of a stage, or those that --limit selects, with address and roles."""
    from orchestrator.commands.context import load_context

    context = load_context(
        _selector(command_options),
        os.environ,
        "hosts",
        tell=tell_user,
    )
    if command_options.as_json:
        _print_json(
            [
                {
                    "host": h.name,
                    "address": h.connect.address,
                    "port": h.connect.port,
                    "user": h.connect.user,
                    "transport": h.connect.transport,
                    "roles": list(h.roles),
                }
                for h in context.hosts
            ]
        )
        return ExitCode.OK
    rows = []
    for host in context.hosts:
        connection = host.connect
        port = f":{connection.port}" if connection.port else ""
        address = (
            f"[{connection.address}]" if port and ":" in connection.address else connection.address
        )
        endpoint = f"{connection.user}@{address}{port}" if connection.user else f"{address}{port}"
        rows.append((host.name, endpoint, connection.transport, ", ".join(host.roles)))
    _print_table(
        [("HOST", False), ("ADDRESS", False), ("TRANSPORT", False), ("ROLES", False)], rows
    )
    return ExitCode.OK


def _selector(command_options: CommandOptions) -> ProjectSelector:
    """Return what a command that does not connect selects."""
    from orchestrator.commands.context import ProjectSelector

    return ProjectSelector(
        command_options.directory,
        command_options.stages,
        command_options.limit,
        inventories=command_options.inventories,
        refresh=command_options.refresh,
        connects=False,
    )


@click.command("tasks", short_help="List the tasks.")
@options.project_options
@options.json_option
@click.option(
    "--tree", is_flag=True, help="Show the order of execution, with hooks and called tasks."
)
@click.argument("task", required=False, shell_complete=completion.complete_tasks)
def tasks_command(task: str | None, tree: bool, directory: str | None, as_json: bool) -> int:
    """List the tasks of the project with their descriptions.

    With --tree, show what TASK does (or every task that no other task runs) in the order of
    execution: hooks, playbooks and called tasks are expanded. What depends on a stage, like the
    hosts of a batch, is shown by `orch plan`.
    """
    if tree:
        from orchestrator.commands.task_tree import task_tree_lines

        if as_json:
            raise click.UsageError("--tree cannot be combined with --json; use `orch plan --json`")
        _print_lines(task_tree_lines(directory, task))
        return ExitCode.OK
    if task is not None:
        raise click.UsageError(f"write `orch tasks --tree {task}`, or `orch doc {task}`")
    from orchestrator.commands.listing import list_tasks

    rows, diagnostics = list_tasks(directory)
    if as_json:
        _print_json([{"task": r.name, "desc": r.desc, "error": r.error} for r in rows])
    else:
        _print_table([("TASK", False), ("", False)], [(r.name, r.error or r.desc) for r in rows])
        _print_errors(diagnostics)
    return ExitCode.OK


@click.command("doc", short_help="Explain a task, module or topic.")
@options.project_options
@click.argument("name", required=False, shell_complete=completion.complete_documented_names)
def doc_command(name: str | None, directory: str | None) -> int:
    """Explain NAME: a task with its params and steps, a module, a topic, or an error.

    Without a name, list the topics and the modules that come with orch.
    """
    from orchestrator.commands.listing import doc_lines, list_modules, list_topics
    from orchestrator.output.console import open_console

    if name is None:
        _print_table([("TOPIC", False), ("", False)], list_topics())
        click.echo()
        _print_table([("MODULE", False), ("", False)], list_modules())
        return ExitCode.OK
    width = open_console(sys.stdout, os.environ).width or _MAX_DOC_WIDTH
    _print_lines(doc_lines(directory, name, min(width, _MAX_DOC_WIDTH)))
    return ExitCode.OK


@click.command("schema", short_help="Print the JSON Schema of a kind of file.")
@options.project_options
@click.argument("kind", metavar="KIND", required=False, shell_complete=completion.complete_schemas)
@click.option("--write", is_flag=True, help="Write all schemas to .orch/schemas/, for editors.")
def schema_command(kind: str | None, write: bool, directory: str | None) -> int:
    """Print the JSON Schema (draft 2020-12) of a kind of YAML file, for editors and checkers.

    KIND is task (any file below tasks/), stage, host, hosts, role, roles or app. In a project, the
    schema of task files has its tasks and modules with their params.
    """
    from orchestrator.commands.json_schema import file_schema, write_schemas

    if write is (kind is not None):
        raise click.UsageError("write `orch schema KIND`, or `orch schema --write`")
    if kind is None:
        written = [f"wrote {path}" for path in write_schemas(directory)]
        _print_lines(written or ["the schemas are up to date"])
    else:
        _print_json(file_schema(kind, directory), indent=2)
    return ExitCode.OK


@click.command("vars", short_help="Show a host's variables.")
@options.stage_options
@options.extra_option
@options.json_option
@click.option("--origin", is_flag=True, help="Show where each value is set, and what it overrides.")
@click.option(
    *("-a", "--app"),
    metavar="APP",
    shell_complete=completion.complete_apps,
    help="Show the variables of a run for this app.",
)
@click.argument("host", shell_complete=completion.complete_host_names)
@options.pass_options
def vars_command(command_options: CommandOptions, host: str, origin: bool, app: str | None) -> int:
    """Show the variables of a host in a stage, as templates see them."""
    from orchestrator.commands.context import load_context, select_apps
    from orchestrator.commands.show_vars import (
        locked_files,
        resolved_variables,
        variable_origins,
    )

    context = load_context(
        _selector(command_options),
        os.environ,
        f"vars {host}",
        tell=tell_user,
    )
    if app is not None and (app == "all" or "," in app):
        raise click.UsageError("`vars --app` accepts a single app")
    for path in locked_files(context, host, os.environ):
        tell_user(f"{path}: not shown, because it is encrypted: set ORCH_VAULT_PASSWORD_FILE")
    selected_app = select_apps(context.stage, (app,))[0] if app is not None else None
    if origin:
        origins = variable_origins(context, host, command_options.extra, os.environ, selected_app)
        if command_options.as_json:
            _print_json({name: _origin_json(values) for name, values in origins.items()})
        else:
            _print_lines(
                line for name, values in origins.items() for line in _origin_lines(name, values)
            )
        return ExitCode.OK
    resolved = resolved_variables(context, host, command_options.extra, os.environ, selected_app)
    if command_options.as_json:
        _print_json(resolved)
    else:
        _print_lines(f"{name}: {_json_text(value)}" for name, value in resolved.items())
    return ExitCode.OK


def _origin_json(values: Sequence[ValueOrigin]) -> dict[str, object]:
    first, *overridden = (value.plain() for value in values)
    return {**first, "overrides": overridden}


def _origin_lines(name: str, values: Sequence[ValueOrigin]) -> Iterator[str]:
    for number, origin in enumerate(values):
        yield f"{'  over' if number else f'{name}:'} {_json_text(origin.value)}  {origin.mark}"


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@click.command("lint", short_help="Check the whole project.")
@options.stage_options
@options.pass_options
def lint_command(command_options: CommandOptions) -> int:
    """Validate all tasks and stages (or the given stage) and report every error.

    With --inventory, validate only these inventories of Ansible.

    The exit code is 3 if there are errors; notes do not count.
    """
    from orchestrator.commands.project_lint import lint_inventories, lint_project

    if command_options.inventories:
        errors, notes = lint_inventories(_selector(command_options), os.environ)
    else:
        errors, notes = lint_project(command_options.directory, command_options.stages)
    _print_lines(f"{mark}: note: {text}" for text, mark in notes)
    _print_errors(errors)
    if not errors:
        click.echo("no errors" + (f", {len(notes)} note{'s' * (len(notes) != 1)}" if notes else ""))
    return ExitCode.DEFINITION if errors else ExitCode.OK


@click.command("completion", short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> int:
    """Print a script that completes stages, hosts, roles, apps, tasks, params and tags.

    \b
      bash:  orch completion bash > ~/.local/share/bash-completion/completions/orch
      zsh:   orch completion zsh > "${fpath[1]}/_orch"
      fish:  orch completion fish > ~/.config/fish/completions/orch.fish
    """
    root = click.get_current_context().find_root().command
    click.echo(completion.completion_script(root, shell))
    return ExitCode.OK


def _print_table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> None:
    from orchestrator.output.console import open_console
    from orchestrator.output.tables import TableColumn, table_lines

    out = open_console(sys.stdout, os.environ)
    out.lines(table_lines([TableColumn(title, right) for title, right in columns], rows, out.width))


def _print_lines(lines: Iterable[str]) -> None:
    from orchestrator.model.sanitize import show_controls
    from orchestrator.output.console import open_console

    open_console(sys.stdout, os.environ).lines(show_controls(line) for line in lines)


def _print_json(data: object, indent: int | None = None) -> None:
    from orchestrator.model.text_encoding import dump_json

    click.echo(dump_json(data) if indent is None else json.dumps(data, indent=indent))


def _print_errors(diagnostics: Sequence[Any]) -> None:
    from orchestrator.output.console import open_console
    from orchestrator.output.error_text import problems_text

    if diagnostics:
        out = open_console(sys.stderr, os.environ)
        out.lines([problems_text(diagnostics, out)])


SHOW_COMMANDS: tuple[click.Command, ...] = (
    stages_command,
    hosts_command,
    tasks_command,
    doc_command,
    schema_command,
    vars_command,
    lint_command,
    completion_command,
)
