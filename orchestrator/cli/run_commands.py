"""Commands that run tasks or plan them: run, exec, plan, lock."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click
from msgspec import structs

from orchestrator.cli import completion, options
from orchestrator.cli.group import DashDashCommand
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.resume_command import prepare_resume, resume_command
from orchestrator.cli.stdio import read_stdin_line
from orchestrator.cli.user_notes import tell_user
from orchestrator.errors import Diagnostic, ExitCode, UsageError
from orchestrator.model.secret_masking import SecretMasker

if TYPE_CHECKING:
    from orchestrator.cli.tty_prompt import StdinLines
    from orchestrator.commands.context import PlanOptions, ProjectContext, ProjectSelector
    from orchestrator.commands.plan_source import PlanSource
    from orchestrator.commands.run_plan import RunEngine
    from orchestrator.executor import CancelToken, RunOptions
    from orchestrator.executor.progress import EarlierRun
    from orchestrator.model.event import EventSink
    from orchestrator.output.display_options import DisplayOptions
    from orchestrator.output.terminal_lock import TerminalLock
    from orchestrator.planner.plan import Plan, PlannedTask


@click.command("run", short_help="Run tasks on a stage's hosts.")
@options.run_options
@options.step_options
@options.diff_option
@options.apps_option
@options.lock_options
@options.extra_option
@options.selection_options
@click.option(
    "--step", is_flag=True, help="Ask before each task: run it, skip it, show it, or stop."
)
@click.option(
    "--list-hosts", is_flag=True, help="List the hosts each task would run on, then exit."
)
@click.option("--list-tags", is_flag=True, help="List the tags in the tasks, then exit.")
@options.tasks_argument
@options.pass_options
def run_command(
    command_options: CommandOptions, words: tuple[str, ...], list_hosts: bool, list_tags: bool
) -> int:
    """Run one task or several, in order, on the hosts of a stage.

    KEY=VALUE sets a param of the task before it; see `orch doc TASK`.

    \b
      orch -s dev run uname
      orch -s prod run deploy:publish release=42 -l web
      orch -s prod run uname -l @failed    on the hosts where the last run failed
    """
    from orchestrator.commands.cli_args import parse_task_requests
    from orchestrator.commands.context import plan_without_secrets, tags_of
    from orchestrator.commands.plan_source import TaskWords

    task_requests = parse_task_requests(words)
    if list_tags:
        for tag, tasks in tags_of(command_options.directory, task_requests).items():
            click.echo(f"{tag}: {', '.join(tasks)}")
        return ExitCode.OK
    context = load_command_context(command_options, f"run {shlex.join(words)}")
    if list_hosts:
        return _print_task_hosts(
            plan_without_secrets(context, task_requests, plan_options(command_options), os.environ)
        )
    source = TaskWords(words)
    plan = source.plan(context, plan_options(command_options), os.environ)
    again = rerun_command(context, command_options, ("run",), words)
    return run_planned(
        context, plan, command_options, again, for_ci=True, is_resumable=True, source=source
    )


@click.command(
    "exec",
    cls=DashDashCommand,
    short_help="Run one command on a stage's hosts.",
    options_metavar="[OPTIONS] --",
)
@options.run_options
@options.step_options
@options.apps_option
@options.lock_options
@click.option(
    "--readonly",
    is_flag=True,
    help="The command changes nothing: no confirmation, no preflight check.",
)
@click.option(
    "--script",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Run this local script on the hosts; the words after -- are its arguments.",
)
@click.option("--stdin", is_flag=True, help="Give every host the standard input of orch.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.pass_options
def exec_command(
    command_options: CommandOptions,
    command: tuple[str, ...],
    readonly: bool,
    script: str | None,
    stdin: bool,
) -> int:
    """Run a single command, or a local script, that is not in a task file.

    Several words are one command; each is quoted as an argument. A single word is shell text, so
    quote a pipeline. Templates are not evaluated.

    \b
      orch -s dev exec -- uname -a
      orch -s dev exec --readonly -- 'df -h / | tail -n 1'
      orch -s dev exec --script report.py -- --brief
      orch -s dev exec --stdin -- tee motd < motd
    """
    from orchestrator.commands.cli_args import read_script, read_stdin
    from orchestrator.commands.plan_source import AdhocCommand, AdhocScript

    if script is None and not any(word.strip() for word in command):
        raise click.UsageError("the command is empty")
    if script is not None and stdin:
        raise click.UsageError("write --script or --stdin, not both")
    source: PlanSource
    if script is not None:
        title = shlex.join((script.rpartition("/")[2], *command))
        source = AdhocScript(title, read_script(script), command, readonly=readonly)
    else:
        source = AdhocCommand(command, readonly, read_stdin() if stdin else None)
    context = load_command_context(command_options, f"exec -- {shlex.join(command)}")
    plan = source.plan(context, plan_options(command_options), os.environ)
    flags = (*(("--readonly",) if readonly else ()), *(("--script", script) if script else ()))
    again = rerun_command(context, command_options, ("exec", *flags), ("--", *command))
    return run_planned(
        context,
        plan,
        command_options,
        "" if stdin else again,
        is_resumable=not stdin,
        source=source,
    )


@click.command("facts", short_help="Show the facts of hosts.")
@options.host_options
@click.option(
    "--fact",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.complete_facts,
    help="Show only this fact; may be repeated.",
)
@click.argument(
    "hosts", nargs=-1, metavar="[HOST]...", shell_complete=completion.complete_host_names
)
@options.pass_options
def facts_command(
    command_options: CommandOptions, hosts: tuple[str, ...], names: tuple[str, ...]
) -> int:
    """Show the facts of the hosts, as templates see them; see `orch doc facts`.

    Without HOST, show those of all hosts of the stage, or of those that --limit selects. They are
    shown as YAML; with --json, the output of the step is JSON.

    \b
      orch -s prod facts web1 db1
      orch -s prod facts -l web --fact mounts
    """
    from orchestrator.commands.context import PlanOptions, plan_task
    from orchestrator.playbook.adhoc import facts_task

    if hosts and command_options.limit:
        raise click.UsageError("write HOST or --limit, not both")
    limit = ",".join(hosts) if hosts else command_options.limit
    command_options = structs.replace(command_options, limit=limit)
    context = load_command_context(command_options, shlex.join(("facts", *hosts)))
    task = facts_task(_chosen_facts(context, names), as_json=command_options.as_json)
    plan = plan_task(context, task, PlanOptions(), os.environ)
    return run_planned(context, plan, command_options)


def _chosen_facts(context: ProjectContext, names: tuple[str, ...]) -> list[str]:
    """Return the names of the facts to show: these, or all. Raises UsageError."""
    from orchestrator.planner.fact_sources import FactSources, fact_hint
    from orchestrator.playbook.own_facts import load_own_facts

    known = FactSources(load_own_facts(context.root)).names
    for name in names:
        if name not in known:
            message = f"--fact {name}: there is no such fact"
            raise UsageError(Diagnostic(message, None, fact_hint(name, known)))
    return [name for name in known if name in names or not names]


@click.command("plan", short_help="Show what a run would do, without contacting hosts.")
@options.stage_options
@options.limit_option
@options.step_options
@options.apps_option
@options.extra_option
@options.selection_options
@options.json_option
@click.option("--reveal", is_flag=True, help="Fetch secrets and show their values.")
@options.tasks_argument
@options.pass_options
def plan_command(command_options: CommandOptions, words: tuple[str, ...], reveal: bool) -> int:
    """Show what `orch run` of the same tasks would do, on which hosts and in which order.

    Each step is shown with the exact text that is sent to each host. A step that needs the result
    of an earlier one is shown as its template, with the name of that result. No host is contacted.

    A secret is shown as its name. It is fetched only if the plan depends on it (a condition, a
    number), or to show it with --reveal.
    """
    from orchestrator.commands.cli_args import parse_task_requests
    from orchestrator.commands.context import plan_tasks, plan_without_secrets
    from orchestrator.model.text_encoding import dump_json
    from orchestrator.output.console import open_console
    from orchestrator.output.plan_text import plan_json, plan_lines

    task_requests = parse_task_requests(words)
    context = load_command_context(command_options, f"plan {shlex.join(words)}", connects=False)
    plan_function = plan_tasks if reveal else plan_without_secrets
    plan = plan_function(context, task_requests, plan_options(command_options), os.environ)
    out = open_console(sys.stdout, os.environ)
    mask = str if reveal else context.secrets.masker.mask_text
    out.lines(
        [dump_json(plan_json(plan, mask))]
        if command_options.as_json
        else plan_lines(plan, out, mask)
    )
    return ExitCode.OK


def plan_options(command_options: CommandOptions) -> PlanOptions:
    """Return the options of the planner. Raises UsageError."""
    from orchestrator.commands.cli_args import parse_common_options
    from orchestrator.commands.context import PlanOptions
    from orchestrator.planner.request import TagFilter

    only = _split_names(command_options.tags, "--tags needs the name of a tag")
    skip = _split_names(command_options.skip_tags, "--skip-tags needs the name of a tag")
    tags = TagFilter(frozenset(only), frozenset(skip))
    check, diff = command_options.check, command_options.diff
    apps = _split_names(command_options.apps, _NO_APP)
    message = command_options.message or ""
    return PlanOptions(
        command_options.extra,
        tags,
        start_at=command_options.start_at,
        start_step=command_options.start_step,
        handlers=command_options.handlers,
        check=check,
        diff=diff,
        apps=apps,
        message=message,
        run_id=command_options.resume.run.run if command_options.resume else "",
        run_user=command_options.resume.run.record.user if command_options.resume else "",
        common=parse_common_options(
            become=command_options.become_user
            if command_options.become_user is not None
            else "root"
            if command_options.become
            else None,
            timeout=command_options.timeout,
            chdir=command_options.chdir,
            environment=command_options.environment,
        ),
    )


_MANY_HOSTS = 1000
"""From so many hosts on, workers drive a run by themselves: they need a second or two to start."""
_NO_APP = "--app needs the name of an app (use `--app all` for every app)"


def _split_names(texts: tuple[str, ...], error_text: str) -> tuple[str, ...]:
    """Return the names given to an option, separated by commas or repeated.

    An empty name would be ambiguous between all and none: it raises UsageError with ``error_text``.
    """
    names = tuple(name.strip() for value in texts for name in value.split(","))
    if not all(names):
        raise click.UsageError(error_text)
    return names


def _print_task_hosts(plan: Plan) -> int:
    from orchestrator.model.host_folding import fold_hostnames

    for app_plan in plan.app_plans:
        for planned_task in app_plan.planned_tasks:
            if planned_task.hosts:
                batch = f" (batch {planned_task.batch})" if planned_task.batch else ""
                message = (
                    f"{app_plan.app} {planned_task.task}" if app_plan.app else planned_task.task
                )
                click.echo(
                    f"{message}{batch}: {fold_hostnames(host.host for host in planned_task.hosts)}"
                )
    return ExitCode.OK


def _ask_about_batch(
    terminal_lock: TerminalLock,
    input_lines: StdinLines,
    planned_task: PlannedTask,
    cancel: CancelToken,
) -> bool:
    """Ask the user whether the next batch may start; False if the run is interrupted."""
    from orchestrator.model.host_folding import fold_hostnames

    hosts = fold_hostnames(host.host for host in planned_task.hosts)
    with input_lines.question_lock, terminal_lock.question():
        question = (
            f"continue with batch {planned_task.batch}: {planned_task.task} on {hosts}? [y/N] "
        )
        click.echo(question, err=True, nl=False)
        line = input_lines.next_line(lambda: cancel.is_cancelled)
    return line is not None and line.strip().lower() in ("y", "yes")


def _ask_at_pause(
    terminal_lock: TerminalLock,
    input_lines: StdinLines,
    planned_task: PlannedTask,
    cancel: CancelToken,
) -> bool:
    """Return True if a person wants to go on after a pause."""
    from orchestrator.model.sanitize import to_one_line

    with input_lines.question_lock, terminal_lock.question():
        question = f"{to_one_line(planned_task.prompt)} (Enter goes on, q stops) "
        click.echo(question, err=True, nl=False)
        line = input_lines.next_line(lambda: cancel.is_cancelled)
    return line is not None and line.strip().lower() not in ("q", "quit", "n", "no", "stop")


def _check_confirmations(plan: Plan, progress: EarlierRun | None) -> None:
    """Raise UsageError if a person must be asked and stdin is not a terminal."""
    for app_plan in plan.app_plans:
        for number, planned_task in enumerate(app_plan.planned_tasks, start=1):
            is_passed = progress is not None and progress.has_started_after(app_plan.app, number)
            if planned_task.prompt and not is_passed and not sys.stdin.isatty():
                message = f"the pause '{planned_task.prompt}' needs an answer"
                message += ", and stdin is not a terminal"
                raise UsageError(Diagnostic(message, None, "pass --yes to go on at all pauses"))
            if planned_task.gate and planned_task.gate.confirm and not sys.stdin.isatty():
                batch = f"batch {planned_task.batch} of '{planned_task.task}'"
                message = f"{batch} must be confirmed, and stdin is not a terminal"
                raise UsageError(Diagnostic(message, None, "pass --yes to confirm all batches"))


def load_command_context(
    command_options: CommandOptions, example: str, *, connects: bool = True
) -> ProjectContext:
    """Return the project, stage and hosts of a command; ``example`` is it, for errors.

    ``connects``: the command connects to the hosts. Raises UsageError and DefinitionError.
    """
    from orchestrator.commands.context import load_context

    selector = project_selector(command_options, connects=connects)
    masks = click.get_current_context().find_object(SecretMasker)
    context = load_context(selector, os.environ, example, masks, tell_user)
    if context.stage_choice.is_default:
        click.echo(f"Defaulting to {context.stage_choice.name}", err=True)
    return context


def project_selector(command_options: CommandOptions, *, connects: bool = True) -> ProjectSelector:
    """Return the project, stage and hosts that a command selects."""
    from orchestrator.commands.context import ProjectSelector

    selector = ProjectSelector(
        command_options.directory,
        command_options.stages,
        command_options.limit,
        command_options.user,
        inventories=command_options.inventories,
        refresh=command_options.refresh,
        connects=connects,
    )
    if command_options.resume is not None:
        record = command_options.resume.run.record
        stages = () if selector.inventories else (record.stage,)
        selector = structs.replace(selector, stages=stages, limit=None, hosts=tuple(record.hosts))
    return selector


def run_engine(
    context: ProjectContext, plan: Plan, command_options: CommandOptions, source: PlanSource | None
) -> RunEngine | None:
    """Return what drives the hosts instead of this process, or None. Raises UsageError.

    ``source`` is what the command plans, or None if only this process can.
    """
    written = context.stage.engine if command_options.engine is None else None
    name = str(written.data) if written is not None else command_options.engine or ""
    is_automatic = not name and len(plan.hosts) >= _MANY_HOSTS
    if source is None or (name in ("", "local") and not is_automatic):
        return None
    from orchestrator.commands.dask_engine import DaskEngine, automatic_engine, parse_engine

    if is_automatic:
        hosts = [context.stage.hosts[host] for host in plan.hosts]
        choice = automatic_engine(hosts, command_options.connecting)
    else:
        choice = parse_engine(name, written.mark if written is not None else None)
    if choice is None:
        return None
    selector = structs.replace(
        project_selector(command_options),
        stages=() if command_options.inventories else (context.stage.name,),
    )
    return DaskEngine(
        choice,
        selector,
        source,
        plan_options(command_options),
        environ=os.environ,
        tell=tell_user,
        is_automatic=is_automatic,
    )


def run_planned(
    context: ProjectContext,
    plan: Plan,
    command_options: CommandOptions,
    rerun: str = "",
    *,
    for_ci: bool = False,
    is_resumable: bool = False,
    source: PlanSource | None = None,
) -> int:
    """Run a plan, ask what has to be asked, and return the exit code.

    ``rerun`` is the command that runs it again on the hosts that failed, to be shown if some do.
    ``for_ci``: on a CI server, group the lines of each task, and write a summary of the job.
    ``is_resumable``: the run can be resumed later, unless it is a check. ``source`` is what was
    planned, if other processes can plan it too. Raises UsageError.
    """
    from orchestrator.cli.tty_prompt import TtyPrompter
    from orchestrator.commands.run_plan import UserInterface, run_plan
    from orchestrator.output.terminal_lock import TerminalLock

    gc.freeze()  # the plan lives as long as this process: a collection takes 12 ms
    reports = _reports(command_options)
    engine = run_engine(context, plan, command_options, source)
    _prepare_run(context, plan, command_options)
    terminal_lock = TerminalLock()
    terminal = TtyPrompter(terminal_lock)
    progress = None
    if command_options.resume is not None:
        progress = prepare_resume(
            context, plan, command_options, command_options.resume, terminal.prompt_function()
        )
        if progress is None:
            return ExitCode.OK
    mask = context.secrets.masker.mask_text
    has_secret = mask(shlex.join(sys.argv[1:])) != shlex.join(sys.argv[1:])
    is_resumable = is_resumable and not plan.check_mode and not has_secret
    resume = resume_command(command_options, plan.run_id) if is_resumable else ""
    display = _display_options(command_options, groups=for_ci, rerun=rerun, resume=resume)
    run_options = structs.replace(
        executor_options(command_options, plan, terminal_lock, mask, progress),
        is_resumable=is_resumable,
        progress=progress,
    )

    def on_abort(steps: Mapping[str, str]) -> None:
        terminal.restore()
        _print_running_steps(steps, resume)

    code = run_plan(
        plan,
        context,
        options=run_options,
        sink=_choose_sink(context, display, terminal_lock),
        environ=os.environ,
        user_interface=UserInterface(terminal.prompt_function(), on_abort),
        connecting=command_options.connecting,
        resumed=command_options.resume,
        engine=engine,
    )
    _report_run(context, plan.run_id, reports, for_ci=for_ci)
    return code


def _choose_sink(
    context: ProjectContext, display: DisplayOptions, terminal_lock: TerminalLock
) -> EventSink:
    """Return what shows the run on stdout and stderr."""
    from orchestrator.journal import expected_seconds
    from orchestrator.output.sinks import choose_sinks

    return choose_sinks(
        display,
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
        terminal_lock=terminal_lock,
        find_expected=partial(expected_seconds, context.root, os.environ),
    )


def _prepare_run(context: ProjectContext, plan: Plan, command_options: CommandOptions) -> None:
    """Confirm a run that changes a protected stage, and decrypt passwords. Raises UsageError."""
    if command_options.exit_code and not plan.check_mode:
        raise click.UsageError("--exit-code requires --check")
    if context.stage.protected and plan.changes and not plan.check_mode and not command_options.yes:
        tasks = (task.task for app_plan in plan.app_plans for task in app_plan.planned_tasks)
        confirm_protected_stage(context, ", ".join(tasks), plan.hosts)
    if context.stage.is_ansible:
        from orchestrator.commands.connections import decrypt_passwords

        decrypt_passwords(context.hosts, plan)


def _display_options(
    command_options: CommandOptions, *, groups: bool, rerun: str, resume: str
) -> DisplayOptions:
    from orchestrator.output.display_options import DisplayOptions, OutputMode

    output = command_options.output
    return DisplayOptions(
        json=command_options.as_json,
        verbose=command_options.verbose,
        mode=None if output is None else OutputMode(output),
        diff=command_options.diff,
        diff_hosts=command_options.diff_hosts,
        groups=groups,
        rerun=rerun,
        resume=resume,
    )


def _report_run(
    context: ProjectContext, run: str, reports: Mapping[str, str], *, for_ci: bool
) -> None:
    """Write the summary of a CI job, and the reports. Raises UsageError."""
    from orchestrator.output.ci_log import job_summary_file

    if for_ci and job_summary_file(os.environ):
        from orchestrator.commands.reports import append_job_summary

        append_job_summary(context.root, os.environ, run, sys.stderr)
    if reports:
        from orchestrator.commands.reports import write_reports
        from orchestrator.journal.run_reader import find_run

        write_reports(find_run(context.root, os.environ, run), reports, sys.stdout, os.environ)


def _reports(command_options: CommandOptions) -> Mapping[str, str]:
    """Return the files of reports by their kind. Raises UsageError."""
    if not command_options.reports:
        return {}
    from orchestrator.commands.reports import parse_reports

    return parse_reports(command_options.reports)


def executor_options(
    command_options: CommandOptions,
    plan: Plan,
    terminal_lock: TerminalLock,
    mask: Callable[[str], str] = str,
    progress: EarlierRun | None = None,
) -> RunOptions:
    """Return the options of the executor, with the questions that it asks on stdin.

    ``mask`` hides secrets in them; what ``progress`` has passed is not asked. Raises UsageError if
    a person must be asked and stdin is not a terminal.
    """
    from orchestrator.cli.task_questions import TaskQuestions
    from orchestrator.cli.tty_prompt import StdinLines
    from orchestrator.commands.context import outer_runs
    from orchestrator.executor import RunOptions

    asks_about_batches = not (plan.check_mode or command_options.yes)
    if asks_about_batches:
        _check_confirmations(plan, progress)
    input_lines = StdinLines()
    return RunOptions(
        command_options.forks,
        command_options.keep_going,
        skip_unreachable=command_options.unreachable == "skip",
        ask_about_task=TaskQuestions(plan, terminal_lock, input_lines, mask).ask
        if command_options.step
        else None,
        confirm_batch=partial(_ask_about_batch, terminal_lock, input_lines)
        if asks_about_batches
        else None,
        confirm_prompt=partial(_ask_at_pause, terminal_lock, input_lines)
        if asks_about_batches
        else None,
        exit_on_change=command_options.exit_code,
        rerun_args=_cli_args_for_rerun(command_options),
        lock_wait=command_options.lock_wait,
        lock_owner=_lock_owner(command_options),
        outer_runs=outer_runs(os.environ),
    )


def _lock_owner(command_options: CommandOptions) -> dict[str, str]:
    """Return the details of this run that are shown to others who need its locks."""
    import socket
    import time

    from orchestrator.commands.context import current_user

    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    owner = f"{current_user()}@{socket.gethostname()}"
    return {"owner": owner, "since": since, "message": command_options.message or ""}


def _cli_args_for_rerun(command_options: CommandOptions) -> tuple[str, ...]:
    """Return the command-line words that are also needed to rerun a part of this run."""
    words: list[str] = []
    for option, value in (
        ("-C", command_options.directory),
        ("--user", command_options.user),
        ("--become-user", command_options.become_user),
        ("--timeout", command_options.timeout),
        ("--chdir", command_options.chdir),
    ):
        words += [option, value] if value is not None else []
    words += ["--become"] if command_options.become else []
    for option, values in (("--env", command_options.environment), ("-e", command_options.extra)):
        words += [word for value in values for word in (option, value)]
    return tuple(words)


def rerun_command(
    context: ProjectContext,
    command_options: CommandOptions,
    command: Sequence[str],
    arguments: Sequence[str],
) -> str:
    """Return the command line that runs this again on the hosts that failed, secrets masked."""
    sources = [word for path in command_options.inventories for word in ("-i", path)]
    words = ["orch", *(sources or ["-s", context.stage.name]), *command, "-l", "@failed"]
    words += _cli_args_for_rerun(command_options)
    for option, values in (
        ("--app", command_options.apps),
        ("--tags", command_options.tags),
        ("--skip-tags", command_options.skip_tags),
        ("--handler", command_options.handlers),
    ):
        words += [option, ",".join(values)] if values else []
    for option, value in (
        ("--start-at", command_options.start_at),
        ("--start-step", command_options.start_step),
    ):
        words += [option, value] if value else []
    words += ["--check"] if command_options.check else []
    return context.secrets.masker.mask_text(shlex.join((*words, *arguments)))


def confirm_protected_stage(context: ProjectContext, what: str, hosts: Sequence[str]) -> None:
    """Ask for the stage's name and return if it was typed; ``what`` would run on these hosts.

    Raises UsageError otherwise.
    """
    from orchestrator.model.host_folding import fold_hostnames

    name = context.stage.name
    count = f"{len(hosts)} host{'s' if len(hosts) != 1 else ''}"
    click.echo(f"'{name}' is protected. This would run {what}", err=True)
    click.echo(f"on {count}: {fold_hostnames(hosts)}", err=True)
    hint = "see `orch plan` for details; pass --yes to skip this confirmation"
    if not sys.stdin.isatty():
        message = f"stage '{name}' is protected, and stdin is not a terminal"
        raise UsageError(Diagnostic(message, None, hint))
    click.echo("Type the stage's name to continue: ", err=True, nl=False)
    if read_stdin_line().strip() != name:
        raise UsageError(Diagnostic("declined: nothing was contacted", None, hint))


def _print_running_steps(steps: Mapping[str, str], resume: str) -> None:
    from orchestrator.model.host_folding import fold_hostnames
    from orchestrator.model.sanitize import to_one_line

    click.echo(
        "\ninterrupted twice: exiting immediately; see `orch lock status` if apps have locks",
        err=True,
    )
    busy: dict[str, list[str]] = {}
    for host, step in steps.items():
        busy.setdefault(step, []).append(host)
    for step, hosts in busy.items():
        click.echo(f"  {fold_hostnames(hosts)} may still be running {to_one_line(step)}", err=True)
    if resume:
        click.echo(f"to resume: {resume}", err=True)


@click.command("lock", short_help="Show or release the locks of apps.")
@options.host_options
@options.apps_option
@click.option("--force", is_flag=True, help="Release the lock even if its owner is still running.")
@click.option(
    *("--become", "lock_user"),  # the shared option `become` is a flag
    metavar="USER",
    default="",
    help="Access the lock as this user, if the login user may not, or has another home folder.",
)
@click.argument("act", metavar="status|release", type=click.Choice(["status", "release"]))
@options.pass_options
def lock_command(command_options: CommandOptions, act: str, force: bool, lock_user: str) -> int:
    """Show who holds an app's lock on each of its hosts, or release it.

    A run that changes something for an app holds the app's lock on all its hosts, so that no two
    runs do so at once. A lock whose owner is gone is reported as stale, and never taken silently.
    The lock is the file .orch-lock in the app's deploy_to; for an app without deploy_to,
    ~/.orch/locks/PROJECT/APP; a variable lock_path overrides both.

    \b
      orch -s prod lock status --app blog
      orch -s prod lock release --app blog
    """
    from orchestrator.commands.context import plan_lock_command

    context = load_command_context(command_options, f"lock {act}")
    names = _split_names(command_options.apps, _NO_APP) or ("all",)
    if not context.stage.apps:
        raise click.UsageError(f"stage '{context.stage.name}' has no apps, so there are no locks")
    plan = plan_lock_command(context, act, names, os.environ, force=force, become=lock_user)
    return run_planned(context, plan, command_options)


RUN_COMMANDS: tuple[click.Command, ...] = (
    run_command,
    exec_command,
    facts_command,
    plan_command,
    lock_command,
)
