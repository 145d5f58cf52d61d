"""Dispatches every event to the sinks, with secrets masked.

In every text of an event, ``‹name›`` replaces a secret.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from orchestrator.model.event import (
    ConnectFinished,
    Crashed,
    EventSink,
    HostFinished,
    Noted,
    RunEvent,
    RunFinished,
    SentStep,
    StepFinished,
    StepOutput,
    StepsSent,
    StepStarted,
    Warned,
)
from orchestrator.model.secret_masking import MaskingStream, SecretMasker
from orchestrator.model.step_result import CapturedOutput, HostSummary, StateChange, StepResult


class EventDispatcher:
    """Passes events to the sinks, one at a time and in order, with secrets masked by ``masks``.

    ``get_log_path`` returns the path of the run's log; RunFinished, the last event, contains it,
    and later events are dropped (after an interrupt). If a sink cannot write any more (its reader
    is gone, the disk is full), ``on_output_lost`` is called and the run continues to its regular
    end. It also does after a bug in a sink, which ``close`` raises.
    """

    def __init__(
        self,
        sinks: Sequence[EventSink],
        get_log_path: Callable[[], str],
        on_output_lost: Callable[[], None],
        masks: SecretMasker | None = None,
    ) -> None:
        """Create a dispatcher for these sinks."""
        self._masker = EventMasker(SecretMasker() if masks is None else masks)
        self._sinks, self._get_log_path, self._on_output_lost = sinks, get_log_path, on_output_lost
        self._lock = threading.RLock()  # a sink may warn while it handles an event
        self._is_finished = False
        self._first_bug: Exception | None = None

    def __call__(self, event: RunEvent) -> None:
        """Mask the event and pass it to the sinks."""
        with self._lock:
            if self._is_finished:
                return
            if isinstance(event, RunFinished):
                event = replace(event, log=self._get_log_path())
            for masked in self._masker(event):
                self._send_to_sinks(masked)
            self._is_finished = isinstance(event, RunFinished)

    def _send_to_sinks(self, event: RunEvent) -> None:
        for sink in self._sinks:
            try:
                sink(event)
            except Exception as error:  # a bug in a sink must not fail a host
                self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        if isinstance(error, OSError):
            self._on_output_lost()
        else:
            self._first_bug = self._first_bug or error

    def close(self) -> None:
        """Flush and close the sinks; later events are dropped.

        Raises the first exception of a sink that is not an OSError.
        """
        with self._lock:
            for rest in self._masker.flush(time.time(), None):
                self._send_to_sinks(rest)
            for sink in self._sinks:
                try:
                    sink.close()
                except Exception as error:  # continue, so that the other sinks are closed
                    self._note_failure(error)
            self._is_finished = True
        if self._first_bug is not None:
            raise self._first_bug


_StreamKey: TypeAlias = "tuple[str, str | None, str, int, str]"


class EventMasker:
    """Masks events.

    The possible start of a secret in a step's output is held back until the next bytes of that
    stream, or the next other event of its host.
    """

    def __init__(self, masks: SecretMasker) -> None:
        """Create a masker that holds nothing back."""
        self._masks = masks
        self._streams: dict[_StreamKey, tuple[MaskingStream, StepOutput]] = {}

    def __call__(self, event: RunEvent) -> Iterator[RunEvent]:
        """Yield the masked event after output that was held back; unchanged without secrets."""
        if not self._masks:
            yield event
            return
        if isinstance(event, StepOutput):
            yield from self._mask_output(event)
            return
        host = getattr(event, "host", None)
        if host is not None or isinstance(event, RunFinished):
            yield from self.flush(event.time, host)
        yield self._mask_event(event)

    def flush(self, time: float, host: str | None) -> Iterator[RunEvent]:
        """Yield the output held back, of this host, or of all hosts (None)."""
        for key in [stream_key for stream_key in self._streams if host in (None, stream_key[0])]:
            stream, last = self._streams.pop(key)
            data = stream.finish()
            if data:
                yield replace(last, time=time, data=data)

    def _mask_output(self, event: StepOutput) -> Iterator[RunEvent]:
        key = (event.host, event.app, event.task, event.step, event.stream)
        stream, _ = self._streams.get(key) or (self._masks.new_stream(), event)
        self._streams[key] = stream, event
        data = stream.feed(event.data)
        if data:
            yield replace(event, data=data)

    def _mask_event(self, event: RunEvent) -> RunEvent:
        text = self._masks.mask_text
        match event:
            case ConnectFinished():
                return replace(event, error=text(event.error), hint=text(event.hint))
            case StepStarted():
                return replace(event, name=text(event.name))
            case StepsSent():
                return replace(event, steps=tuple(map(self._mask_sent_step, event.steps)))
            case StepFinished():
                before, outcome = event.outcome, self._mask_result(event.outcome)
                has_secret = (
                    event.has_secret
                    or outcome.stdout is not before.stdout
                    or outcome.stderr is not before.stderr
                )
                return replace(event, name=text(event.name), outcome=outcome, has_secret=has_secret)
            case HostFinished():
                return replace(event, outcome=self._mask_result(event.outcome))
            case Warned() | Noted():
                return replace(event, text=text(event.text))
            case Crashed():
                return replace(event, error=text(event.error), traceback=text(event.traceback))
            case RunFinished():
                return replace(event, rows=tuple(map(self._mask_summary, event.rows)))
        return event

    def _mask_result(self, outcome: StepResult) -> StepResult:
        text = self._masks.mask_text
        return replace(
            outcome,
            stdout=self._mask_captured(outcome.stdout),
            stderr=self._mask_captured(outcome.stderr),
            reason=text(outcome.reason),
            changes=tuple(map(self._mask_change, outcome.changes)),
            diff=text(outcome.diff),
        )

    def _mask_sent_step(self, step: SentStep) -> SentStep:
        text = self._masks.mask_text
        return replace(step, text=text(step.text), content=text(step.content))

    def _mask_captured(self, captured: CapturedOutput) -> CapturedOutput:
        if not captured.dropped:
            whole = captured.head + captured.tail
            masked = self._masks.mask_bytes(whole)
            return captured if masked == whole else CapturedOutput(masked)
        head, tail = self._masks.mask_head_and_tail(captured.head, captured.tail)
        if (head, tail) == (captured.head, captured.tail):
            return captured
        return CapturedOutput(head, tail, captured.dropped)

    def _mask_change(self, change: StateChange) -> StateChange:
        text = self._masks.mask_text
        before = None if change.before is None else text(change.before)
        return StateChange(text(change.key), before, text(change.after))

    def _mask_summary(self, summary: HostSummary) -> HostSummary:
        text = self._masks.mask_text
        stderr = text(f"…{summary.stderr}")[1:]  # its first line may be the end of a longer one
        return replace(summary, reason=text(summary.reason), hint=text(summary.hint), stderr=stderr)
