"""Carrying a plan out: journal, sinks, transports and signals around the executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from orchestrator.app.emitter import Emitter
from orchestrator.app.interrupt import interrupts
from orchestrator.app.prepare import There
from orchestrator.errors import Exit
from orchestrator.execute import Cancel, Options, run
from orchestrator.journal import Journal
from orchestrator.model.event import Event, Sink, StepFinished, StepStarted, Warned
from orchestrator.plan.model import Plan
from orchestrator.transport.connector import Connector


def carry_out(
    plan: Plan,
    there: There,
    options: Options,
    sink: Sink,
    environ: Mapping[str, str],
    left: Callable[[Mapping[str, str]], None],
) -> Exit:
    """Run the plan; the exit code it comes to. The sink is closed in any case.

    ``left`` is told, right before a second Ctrl-C ends the process, the hosts that are still
    in the middle of a step, with that step.
    """
    cancel, running = Cancel(), Running()
    journal = Journal(there.root, environ, lambda text: emit(Warned(time.time(), text)))
    emit = Emitter(
        (running, journal, sink),
        log=lambda: str(journal.folder) if journal.folder else "",
        gone=cancel.stop,
    )
    connector = Connector(sandbox=there.root / ".orch" / "sandbox" / there.stage.name)

    def first() -> None:
        emit(Warned(time.time(), "interrupted: ending what runs (again: leave at once)"))
        cancel.stop()
        connector.cancel()

    def second() -> None:
        sink.close()
        left(dict(running.steps))

    try:
        with interrupts(first, second):
            return run(
                plan, there.stage.hosts, connector.connect, emit, options=options, cancel=cancel
            )
    finally:
        emit.close()
        connector.close()


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
