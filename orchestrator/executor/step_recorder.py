"""Turns what a session reports about steps into results, registered names and events.

Also parses the reports of module scripts and keeps a bounded part of each step's output.
"""

from __future__ import annotations

import difflib
import signal
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.executor.connection_pool import EmitFunction
from orchestrator.executor.host_state import (
    ANY_EFFECTS,
    CheckSkippedStep,
    HostTaskState,
    find_cause,
)
from orchestrator.executor.progress import LOST_BEFORE, LOST_RESULT, UNREPORTED, EndedStep
from orchestrator.model.command import DesiredState, LineRanges, StepCommand, StepEffects
from orchestrator.model.event import (
    Noted,
    SentStep,
    StepFinished,
    StepOutput,
    StepsSent,
    StepStarted,
    TransferProgress,
)
from orchestrator.model.registered_result import RegisteredResult, UnknownResult
from orchestrator.model.step_result import CapturedOutput, StateChange, Status, StepResult
from orchestrator.model.text_encoding import decode_bytes, encode_text, repr_text
from orchestrator.planner.plan import (
    CONTROLLER,
    ControlAction,
    PlannedStep,
    ResultGroup,
    StepProgram,
)
from orchestrator.planner.returned_values import registered_step_result
from orchestrator.remote_shell import CommandResult, EndReason, ShellSession
from orchestrator.remote_shell.decoder import ProtocolError, parse_number
from orchestrator.remote_shell.folder_script import REPORT_KINDS, FolderReports
from orchestrator.remote_shell.module_protocol import parse_state

_SIGNAL_EXIT_STATUSES = range(129, 193)
"""Exit statuses by which a shell reports that a signal ended a command: 128 plus its number.

Source: dash and bash manuals; POSIX.1-2017, XCU 2.8.2 only requires more than 128.
"""

_CHANGED_STATUSES = frozenset({Status.CHANGED, Status.WOULD_CHANGE, Status.WOULD_RUN})
_SKIPPED_BY_CHECK_STATUSES = frozenset({Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN})

_NO_VALUES: Mapping[str, object] = {}


class StepRecorder:
    """The session's listener for one task on one host: writes what happens to its ``state``."""

    def __init__(self, state: HostTaskState, emit: EmitFunction) -> None:
        """Create a recorder with no steps."""
        self.state, self._emit = state, emit
        self._queue: list[tuple[PlannedStep, StepCommand | StepResult]] = []
        self._sent: dict[int, tuple[PlannedStep, StepCommand]] = {}
        self._ended_after: dict[int, list[tuple[PlannedStep, StepResult]]] = {}
        self._values: dict[int, Mapping[str, object]] = {}
        self._from_controller: set[int] = set()
        self._registered_groups: set[int] = set()
        self._module_result = ModuleResultParser()
        self._folder_reports = FolderReports()
        self._running_step: PlannedStep | None = None
        self._announced_step: PlannedStep | None = None
        self._any_step_ended = False  # a step of the current pipeline
        self._unknown_shell: ShellSession | None = None
        self._hidden_pipeline: (
            tuple[ShellSession, Sequence[tuple[PlannedStep, StepCommand]]] | None
        ) = None
        self._started_at = 0.0
        self._output_buffers = {"stdout": OutputBuffer(), "stderr": OutputBuffer()}

    def queue(
        self,
        step: PlannedStep,
        item: StepCommand | StepResult,
        values: Mapping[str, object] = _NO_VALUES,
        *,
        from_controller: bool = False,
    ) -> None:
        """Queue the next step: a command to send, or the result of a step without one.

        The result (of a skipped or ``set`` step) is reported after the steps before it have ended,
        and registers ``values`` then (``from_controller``: they do not depend on host output).
        """
        self._values[step.number] = values
        if from_controller:
            self._from_controller.add(step.number)
        if isinstance(item, StepResult) and item.status is Status.UNKNOWN:
            self.state.uncertain_steps[step.number] = step.name
        if isinstance(item, StepResult) and not self._queue:
            self.finish_step(step, item)
        else:
            self._queue.append((step, item))

    def names_awaited(self, program: StepProgram) -> set[str]:
        """Return the names that queued steps will register, so their old values are outdated."""
        queued = {step.number for step, item in self._queue if isinstance(item, StepCommand)}
        names = {step.register for step, _ in self._queue}
        names.update(name for step, _ in self._queue for name in self._values[step.number])
        for group in program.result_groups:
            if any(start <= n < end for _, start, end in group.parts for n in queued):
                names.add(group.name)
        return names

    def has_queued(self, numbers: Sequence[int], keys: Sequence[str]) -> bool:
        """Return True if one of these steps, or one that notifies one of the keys, is queued."""
        return any(
            step.number in numbers or not set(step.notify_keys).isdisjoint(keys)
            for step, _ in self._queue
        )

    def drain_queue(self) -> list[tuple[PlannedStep, StepCommand]]:
        """Return the queued commands as the next pipeline and empty the queue."""
        pipeline: list[tuple[PlannedStep, StepCommand]] = []
        self._ended_after = {}
        for step, item in self._queue:
            if isinstance(item, StepCommand):
                pipeline.append((step, item))
            else:
                self._ended_after.setdefault(pipeline[-1][0].number, []).append((step, item))
        self._queue = []
        self.state.failed_step, self._any_step_ended = None, False
        self._sent = {step.number: (step, command) for step, command in pipeline}
        return pipeline

    def started(self, number: int) -> None:
        """Handle the start of a step on the host."""
        self._emit_hidden_texts()
        self._announce_step(self._sent[number][0])

    def _emit_hidden_texts(self) -> None:
        """Emit the texts of the pipeline, if they were hidden: the shell is ready now."""
        if self._hidden_pipeline is not None:
            self._emit_sent_steps(*self._hidden_pipeline, hides_texts=False)
            self._hidden_pipeline = None

    def output(self, number: int, stream: str, data: bytes) -> None:
        """Handle a step's output; step 0 is output of the shell itself."""
        if number and self._running_step is not None:
            self._output_buffers[stream].add(data)
        if number and self._sent[number][0].hide_result is not None:
            return
        task = self.state.task if number else ""
        host, app = self.state.host_state.host.name, self.state.host_state.app
        step = self._sent[number][0] if number else None
        self._emit(
            StepOutput(
                time.time(),
                app,
                task=task,
                step=number,
                host=host,
                stream=stream,
                data=data,
                is_for_steps=bool(step and step.returns and self._name_of_result(step))
                and stream == "stdout",
            )
        )

    @property
    def needed_lines(self) -> tuple[tuple[int, int], ...] | None:
        """Return the parts of a tree's manifest that the last step's host needs; None for all."""
        return self._module_result.needed

    @property
    def tree_basis(self) -> TreeBasis | None:
        """Return what the last step's host has of the large files of its tree."""
        return self._module_result.basis

    def report_transfer(self, step: PlannedStep, done: int, total: int, seconds: float) -> None:
        """Report how many bytes of ``total`` the step has sent or received in ``seconds``."""
        host, app = self.state.host_state.host.name, self.state.host_state.app
        self._emit(
            TransferProgress(
                time.time(),
                app,
                task=self.state.task,
                step=step.number,
                host=host,
                done=done,
                total=total,
                seconds=seconds,
            )
        )

    def note(self, text: str) -> None:
        """Tell those who want to see more something about the host."""
        app, host = self.state.host_state.app, self.state.host_state.host.name
        self._emit(Noted(time.time(), f"{f'{host} ({app})' if app else host}: {text}"))

    def reported(self, number: int, kind: str, text: str) -> None:
        """Handle a report line from a module script, or of a command line's folder."""
        if self._sent[number][1].folder is not None and kind.lstrip("+") in REPORT_KINDS:
            self._folder_reports.add_report(kind, text)
        else:
            self._module_result.add_report(kind, text)

    def ended(self, number: int, ending: CommandResult) -> None:
        """Handle the end of a step, whether it ended by itself or was ended."""
        self._emit_hidden_texts()
        self._any_step_ended = True
        step, command = self._sent[number]
        outcome = self._step_result(step, command, ending)
        if self.state.defers_result and outcome.status not in (Status.SKIPPED, Status.CANCELLED):
            self.state.deferred_result, self._running_step = outcome, None
            return
        self.finish_step(step, outcome, ignore=command.ignore_failure)
        for ended_step, ended_result in self._ended_after.pop(number, ()):
            if self.state.failed_step is None and not self.state.is_stopped:
                self.finish_step(ended_step, ended_result)

    def end_all_unsent(self, outcome: StepResult) -> None:
        """End all unsent commands with this result, and report the queued results after them."""
        for step_number, (step, _) in self._sent.items():
            if step_number not in self.state.finished_steps | self.state.failed_steps:
                self.finish_step(step, outcome)
            for ended_step, ended_result in self._ended_after.pop(step_number, ()):
                self.finish_step(ended_step, ended_result)

    def is_announced(self, step: PlannedStep) -> bool:
        """Return True if the step has been announced as started but not as finished."""
        return self._announced_step is step

    def note_lost(self, reason: str, delegated_step: PlannedStep | None = None) -> None:
        """Record a lost session: the result of the running step is unknown.

        ``delegated_step`` is the only step that was sent to another host and may have started;
        nothing is unknown if it has ended.
        """
        if delegated_step is not None and self._any_step_ended:
            return
        self.state.is_stopped, self.state.deferred_result = True, None
        step = (
            self._running_step or self._announced_step or delegated_step
        )  # started, or between two attempts
        if step is None:
            self.state.host_state.raise_status(Status.LOST, f"{reason}, between two steps")
        else:
            self.finish_step(step, self._captured_result(Status.LOST, None, reason))

    def fail_running_step(self, reason: str) -> None:
        """Record the step that has started, if any, as failed; its session is not used any more."""
        self.state.defers_result = False
        if self._announced_step is not None:
            self.finish_step(
                self._announced_step, self._captured_result(Status.FAILED, None, reason)
            )

    def finish_step(self, step: PlannedStep, outcome: StepResult, *, ignore: bool = False) -> None:
        """Record the final result of a step: register it, count it and emit StepFinished."""
        if self._announced_step is not step:
            self._announce_step(step)
        self._running_step = self._announced_step = None
        if outcome.status.is_failure:
            outcome = replace(outcome, position=str(step.mark))
        if outcome.status in (Status.LOST, Status.CANCELLED):
            self.state.is_stopped = True
        elif outcome.status.is_failure:
            if step.command_position and outcome.status in (
                Status.FAILED,
                Status.KILLED,
                Status.TIMED_OUT,
            ):
                reason = f"{outcome.reason}: the command at {step.command_position}"
                outcome = replace(outcome, reason=reason)
            is_rescued = self.state.cursor is not None and self.state.cursor.is_rescued(step)
            outcome = replace(
                outcome, ignored=ignore or is_rescued, rescued=is_rescued and not ignore
            )
            if not ignore:
                self.state.failed_step = step
        self._register_result(step, outcome)
        has_secret = step.hide_result is not None
        if has_secret:
            outcome = self._hidden_result(step, outcome)
        self.state.host_state.count_step(step, outcome)
        if outcome.status in _SKIPPED_BY_CHECK_STATUSES and not step.readonly:
            effects = self.state.effects.get(step.number, ANY_EFFECTS)
            unknown = outcome.status is Status.UNKNOWN
            self.state.host_state.skipped_by_check.append(
                CheckSkippedStep(step.name, effects, self.target_host(step), unknown)
            )
        elif outcome.status is Status.WOULD_CHANGE and step.is_download:
            self.state.host_state.skipped_by_check.append(
                CheckSkippedStep(step.name, StepEffects(), CONTROLLER)
            )
        host, app = self.state.host_state.host.name, self.state.host_state.app
        self._emit(
            StepFinished(
                time.time(),
                app,
                task=self.state.task,
                step=step.number,
                name=step.name,
                host=host,
                outcome=outcome,
                loop=step.loop,
                number=self.state.number,
                register=self._name_of_result(step),
                has_secret=has_secret,
                has_values=bool(step.returns),
            )
        )

    def _hidden_result(self, step: PlannedStep, outcome: StepResult) -> StepResult:
        """Return the result without what it shows of a secret; what is registered is masked."""
        name = self._name_of_result(step)
        if name and step.hide_result is not None:
            returned = self.state.results[step.number].values.values()
            texts = [value for value in returned if isinstance(value, str)]
            for text in (outcome.stdout.text, outcome.stderr.text, *texts):
                step.hide_result(name, text)
        label = f"‹{name or 'secret'}›".encode()
        reason = outcome.reason
        if outcome.status is Status.FAILED and outcome.exit_status is not None:
            reason = f"exit status {outcome.exit_status}"
        elif outcome.status is Status.FAILED or outcome.changes:
            reason = "its output is secret" if reason else ""
        return replace(
            outcome,
            stdout=outcome.stdout if outcome.stdout.is_empty else CapturedOutput(label),
            stderr=outcome.stderr if outcome.stderr.is_empty else CapturedOutput(label),
            reason=reason,
            changes=(),
            diff="",
        )

    def _name_of_result(self, step: PlannedStep) -> str:
        """Return the name under which later steps see the result, alone or with others, or ''."""
        if step.register or self.state.cursor is None:
            return step.register
        for group in self.state.cursor.program.result_groups:
            if any(start <= step.number < end for _, start, end in group.parts):
                return group.name
        return ""

    def announce_sending(
        self, session: ShellSession, pipeline: Sequence[tuple[PlannedStep, StepCommand]]
    ) -> None:
        """Emit that these steps are about to be sent to the session.

        Before a become user's shell is ready, its password may not be known, so that it could not
        be masked: the texts follow when the first step has started.
        """
        self._unknown_shell = None if session.shell_pid else session
        hides_texts = bool(pipeline[0][0].user) and not session.shell_pid
        self._emit_sent_steps(session, pipeline, hides_texts=hides_texts)
        self._hidden_pipeline = (session, pipeline) if hides_texts else None

    def _emit_sent_steps(
        self,
        session: ShellSession,
        pipeline: Sequence[tuple[PlannedStep, StepCommand]],
        *,
        hides_texts: bool,
    ) -> None:
        host, app = self.state.host_state.host.name, self.state.host_state.app
        first = pipeline[0][0]
        self._emit(
            StepsSent(
                time.time(),
                app,
                task=self.state.task,
                host=host,
                target=self.target_host(first),
                user=first.user,
                session=session.session_id,
                shell_pid=session.shell_pid,
                steps=tuple(
                    SentStep(step.number, "", "", step.readonly)
                    if hides_texts
                    else sent_step(step, command)
                    for step, command in pipeline
                ),
                number=self.state.number,
            )
        )

    def replay_step(self, step: PlannedStep, ended: EndedStep, action: ControlAction) -> None:
        """Record a result that the step had before the run was resumed; emit nothing."""
        self._values[step.number] = action.values
        if action.from_controller:
            self._from_controller.add(step.number)
        self._register_result(step, ended.result, ended.missing_output)
        self.state.host_state.count_step(step, ended.result)
        self.state.host_state.seconds += ended.result.seconds

    def end_as_changed(self, step: PlannedStep, reason: str) -> None:
        """End a step as changed whose result is not known after the run was resumed."""
        self._values[step.number] = _NO_VALUES
        self.finish_step(step, StepResult(Status.CHANGED, reason=reason))

    def register_groups(self, program: StepProgram, number: int) -> None:
        """Register the results of the groups that ended before this step."""
        number = min([number, *(step.number for step, _ in self._queue)])
        for group in program.result_groups:
            if (
                group.parts
                and group.parts[-1][2] <= number
                and id(group) not in self._registered_groups
            ):
                self._registered_groups.add(id(group))
                uncertain = [
                    n
                    for _, a, b in group.parts
                    for n in range(a, b)
                    if n in self.state.uncertain_steps
                ]
                combined = combine_results(group, self.state.results)
                self.state.host_state.register(
                    group.name,
                    UnknownResult(self.state.uncertain_steps[uncertain[0]])
                    if uncertain
                    else combined,
                )

    def _register_result(
        self, step: PlannedStep, outcome: StepResult, missing_output: str = ""
    ) -> None:
        failed = outcome.status.is_failure and not outcome.ignored
        (self.state.failed_steps if failed else self.state.finished_steps).add(step.number)
        result = registered_step_result(step, outcome, failed=outcome.status.is_failure)
        if outcome.reason in (LOST_BEFORE, UNREPORTED) and outcome.status is Status.CHANGED:
            missing_output = LOST_RESULT
        if missing_output:
            result = replace(result, missing_output=f"'{step.name}': {missing_output}")
        self.state.results[step.number] = result
        unknown = outcome.status is Status.UNKNOWN
        if unknown:
            self.state.uncertain_steps[step.number] = step.name
            self.state.host_state.note_notified(step, is_certain=False)
        if step.register:
            self.state.host_state.register(
                step.register, UnknownResult(step.name) if unknown else result
            )
        for name in step.variables_set if unknown else ():
            self.state.host_state.register(name, UnknownResult(step.name))
        for name, value in self._values.pop(step.number, _NO_VALUES).items():
            self.state.host_state.register(
                name, value, from_controller=step.number in self._from_controller
            )
        if outcome.status in _CHANGED_STATUSES:
            self.state.changed_steps.add(step.number)
            self.state.host_state.note_notified(step)
        if step.delegate_to or step.control_action or step.retry or step.is_download:
            self.state.pending_notifications.append((step.number, result.changed, result.failed))

    def skipped_result(self, step: PlannedStep, reason: str) -> StepResult:
        """Return the result of a step that was not run."""
        not_notified = step.handler and not (
            self.state.changed_steps.intersection(step.notified_by)
            or self.state.host_state.notified_keys.intersection(step.notified_as)
        )
        return StepResult(Status.SKIPPED, reason="not notified" if not_notified else reason)

    def target_host(self, step: PlannedStep) -> str:
        """Return the host that a step changes: its own, or the one that it is delegated to."""
        return step.delegate_to or self.state.host_state.host.name

    def failure_cause(self, step: PlannedStep) -> str:
        """Return why the step's failure may be due to check mode, or ''."""
        effects, target_host = self.state.effects.get(step.number), self.target_host(step)
        skipped_step = (
            find_cause(self.state.host_state.skipped_by_check, effects, target_host)
            if effects is not None
            else None
        )
        return (
            skipped_step.failure_reason(effects, target_host)
            if skipped_step is not None and effects is not None
            else ""
        )

    def announce(self, step: PlannedStep) -> None:
        """Announce a step that is carried out on this machine and takes its time."""
        self._announce_step(step)

    def _announce_step(self, step: PlannedStep) -> None:
        self._running_step, self._started_at = step, time.monotonic()
        head = MAX_VALUES_BYTES if step.returns else MAX_HEAD_BYTES
        self._output_buffers = {"stdout": OutputBuffer(head), "stderr": OutputBuffer()}
        self._module_result = ModuleResultParser()
        self._folder_reports = FolderReports()
        if self._announced_step is step:  # another attempt
            return
        self._announced_step = step
        host, app = self.state.host_state.host.name, self.state.host_state.app
        self._emit(
            StepStarted(
                time.time(),
                app,
                task=self.state.task,
                step=step.number,
                name=step.name,
                host=host,
                number=self.state.number,
                shell_pid=self._unknown_shell.shell_pid if self._unknown_shell else 0,
            )
        )
        self._unknown_shell = None

    def _captured_result(
        self, status: Status, exit_status: int | None, reason: str = ""
    ) -> StepResult:
        return StepResult(
            status,
            exit_status,
            stdout=self._output_buffers["stdout"].captured_output(),
            stderr=self._output_buffers["stderr"].captured_output(),
            seconds=time.monotonic() - self._started_at,
            reason=reason,
        )

    def _step_result(
        self, step: PlannedStep, command: StepCommand, ending: CommandResult
    ) -> StepResult:
        if ending.end_reason is EndReason.SKIPPED:
            return self.skipped_result(step, ending.reason)
        if ending.end_reason is EndReason.TERMINATED:
            return self._captured_result(Status.CANCELLED, None, "interrupted")
        if ending.end_reason is EndReason.TIMED_OUT:
            reason = f"ended after its timeout of {command.timeout:g} s"
            outcome = self._captured_result(Status.TIMED_OUT, None, reason)
        else:
            status, reason = _status_and_reason(ending)
            outcome = self._captured_result(status, ending.exit_status, reason)
            if command.folder is not None:
                outcome = replace(outcome, folder=self._folder_reports.folder())
            if command.desired_state is not None:
                outcome = self._apply_module_result(outcome, command, command.desired_state)
            elif command.check_mode and not outcome.status.is_failure:
                return replace(outcome, status=Status.WOULD_RUN, reason=command.text)
        if step.evaluate_result is not None:
            outcome = self._apply_conditions(step, outcome, ending)
        if ending.unknown or (step.evaluate_result is not None and outcome.status is Status.FAILED):
            cause = self.failure_cause(step) or (
                "a run would wait for it" if ending.unknown else ""
            )
            if cause:
                cause = f"{outcome.reason}; {cause}" if outcome.reason else cause
                outcome = replace(outcome, status=Status.UNKNOWN, reason=cause)
        return outcome

    def _apply_module_result(
        self, outcome: StepResult, command: StepCommand, desired: DesiredState
    ) -> StepResult:
        """Return the step's result with what the module script reported."""
        module_result = self._module_result
        if outcome.status.is_failure:
            reason, status = module_result.failure(desired)
            if not reason:
                return outcome
            status = status if status is not None else outcome.exit_status
            return replace(outcome, reason=reason, exit_status=status)
        if outcome.status is not Status.CHANGED:
            return outcome
        diff = module_result.diff(desired) if command.show_diff else ""
        changed_result = replace(outcome, changes=module_result.changes(desired), diff=diff)
        return (
            replace(changed_result, status=Status.WOULD_CHANGE)
            if command.check_mode
            else changed_result
        )

    def _apply_conditions(
        self, step: PlannedStep, outcome: StepResult, ending: CommandResult
    ) -> StepResult:
        if step.evaluate_result is None or self.state.session is None:
            return outcome
        try:
            override = step.evaluate_result(
                self.state.host_state.results,
                registered_step_result(step, outcome, failed=ending.failed),
            )
        except OrchError as error:
            return replace(outcome, status=Status.FAILED, reason=error.diagnostics[0].message)
        failed = ending.failed if override.failed is None else override.failed
        changed = ending.changed if override.changed is None else override.changed
        self.state.session.override_state(
            step.number, changed=changed and not failed, failed=failed
        )
        if failed:
            reason = outcome.reason or "failed_when is true"
            return replace(outcome, status=Status.FAILED, reason=reason)
        return replace(outcome, status=Status.CHANGED if changed else Status.OK, reason="")


def combine_results(group: ResultGroup, results: dict[int, RegisteredResult]) -> RegisteredResult:
    """Return the result of a loop, or of a called task (last output, any change)."""
    parts = [
        replace(_combine([results[n] for n in range(start, end) if n in results]), item=item)
        for item, start, end in group.parts
    ]
    if not group.is_loop:
        return parts[0]
    return replace(_combine(parts), items=tuple(parts), item=None)


def _combine(results: Sequence[RegisteredResult]) -> RegisteredResult:
    completed = [result for result in results if not result.skipped]
    if not completed:
        values = dict.fromkeys(name for result in results for name in result.values)
        return RegisteredResult(str(Status.SKIPPED), skipped=True, values=values)
    failed, changed = any(r.failed for r in completed), any(r.changed for r in completed)
    status = Status.FAILED if failed else Status.CHANGED if changed else Status.OK
    skipped_step = next((r.skipped_by_check for r in completed if r.skipped_by_check), "")
    return replace(
        completed[-1],
        status=str(status),
        changed=changed,
        failed=failed,
        skipped_by_check=skipped_step,
    )


def _status_and_reason(ending: CommandResult) -> tuple[Status, str]:
    if not ending.failed and not ending.unknown:
        return (Status.CHANGED if ending.changed else Status.OK), ""
    if ending.exit_status is not None and ending.exit_status in _SIGNAL_EXIT_STATUSES:
        return Status.KILLED, f"killed by {_signal_name(ending.exit_status - 128)}"
    return Status.FAILED, ending.reason or f"exit status {ending.exit_status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_MAX_REPORT_CHARS = 1 << 20
"""Limit, in characters, of a step's reported states, and of its diff lines."""

_REPORT_OVERHEAD = 100  # characters added for each state or line
_MAX_KIND_CHARS = 40


def sent_step(step: PlannedStep, command: StepCommand) -> SentStep:
    """Return the step as it is sent, for the record of the run."""
    desired = command.desired_state
    payloads = (desired.payload, desired.probe_payload) if desired else ()
    parts = (
        command.text,
        command.guard,
        command.stdin or "",
        "" if command.shell == "sh" else command.shell,
        step.user,
        step.delegate_to,
        *(payload.digest for payload in payloads if payload),
        *(f"{key}={value}" for key, value in (desired.states.items() if desired else ())),
        *((str(command.download.target),) if command.download else ()),
    )
    text = command.text if desired is None else step.display_text
    return SentStep(step.number, text, "\0".join(parts).rstrip("\0"), step.readonly)


class TreeBasis(Struct, frozen=True):
    """The older files that a host has of a tree, and can make new ones from.

    ``lines`` are parts of the tree's manifest, ``path`` is that of the tree's folder on the host,
    or of the tree's only file.
    """

    lines: LineRanges
    path: str


class ModuleResultParser:
    """Parses the reports of one module step (see ``remote_shell/module_protocol.py``)."""

    def __init__(self) -> None:
        """Create a parser without reports."""
        self._parts: list[str] = []
        self._sizes = {"states": 0, "lines": 0}
        self._states_before: dict[str, str | None] = {}
        self._states_after: dict[str, str | None] = {}
        self._lines: dict[str, list[str]] = {"old": [], "new": []}
        self._text_endings: dict[str, str] = {}
        self._exit_statuses: dict[str, int] = {}
        self.needed: tuple[tuple[int, int], ...] | None = None
        """The first and the last line of each part of a tree's manifest that the host needs."""
        self.basis: TreeBasis | None = None

    def add_report(self, kind: str, text: str) -> None:
        """Add the next report; a kind that starts with ``+`` is continued by the next one.

        Raises ProtocolError if the report is invalid or the states are too long. Diff lines over
        the limit are dropped.
        """
        size_key = "lines" if kind.lstrip("+") in self._lines else "states"
        self._sizes[size_key] += len(text) + _REPORT_OVERHEAD
        is_full = self._sizes[size_key] > _MAX_REPORT_CHARS
        if is_full and size_key == "states":
            message = f"a module's states are larger than {_MAX_REPORT_CHARS >> 20} MiB"
            raise ProtocolError(f"{message}: let the probe report a checksum of long values")
        if is_full:
            self._text_endings[kind.lstrip("+")] = "long"
        else:
            self._parts.append(text)
        if kind.startswith("+"):
            return
        text = decode_bytes(
            encode_text("".join(self._parts))
        )  # a character may be split between two parts
        self._parts = []
        if not is_full:
            self._parse_report(kind, text)

    def _parse_report(self, kind: str, text: str) -> None:
        if kind in ("have", "after"):
            key, value = parse_state(text)
            (self._states_before if kind == "have" else self._states_after)[key] = value
        elif kind in self._lines:
            self._lines[kind].append(text)
        elif kind in ("old#", "new#"):
            self._text_endings.setdefault(kind[:-1], text)
        elif kind == "need":
            self.needed = _parse_ranges(text) if text else ()
        elif kind == "basis":
            lines, path = parse_state(text)
            self.basis = TreeBasis(_parse_ranges(lines), path or "")
        elif kind in ("probe", "fix"):
            self._exit_statuses[kind] = parse_number(text)
        else:
            raise ProtocolError(f"unknown module report: {repr_text(kind[:_MAX_KIND_CHARS])}")

    def changes(self, desired: DesiredState) -> tuple[StateChange, ...]:
        """Return the states that differed before the fix."""
        return _state_changes(self._states_before, desired)

    def failure(self, desired: DesiredState) -> tuple[str, int | None]:
        """Return why the module failed, or '', and the failed script's exit status or None."""
        if "fix" in self._exit_statuses:
            return f"its fix failed: exit status {self._exit_statuses['fix']}", self._exit_statuses[
                "fix"
            ]
        if "probe" in self._exit_statuses:
            return (
                f"its probe failed: exit status {self._exit_statuses['probe']}",
                self._exit_statuses["probe"],
            )
        differences = "; ".join(
            f"{change.key} is {_state_text(change.before)}, expected {_state_text(change.after)}"
            for change in _state_changes(self._states_after, desired)
        )
        if not differences:
            return "", None
        prefix = "its fix did not reach the desired state: " if self._states_before else ""
        return f"{prefix}{differences}", None

    def diff(self, desired: DesiredState) -> str:
        """Return a unified diff of the old and the desired contents, or '' if there is none."""
        has_lines = any(self._lines.values()) or bool(self._text_endings)
        if not has_lines and "contents" not in self._states_before:
            return ""
        if "new" in self._text_endings:
            desired = replace(desired, new_content=None, payload=None)
        if "binary" in self._text_endings.values() or b"\0" in (desired.new_content or b""):
            return "binary contents differ\n"
        if desired.payload or "long" in self._text_endings.values():
            return "long contents differ\n"
        new_lines = self._text_lines("new")
        if desired.new_content is not None:
            new_lines = decode_bytes(desired.new_content).split("\n")
            new_lines = [f"{line}\n" for line in new_lines[:-1]] + [
                line for line in new_lines[-1:] if line
            ]
        return "".join(
            _mark_missing_newlines(
                difflib.unified_diff(self._text_lines("old"), new_lines, "before", "after")
            )
        )

    def _text_lines(self, kind: str) -> list[str]:
        lines = [f"{line}\n" for line in self._lines[kind]]
        if lines and self._text_endings.get(kind) == "cut":
            lines[-1] = lines[-1].removesuffix("\n")
        return lines


def _parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(map(_parse_range, text.split(",")))


def _parse_range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    return parse_number(first), parse_number(last if dash else first)


def _state_changes(
    found: Mapping[str, str | None], desired: DesiredState
) -> tuple[StateChange, ...]:
    states = desired.states
    return tuple(StateChange(key, found[key], states[key]) for key in found if key in states)


def _state_text(value: str | None) -> str:
    if value is None:
        return "not there"
    return repr_text(value if len(value) <= 200 else value[:199] + "…")


def _mark_missing_newlines(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield line
        if not line.endswith("\n"):
            yield "\n\\ No newline at end of file\n"


MAX_HEAD_BYTES = MAX_TAIL_BYTES = 64 * 1024
"""Bytes kept of the beginning and of the end of each output stream of a step."""
MAX_VALUES_BYTES = 4 << 20
"""Bytes kept of the beginning of the output of a module that returns values."""


class OutputBuffer:
    """Keeps the head and the tail of one output stream of a step."""

    __slots__ = ("_head", "_max_head", "_size", "_tail")

    def __init__(self, max_head: int = MAX_HEAD_BYTES) -> None:
        """Create an empty buffer that keeps ``max_head`` bytes of the beginning."""
        self._max_head = max_head
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Append the next bytes."""
        self._size += len(data)
        room = self._max_head - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data[-MAX_TAIL_BYTES:]
            if len(self._tail) > 2 * MAX_TAIL_BYTES:  # trim now and then, not on every chunk
                del self._tail[:-MAX_TAIL_BYTES]

    def captured_output(self) -> CapturedOutput:
        """Return the kept head and tail, and the number of bytes dropped between them."""
        tail = bytes(self._tail[-MAX_TAIL_BYTES:])
        return CapturedOutput(bytes(self._head), tail, self._size - len(self._head) - len(tail))
