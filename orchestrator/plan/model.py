"""The plan: what will happen where, in which order. The executor walks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Mark

if TYPE_CHECKING:
    from orchestrator.model.command import Command


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step on one host. Exactly one of these is so:

    - ``skip`` says why it will not run (its ``when`` is false already);
    - ``command`` is what will be sent, final;
    - ``waits`` names the results it waits for and ``later`` makes the command out of them.

    ``shown`` is the exact text, or the template while it waits. ``number`` counts from 1
    over the task on this host. ``register`` is the name its result gets. ``judge`` says that
    its end has to be looked at on this side (``failed_when`` over its output) before going on.
    """

    number: int
    name: str
    mark: Mark
    shown: str
    when: str = ""
    skip: str = ""
    waits: tuple[str, ...] = ()
    register: str = ""
    judge: bool = False
    readonly: bool = False
    command: Command | None = None
    later: Callable[[Mapping[str, Any]], Command | str] | None = None


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
