"""The plan: what will happen where, in which order. The executor walks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.errors import Mark
from orchestrator.model.command import Command
from orchestrator.model.result import Result

Results: TypeAlias = Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step on one host. Exactly one of these is so:

    - ``skip`` says why it will not run (its ``when`` is false already);
    - ``command`` is what will be sent, final;
    - ``waits`` names the results it waits for; ``later`` makes the command out of them, or
      says why it is skipped. It raises Waits while one is missing, DefinitionError where a
      template fails.

    ``shown`` is the exact text, or the template while it waits. ``number`` counts from 1
    over the task on this host. ``register`` is the name its result gets; ``gathers`` are the
    names that, once it is over, stand for all of several steps (a called task's).
    ``judge`` decides on this side whether it failed and changed something, for conditions over
    its output that the host cannot judge; ``stops`` says that nothing may be sent before it did.
    """

    number: int
    name: str
    mark: Mark
    shown: str
    when: str = ""
    skip: str = ""
    waits: tuple[str, ...] = ()
    register: str = ""
    gathers: tuple[tuple[str, tuple[int, ...]], ...] = ()
    readonly: bool = False
    stops: bool = False
    judge: Callable[[Results, Result], Verdict] | None = None
    command: Command | None = None
    later: Callable[[Results], Command | str] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``judge`` found; None leaves it to the exit status, or to the host."""

    failed: bool | None = None
    changed: bool | None = None


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What one host does in a wave, in order."""

    host: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class Wave:
    """One scheduled task on one set of hosts; no host begins the next wave before all end it."""

    task: str
    desc: str
    hosts: tuple[HostPlan, ...]

    @property
    def changes(self) -> bool:
        """Whether anything in it may change a host."""
        return any(not step.readonly for host in self.hosts for step in host.steps)


@dataclass(frozen=True, slots=True)
class Lane:
    """One app's waves; ``app`` is None in a run without apps."""

    app: str | None
    waves: tuple[Wave, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a run. ``hosts`` are all that take part, in the inventory's order."""

    run: str
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    lanes: tuple[Lane, ...]
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether the run may change anything anywhere."""
        return any(wave.changes for lane in self.lanes for wave in lane.waves)
