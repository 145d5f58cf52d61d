"""Carrying a plan out: journal, sinks, transports and signals around the executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.app.descriptors import allow_files
from orchestrator.app.emitter import Emitter
from orchestrator.app.identity_files import check_identity_files
from orchestrator.app.interrupt import interrupts
from orchestrator.app.prepare import There
from orchestrator.errors import Exit
from orchestrator.execute import Cancel, Options, run
from orchestrator.journal import STATE, Journal, check_private
from orchestrator.model.event import Event, Sink, StepFinished, StepStarted, Warned
from orchestrator.model.host import Host
from orchestrator.plan.model import Plan
from orchestrator.session.channel import Connection
from orchestrator.transport.ask import Ask
from orchestrator.transport.connector import Connector

_QUITS = "Ctrl-C again, a second later or more: leave at once, nothing is rolled back then"
_QUITS_NOW = "one more, a second later or more: leave at once, nothing is rolled back then"


class Person(Struct, frozen=True):
    """Who sits at the terminal. ``ask`` asks for what a host wants to know, a password say;
    None where nobody sits there.
    ``left`` is told, right before a signal ends the process at once, the hosts that are still in
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
    check_private(there.root, environ)
    missing = check_identity_files(there.stage.hosts[name] for name in plan.hosts)
    plan = replace(plan, warnings=(*plan.warnings, *missing)) if missing else plan
    allow_files()
    cancel, running = Cancel(), Running()
    journal = Journal(there.root, environ, lambda text: emit(Warned(time.time(), text)))
    emit = Emitter(
        (running, journal, sink),
        log=lambda: str(journal.folder) if journal.folder else "",
        gone=cancel.stop,
        masks=there.secrets.masks,
    )

    def warn(text: str) -> None:
        emit(Warned(time.time(), text))

    outside = Outside(_connectors(plan, there, person.ask, warn, ssh_config))

    def first() -> None:
        emit(Warned(time.time(), f"interrupted: ending what runs ({_QUITS})"))
        outside.interrupt(cancel)

    def again(name: str) -> None:
        emit(Warned(time.time(), f"{name}: interrupted already, still ending ({_QUITS_NOW})"))

    def last() -> None:
        sink.close()
        person.left(dict(running.steps))

    with interrupts(first, again, last):
        try:
            return run(
                plan,
                there.stage.hosts,
                outside.connect,
                emit,
                options=options,
                cancel=cancel,
            )
        finally:
            try:
                emit.close()
            finally:
                outside.close()


def _connectors(
    plan: Plan,
    there: There,
    ask: Ask | None,
    warn: Callable[[str], object],
    ssh_config: str | None,
) -> Callable[[Connector | None], Connector]:
    """Return what makes a connector of the run, also after another."""
    sandbox = there.root / STATE / "sandbox" / there.stage.name

    def connector(before: Connector | None) -> Connector:
        return Connector(
            record=not plan.check,
            sandbox=sandbox,
            hosts=there.stage.hosts,
            ask=ask,
            known=there.secrets.masks.add,
            warn=warn,
            before=before,
            ssh_config=ssh_config,
        )

    return connector


class Outside:
    """A process's connections to hosts, of which an interrupt ends those that are being made.
    ``make`` makes what connects, also after another."""

    def __init__(self, make: Callable[[Connector | None], Connector]) -> None:
        self._make, self._made = make, [make(None)]

    def connect(self, host: Host) -> Connection:
        """Connect. Raises ConnectError."""
        return self._made[-1].connect(host)

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
