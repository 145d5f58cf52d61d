"""One host working through one task: segments out, events back.

Steps that go alone: what comes of a try, and the bytes that go beside a command.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from msgspec.structs import replace

from orchestrator.errors import ConnectError, MissingFileError, OrchError, describe_bug
from orchestrator.executor.check_mode import CheckModeFilter, NotifiedHandlers, error_text
from orchestrator.executor.connection_pool import ConnectionPool, EmitFunction
from orchestrator.executor.download import DownloadDeadline, compare_download, download_file
from orchestrator.executor.host_state import HostState, StepCursor
from orchestrator.executor.remote_query import collect_facts
from orchestrator.executor.step_recorder import StepRecorder
from orchestrator.model.command import UNKNOWN_STATE, DownloadSpec, StepCommand, UploadPayload
from orchestrator.model.registered_result import NotRunInCheckMode, registered_result
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.plan import (
    ControlAction,
    PlannedStep,
    ResultsByName,
    RetryPlan,
    StepProgram,
)
from orchestrator.planner.step_conditions import NO_MORE_RESULTS, NOTIFIED_HANDLERS
from orchestrator.remote_shell import SessionLostError, ShellNotReadyError, ShellSession
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.encoder import KnownStepState
from orchestrator.remote_shell.transfer import (
    PIECE_BYTES,
    TransferError,
    TransferFailure,
    send,
    upload_stage_script,
)
from orchestrator.templating import ResultPending

StepAction: TypeAlias = StepCommand | ControlAction | StepProgram | StepResult | str


class HostTaskRunner:
    """Sends one task's steps in as few segments as their data allows."""

    def __init__(
        self, connections: ConnectionPool, host_state: HostState, task: str, emit: EmitFunction
    ) -> None:
        self.connections, self.host_state = connections, host_state
        self.recorder = StepRecorder(host_state, task, emit)
        self.session: ShellSession | None = None
        self.cancel = connections.cancel
        self.known_steps: dict[int, KnownStepState] = {}
        self.sessions_used: list[ShellSession] = []
        self.user = ""
        self.check_filter = CheckModeFilter(self.recorder, host_state)

    def run(self, program: StepProgram) -> bool:
        """Walk the program until it ends, fails, or the run is cancelled; whether it ended well.

        Raises ConnectError, and whatever else goes wrong, once the step that it broke off is told
        as failed and its host is told to end what runs.
        """
        began = time.monotonic()
        self.cancel = self.connections.cancel
        remove_callback = self.cancel.add_callback(self._cancel_session)
        try:
            succeeded = self._run_program(program)
        except (ConnectError, SessionLostError):
            raise
        except Exception as error:
            self._close_and_fail(
                error_text(error) if isinstance(error, OrchError) else describe_bug(error)
            )
            raise
        finally:
            remove_callback()
            self.session = None  # a late word of the interrupt is not for who uses it next
            self.host_state.seconds += time.monotonic() - began
        if self.cancel.is_cancelled and not self.host_state.is_stopped:
            self.host_state.raise_status(Status.CANCELLED, "interrupted")
        return succeeded and not self._is_stopped()

    def _close_and_fail(self, reason: str) -> None:
        if self.session is not None:
            self.session.close()
        self.recorder.fail_running_step(reason)

    def _is_stopped(self) -> bool:
        return self.recorder.is_stopped or self.cancel.is_cancelled

    def _run_program(self, program: StepProgram) -> bool:
        cursor, recorder = StepCursor(program), self.recorder
        outer_cursor, recorder.cursor = recorder.cursor, cursor
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
            failed = self._handle_step(step)
            if failed is None and cursor.has_pending_at(step.number + 1):
                failed = self._run_pipeline()
            step = cursor.next_step(step) if failed is None else cursor.step_after_failure(failed)
            if cursor.has_failed:
                break
        if program.steps:
            recorder.register_groups(program, program.steps[-1].number + 1)
        recorder.cursor = outer_cursor
        return not cursor.has_failed

    def _handle_step(self, step: PlannedStep) -> PlannedStep | None:
        """Send, queue or do the step; the step that turned out to have failed, if any."""
        action: StepAction | None
        action = step.command or step.control_action or step.skip
        if not action:
            action, failed = self._resolve_pending_step(step)
            if action is None:
                return failed
        if isinstance(action, StepCommand):
            if self.check_filter.must_flush(action):
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
        if step.delegate_to or step.retry or step.is_download or side_payloads(action):
            failed = self._run_pipeline()
            return failed if failed or self._is_stopped() else self._run_with_retries(step, action)
        if step.user != self.user:
            failed = self._run_pipeline()
            if failed is not None:
                return failed
            self.user = step.user
        self.recorder.queue(step, action)
        return self._run_pipeline() if step.flush_after else None

    def _resolve_pending_step(
        self, step: PlannedStep
    ) -> tuple[StepAction | None, PlannedStep | None]:
        """What a waiting step has become; the segment before it goes out if it must."""
        if step.resume is None:
            raise TypeError("a step is a command, a ruling, a skip, or waits")
        final: dict[str, object] = {}
        try:
            while True:
                try:
                    return step.resume({**self._results_so_far(step), **final}), None
                except ResultPending as waits:
                    failed = self._run_pipeline()
                    if failed is None and not self._is_stopped() and "facts" in waits.names:
                        self._collect_facts()
                    elif NO_MORE_RESULTS in final:
                        raise
                    else:
                        final = {NO_MORE_RESULTS: True}
                    if failed is not None or self._is_stopped():
                        return None, failed
        except NotRunInCheckMode as error:
            return StepResult(Status.UNKNOWN, reason=error_text(error)), None
        except ConnectError:
            raise  # of what had to be sent first: the step did not begin
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

    def _collect_facts(self) -> None:
        """Have the host's facts, for the rest of the run. Raises OrchError where it has none."""
        self.user = ""
        session = self.session = self._own_session()
        try:
            self.host_state.results["facts"] = collect_facts(session)
        except SessionLostError as lost:
            self.recorder.note_lost(lost.reason)

    def _results_so_far(self, step: PlannedStep) -> dict[str, object]:
        recorder, results = self.recorder, dict(self.host_state.results)
        if recorder.cursor is not None:
            recorder.register_groups(recorder.cursor.program, step.number)
            awaited = recorder.names_awaited(recorder.cursor.program)
            results = {k: v for k, v in self.host_state.results.items() if k not in awaited}
        return {
            **results,
            NOTIFIED_HANDLERS: NotifiedHandlers(
                recorder.notified_handlers, recorder.uncertain_handlers
            ),
        }

    def _run_control_action(self, step: PlannedStep, action: ControlAction) -> PlannedStep | None:
        if action.ok and action.kind != "wait":
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
        self.recorder.finish_step(step, StepResult(Status.FAILED, reason=action.message))
        return step

    def _run_loop(self, step: PlannedStep, program: StepProgram) -> PlannedStep | None:
        failed = self._run_pipeline()
        if failed is not None or self._is_stopped():
            return failed
        changed_before, uncertain_before = (
            self.host_state.counts["changed"],
            len(self.recorder.uncertain_steps),
        )
        succeeded = self._run_program(program)
        changed = self.host_state.counts["changed"] > changed_before
        self.recorder.pending_notifications.append((step.number, changed, not succeeded))
        if changed:
            self.recorder.notified_handlers.update(step.notify)
        elif len(self.recorder.uncertain_steps) > uncertain_before:
            self.recorder.uncertain_steps[step.number] = step.name
            self.recorder.uncertain_handlers.update(dict.fromkeys(step.notify, step.name))
        return None if succeeded else step

    def _run_pipeline(self) -> PlannedStep | None:
        """Send what is queued and hear its end; the step that failed, if one did."""
        pipeline = self.recorder.drain_queue()
        if not pipeline or self._is_stopped():
            return None
        try:
            while pipeline and not (self.recorder.failed_step or self._is_stopped()):
                session = self.session = self._own_session()
                self._send_pipeline(session, pipeline)
                if session.is_alive:
                    break
                # on some hosts a shell ends with a step; those behind that did not begin
                pipeline = [each for each in pipeline if each[1].step not in self.known_steps]
        except ConnectError as error:
            self._handle_refusal(pipeline[0][0], error)
        return self.recorder.failed_step

    def _handle_refusal(self, step: PlannedStep, error: ConnectError) -> None:
        """A step that could not begin has failed, unless its own host cannot be reached; or a
        step that a check did not run may be why nobody lets us become its user."""
        has_begun = self.recorder.is_announced(step) or self._is_stopped()
        if error.phase == "become":
            error = error.with_endpoint(self._endpoint(step))
            if not has_begun and (cause := self.recorder.failure_cause(step)):
                self.recorder.defers_result = False
                message = f"{error_text(error)}; {cause}"
                self.recorder.end_all_unsent(StepResult(Status.UNKNOWN, reason=message))
                return
        outcome = not_started_result(error, "" if has_begun else step.delegate_to)
        if outcome is None:
            raise error
        self.recorder.defers_result = False
        self.recorder.finish_step(step, outcome)

    def _own_session(self) -> ShellSession:
        session = self.connections.session(
            self.host_state.host.name, self.host_state.app, self.user
        )
        if session not in self.sessions_used:
            session.begin_task(self.known_steps)
            self.sessions_used.append(session)
        for number, changed, failed in self.recorder.pending_notifications:
            session.override_state(number, changed=changed, failed=failed)
        self.recorder.pending_notifications.clear()
        return session

    def _send_pipeline(
        self, session: ShellSession, pipeline: list[tuple[PlannedStep, StepCommand]]
    ) -> None:
        self.recorder.session = session
        if self.cancel.is_cancelled:
            return
        try:
            session.run([command for _, command in pipeline], self.recorder)
        except SessionLostError as lost:
            step = pipeline[0][0]
            self.recorder.note_lost(lost.reason, step if step.delegate_to else None)

    def _run_with_retries(self, step: PlannedStep, command: StepCommand) -> PlannedStep | None:
        """A step on another host's session, one with bytes beside it, or one tried again."""
        check = command.effects is not None
        max_attempts = 1 + (step.retry.retries if step.retry and not check else 0)
        for left in range(max_attempts - 1, -1, -1):
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
                attempts_left=left,
                check=check,
                cause=self.recorder.failure_cause(step) if check else "",
            )
            if not retry:
                self.recorder.finish_step(step, outcome, ignore=command.ignore_failure)
                break
            self.cancel.sleep(step.retry.delay)
        return self.recorder.failed_step

    def _attempt_or_lost(self, step: PlannedStep, command: StepCommand) -> StepResult | None:
        """As ``_attempt``; a step that had begun is lost where the host cannot be reached again."""
        try:
            return self._attempt(step, command)
        except ConnectError as error:
            self.recorder.defers_result = False
            if not self.recorder.is_announced(step):
                raise
            return StepResult(Status.LOST, reason=error.diagnostics[0].message)

    def _attempt(self, step: PlannedStep, command: StepCommand) -> StepResult | None:
        """Run it and keep its end from being told; None where that is told already."""
        if command.download is not None:
            return self._download_file(step, command, command.download)
        desired, staged = command.desired_state, ""
        check_result: StepResult | None = None
        for payload in side_payloads(command):
            if check_result is None:
                check_result = self._run_deferred(
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
        return self._run_deferred(step, replace(command, payload_path=staged))

    def _run_deferred(self, step: PlannedStep, command: StepCommand) -> StepResult | None:
        self.recorder.defers_result = True
        self.recorder.queue(step, command)
        if step.delegate_to:
            self._run_delegated(step)
        else:
            self.user = step.user
            self._run_pipeline()
        outcome, self.recorder.deferred_result = self.recorder.deferred_result, None
        self.recorder.defers_result = False
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
            self._handle_refusal(step, error)

    def _download_file(
        self, step: PlannedStep, command: StepCommand, download: DownloadSpec
    ) -> StepResult | None:
        """Ask the host for its file, and read it where this side has another."""
        began = time.monotonic()
        deadline = DownloadDeadline(download.timeout, self._is_stopped)
        probe_result = self._run_deferred(step, command)
        if probe_result is None:
            return None
        try:
            outcome, remote_file = compare_download(probe_result, download)
            if remote_file is not None:
                download_file(
                    *self._open_side_channel(step), download, remote_file, is_cancelled=deadline
                )
        except OrchError as error:
            outcome = deadline.outcome or transfer_failed_result(
                error, self._endpoint(step), "its bytes did not come"
            )
        return replace(outcome, seconds=time.monotonic() - began)

    def _upload_payload(self, step: PlannedStep, payload: UploadPayload) -> str:
        """Send what goes beside the command; where on the host that is then."""
        return upload_payload(*self._open_side_channel(step), payload, self._is_stopped)

    def _open_side_channel(self, step: PlannedStep) -> tuple[Channel, float]:
        """A channel for a step's bytes, and how many seconds may pass without one."""
        host = step.delegate_to or self.host_state.host.name
        session_owner = (
            f"{self.host_state.app or ''} delegated" if step.delegate_to else self.host_state.app
        )
        channel = self.connections.side_channel(host, session_owner, step.user)
        return channel, self.connections.hosts[host].connect.timeout

    def _endpoint(self, step: PlannedStep) -> str:
        return self.connections.endpoint(step.delegate_to or self.host_state.host.name)

    def _cancel_session(self) -> None:
        session = self.session
        if session is not None:
            session.cancel()


_STALE_DIR_PATTERN = f"orch-{'[0-9a-f]' * 16}"


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
    """The outcome of a try, and whether to try again; ``attempts_left``: how often that can be.
    A ``check`` tries once; ``cause`` says which step, not run by it, may be why it fails."""
    result = registered_result(outcome, failed=outcome.status.is_failure, name=step.name)
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
        cause_text = cause or f"a run would try {retry.retries + 1} times"
        message = f"'{retry.condition_text}' does not hold; {cause_text}"
        return replace(outcome, status=Status.UNKNOWN, reason=message), False
    reason = f"'{retry.condition_text}' did not hold in {retry.retries + 1} tries"
    return replace(outcome, status=Status.FAILED, reason=reason), False


def upload_payload(
    channel: Channel, timeout: float, payload: UploadPayload, is_cancelled: Callable[[], bool]
) -> str:
    """Send the bytes to a private folder of their own on the host, in the home where the usual
    place takes none; their path there.

    Raises TransferError.
    """
    script = upload_script(payload.size)
    upload_dir = send(
        channel, script, payload_chunks(payload), timeout=timeout, stopping=is_cancelled
    )
    return upload_dir.removesuffix("\n") + "/payload"


def upload_script(size: int) -> str:
    """A script that takes so many bytes into a new folder, and names that; or leaves nothing.

    A link that is cut before the step begins which is to use them leaves that folder. Whoever
    brings something to the same user some days later takes it away.
    """
    name = f"orch-{secrets.token_hex(8)}"
    usual, other = f'"${{TMPDIR:-/tmp}}"/{name}', f"~/{name}"
    return (
        f"find \"${{TMPDIR:-/tmp}}/.\" ~/. ! -name . -prune -type d -name '{_STALE_DIR_PATTERN}' "
        '-user "$(id -u)" -mtime +1 -exec rm -rf {} + </dev/null >/dev/null 2>&1 || :\n'
        "set -e; umask 077\n"
        f"mkdir -- {usual} && cd -- {usual} || {{ mkdir {other}; cd {other}; }}\n"
        # a link that is cut shows as a pipe that is gone, which would kill this shell trapless
        "trap '[ $? = 0 ] || rm -rf -- \"$PWD\"' EXIT; trap 'exit 129' HUP INT PIPE TERM; pwd\n"
        f"{upload_stage_script('payload', size)}"
    )


def payload_chunks(payload: UploadPayload) -> Iterator[bytes]:
    """The bytes, some at a time."""
    if payload.read_chunks is not None:
        yield from payload.read_chunks()
    elif payload.path is None:
        for at in range(0, len(payload.data), PIECE_BYTES):
            yield payload.data[at : at + PIECE_BYTES]
    else:
        with payload.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


def not_started_result(error: ConnectError, delegate: str) -> StepResult | None:
    """What becomes of a step that did not begin: nobody lets us become its user, or ``delegate``, the
    host that it is delegated to, cannot be reached. None where its own host cannot."""
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


def transfer_failed_result(
    error: OrchError, endpoint: str, summary: str = "its bytes were not sent"
) -> StepResult:
    """What becomes of a step whose bytes did not get there. ``endpoint``: where the host is."""
    status = Status.FAILED
    if isinstance(error, ConnectError) and error.phase != "become":
        status = Status.LOST
    if isinstance(error, TransferError):
        status_by_failure = {
            TransferFailure.CUT: Status.LOST,
            TransferFailure.STOPPED: Status.CANCELLED,
        }
        status = status_by_failure.get(error.failure, status)
    prefix = f"{endpoint}: " if endpoint and isinstance(error, TransferError) else ""
    return StepResult(status, reason=f"{summary}: {prefix}{error_text(error)}")


def side_payloads(command: StepCommand) -> list[UploadPayload]:
    """What has to be on the host before the command can do all that it is to do, each only where
    it says with those before it that something would change."""
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
    """Whether the host needs the bytes to say what would change."""
    return any(change.before == UNKNOWN_STATE for change in check_result.changes)
