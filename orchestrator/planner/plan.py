"""The plan: what will happen where, in which order. The executor walks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from orchestrator.errors import Mark
from orchestrator.model.command import Command
from orchestrator.model.registered_result import Result

Results: TypeAlias = Mapping[str, Any]
"""What is known on a host by registered name: a Result, or any value that `set` made."""


HERE = "(this machine)"
"""What a local step is delegated to; no host can have that name."""


class PlannedStep(Struct, frozen=True):
    """One step on one host. Exactly one of these is so:

    - ``skip`` says why it will not run (its ``when`` is false already);
    - ``command`` is what will be sent, final;
    - ``ruling`` is what this side will do instead of any host;
    - ``waits`` names the results it waits for; ``later`` makes one of the above out of them,
      or the program of a loop. It raises Waits while one is missing, DefinitionError where a
      template fails.

    ``shown`` is the exact text, or the template while it waits. ``number`` counts from 1
    over the task on this host. ``register`` is the name its result gets. ``notify`` are the
    handlers that a change calls, ``handler`` the one that it belongs to. ``on`` is the host that
    it is delegated to. ``judge`` decides on this side whether it failed and changed something,
    for conditions over its output that the host cannot judge; ``stops`` says that nothing may be
    sent before it did. ``user``: whose shell runs it, '' for the login user's. ``written``: where
    its command stands, if its step only names it. ``sets``: the names that it sets. ``fetches``:
    its end is known once this side has compared, and read, a file of the host's.
    """

    number: int
    name: str
    mark: Mark
    shown: str
    when: str = ""
    skip: str = ""
    waits: tuple[str, ...] = ()
    register: str = ""
    readonly: bool = False
    stops: bool = False
    judge: Callable[[Results, Result], Verdict] | None = None
    command: Command | None = None
    ruling: Ruling | None = None
    later: Callable[[Results], Command | Ruling | Program | str] | None = None
    again: Again | None = None
    notify: tuple[str, ...] = ()
    handler: str = ""
    on: str = ""
    user: str = ""
    sets: tuple[str, ...] = ()
    fetches: bool = False
    written: Mark | None = None


class Ruling(Struct, frozen=True):
    """What this side does and no host. ``kind``: set (``values``; ``own``: no host had a part in
    them), wait (``seconds``), or assert and fail, where ``ok`` says whether it holds and
    ``message`` what is wrong if not."""

    kind: str
    ok: bool = True
    message: str = ""
    seconds: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False


class Again(Struct, frozen=True):
    """The step is run until ``holds`` says so: at most ``retries`` times more, ``delay`` seconds
    after one another. ``said`` is the condition as written."""

    holds: Callable[[Results, Result], bool]
    said: str
    retries: int
    delay: float


class Region(Struct, frozen=True):
    """What a failure means for the steps numbered ``start`` to ``end`` (not included).

    Those before ``body`` are tried. Where one fails, those from ``body`` on are run, which
    otherwise are not; those from ``rescue`` on run in any case, and last. The failure is made
    up for where the region ``forgives`` and what runs in its place does not fail as well;
    else the region as a whole has failed. Of two regions that hold a step, the inner one
    stands first.
    """

    start: int
    body: int
    rescue: int
    end: int
    forgives: bool = False


class Gather(Struct, frozen=True):
    """A name for the result of several steps: of a called task, or of a ``loop``.

    ``parts`` are the steps (from, to: not included) with the item that they are for.
    """

    name: str
    parts: tuple[tuple[Any, int, int], ...]
    loop: bool = False


class Program(Struct, frozen=True):
    """Steps in order, and the way through them."""

    steps: tuple[PlannedStep, ...] = ()
    regions: tuple[Region, ...] = ()
    gathers: tuple[Gather, ...] = ()


class Verdict(Struct, frozen=True):
    """What ``judge`` found; None leaves it to the exit status, or to the host."""

    failed: bool | None = None
    changed: bool | None = None


class HostPlan(Struct, frozen=True):
    """What one host does in a wave, and what would undo it. ``args``: the ``key=value`` words
    that give its task the same arguments."""

    host: str
    program: Program
    rollback: Program = Program()
    args: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The steps of the program."""
        return self.program.steps


class Tolerance(Struct, frozen=True):
    """How many hosts may fail over all waves of one item of a playbook."""

    item: int
    most: int


class Batch(Struct, frozen=True):
    """What a commit in a batch commits: all that the batch's ``hosts`` began, also before the
    batch; and what ran on others for its sake, in the lane's waves from number ``first`` on."""

    hosts: tuple[str, ...]
    first: int


class Wave(Struct, frozen=True):
    """One scheduled task on one set of hosts; no host begins the next wave before all end it.

    ``within`` are the scheduled tasks that it is part of, outer first. ``batch`` says which of
    how many batches, like ``2/3``. ``once``: its results are every host's; ``anyone``: of its
    hosts only the first that can be reached runs it. ``hook`` says what it was hooked to.
    ``commit``: it runs nothing, and what went before is not rolled back any more; ``commits``
    narrows that to a batch.
    """

    task: str
    desc: str
    hosts: tuple[HostPlan, ...]
    within: tuple[str, ...] = ()
    batch: str = ""
    once: bool = False
    anyone: bool = False
    tolerance: Tolerance | None = None
    hook: str = ""
    commit: bool = False
    commits: Batch | None = None

    @property
    def changes(self) -> bool:
        """Whether anything in it may change a host."""
        return any(not step.readonly for host in self.hosts for step in host.steps)


class Lane(Struct, frozen=True):
    """One app's waves; ``app`` is None in a run without apps.

    ``failed`` are the waves that run when the scheduled task of that name fails. ``locks``: the
    path of the app's lock on each of its hosts, as a shell word; none where nothing is changed.
    """

    app: str | None
    waves: tuple[Wave, ...]
    failed: tuple[tuple[str, tuple[Wave, ...]], ...] = ()
    locks: Mapping[str, str] = field(default_factory=dict)


class Plan(Struct, frozen=True):
    """All of a run. ``hosts`` are all that take part, in the inventory's order."""

    run: str
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    lanes: tuple[Lane, ...]
    warnings: tuple[str, ...] = ()
    check: bool = False

    @property
    def changes(self) -> bool:
        """Whether the run may change anything anywhere, if it is no check."""
        return any(wave.changes for lane in self.lanes for wave in lane.waves)
