"""Messages between the coordinator of a run and its workers, each of which drives some hosts.

The coordinator calls a worker for one host at a time, and a worker asks the coordinator. Both send
in order, so a worker's events of a call arrive before its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from orchestrator.errors import Diagnostic
from orchestrator.executor.host_state import CheckSkippedStep, HostState
from orchestrator.model.event import RunEvent
from orchestrator.model.step_result import Status
from orchestrator.planner.host_scope import OTHER_HOSTS_RESULTS

_MISSING = object()


class HostStateCopy(Struct, frozen=True):
    """The state of a host as it travels; ``results`` are those that the other side lacks."""

    status: Status | None = None
    reason: str = ""
    hint: str = ""
    stderr: str = ""
    seconds: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    registered_names: frozenset[str] = frozenset()
    skipped_by_check: tuple[CheckSkippedStep, ...] = ()
    notified_keys: frozenset[str] = frozenset()
    uncertain_keys: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)


def copy_host_state(host_state: HostState, known_results: dict[str, object]) -> HostStateCopy:
    """Return a copy with the results that differ from ``known_results``, which then has them."""
    changed = {
        name: value
        for name, value in host_state.results.items()
        if known_results.get(name, _MISSING) is not value and name != OTHER_HOSTS_RESULTS
    }
    known_results.update(changed)
    return HostStateCopy(
        status=host_state.status,
        reason=host_state.reason,
        hint=host_state.hint,
        stderr=host_state.stderr,
        seconds=host_state.seconds,
        counts=dict(host_state.counts),
        registered_names=frozenset(host_state.registered_names),
        skipped_by_check=tuple(host_state.skipped_by_check),
        notified_keys=frozenset(host_state.notified_keys),
        uncertain_keys=dict(host_state.uncertain_keys),
        results=changed,
    )


def update_host_state(
    host_state: HostState, copied: HostStateCopy, known_results: dict[str, object]
) -> None:
    """Put what the copy says into the state, and its results into ``known_results`` as well."""
    host_state.status, host_state.reason = copied.status, copied.reason
    host_state.hint, host_state.stderr = copied.hint, copied.stderr
    host_state.seconds = copied.seconds
    host_state.counts = dict(copied.counts)
    host_state.registered_names = set(copied.registered_names)
    host_state.skipped_by_check = list(copied.skipped_by_check)
    host_state.notified_keys = set(copied.notified_keys)
    host_state.uncertain_keys = dict(copied.uncertain_keys)
    host_state.results.update(copied.results)
    known_results.update(copied.results)


class HostCall(Struct, frozen=True):
    """The coordinator's request to do something for a host of the app with this index.

    ``operation`` is connect, connect_delegate, run_task, run_side_program, take_lock, release_lock,
    free_lock or release; ``state`` is that of the host, if the operation needs it.
    """

    number: int
    app: int
    operation: str
    host: str
    state: HostStateCopy | None = None
    arguments: tuple[Any, ...] = ()


class CallEnded(Struct, frozen=True):
    """A call has ended: the host's new state, and what else it returns."""

    number: int
    state: HostStateCopy | None = None
    value: Any = None


class WorkerQuestion(Struct, frozen=True):
    """A worker's question to the coordinator, in which a call may wait; ``is_urgent``: others, too.

    ``kind`` is results, enter_limit, leave_limit, lock_delegate, unlock_delegate, recorded (the
    events before are in the journal), prompt, credential, secret, project, is_new_download,
    download, or one of the ``answers`` of ``Workers``.
    """

    number: int
    kind: str
    arguments: tuple[Any, ...] = ()
    is_urgent: bool = False


class CoordinatorAnswer(Struct, frozen=True):
    """The coordinator's answer, or the errors to raise instead."""

    number: int
    value: Any = None
    errors: tuple[Diagnostic, ...] = ()
    is_urgent: bool = False


class Events(Struct, frozen=True):
    """Events of a worker's hosts, in order, with secrets masked."""

    events: tuple[RunEvent, ...]


class SecretFound(Struct, frozen=True):
    """A text to be masked from now on, which the worker has learned during the run."""

    name: str
    text: str


class WorkerReady(Struct, frozen=True):
    """A worker has planned the run and waits for calls; ``digest`` identifies its plan."""

    digest: str


class WorkerFailed(Struct, frozen=True):
    """A worker cannot take part, or has ended with an unexpected error."""

    reason: str
    details: str = ""


class WorkerEnded(Struct, frozen=True):
    """A worker's last message."""


class Notice(Struct, frozen=True):
    """What the coordinator tells a worker; a worker only sends ``alive``.

    ``kind`` is cancel (stop running steps), host_failed (``arguments``: app, task number, host: the
    other hosts of the task start no more steps), alive (the sender still runs), end (all is done)
    or abandon (stop everything: what the worker reports is not heard any more).
    """

    kind: str
    arguments: tuple[Any, ...] = ()
