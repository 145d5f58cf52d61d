"""The commands for connections that are kept between commands: `orch warm`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.cli.group import NestedGroup
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.run_commands import load_command_context
from orchestrator.errors import Diagnostic, ExitCode, UsageError


@click.group(
    "warm", cls=NestedGroup, short_help="Keep connections open for the commands that follow."
)
def warm_command() -> None:
    """Make, list and close connections that are kept for later commands.

    A host whose `connect` has `persist: 10m` is connected to once; the connection stays with a
    process of yours, the broker, and later commands use it. `--persist` and ORCH_PERSIST do the
    same for one command, or all.

    \b
      orch -s prod warm up
      orch warm status
      orch warm down
    """


@click.command("up", short_help="Connect to hosts, and keep the connections.")
@options.stage_options
@options.limit_option
@options.forks_option
@options.ssh_config_option
@options.persist_option
@options.json_option
@options.pass_options
def up_command(command_options: CommandOptions) -> int:
    """Connect to the hosts of a stage, and keep the connections. Nothing is run on the hosts.

    They are kept for as long as `persist` says, else for 10 minutes after their last use.

    Exit codes: 4 if hosts are unreachable.
    """
    import json

    from orchestrator.cli.tty_prompt import TtyPrompter
    from orchestrator.commands.run_plan import UserInterface
    from orchestrator.commands.warm import warm_up
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.console import supports_live_output
    from orchestrator.output.terminal_lock import TerminalLock

    context = load_command_context(command_options, "warm up")
    lock = TerminalLock()
    terminal = TtyPrompter(lock)
    is_live = supports_live_output(sys.stderr, os.environ) and not command_options.as_json

    def show_progress(done: int, total: int) -> None:
        with lock.view() as may_draw:
            if is_live and may_draw:
                line = "" if done == total else f"connecting: {done} of {total} hosts"
                click.echo(f"\r\x1b[K{line}", err=True, nl=False)

    hosts, code = warm_up(
        context,
        command_options.forks,
        UserInterface(terminal.prompt_function(), lambda _: terminal.restore()),
        lambda text: click.echo(f"warning: {to_one_line(text)}", err=True),
        command_options.connecting,
        show_progress=show_progress,
    )
    for host in hosts:
        if command_options.as_json:
            record = {"host": host.host, "seconds": round(host.seconds, 3), "error": host.error}
            click.echo(json.dumps(record))
        elif host.error:
            click.echo(f"{host.host}: {to_one_line(host.error)}", err=True)
    warm = sum(not host.error for host in hosts)
    if not command_options.as_json:
        failed = len(hosts) - warm
        click.echo(f"{warm} kept" + (f", {failed} not" if failed else ""))
    return code


@click.command("status", short_help="List the connections that are kept.")
@options.stage_options
@options.limit_option
@options.json_option
@options.pass_options
def status_command(command_options: CommandOptions) -> int:
    """List the connections that are kept for this project, or with --limit those of hosts."""
    import json

    from orchestrator.commands.warm import BrokerUnavailableError, kept_connections
    from orchestrator.output.console import open_console
    from orchestrator.output.live_view import format_duration
    from orchestrator.output.tables import TableColumn, table_lines
    from orchestrator.yamlio.local_files import natural_sort_key

    root, names = _selected_hosts(command_options, "warm status")
    try:
        status = kept_connections(root, os.environ)
    except BrokerUnavailableError as error:
        raise UsageError(Diagnostic(str(error), None, "")) from None
    found = [each for each in status.hosts if names is None or each.host in names] if status else []
    hosts = sorted(found, key=lambda kept: natural_sort_key(kept.host))
    if command_options.as_json:
        for kept in hosts:
            record = {
                "host": kept.host,
                "endpoint": kept.endpoint,
                "shells": kept.shells,
                "in_use": kept.channels,
                "age": round(kept.age, 1),
                "idle": round(kept.idle, 1),
                "expires_in": round(kept.expires_in, 1),
            }
            click.echo(json.dumps(record))
        return ExitCode.OK
    if not hosts or status is None:
        click.echo("no connection is kept")
        return ExitCode.OK
    out = open_console(sys.stdout, os.environ)
    columns = (
        TableColumn("host"),
        TableColumn("connection", drop=2),
        TableColumn("state"),
        TableColumn("age", right=True, drop=1),
        TableColumn("closes in", right=True),
    )
    rows = [
        (
            kept.host,
            kept.endpoint,
            "in use" if kept.channels else "idle",
            format_duration(kept.age),
            "" if kept.channels else format_duration(kept.expires_in),
        )
        for kept in hosts
    ]
    out.lines(table_lines(columns, rows, out.width))
    megabytes = f", {status.rss / (1 << 20):.0f} MB" if status.rss else ""
    out.lines([f"{len(hosts)} kept by process {status.pid}{megabytes}"])
    return ExitCode.OK


@click.command("down", short_help="Close the connections that are kept.")
@options.stage_options
@options.limit_option
@options.pass_options
def down_command(command_options: CommandOptions) -> int:
    """Close the connections that are kept for this project, or with --limit those of hosts.

    Commands that use them go on until they end.
    """
    from orchestrator.commands.warm import BrokerUnavailableError, close_kept

    root, names = _selected_hosts(command_options, "warm down")
    try:
        closed = close_kept(root, os.environ, names)
    except BrokerUnavailableError as error:
        raise UsageError(Diagnostic(str(error), None, "")) from None
    click.echo(f"{len(closed)} closed" if closed else "no connection was kept")
    return ExitCode.OK


def _selected_hosts(command_options: CommandOptions, example: str) -> tuple[Path, list[str] | None]:
    """Return the project, and the names of the hosts that are selected, None for all."""
    from orchestrator.commands.project import resolve_project_root

    if command_options.limit is None and not command_options.stages:
        return resolve_project_root(command_options.directory), None
    context = load_command_context(command_options, example, connects=False)
    return context.root, [host.name for host in context.hosts]


for _command in (up_command, status_command, down_command):
    warm_command.add_command(_command)

WARM_COMMANDS: tuple[click.Command, ...] = (warm_command,)
