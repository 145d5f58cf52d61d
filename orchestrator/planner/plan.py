"""The plan: what will happen where, in which order. The executor walks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.command import StepCommand
from orchestrator.model.registered_result import RegisteredResult

ResultsByName: TypeAlias = Mapping[str, Any]
"""What is known on a host by registered name: a Result, or any value that `set` made."""


CONTROLLER = "(this machine)"
"""What a local step is delegated to; no host can have that name."""


class PlannedStep(Struct, frozen=True):
    """One step on one host. Exactly one of these is so:

    - ``skip`` says why it will not run (its ``when`` is false already);
    - ``command`` is what will be sent, final;
    - ``control_action`` is what this side will do instead of any host;
    - ``awaited_names`` names the results it waits for; ``resume`` makes one of the above out of them,
      or the program of a loop. It raises ResultPending while one is missing, DefinitionError where a
      template fails.

    ``display_text`` is the exact text, or the template while it waits. ``number`` counts from 1
    over the task on this host. ``register`` is the name its result gets. ``notify`` are the
    handlers that a change calls, ``handler`` the one that it belongs to. ``delegate_to`` is the host that
    it is delegated to. ``evaluate_result`` decides on this side whether it failed and changed something,
    for conditions over its output that the host cannot judge; ``flush_after`` says that nothing may be
    sent before it did. ``user``: whose shell runs it, '' for the login user's. ``command_position``: where
    its command stands, if its step only names it. ``variables_set``: the names that it sets. ``is_download``:
    its end is known once this side has compared, and read, a file of the host's.
    """

    number: int
    name: str
    mark: SourcePosition
    display_text: str
    when: str = ""
    skip: str = ""
    awaited_names: tuple[str, ...] = ()
    register: str = ""
    readonly: bool = False
    flush_after: bool = False
    evaluate_result: Callable[[ResultsByName, RegisteredResult], ResultOverride] | None = None
    command: StepCommand | None = None
    control_action: ControlAction | None = None
    resume: Callable[[ResultsByName], StepCommand | ControlAction | StepProgram | str] | None = None
    retry: RetryPlan | None = None
    notify: tuple[str, ...] = ()
    handler: str = ""
    delegate_to: str = ""
    user: str = ""
    variables_set: tuple[str, ...] = ()
    is_download: bool = False
    command_position: SourcePosition | None = None


class ControlAction(Struct, frozen=True):
    """What this side does and no host. ``kind``: set (``values``; ``from_controller``: no host had a part in
    them), wait (``seconds``), or assert and fail, where ``ok`` says whether it holds and
    ``message`` what is wrong if not."""

    kind: str
    ok: bool = True
    message: str = ""
    seconds: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict)
    from_controller: bool = False


class RetryPlan(Struct, frozen=True):
    """The step is run until ``is_done`` says so: at most ``retries`` times more, ``delay`` seconds
    after one another. ``condition_text`` is the condition as written."""

    is_done: Callable[[ResultsByName, RegisteredResult], bool]
    condition_text: str
    retries: int
    delay: float


class TryBlock(Struct, frozen=True):
    """What a failure means for the steps numbered ``start`` to ``end`` (not included).

    Those before ``body_end`` are tried. Where one fails, those from ``body_end`` on are run, which
    otherwise are not; those from ``rescue_end`` on run in any case, and last. The failure is made
    up for where the region ``has_rescue`` and what runs in its place does not fail as well;
    else the region as a whole has failed. Of two regions that hold a step, the inner one
    stands first.
    """

    start: int
    body_end: int
    rescue_end: int
    end: int
    has_rescue: bool = False


class ResultGroup(Struct, frozen=True):
    """A name for the result of several steps: of a called task, or of a ``is_loop``.

    ``parts`` are the steps (from, to: not included) with the item that they are for.
    """

    name: str
    parts: tuple[tuple[Any, int, int], ...]
    is_loop: bool = False


class StepProgram(Struct, frozen=True):
    """Steps in order, and the way through them."""

    steps: tuple[PlannedStep, ...] = ()
    try_blocks: tuple[TryBlock, ...] = ()
    result_groups: tuple[ResultGroup, ...] = ()


class ResultOverride(Struct, frozen=True):
    """What ``evaluate_result`` found; None leaves it to the exit status, or to the host."""

    failed: bool | None = None
    changed: bool | None = None


class HostPlan(Struct, frozen=True):
    """What one host does in a wave, and what would undo it. ``rerun_args``: the ``key=value`` words
    that give its task the same arguments."""

    host: str
    program: StepProgram
    rollback: StepProgram = StepProgram()
    rerun_args: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The steps of the program."""
        return self.program.steps


class MaxFailures(Struct, frozen=True):
    """How many hosts may fail over all waves of one item of a playbook."""

    item: int
    limit: int


class CommitScope(Struct, frozen=True):
    """What a commit in a batch commits: all that the batch's ``hosts`` began, also before the
    batch; and what ran on others for its sake, in the lane's waves from number ``first_task`` on."""

    hosts: tuple[str, ...]
    first_task: int


class PlannedTask(Struct, frozen=True):
    """One scheduled task on one set of hosts; no host begins the next wave before all end it.

    ``parents`` are the scheduled tasks that it is part of, outer first. ``batch`` says which of
    how many batches, like ``2/3``. ``once``: its results are every host's; ``any_host``: of its
    hosts only the first that can be reached runs it. ``hooked_to`` says what it was hooked to.
    ``is_commit``: it runs nothing, and what went before is not rolled back any more; ``commit_scope``
    narrows that to a batch.
    """

    task: str
    desc: str
    hosts: tuple[HostPlan, ...]
    parents: tuple[str, ...] = ()
    batch: str = ""
    once: bool = False
    any_host: bool = False
    max_failures: MaxFailures | None = None
    hooked_to: str = ""
    is_commit: bool = False
    commit_scope: CommitScope | None = None

    @property
    def changes(self) -> bool:
        """Whether anything in it may change a host."""
        return any(not step.readonly for host in self.hosts for step in host.steps)


class AppPlan(Struct, frozen=True):
    """One app's waves; ``app`` is None in a run without apps.

    ``failed_hooks`` are the waves that run when the scheduled task of that name fails. ``lock_paths``: the
    path of the app's lock on each of its hosts, as a shell word; none where nothing is changed.
    """

    app: str | None
    planned_tasks: tuple[PlannedTask, ...]
    failed_hooks: tuple[tuple[str, tuple[PlannedTask, ...]], ...] = ()
    lock_paths: Mapping[str, str] = field(default_factory=dict)


class Plan(Struct, frozen=True):
    """All of a run. ``hosts`` are all that take part, in the inventory's order."""

    run_id: str
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    app_plans: tuple[AppPlan, ...]
    warnings: tuple[str, ...] = ()
    check_mode: bool = False

    @property
    def changes(self) -> bool:
        """Whether the run may change anything anywhere, if it is no check."""
        return any(
            planned_task.changes
            for app_plan in self.app_plans
            for planned_task in app_plan.planned_tasks
        )
