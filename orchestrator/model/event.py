"""What happened, as it happens: the only thing that flows from the executor to the sinks.

Each ``…Started`` is followed by its ``…Finished``. ``time`` is seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from msgspec import Struct, field

from orchestrator.model.step_result import HostSummary, StepResult

CONNECT_INTERRUPTED = "interrupted while connecting"
"""The ``error`` of hosts that nobody wanted to be connected any more."""


class RunStarted(Struct, frozen=True):
    """A run begins. ``tasks`` are the names asked for, ``hosts`` all that take part; ``apps``:
    the hosts of each app, in a run for apps; ``within``: the runs that started this one."""

    time: float
    run: str
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    check: bool = False
    apps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: tuple[str, ...] = ()


class ConnectStarted(Struct, frozen=True):
    """A connection to a host is being made."""

    time: float
    host: str


class ConnectFinished(Struct, frozen=True):
    """A host is connected (``error`` empty) or cannot be: why, and what to do (``hint``)."""

    time: float
    host: str
    seconds: float
    error: str = ""
    hint: str = ""


class TaskStarted(Struct, frozen=True):
    """A task begins on these hosts: one wave of one lane."""

    time: float
    app: str | None
    task: str
    hosts: tuple[str, ...]
    steps: int


class TaskFinished(Struct, frozen=True):
    """Every host of the wave is through with the task, one way or another."""

    time: float
    app: str | None
    task: str
    seconds: float


class StepStarted(Struct, frozen=True):
    """The host said that it began this step. ``step`` counts from 1 within the task."""

    time: float
    app: str | None
    task: str
    step: int
    name: str
    host: str


class StepOutput(Struct, frozen=True):
    """Bytes that a step wrote, as they came. ``stream`` is stdout or stderr; task '' is noise
    from before the shell was ready."""

    time: float
    app: str | None
    task: str
    step: int
    host: str
    stream: str
    data: bytes


class StepFinished(Struct, frozen=True):
    """A step is over on a host. Steps that never began have no events."""

    time: float
    app: str | None
    task: str
    step: int
    name: str
    host: str
    outcome: StepResult


class HostFinished(Struct, frozen=True):
    """A host is through with one task. ``outcome.status`` is the worst of its steps'; ``last``:
    no further task is planned for the host (of this app) in this run."""

    time: float
    app: str | None
    task: str
    host: str
    outcome: StepResult
    last: bool = False


class Warned(Struct, frozen=True):
    """Something the user should know that stops nothing."""

    time: float
    text: str


class Crashed(Struct, frozen=True):
    """A bug in orch ended a host's part of a task: ``error`` says what, and where."""

    time: float
    app: str | None
    task: str
    host: str
    error: str
    traceback: str


class RunFinished(Struct, frozen=True):
    """The run is over; ``rows`` stand in the inventory's order, one per host and app."""

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
    | StepStarted
    | StepOutput
    | StepFinished
    | HostFinished
    | Warned
    | Crashed
    | RunFinished
)


class EventSink(Protocol):
    """A consumer of events. Called from one thread at a time, in the order things happened."""

    def __call__(self, event: RunEvent) -> None: ...

    def close(self) -> None:
        """Nothing more will come; also called when the run broke off."""
