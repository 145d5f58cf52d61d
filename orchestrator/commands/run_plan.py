"""Carrying a plan out: journal, sinks, transports and signals around the executor.

How many files this process may have open.

Identity files that the inventory names and this machine does not have.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import There
from orchestrator.commands.event_dispatch import Emitter
from orchestrator.commands.signals import interrupts
from orchestrator.errors import Exit, Mark, Problem, Problems
from orchestrator.executor import Cancel, Options, run
from orchestrator.journal import STATE, Journal, check_private
from orchestrator.model.event import Event, Sink, StepFinished, StepStarted, Warned
from orchestrator.model.host import Host
from orchestrator.model.host_folding import fold
from orchestrator.planner.plan import Plan
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.prompts import Ask
from orchestrator.transports.registry import Connector
from orchestrator.yamlio.local_files import expand_home, is_there

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


def allow_files() -> None:
    """Let this process hold as many connections as the system lets it: each is a file or two,
    and the usual soft limit of 1024 is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft not in (wanted, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


_HINT = "is the path right? it is a file of this machine"


def check_identity_files(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Look for the identity files of these hosts, before any of them is connected to.

    One of a host's files is enough. Return a warning for each setting of which no file exists,
    where an agent may still hold the key. Raises DefinitionError where `identities_only` rules
    that out.
    """
    usable = cache(lambda names: any(map(_usable, names)))  # hosts share them
    missing: dict[tuple[str, ...], list[Host]] = {}
    for host in hosts:
        names = host.connect.identity
        if host.connect.transport in ("ssh", "openssh") and names and not usable(names):
            missing.setdefault((str(_mark(host)), *names), []).append(host)
    problems = Problems()
    warnings: list[str] = []
    for (_, *files), those in missing.items():
        mark = _mark(those[0])
        of = fold(host.name for host in those)
        what = f"{' and '.join(files)} {'does' if len(files) == 1 else 'do'} not exist: {of}"
        if all(host.connect.identities_only for host in those):
            problems.found.append(Problem(what, mark, _HINT))
        else:
            warnings.append(f"{what} ({mark})")
    problems.raise_any()
    return tuple(warnings)


def _usable(name: str) -> bool:
    """Return False for a file that does not exist, nor its public part, whose key an agent may
    hold. A name with tokens (ssh_config(5), TOKENS) is left to ssh."""
    if "%" in name or "$" in name or name.lower() == "none":
        return True
    path = expand_home(name)
    return is_there(path) or is_there(Path(f"{path}.pub"))


def _mark(host: Host) -> Mark:
    """Return where the strongest layer sets the identity."""
    written = [layer.connect["identity"] for layer in host.layers if "identity" in layer.connect]
    return written[-1].mark if written else host.mark
