"""Which hosts of a lane can be reached, and whether the lane can begin."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from orchestrator.errors import ConnectError
from orchestrator.execute.fleet import Emit, Fleet
from orchestrator.execute.guard import caught, guarded
from orchestrator.execute.pool import each
from orchestrator.execute.progress import Progress
from orchestrator.model.event import INTERRUPTED
from orchestrator.model.outcome import Status
from orchestrator.plan.model import Lane
from orchestrator.session import Lost, NotReady


def fallen(progress: Progress, error: ConnectError | Lost) -> None:
    """Tell in a host's row that it cannot be reached: of one where something was done, or may
    have been, that it is lost."""
    if isinstance(error, Lost):
        progress.worst(Status.LOST, f"{error.reason}, between two steps")
        return
    problem = error.problems[0]
    sent = isinstance(error, NotReady) and error.sent
    if sent or progress.did:
        where = "; what it was sent may have run" if sent else ", between two steps"
        progress.worst(Status.LOST, problem.what + where, problem.hint)
    else:
        progress.worst(Status.UNREACHABLE, problem.what, problem.hint)


class Reach:
    """Connects the hosts of one lane. ``away``: one that steps are delegated to, and that has no
    row of its own, cannot be reached."""

    def __init__(self, lane: Lane, fleet: Fleet, pool: ThreadPoolExecutor, emit: Emit) -> None:
        self.lane, self.fleet, self.pool, self.emit = lane, fleet, pool, emit
        self.away = False
        self.delegates = {
            step.on
            for wave in lane.waves
            for host in wave.hosts
            for step in (*host.program.steps, *host.rollback.steps)
            if step.on
        }

    def host(self, progress: Progress) -> None:
        """Connect a host, or tell in its row why not."""
        if self.fleet.cancel.stopping:
            return
        name = progress.host.name
        guarded(
            lambda: self.fleet.connect(name),
            progress,
            "connect",
            self.emit,
            lambda error: self.failed(progress, error),
        )

    def failed(self, progress: Progress, error: ConnectError | Lost) -> None:
        """Tell in a host's row that it cannot be reached."""
        if self.fleet.cancel.stopping:
            progress.worst(Status.CANCELLED, INTERRUPTED)
        else:
            fallen(progress, error)

    def preflight(self, rows: Mapping[str, Progress], *, skip: bool) -> str:
        """Connect every host before anything is touched; why the lane cannot begin, or ''.

        ``skip``: it can without those that are away, if no task needs one of them.
        """
        each(self.pool, self.host, rows.values())
        if self.fleet.cancel.stopping:
            return "interrupted"
        away = {name for name, row in rows.items() if row.stopped}
        if away and not skip:
            first = next(name for name in rows if name in away)
            lost = rows[first].status is not Status.UNREACHABLE
            return f"{first} {'failed to connect' if lost else 'is unreachable'}"
        for wave in self.lane.waves:
            if wave.once and all(host.host in away for host in wave.hosts):
                names = ", ".join(host.host for host in wave.hosts)
                if not wave.anyone:
                    return f"{names}, the primary, is unreachable"
                return f"all that could run '{wave.task}' are unreachable: {names}"
        return self._delegates(rows)

    def _delegates(self, rows: Mapping[str, Progress]) -> str:
        for name in sorted(self.delegates - rows.keys()):
            try:
                self.fleet.connect(name)
            except ConnectError as error:
                self.away = True
                why = f"{name}, which steps are delegated to, is unreachable"
                return f"{why}: {error.problems[0].what}"
            except Exception as error:
                why = f"{name}, which steps are delegated to, cannot be connected"
                return f"{why}: {caught(error, self.lane.app, 'connect', name, self.emit)}"
        return ""
