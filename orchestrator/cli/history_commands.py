"""Commands that show recorded runs: history, show, diff, search, report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completion, options
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from orchestrator.journal.run_index import RunIndex
    from orchestrator.journal.run_reader import RecordedRun
    from orchestrator.journal.run_summary import RunSummary
    from orchestrator.model.event import RunEvent
    from orchestrator.output.console import TextConsole

_PROGRESS_SECONDS = 1.0
"""How long the outputs are indexed before the progress is shown."""


@click.command("history", short_help="List the recorded runs.")
@options.records_options
@click.option(
    *("-s", "--stage"),
    default="",
    metavar="STAGE",
    shell_complete=completion.complete_stages,
    help="Only runs on this stage.",
)
@click.option("--host", default="", metavar="HOST", help="Only runs with this host.")
@click.option(
    "--task",
    default="",
    metavar="TASK",
    shell_complete=completion.complete_tasks,
    help="Only runs of this task, as on their command line.",
)
@click.option("--app", default="", metavar="APP", help="Only runs for this app.")
@click.option("--user", default="", metavar="USER", help="Only runs that this user started.")
@click.option(
    "--status",
    type=click.Choice(["ok", "failed", "running", "killed"]),
    help="Only runs that ended like this.",
)
@click.option("--since", metavar="AGE", help="Only runs younger than this, like 12h or 7d.")
@click.option(
    *("-n", "--number"),
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="At most this many runs.",
)
@click.option("--console", is_flag=True, help="List the commands that `orch console` ran instead.")
@click.option("--rebuild", is_flag=True, help="Write the index of runs anew before.")
@options.json_option
def history_command(
    directory: str | None,
    *,
    stage: str,
    host: str,
    task: str,
    app: str,
    user: str,
    status: str | None,
    since: str | None,
    number: int,
    console: bool,
    rebuild: bool,
    as_json: bool,
) -> int:
    """List the recorded runs of the project, newest first. `orch show RUN` shows one.

    \b
      orch history -s prod --status failed
      orch history --host web1 --since 7d
    """
    from orchestrator.commands.history import RunFilter, parse_age, run_json, selected_runs
    from orchestrator.journal import CONSOLE_FOLDER
    from orchestrator.journal.run_dirs import RUNS_FOLDER
    from orchestrator.model.text_encoding import dump_json
    from orchestrator.output.console import open_console

    earliest = time.time() - parse_age(since) if since is not None else 0.0
    run_filter = RunFilter(stage, host, task, app, user, state=status or "", since=earliest)
    with _open_index(directory) as index:
        if rebuild:
            click.echo(f"runs in the index: {index.rebuild()}", err=True)
        parent = CONSOLE_FOLDER if console else RUNS_FOLDER
        runs = list(selected_runs(index, run_filter, number, parent))
    out = open_console(sys.stdout, os.environ)
    if as_json:
        out.lines([dump_json([run_json(run) for run in runs])])
        return ExitCode.OK
    nothing = "no recorded commands" if console else "no recorded runs"
    if run_filter != RunFilter():
        nothing += " with these options"
    out.lines(_history_lines(runs, out, is_console=console) if runs else [nothing])
    return ExitCode.OK


@contextmanager
def _open_index(directory: str | None) -> Iterator[RunIndex]:
    """Return the index of the project's runs; warnings and its progress go to stderr."""
    from orchestrator.commands.project import resolve_project_root
    from orchestrator.journal.run_index import RunIndex
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.console import supports_live_output

    began = time.monotonic()
    is_live = supports_live_output(sys.stderr, os.environ)

    def show_progress(done: int, total: int) -> None:
        if is_live and time.monotonic() > began + _PROGRESS_SECONDS:
            text = f"\r\x1b[Kindexing outputs: {done} of {total} runs"
            click.echo("\r\x1b[K" if done == total else text, err=True, nl=False)

    def warn(text: str) -> None:
        click.echo(f"warning: {to_one_line(text)}", err=True)

    index = RunIndex(resolve_project_root(directory), os.environ, warn, show_progress)
    try:
        yield index
    finally:
        index.close()


def _history_lines(runs: Sequence[RunSummary], out: TextConsole, *, is_console: bool) -> list[str]:
    from orchestrator.commands.history import result_text
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.tables import TableColumn, table_lines

    columns = (
        TableColumn("RUN"),
        TableColumn("STARTED"),
        TableColumn("USER", drop=9),
        TableColumn("STAGE"),
        TableColumn("COMMAND" if is_console else "TASKS"),
        TableColumn("APPS", drop=8),
        TableColumn("SECONDS", right=True, drop=7),
        TableColumn("HOSTS"),
    )
    rows = []
    for run in runs:
        tasks = f"{'check of ' if run.check else ''}{' '.join(run.tasks)}"
        what = run.argv[-1] if is_console and run.argv else tasks
        seconds = "" if run.seconds is None else f"{run.seconds:.2f}"
        started, apps = _local_time(run.started), ", ".join(run.apps)
        cells = (run.run, started, run.user, run.stage, what, apps, seconds)
        rows.append([to_one_line(cell) for cell in (*cells, result_text(run))])
    return table_lines(columns, rows, out.width)


@click.command("show", short_help="Show what a recorded run did.")
@options.records_options
@click.argument("run", default="last", shell_complete=completion.complete_runs)
@click.argument("host", required=False)
@click.option("--failed", is_flag=True, help="Show only the hosts that failed.")
@click.option("--task", default="", metavar="TASK", help="Show only the steps of this task.")
@click.option("--output", is_flag=True, help="Show all output of steps, however long it is.")
@options.json_option
@click.option("-v", "--verbose", count=True, help="Show also steps that changed nothing.")
def show_command(
    directory: str | None,
    *,
    run: str,
    host: str | None,
    failed: bool,
    task: str,
    output: bool,
    as_json: bool,
    verbose: int,
) -> int:
    """Show what a recorded run did, as its own end showed it. RUN is `last` if it is omitted.

    RUN is the start of the run's ID as `orch history` lists it, `last`, or `last~1` for the run
    before the last. With HOST, show the steps of this host.

    \b
      orch show last --failed
      orch show 20261130 web1 --output
    """
    from orchestrator.commands.history import RunSelection, selected_events
    from orchestrator.commands.project import resolve_project_root
    from orchestrator.journal.run_reader import find_run
    from orchestrator.output.console import TextConsole, open_console
    from orchestrator.output.json_lines import JsonLinesSink

    recorded = find_run(resolve_project_root(directory), os.environ, run)
    selection = RunSelection(host or "", task, failed=failed)
    events = list(selected_events(recorded, selection))
    if as_json:
        sink = JsonLinesSink(TextConsole(sys.stdout))
        for event in events:
            sink(event)
        return ExitCode.OK
    out = open_console(sys.stdout, os.environ)
    out.lines(_heading_lines(recorded, out))
    _show_events(events, out, verbose=max(verbose, int(host is not None)), whole=output)
    if recorded.record.is_resumable and recorded.state in ("failed", "killed"):
        out.lines([f"to resume: orch resume {recorded.run}"])
    return ExitCode.OK


@click.command("diff", short_help="Compare two recorded runs.")
@options.records_options
@click.argument("first", required=False, shell_complete=completion.complete_runs)
@click.argument("second", required=False, shell_complete=completion.complete_runs)
def diff_command(directory: str | None, first: str | None, second: str | None) -> int:
    """Show how two recorded runs differ: by default the last one, and the one of its tasks before.

    With one run, it is compared with the one of its tasks before.

    Results, changes, times and outputs are compared for each step and host. Hosts with the same
    difference share a line.

    \b
      orch diff
      orch diff 20261128 last
    """
    from orchestrator.commands.project import resolve_project_root
    from orchestrator.commands.run_diff import run_differences
    from orchestrator.journal.run_reader import find_earlier_run, find_run
    from orchestrator.model.sanitize import sanitize_output, to_one_line
    from orchestrator.output.console import BOLD, DIM, open_console
    from orchestrator.output.step_lines import fold_hosts, step_title

    root = resolve_project_root(directory)
    new = find_run(root, os.environ, second or first or "last")
    if first and second:
        old = find_run(root, os.environ, first)
    else:
        old = find_earlier_run(root, os.environ, new)
    out = open_console(sys.stdout, os.environ)
    for sign, run in (("-", old), ("+", new)):
        about = (
            f"{run.record.stage}: {' '.join(run.record.tasks)}, {_local_time(run.record.started)}"
        )
        out.lines([out.paint(to_one_line(f"{sign} {run.run}  {about}"), DIM)])
    differences = list(run_differences(old, new))
    for each in differences:
        hosts = to_one_line(fold_hosts(each.hosts))
        about = "; ".join(each.about) or "other output"
        title = step_title(each.app, each.task, each.name)
        out.lines([f"{out.paint(title, BOLD)}  {hosts}  {to_one_line(about)}"])
        out.lines(f"    {sanitize_output(line)}".rstrip() for line in each.output)
    if not differences:
        out.lines(["no differences"])
    return ExitCode.OK


@click.command("search", short_help="Search the outputs of recorded runs.")
@options.records_options
@click.argument("text")
@click.option("--host", default="", metavar="HOST", help="Only in the outputs of this host.")
@click.option("--since", metavar="AGE", help="Only in runs younger than this, like 12h or 7d.")
@click.option(
    *("-n", "--number"),
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="N",
    help="At most this many lines.",
)
def search_command(
    directory: str | None, text: str, host: str, since: str | None, number: int
) -> int:
    """Find TEXT in the outputs of all recorded runs and console commands, newest first.

    Case does not matter.

    Each line is shown after its run, host and step.

    \b
      orch search 'out of memory' --since 7d
    """
    from itertools import islice

    from orchestrator.commands.history import parse_age, search_outputs
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.console import BOLD, open_console

    if not text.strip():
        raise click.UsageError("TEXT is empty")
    earliest = time.time() - parse_age(since) if since is not None else 0.0
    out = open_console(sys.stdout, os.environ)
    count, last = 0, None
    with _open_index(directory) as index:
        for hit in islice(search_outputs(index, text, host=host, since=earliest), number):
            count += 1
            where = (hit.run, hit.host, hit.step)
            if where != last:
                out.lines([out.paint(to_one_line(f"{hit.run} {hit.host} {hit.step}"), BOLD)])
            out.lines([f"  {to_one_line(hit.line)}"])
            last = where
    if not count:
        out.lines(["not found"])
    return ExitCode.OK if count else ExitCode.FAILED


@click.command("report", short_help="Write a report of a recorded run.")
@options.records_options
@click.argument("run", default="last", shell_complete=completion.complete_runs)
@click.option("--html", metavar="FILE", help="A web page in one file, which needs no network.")
@click.option("--junit", metavar="FILE", help="JUnit XML: a case for each host and step.")
@click.option("--markdown", metavar="FILE", help="Markdown, for the summary of a CI job.")
def report_command(
    directory: str | None, run: str, html: str | None, junit: str | None, markdown: str | None
) -> int:
    """Write reports of a recorded run: the last one if RUN is omitted. `-` is standard output.

    \b
      orch report --html run.html
      orch report --junit orch.xml
      orch report last --markdown - >>"$GITHUB_STEP_SUMMARY"
    """
    from orchestrator.commands.project import resolve_project_root
    from orchestrator.commands.reports import write_reports
    from orchestrator.journal.run_reader import find_run

    named = {"html": html, "junit": junit, "markdown": markdown}
    files = {kind: file for kind, file in named.items() if file}
    if not files:
        raise click.UsageError("name a file: --html FILE, --junit FILE or --markdown FILE")
    recorded = find_run(resolve_project_root(directory), os.environ, run)
    write_reports(recorded, files, sys.stdout, os.environ)
    return ExitCode.OK


def _show_events(
    events: Sequence[RunEvent], out: TextConsole, *, verbose: int, whole: bool
) -> None:
    from orchestrator.model.event import RunFinished, StepFinished, Warned
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.console import YELLOW
    from orchestrator.output.display_options import DisplayOptions
    from orchestrator.output.step_lines import LineLayout, StepLines
    from orchestrator.output.summary import SummarySink

    lines = StepLines(verbose)
    has_diffs = any(isinstance(event, StepFinished) and event.outcome.diff for event in events)
    display = DisplayOptions(verbose=int(whole), diff=whole or has_diffs)
    summary = SummarySink(out, display, needs_changes=lambda: False)
    for event in events:
        lines.add(event)
        if isinstance(event, Warned):
            out.lines([out.paint(f"warning: {to_one_line(event.text)}", YELLOW)])
        if isinstance(event, RunFinished):
            found = lines.all_lines(LineLayout(out.width))
            out.lines([*(out.paint(*line) for line in found), ""])
        summary(event)


def _heading_lines(run: RecordedRun, out: TextConsole) -> Iterator[str]:
    import shlex

    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.console import BOLD, DIM

    record = run.record
    check = "check of " if record.check else ""
    apps = f" for {', '.join(record.apps)}" if record.apps else ""
    hosts = f"{len(record.hosts)} host{'' if len(record.hosts) == 1 else 's'}"
    what = f"{record.stage}: {check}{' '.join(record.tasks)}{apps} on {hosts}, run {run.run}"
    yield out.paint(to_one_line(what), BOLD)
    started = f"started {_local_time(record.started)}"
    by = f" by {record.user}" if record.user else ""
    version = f", orch {record.version}" if record.version else ""
    dirty = ", with changed files" if record.is_dirty else ""
    commit = f", commit {record.commit[:12]}{dirty}" if record.commit else ""
    yield out.paint(to_one_line(f"{started}{by}{version}{commit}"), DIM)
    if record.argv:
        yield out.paint(to_one_line(shlex.join(("orch", *record.argv))), DIM)
    for each in record.resumed:
        by = f" by {each.user}" if each.user else ""
        yield out.paint(to_one_line(f"resumed {_local_time(each.time)}{by}"), DIM)
    if run.state in ("running", "killed"):
        yield out.paint("it is still running" if run.is_running else "orch was killed", BOLD)


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


HISTORY_COMMANDS: tuple[click.Command, ...] = (
    history_command,
    show_command,
    diff_command,
    search_command,
    report_command,
)
