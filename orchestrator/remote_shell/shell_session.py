"""How steps and sessions end: what a session tells whoever runs commands on it.

One shell on one host, streamed: commands go out many at a time, their ends come back.
"""

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
from orchestrator.remote_shell.bootstrap import bootstrap_script
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
    """What ended a step."""

    DONE = "done"
    """Its shell ended by itself, or was killed by something that is not ours."""
    SKIPPED = "skipped"
    """Its condition did not hold, or its guard said no."""
    TIMED_OUT = "timed_out"
    """It ran longer than its timeout, and was killed."""
    ENDED = "ended"
    """The run was cancelled, and it was killed."""


class CommandResult(Struct, frozen=True):
    """How one step ended.

    ``unknown``: it failed in a check, perhaps because of what was withheld before it.
    ``exit_status`` is its shell's (128 + N where signal N killed that), None where nothing
    ended by itself. ``reason`` says more where ``end_reason`` alone does not: which of condition and
    guard skipped it, what was missing.
    """

    end_reason: EndReason
    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    unknown: bool = False
    reason: str = ""


class SessionListener(Protocol):
    """Hears what happens while a segment runs, in order, from the thread that runs it.

    What takes its time in here keeps the host from going on once its pipes are full.
    """

    def started(self, step: int) -> None:
        """The host began this step."""

    def output(self, step: int, stream: str, data: bytes) -> None:
        """Bytes from the host's ``stdout`` or ``stderr``, as they came.

        Step 0: from before the shell was ready, or from between two steps.
        """

    def reported(self, step: int, kind: str, text: str) -> None:
        """What a module's script says of itself (``reports.py``); part of a text that goes on
        where the kind begins with ``+``."""

    def ended(self, step: int, result: CommandResult) -> None:
        """This step is over, and all it had written by then was told.

        A skipped step may end without having started. One that never ends did not run,
        unless ``SessionLostError`` names it.
        """


class SessionLostError(Exception):
    """The session broke off, and no more than what was told is known.

    ``step`` is the one that was running, None between steps. ``shell_output`` is the end of what the
    shell itself said, which may tell why.
    """

    def __init__(self, step: int | None, reason: str, shell_output: bytes = b"") -> None:
        self.step, self.reason, self.shell_output = step, reason, shell_output
        shown = quote_output_end(shell_output)
        super().__init__(f"{reason}; it said: {shown}" if shown else reason)


class ShellNotReadyError(ConnectError):
    """No shell answered at the other end. ``shell_output`` is what came in its place. ``sent``: all that
    was to be run had gone out, so that it may have been run.
    """

    def __init__(self, why: str, shell_output: bytes, *, sent: bool = False) -> None:
        self.shell_output, self.sent = shell_output, sent
        shown = quote_output_end(shell_output)
        super().__init__(
            "shell",
            f"{why}; the host said: {shown}" if shown else f"{why}; the host said nothing",
            "a login shell's rc file that reads its input, a forced command or a closed account"
            " does this: see what `ssh HOST 'exec sh'` does",
        )


_ABORT_TIMEOUT = 20.0  # seconds for a host to end a step, grace and slow links included
_STEP_END_TIMEOUT = 8.0
"""Seconds that a host may take to end a step: five naps, of a whole second each where its `sleep`
knows no parts of one, and what its other work adds."""
_LEASES_BETWEEN_STEPS = 5  # leases, for a host to go on between two steps
_EXIT_TIMEOUT = 2.0  # seconds for the last words to arrive, once the shell is known to be gone
_MAX_NOISE_BYTES = 2000  # bytes
_END_REASONS = {
    "done": EndReason.DONE,
    "missing": EndReason.DONE,
    "guard": EndReason.SKIPPED,
    "unsure": EndReason.DONE,
    "when": EndReason.SKIPPED,
    "timeout": EndReason.TIMED_OUT,
    "gone": EndReason.ENDED,
}


class ShellSession:
    """Runs commands in the shell behind ``channel``.

    Used by one thread, but for ``cancel``. All times are seconds: ``ready_timeout`` bounds the
    wait for the shell's first word; where the host hears nothing for ``lease`` it ends what
    runs; ``renew`` is how often it hears something. ``endpoint`` is what errors call the other end;
    ``run`` tells the steps which run they are a part of. ``round_trips`` counts how often this
    side wrote and then waited for the answer.

    A host ends steps that run longer than their timeout, and goes on to the next. Where it keeps
    the ends to itself, the session is lost a lease after the timeout; between steps, after five.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        ready_timeout: float,
        lease: float = 60,
        renew: float = 20,
        endpoint: str = "",
        run: str = "",
    ) -> None:
        self.round_trips = 0
        self._run = run
        self._channel = channel
        self._ready_timeout, self._lease, self._renew = ready_timeout, lease, renew
        self._error_prefix = f"{endpoint}: " if endpoint else ""
        self._nonce = secrets.token_hex(16)
        self._streams = StreamDecoder(self._nonce)
        self._known: dict[int, KnownStepState] = {}
        self._noise = b""
        self._bootstrap_sent = False
        self._installed_functions: dict[str, str] = {}
        self._ready = False
        self._cancelled = False
        self._end_text = ""
        self._gone_since: float | None = None
        # of the segment at hand
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
        """Whether another segment can be run on it."""
        return not (self._end_text or self._cancelled)

    def begin_task(self, known: dict[int, KnownStepState] | None = None) -> None:
        """Forget all steps, so that their numbers can be used again; what is known of those to
        come is kept in ``known``, which sessions of the same task can share."""
        self._known = {} if known is None else known

    def override_state(
        self, step: int, *, changed: bool | None = None, failed: bool | None = None
    ) -> None:
        """Overrule what conditions of later segments see of a step of this task."""
        known = self._known.get(step, KnownStepState())
        self._known[step] = KnownStepState(
            known.exit_status,
            known.changed if changed is None else changed,
            known.failed if failed is None else failed,
            known.skipped,
            known.withheld,
        )

    def run(self, commands: Sequence[StepCommand], listener: SessionListener) -> None:
        """Run one segment. When it returns, each step that was begun or skipped has ended.

        Steps after one that failed, and was not to be ignored, have neither begun nor ended;
        nor have those that a ``cancel`` kept from beginning, and those behind a step with which
        the shell itself had to end: it is not ``is_alive`` then. Without commands it waits until
        the shell is ready. Raises ShellNotReadyError, and Lost where the session breaks off, or broke
        off before; ValueError for commands that cannot be sent.
        """
        if self._end_text:
            raise SessionLostError(None, self._error_prefix + self._end_text, self._noise)
        data = encode_pipeline(
            commands, self._known, self._nonce, installed=self._installed_functions
        )
        if not self._bootstrap_sent:
            data = bootstrap_script(self._nonce, self._lease, run=self._run) + data
            self._bootstrap_sent = True
        self._listener, self._steps = listener, {c.step: c for c in commands}
        self._running, self._failed, self._sent = None, False, False
        self._silence_timeout = self._lease * (_LEASES_BETWEEN_STEPS if commands else 1)
        self._silent_until, self._ended = None, set()
        self.round_trips += 1
        try:
            self._exchange(data)
        except ProtocolError as error:
            self._raise_session_lost(f"the session is garbled ({error})")
        finally:
            self._listener = _NullListener()

    def run_unreported(self, command: StepCommand, listener: SessionListener) -> None:
        """Run a command that is no step of the task: what is known of those stays as it is."""
        kept, self._known = self._known, {}
        try:
            self.run([command], listener)
        finally:
            self._known = kept

    def cancel(self) -> None:
        """End the running step and let nothing further begin. From any thread; returns at once.

        The session cannot be used any more.
        """
        self._cancelled = True
        self._channel.wake()

    def close(self) -> None:
        """Let go of the shell, which ends; so does a step that still runs."""
        self._end_text = self._end_text or "the session is closed"
        self._channel.close()

    def _exchange(self, data: bytes) -> None:
        """Write the segment and read until it is over; one never waits for the other."""
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
        """What renews the lease, when it is due: for the first time some seconds after the
        segment is out, since shells swallow what comes together with it.
        """
        now = time.monotonic()
        due = self._renew_at is not None and now >= self._renew_at
        if due or self._renew_at is None:
            self._renew_at = now + self._renew
        return memoryview(b"\n" if due else b"")

    def _silence_deadline(self, now: float, unsent: memoryview) -> float:
        """When the host must have sent the end of the running step, or what follows between two
        steps. Raises Lost."""
        if self._silent_until is None and not unsent and self._running is None:
            self._silent_until = now + self._silence_timeout
        if self._silent_until is None:
            return math.inf
        if now >= self._silent_until:
            late = f"end the step within {self._lease + _STEP_END_TIMEOUT:g} s after its timeout"
            late = f"go on within {self._silence_timeout:g} s" if self._running is None else late
            self._raise_session_lost(f"the host did not {late}")
        return self._silent_until

    def _abort(self) -> None:
        """Close the shell's stdin, which ends everything, and hear how it goes."""
        self._end_text = "the session was cancelled"
        deadline = time.monotonic() + _ABORT_TIMEOUT
        self._close_stdin()
        while (left := deadline - time.monotonic()) > 0:
            chunk = self._read(left)
            self._feed_chunk(chunk)
            if chunk.eof or (self._running is None and self._gone_since):
                self._on_eof()
                return
        self._raise_session_lost("it was told to end, and did not")

    def _close_stdin(self) -> None:
        with suppress(OSError):  # already cut: reading says so
            self._channel.close_stdin()

    def _write(self, unsent: memoryview) -> memoryview:
        if not unsent:
            return unsent
        try:
            unsent = unsent[self._channel.write(unsent) :]
        except OSError:
            return memoryview(b"")  # reading brings what is left, then the end
        self._sent = self._sent or len(unsent) <= 1  # without its newline it runs as well
        return unsent

    def _read(self, timeout: float) -> ReadChunk:
        """Read; a shell that exited is gone, though others may hold its streams open."""
        if self._channel.exit_status() is None:
            return self._channel.read(timeout)
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        left = self._gone_since + _EXIT_TIMEOUT - now
        chunk = self._channel.read(min(timeout, max(0.0, left)))
        return ReadChunk(chunk.stdout, chunk.stderr, chunk.eof or left <= 0)

    def _feed_chunk(self, chunk: ReadChunk) -> bool:
        """Tell the listener; whether the segment is over."""
        over = False
        for event in self._streams.feed(chunk.stdout, chunk.stderr):
            if over and isinstance(event, ProtocolMarker):
                raise ProtocolError(f"{event.kind} behind the end of the segment")
            over = self._dispatch_event(event) or over
        return over

    def _dispatch_event(self, event: ProtocolEvent) -> bool:
        if isinstance(event, OutputChunk):
            self._forward_output(event)
            return False
        if event.kind == "R":
            self._ready = True
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
            self._end_text = "the shell ended with a step: its host has neither setsid nor perl"
            return self._running is None
        elif self._running is not None:
            raise ProtocolError(f"the segment ended in step {self._running}")
        return event.kind == "S"

    def _forward_output(self, output: OutputChunk) -> None:
        if not output.step:
            self._noise = (self._noise + output.data)[-_MAX_NOISE_BYTES:]
        self._listener.output(output.step, output.stream, output.data)

    def _on_step_begin(self, step: int) -> None:
        if step not in self._steps or step in self._ended or self._running is not None:
            raise ProtocolError(f"step {step} began out of turn")
        self._running = step
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
            raise ProtocolError(f"step {step} ended after a timeout that it has not")
        self._ended.add(step)
        self._silent_until = None
        if result.end_reason is EndReason.ENDED and not self._cancelled:
            self._raise_session_lost(
                f"the host heard nothing for {self._lease:g} s, or was told to end the session"
            )
        self._running = None
        command = self._steps[step]
        if result.unknown and command.effects is None:
            raise ProtocolError(f"step {step} is unknown, and no check")
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
        """The stream is over: as it should be after a ``cancel``, or a loss."""
        for output in self._streams.rest():
            self._forward_output(output)
        if self._cancelled and self._running is None:
            return
        status = self._channel.exit_status()
        cause = self._channel.cause() if status is None else f"exit status {status}"
        ended = f"the session broke off ({cause})" if cause else "the session broke off"
        if not self._ready:
            self._raise_not_ready(ended)
        self._raise_session_lost(self._end_text or ended)

    def _raise_session_lost(self, reason: str) -> NoReturn:
        """Give up, and have the host end what may still run there."""
        self._end_text = reason
        self._close_stdin()
        raise SessionLostError(self._running, self._error_prefix + reason, self._noise)

    def _raise_not_ready(self, why: str) -> NoReturn:
        # before the shell had read its prelude; asked first, for closing its stdin ends it
        ended = self._channel.exit_status() is not None
        self._end_text = why
        self._close_stdin()
        raise ShellNotReadyError(
            self._error_prefix + why,
            self._noise,
            sent=self._sent and bool(self._steps) and not ended,
        )


class _NullListener:
    """Listens while nobody does."""

    def started(self, step: int) -> None: ...

    def output(self, step: int, stream: str, data: bytes) -> None: ...

    def reported(self, step: int, kind: str, text: str) -> None: ...

    def ended(self, step: int, result: CommandResult) -> None: ...


def _is_skipped_by_check(command: StepCommand, result: CommandResult) -> bool:
    """Whether a check left undone what the step may do."""
    if command.effects is None or result.end_reason is EndReason.SKIPPED or result.failed:
        return False
    done = command.check_mode if command.desired_state is None else result.changed
    return done or result.unknown


def _parse_result(marker: ProtocolMarker) -> tuple[int, CommandResult]:
    step, how, status, failed, changed = marker.words
    if how not in _END_REASONS or (status == "-" and _END_REASONS[how] is EndReason.DONE):
        raise ProtocolError(f"an end that is none: {marker.words}")
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
        "guard": "its guard said no",
        "unsure": f"its guard exited with {status}, which is neither yes (0) nor no (1)",
        "missing": "the host has no such shell",
    }.get(how, "")
