"""The shell session of one host: commands are sent in pipelines, and their results come back."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import NoReturn, Protocol

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.model.command import StepCommand
from orchestrator.model.sanitize import quote_output_end
from orchestrator.remote_shell.bootstrap import (
    LEASE_SECONDS,
    bootstrap_script,
    run_assignment,
    session_assignment,
)
from orchestrator.remote_shell.channel_protocol import Channel, ReadChunk
from orchestrator.remote_shell.decoder import (
    OutputChunk,
    ProtocolError,
    ProtocolEvent,
    ProtocolMarker,
    StreamDecoder,
    parse_number,
)
from orchestrator.remote_shell.encoder import UNKNOWN_FLAG, KnownStepState, encode_pipeline


class EndReason(Enum):
    """Why a step ended."""

    DONE = "done"
    """The step's shell exited, or was killed by something other than orch."""
    SKIPPED = "skipped"
    """The step's condition did not hold, or its guard exited with 1."""
    TIMED_OUT = "timed_out"
    """The step exceeded its timeout and was killed."""
    TERMINATED = "terminated"
    """orch cancelled the step, or the host lost contact with orch, and the step was killed."""


class CommandResult(Struct, frozen=True):
    """The result of one step.

    ``unknown``: the step failed in check mode, possibly because of a step that check mode withheld.
    ``exit_status`` is that of the step's shell (128 + N if signal N killed it), or None if the step
    did not exit by itself. ``reason`` adds to ``end_reason`` what it does not say: whether the
    condition or the guard skipped the step, or what was missing.
    """

    end_reason: EndReason
    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    unknown: bool = False
    reason: str = ""


class SessionListener(Protocol):
    """A receiver of the events of a pipeline, in order, in the thread that runs it.

    A slow listener blocks the host once the pipes are full.
    """

    def started(self, step: int) -> None:
        """Handle the start of a step."""

    def output(self, step: int, stream: str, data: bytes) -> None:
        """Handle bytes from the host's ``stdout`` or ``stderr``, as received.

        ``step`` is 0 for output before the shell was ready or between two steps.
        """

    def reported(self, step: int, kind: str, text: str) -> None:
        """Handle a report of a module's script (see ``module_protocol.py``).

        The text continues in the next report if ``kind`` begins with ``+``.
        """

    def ended(self, step: int, result: CommandResult) -> None:
        """Handle the end of a step; all output that it wrote until then was reported before.

        A skipped step may end without a start. A step that never ends did not run, unless
        ``SessionLostError`` names it.
        """


class SessionLostError(Exception):
    """The session was lost; only the results received so far are known.

    ``step`` is the step that was running, or None between steps. ``shell_output`` is the end of the
    shell's own output, which may explain the loss.
    """

    def __init__(self, step: int | None, reason: str, shell_output: bytes = b"") -> None:
        self.step, self.reason, self.shell_output = step, reason, shell_output
        shown = quote_output_end(shell_output)
        super().__init__(f"{reason}; its output: {shown}" if shown else reason)


class ShellNotReadyError(ConnectError):
    """No shell answered. ``shell_output`` is the output received instead of an answer.

    ``sent``: all commands had been sent, so they may have run.
    """

    def __init__(self, why: str, shell_output: bytes, *, sent: bool = False) -> None:
        self.shell_output, self.sent = shell_output, sent
        shown = quote_output_end(shell_output)
        super().__init__(
            "shell",
            f"{why}; the host sent: {shown}" if shown else f"{why}; the host sent nothing",
            "an rc file that reads its input, a forced command or a closed account does this: check"
            " with `ssh HOST 'exec sh'`",
        )


_ABORT_TIMEOUT = 20.0  # seconds for a host to kill a step, with grace period and slow links
_STEP_END_TIMEOUT = 8.0
"""Seconds that a host may take to kill a step.

These are five naps, of a whole second each if the host's `sleep` does not support fractions, plus
a margin."""
_END_LINE = b":\n"
"""Tells the host that the end of the session is meant, so that it keeps no note.

A shell that reads it as a command does nothing.
"""
_LEASES_BETWEEN_STEPS = 5  # how many leases a host may take to start the next step
_NOTE_TIMEOUT = 10.0  # seconds for a host to leave a note
_EXIT_TIMEOUT = 2.0  # seconds for the last output to arrive after the shell has exited
_MAX_NOISE_BYTES = 2000
_END_REASONS = {
    "done": EndReason.DONE,
    "missing": EndReason.DONE,
    "guard": EndReason.SKIPPED,
    "unsure": EndReason.DONE,
    "when": EndReason.SKIPPED,
    "timeout": EndReason.TIMED_OUT,
    "gone": EndReason.TERMINATED,
}


class ShellSession:
    """A session in the shell behind ``channel`` that runs pipelines of commands.

    Used by one thread, except for ``cancel``. All times are in seconds. ``ready_timeout`` limits
    the wait for the shell to become ready. ``lease`` is how long the host waits for data before it
    kills everything that runs; ``renew`` is the interval at which the lease is renewed.
    ``endpoint`` prefixes error messages; ``run`` is the run ID passed to the steps. ``session_id``
    names the note that the host keeps if the connection breaks in a pipeline; '' for none.
    ``shell_pid`` is the process ID of the shell on the host, 0 until it is known. ``is_busy``: a
    pipeline runs.
    ``round_trips`` counts how often this side sent data and then waited for the answer.

    The host kills steps that exceed their timeout and continues with the next. If it does not
    report the end of such a step, the session is lost a lease after the timeout; between steps,
    after five leases.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        ready_timeout: float,
        lease: float = LEASE_SECONDS,
        renew: float = 20,
        endpoint: str = "",
        run: str = "",
        session_id: str = "",
    ) -> None:
        self.round_trips = 0
        self.session_id = session_id
        self._run = run
        self._channel = channel
        self._ready_timeout, self._lease, self._renew = ready_timeout, lease, renew
        self._error_prefix = f"{endpoint}: " if endpoint else ""
        prepared = channel.prepared_shell()
        self._nonce = prepared.nonce if prepared else secrets.token_hex(16)
        self._streams = StreamDecoder(self._nonce)
        self._known: dict[int, KnownStepState] = {}
        # of the last pipeline of steps, None before the first: what a note says of it
        self._last_steps: tuple[int, int] | None = None
        self._noise = b""
        self._bootstrap_sent = prepared is not None
        self._sent_run = "" if prepared else run
        self._note_name = "" if prepared else session_id  # the host's name of the note
        self._keeps_note = self.is_busy = False
        self.shell_pid = prepared.pid if prepared else 0
        self._installed_functions: dict[str, str] = {}
        self._ready = prepared is not None
        self._cancelled = False
        self._end_text = ""
        self._gone_since: float | None = None
        # state of the current pipeline
        self._running: int | None = None
        self._failed = False
        self._sent = False
        self._renew_at: float | None = None
        self._silent_until: float | None = None
        self._silence_timeout = self._lease
        self._steps: dict[int, StepCommand] = {}
        self._ended: set[int] = set()
        self._listener: SessionListener = _NullListener()

    @property
    def is_alive(self) -> bool:
        """Return True if the session can run another pipeline."""
        return not (self._end_text or self._cancelled)

    def begin_task(self, known: dict[int, KnownStepState] | None = None) -> None:
        """Forget all steps, so that their numbers can be reused.

        The state of later steps is stored in ``known``, which sessions of the same task can share.
        """
        self._known = {} if known is None else known

    def begin_run(self, run: str) -> None:
        """Pass the ID of another run to the steps of later pipelines."""
        self._run = run

    def override_state(
        self, step: int, *, changed: bool | None = None, failed: bool | None = None
    ) -> None:
        """Override the state of a step of this task that conditions of later pipelines see."""
        known = self._known.get(step, KnownStepState())
        self._known[step] = KnownStepState(
            known.exit_status,
            known.changed if changed is None else changed,
            known.failed if failed is None else failed,
            known.skipped,
            known.withheld,
        )

    def answers(self, timeout: float) -> bool:
        """Return True if the shell answers an empty pipeline within ``timeout`` seconds.

        The session can then run another pipeline. Otherwise it is closed.
        """
        try:
            self.run([], _NullListener(), answer_timeout=timeout)
        except (SessionLostError, ConnectError):
            self.close()
        return self.is_alive

    def run(
        self,
        commands: Sequence[StepCommand],
        listener: SessionListener,
        *,
        answer_timeout: float | None = None,
    ) -> None:
        """Run one pipeline. On return, every step that was started or skipped has ended.

        Steps after a failed one (unless its failure is ignored) neither start nor end; nor do steps
        that ``cancel`` prevented, and steps after one whose kill ended the shell itself: then
        ``is_alive`` is False. Without commands, wait until the shell is ready, and has answered
        within ``answer_timeout`` seconds (default: a lease).

        Raises ShellNotReadyError; SessionLostError if the session is lost or was lost before;
        ValueError for commands that cannot be encoded.
        """
        if commands:
            self._last_steps = 0, 0
        self._run_pipeline(commands, listener, answer_timeout, are_steps=bool(commands))

    def _run_pipeline(
        self,
        commands: Sequence[StepCommand],
        listener: SessionListener,
        answer_timeout: float | None = None,
        *,
        are_steps: bool,
    ) -> None:
        if self._end_text:
            raise SessionLostError(None, self._error_prefix + self._end_text, self._noise)
        data = encode_pipeline(
            commands, self._known, self._nonce, installed=self._installed_functions
        )
        if not self._bootstrap_sent:
            data = (
                bootstrap_script(self._nonce, self._lease, run=self._run, session=self.session_id)
                + data
            )
            self._bootstrap_sent = True
        elif self._run != self._sent_run:
            data = run_assignment(self._run) + b"\n" + data
        # a note would be taken for that of the steps before
        note_name = self.session_id if are_steps or self._last_steps is None else ""
        if note_name != self._note_name:
            data = session_assignment(note_name) + b"\n" + data
            self._note_name = note_name
        self._sent_run = self._run
        self._listener, self._steps = listener, {c.step: c for c in commands}
        self._running, self._failed, self._sent = None, False, False
        self._silence_timeout = self._lease * (_LEASES_BETWEEN_STEPS if commands else 1)
        if answer_timeout is not None and not commands:
            self._silence_timeout = answer_timeout
        self._silent_until, self._ended = None, set()
        self.round_trips += 1
        self.is_busy = True
        try:
            self._exchange(data)
        except ProtocolError as error:
            self._raise_session_lost(f"the host sent invalid data ({error})")
        finally:
            self.is_busy = False
            self._listener = _NullListener()

    def run_unreported(self, command: StepCommand, listener: SessionListener) -> None:
        """Run a command that is not a step of the task; the known states of steps are kept."""
        kept, self._known = (self._known, self._last_steps), {}
        try:
            self._run_pipeline([command], listener, are_steps=False)
        finally:
            self._known, self._last_steps = kept

    def cancel(self, *, keeps_note: bool = False) -> None:
        """Kill the running step and start no further steps. Safe from any thread; returns at once.

        The session cannot be used afterwards. ``keeps_note``: the host keeps a note, as if the
        connection had broken, because nobody will know what the session still reports.
        """
        self._keeps_note = self._keeps_note or keeps_note
        self._cancelled = True
        self._channel.wake()

    def leave_note(self) -> None:
        """Let the host keep a note of the last pipeline, which has ended, and close the session.

        It is for results that nobody else may know. Nothing may run in the session.
        """
        if self.is_alive and self._ready and self.session_id and self._last_steps is not None:
            began, ended = (str(step or "") for step in self._last_steps)
            name = session_assignment(self.session_id).decode()
            text = f"{name} o_ran={began} o_ended={ended};leave_note\n"
            with suppress(OSError):
                self._channel.write(memoryview(text.encode()))
                self._channel.close_stdin()
                deadline = time.monotonic() + _NOTE_TIMEOUT
                while (left := deadline - time.monotonic()) > 0 and not self._read(left).eof:
                    continue
        self.close()

    def close(self) -> None:
        """Close the session: the shell exits, and a running step is killed."""
        self._end_text = self._end_text or "the session is closed"
        self._channel.close()

    def _exchange(self, data: bytes) -> None:
        """Write the pipeline and read until it has ended; neither blocks the other."""
        unsent = memoryview(data)
        ready_by = time.monotonic() + self._ready_timeout
        self._renew_at = None
        while not self._cancelled:
            unsent = self._write(unsent or self._next_keepalive())
            now = time.monotonic()
            if not self._ready and now >= ready_by:
                self._raise_not_ready(f"no shell answered within {self._ready_timeout:g} s")
            wake_at = now + self._renew if unsent else self._renew_at or now
            last = self._silence_deadline(now, unsent) if self._ready else ready_by
            chunk = self._read(max(0.0, min(wake_at, last) - now))
            ready_by += chunk.waited
            if self._feed_chunk(chunk):
                return
            if chunk.eof:
                self._on_eof()
                return
        self._abort()

    def _next_keepalive(self) -> memoryview:
        """Return the newline that renews the lease if it is due, else nothing.

        The first one is due some seconds after the pipeline was sent, because shells swallow input
        that arrives together with it.
        """
        now = time.monotonic()
        due = self._renew_at is not None and now >= self._renew_at
        if due or self._renew_at is None:
            self._renew_at = now + self._renew
        return memoryview(b"\n" if due else b"")

    def _silence_deadline(self, now: float, unsent: memoryview) -> float:
        """Return the time by which the host must have sent its next marker; infinity for no limit.

        The marker is the end of the running step or, between steps, the next start or end. Raises
        SessionLostError if the time has passed.
        """
        if self._silent_until is None and not unsent and self._running is None:
            self._silent_until = now + self._silence_timeout
        if self._silent_until is None:
            return math.inf
        if now >= self._silent_until:
            late = f"end the step within {self._lease + _STEP_END_TIMEOUT:g} s after its timeout"
            late = (
                f"start the next step within {self._silence_timeout:g} s"
                if self._running is None
                else late
            )
            self._raise_session_lost(f"the host did not {late}")
        return self._silent_until

    def _abort(self) -> None:
        """Close the shell's stdin, which ends everything, and read the remaining output."""
        self._end_text = "the session was cancelled"
        deadline = time.monotonic() + _ABORT_TIMEOUT
        self._close_stdin()
        while (left := deadline - time.monotonic()) > 0:
            chunk = self._read(left)
            self._feed_chunk(chunk)
            if chunk.eof or (self._running is None and self._gone_since):
                self._on_eof()
                return
        self._raise_session_lost("the host did not end the session in time")

    def _close_stdin(self) -> None:
        with suppress(OSError):  # already broken: the next read reports it
            if self.session_id and not self._keeps_note:
                self._channel.write(memoryview(_END_LINE))
            self._channel.close_stdin()

    def _write(self, unsent: memoryview) -> memoryview:
        if not unsent:
            return unsent
        try:
            unsent = unsent[self._channel.write(unsent) :]
        except OSError:
            return memoryview(b"")  # the next reads return the remaining data, then EOF
        self._sent = self._sent or len(unsent) <= 1  # it also runs without the final newline
        return unsent

    def _read(self, timeout: float) -> ReadChunk:
        """Read from the channel.

        An exited shell counts as EOF even if other processes keep its streams open.
        """
        if self._channel.exit_status() is None:
            return self._channel.read(timeout)
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        left = self._gone_since + _EXIT_TIMEOUT - now
        chunk = self._channel.read(min(timeout, max(0.0, left)))
        return ReadChunk(chunk.stdout, chunk.stderr, chunk.eof or left <= 0)

    def _feed_chunk(self, chunk: ReadChunk) -> bool:
        """Pass the events of a chunk to the listener; return True if the pipeline has ended."""
        over = False
        for event in self._streams.feed(chunk.stdout, chunk.stderr):
            if over and isinstance(event, ProtocolMarker):
                raise ProtocolError(f"{event.kind} after the end of the pipeline")
            over = self._dispatch_event(event) or over
        return over

    def _dispatch_event(self, event: ProtocolEvent) -> bool:
        if isinstance(event, OutputChunk):
            self._forward_output(event)
            return False
        if event.kind == "R":
            self._ready = True
            self.shell_pid = parse_number(event.words[0]) if event.words else 0
        elif not self._ready:
            raise ProtocolError(f"{event.kind} before R")
        elif event.kind == "B":
            self._on_step_begin(parse_number(event.words[0]))
        elif event.kind == "E":
            self._on_step_end(event)
        elif event.kind == "T":
            step, kind, text = event.words
            if parse_number(step) != self._running:
                raise ProtocolError(f"step {step} reports out of turn")
            self._listener.reported(parse_number(step), kind, text)
        elif event.kind == "D":
            self._end_text = "killing a step ended the shell: the host has neither setsid nor perl"
            return self._running is None
        elif self._running is not None:
            raise ProtocolError(f"the pipeline ended in step {self._running}")
        return event.kind == "S"

    def _forward_output(self, output: OutputChunk) -> None:
        if not output.step:
            self._noise = (self._noise + output.data)[-_MAX_NOISE_BYTES:]
        self._listener.output(output.step, output.stream, output.data)

    def _on_step_begin(self, step: int) -> None:
        if step not in self._steps or step in self._ended or self._running is not None:
            raise ProtocolError(f"step {step} began out of turn")
        self._running = step
        if self._last_steps is not None:
            self._last_steps = step, self._last_steps[1]
        timeout = self._steps[step].timeout
        self._silent_until = (
            None
            if timeout is None
            else time.monotonic() + timeout + self._lease + _STEP_END_TIMEOUT
        )
        self._listener.started(step)

    def _on_step_end(self, marker: ProtocolMarker) -> None:
        step, result = _parse_result(marker)
        if step not in self._steps or step in self._ended or self._running not in (step, None):
            raise ProtocolError(f"step {step} ended out of turn")
        if result.end_reason is EndReason.TIMED_OUT and self._steps[step].timeout is None:
            raise ProtocolError(f"step {step} ended by a timeout that it does not have")
        self._ended.add(step)
        self._silent_until = None
        if result.end_reason is EndReason.TERMINATED and not self._cancelled:
            self._raise_session_lost(
                f"the host received nothing for {self._lease:g} s, or its session was terminated"
            )
        self._running = None
        if self._last_steps is not None:
            self._last_steps = self._last_steps[0], step
        command = self._steps[step]
        if result.unknown and command.effects is None:
            raise ProtocolError(f"step {step} is unknown outside check mode")
        self._failed = result.failed and not command.ignore_failure
        self._known[step] = KnownStepState(
            result.exit_status,
            result.changed,
            result.failed,
            result.end_reason is EndReason.SKIPPED,
            _is_skipped_by_check(command, result),
        )
        self._listener.ended(step, result)

    def _on_eof(self) -> None:
        """Handle EOF: normal after a ``cancel``, otherwise the session is lost."""
        for output in self._streams.rest():
            self._forward_output(output)
        if self._cancelled and self._running is None:
            return
        status = self._channel.exit_status()
        cause = self._channel.cause() if status is None else f"exit status {status}"
        ended = f"the session was lost ({cause})" if cause else "the session was lost"
        if not self._ready:
            self._raise_not_ready(ended)
        self._raise_session_lost(self._end_text or ended)

    def _raise_session_lost(self, reason: str) -> NoReturn:
        """Close stdin, so that the host kills what still runs, and raise SessionLostError."""
        self._end_text = reason
        self._close_stdin()
        raise SessionLostError(self._running, self._error_prefix + reason, self._noise)

    def _raise_not_ready(self, why: str) -> NoReturn:
        # queried before closing stdin, because that makes a shell exit that never ran the bootstrap
        ended = self._channel.exit_status() is not None
        self._end_text = why
        self._close_stdin()
        raise ShellNotReadyError(
            self._error_prefix + why,
            self._noise,
            sent=self._sent and bool(self._steps) and not ended,
        )


class _NullListener:
    """A listener that ignores all events."""

    def started(self, step: int) -> None: ...

    def output(self, step: int, stream: str, data: bytes) -> None: ...

    def reported(self, step: int, kind: str, text: str) -> None: ...

    def ended(self, step: int, result: CommandResult) -> None: ...


def _is_skipped_by_check(command: StepCommand, result: CommandResult) -> bool:
    """Return True if check mode withheld a change that the step would make."""
    if command.effects is None or result.end_reason is EndReason.SKIPPED or result.failed:
        return False
    done = command.check_mode if command.desired_state is None else result.changed
    return done or result.unknown


def _parse_result(marker: ProtocolMarker) -> tuple[int, CommandResult]:
    step, how, status, failed, changed = marker.words
    if how not in _END_REASONS or (status == "-" and _END_REASONS[how] is EndReason.DONE):
        raise ProtocolError(f"invalid end marker: {marker.words}")
    exit_status = None if status == "-" else parse_number(status)
    result = CommandResult(
        _END_REASONS[how],
        exit_status,
        changed=changed == "1",
        failed=failed == "1",
        unknown=failed == UNKNOWN_FLAG,
        reason=_reason_text(how, status),
    )
    if result.end_reason is EndReason.SKIPPED:
        result = CommandResult(EndReason.SKIPPED, reason=result.reason)
    return parse_number(step), result


def _reason_text(how: str, status: str) -> str:
    return {
        "when": "its condition does not hold",
        "guard": "its guard exited with 1",
        "unsure": f"its guard exited with {status}, expected 0 (run the step) or 1 (skip it)",
        "missing": "the host has no such shell",
    }.get(how, "")
