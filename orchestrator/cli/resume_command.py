"""The command that resumes a run, and its questions."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completion, options
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.stdio import read_stdin_line
from orchestrator.errors import Diagnostic, ExitCode, UsageError
from orchestrator.model.secret_masking import SecretMasker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.commands.context import ProjectContext
    from orchestrator.commands.resume import ResumeRequest
    from orchestrator.executor.progress import EarlierRun, LostChoice, LostStep
    from orchestrator.journal.run_reader import RecordedRun
    from orchestrator.planner.plan import Plan
    from orchestrator.transports.prompts import PromptCallback


_MAX_TEXT_LINES = 10  # of a lost step


@click.command("resume", short_help="Go on with a run that did not end well.")
@options.records_options
@click.option(
    *("-s", "--stage"),
    default="",
    metavar="STAGE",
    shell_complete=completion.complete_stages,
    help="The stage of the run: the last one on it is resumed.",
)
@click.argument("run", default="last", shell_complete=completion.complete_runs)
@click.option(
    "--lost",
    type=click.Choice(["rerun", "skip"]),
    help="What to do with steps that were running when the run ended: run them again, or count "
    "them as done. Default: ask.",
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="If a step that has been done is another one now, do again what was done from its task "
    "on. Default: refuse, and show the difference.",
)
@click.option(
    "-y", "--yes", is_flag=True, help="Answer yes to questions: of a protected stage, of batches."
)
@click.pass_context
def resume(
    ctx: click.Context,
    directory: str | None,
    run: str,
    *,
    stage: str,
    lost: str | None,
    accept_changes: bool,
    yes: bool,
) -> int:
    """Go on with a run, on each host at the step where it ended there.

    It is the same run: it keeps its ID, its release and its record. What has been done, and was
    not rolled back, is not done again; results of those steps are known. A step that was running
    when orch or the connection ended is lost: how far it came is not known, so you are asked.

    \b
      orch resume               the last run of tasks
      orch -s prod resume       the last one on this stage
      orch resume 20261130 --lost rerun
    """
    from orchestrator.commands.project import resolve_project_root
    from orchestrator.commands.resume import (
        ResumeRequest,
        find_resumable_run,
        open_resumable_run,
    )
    from orchestrator.executor.progress import LostChoice

    root = resolve_project_root(directory)
    recorded = find_resumable_run(root, os.environ, run, stage)
    events = open_resumable_run(recorded)
    request = ResumeRequest(recorded, events, LostChoice(lost) if lost else None, accept_changes)
    arguments = [*recorded.record.argv]
    if yes:
        arguments.insert(0, "--yes")
    orch = ctx.find_root().command
    with _working_folder(recorded.record.folder):
        inner = orch.make_context("orch", arguments, obj=ctx.find_object(SecretMasker))
        with inner:
            inner.meta[options.RESUME_KEY] = request
            return int(orch.invoke(inner) or ExitCode.OK)


@contextmanager
def _working_folder(folder: str) -> Iterator[None]:
    """Work in the folder in which the run was started: its options can name files there."""
    from orchestrator.commands.run_plan import working_folder

    before = working_folder()
    if not folder or folder == before:
        yield
        return
    try:
        os.chdir(folder)
    except OSError as error:
        message = f"the folder in which the run was started cannot be used: {error.strerror}"
        raise UsageError(Diagnostic(f"{message}: {folder}")) from None
    try:
        yield
    finally:
        os.chdir(before)


def resume_command(command_options: CommandOptions, run: str) -> str:
    """Return the command line that resumes the run."""
    words = ["-C", command_options.directory] if command_options.directory else []
    words += [word for path in command_options.inventories for word in ("-i", path)]
    return shlex.join(("orch", *words, "resume", run))


def prepare_resume(
    context: ProjectContext,
    plan: Plan,
    command_options: CommandOptions,
    request: ResumeRequest,
    prompt: PromptCallback | None,
) -> EarlierRun | None:
    """Return what the run has done, or None if nothing is left to do, which is said.

    Raises DefinitionError if it has changed since, and UsageError if the user stops.
    """
    from orchestrator.commands.resume import (
        RunRecordReader,
        check_changes,
        is_complete,
        later_runs,
        settle,
    )
    from orchestrator.commands.run_plan import make_transports
    from orchestrator.model.host_folding import fold_hostnames

    reader = RunRecordReader(request.run)
    progress = reader.read()
    check_changes(plan, context, request, reader)
    if is_complete(plan, progress):
        _print_complete(context, request.run)
        return None
    later = list(later_runs(context.root, os.environ, request.run))
    if later and not command_options.yes:
        _confirm_later_runs([(each.run, each.record.tasks, hosts) for each, hosts in later])
    _print_unfinished_rollbacks(progress)
    if waiting := list(dict.fromkeys(host for _, _, host, _ in progress.in_flight())):
        hosts = fold_hostnames(waiting)
        click.echo(f"asking how far it came, which may take a minute: {hosts}", err=True)
    mask = context.secrets.masker.mask_text

    def warn(text: str) -> None:
        click.echo(f"warning: {mask(text)}", err=True)

    transports = make_transports(context, prompt, warn, command_options.connecting)
    try:
        ask = partial(_ask_about_lost, request.lost)
        goes_on = settle(context, progress, transports, command_options.forks, ask)
    finally:
        transports.close()
    if not goes_on:
        raise UsageError(Diagnostic("stopped: the run is as it was before", None, ""))
    return progress


def _print_complete(context: ProjectContext, run: RecordedRun) -> None:
    """Say that nothing is left to do, and which other run may be meant."""
    from orchestrator.journal.run_reader import recorded_runs
    from orchestrator.model.sanitize import to_one_line

    tasks = " ".join(run.record.tasks)
    click.echo(f"run {run.run} ({tasks}) is complete: nothing is left to do", err=True)
    for other in recorded_runs(context.root, os.environ):
        if other.record.is_resumable and other.state in ("failed", "killed"):
            what = f"the last run that did not end well is {other.run}"
            click.echo(to_one_line(f"{what} ({' '.join(other.record.tasks)})"), err=True)
            return


def _print_unfinished_rollbacks(progress: EarlierRun) -> None:
    from orchestrator.model.host_folding import fold_hostnames
    from orchestrator.model.sanitize import to_one_line

    hosts: dict[str, list[str]] = {}
    for _, task, host, _ in progress.unfinished_rollbacks:
        if task:
            hosts.setdefault(task, []).append(host)
    for task, names in hosts.items():
        text = f"the {task} on {fold_hostnames(names)} was running when the run ended"
        click.echo(to_one_line(f"{text}; the task is done again"), err=True)


def _confirm_later_runs(
    later: Sequence[tuple[str, Sequence[str], Sequence[str]]],
) -> None:
    from orchestrator.model.host_folding import fold_hostnames
    from orchestrator.model.sanitize import to_one_line

    for run, tasks, hosts in later[:3]:
        text = f"later, run {run} ({' '.join(tasks)}) ran on {fold_hostnames(hosts)}"
        click.echo(to_one_line(text), err=True)
    if len(later) > 3:
        click.echo(f"and {len(later) - 3} more runs", err=True)
    if not sys.stdin.isatty():
        message = "the same hosts were changed by a later run, and stdin is not a terminal"
        raise UsageError(Diagnostic(message, None, "pass --yes to resume the run anyway"))
    click.echo("resume anyway? [y/N] ", err=True, nl=False)
    if read_stdin_line().strip().lower() not in ("y", "yes"):
        raise UsageError(Diagnostic("declined: the run is as it was before"))


def _ask_about_lost(
    option: LostChoice | None, lost: Sequence[Sequence[LostStep]]
) -> list[LostChoice]:
    """Return what to do with each lost step: as the option says, or the user. Raises UsageError."""
    from orchestrator.executor.progress import LostChoice

    choices: list[LostChoice] = []
    for steps in lost:
        for line in _lost_step_lines(steps):
            click.echo(line, err=True)
        if option is not None:
            done = "is run again" if option is LostChoice.RERUN else "counts as done"
            click.echo(f"it {done} (--lost {option.value})", err=True)
            choices.append(option)
        elif sys.stdin.isatty():
            choices.append(_asked_choice())
            if choices[-1] is LostChoice.STOP:
                return choices
    if len(choices) < len(lost):
        count = "a step" if len(lost) == 1 else f"{len(lost)} steps"
        message = f"how far {count} came is not known, and stdin is not a terminal"
        hint = "pass --lost rerun to run such steps again, or --lost skip to count them as done"
        raise UsageError(Diagnostic(message, None, hint))
    return choices


def _lost_step_lines(steps: Sequence[LostStep]) -> Iterator[str]:
    """Yield where the step was running, and its text."""
    from orchestrator.model.host_folding import fold_hostnames
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.model.step_number import number_label

    first = steps[0]
    where = fold_hostnames(each.target for each in steps)
    if first.target != first.host:
        where += f" (for {fold_hostnames(each.host for each in steps)})"
    app = f"{first.app}: " if first.app else ""
    state = "was running" if first.has_begun else "was sent, and may have begun,"
    what = f"step {number_label(first.step.step)} of {first.task} on {where}"
    yield to_one_line(f"{app}{what} {state} when the run ended:")
    lines = first.step.text.splitlines()
    for line in lines[:_MAX_TEXT_LINES]:
        yield f"  | {to_one_line(line)}"
    if len(lines) > _MAX_TEXT_LINES:
        yield f"  … {len(lines) - _MAX_TEXT_LINES} more lines"


def _asked_choice() -> LostChoice:
    from orchestrator.executor.progress import LostChoice

    answers = {
        **dict.fromkeys(("r", "rerun"), LostChoice.RERUN),
        **dict.fromkeys(("s", "skip"), LostChoice.SKIP),
        **dict.fromkeys(("q", "quit"), LostChoice.STOP),
    }
    while True:
        question = "how far it came is not known: rerun it, skip it (as done) or quit? [r/s/q] "
        click.echo(question, err=True, nl=False)
        line = read_stdin_line()
        if not line:
            return LostChoice.STOP
        if (answer := line.strip().lower()) in answers:
            return answers[answer]
