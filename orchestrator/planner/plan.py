"""The plan: which steps run on which host, in which order. The executor runs only the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.command import StepCommand
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.playbook.model import TaskParam

ResultsByName: TypeAlias = Mapping[str, Any]
"""Results of a host by registered name: a RegisteredResult, or any value assigned by `set`."""


CONTROLLER = "(this machine)"
"""Name of the controller in ``delegate_to`` of a local step; no host can have this name."""


ResumedAction: TypeAlias = "StepCommand | ControlAction | StepProgram | str"
"""What a step that waited for a result does: also the program of a loop, or why it is skipped."""


class PlannedStep(Struct, frozen=True):
    """One step on one host.

    Exactly one of these applies:

    - ``skip`` is the reason why it will not run (its ``when`` is already false).
    - ``command`` is the command to send, final.
    - ``control_action`` is an action of the controller.
    - ``awaited_names`` are the results it waits for; ``resume`` then returns one of the above, or
      the program of a loop. It raises ResultPending while a result is missing, and DefinitionError
      if a template fails.

    The other fields:

    - ``display_text`` is the exact text, or the template while the step waits.
    - ``number`` counts from 1 within the task on this host.
    - ``register`` is the name of its result; ``variables_set`` are the names that `set` assigns.
    - ``notify`` are the handlers notified by a change; ``handler`` is the handler it belongs to,
      which runs if one of the steps ``notified_by`` changed something, or an earlier planned task
      notified one of the keys ``notified_as``; ``notify_keys`` are those that this step notifies.
    - ``delegate_to`` is the host that runs it instead.
    - ``evaluate_result`` evaluates, on the controller, conditions over its output that the host
      cannot evaluate; ``flush_after``: no later step may be sent before that.
    - ``user`` is the become user, '' for the login user.
    - ``loop`` is the number of the first step of the loop of which it is an item, if the items are
      known before the run; else 0.
    - ``command_position`` is the position of its command if the step only names a variable.
    - ``returns`` are the types of the values that its module returns, by their names.
    - ``hide_result`` adds a text of its output to the secrets, under the name of its result; None
      if its output is not secret.
    - ``is_open_loop``: it stands for a loop whose items are not known before the run.
    - ``pause``: the seconds that pass before it, between two items of a loop.
    - ``is_download``: its result is known only after the controller has compared, and read, a file
      of the host.
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
    resume: Callable[[ResultsByName], ResumedAction] | None = None
    retry: RetryPlan | None = None
    notify: tuple[str, ...] = ()
    handler: str = ""
    notified_by: tuple[int, ...] = ()
    notify_keys: tuple[str, ...] = ()
    notified_as: tuple[str, ...] = ()
    delegate_to: str = ""
    user: str = ""
    variables_set: tuple[str, ...] = ()
    is_download: bool = False
    command_position: SourcePosition | None = None
    loop: int = 0
    is_open_loop: bool = False
    pause: float = 0.0
    returns: Mapping[str, TaskParam] = field(default_factory=dict)
    hide_result: Callable[[str, str], None] | None = None


class ControlAction(Struct, frozen=True):
    """An action of the controller instead of a host.

    ``kind`` is set (``values``; ``from_controller``: independent of host output), wait
    (``seconds``), wait_for_connection (at most ``timeout`` seconds, after ``seconds``, until the
    command ``test`` succeeds on the host), assert or
    fail (``ok``: the condition is true; ``message``: the error if not; ``ignore_failure``: it is
    ignored).
    """

    kind: str
    ok: bool = True
    message: str = ""
    seconds: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict)
    from_controller: bool = False
    ignore_failure: bool = False
    timeout: float = 0.0
    test: str = ""


class RetryPlan(Struct, frozen=True):
    """Retries of a step: at most ``retries`` more attempts, ``delay`` seconds apart.

    ``is_done`` returns True if no further attempt is needed; ``condition_text`` is the condition as
    written.
    """

    is_done: Callable[[ResultsByName, RegisteredResult], bool]
    condition_text: str
    retries: int
    delay: float


class TryBlock(Struct, frozen=True):
    """What a failure means for the steps numbered ``start`` to ``end`` (exclusive).

    The steps before ``body_end`` are the body. The steps from ``body_end`` to ``rescue_end`` run
    only if a step of the body failed; those from ``rescue_end`` on always run, last. The failure is
    rescued if the block ``has_rescue`` and no rescue step fails; otherwise the block has failed. If
    two blocks contain a step, the inner one comes first.
    """

    start: int
    body_end: int
    rescue_end: int
    end: int
    has_rescue: bool = False


class ResultGroup(Struct, frozen=True):
    """A name for the combined result of several steps: of a called task, or of a loop.

    ``parts`` are ranges of step numbers (from, to; exclusive), each with the loop's item.
    """

    name: str
    parts: tuple[tuple[Any, int, int], ...]
    is_loop: bool = False


class ThrottledSteps(Struct, frozen=True):
    """The steps numbered ``start`` to ``end`` (exclusive): at most ``limit`` hosts run them.

    ``origin`` is where the limit is written; it is equal on every host.
    """

    start: int
    end: int
    origin: str
    limit: int


class StepProgram(Struct, frozen=True):
    """Steps in order, with the blocks, result groups and throttles over their numbers."""

    steps: tuple[PlannedStep, ...] = ()
    try_blocks: tuple[TryBlock, ...] = ()
    result_groups: tuple[ResultGroup, ...] = ()
    throttles: tuple[ThrottledSteps, ...] = ()


class ResultOverride(Struct, frozen=True):
    """Result of ``evaluate_result``; None leaves a field to the exit status, or to the host."""

    failed: bool | None = None
    changed: bool | None = None


class HostPlan(Struct, frozen=True):
    """The program of one host in a planned task, and its rollback.

    ``rerun_args``: the ``key=value`` words that give the task the same arguments.
    """

    host: str
    program: StepProgram
    rollback: StepProgram = StepProgram()
    rerun_args: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """Return the steps of the program."""
        return self.program.steps


class MaxFailures(Struct, frozen=True):
    """How many hosts may fail over all planned tasks of one playbook item."""

    item: int
    limit: int


class CommitScope(Struct, frozen=True):
    """What a commit in a batch commits.

    It commits all that the batch's ``hosts`` started, also before the batch, and what ran on other
    hosts in the app's planned tasks from number ``first_task`` on.
    """

    hosts: tuple[str, ...]
    first_task: int


class BatchScope(Struct, frozen=True):
    """A batch whose failure does not stop the next batches.

    ``item`` is the number of the playbook item, unique in the app plan, and ``number`` that of the
    batch in it. ``hosts`` are those of the batch; hooks may run on others, too.
    """

    item: int
    number: int
    hosts: tuple[str, ...]


class BatchGate(Struct, frozen=True):
    """What happens before a batch that is not the first: a pause in seconds, then a question."""

    pause: float = 0.0
    confirm: bool = False


class PlannedTask(Struct, frozen=True):
    """One scheduled task on a set of hosts; all of them end it before the next one starts.

    ``parents`` are the scheduled tasks that it is part of, outermost first. ``batch`` is the
    batch's number and the number of batches, like ``2/3``. ``once``: its results are shared with
    every host. ``any_host``: only the first reachable host runs it. ``hooked_to``: the hook that it
    belongs to, if any. ``is_commit``: it has no steps, and what ran before is not rolled back any
    more; ``commit_scope`` restricts that to a batch. ``gate``: it begins a batch after another.
    ``batch_scope``: if it fails, only its batch ends; None means that the app run does.
    ``stops_at_error``: a failure stops the other hosts after the step that each of them runs.
    ``prompt``: it has no hosts, and a person is asked whether to go on.
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
    gate: BatchGate | None = None
    batch_scope: BatchScope | None = None
    stops_at_error: bool = False
    prompt: str = ""

    @property
    def changes(self) -> bool:
        """Return True if any step may change a host."""
        return any(not step.readonly for host in self.hosts for step in host.steps)


class AppPlan(Struct, frozen=True):
    """One app's planned tasks; ``app`` is None in a run without apps.

    ``failed_hooks`` are the planned tasks that run if the scheduled task of that name fails.
    ``lock_paths``: the path of the app's lock on each of its hosts, as a shell word; empty if the
    run changes nothing.
    """

    app: str | None
    planned_tasks: tuple[PlannedTask, ...]
    failed_hooks: tuple[tuple[str, tuple[PlannedTask, ...]], ...] = ()
    lock_paths: Mapping[str, str] = field(default_factory=dict)


class Plan(Struct, frozen=True):
    """The plan of a whole run. ``hosts`` are all participating hosts, in the inventory's order."""

    run_id: str
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    app_plans: tuple[AppPlan, ...]
    warnings: tuple[str, ...] = ()
    check_mode: bool = False

    @property
    def changes(self) -> bool:
        """Return True if the run may change anything, unless it is in check mode."""
        return any(
            planned_task.changes
            for app_plan in self.app_plans
            for planned_task in app_plan.planned_tasks
        )
