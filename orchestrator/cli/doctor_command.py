"""The command that checks hosts: doctor."""

from __future__ import annotations

import os
import sys

import click

from orchestrator.cli import options
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.run_commands import load_command_context
from orchestrator.cli.user_notes import tell_user


@click.command("doctor", short_help="Check that hosts can be reached and can run steps.")
@options.stage_options
@options.limit_option
@click.option(
    *("-f", "--forks"),
    type=click.IntRange(1, 2000),
    default=100,
    show_default=True,
    metavar="N",
    help="Check at most N hosts at a time.",
)
@options.ssh_config_option
@options.json_option
@options.pass_options
def doctor_command(command_options: CommandOptions) -> int:
    """Check every host of a stage, or those that --limit selects.

    Checks that the host's name resolves, its port is reachable, its key is trusted, the login
    succeeds and a shell replies; then sudo for the users that tasks become, free space where steps
    write, the clock, and the commands that the tasks' modules need. Also reports ssh_config options
    that orch ignores. Nothing is changed on any host, nor in known_hosts.

    \b
      orch -s prod doctor
      orch -s prod doctor -l web --json

    Exit codes: 1 if steps will fail, 4 if hosts are unreachable; 0 for warnings.
    """
    from orchestrator.cli.tty_prompt import TtyPrompter
    from orchestrator.commands.doctor import check_hosts
    from orchestrator.commands.run_plan import UserInterface
    from orchestrator.errors import ExitCode
    from orchestrator.output.console import open_console
    from orchestrator.output.doctor_report import doctor_json, doctor_lines
    from orchestrator.output.terminal_lock import TerminalLock

    context = load_command_context(command_options, "doctor")
    terminal = TtyPrompter(TerminalLock())
    user_interface = UserInterface(terminal.prompt_function(), lambda _: terminal.restore())
    result = check_hosts(
        context,
        forks=command_options.forks,
        environ=os.environ,
        user_interface=user_interface,
        ssh_config=command_options.ssh_config,
    )
    mask = context.secrets.masker.mask_text
    out = open_console(sys.stdout, os.environ)
    if command_options.as_json:
        out.lines(doctor_json(host_check, mask) for host_check in result.host_checks)
    else:
        out.lines(doctor_lines(result.host_checks, out, mask))
    for text, mark in context.stage.connection_notes:
        tell_user(f"{mark}: note: {text}")
    if result.tasks_unreadable:
        click.echo(
            "the tasks' requirements were not checked, because tasks have errors: see `orch lint`",
            err=True,
        )
    if result.exit_code is ExitCode.INTERRUPTED:
        click.echo("interrupted", err=True)
    return result.exit_code


DOCTOR_COMMANDS: tuple[click.Command, ...] = (doctor_command,)
