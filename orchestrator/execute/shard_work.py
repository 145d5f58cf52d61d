"""A worker process: a part of the hosts, from the first connection to their rows."""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection as Pipe
from typing import NoReturn, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.execute.cancel import Cancel
from orchestrator.execute.lane import Options
from orchestrator.execute.run import fleet_of, walk
from orchestrator.execute.shard import part_of
from orchestrator.execute.shard_line import Line
from orchestrator.model.host import Host
from orchestrator.model.masks import Masks
from orchestrator.plan.model import Plan
from orchestrator.session.channel import Connection

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Ask: TypeAlias = Callable[..., str | None]
"""As the transports want it: the question, whether the answer may be seen, what to give up on."""


class Outside(Protocol):
    """What one process connects with."""

    def connect(self, host: Host) -> Connection:
        """Connect. Raises ConnectError."""

    def interrupt(self, cancel: Cancel) -> None:
        """Set ``cancel`` and end what is pending; what undoes can connect from then on."""

    def close(self) -> None:
        """End everything."""


class Job(Struct, frozen=True):
    """What the workers have in common. ``opens`` makes what one of them connects with, given how
    it asks the user (None: nobody is there) and has its turn to try answers; ``masks`` hide the
    run's secrets."""

    plan: Plan
    hosts: Mapping[str, Host]
    options: Options
    opens: Callable[[Ask | None, Line], Outside]
    masks: Masks
    asks: bool


def work(
    pipe: Pipe, others: Iterable[Pipe], job: Job, hosts: frozenset[str], forks: int
) -> NoReturn:
    """Do a part of the run in this process, which was forked for it, and end. ``others``: the
    first process's ends of the pipes, which kept open would hide from a worker that it is gone.
    """
    line = Line(pipe)
    try:
        try:
            for other in others:
                other.close()
            _deaf()
            gc.freeze()  # what is here by now stays, and is shared with the other processes
            _work(line, job, hosts, forks)
        except OrchError as error:
            line.say("raised", int(error.exit_code), error.problems)
        except BaseException:
            line.say("raised", None, traceback.format_exc())
    finally:
        os._exit(0)


def _work(line: Line, job: Job, hosts: frozenset[str], forks: int) -> None:
    job.masks.tell(line.known)
    cancel, outside = Cancel(), job.opens(line.ask if job.asks else None, line)
    line.listen(lambda: outside.interrupt(cancel))
    line.begin.wait()
    fleet = fleet_of(job.hosts, outside.connect, line.emit, cancel)
    lanes = [part_of(lane, hosts) for lane in job.plan.lanes]
    options = replace(job.options, forks=forks)
    try:
        found = walk(job.plan, lanes, fleet, line.emit, options, line)
        line.say("rows", found.rows)
    finally:
        outside.close()


def _deaf() -> None:
    """A Ctrl-C at the terminal reaches every process; the first one says what to do. Ignored,
    signals would be so in all that is started from here as well."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
