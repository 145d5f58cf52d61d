"""What a run has done before it ended, so that it can be resumed: by app, task, host and step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import SentStep
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.plan import PlannedStep, ResumedAction

if TYPE_CHECKING:
    from orchestrator.planner.plan import AppPlan, PlannedTask

LOST_BEFORE = "it was running when the run ended, and is skipped"
"""The reason of a lost step that the user chose to skip."""
UNREPORTED = "it ended, but the run had ended before it heard of it"
"""The reason of a step that a later one of its pipeline followed on the host."""
HIDDEN_RESULT = "it was not stored, because it contains a secret"
LOST_RESULT = "its end was not received"
"""Why the output of a step is not known any more."""

ReplayObserver: TypeAlias = Callable[[PlannedStep, "ResumedAction | StepResult | None"], None]
"""Is called with a step that is not done again, and what it would do now (None: not known)."""


class LostStep(Struct, frozen=True):
    """A step that was running when the run ended, and whose end is not known.

    ``target`` is the host on which it ran. ``has_begun``: it is known to have begun.
    """

    app: str | None
    number: int
    task: str
    host: str
    step: SentStep
    target: str = ""
    has_begun: bool = True


class LostChoice(StrEnum):
    """What to do with lost steps; ``stop``: nothing, the run does not go on."""

    RERUN = "rerun"
    SKIP = "skip"
    STOP = "stop"


AskAboutLost: TypeAlias = "Callable[[Sequence[Sequence[LostStep]]], Sequence[LostChoice]]"
"""Decides what happens with each lost step, which is given with all hosts that lost it.

No choice is returned for what follows a choice to stop.
"""


class ReplayEndError(Exception):
    """The first step that has not been done yet is reached."""


class EndedStep(Struct, frozen=True):
    """A step that has ended without a failure, or with one that is ignored.

    ``missing_output`` says why its output is not known, or is ''. ``digest`` identifies its
    content, '' if nothing was sent.
    """

    name: str
    result: StepResult
    missing_output: str = ""
    digest: str = ""


class SentPipeline(Struct, frozen=True):
    """Steps that were sent to a host and did not end, in order; each may have begun.

    ``target``, ``user``, ``session`` and ``shell_pid`` are the session's. ``time`` is the last sign
    of it, in seconds since the epoch; ``is_cut``: its connection was found to be cut then.
    ``started_steps`` are the steps that are known to have begun.
    """

    target: str
    user: str
    session: str
    steps: tuple[SentStep, ...]
    time: float
    shell_pid: int = 0
    is_cut: bool = False
    started_steps: frozenset[int] = frozenset()


class EarlierHost(Struct):
    """What one task has done on one host.

    - ``ended``: the steps that ended, by number, in the order in which they did.
    - ``in_flight``: what was sent last and did not end, if anything.
    - ``lost``: the steps of it that began and whose end is not known; known after the host has
      been asked.
    - ``skipped_steps``: the lost steps that are not to be run again.
    - ``unreported_steps``: the steps of ``in_flight`` that ended, as the host says.
    - ``is_told``: the host told which step was running.
    - ``is_complete``: all steps of the task have ended.
    - ``failed_loops``: where steps failed: the loops of which they are items, or None for others.
    - ``after_failure``: the steps of ``ended`` that ended after such a failure (`always`), unless
      they are items of the same loop, which goes on.
    """

    ended: dict[int, EndedStep] = field(default_factory=dict)
    in_flight: SentPipeline | None = None
    lost: tuple[SentStep, ...] = ()
    skipped_steps: frozenset[int] = frozenset()
    unreported_steps: frozenset[int] = frozenset()
    is_told: bool = False
    is_complete: bool = False
    failed_loops: set[int | None] = field(default_factory=set)
    after_failure: set[int] = field(default_factory=set)

    def ended_step(self, step: PlannedStep, *, replays_only: bool = False) -> EndedStep | None:
        """Return how the step ended, or None if it has to be run.

        A step that changes nothing is run again if its output is not known, unless nothing is run.
        """
        ended = self.ended.get(step.number)
        is_missing = ended is not None and bool(ended.missing_output)
        return None if is_missing and step.readonly and not replays_only else ended

    def note_failure(self, loop: int | None) -> None:
        """Record that a step failed, an item of this loop, or of none."""
        self.failed_loops.add(loop)

    def note_end(self, number: int, ended: EndedStep, loop: int | None) -> None:
        """Record that a step ended well, an item of this loop, or of none."""
        if self.failed_loops and (loop is None or loop not in self.failed_loops):
            self.after_failure.add(number)
        self.ended[number] = ended

    def forget_ends_after_failures(self) -> None:
        """Forget the steps that ended after a failure: they belong to the end of that part."""
        for number in self.after_failure:
            self.ended.pop(number, None)
        self.after_failure.clear()
        self.failed_loops.clear()


class EarlierTask(Struct):
    """What one planned task has done: ``task`` is its name; ``is_skipped``: the user skipped it."""

    task: str
    hosts: dict[str, EarlierHost] = field(default_factory=dict)
    is_skipped: bool = False


class EarlierRun(Struct):
    """What a run has done before it is resumed: each task that was started, by app and number.

    ``unfinished_rollbacks`` are the tasks, hosts and pipelines of rollbacks that did not end; also,
    with '' as the task, of steps that were lost and whose task was then rolled back.
    ``redone_from``: see RunStarted. ``may_hold_locks``: it was killed, so its locks may be left.
    """

    tasks: dict[tuple[str | None, int], EarlierTask] = field(default_factory=dict)
    redone_from: dict[str, int] = field(default_factory=dict)
    unfinished_rollbacks: tuple[tuple[str | None, str, str, SentPipeline], ...] = ()
    may_hold_locks: bool = False

    def of_task(self, app: str | None, number: int) -> EarlierTask | None:
        """Return the progress of a planned task, or None if it was not started."""
        return self.tasks.get((app, number))

    def of_host(self, app: str | None, number: int, host: str) -> EarlierHost | None:
        """Return the progress of a planned task on a host, or None."""
        task = self.tasks.get((app, number))
        return task.hosts.get(host) if task else None

    def has_started_after(self, app: str | None, number: int) -> bool:
        """Return True if a task of the app after this one was started."""
        return any(each == app and later > number for each, later in self.tasks)

    def is_complete(self, app: str | None, number: int, task: PlannedTask) -> bool:
        """Return True if nothing of the planned task is left to do."""
        if task.is_commit or not task.hosts:
            return True
        progress = self.of_task(app, number)
        if progress is None:
            return False
        done = [
            host.host in progress.hosts and progress.hosts[host.host].is_complete
            for host in task.hosts
        ]
        return progress.is_skipped or (any(done) if task.any_host else all(done))

    def hosts_with_work(self, app_plan: AppPlan) -> set[str]:
        """Return the hosts on which something of the app's tasks is left to do."""
        found: set[str] = set()
        for number, task in enumerate(app_plan.planned_tasks, start=1):
            if self.is_complete(app_plan.app, number, task):
                continue
            progress = self.of_task(app_plan.app, number)
            for host in task.hosts:
                own = progress.hosts.get(host.host) if progress else None
                if own is None or not own.is_complete:
                    found.add(host.host)
        return found

    def in_flight(self) -> Iterator[tuple[str | None, int, str, EarlierHost]]:
        """Yield app, number, host and progress of each host with steps whose end is not known."""
        for (app, number), task in self.tasks.items():
            for host, progress in task.hosts.items():
                if progress.in_flight is not None:
                    yield app, number, host, progress

    def drop_from(self, app: str | None, number: int) -> None:
        """Forget what the app has done from this task on."""
        for key in [key for key in self.tasks if key[0] == app and key[1] >= number]:
            del self.tasks[key]


def split_steps(
    pipeline: SentPipeline, note: tuple[int, int] | None
) -> tuple[tuple[SentStep, ...], tuple[SentStep, ...]]:
    """Return the steps of the pipeline that ended, and those whose end is not known.

    ``note`` is the host's: the last step that began and the last one that ended; 0 stands for none.
    A step that another one followed has not failed. Without a note, each of them may have begun.
    """
    if note is None:
        return (), pipeline.steps
    began, _ = note
    numbers = [step.step for step in pipeline.steps]
    if began not in numbers:
        return (), ()
    last = numbers.index(began)
    return pipeline.steps[:last], pipeline.steps[last : last + 1]


def ends_well(result: StepResult) -> bool:
    """Return True if the step need not be run again."""
    return not result.status.is_failure or result.ignored


def is_lost(result: StepResult) -> bool:
    """Return True if it is not known how far the step came."""
    return result.status in (Status.LOST, Status.CANCELLED)
