"""Writes reports of recorded runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from orchestrator.commands.file_writer import write_output
from orchestrator.errors import Diagnostic, OrchError, UsageError
from orchestrator.journal.host_log import heading_text
from orchestrator.journal.run_reader import RecordedRun, find_run, read_events
from orchestrator.model.event import RunEvent, StepFinished, StepsSent
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.sanitize import to_one_line
from orchestrator.output.ci_log import job_summary_file
from orchestrator.output.console import YELLOW, open_console
from orchestrator.output.report_html import RunInfo, html_report
from orchestrator.output.report_junit import junit_report
from orchestrator.output.report_markdown import markdown_report

REPORTS: Mapping[str, Callable[[Sequence[RunEvent], RunInfo], str]] = {
    "html": html_report,
    "junit": lambda events, _: junit_report(events),
    "markdown": lambda events, _: markdown_report(events),
}
"""The kinds of reports, with the functions that make them."""
_MAX_OUTPUT_BYTES, _MAX_BYTES = 90_000, 50_000_000
"""The size of one output in reports, and of all outputs if no output is shorter than 2000 bytes."""
MAX_SUMMARY_BYTES = 1024 * 1024
"""The size of a step's summary that GitHub accepts.

Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""


def parse_reports(texts: Sequence[str]) -> dict[str, str]:
    """Return the files of reports, by their kind, of words like ``junit=FILE,markdown=FILE``.

    Raises UsageError, also if a file cannot be written because its folder is missing.
    """
    found: dict[str, str] = {}
    for text in (part for each in texts for part in each.split(",")):
        kind, equals, file = text.partition("=")
        if not equals or not file or kind not in REPORTS:
            hint = f"write KIND=FILE; the kinds are {', '.join(REPORTS)}"
            raise UsageError(Diagnostic(f"invalid report '{text}'", None, hint))
        if file != "-" and (Path(file).is_dir() or not Path(file).parent.is_dir()):
            raise _unwritable(file, "it is a folder, or its folder does not exist")
        found[kind] = file
    return found


def _unwritable(file: str, why: str) -> UsageError:
    message = f"the report {file} cannot be written: {why}"
    return UsageError(Diagnostic(message, None, "name a file in a folder that exists"))


_MAX_PLAN_CHARS = 200_000


def write_reports(
    run: RecordedRun, files: Mapping[str, str], stdout: TextIO, environ: Mapping[str, str]
) -> None:
    """Write reports to files by their kind; ``-`` is stdout. A file is replaced as a whole.

    Raises UsageError if a file cannot be written.
    """
    events = list(read_events(run, outputs=False))
    if files.keys() - {"markdown"}:
        steps = sum(isinstance(event, StepFinished) for event in events)
        limit = min(_MAX_OUTPUT_BYTES, max(2_000, _MAX_BYTES // max(1, steps)))
        events = list(read_events(run, max_bytes=limit))
    info = _run_info(run)
    for kind, file in files.items():
        text = REPORTS[kind](events, info)
        if file == "-":
            open_console(stdout, environ).write(text)
            continue
        write_output(Path(file), text.encode("utf-8", "backslashreplace"))


def append_job_summary(root: Path, environ: Mapping[str, str], run: str, stderr: TextIO) -> None:
    """Append the run as Markdown to the summary of a job of GitHub Actions.

    If that is not possible, a warning is printed: the run has its result.
    """
    file = Path(job_summary_file(environ))
    try:
        size = file.stat().st_size if file.exists() else 0
        events = read_events(find_run(root, environ, run), outputs=False)
        text = shorten_summary(markdown_report(events), MAX_SUMMARY_BYTES - size)
        with file.open("a", encoding="utf-8", errors="backslashreplace") as summary:
            summary.write(text)
        return
    except OrchError as error:
        why = error.diagnostics[0].message
    except OSError as error:
        why = error.strerror or str(error)
    out = open_console(stderr, environ)
    out.lines(
        [out.paint(f"warning: the job has no summary of the run: {to_one_line(why)}", YELLOW)]
    )


def shorten_summary(text: str, limit: int) -> str:
    """Return Markdown of at most ``limit`` bytes, cut between lines with a note, or ''."""
    if len(text.encode("utf-8", "backslashreplace")) <= limit:
        return text
    note = "\n_The summary is too long and was cut: `orch report` has all of it._\n"
    kept, size = "", len(note)
    for line in text.splitlines(keepends=True):
        size += len(line.encode("utf-8", "backslashreplace"))
        if size > limit:
            break
        kept += line
    return kept + note if kept else ""


def _run_info(run: RecordedRun) -> RunInfo:
    record = run.record
    return RunInfo(
        state=run.state,
        user=record.user,
        version=record.version,
        commit=record.commit,
        is_dirty=record.is_dirty,
        argv=record.argv,
        plan=plan_text(run),
    )


def plan_text(run: RecordedRun) -> str:
    """Return the texts of the steps that were sent to the hosts, the same of several hosts once.

    It is cut after ``_MAX_PLAN_CHARS``.
    """
    hosts: dict[tuple[str, str], list[str]] = {}
    for event in read_events(run, outputs=False):
        if not isinstance(event, StepsSent):
            continue
        for step in event.steps:
            heading = heading_text(event.task, event.app, step.step, "")
            names = hosts.setdefault((heading, step.text), [])
            if event.host not in names[-1:]:
                names.append(event.host)
    parts, size = [], 0
    for (heading, text), names in hosts.items():
        lines = "".join(f"  {line}\n" for line in text.splitlines())
        part = f"{heading}, on {fold_hostnames(names)}\n{lines}\n"
        size += len(part)
        if size > _MAX_PLAN_CHARS:
            parts.append("[… the rest was left out]\n")
            break
        parts.append(part)
    return "".join(parts)
