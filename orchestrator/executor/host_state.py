"""State of one host in an app run, step cursor, and failure causes in check mode."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from orchestrator.model.command import StepEffects
from orchestrator.model.host import Host
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.model.step_number import number_label
from orchestrator.model.step_result import HostSummary, Status, StepResult, last_lines
from orchestrator.planner.host_scope import CONTROLLER_NAMES, completed_results
from orchestrator.planner.plan import CONTROLLER, PlannedStep, ResultsByName, StepProgram, TryBlock

if TYPE_CHECKING:
    from orchestrator.remote_shell import ShellSession

STDERR_LINES = 10


class HostState(Struct):
    """State of one host in one app run.

    Its worker thread writes it; the app runner reads it at barriers. ``registered_names`` are the
    names registered since the app runner last cleared them. ``pending_handlers`` maps a task and a
    handler that was notified but not run to the command that runs it. ``skipped_by_check`` are the
    steps that check mode did not run. ``notified_keys`` are the keys that notify handlers of later
    planned tasks; ``uncertain_keys`` those that may have been, with the step's name.
    """

    host: Host
    app: str | None
    status: Status | None = None
    reason: str = ""
    hint: str = ""
    stderr: str = ""
    seconds: float = 0.0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(COUNTER_BY_STATUS.values(), 0)
    )
    results: dict[str, Any] = field(default_factory=dict)
    registered_names: set[str] = field(default_factory=set)
    pending_handlers: dict[tuple[str, str], str] = field(default_factory=dict)
    skipped_by_check: list[CheckSkippedStep] = field(default_factory=list)
    notified_keys: set[str] = field(default_factory=set)
    uncertain_keys: dict[str, str] = field(default_factory=dict)

    @property
    def is_stopped(self) -> bool:
        """Return True if no more steps are to be run on this host."""
        return self.status is not None and self.status.is_failure

    @property
    def has_run_steps(self) -> bool:
        """Return True if any step ended as ok, changed or failed."""
        return any(self.counts[counter] for counter in ("ok", "changed", "failed"))

    def register(self, name: str, result: object, *, from_controller: bool = False) -> None:
        """Register a result under this name; ``from_controller``: not from host output."""
        controller_names = self.results.get(CONTROLLER_NAMES, frozenset()) - {name}
        self.results[CONTROLLER_NAMES] = (
            controller_names | {name} if from_controller else controller_names
        )
        self.results[name] = result
        self.registered_names.add(name)

    def note_notified(self, step: PlannedStep, *, is_certain: bool = True) -> None:
        """Record that the step notifies handlers of later planned tasks."""
        if is_certain:
            self.notified_keys.update(step.notify_keys)
        else:
            self.uncertain_keys.update(dict.fromkeys(step.notify_keys, step.name))

    def forget_notified(self, keys: Iterable[str]) -> None:
        """Forget that these keys were notified: their handlers have run."""
        for key in keys:
            self.notified_keys.discard(key)
            self.uncertain_keys.pop(key, None)

    def share_with(self, other: HostState) -> None:
        """Copy the registered results, and the steps skipped by check mode, to another host."""
        own_names = self.results.get(CONTROLLER_NAMES, frozenset()) & self.registered_names
        other_names = other.results.get(CONTROLLER_NAMES, frozenset()) - self.registered_names
        other.results.update({name: self.results[name] for name in self.registered_names})
        other.results[CONTROLLER_NAMES] = other_names | own_names
        if other is not self:
            other.skipped_by_check += (
                each for each in self.skipped_by_check if each not in other.skipped_by_check
            )

    def count_step(self, step: PlannedStep, outcome: StepResult) -> None:
        """Count the result of a step and raise the status accordingly."""
        if outcome.status is not Status.CANCELLED:
            self.counts["ok" if outcome.ignored else COUNTER_BY_STATUS[outcome.status]] += 1
        if outcome.ignored:
            self.raise_status(Status.OK)
        else:
            reason = f"{outcome.reason}, in step {number_label(step.number)} '{step.name}'"
            self.raise_status(outcome.status, reason, stderr=_last_output_lines(outcome))

    def raise_status(
        self, status: Status, reason: str = "", hint: str = "", stderr: str = ""
    ) -> None:
        """Set the status unless a worse one is already set."""
        if self.status is None or status.severity_rank < self.status.severity_rank:
            self.status = status
            if status.is_failure:
                self.reason, self.hint, self.stderr = reason, hint, stderr

    def add_rollback_result(self, task: str, rollback_state: HostState, reason: str) -> None:
        """Merge the result of a task's rollback on this host into the state."""
        if rollback_state.is_stopped:
            message = f"'{task}' is NOT rolled back: {rollback_state.reason}"
        elif not rollback_state.counts["changed"] and not rollback_state.counts["ok"]:
            message = f"'{task}': nothing to roll back to"
        else:
            message = f"'{task}' is rolled back"
            self.pending_handlers = {
                key: command for key, command in self.pending_handlers.items() if key[0] != task
            }
        if not self.is_stopped or self.status in (Status.NOT_STARTED, Status.STOPPED):
            self.status, self.reason = Status.CANCELLED, reason
        self.reason = "; ".join(part for part in (self.reason, message) if part)

    def add_hook_result(self, task: str, hook_state: HostState) -> None:
        """Merge the result of a ``failed`` hook's task on this host into the state."""
        if not hook_state.is_stopped:
            self.status = self.status or hook_state.status or Status.SKIPPED
            return
        message = f"'{task}', which runs on a failure, failed: {hook_state.reason}"
        self.raise_status(
            hook_state.status or Status.FAILED,
            self.reason,
            self.hint,
            self.stderr or hook_state.stderr,
        )
        self.reason = f"{self.reason}; {message}" if self.reason else message

    def summarize(self) -> HostSummary:
        """Return the row of the summary table for this host."""
        hints = [
            self.hint,
            *(f"not run yet: {command}" for command in self.pending_handlers.values()),
        ]
        return HostSummary(
            host=self.host.name,
            app=self.app,
            status=self.status or Status.NOT_STARTED,
            reason=self.reason,
            seconds=self.seconds,
            roles=self.host.roles,
            hint="\n".join(hint for hint in hints if hint),
            stderr=self.stderr,
            ok=self.counts["ok"],
            changed=self.counts["changed"],
            failed=self.counts["failed"],
            skipped=self.counts["skipped"],
            unknown=self.counts["unknown"],
        )


class HostTaskState(Struct):
    """State of one task on one host, shared by its runner, its recorder and its check mode filter.

    - ``number``: the task's number among those of its app, from 1; 0 if it is not one of them.
    - ``session``: the session that the last pipeline was sent to, or None.
    - ``cursor``: the position in the program that runs, or None before the first one.
    - ``failed_step``: the step that failed and stopped the last pipeline, or None.
    - ``is_stopped``: the host is lost, or the run was interrupted.
    - ``defers_result``: while set, a step's result is kept in ``deferred_result`` and not counted.
    - ``changed_steps``: the numbers of the steps that changed something, or would.
    - ``finished_steps``, ``failed_steps``: the numbers of the steps that ended without and with a
      failure.
    - ``pending_notifications``: the results of steps that the host's shell did not run itself and
      must still be told (number, changed, failed).
    - ``results``: the registered results by step number.
    - ``uncertain_steps``: steps whose result check mode does not know, with their names.
    - ``effects``: the effects of the steps that check mode did not run.
    """

    host_state: HostState
    task: str
    number: int = 0
    session: ShellSession | None = None
    cursor: StepCursor | None = None
    failed_step: PlannedStep | None = None
    is_stopped: bool = False
    defers_result: bool = False
    deferred_result: StepResult | None = None
    changed_steps: set[int] = field(default_factory=set)
    finished_steps: set[int] = field(default_factory=set)
    failed_steps: set[int] = field(default_factory=set)
    pending_notifications: list[tuple[int, bool, bool]] = field(default_factory=list)
    results: dict[int, RegisteredResult] = field(default_factory=dict)
    uncertain_steps: dict[int, str] = field(default_factory=dict)
    effects: dict[int, StepEffects] = field(default_factory=dict)


def results_of_all_hosts(host_states: Mapping[str, HostState]) -> ResultsByName:
    """Return the results that every host can refer to when the next task starts."""
    return completed_results({name: host_state.results for name, host_state in host_states.items()})


def _last_output_lines(outcome: StepResult) -> str:
    if not outcome.status.is_failure:
        return ""
    text = outcome.stderr.display_text or outcome.stdout.display_text
    return "\n".join(last_lines(text, STDERR_LINES))


COUNTER_BY_STATUS: dict[Status, str] = {
    status: "failed" for status in Status if status.is_failure
} | {
    Status.OK: "ok",
    Status.CHANGED: "changed",
    Status.SKIPPED: "skipped",
    Status.WOULD_CHANGE: "changed",
    Status.WOULD_RUN: "changed",
    Status.UNKNOWN: "unknown",
}


class StepCursor:
    """Walks one program; a method that returns the next step returns None at the end.

    A failure is pending while the ``always`` steps of its block run. It then passes to the
    enclosing block, up to one with ``rescue``, or to the end of the program (``has_failed``).
    """

    def __init__(self, program: StepProgram) -> None:
        """Start before the first step."""
        self.program = program
        self._index_by_number = {step.number: n for n, step in enumerate(program.steps)}
        self.pending_blocks: list[TryBlock] = []
        self.has_failed = False

    def first_step(self) -> PlannedStep | None:
        """Return the first step, or None if the program is empty."""
        return self.program.steps[0] if self.program.steps else None

    def next_step(self, step: PlannedStep) -> PlannedStep | None:
        """Return the step after one that succeeded, or whose failure is ignored."""
        return self._step_at(step.number, step.number + 1)

    def step_after_failure(self, step: PlannedStep) -> PlannedStep | None:
        """Return the step after one that failed, or None if the program fails."""
        return self._leave_failed_block(step.number, self.program.try_blocks)

    def is_rescued(self, step: PlannedStep) -> bool:
        """Return True if a ``rescue`` block handles a failure of this step."""
        return any(
            r.has_rescue and r.start <= step.number < r.body_end for r in self.program.try_blocks
        )

    def has_pending_at(self, number: int) -> bool:
        """Return True if the block of a pending failure ends right before this step number."""
        return any(try_block.end == number for try_block in self.pending_blocks)

    def _step_at(self, previous: int, number: int) -> PlannedStep | None:
        """Return the step with this number, skipping ``rescue`` steps if nothing failed."""
        has_moved = True
        while has_moved:
            has_moved = False
            for position, try_block in enumerate(self.program.try_blocks):
                inside = try_block.start <= previous < try_block.body_end
                if inside and number == try_block.body_end and try_block.rescue_end > number:
                    number, has_moved = try_block.rescue_end, True
                if number == try_block.end and try_block in self.pending_blocks:
                    self.pending_blocks.remove(try_block)
                    return self._leave_failed_block(
                        try_block.start, self.program.try_blocks[position + 1 :]
                    )
        return self._find_step(number)

    def _leave_failed_block(
        self, number: int, try_blocks: tuple[TryBlock, ...]
    ) -> PlannedStep | None:
        """Return the first ``rescue`` or ``always`` step that follows a failed step or block.

        Search the enclosing blocks from the innermost; None means that the program has failed.
        """
        for position, try_block in enumerate(try_blocks):
            if not try_block.start <= number < try_block.end or number >= try_block.rescue_end:
                continue
            if number < try_block.body_end and try_block.has_rescue:
                return (
                    self._step_at(try_block.body_end, try_block.body_end)
                    if try_block.rescue_end > try_block.body_end
                    else (self._step_at(try_block.rescue_end, try_block.rescue_end))
                )
            if try_block.rescue_end < try_block.end:
                self.pending_blocks.append(try_block)
                return self._find_step(try_block.rescue_end)
            return self._leave_failed_block(try_block.start, try_blocks[position + 1 :])
        self.has_failed = True
        return None

    def _find_step(self, number: int) -> PlannedStep | None:
        index = self._index_by_number.get(number)
        return None if index is None else self.program.steps[index]


ANY_EFFECTS = StepEffects(may_change_anything=True, may_read_anything=True)
"""Effects of a step that could not be planned because it depends on an unknown result."""


class CheckSkippedStep(Struct, frozen=True):
    """A step that check mode did not run.

    ``host`` is the host that it would change; ``is_uncertain`` is True if a normal run might not
    reach the step.
    """

    name: str
    effects: StepEffects
    host: str
    is_uncertain: bool = False

    def failure_reason(self, effects: StepEffects, host: str) -> str:
        """Return why the failure of a step with these effects does not predict a failed run."""
        depends = "depends" if _makes_what_is_needed(self, effects, host) else "may depend"
        return f"it {depends} on '{self.name}', which was not run"


def find_cause(
    skipped_steps: Sequence[CheckSkippedStep], effects: StepEffects, host: str
) -> CheckSkippedStep | None:
    """Return the skipped step that can be the cause if a step with these effects fails, or None.

    Prefer the last one that creates what the step needs, else the last one that may create
    anything.
    """
    candidates = [each for each in reversed(skipped_steps) if can_cause(each, effects, host)]
    ranked = sorted(
        candidates,
        key=lambda each: (not _makes_what_is_needed(each, effects, host), each.is_uncertain),
    )
    return ranked[0] if ranked else None


def can_cause(skipped_step: CheckSkippedStep, effects: StepEffects, host: str) -> bool:
    """Return True if the skipped step can be the cause if a step with these effects fails."""
    if skipped_step.effects.may_change_anything or _makes_what_is_needed(
        skipped_step, effects, host
    ):
        return True
    # a file that would be downloaded to the controller does not exist on other hosts
    return effects.may_read_anything and (host == CONTROLLER or skipped_step.host != CONTROLLER)


def changes_what_is_observed(
    skipped_step: CheckSkippedStep, effects: StepEffects, host: str
) -> bool:
    """Return True if the skipped step would change what determines the step's result."""
    return skipped_step.host == host and _makes_one_of(skipped_step, effects.observed_names)


def _makes_what_is_needed(skipped_step: CheckSkippedStep, effects: StepEffects, host: str) -> bool:
    if skipped_step.host == host and skipped_step.effects.module in effects.needed_modules:
        return True
    return skipped_step.host == host and _makes_one_of(skipped_step, effects.needed_names)


def _makes_one_of(skipped_step: CheckSkippedStep, names: Iterable[str]) -> bool:
    return any(
        _names_overlap(created, needed)
        for created in skipped_step.effects.created_names
        for needed in names
    )


def _names_overlap(created: str, needed: str) -> bool:
    """Return True if a created path or name can provide a needed one.

    A path provides itself, the paths above it and the paths below it. The name of a user or group
    provides itself, and paths that contain it, such as the user's home folder.
    """
    if created[:1] not in ("/", "~"):
        return created == needed or (needed[:1] in ("/", "~") and created in needed.split("/"))
    if needed[:1] not in ("/", "~"):
        return False
    (root, *parts), (other, *others) = _path_parts(created), _path_parts(needed)
    if root == other or (root and other):
        # the login user may be the become user of another step, so their home folders may be the
        # same
        return _is_common_prefix(parts, others)
    inside, absolute = (parts, others) if root else (others, parts)
    # the location of a home folder is not known here: it may be any folder but /
    return any(_is_common_prefix(inside, absolute[at:]) for at in range(1, len(absolute)))


def _path_parts(path: str) -> list[str]:
    """Return the path's components, starting with its root: ``~``, ``~user`` or ''."""
    root, _, rest = posixpath.normpath(path).partition("/")
    return [root, *filter(None, rest.split("/"))]


def _is_common_prefix(one: Iterable[str], other: Iterable[str]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))
