"""The events that the executor emits for the sinks, in the order in which they happen.

Each ``…Started`` is followed by its ``…Finished``. ``time`` is seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from msgspec import Struct, field

from orchestrator.model.step_result import HostSummary, StepResult

CONNECT_INTERRUPTED = "interrupted while connecting"
"""The ``error`` of hosts whose connect was cancelled."""


class RunStarted(Struct, frozen=True):
    """A run starts.

    ``tasks`` are the requested names, ``hosts`` all participating hosts; ``apps``: the hosts of
    each app, in a run for apps; ``within``: the runs that started this one, outermost first.
    ``resumed``: the run goes on after an earlier end; ``redone_from`` are the numbers of the tasks
    from which an app ('' in a run without apps) repeats what it had done.
    """

    time: float
    run: str
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    check: bool = False
    apps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    resumed: bool = False
    redone_from: Mapping[str, int] = field(default_factory=dict)


class ConnectStarted(Struct, frozen=True):
    """A connection to a host is being opened."""

    time: float
    host: str


class ConnectFinished(Struct, frozen=True):
    """A host is connected (``error`` is empty), or cannot be: why, and what to do (``hint``)."""

    time: float
    host: str
    seconds: float
    error: str = ""
    hint: str = ""


class TaskStarted(Struct, frozen=True):
    """A planned task of an app starts on these hosts.

    It is the task ``number`` (from 1) of ``total`` of its app. For a rollback, ``number`` is that
    of the task that is rolled back, and ``total`` is 0; for a task that runs on a failure, both
    are 0. Other events of the task have the same number.
    """

    time: float
    app: str | None
    task: str
    hosts: tuple[str, ...]
    steps: int
    number: int = 0
    total: int = 0
    rollback: bool = False


class TaskFinished(Struct, frozen=True):
    """Every host has ended the task, with any status."""

    time: float
    app: str | None
    task: str
    seconds: float
    number: int = 0


class TaskSkipped(Struct, frozen=True):
    """The user chose not to run a planned task."""

    time: float
    app: str | None
    task: str
    number: int = 0


class BatchPaused(Struct, frozen=True):
    """An app waits ``seconds`` before the next batch, like ``2/3``, which starts with ``task``."""

    time: float
    app: str | None
    task: str
    batch: str
    seconds: float


class SentStep(Struct, frozen=True):
    """A step that is sent to a host.

    ``text`` is what a plan shows of it, ``content`` everything that makes it another step if it
    differs. ``readonly``: it changes nothing.
    """

    step: int
    text: str
    content: str
    readonly: bool = False


class StepsSent(Struct, frozen=True):
    """Steps are about to be sent, so each of them may begin from now on.

    ``target`` is the host that runs them: ``host``, or the one that they are delegated to.
    ``user`` is the become user or '', ``session`` the ID of the session, ``shell_pid`` the process
    ID of its shell on the host, 0 if it is not known yet.
    """

    time: float
    app: str | None
    task: str
    host: str
    target: str
    user: str
    session: str
    steps: tuple[SentStep, ...]
    number: int = 0
    shell_pid: int = 0


class StepStarted(Struct, frozen=True):
    """The host reported the start of this step. ``step`` counts from 1 within the task.

    ``shell_pid`` is the process ID of the session's shell, if it was not known before.
    """

    time: float
    app: str | None
    task: str
    step: int
    name: str
    host: str
    number: int = 0
    shell_pid: int = 0


class StepOutput(Struct, frozen=True):
    """Raw output of a step.

    ``stream`` is stdout or stderr. If ``task`` is empty, it is output from before the shell was
    ready. ``is_for_steps``: it is what a module returns, and a ``register`` keeps it for later
    steps.
    """

    time: float
    app: str | None
    task: str
    step: int
    host: str
    stream: str
    data: bytes
    is_for_steps: bool = False


class TransferProgress(Struct, frozen=True):
    """A step has sent or received ``done`` bytes of ``total`` within ``seconds``.

    It is emitted from time to time by a transfer that takes long. ``total`` is 0 if it is unknown.
    At the end of such a transfer, also of one that failed, both are equal.
    """

    time: float
    app: str | None
    task: str
    step: int
    host: str
    done: int
    total: int
    seconds: float


class StepFinished(Struct, frozen=True):
    """A step has ended on a host. Steps that never started have no events.

    ``loop`` is the number of the first step of the loop of which the step is an item, if the items
    are known before the run; else 0.
    ``register`` is the name under which later steps see its result, or ''. ``has_secret``: the
    output had a secret, which is masked. ``has_values``: the output are values that a module
    returned.
    """

    time: float
    app: str | None
    task: str
    step: int
    name: str
    host: str
    outcome: StepResult
    loop: int = 0
    number: int = 0
    register: str = ""
    has_secret: bool = False
    has_values: bool = False


class HostFinished(Struct, frozen=True):
    """A host has ended one task.

    ``outcome.status`` is the worst of its steps'. ``last``: no further task is planned for the host
    (of this app) in this run.
    """

    time: float
    app: str | None
    task: str
    host: str
    outcome: StepResult
    last: bool = False
    number: int = 0


class Warned(Struct, frozen=True):
    """A warning for the user; the run continues."""

    time: float
    text: str


class Noted(Struct, frozen=True):
    """A remark for those who want to see more; nothing is wrong."""

    time: float
    text: str


class Crashed(Struct, frozen=True):
    """A bug in orch ended a host's part of a task; ``error`` describes it, with its origin."""

    time: float
    app: str | None
    task: str
    host: str
    error: str
    traceback: str


class RunFinished(Struct, frozen=True):
    """The run has ended; ``rows`` are in the inventory's order, one per host and app."""

    time: float
    seconds: float
    exit_code: int
    rows: tuple[HostSummary, ...]
    log: str = ""


RunEvent: TypeAlias = (
    RunStarted
    | ConnectStarted
    | ConnectFinished
    | TaskStarted
    | TaskFinished
    | TaskSkipped
    | BatchPaused
    | StepsSent
    | StepStarted
    | StepOutput
    | TransferProgress
    | StepFinished
    | HostFinished
    | Warned
    | Noted
    | Crashed
    | RunFinished
)


class EventSink(Protocol):
    """A consumer of events, which are passed one at a time in the order in which they happen."""

    def __call__(self, event: RunEvent) -> None:
        """Handle one event."""

    def close(self) -> None:
        """Close the sink after the last event, also if the run was aborted."""
