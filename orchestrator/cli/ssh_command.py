"""The command `ssh`: a shell, or one command, on one host."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click
from msgspec import structs

from orchestrator.cli import completion, options
from orchestrator.cli.group import HostAndCommand
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.run_commands import (
    confirm_protected_stage,
    load_command_context,
    plan_options,
)
from orchestrator.errors import ConnectError, ExitCode, NoStatusError
from orchestrator.model.sanitize import to_one_line

if TYPE_CHECKING:
    from orchestrator.cli.command_session import CommandSession, LocalTerminal
    from orchestrator.commands.context import ProjectContext
    from orchestrator.commands.host_command import HostCommand, HostCommandRunner

_NO_STATUS = "the host sent no exit status"


@click.command(
    "ssh",
    cls=HostAndCommand,
    short_help="Open a shell on one host.",
)
@options.stage_options
@options.login_options
@options.chdir_option
@options.environment_option
@options.apps_option
@options.ssh_config_option
@options.persist_option
@options.yes_option
@click.argument("host", metavar="HOST", shell_complete=completion.complete_host_names)
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@options.pass_options
def ssh_command(command_options: CommandOptions, host: str, command: tuple[str, ...]) -> int:
    """Open a shell on a host of the stage, or run a command there on your terminal.

    HOST is a host, or a pattern as of --limit that selects one. All settings of the host, and the
    environment of the stage, apply as for `orch exec`. If stdin and stdout are terminals, the
    command gets one too; otherwise its input and output are passed unchanged. `~.` at the beginning
    of a line disconnects.

    The exit code is that of the shell or command, 128 + N if signal N ended it, and 255 if the host
    could not be reached or the connection was lost.

    \b
      orch -s prod ssh web1
      orch -s prod ssh db1 --become-user postgres -- psql
      orch -s prod ssh web1 -- cat /var/log/syslog > syslog
      tar c site | orch -s prod ssh web1 -- tar x
    """
    from orchestrator.commands.host_command import only_host, plan_host_command
    from orchestrator.playbook.adhoc import command_text

    if command and not any(word.strip() for word in command):
        raise click.UsageError("the command is empty")
    user, at, name = host.partition("@")
    if user and at and name:  # `@failed` and `@FILE` are patterns
        raise click.UsageError(f"write the user as an option: orch ssh {name} --user {user}")
    command_options = structs.replace(command_options, limit=host)
    example = f"ssh {shlex.join((host, *(('--', *command) if command else ())))}"
    context = load_command_context(command_options, example)
    on_terminal = sys.stdin.isatty() and (not command or sys.stdout.isatty())
    planned = plan_host_command(
        context,
        only_host(context.hosts, host),
        command,
        plan_options(command_options),
        os.environ,
        on_terminal=on_terminal,
    )
    if context.stage.protected and not command_options.yes:
        what = command_text(command) if command else "a shell"
        confirm_protected_stage(context, what, (planned.host.name,))
    return _run_host_command(context, planned, command_options, on_terminal=on_terminal)


def _run_host_command(
    context: ProjectContext,
    command: HostCommand,
    command_options: CommandOptions,
    *,
    on_terminal: bool,
) -> int:
    """Run the command and return the exit code. Raises NoStatusError and DefinitionError."""
    from orchestrator.cli.command_session import LocalTerminal
    from orchestrator.cli.tty_prompt import TtyPrompter
    from orchestrator.commands.host_command import HostCommandRunner
    from orchestrator.commands.signals import handle_interrupts
    from orchestrator.output.terminal_lock import TerminalLock

    prompter = TtyPrompter(TerminalLock())
    runner = HostCommandRunner(
        context,
        command,
        os.environ,
        prompter.prompt_function(),
        lambda text: click.echo(f"warning: {to_one_line(text)}", err=True),
        connecting=command_options.connecting,
    )
    session = _Session(command.host.name, LocalTerminal() if on_terminal else None, runner)

    def on_quit() -> None:
        prompter.restore()
        session.restore_terminal()

    with handle_interrupts(session.stop, lambda _signal: None, on_quit):
        try:
            return session.run()
        except ConnectError as error:
            if session.is_stopped:
                click.echo("interrupted", err=True)
                return ExitCode.INTERRUPTED
            raise NoStatusError(*error.diagnostics) from error


class _Session:
    """The session with one host. ``terminal`` is stdin, if the command gets a terminal."""

    def __init__(
        self, host: str, terminal: LocalTerminal | None, runner: HostCommandRunner
    ) -> None:
        self._host, self._terminal, self._runner = host, terminal, runner
        self._session: CommandSession | None = None
        self.is_stopped = False

    def run(self) -> int:
        """Run the command; return the exit code.

        Raises ConnectError, StdoutError, and NoStatusError if there is no exit status.
        """
        from orchestrator.cli.command_session import CommandSession

        kind = os.environ.get("TERM") or "dumb"
        terminal = self._terminal.describe(kind) if self._terminal else None
        with self._runner.start(terminal) as started:
            session = CommandSession(started.channel, self._terminal, started.send_signal)
            with self._terminal.raw() if self._terminal else nullcontext():
                self._session = session
                if self.is_stopped:
                    session.stop()
                status = session.run(started.output)
        if self.is_stopped:
            return ExitCode.INTERRUPTED
        if status is not None and not session.disconnect_reason:
            return status
        reason = session.disconnect_reason or started.channel.cause() or _NO_STATUS
        raise NoStatusError(f"disconnected from {self._host}: {reason}")

    def stop(self) -> None:
        """End the session, or the attempt to connect. Called by another thread."""
        self.is_stopped = True
        if self._session is not None:
            self._session.stop()
        else:
            self._runner.cancel()

    def restore_terminal(self) -> None:
        """Restore the terminal, for a process that exits at once."""
        if self._terminal is not None:
            self._terminal.restore()
