"""Prepares a run to go on: what has changed since, and what was running when it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool
from orchestrator.executor.host_runner import HostTaskRunner, StepAction
from orchestrator.executor.host_state import HostState, results_of_all_hosts
from orchestrator.executor.parallel import run_for_each
from orchestrator.executor.progress import (
    AskAboutLost,
    EarlierHost,
    EarlierRun,
    LostChoice,
    LostStep,
    ReplayEndError,
    SentPipeline,
    split_steps,
)
from orchestrator.executor.remote_query import run_remote_query
from orchestrator.executor.step_recorder import sent_step
from orchestrator.model.command import StepCommand
from orchestrator.model.event import RunEvent, SentStep
from orchestrator.model.host import Host
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.plan import AppPlan, HostPlan, Plan, PlannedStep, PlannedTask
from orchestrator.remote_shell import SessionLostError
from orchestrator.remote_shell.bootstrap import ended_note_script, remove_note_script
from orchestrator.remote_shell.channel_protocol import Connection

_END_SECONDS = 70
"""How long a session of a host can outlive its connection: its lease, and the end of a step."""


_NOT_PLANNED = "it is not planned any more"


class ChangedStep(Struct, frozen=True):
    """A step that a run has done, and that would be another one now.

    ``step`` is its number, 0 for the whole task; ``reason`` says what differs. ``before`` is the
    digest of the text that was sent, or ''; ``after`` is what would be sent now, or None. ``mark``
    is where the step is written now.
    """

    app: str | None
    number: int
    task: str
    host: str = ""
    step: int = 0
    name: str = ""
    reason: str = ""
    before: str = ""
    after: SentStep | None = None
    mark: SourcePosition | None = None


def find_changed_steps(
    plan: Plan,
    hosts: Mapping[str, Host],
    progress: EarlierRun,
    digest_of: Callable[[SentStep], str],
) -> tuple[ChangedStep, ...]:
    """Return the steps that have been done and that the plan has otherwise, of each app.

    Only those of an app's first task with such steps are returned. Nothing is contacted. What is
    complete is marked so in ``progress``.
    """
    return tuple(
        changed
        for app_plan in plan.app_plans
        for changed in _ReplayedApp(app_plan, plan, hosts, progress).changes(digest_of)
    )


class _ReplayedApp:
    """Replays what the tasks of one app have done."""

    def __init__(
        self, app_plan: AppPlan, plan: Plan, hosts: Mapping[str, Host], progress: EarlierRun
    ) -> None:
        self._app_plan, self._progress = app_plan, progress
        self._states = {name: HostState(hosts[name], app_plan.app) for name in plan.hosts}
        self._connections = ConnectionPool(hosts, _refuse_connection, _drop_event, CancelToken())

    def changes(self, digest_of: Callable[[SentStep], str]) -> list[ChangedStep]:
        """Return the changed steps of the first task that has some."""
        for number, task in enumerate(self._app_plan.planned_tasks, start=1):
            progress = self._progress.of_task(self._app_plan.app, number)
            if progress is None or progress.is_skipped:
                continue
            if progress.task != task.task:
                return [self._changed(number, task, "", f"it was '{progress.task}' before")]
            planned = {host.host: host for host in task.hosts}
            gone = [name for name in progress.hosts if name not in planned]
            if gone:
                return [self._changed(number, task, name, _NOT_PLANNED) for name in gone]
            others = results_of_all_hosts(self._states)
            found: list[ChangedStep] = []
            for name, own in progress.hosts.items():
                self._states[name].registered_names.clear()
                self._states[name].results.update(others)
                found += self._replay(number, task, planned[name], own, digest_of)
            if found:
                return found
            if task.once:
                self._share_results(progress.hosts)
        last = len(self._app_plan.planned_tasks)
        return [
            ChangedStep(app, number, each.task, reason=_NOT_PLANNED)
            for (app, number), each in self._progress.tasks.items()
            if app == self._app_plan.app and number > last
        ][:1]

    def _share_results(self, names: Iterable[str]) -> None:
        for name in names:
            for state in self._states.values():
                self._states[name].share_with(state)

    def _changed(self, number: int, task: PlannedTask, host: str, reason: str) -> ChangedStep:
        return ChangedStep(self._app_plan.app, number, task.task, host, reason=reason)

    def _replay(
        self,
        number: int,
        task: PlannedTask,
        host_plan: HostPlan,
        progress: EarlierHost,
        digest_of: Callable[[SentStep], str],
    ) -> list[ChangedStep]:
        """Replay one task on one host; mark it as complete if it is."""
        found: list[ChangedStep] = []
        visited: set[int] = set()

        def observe(step: PlannedStep, action: StepAction | None) -> None:
            visited.add(step.number)
            reason = _difference(progress, step, action, digest_of)
            if reason:
                changed = self._changed(number, task, host_plan.host, reason)
                found.append(
                    replace(
                        changed,
                        step=step.number,
                        name=step.name,
                        before=progress.ended[step.number].digest,
                        after=sent_step(step, action) if isinstance(action, StepCommand) else None,
                        mark=step.mark,
                    )
                )

        state = self._states[host_plan.host]
        runner = HostTaskRunner(
            self._connections,
            state,
            task.task,
            _drop_event,
            number=number,
            progress=progress,
            on_replay=observe,
        )
        try:
            progress.is_complete = runner.run(host_plan.program)
        except ReplayEndError:
            return found
        if not progress.is_complete:
            return found
        gone = self._changed(number, task, host_plan.host, _NOT_PLANNED)
        found += [
            replace(gone, step=step, name=ended.name, before=ended.digest)
            for step, ended in progress.ended.items()
            if step not in visited
        ]
        return found


def _difference(
    progress: EarlierHost,
    step: PlannedStep,
    action: StepAction | None,
    digest_of: Callable[[SentStep], str],
) -> str:
    """Return what differs between the step as it was done and as it is planned now, or ''."""
    ended = progress.ended[step.number]
    was_skipped = ended.result.status is Status.SKIPPED and not ended.digest
    if isinstance(action, StepCommand):
        if was_skipped:
            return "it was skipped"
        if ended.digest and digest_of(sent_step(step, action)) != ended.digest:
            return "its text has changed"
        return ""
    if isinstance(action, str) and ended.digest:
        return f"it is skipped now ({action})"
    if isinstance(action, StepResult) and ended.digest:
        return action.reason or "it is not run now"
    return ""


def _refuse_connection(_host: Host) -> Connection:
    raise ReplayEndError


def _drop_event(_event: RunEvent) -> None:
    """Drop the events of steps that are not run."""


def settle_lost_steps(
    connections: ConnectionPool, progress: EarlierRun, forks: int, ask: AskAboutLost
) -> bool:
    """Find out which steps were lost, and ask what to do with them; return False to stop.

    The hosts are asked how far they came, and first given time to end what was running. A step
    that changes nothing is run again without a question.
    """
    waiting = [
        *progress.in_flight(),
        *(
            (app, 0, host, EarlierHost(in_flight=pipeline))
            for app, _, host, pipeline in progress.unfinished_rollbacks
        ),
    ]
    with ThreadPoolExecutor(max(1, min(forks, len(waiting)))) as pool:
        run_for_each(pool, partial(_ask_host, connections), waiting)
        if connections.cancel.is_cancelled:
            return False
        lost = [steps for steps in _lost_by_step(progress) if not steps[0].step.readonly]
        choices = ask(lost) if lost else ()
        if LostChoice.STOP in choices:
            return False
        for steps, choice in zip(lost, choices, strict=True):
            for each in steps if choice is LostChoice.SKIP else ():
                host = progress.of_host(each.app, each.number, each.host)
                if host is not None:
                    host.skipped_steps |= {each.step.step}
        run_for_each(pool, partial(_remove_note, connections), waiting)
    return True


_Waiting = tuple[str | None, int, str, EarlierHost]


def _ask_host(connections: ConnectionPool, waiting: _Waiting) -> None:
    """Set what was lost on a host; all that was sent, if the host does not tell."""
    progress = waiting[3]
    pipeline = progress.in_flight
    if pipeline is not None:
        session_owner = _session_owner(waiting)
        note = _read_note(connections, pipeline, session_owner)
        ended, progress.lost = split_steps(pipeline, note)
        progress.is_told = note is not None
        progress.unreported_steps = frozenset(step.step for step in ended if not step.readonly)


def _session_owner(waiting: _Waiting) -> str | None:
    """Return the key by which the session is found that ran the steps."""
    app, _, host, progress = waiting
    delegated = progress.in_flight is not None and progress.in_flight.target != host
    return f"{app or ''} delegated" if delegated else app


def _read_note(
    connections: ConnectionPool, pipeline: SentPipeline, session_owner: str | None
) -> tuple[int, int] | None:
    """Return the last step that began and the last one that ended (0: none), if it is known."""
    # when orch was killed, is not recorded
    left = pipeline.time + _END_SECONDS - time.time() if pipeline.is_cut else _END_SECONDS
    wait = max(0, min(math.ceil(left), _END_SECONDS))
    script = ended_note_script(pipeline.session, pipeline.shell_pid, wait)
    try:
        session = connections.session(pipeline.target, session_owner, pipeline.user)
        answer = run_remote_query(session, script, timeout=wait + 30.0)
    except (ConnectError, SessionLostError):
        return None
    words = answer.stdout.split()
    if answer.exit_status != 0 or len(words) != 2:
        return None
    began, ended = (int(word) if word.isdecimal() and len(word) < 18 else 0 for word in words)
    return began, ended


def _remove_note(connections: ConnectionPool, waiting: _Waiting) -> None:
    pipeline = waiting[3].in_flight
    if pipeline is None:
        return
    try:
        session = connections.session(pipeline.target, _session_owner(waiting), pipeline.user)
        run_remote_query(session, remove_note_script(pipeline.session))
    except (ConnectError, SessionLostError):
        return  # the note stays; the host removes it a month later


def _lost_by_step(progress: EarlierRun) -> Iterable[list[LostStep]]:
    """Return the lost steps, those of different hosts together if they are the same."""
    found: dict[tuple[object, ...], list[LostStep]] = {}
    for (app, number), task in progress.tasks.items():
        for host, own in task.hosts.items():
            for step in own.lost:
                if step.step in own.skipped_steps:
                    continue
                pipeline = own.in_flight
                has_begun = pipeline is None or step.step in pipeline.started_steps or own.is_told
                target = pipeline.target if pipeline else host
                key = (app, number, step.step, step.content, target != host, has_begun)
                lost = LostStep(
                    app, number, task.task, host=host, step=step, target=target, has_begun=has_begun
                )
                found.setdefault(key, []).append(lost)
    return found.values()
