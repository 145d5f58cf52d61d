"""One lane on its way: barriers, what a failure stops, and what it undoes.

What a lane began and did not commit: what there is to undo.

Handlers that were called for and did not run to their end, and what runs them.

Which hosts of a lane can be reached, and whether the lane can begin.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.executor.app_locks import Holder, Locks, users_of
from orchestrator.executor.cancel import Cancel
from orchestrator.executor.connection_pool import Emit, Fleet
from orchestrator.executor.host_runner import HostTask
from orchestrator.executor.host_state import Progress, so_far
from orchestrator.executor.parallel import caught, each, guarded
from orchestrator.executor.step_recorder import Recorder
from orchestrator.model.event import INTERRUPTED, HostFinished, TaskFinished, TaskStarted, Warned
from orchestrator.model.step_result import Outcome, Status
from orchestrator.planner.plan import HostPlan, Lane, Plan, Program, Wave
from orchestrator.remote_shell import Lost, NotReady


class Options(Struct, frozen=True):
    """``forks``: hosts worked on at a time. ``keep_going``: a failed host does not stop the
    others at the barrier. ``skip_unreachable``: hosts that cannot be reached are left out of a
    run that changes something, instead of stopping it before it begins. ``ask`` is asked before
    each wave: run, skip or stop; it gives up where the run is interrupted. ``would_exit``: a check
    that would change something exits so. ``given``: the words of the command line that mean the
    same to a part of the run. ``lock_wait``: seconds to wait for a lock that somebody else has;
    ``holder``: what is told of whoever has one of ours (owner, since, message); ``within``: the
    runs that this one was started by, outermost first."""

    forks: int = 100
    keep_going: bool = False
    skip_unreachable: bool = False
    ask: Callable[[Wave, Cancel], str] | None = None
    would_exit: bool = False
    given: tuple[str, ...] = ()
    lock_wait: float = 0.0
    holder: Mapping[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()


class LaneRun:
    """Walks the waves of one lane; ``progress`` says where each of its hosts stands."""

    def __init__(
        self,
        lane: Lane,
        plan: Plan,
        fleet: Fleet,
        *,
        emit: Emit,
        pool: ThreadPoolExecutor,
        options: Options,
    ) -> None:
        self.lane, self.plan, self.fleet, self.emit, self.pool = lane, plan, fleet, emit, pool
        self.options = options
        taking_part = {h.host for wave in lane.waves for h in wave.hosts}
        self.progress = {
            name: Progress(fleet.hosts[name], lane.app)
            for name in plan.hosts
            if name in taking_part
        }
        self.begun = Begun()
        self.fallen: set[str] = set()
        self.fallen_in: dict[int, set[str]] = {}
        self.reach = Reach(lane, fleet, pool, emit)
        self.locked = self.declined = False
        self.locks = Locks(
            fleet.undoing(),
            lane.app,
            paths=lane.locks,
            users=users_of(lane),
            holder=Holder(plan.run, lane.app or "", options.within, options.holder),
            pool=pool,
            wait=options.lock_wait,
            tell=lambda text: emit(Warned(time.time(), text)),
            emit=emit,
        )
        undone = any(h.rollback.steps for wave in lane.waves for h in wave.hosts)
        keep = undone or bool(lane.failed) or bool(self.reach.delegates) or lane.app is not None
        waves = list(enumerate(lane.waves))
        self.last = {} if keep else {h.host: n for n, wave in waves for h in wave.hosts}
        self.through = {h.host: n for n, wave in waves if not wave.anyone for h in wave.hosts}

    def run(self) -> None:
        """Every wave in order, until the lane fails, is interrupted, or is through."""
        skip = self.options.skip_unreachable
        if self.plan.changes and (why := self.reach.preflight(self.progress, skip=skip)):
            self._stop(0, Status.NOT_STARTED, why)
            return
        try:
            if self._lock():
                self._waves()
        finally:
            for name, why in self.locks.free().items():
                self.progress[name].worst(Status.LOST, f"its lock could not be freed: {why}")

    def _lock(self) -> bool:
        """Take the lane's locks, if it is to have any; whether it can begin."""
        if not self.lane.locks:
            return True
        there = [name for name, progress in self.progress.items() if not progress.stopped]
        refusal = self.locks.take(there, self.fleet.cancel)
        if refusal is not None:
            self.locked = refusal.held
            if refusal.error is not None:
                fallen(self.progress[refusal.host], refusal.error)
            elif not refusal.held:
                self.progress[refusal.host].worst(Status.FAILED, refusal.why)
            self._stop(0, Status.NOT_STARTED, refusal.why)
        return refusal is None

    def _waves(self) -> None:
        for number, wave in enumerate(self.lane.waves):
            if self.fleet.cancel.stopping:
                self._end(number, None, "interrupted")
                return
            if wave.commit:
                self.begun.commit(wave, self.lane.waves[:number])
                continue
            answer = self.options.ask(wave, self.fleet.cancel) if self.options.ask else "run"
            if self.fleet.cancel.stopping:
                self._end(number, None, "interrupted")
                return
            if answer == "stop":
                self.declined = True
                self._stop(number, Status.NOT_STARTED, "stopped by you")
                return
            if answer == "skip":
                continue
            self._wave(number, wave)
            if self.fleet.cancel.stopping:
                self._end(number + 1, None, "interrupted")
                return
            if why := self._failed(wave):
                self._end(number + 1, wave, why)
                return
            if self.fleet.cancel.stopping:  # while tolerated hosts were rolled back
                self._end(number + 1, None, "interrupted")
                return

    def _failed(self, wave: Wave) -> str:
        """Why the lane has failed with this wave, if it has. Hosts whose failure is tolerated
        are rolled back, each for itself."""
        here = [self.progress[host.host] for host in wave.hosts]
        states = {p.host.name: str(p.status) for p in here if self._counts(p, wave)}
        counted = states.keys() - self.fallen
        self.fallen |= counted
        most = 0
        if wave.tolerance is not None:
            item = self.fallen_in.setdefault(wave.tolerance.item, set())
            item |= counted
            most = wave.tolerance.most - len(item) + len(counted)
        if not counted:
            return ""
        if len(counted) > most and not self.options.keep_going:
            first = next(name for name in states if name in counted)
            return f"{first} {states[first].replace('_', ' ')}"
        self._roll_back(counted, "")
        return ""

    def _counts(self, progress: Progress, wave: Wave) -> bool:
        """Whether what became of a host counts as a failure of the wave."""
        if progress.status is Status.UNREACHABLE:
            return wave.tolerance is not None or (wave.once and not wave.anyone)
        return progress.stopped

    def _end(self, number: int, wave: Wave | None, why: str) -> None:
        """The lane ends here: what was begun is rolled back, and ``failed`` hooks run, unless
        it was interrupted."""
        began = self.begun.hosts()
        status = Status.CANCELLED if wave is None else Status.NOT_STARTED
        self._stop(number, status, why)
        self._roll_back(began, why)
        hooks, fallen = dict(self.lane.failed), set[tuple[str, str]]()
        for name in reversed(wave.within if wave else ()):
            for hook in hooks.get(name, ()):
                if not self.fleet.cancel.stopping:
                    self._hook(hook, hook.within[hook.within.index(name) + 1], fallen)

    def _hook(self, wave: Wave, hook: str, fallen: set[tuple[str, str]]) -> None:
        """Run a task of a ``failed`` hook, also on hosts that had no part in the run so far; what
        fails in it is told in their rows, and ends the hook there (``fallen``)."""
        known = self.progress
        can = [
            h
            for h in wave.hosts
            if (hook, h.host) not in fallen
            and (h.host not in known or known[h.host].status is not Status.UNREACHABLE)
        ]
        programs = {h.host: h.program for h in (can[:1] if wave.anyone else can)}
        if not programs:
            return
        new = {n: Progress(self.fleet.hosts[n], self.lane.app) for n in programs if n not in known}
        self.progress = {n: (known | new)[n] for n in self.fleet.hosts if n in known or n in new}
        for name, ran in self._programs(wave.task, programs).items():
            self.progress[name].hooked(wave.task, ran)
            if ran.stopped:
                fallen.add((hook, name))

    def _stop(self, number: int, status: Status, why: str) -> None:
        """Mark every host's remaining tasks, from this wave on, as not begun. A host that was not
        to begin (NOT_STARTED) and has done some of its steps before is STOPPED.
        """
        for wave in self.lane.waves[number:]:
            for host in wave.hosts:
                progress = self.progress[host.host]
                spared = wave.anyone and host is not wave.hosts[0] and progress.status
                if progress.stopped or spared:
                    continue
                if status is Status.NOT_STARTED and any(progress.counts.values()):
                    progress.worst(Status.STOPPED, f"stopped before '{wave.task}': {why}")
                else:
                    progress.worst(status, f"'{wave.task}' was not begun: {why}")

    def _roll_back(self, names: set[str], why: str) -> None:
        """Undo what these hosts began since the last commit, the last task first. A rollback
        that fails stops neither the other hosts nor what is left to undo on its own."""
        if self.plan.check:
            return
        for wave, began in reversed(self.begun.waves):
            programs = {
                host.host: host.rollback
                for host in wave.hosts
                if host.host in names & began and host.rollback.steps
            }
            if not programs:
                continue
            undone = self._programs(f"rollback of {wave.task}", programs)
            for name, progress in undone.items():
                self.progress[name].rolled_back(wave.task, progress, why)
            began.difference_update(names)

    def _programs(self, title: str, programs: Mapping[str, Program]) -> dict[str, Progress]:
        """Run programs beside the plan's own order, each host for itself, to their ends."""
        began = time.monotonic()
        apart = {name: Progress(self.fleet.hosts[name], self.lane.app) for name in programs}
        others = so_far(self.progress)
        for name, progress in apart.items():
            if name in self.progress:
                progress.results = self.progress[name].results
                progress.results.update(others)
        steps = max((len(program.steps) for program in programs.values()), default=0)
        app, fleet = self.lane.app, self.fleet.undoing()
        self.emit(TaskStarted(time.time(), app, title, tuple(programs), steps))

        def one(name: str) -> None:
            progress = apart[name]
            task = HostTask(fleet, progress, title, self.emit)
            guarded(
                lambda: task.run(programs[name]),
                progress,
                title,
                self.emit,
                lambda error: fallen(progress, error),
            )
            outcome = Outcome(
                progress.status or Status.OK, reason=progress.reason, seconds=progress.seconds
            )
            self.emit(HostFinished(time.time(), app, title, name, outcome))

        each(self.pool, one, programs)
        self.emit(TaskFinished(time.time(), app, title, time.monotonic() - began))
        return apart

    def _wave(self, number: int, wave: Wave) -> None:
        began = time.monotonic()
        hosts = wave.hosts if not wave.anyone else self._stand_in(wave)
        names = tuple(host.host for host in hosts if not self.progress[host.host].stopped)
        steps = max((len(host.steps) for host in hosts), default=0)
        self.begun.wave(wave)
        others = so_far(self.progress)
        for host in hosts:
            self.progress[host.host].made.clear()
            self.progress[host.host].results.update(others)
        self.emit(TaskStarted(time.time(), self.lane.app, wave.task, names, steps))
        each(self.pool, lambda host: self._host(number, wave, host), hosts)
        self._delegated(hosts)
        if wave.once:
            self._share(hosts)
            for host in wave.hosts:
                self.progress[host.host].worst(Status.SKIPPED)  # if it stood by and did nothing
        told = TaskFinished(time.time(), self.lane.app, wave.task, time.monotonic() - began)
        self.emit(told)

    def _delegated(self, hosts: Iterable[HostPlan]) -> None:
        """What a check did not do to a host for another one's sake is not done there either."""
        for host in hosts:
            for step in self.progress[host.host].withheld:
                other = self.progress.get(step.on)
                if other is not None and step not in other.withheld:
                    other.withheld.append(step)

    def _stand_in(self, wave: Wave) -> tuple[HostPlan, ...]:
        """The first host that can be reached, for a task that runs once and anywhere."""
        for host in wave.hosts:
            progress = self.progress[host.host]
            if not progress.stopped:
                self.reach.host(progress)
            if not progress.stopped:
                return (host,)
        return wave.hosts[:1]

    def _share(self, hosts: Iterable[HostPlan]) -> None:
        """What was registered once is every host's."""
        for host in hosts:
            ran = self.progress[host.host]
            for progress in self.progress.values():
                ran.share(progress)

    def _host(self, number: int, wave: Wave, plan: HostPlan) -> None:
        progress = self.progress[plan.host]
        if progress.stopped:
            return
        if self.fleet.cancel.stopping:
            progress.worst(Status.CANCELLED, f"'{wave.task}' was not begun: interrupted")
            return
        before, seconds = dict(progress.counts), progress.seconds

        def task() -> None:
            self._task(wave, plan, progress)

        guarded(
            task, progress, wave.task, self.emit, lambda error: self.reach.failed(progress, error)
        )
        if progress.status is None:
            progress.worst(Status.SKIPPED)
        self._finished(number, wave, progress, before, progress.seconds - seconds)
        if self.last.get(plan.host) == number or (progress.stopped and self.last):
            self.fleet.release(plan.host)

    def _task(self, wave: Wave, plan: HostPlan, progress: Progress) -> None:
        """Do a host's part of a task. Raises ConnectError and Lost."""
        task = HostTask(self.fleet, progress, wave.task, self.emit)
        self.fleet.connect(plan.host)
        self.locks.renew(plan.host)
        self.begun.host(plan.host)
        if not task.run(plan.program):
            self._pending(wave, plan, task, progress)

    def _pending(self, wave: Wave, plan: HostPlan, task: HostTask, progress: Progress) -> None:
        """Keep in mind the handlers that were called for and did not run to their end."""
        if self.plan.check:
            return
        app = ("--app", self.lane.app) if self.lane.app else ()
        given = (*self.options.given, *app)
        for name in pending(plan, task.recorder):
            how = command(self.plan.stage, wave, plan, name, given)
            progress.pending[wave.task, name] = how

    def _finished(
        self,
        number: int,
        wave: Wave,
        progress: Progress,
        before: Mapping[str, int],
        seconds: float,
    ) -> None:
        """Tell how the host came through this task: the worst that it counted in it."""
        here = {what for what, count in progress.counts.items() if count > before[what]}
        status = next(
            (Status(s) for s in ("changed", "unknown", "ok", "skipped") if s in here), Status.OK
        )
        told = progress.stopped or (self.plan.check and status is Status.CHANGED)
        if told and progress.status is not None:
            status = progress.status
        outcome = Outcome(status, seconds=seconds, reason=progress.reason)
        host, app = progress.host.name, self.lane.app
        last = number >= self.through.get(host, 0)
        self.emit(
            HostFinished(time.time(), app, task=wave.task, host=host, outcome=outcome, last=last)
        )


class Begun:
    """The waves in the order in which they were begun, each with the hosts that are to undo it
    should the lane fail. Hosts are added to the last one by their workers."""

    def __init__(self) -> None:
        self.waves: list[tuple[Wave, set[str]]] = []

    def wave(self, wave: Wave) -> None:
        """This wave begins, so far on no host."""
        self.waves.append((wave, set()))

    def host(self, name: str) -> None:
        """This host began the wave."""
        self.waves[-1][1].add(name)

    def hosts(self) -> set[str]:
        """All that have something to undo."""
        return {name for _, names in self.waves for name in names}

    def commit(self, commit: Wave, before: Sequence[Wave]) -> None:
        """Nothing ``before`` is to be undone any more; in a batch, only what its hosts began and
        what ran for its sake is not. What ran once ran for the sake of every host."""
        if commit.commits is None:
            self.waves.clear()
            return
        here = {id(wave) for wave in before[commit.commits.first :]}
        for wave, names in self.waves:
            if wave.once or id(wave) in here:
                names.clear()
            names.difference_update(commit.commits.hosts)


def pending(plan: HostPlan, recorder: Recorder) -> Iterator[str]:
    """Their names, in the order in which they are defined."""
    ran = {step.handler for step in plan.steps if step.number in recorder.finished}
    ran -= {step.handler for step in plan.steps if step.number in recorder.broken}
    for name in dict.fromkeys(step.handler for step in plan.steps if step.handler):
        if name in recorder.notified and name not in ran:
            yield name


def command(stage: str, wave: Wave, plan: HostPlan, name: str, given: Iterable[str]) -> str:
    """What runs one of them on its host, as a shell takes it; ``given`` are more of its words."""
    # the item may have a name of its own, or be in place: its file can be run
    which = (wave.within or (wave.task,))[-1]
    what = ("run", which, *plan.args, *given, "--handler", name, "-l", plan.host)
    return shlex.join(("orch", "-s", stage, *what))


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
