"""The command that runs what is typed on the hosts of a stage: console."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import click
from msgspec import structs

from orchestrator.cli import options
from orchestrator.cli.error_output import print_error
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.run_commands import (
    confirm_protected_stage,
    executor_options,
    load_command_context,
    plan_options,
)
from orchestrator.cli.stdio import StdoutError
from orchestrator.commands.signals import SignalAction, StopRequests
from orchestrator.errors import Diagnostic, ExitCode, OrchError, UsageError
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_result import Status

if TYPE_CHECKING:
    from orchestrator.commands.console import HostConsole
    from orchestrator.commands.console_line import ConsoleLine
    from orchestrator.model.host import Host
    from orchestrator.output.console import TextConsole
    from orchestrator.output.terminal_lock import TerminalLock


@click.command("console", short_help="Type commands that run on a stage's hosts.")
@options.stage_options
@options.limit_option
@options.forks_option
@options.ssh_config_option
@options.persist_option
@click.option(
    *("-y", "--yes"), is_flag=True, help="Skip the confirmation for protected stages and batches."
)
@click.option("-v", "--verbose", count=True, help="Show the table of hosts, and all output.")
@options.login_options
@options.timeout_option
@options.environment_option
@options.pass_options
def console_command(command_options: CommandOptions) -> int:
    """Run each line that is typed on all hosts at once, over connections that stay open.

    The working folder of each host is kept. Equal output is shown once. `@failed COMMAND` and
    `@web1,db COMMAND` run a command on some of the hosts, `:help` lists the console's own commands.
    Ctrl-C ends a running command, Ctrl-D the console. Without a terminal, the lines are read from
    stdin.

    \b
      orch -s dev console
      orch -s prod console -l web --become
      echo uptime | orch -s dev console
    """
    from orchestrator.cli.tty_prompt import TtyPrompter
    from orchestrator.commands.console import ConsoleOptions, HostConsole
    from orchestrator.output.terminal_lock import TerminalLock

    context = load_command_context(command_options, "console")
    if context.stage.protected and not command_options.yes:
        names = [host.name for host in context.hosts]
        confirm_protected_stage(context, "the commands that you type", names)
    terminal_lock = TerminalLock()
    console = HostConsole(
        context,
        os.environ,
        ConsoleOptions(
            command_options.forks,
            command_options.connecting,
            command_options.timeout,
            command_options.environment,
        ),
        TtyPrompter(terminal_lock).prompt_function(),
        lambda text: click.echo(to_one_line(text), err=True),
    )
    if command_options.become_user is not None:
        console.set_become(command_options.become_user)
    elif command_options.become:
        console.set_become("root")
    lines = ConsoleLines(console, command_options, terminal_lock)
    try:
        has_prompt = sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())
        return lines.run_typed() if has_prompt else lines.run_piped()
    finally:
        console.close()


class ConsoleLines:
    """Runs the lines of a console, from the terminal or from stdin."""

    def __init__(
        self, console: HostConsole, command_options: CommandOptions, terminal_lock: TerminalLock
    ) -> None:
        from orchestrator.output.console import open_console

        self._console, self._options = console, command_options
        self._terminal_lock = terminal_lock
        self._out: TextConsole = open_console(sys.stdout, os.environ)
        self._masker = console.context.secrets.masker
        self._directives: dict[str, Callable[[str], ExitCode]] = {
            "hosts": self._show_hosts,
            "limit": self._set_limit,
            "become": self._set_become,
            "run": self._run_tasks,
            "diff": self._show_diff,
            "reconnect": self._reconnect,
            "help": self._show_help,
        }

    def run_typed(self) -> ExitCode:
        """Prompt for lines until `:quit` or Ctrl-D; return 0.

        After a signal to end, or if the terminal is gone, return 130 or raise SystemExit with it.
        """
        on_terminal = sys.stdout.isatty()
        _end_on_signals()
        try:
            return self._prompt_for_lines()
        except StdoutError as error:
            if on_terminal and error.errno == errno.EIO:
                return ExitCode.INTERRUPTED
            raise

    def _prompt_for_lines(self) -> ExitCode:
        from orchestrator.cli.console_prompt import ConsolePrompt

        self._connect(self._console.hosts)
        prompt = ConsolePrompt(self._console, os.environ)
        try:
            while not self._console.is_terminated:
                try:
                    line = prompt.read_line()
                    if line is None or not self._run_line(line):
                        return ExitCode.OK
                except OrchError as error:
                    print_error(error, self._masker)
                except KeyboardInterrupt:  # at the prompt, or between two commands
                    continue
        finally:
            prompt.close()
        return ExitCode.INTERRUPTED

    def run_piped(self) -> ExitCode:
        """Run the lines of stdin; return the worst exit code.

        An error in a line ends the console: a later line may depend on it.
        """
        codes = {ExitCode.OK}
        for line in _stdin_lines():
            parsed = self._parse(line)
            if parsed is None:
                continue
            if parsed.directive == "quit":
                break
            codes.add(self._run(parsed))
            if self._console.is_terminated or ExitCode.INTERRUPTED in codes:
                return ExitCode.INTERRUPTED
        return min(codes, key=_severity)

    def _run_line(self, text: str) -> bool:
        """Run a line; return False if it ends the console. Raises OrchError."""
        parsed = self._parse(text)
        if parsed is not None and parsed.directive == "quit":
            return False
        if parsed is not None:
            self._run(parsed)
        return True

    def _parse(self, text: str) -> ConsoleLine | None:
        from orchestrator.commands.console_line import parse_line

        return parse_line(text)

    def _run(self, line: ConsoleLine) -> ExitCode:
        """Run a command or a directive. Raises OrchError if the line is invalid."""
        if line.directive:
            return self._directives[line.directive](line.argument)
        from orchestrator.output.command_sink import command_sink

        hosts = self._console.targets(line.selector)
        sink = command_sink(
            [host.name for host in hosts],
            stdout=sys.stdout,
            stderr=sys.stderr,
            environ=os.environ,
            verbose=self._options.verbose,
            terminal_lock=self._terminal_lock,
        )
        return self._console.run_line(line.command, hosts, sink)

    def _connect(self, hosts: Sequence[Host]) -> None:
        from orchestrator.output.command_sink import connect_sink

        sink = connect_sink(
            stdout=sys.stdout,
            stderr=sys.stderr,
            environ=os.environ,
            terminal_lock=self._terminal_lock,
        )
        self._console.connect(hosts, sink)

    def _reconnect(self, _argument: str) -> ExitCode:
        lost = [host for host in self._console.hosts if host.name in self._console.lost]
        if lost:
            self._connect(lost)
        again = [host.name for host in lost if host.name not in self._console.lost]
        if again or not lost:
            shown = f"{fold_hostnames(again)} connected again" if again else "no host is lost"
            self._out.lines([to_one_line(shown)])
        return ExitCode.UNREACHABLE if self._console.lost else ExitCode.OK

    def _set_limit(self, argument: str) -> ExitCode:
        self._console.set_limit(argument or None)
        return ExitCode.OK

    def _set_become(self, argument: str) -> ExitCode:
        words = argument.split()
        if len(words) > 1:
            raise UsageError(Diagnostic(f":become takes one user: {argument}"))
        user = words[0] if words else "root"
        self._console.set_become("" if user == "off" else user)
        return ExitCode.OK

    def _run_tasks(self, argument: str) -> ExitCode:
        """Run tasks, with the options of ``:run``, as `orch run` does."""
        try:
            words = shlex.split(argument)
        except ValueError as error:
            raise UsageError(Diagnostic(f":run: {error}: {argument}")) from None
        try:
            parsed = run_directive.main(words, ":run", standalone_mode=False)
        except click.UsageError as error:
            raise UsageError(Diagnostic(f":run: {error.format_message()}")) from None
        if not isinstance(parsed, tuple):
            return ExitCode.OK  # --help
        return self._run_plan(*parsed)

    def _run_plan(self, run_options: CommandOptions, words: tuple[str, ...]) -> ExitCode:
        from orchestrator.commands.cli_args import parse_task_requests
        from orchestrator.commands.context import plan_tasks
        from orchestrator.output.display_options import DisplayOptions
        from orchestrator.output.sinks import choose_sinks

        run_options = structs.replace(
            run_options,
            directory=self._options.directory,
            forks=self._options.forks,
            yes=self._options.yes,
            timeout=self._options.timeout,
            environment=self._options.environment,
            become_user=self._console.become_user or None,
        )
        context = self._console.context_of(self._console.targets(""))
        requests = parse_task_requests(words)
        plan = plan_tasks(context, requests, plan_options(run_options), os.environ)
        executor = executor_options(run_options, plan, self._terminal_lock)
        sink = choose_sinks(
            DisplayOptions(verbose=self._options.verbose, diff=run_options.diff),
            stdout=sys.stdout,
            stderr=sys.stderr,
            environ=os.environ,
            terminal_lock=self._terminal_lock,
        )
        return self._console.run_plan(plan, sink, executor)

    def _show_diff(self, _argument: str) -> ExitCode:
        from orchestrator.output.host_diff import host_diff_lines

        groups = self._console.outputs.groups()
        if not groups:
            raise UsageError(Diagnostic("no output to compare: no command ran yet"))
        self._out.lines(host_diff_lines(groups, self._out, whole=self._options.verbose > 0))
        return ExitCode.OK

    def _show_hosts(self, _argument: str) -> ExitCode:
        from orchestrator.output.tables import TableColumn, table_lines

        console, equal = self._console, dict[tuple[str, ...], list[str]]()
        for host in console.hosts:
            folder = console.folder_of(host.name)
            path = "~" if folder.is_home else self._masker.mask_text(folder.path) or "~"
            reason = self._masker.mask_text(console.lost.get(host.name, ""))
            row = (",".join(host.roles), self._shown_status(host.name), path, reason)
            equal.setdefault(row, []).append(host.name)
        columns = [TableColumn("hosts"), TableColumn("roles", drop=2), TableColumn("last command")]
        columns += [TableColumn("folder", drop=1), TableColumn("reason")]
        rows = [(fold_hostnames(names), *row) for row, names in equal.items()]
        self._out.lines(table_lines(columns, rows, self._out.width))
        return ExitCode.OK

    def _shown_status(self, name: str) -> str:
        """Return the status of a host after the last command; '' if it took no part."""
        from orchestrator.output.console import status_text

        status = self._console.statuses.get(name)
        if name in self._console.lost:
            status = Status.LOST
        return "ok" if status is Status.CHANGED else status_text(status) if status else ""

    def _show_help(self, _argument: str) -> ExitCode:
        from orchestrator.commands.console_line import help_rows
        from orchestrator.output.tables import TableColumn, table_lines

        columns = [TableColumn("line"), TableColumn("meaning")]
        self._out.lines(table_lines(columns, help_rows(), self._out.width))
        return ExitCode.OK


@click.command(":run")
@click.option("--check", is_flag=True, help="Report what would change, without changing anything.")
@options.diff_option
@options.keep_going_option
@options.apps_option
@options.lock_options
@options.extra_option
@options.selection_options
@options.tasks_argument
@options.pass_options
def run_directive(
    command_options: CommandOptions, words: tuple[str, ...]
) -> tuple[CommandOptions, tuple[str, ...]]:
    """Run tasks on the selected hosts of the console, as `orch run` does."""
    return command_options, words


def _severity(code: ExitCode) -> int:
    """Return the rank of an exit code; 0 is the worst."""
    order = (ExitCode.BUG, ExitCode.FAILED, ExitCode.UNREACHABLE, ExitCode.LOCKED)
    return order.index(code) if code in order else len(order) + (code is ExitCode.OK)


def _stdin_lines() -> Iterator[str]:
    from orchestrator.model.text_encoding import decode_bytes

    for line in sys.stdin.buffer:
        yield decode_bytes(line.removesuffix(b"\n").removesuffix(b"\r"))


def _end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the console; Ctrl-C only interrupts what it does.

    Signals that arrive together are one request: the next one must not break off the closing of the
    connections.
    """
    requests = StopRequests()

    def leave(number: int, _frame: FrameType | None) -> None:
        act = requests.classify_signal(number, time.monotonic())
        if act is SignalAction.QUIT:
            os._exit(int(ExitCode.INTERRUPTED))
        if act is not SignalAction.NOTHING:
            raise SystemExit(int(ExitCode.INTERRUPTED))

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)


CONSOLE_COMMANDS: tuple[click.Command, ...] = (console_command,)
