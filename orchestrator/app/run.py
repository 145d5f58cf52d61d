"""Carrying a plan out: journal, sinks, transports and signals around the executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from orchestrator.app.descriptors import allow_files
from orchestrator.app.emitter import Emitter
from orchestrator.app.interrupt import interrupts
from orchestrator.app.prepare import There
from orchestrator.errors import Exit
from orchestrator.execute import Cancel, Options, run, shards_for
from orchestrator.journal import Journal
from orchestrator.model.event import Event, Sink, StepFinished, StepStarted, Warned
from orchestrator.model.host import Host
from orchestrator.plan.model import Plan
from orchestrator.session.channel import Connection
from orchestrator.transport.ask import Ask, Trials
from orchestrator.transport.connector import Connector

if TYPE_CHECKING:
    from orchestrator.execute.shards import Shards


Opens: TypeAlias = "Callable[[Ask | None, Trials | None], Outside]"


class Person(Struct, frozen=True):
    """Who sits at the terminal. ``ask`` asks for what a host wants to know, a password say;
    None where nobody sits there.
    ``left`` is told, right before a second Ctrl-C ends the process, the hosts that are still in
    the middle of a step, with that step.
    """

    ask: Ask | None
    left: Callable[[Mapping[str, str]], None]


def carry_out(
    plan: Plan,
    there: There,
    options: Options,
    sink: Sink,
    environ: Mapping[str, str],
    person: Person,
    ssh_config: str | None = None,
) -> Exit:
    """Run the plan; the exit code it comes to. The sink is closed in any case.

    ``ssh_config`` is read in place of the user's and the system's.
    """
    allow_files()
    opens = opening(plan, there, ssh_config)
    shards = hired(plan, there, options, opens, person)  # as long as there is no other thread
    cancel, running = Cancel(), Running()
    journal = Journal(there.root, environ, lambda text: emit(Warned(time.time(), text)))
    emit = Emitter(
        (running, journal, sink),
        log=lambda: str(journal.folder) if journal.folder else "",
        gone=cancel.stop,
        masks=there.secrets.masks,
    )
    outside = opens(person.ask, None)

    def first() -> None:
        emit(Warned(time.time(), "interrupted: ending what runs (again: leave at once)"))
        outside.interrupt(cancel)

    def second() -> None:
        sink.close()
        person.left(dict(running.steps))

    try:
        with interrupts(first, second):
            return run(
                plan,
                there.stage.hosts,
                outside.connect,
                emit,
                options=options,
                cancel=cancel,
                shards=shards,
            )
    finally:
        emit.close()
        outside.close()
        if shards is not None:
            shards.close()


def opening(plan: Plan, there: There, ssh_config: str | None) -> Opens:
    """What makes the connectors of this process, or of a worker."""
    sandbox = there.root / ".orch" / "sandbox" / there.stage.name

    def opens(ask: Ask | None, trials: Trials | None) -> Outside:
        def connector(before: Connector | None) -> Connector:
            return Connector(
                record=not plan.check,
                sandbox=sandbox,
                hosts=there.stage.hosts,
                ask=ask,
                known=there.secrets.masks.add,
                before=before,
                trials=trials,
                ssh_config=ssh_config,
            )

        return Outside(connector)

    return opens


def hired(
    plan: Plan,
    there: There,
    options: Options,
    opens: Opens,
    person: Person,
) -> Shards | None:
    """The worker processes for the plan, where it is one for several."""
    if shards_for(plan, options) < 2:
        return None
    from orchestrator.execute.shard_work import Job
    from orchestrator.execute.shards import hire

    if any(there.stage.hosts[name].connect.transport == "ssh" for name in plan.hosts):
        import orchestrator.transport.ssh  # noqa: F401  # 50 ms, here for all of them
    job = Job(plan, there.stage.hosts, options, opens, there.secrets.masks, person.ask is not None)
    return hire(job, person.ask, opens(None, None).way)


class Outside:
    """A process's connections to hosts, of which an interrupt ends those that are being made.
    ``make`` makes what connects, also after another."""

    def __init__(self, make: Callable[[Connector | None], Connector]) -> None:
        self._make, self._made = make, [make(None)]

    def connect(self, host: Host) -> Connection:
        """Connect. Raises ConnectError."""
        return self._made[-1].connect(host)

    def way(self, host: Host) -> Hashable:
        """What hosts that share a way to them have in common."""
        return self._made[-1].way(host)

    def interrupt(self, cancel: Cancel) -> None:
        """Set ``cancel`` and end what is pending."""
        self._made.append(self._make(self._made[0]))  # what undoes may have to connect again
        cancel.stop()
        self._made[0].cancel()

    def close(self) -> None:
        """End all connections."""
        for each in self._made:
            each.close()


class Running:
    """A sink that knows which hosts are in the middle of which step."""

    def __init__(self) -> None:
        self.steps: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            self.steps[event.host] = f"{event.task}: {event.name}"
        elif isinstance(event, StepFinished):
            self.steps.pop(event.host, None)

    def close(self) -> None:
        """Nothing to let go."""
