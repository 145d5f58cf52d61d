"""A run's hosts divided over worker processes, and what keeps these in step.

Every worker walks the whole lane with its own hosts, and what each of them does next hangs on
what all know: they agree at every barrier, through the first process. That one contacts no host;
it hears all that happens, asks the user, and says when to stop.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection as Pipe
from typing import Any

from msgspec import Struct, field

from orchestrator.errors import OrchError
from orchestrator.execute.cancel import Cancel
from orchestrator.execute.fleet import Emit
from orchestrator.execute.peers import one_event
from orchestrator.execute.shard import divided, shards_for
from orchestrator.execute.shard_account import Account
from orchestrator.execute.shard_questions import Questions
from orchestrator.execute.shard_trials import Trials
from orchestrator.execute.shard_work import SIGNALS, Ask, Job, work
from orchestrator.model.event import Warned
from orchestrator.model.host import Host
from orchestrator.model.outcome import Row


class WorkerError(RuntimeError):
    """A worker process met with a bug; the message is its traceback."""


class _Worker(Struct):
    """A process. ``said``: what it has to agree on, with the number of its question; ``rows``:
    what its hosts came to, once it is through; ``over``: it has ended."""

    pid: int
    pipe: Pipe
    account: Account
    said: tuple[int, str, Any] | None = None
    rows: tuple[Row, ...] | None = None
    over: bool = False
    sending: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, number: int, words: object) -> None:
        """Answer a question (0: none was asked). What has ended need not hear it."""
        with self.sending, suppress(OSError):
            self.pipe.send_bytes(pickle.dumps((number, words), pickle.HIGHEST_PROTOCOL))

    def reap(self) -> str:
        """How the process ended, whose pipe has; waits for that."""
        with self.sending:
            self.over = True
            self.pipe.close()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return f"was killed by {_signal(-status)}" if status < 0 else f"ended ({status})"


class Shards:
    """The worker processes of one run, forked and waiting to begin. ``close`` ends them."""

    def __init__(self, workers: list[_Worker], job: Job, ask: Ask | None) -> None:
        self._workers, self._job = workers, job
        self._questions = Questions(ask) if ask is not None else None
        self._trials = Trials()
        self._order = {name: n for n, name in enumerate(job.plan.hosts)}
        self._lost: list[str] = []
        self._raised: Exception | None = None
        self._through = False

    def work(self, emit: Emit, cancel: Cancel) -> tuple[Row, ...]:
        """Have them do their parts; the rows of all hosts, in the run's order.

        The hosts of a worker that is no more are lost, and the others stop at the next barrier as
        after any failure. Raises what one of them raised, once the others are through.
        """
        unwatch = cancel.watch(self._stop)
        try:
            for worker in self._workers:
                worker.tell(0, "begin")
            while busy := [worker for worker in self._workers if worker.rows is None]:
                ready = connection.wait([worker.pipe for worker in busy])
                for worker in busy:
                    if worker.pipe in ready:
                        self._hear(worker, emit)
        finally:
            unwatch()
        self._through = True
        if self._raised is not None:
            raise self._raised
        rows = (row for worker in self._workers for row in worker.rows or ())
        return tuple(sorted(rows, key=lambda row: self._order[row.host]))

    def close(self) -> None:
        """End what is left. Workers that are through let go of their connections first."""
        if self._questions is not None:
            self._questions.cancel()
        for worker in self._workers:
            if self._through and not worker.over:
                with suppress(EOFError, OSError):
                    while True:
                        worker.pipe.recv_bytes()
        for worker in self._workers:
            if not worker.over:
                worker.reap()

    def _stop(self) -> None:
        if self._questions is not None:
            self._questions.cancel()
        for worker in self._workers:
            if not worker.over:
                worker.tell(0, "stop")

    def _hear(self, worker: _Worker, emit: Emit) -> None:
        try:
            kind, *words = pickle.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            self._gone(worker, worker.reap(), emit)
            return
        if kind == "events":
            for event in words[0]:
                worker.account.take(event)
                emit(event)
        elif kind in ("agree", "tell"):
            worker.said = words[0], kind, words[1]
            self._agree(emit)
        elif kind == "known":
            self._job.masks.add(words[1], words[2])
            worker.tell(words[0], None)
        elif kind == "ask" and self._questions is not None:
            number, text, seen = words
            who, tell = worker.pid, worker.tell
            self._questions.answer(who, text, seen, lambda answer: tell(number, answer))
        elif kind in ("turn", "tried"):
            self._try(worker, kind, words)
        elif kind == "rows":
            worker.rows = words[0]
            self._trials.leave(worker.pid)
        elif kind == "raised":
            self._raised = self._raised or _error(*words)
            self._gone(worker, f"{worker.reap()} with an error", emit)

    def _try(self, worker: _Worker, kind: str, words: list[Any]) -> None:
        if kind == "tried":
            self._trials.tried(worker.pid, *words)
            return
        number, question = words
        tell = worker.tell
        self._trials.turn(worker.pid, question, lambda refusals: tell(number, refusals))

    def _agree(self, emit: Emit) -> None:
        """Answer all who take part, where the last of them has come."""
        said = [(w, w.said) for w in self._workers if w.rows is None]
        came = [(worker, words) for worker, words in said if words is not None]
        if not came or len(came) < len(said):
            return
        if came[0][1][1] == "tell":
            event = one_event((words[2] for _, words in came), self._order)
            for worker, _ in came:
                worker.account.take(event)
            emit(event)
            answer = None
        else:
            answer = tuple(words[2] for _, words in came), tuple(self._lost)
        for worker, words in came:
            worker.said = None
            worker.tell(words[0], answer)

    def _gone(self, worker: _Worker, how: str, emit: Emit) -> None:
        hosts = worker.account.hosts
        what = f"a process of orch {how}, and {len(hosts)} hosts with it"
        emit(Warned(time.time(), f"{what}: what runs there is not known"))
        why = f"the process of orch that worked on it {how}: what ran here is not known"
        for event in worker.account.rest(why):
            emit(event)
        worker.rows = tuple(worker.account.rows(self._job.hosts, why))
        self._trials.leave(worker.pid)
        self._lost += sorted(hosts, key=self._order.__getitem__)
        self._agree(emit)


def hire(job: Job, ask: Ask | None, together: Callable[[Host], Hashable]) -> Shards | None:
    """Fork the workers that the plan is worth, if any: hosts go to the same one for which
    ``together`` is the same. To be called while this process has no other thread, nor holds
    anything that two must not share. None where there is one part, or no process to be had.
    """
    count = shards_for(job.plan, job.options)
    if count < 2:
        return None
    parts = divided(job.plan.hosts, count, lambda name: together(job.hosts[name]))
    if len(parts) < 2:
        return None
    app = job.plan.lanes[0].app
    workers: list[_Worker] = []
    for number, hosts in enumerate(parts):
        forks = job.options.forks // len(parts) + (number < job.options.forks % len(parts))
        ours, theirs = connection.Pipe()
        try:
            pid = _forked((ours, *(w.pipe for w in workers)), theirs, job, hosts, forks)
        except OSError:  # as many processes as we may have: then it is all for this one
            ours.close()
            theirs.close()
            _dismissed(workers)
            return None
        theirs.close()
        workers.append(_Worker(pid, ours, Account(hosts, app)))
    return Shards(workers, job, ask)


def _forked(ours: Iterable[Pipe], theirs: Pipe, job: Job, hosts: frozenset[str], forks: int) -> int:
    """The new process's id. In that process it never returns."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            work(theirs, ours, job, hosts, forks)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dismissed(workers: Iterable[_Worker]) -> None:
    for worker in workers:
        worker.reap()


def _error(code: int | None, told: Any) -> Exception:
    """What was raised in a worker, as far as it can be raised here."""
    if code is None:
        return WorkerError(told)
    error = OrchError(*told)
    error.exit_code = code  # type: ignore[assignment]
    return error


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
