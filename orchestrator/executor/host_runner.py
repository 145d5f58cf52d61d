"""Runs one task on one host: sends pipelines of commands and records the results.

Steps that cannot be pipelined are run one at a time: delegated steps, retries, uploads of payloads
before a command, and downloads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from msgspec.structs import replace

from orchestrator.errors import ConnectError, MissingFileError, OrchError, describe_bug
from orchestrator.executor.check_mode import CheckModeFilter, any_step_changed, error_text
from orchestrator.executor.connection_pool import ConnectionPool, EmitFunction
from orchestrator.executor.download_run import (
    DownloadJob,
    DownloadMeans,
    Downloads,
    LocalDownloads,
    transfer_failed_result,
)
from orchestrator.executor.host_limits import HeldSlots, HostLimits
from orchestrator.executor.host_state import HostState, HostTaskState, StepCursor
from orchestrator.executor.payload_upload import DifferencesError, PayloadUpload
from orchestrator.executor.progress import (
    LOST_BEFORE,
    UNREPORTED,
    EarlierHost,
    EndedStep,
    ReplayEndError,
    ReplayObserver,
)
from orchestrator.executor.remote_query import collect_facts, run_remote_query
from orchestrator.executor.step_recorder import StepRecorder
from orchestrator.executor.transfer_meter import TransferMeter
from orchestrator.model.byte_size import format_size
from orchestrator.model.command import UNKNOWN_STATE, DownloadSpec, StepCommand, UploadPayload
from orchestrator.model.event import TransferProgress
from orchestrator.model.registered_result import NotRunInCheckMode
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.fact_parser import facts_error
from orchestrator.planner.fact_sources import FACTS_RESULT, FactsPending
from orchestrator.planner.plan import (
    ControlAction,
    PlannedStep,
    ResultsByName,
    RetryPlan,
    StepProgram,
)
from orchestrator.planner.returned_values import registered_step_result
from orchestrator.planner.step_conditions import CHANGED_STEPS, NO_MORE_RESULTS
from orchestrator.remote_shell import SessionLostError, ShellNotReadyError, ShellSession
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.encoder import KnownStepState
from orchestrator.templating import ResultPending

StepAction: TypeAlias = StepCommand | ControlAction | StepProgram | StepResult | str


class HostTaskRunner:
    """Runs one task's steps on one host in as few pipelines as their dependencies allow."""

    def __init__(
        self,
        connections: ConnectionPool,
        host_state: HostState,
        task: str,
        emit: EmitFunction,
        *,
        number: int = 0,
        progress: EarlierHost | None = None,
        on_replay: ReplayObserver | None = None,
        limits: HostLimits | None = None,
        downloads: Downloads | None = None,
    ) -> None:
        """Create a runner without a session; the first pipeline opens one.

        ``number`` is the task's number among those of its app. ``progress`` is what the task has
        done on the host before the run was resumed; it is not done again. With ``on_replay``,
        nothing else is done: it is called with each of these steps and what it would do now, and
        the runner raises ReplayEndError at the first other one. ``limits`` are shared by the
        hosts of the task. ``downloads`` writes what is downloaded, this process unless given.
        """
        self.connections, self.host_state = connections, host_state
        self.session: ShellSession | None = None
        self.state = HostTaskState(host_state, task, number)
        self.progress, self.on_replay = progress or EarlierHost(), on_replay
        self.limits = limits or HostLimits(connections.cancel)
        self.downloads = downloads or LocalDownloads()
        self.emit, self.recorder = emit, StepRecorder(self.state, emit)
        self.cancel = connections.cancel
        self.known_steps: dict[int, KnownStepState] = {}
        self.sessions_used: list[ShellSession] = []
        self.user = ""
        self.handler_keys: set[str] = set()
        self.check_mode = limits.check_mode if limits else False
        self.check_filter = CheckModeFilter(self.state, self.recorder.target_host)

    def run(self, program: StepProgram) -> bool:
        """Run the program until it ends, fails or is cancelled; return True if it succeeded.

        Raises ConnectError and SessionLostError. Any other exception is re-raised after the running
        step has been recorded as failed and its session has been closed.
        """
        began = time.monotonic()
        self.cancel = self.connections.cancel
        remove_callback = self.cancel.add_callback(self._cancel_session)
        try:
            succeeded = self._run_program(program)
        except (ConnectError, SessionLostError, ReplayEndError):
            raise
        except Exception as error:
            self._close_and_fail(
                error_text(error) if isinstance(error, OrchError) else describe_bug(error)
            )
            raise
        finally:
            remove_callback()
            self.session = None  # a late cancel callback must not reach the session's next user
            self.host_state.seconds += time.monotonic() - began
        if self.cancel.is_cancelled and not self.host_state.is_stopped:
            self.host_state.raise_status(Status.CANCELLED, "interrupted")
        elif self.limits.first_failed and not self.host_state.is_stopped:
            reason = f"stopped in '{self.state.task}', because {self.limits.first_failed} failed"
            self.host_state.raise_status(Status.STOPPED, reason)
        return succeeded and not self._is_stopped()

    def _close_and_fail(self, reason: str) -> None:
        if self.session is not None:
            self.session.close()
        self.recorder.fail_running_step(reason)

    def _is_stopped(self) -> bool:
        return self.state.is_stopped or self.cancel.is_cancelled or bool(self.limits.first_failed)

    def _run_program(self, program: StepProgram) -> bool:
        held = HeldSlots(self.limits)
        try:
            return self._run_steps(program, held)
        finally:
            held.release()

    def _run_steps(self, program: StepProgram, held: HeldSlots) -> bool:
        cursor, recorder = StepCursor(program), self.recorder
        outer_cursor, self.state.cursor = self.state.cursor, cursor
        step = cursor.first_step()
        while not self._is_stopped():
            if step is None:
                failed = self._run_pipeline()
                if failed is None:
                    break
                step = cursor.step_after_failure(failed)
                if step is None:
                    break
                continue
            failed = self._take_slots(step, program, held)
            if self._is_stopped():
                break
            if outer_cursor is None:
                self._note_handler_keys(step)
            failed = failed or self._handle_step(step)
            if failed is None and cursor.has_pending_at(step.number + 1):
                failed = self._run_pipeline()
            step = cursor.next_step(step) if failed is None else cursor.step_after_failure(failed)
            if cursor.has_failed:
                break
        if program.steps:
            recorder.register_groups(program, program.steps[-1].number + 1)
        self.state.cursor = outer_cursor
        if outer_cursor is None and not cursor.has_failed and not self._is_stopped():
            self._note_handler_keys(None)
        return not cursor.has_failed

    def _note_handler_keys(self, step: PlannedStep | None) -> None:
        """Forget the notifications of the handlers that have run, if no other one follows them."""
        if step is not None and step.handler:
            self.handler_keys.update(step.notified_as)
        else:
            self.host_state.forget_notified(self.handler_keys)
            self.handler_keys.clear()

    def _take_slots(
        self, step: PlannedStep, program: StepProgram, held: HeldSlots
    ) -> PlannedStep | None:
        """Wait until few enough other hosts run what the step belongs to, if that is limited.

        What is queued runs before, with what it holds. Return the step of it that failed, or None.
        """
        wanted = [each for each in program.throttles if each.start <= step.number < each.end]
        if wanted == held.throttles or step.skip or self.on_replay is not None:
            return None
        failed = self._run_pipeline()
        if failed is None and not self._is_stopped():
            held.change(wanted)
        return failed

    def _handle_step(self, step: PlannedStep) -> PlannedStep | None:
        """Queue the step, or run it now if it cannot be queued.

        Return the step that failed, which may be an earlier one of the queue, or None.
        """
        ended = self.progress.ended_step(step, replays_only=self.on_replay is not None)
        if ended is not None:
            return self._replay_step(step, ended)
        if step.number in self.progress.skipped_steps:
            return self._end_as_changed(step, LOST_BEFORE)
        if step.number in self.progress.unreported_steps:
            return self._end_as_changed(step, UNREPORTED)
        if step.pause and self.on_replay is None:
            failed = self._run_pipeline()
            if failed is None and not self._is_stopped():
                self.cancel.sleep(step.pause)
            if failed is not None or self._is_stopped():
                return failed
        action: StepAction | None
        action = step.command or step.control_action or step.skip
        if not action:
            action, failed = self._resolve_pending_step(step)
            if action is None:
                self._end_replay()
                return failed
        if not isinstance(action, StepProgram):
            self._end_replay()
        if isinstance(action, StepCommand):
            if self.check_filter.must_flush(step, action):
                failed = self._run_pipeline()
                if failed is not None or self._is_stopped():
                    return failed
            action = self.check_filter.filter_command(step, action)
        if isinstance(action, str):
            action = self.recorder.skipped_result(step, action)
        if isinstance(action, StepResult):
            self.check_filter.note_local_end(step, action)
            self.recorder.queue(step, action)
            return None
        if isinstance(action, ControlAction):
            return self._run_control_action(step, action)
        if isinstance(action, StepProgram):
            return self._run_loop(step, action)
        if step.delegate_to or step.retry or step.is_download or payloads_to_upload(action):
            failed = self._run_pipeline()
            return failed if failed or self._is_stopped() else self._run_with_retries(step, action)
        if step.user != self.user:
            failed = self._run_pipeline()
            if failed is not None:
                return failed
            self.user = step.user
        self.recorder.queue(step, action)
        return self._run_pipeline() if step.flush_after or self.limits.stops_at_error else None

    def _end_replay(self) -> None:
        """Raise ReplayEndError if nothing is to be run."""
        if self.on_replay is not None:
            raise ReplayEndError

    def _replay_step(self, step: PlannedStep, ended: EndedStep) -> PlannedStep | None:
        """Put the result of a step that was done before the run was resumed in its place.

        Return the step if it failed and a `rescue` handles that, or the step that failed now.
        """
        if (failed := self._run_pipeline()) is not None or self._is_stopped():
            return failed
        action: StepAction | None
        action = step.command or step.control_action or step.skip
        if not action and step.variables_set:
            action, failed = self._resolve_pending_step(step)
            if action is None:
                self._end_replay()
                return failed
        if self.on_replay is not None:
            self.on_replay(step, action or self._action_as_planned(step))
        if not isinstance(action, ControlAction) or ended.result.status is Status.SKIPPED:
            action = ControlAction("set")
        self.recorder.replay_step(step, ended, action)
        self._note_known_state(step, ended.result)
        return step if ended.result.rescued else None

    def _action_as_planned(self, step: PlannedStep) -> StepAction | None:
        """Return what a step that waited for results would do now; None if that is not known."""
        results = self._results_so_far(step)
        try:
            try:
                return step.resume(results) if step.resume else None
            except ResultPending:
                return step.resume({**results, NO_MORE_RESULTS: True}) if step.resume else None
        except (OrchError, ResultPending):
            return None

    def _note_known_state(self, step: PlannedStep, outcome: StepResult) -> None:
        """Tell conditions that hosts evaluate how a step ended that their shells did not run."""
        failed = outcome.status.is_failure
        self.known_steps[step.number] = KnownStepState(
            outcome.exit_status,
            changed=outcome.status is Status.CHANGED,
            failed=failed,
            skipped=outcome.status is Status.SKIPPED,
        )

    def _end_as_changed(self, step: PlannedStep, reason: str) -> PlannedStep | None:
        """End a step as changed whose result is not known, and that is not to be run again."""
        if (failed := self._run_pipeline()) is not None or self._is_stopped():
            return failed
        self._end_replay()
        self.recorder.end_as_changed(step, reason)
        self._note_known_state(step, StepResult(Status.CHANGED))
        return None

    def _resolve_pending_step(
        self, step: PlannedStep
    ) -> tuple[StepAction | None, PlannedStep | None]:
        """Resolve a step that was waiting for a result; flush queued commands first if necessary.

        Return its action and None, or None and the step that failed, if any.
        """
        if step.resume is None:
            raise TypeError(
                "a step needs a command, control action, skip reason or resume function"
            )
        final: dict[str, object] = {}
        try:
            while True:
                try:
                    return step.resume({**self._results_so_far(step), **final}), None
                except ResultPending as pending:
                    failed = self._run_pipeline()
                    goes_on = failed is None and not self._is_stopped()
                    if goes_on and isinstance(pending, FactsPending):
                        if self.on_replay is not None:
                            raise ReplayEndError from None
                        self._collect_facts(pending)
                    elif NO_MORE_RESULTS in final:
                        raise
                    else:
                        final = {NO_MORE_RESULTS: True}
                    if failed is not None or self._is_stopped():
                        return None, failed
        except NotRunInCheckMode as error:
            return StepResult(Status.UNKNOWN, reason=error_text(error)), None
        except ConnectError:
            raise  # while sending the queued commands: this step did not start
        except OrchError as error:
            failed = self._run_pipeline()
            if failed is not None or self._is_stopped():
                return None, failed
            if isinstance(error, MissingFileError) and self.host_state.skipped_by_check:
                last = self.host_state.skipped_by_check[-1].name
                message = f"{error_text(error)}; it may depend on '{last}', which was not run"
                return StepResult(Status.UNKNOWN, reason=message), None
            self.recorder.finish_step(step, StepResult(Status.FAILED, reason=error_text(error)))
            return None, step

    def _collect_facts(self, pending: FactsPending) -> None:
        """Collect facts of the host for the rest of the run. Raises OrchError if that fails.

        Those that later steps of the program name are collected with them.
        """
        self.user = ""
        session = self.session = self._own_session()
        known = self.host_state.results.get(FACTS_RESULT)
        facts: dict[str, object] = dict(known) if isinstance(known, dict) else {}
        if pending.facts <= facts.keys():
            raise facts_error(f"{', '.join(sorted(pending.facts))}: of another host")
        names, prefix = set(pending.facts), f"{FACTS_RESULT}."
        program = self.state.cursor.program if self.state.cursor is not None else StepProgram()
        for step in program.steps:
            names |= {
                name.removeprefix(prefix) for name in step.awaited_names if name.startswith(prefix)
            }
        try:
            facts |= collect_facts(session, pending.sources.query(names - facts.keys()))
            self.host_state.results[FACTS_RESULT] = facts
        except SessionLostError as error:
            self.recorder.note_lost(error.reason)

    def _results_so_far(self, step: PlannedStep) -> dict[str, object]:
        recorder, results = self.recorder, dict(self.host_state.results)
        if self.state.cursor is not None:
            recorder.register_groups(self.state.cursor.program, step.number)
            awaited = recorder.names_awaited(self.state.cursor.program)
            results = {k: v for k, v in self.host_state.results.items() if k not in awaited}
        return {
            **results,
            CHANGED_STEPS: self._any_step_changed,
        }

    def _any_step_changed(self, numbers: Sequence[int], keys: Sequence[str]) -> bool:
        """Return True if one of the steps or keys notified a handler.

        Raise ResultPending if one of the steps is queued.

        Raises NotRunInCheckMode if check mode does not know that.
        """
        if self.recorder.has_queued(numbers, keys):
            raise ResultPending({CHANGED_STEPS})
        host_state = self.host_state
        if not host_state.notified_keys.isdisjoint(keys):
            return True
        if any_step_changed(self.state.changed_steps, self.state.uncertain_steps, numbers):
            return True
        if unsure := next((key for key in keys if key in host_state.uncertain_keys), ""):
            raise NotRunInCheckMode(host_state.uncertain_keys[unsure])
        return False

    def _run_control_action(self, step: PlannedStep, action: ControlAction) -> PlannedStep | None:
        if action.ok and action.kind not in ("wait", "wait_for_connection"):
            self.recorder.queue(
                step, StepResult(Status.OK), action.values, from_controller=action.from_controller
            )
            return None
        failed = self._run_pipeline()
        if failed is not None or self._is_stopped():
            return failed
        if action.kind == "wait":
            self.cancel.sleep(action.seconds)
            self.recorder.finish_step(step, StepResult(Status.OK, seconds=action.seconds))
            return None
        if action.kind == "wait_for_connection":
            return self._wait_for_connection(step, action)
        failure = StepResult(Status.FAILED, reason=action.message)
        self.recorder.finish_step(step, failure, ignore=action.ignore_failure)
        return None if action.ignore_failure else step

    def _wait_for_connection(self, step: PlannedStep, action: ControlAction) -> PlannedStep | None:
        """Connect to the host again, for as long as its timeout allows."""
        if self.check_mode:
            self.recorder.finish_step(step, StepResult(Status.OK))
            return None
        began = time.monotonic()
        self.recorder.announce(step)
        self.cancel.sleep(action.seconds)
        deadline = time.monotonic() + action.timeout
        name, app = self.host_state.host.name, self.host_state.app
        while not self._is_stopped():
            missing = self._connection_problem(name, app, action)
            if not missing:
                seconds = time.monotonic() - began
                self.recorder.finish_step(step, StepResult(Status.OK, seconds=seconds))
                break
            if time.monotonic() >= deadline:
                reason = f"not reached within {action.timeout:g} s: {missing}"
                self.recorder.finish_step(step, StepResult(Status.FAILED, reason=reason))
                return step
            self.cancel.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        return None

    def _connection_problem(self, name: str, app: str | None, action: ControlAction) -> str:
        """Connect again and run the action's test. Return why that failed, or ''."""
        try:
            self.connections.renew_session(name, app)
            if not action.test:
                return ""
            timeout = max(1.0, action.timeout)
            session = self.connections.session(name, app)
            done = run_remote_query(session, action.test, timeout=timeout)
        except ConnectError as error:
            return error_text(error)
        except SessionLostError:
            return "the connection broke again"
        if done.exit_status == 0:
            return ""
        ended = "was killed" if done.exit_status is None else f"exit status {done.exit_status}"
        return f"its `test` fails: {done.stderr.strip() or ended}"

    def _run_loop(self, step: PlannedStep, program: StepProgram) -> PlannedStep | None:
        failed = self._run_pipeline()
        if failed is not None or self._is_stopped():
            return failed
        changed_before, uncertain_before = (
            self.host_state.counts["changed"],
            len(self.state.uncertain_steps),
        )
        succeeded = self._run_program(program)
        changed = self.host_state.counts["changed"] > changed_before
        self.state.pending_notifications.append((step.number, changed, not succeeded))
        if changed:
            self.state.changed_steps.add(step.number)
            self.host_state.note_notified(step)
        elif len(self.state.uncertain_steps) > uncertain_before:
            self.state.uncertain_steps[step.number] = step.name
            self.host_state.note_notified(step, is_certain=False)
        return None if succeeded else step

    def _run_pipeline(self) -> PlannedStep | None:
        """Send the queued commands and wait for them. Return the step that failed, or None."""
        pipeline = self.recorder.drain_queue()
        if not pipeline or self._is_stopped():
            return None
        try:
            while pipeline and not (self.state.failed_step or self._is_stopped()):
                session = self.session = self._own_session()
                self._send_pipeline(session, pipeline)
                if session.is_alive:
                    break
                # on some hosts a step can end the shell; the commands after it were not started
                pipeline = [each for each in pipeline if each[1].step not in self.known_steps]
        except ConnectError as error:
            self._record_not_started(pipeline[0][0], error)
        return self.state.failed_step

    def _record_not_started(self, step: PlannedStep, error: ConnectError) -> None:
        """Record a step that could not start as failed; raise if its own host is unreachable.

        If become failed and a step skipped by check mode may be the cause, all unsent steps end as
        UNKNOWN instead.
        """
        has_begun = self.recorder.is_announced(step) or self._is_stopped()
        if error.phase == "become":
            error = error.with_endpoint(self._endpoint(step))
            if not has_begun and (cause := self.recorder.failure_cause(step)):
                self.state.defers_result = False
                message = f"{error_text(error)}; {cause}"
                self.recorder.end_all_unsent(StepResult(Status.UNKNOWN, reason=message))
                return
        outcome = not_started_result(error, "" if has_begun else step.delegate_to)
        if outcome is None:
            raise error
        self.state.defers_result = False
        self.recorder.finish_step(step, outcome)

    def _own_session(self) -> ShellSession:
        session = self.connections.session(
            self.host_state.host.name, self.host_state.app, self.user
        )
        if session not in self.sessions_used:
            session.begin_task(self.known_steps)
            self.sessions_used.append(session)
        for number, changed, failed in self.state.pending_notifications:
            session.override_state(number, changed=changed, failed=failed)
        self.state.pending_notifications.clear()
        return session

    def _send_pipeline(
        self, session: ShellSession, pipeline: list[tuple[PlannedStep, StepCommand]]
    ) -> None:
        self.state.session = session
        if self.cancel.is_cancelled:
            return
        if session.session_id:
            self.recorder.announce_sending(session, pipeline)
            if self.cancel.is_cancelled:  # a worker whose coordinator has gone, for instance
                return
        try:
            session.run([command for _, command in pipeline], self.recorder)
        except SessionLostError as error:
            step = pipeline[0][0]
            self.recorder.note_lost(error.reason, step if step.delegate_to else None)

    def _run_with_retries(self, step: PlannedStep, command: StepCommand) -> PlannedStep | None:
        """Run a step that cannot be pipelined, with its retries; return the failed step or None."""
        check = command.effects is not None
        max_attempts = 1 + (step.retry.retries if step.retry and not check else 0)
        for attempts_left in range(max_attempts - 1, -1, -1):
            outcome = self._attempt_or_lost(step, command)
            if outcome is None:
                break
            if step.retry is None or self._is_stopped() or outcome.status is Status.LOST:
                self.recorder.finish_step(step, outcome, ignore=command.ignore_failure)
                break
            outcome, retry = evaluate_retry(
                step.retry,
                step,
                outcome,
                self.host_state.results,
                attempts_left=attempts_left,
                check=check,
                cause=self.recorder.failure_cause(step) if check else "",
            )
            if not retry:
                outcome = replace(outcome, attempts=max_attempts - attempts_left)
                self.recorder.finish_step(step, outcome, ignore=command.ignore_failure)
                break
            self.cancel.sleep(step.retry.delay)
        return self.state.failed_step

    def _attempt_or_lost(self, step: PlannedStep, command: StepCommand) -> StepResult | None:
        """Run ``_attempt``; report a started step as lost if the host cannot be reconnected."""
        try:
            return self._attempt(step, command)
        except ConnectError as error:
            self.state.defers_result = False
            if not self.recorder.is_announced(step):
                raise
            return StepResult(Status.LOST, reason=error.diagnostics[0].message)

    def _attempt(self, step: PlannedStep, command: StepCommand) -> StepResult | None:
        """Run the command and return its result unreported, or None if it was reported."""
        if command.download is not None:
            return self._download(step, command, command.download)
        desired, staged = command.desired_state, ""
        check_result: StepResult | None = None
        for payload in payloads_to_upload(command):
            if check_result is None:
                check_result = self._run_and_keep_result(
                    step, replace(command, check_mode=True, payload_path=staged)
                )
            if (
                check_result is None
                or check_result.status is not Status.WOULD_CHANGE
                or self._is_stopped()
            ):
                return check_result
            is_known = not needs_payload(check_result)
            if is_known and command.check_mode and desired and not desired.validates:
                return check_result
            if is_known and desired and payload is desired.probe_payload:
                continue
            try:
                staged = self._upload_payload(step, payload)
            except OrchError as error:
                return transfer_failed_result(error, self._endpoint(step))
            check_result = None
        return self._run_and_keep_result(step, replace(command, payload_path=staged))

    def _run_and_keep_result(self, step: PlannedStep, command: StepCommand) -> StepResult | None:
        self.state.defers_result = True
        self.recorder.queue(step, command)
        if step.delegate_to:
            self._run_delegated(step)
        else:
            self.user = step.user
            self._run_pipeline()
        outcome, self.state.deferred_result = self.state.deferred_result, None
        self.state.defers_result = False
        return outcome

    def _run_delegated(self, step: PlannedStep) -> None:
        pipeline = self.recorder.drain_queue()
        try:
            with self.connections.delegated_session(
                step.delegate_to, self.host_state.app, step.user
            ) as session:
                session.begin_task()
                self.session = session
                self._send_pipeline(session, pipeline)
                self.session = None
        except ConnectError as error:
            self._record_not_started(step, error)

    def _download(
        self, step: PlannedStep, command: StepCommand, download: DownloadSpec
    ) -> StepResult | None:
        """Ask the host what the path is, and download what differs from the local files."""
        began = time.monotonic()
        if not download.check_mode and self.downloads.is_new(download):
            command = replace(command, text=f"is_new=1\n{command.text}")
        probe_result = self._run_and_keep_result(step, command)
        if probe_result is None:
            return None
        host, app = self.host_state.host.name, self.host_state.app
        job = DownloadJob(
            host=step.delegate_to or host,
            session_owner=self._session_owner(step),
            user=step.user,
            endpoint=self._endpoint(step),
            download=download,
            probe_result=probe_result,
            progress=TransferProgress(
                0.0, app, self.state.task, step.number, host, done=0, total=0, seconds=0.0
            ),
            spent=time.monotonic() - began,
            for_rollback=self.connections.is_for_rollback,
            task=self.limits.key,
        )
        means = DownloadMeans(
            partial(self._open_transfer_channel, step), self._is_stopped, self.emit
        )
        outcome = self.downloads.run(job, means)
        return replace(outcome, seconds=time.monotonic() - began)

    def _upload_payload(self, step: PlannedStep, payload: UploadPayload) -> str:
        """Upload the command's payload, or what the host needs of it; return its path there."""
        meter = TransferMeter(partial(self.recorder.report_transfer, step))
        upload = PayloadUpload(partial(self._open_transfer_channel, step), self._is_stopped, meter)
        needed, basis = self.recorder.needed_lines, self.recorder.tree_basis
        try:
            if payload.split is not None and basis is not None:
                rest, files = payload.split(needed, basis.lines)
                try:
                    if files:
                        path = upload.send_differences(rest, files, basis.path)
                        whole = format_size(rest.size + sum(file.size for file in files))
                        self.recorder.note(f"sent {format_size(meter.done)} instead of {whole}")
                        return path
                except DifferencesError as error:
                    self.recorder.note(error_text(error))
            if payload.select is not None and needed is not None:
                payload = payload.select(needed)
            return upload.send_whole(payload)
        finally:
            meter.finish()

    def _open_transfer_channel(self, step: PlannedStep) -> tuple[Channel, float]:
        """Open a channel for a step's payload; return it with the idle timeout in seconds."""
        host = step.delegate_to or self.host_state.host.name
        channel = self.connections.side_channel(host, self._session_owner(step), step.user)
        return channel, self.connections.hosts[host].connect.timeout

    def _session_owner(self, step: PlannedStep) -> str | None:
        """Return the name by which the step's sessions are kept."""
        app = self.host_state.app
        return f"{app or ''} delegated" if step.delegate_to else app

    def _endpoint(self, step: PlannedStep) -> str:
        return self.connections.endpoint(step.delegate_to or self.host_state.host.name)

    def _cancel_session(self) -> None:
        session = self.session
        if session is not None:
            session.cancel(keeps_note=self.connections.is_abandoned)


def evaluate_retry(
    retry: RetryPlan,
    step: PlannedStep,
    outcome: StepResult,
    results: ResultsByName,
    *,
    attempts_left: int,
    check: bool = False,
    cause: str = "",
) -> tuple[StepResult, bool]:
    """Return the result of an attempt, and True if the step is to be tried again.

    ``attempts_left`` is the number of further attempts allowed. With ``check`` (check mode), a
    failure becomes UNKNOWN if later attempts could succeed; ``cause`` describes the step, skipped
    by check mode, that the failure may depend on.
    """
    result = registered_step_result(step, outcome, failed=outcome.status.is_failure)
    try:
        if retry.is_done(results, result):
            return outcome, False
    except NotRunInCheckMode as error:
        return replace(outcome, status=Status.UNKNOWN, reason=error_text(error)), False
    except OrchError as error:
        return replace(outcome, status=Status.FAILED, reason=error_text(error)), False
    if attempts_left:
        return outcome, True
    if check and (retry.retries or cause):
        cause_text = cause or f"a run would make up to {retry.retries + 1} attempts"
        message = f"'{retry.condition_text}' is false; {cause_text}"
        return replace(outcome, status=Status.UNKNOWN, reason=message), False
    reason = f"'{retry.condition_text}' was still false after {retry.retries + 1} attempts"
    return replace(outcome, status=Status.FAILED, reason=reason), False


def not_started_result(error: ConnectError, delegate: str) -> StepResult | None:
    """Return the result of a step that did not start, or None if its own host is unreachable.

    Either become failed, or ``delegate``, the host that the step is delegated to, is unreachable;
    ``delegate`` is '' for other steps.
    """
    diagnostic = error.diagnostics[0]
    reason = f"{diagnostic.message}; {diagnostic.hint}" if diagnostic.hint else diagnostic.message
    if error.phase == "become":
        return StepResult(Status.FAILED, reason=reason)
    if not delegate:
        return None
    if isinstance(error, ShellNotReadyError) and error.sent:
        return StepResult(
            Status.LOST, reason=f"{diagnostic.message}; it may have run on {delegate}"
        )
    return StepResult(
        Status.FAILED, reason=f"{delegate}, which it is delegated to, is unreachable: {reason}"
    )


def payloads_to_upload(command: StepCommand) -> list[UploadPayload]:
    """Return the payloads that the command needs on the host, in the order of upload.

    Each one is uploaded only if a check with the payloads before it shows that something would
    change.
    """
    desired = command.desired_state
    if desired is None:
        return []
    needs_payload = desired.validates or desired.may_need_payload or not command.check_mode
    return [
        payload
        for payload in (desired.probe_payload, desired.payload if needs_payload else None)
        if payload
    ]


def needs_payload(check_result: StepResult) -> bool:
    """Return True if the host needs the payload to report what would change."""
    return any(change.before == UNKNOWN_STATE for change in check_result.changes)
