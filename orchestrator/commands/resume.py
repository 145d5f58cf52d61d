"""Resumes a run: what it has done, whether that still holds, and what was running when it ended."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import ProjectContext
from orchestrator.commands.signals import handle_interrupts
from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, UsageError
from orchestrator.executor import controller_host
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool
from orchestrator.executor.progress import (
    HIDDEN_RESULT,
    LOST_BEFORE,
    LOST_RESULT,
    UNREPORTED,
    AskAboutLost,
    EarlierHost,
    EarlierRun,
    EarlierTask,
    EndedStep,
    LostChoice,
    SentPipeline,
    ends_well,
)
from orchestrator.executor.resume import ChangedStep, find_changed_steps, settle_lost_steps
from orchestrator.journal.journal import text_digest
from orchestrator.journal.run_dirs import read_raw_record
from orchestrator.journal.run_lock import EVENTS_FILE, lock_run
from orchestrator.journal.run_reader import (
    RecordedRun,
    ResultKey,
    StoredResult,
    find_run,
    read_events,
    read_results,
    recorded_runs,
)
from orchestrator.model.event import (
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepsSent,
    StepStarted,
    TaskSkipped,
    TaskStarted,
)
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_number import MAX_LOOP_STEPS, number_label, number_parts
from orchestrator.model.step_result import CapturedOutput, Status, StepResult
from orchestrator.planner.plan import Plan
from orchestrator.transports.registry import TransportRegistry
from orchestrator.yamlio.local_files import display_path

_MASKED_WORD = lazy_regex(r"‹[^›]*›")
_UNTOUCHED = (Status.NOT_STARTED.value, Status.UNREACHABLE.value)
_LIST = "`orch history` lists the runs"
_MAX_SHOWN = 5  # changed steps that an error shows
_MAX_DIFF_LINES = 12


class ResumeRequest(Struct, frozen=True):
    """A run that is to be resumed, and the answers given on the command line.

    ``events`` is the file descriptor of its events, which marks it as running. ``lost`` is what to
    do with lost steps, None to ask; ``accept_changes``: go on from the first changed task.
    """

    run: RecordedRun
    events: int
    lost: LostChoice | None = None
    accept_changes: bool = False


def find_resumable_run(
    root: Path, environ: Mapping[str, str], name: str, stage: str
) -> RecordedRun:
    """Return the run of this name; ``last`` is the last one, on the stage if any, of tasks.

    Raises UsageError if there is none, or it is on another stage.
    """
    if name == "last":
        runs = list(recorded_runs(root, environ))
        for run in runs:
            if run.record.is_resumable and stage in ("", run.record.stage):
                return run
        if stage or not runs:
            on = f" on stage '{stage}'" if stage else ""
            raise UsageError(Diagnostic(f"no run that can be resumed is recorded{on}", None, _LIST))
    run = find_run(root, environ, name)
    if stage not in ("", run.record.stage):
        message = f"run {run.run} was on stage '{run.record.stage}', not on '{stage}'"
        raise UsageError(Diagnostic(message, None, "drop -s, or name another run"))
    return run


def open_resumable_run(run: RecordedRun) -> int:
    """Mark the run as running, and return the file descriptor of its events.

    Raises UsageError if it is running already, or cannot be resumed.
    """
    record = run.record
    again = "run the command line again"
    if not read_raw_record(run.folder):
        message = f"run {run.run} cannot be resumed: its run.json is missing or damaged"
        raise UsageError(Diagnostic(message, SourcePosition(display_path(run.folder)), again))
    if record.check:
        raise UsageError(
            Diagnostic(f"run {run.run} was a check, which changes nothing", None, again)
        )
    if not record.is_resumable:
        what = " ".join(record.tasks) or "its command"
        message = f"run {run.run} ({what}) cannot be resumed"
        hint = "runs of `orch run` can be resumed, and of `orch exec` without --stdin"
        raise UsageError(Diagnostic(message, None, hint))
    masked = [word for word in record.argv if _MASKED_WORD.search(word)]
    if masked:
        message = f"run {run.run} was started with a secret on its command line: {masked[0]}"
        raise UsageError(Diagnostic(message, None, f"it is not stored; {again}"))
    return lock_run(run.run, run.folder)


class RunRecordReader:
    """Reads what a run has done from its events."""

    def __init__(self, run: RecordedRun) -> None:
        """Start with nothing done."""
        self.progress = EarlierRun(may_hold_locks=run.record.rows is None)
        self.texts: dict[str, str] = {}
        self._run = run
        self._results: Mapping[ResultKey, StoredResult] = {}
        self._rollbacks: set[tuple[str | None, str]] = set()
        self._side: dict[tuple[str | None, str, str], EarlierHost] = {}

    def read(self) -> EarlierRun:
        """Return what the run has done; ``texts`` then has the texts that it sent, by digest.

        Raises UsageError if the record of its events is missing.
        """
        self._results = read_results(self._run.folder)
        has_begun = False
        for event in read_events(self._run, outputs=False):
            if isinstance(event, RunFinished):
                break
            has_begun = has_begun or isinstance(event, RunStarted)
            self._add(event)
        if not has_begun:
            run = self._run
            message = f"run {run.run} cannot be resumed: what it did is not recorded any more"
            position = SourcePosition(display_path(run.folder / EVENTS_FILE))
            raise UsageError(Diagnostic(message, position, "start a new run"))
        self._cut_after_failures()
        for task in self.progress.tasks.values():
            in_order = (name for name in self._run.record.hosts if name in task.hosts)
            task.hosts = {name: task.hosts[name] for name in in_order}
        self.progress.unfinished_rollbacks = tuple(
            (app, task, host, own.in_flight)
            for (app, task, host), own in self._side.items()
            if own.in_flight is not None
        )
        return self.progress

    def _add(self, event: RunEvent) -> None:
        match event:
            case RunStarted(resumed=True):
                self._begin_again(event)
            case TaskStarted(rollback=True):
                self._rollbacks.add((event.app, event.task))
            case TaskStarted() if event.number:
                key = (event.app, event.number)
                self.progress.tasks.setdefault(key, EarlierTask(event.task)).is_skipped = False
            case TaskSkipped():
                skipped = EarlierTask(event.task, is_skipped=True)
                self.progress.tasks[event.app, event.number] = skipped
            case StepsSent():
                self._add_sent_steps(event)
            case StepStarted():
                own = self._host(event)
                if own.in_flight is not None:
                    pid = event.shell_pid or own.in_flight.shell_pid
                    started = own.in_flight.started_steps | {event.step}
                    own.in_flight = replace(own.in_flight, shell_pid=pid, started_steps=started)
            case StepFinished():
                self._undo_task(event)
                self._add_ended_step(event)
            case HostFinished() if event.outcome.status is not Status.LOST:
                self._host(event).in_flight = None

    def _add_sent_steps(self, event: StepsSent) -> None:
        if not event.number:
            return  # of a task that runs on a failure
        self._undo_task(event)
        self.texts |= {step.content: step.text for step in event.steps}
        own = self._host(event)
        own.lost = ()
        own.in_flight = SentPipeline(
            target=event.target,
            user=event.user,
            session=event.session,
            steps=event.steps,
            time=event.time,
            shell_pid=event.shell_pid,
        )

    def _undo_task(self, event: StepsSent | StepFinished) -> None:
        """Forget what a task did on the host, if the event is of its rollback."""
        task = self.progress.of_task(event.app, event.number)
        if task is None or (event.app, event.task) not in self._rollbacks:
            return
        undone = task.hosts.pop(event.host, None)
        if undone is not None and undone.in_flight is not None:
            self._side[event.app, "", event.host] = undone

    def _begin_again(self, event: RunStarted) -> None:
        self._cut_after_failures()
        self._side.clear()
        for app, number in event.redone_from.items():
            self.progress.drop_from(app or None, number)

    def _host(self, event: StepsSent | StepStarted | StepFinished | HostFinished) -> EarlierHost:
        """Return the progress of the event's task on its host, of a rollback or hook apart."""
        if not event.number or (event.app, event.task) in self._rollbacks:
            return self._side.setdefault((event.app, event.task, event.host), EarlierHost())
        key = (event.app, event.number)
        task = self.progress.tasks.setdefault(key, EarlierTask(event.task))
        return task.hosts.setdefault(event.host, EarlierHost())

    def _add_ended_step(self, event: StepFinished) -> None:
        own, outcome = self._host(event), event.outcome
        pipeline = own.in_flight
        sent = next((s for s in pipeline.steps if s.step == event.step), None) if pipeline else None
        if not ends_well(outcome):
            if event.step not in own.ended:
                own.note_failure(_loop_of(event))
            if outcome.status is Status.LOST:
                own.in_flight = pipeline and replace(pipeline, time=event.time, is_cut=True)
                return
            own.in_flight = None
            if outcome.status is Status.CANCELLED and sent is not None:
                own.lost = (sent,)
            return
        own.lost = ()
        if pipeline is not None:
            left = tuple(step for step in pipeline.steps if step.step != event.step)
            own.in_flight = replace(pipeline, steps=left) if left else None
        digest = sent.content if sent else ""
        own.note_end(event.step, self._ended_step(event, digest), _loop_of(event))

    def _ended_step(self, event: StepFinished, digest: str) -> EndedStep:
        if not event.register:
            return EndedStep(event.name, event.outcome, digest=digest)
        if event.outcome.reason in (LOST_BEFORE, UNREPORTED):
            return EndedStep(event.name, event.outcome, LOST_RESULT, digest)
        stored = self._results.get((event.app, event.number, event.host, event.step))
        if stored is None or stored.has_secret:
            missing = HIDDEN_RESULT if stored else "it was not stored"
            return EndedStep(event.name, event.outcome, missing, digest)
        result = _with_output(event.outcome, stored)
        return EndedStep(event.name, result, digest=digest)

    def _cut_after_failures(self) -> None:
        """Forget the steps that ran after a failure (`always`)."""
        for task in self.progress.tasks.values():
            for own in task.hosts.values():
                own.forget_ends_after_failures()


def _loop_of(event: StepFinished) -> int | None:
    """Return what identifies the loop of which the step is an item, or None."""
    return event.loop or (number_parts(event.step)[0] if event.step >= MAX_LOOP_STEPS else None)


def _with_output(outcome: StepResult, stored: StoredResult) -> StepResult:
    streams = (CapturedOutput(*stream) for stream in (stored.stdout, stored.stderr))
    stdout, stderr = streams
    return replace(outcome, stdout=stdout, stderr=stderr)


def check_changes(
    plan: Plan,
    context: ProjectContext,
    request: ResumeRequest,
    reader: RunRecordReader,
) -> None:
    """Compare what the run has done with the plan, and mark what is complete.

    Raises DefinitionError with what differs; if the request accepts it, what the run has done from
    the first task with a difference on does not count.
    """
    mask = context.secrets.masker.mask_text
    progress = reader.progress
    changed = find_changed_steps(
        plan, context.stage.hosts, progress, lambda step: text_digest(mask(step.content))
    )
    if not changed:
        return
    if not request.accept_changes:
        raise _changes_error(request.run.run, changed, reader.texts, mask)
    for each in changed:
        app = each.app or ""
        number = min(each.number, progress.redone_from.get(app, each.number))
        progress.redone_from[app] = number
    for app, number in progress.redone_from.items():
        progress.drop_from(app or None, number)


def _changes_error(
    run: str, changed: Sequence[ChangedStep], texts: Mapping[str, str], mask: Callable[[str], str]
) -> DefinitionError:
    by_step: dict[tuple[object, ...], list[ChangedStep]] = {}
    for each in changed:
        key = (each.app, each.number, each.step, each.reason, each.before, each.after)
        by_step.setdefault(key, []).append(each)
    first = min(changed, key=lambda each: each.number)
    hint = f"--accept-changes goes on from task {first.number}, '{first.task}', and does it again"
    diagnostics = []
    for group in list(by_step.values())[:_MAX_SHOWN]:
        each = group[0]
        hosts = fold_hostnames(each.host for each in group if each.host)
        on = f" on {hosts}" if hosts else ""
        app = f"{each.app}: " if each.app else ""
        what = f"step {number_label(each.step)} '{each.name}' of " if each.step else ""
        differing = list(_text_diff(texts.get(each.before, ""), each, mask))
        reason = "" if differing else f": {each.reason}"
        message = f"{app}{what}{each.task}{on} has changed since run {run}{reason}"
        lines = [message, *differing]
        diagnostics.append(Diagnostic("\n".join(lines), each.mark, hint))
    if len(by_step) > _MAX_SHOWN:
        diagnostics.append(Diagnostic(f"{len(by_step) - _MAX_SHOWN} more steps have changed"))
    return DefinitionError(*diagnostics)


def _text_diff(before: str, changed: ChangedStep, mask: Callable[[str], str]) -> Iterator[str]:
    """Yield the differing lines of the step's text, or that only its contents differ."""
    if changed.after is None:
        return
    after = mask(changed.after.text)
    if before == after:
        yield "  the content of a file, or an option, differs"
        return
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    shown = [line for line in lines if not line.startswith(("---", "+++"))]
    yield from (f"  {to_one_line(line)}" for line in shown[:_MAX_DIFF_LINES])
    if len(shown) > _MAX_DIFF_LINES:
        yield f"  … {len(shown) - _MAX_DIFF_LINES} more lines"


def is_complete(plan: Plan, progress: EarlierRun) -> bool:
    """Return True if nothing of the plan is left to do, and no lock may be left."""
    return not any(
        progress.hosts_with_work(app_plan) or (progress.may_hold_locks and app_plan.lock_paths)
        for app_plan in plan.app_plans
    )


def later_runs(
    root: Path, environ: Mapping[str, str], run: RecordedRun
) -> Iterator[tuple[RecordedRun, tuple[str, ...]]]:
    """Yield the later runs that may have changed the same hosts or apps, with these hosts."""
    for each in recorded_runs(root, environ):
        if each.record.started <= run.record.started or each.run == run.run:
            return
        if each.record.check or each.record.changes is False:
            continue
        if run.record.apps and each.record.apps and not run.record.apps.keys() & each.record.apps:
            continue
        untouched = {row.host for row in each.record.rows or () if row.status in _UNTOUCHED}
        hosts = tuple(
            host for host in each.record.hosts if host in run.record.hosts and host not in untouched
        )
        if hosts and each.record.stage == run.record.stage:
            yield each, hosts


def settle(
    context: ProjectContext,
    progress: EarlierRun,
    transports: TransportRegistry,
    forks: int,
    ask: AskAboutLost,
) -> bool:
    """Find out on the hosts what was lost, and ask what to do with it; return False to stop.

    Nothing is contacted if nothing was running when the run ended.
    """
    if not (progress.unfinished_rollbacks or any(_has_lost(progress))):
        return True
    cancel = CancelToken()
    controller = controller_host()
    hosts = {**context.stage.hosts, controller.name: controller}
    connections = ConnectionPool(hosts, transports.connect, lambda _: None, cancel)

    def stop() -> None:
        transports.reset(cancel.cancel)

    with handle_interrupts(stop, lambda _: None, lambda: None):
        try:
            return settle_lost_steps(connections, progress, forks, ask)
        finally:
            for name in connections.connected_hosts():
                connections.release(name)


def _has_lost(progress: EarlierRun) -> Iterator[bool]:
    for task in progress.tasks.values():
        for own in task.hosts.values():
            yield own.in_flight is not None or bool(own.lost)
