"""What a session says of its steps, made into outcomes, results and events.

What a module's script says of itself, made into what a step's outcome tells.

What a step wrote, within bounds.
"""

from __future__ import annotations

import difflib
import signal
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.executor.connection_pool import Emit
from orchestrator.executor.host_state import ANYTHING, Progress, Way, Withheld, cause
from orchestrator.model.command import Command, Effects, Wanted
from orchestrator.model.event import StepFinished, StepOutput, StepStarted
from orchestrator.model.registered_result import Result, Unknown, result_of
from orchestrator.model.step_result import Captured, Change, Outcome, Status
from orchestrator.model.text_encoding import decode, encode, quote_text
from orchestrator.planner.plan import HERE, Gather, PlannedStep, Program
from orchestrator.remote_shell import Ending, How, Session
from orchestrator.remote_shell.decoder import Garbled, number
from orchestrator.remote_shell.module_protocol import value_of

_SIGNALLED = range(129, 193)
"""Exit statuses by which a shell reports that a signal ended a command: 128 plus its number
(dash and bash manuals; POSIX.1-2017, XCU 2.8.2 asks for more than 128)."""

_CHANGED = frozenset({Status.CHANGED, Status.WOULD_CHANGE, Status.WOULD_RUN})
_WITHHELD = frozenset({Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN})

_NONE: Mapping[str, object] = {}


class Recorder:
    """Is the session's listener for one task on one host.

    ``failed``: the step of the last segment that failed and stopped it. ``gone``: the host is
    lost, or was interrupted. ``notified``: the handlers called for by now; ``finished``: the
    steps that ended and are no failure; ``broken``: those that are. ``tells``: what the host's
    shell is still to be told of steps that it did not run itself (number, changed,
    failed). ``results``: how the steps ended that did. ``unknown``: those whose end a check does
    not know, with their names; ``maybe``: the handlers that they would call for, perhaps.
    ``effects``: what a check knows of its steps. While ``hold`` is set, a step's end is kept in
    ``held`` and not yet counted.
    """

    def __init__(self, progress: Progress, task: str, emit: Emit) -> None:
        self.progress, self.task, self._emit = progress, task, emit
        self.way: Way | None = None
        self.session: Session | None = None
        self.failed: PlannedStep | None = None
        self.gone = False
        self.hold = False
        self.held: Outcome | None = None
        self.notified: set[str] = set()
        self.finished: set[int] = set()
        self.broken: set[int] = set()
        self.tells: list[tuple[int, bool, bool]] = []
        self._queue: list[tuple[PlannedStep, Command | Outcome]] = []
        self._sent: dict[int, tuple[PlannedStep, Command]] = {}
        self._behind: dict[int, list[tuple[PlannedStep, Outcome]]] = {}
        self.results: dict[int, Result] = {}
        self._values: dict[int, Mapping[str, object]] = {}
        self._own: set[int] = set()
        self._gathered: set[int] = set()
        self.unknown: dict[int, str] = {}
        self.maybe: dict[str, str] = {}
        self.effects: dict[int, Effects] = {}
        self._report = Report()
        self._running: PlannedStep | None = None
        self._shown: PlannedStep | None = None
        self._ended = False  # a step of the segment at hand
        self._since = 0.0
        self._captures = {"stdout": Capture(), "stderr": Capture()}

    def queue(
        self,
        step: PlannedStep,
        what: Command | Outcome,
        values: Mapping[str, object] = _NONE,
        *,
        own: bool = False,
    ) -> None:
        """The next step: a command to send, or one that is over without a host (skipped, set);
        it is told in its turn, once those before it have ended, and sets these values then
        (``own``: no host had a part in them)."""
        self._values[step.number] = values
        if own:
            self._own.add(step.number)
        if isinstance(what, Outcome) and what.status is Status.UNKNOWN:
            self.unknown[step.number] = step.name
        if isinstance(what, Outcome) and not self._queue:
            self.done(step, what)
        else:
            self._queue.append((step, what))

    def unanswered(self, program: Program) -> set[str]:
        """The names whose results are still to come from what is queued: what they held
        before is not what they mean any more."""
        queued = {step.number for step, what in self._queue if isinstance(what, Command)}
        names = {step.register for step, _ in self._queue}
        names.update(name for step, _ in self._queue for name in self._values[step.number])
        for gather in program.gathers:
            if any(start <= n < end for _, start, end in gather.parts for n in queued):
                names.add(gather.name)
        return names

    def take(self) -> list[tuple[PlannedStep, Command]]:
        """What is to be sent now."""
        segment: list[tuple[PlannedStep, Command]] = []
        self._behind = {}
        for step, what in self._queue:
            if isinstance(what, Command):
                segment.append((step, what))
            else:
                self._behind.setdefault(segment[-1][0].number, []).append((step, what))
        self._queue = []
        self.failed, self._ended = None, False
        self._sent = {step.number: (step, command) for step, command in segment}
        return segment

    def started(self, number: int) -> None:
        """The host began a step."""
        self._start(self._sent[number][0])

    def output(self, number: int, stream: str, data: bytes) -> None:
        """A step (0: none) wrote something."""
        if number and self._running is not None:
            self._captures[stream].add(data)
        task = self.task if number else ""
        host, app = self.progress.host.name, self.progress.app
        self._emit(
            StepOutput(
                time.time(), app, task=task, step=number, host=host, stream=stream, data=data
            )
        )

    def reported(self, _number: int, kind: str, text: str) -> None:
        """The script of a module says something of itself."""
        self._report.take(kind, text)

    def ended(self, number: int, ending: Ending) -> None:
        """A step is over, by itself or not."""
        self._ended = True
        step, command = self._sent[number]
        outcome = self._outcome(step, command, ending)
        if self.hold and outcome.status not in (Status.SKIPPED, Status.CANCELLED):
            self.held, self._running = outcome, None
            return
        self.done(step, outcome, ignore=command.ignore)
        for behind, its in self._behind.pop(number, ()):
            if self.failed is None and not self.gone:
                self.done(behind, its)

    def pass_over(self, outcome: Outcome) -> None:
        """All that was to be sent ends so; what is behind it ends as it would."""
        for step_number, (step, _) in self._sent.items():
            if step_number not in self.finished | self.broken:
                self.done(step, outcome)
            for behind, its in self._behind.pop(step_number, ()):
                self.done(behind, its)

    def shows(self, step: PlannedStep) -> bool:
        """Whether it was told that this step began, and not that it ended."""
        return self._shown is step

    def lost(self, reason: str, sent: PlannedStep | None = None) -> None:
        """The session is gone: the running step's end is not known. ``sent``: the only step that
        another host was sent, which may have begun; where its end is known, all is."""
        if sent is not None and self._ended:
            return
        self.gone, self.held = True, None
        step = self._running or self._shown or sent  # begun; or between two of its tries
        if step is None:
            self.progress.worst(Status.LOST, f"{reason}, between two steps")
        else:
            self.done(step, self._captured(Status.LOST, None, reason))

    def abandon(self, why: str) -> None:
        """Tell the step that has begun, if one has, as failed: nothing more is heard of it."""
        self.hold = False
        if self._shown is not None:
            self.done(self._shown, self._captured(Status.FAILED, None, why))

    def done(self, step: PlannedStep, outcome: Outcome, *, ignore: bool = False) -> None:
        """A step's end, for good: its result, its count and its event."""
        if self._shown is not step:
            self._start(step)
        self._running = self._shown = None
        if outcome.status in (Status.LOST, Status.CANCELLED):
            self.gone = True
        elif outcome.status.bad:
            if step.written and outcome.status in (Status.FAILED, Status.KILLED, Status.TIMED_OUT):
                whose = f"{outcome.reason}: the command at {step.written}"
                outcome = replace(outcome, reason=whose)
            made_up = self.way is not None and self.way.forgiven(step)
            outcome = replace(outcome, ignored=ignore or made_up)
            if not ignore:
                self.failed = step
        self._keep(step, outcome)
        self.progress.count(step, outcome)
        if outcome.status in _WITHHELD and not step.readonly:
            effects = self.effects.get(step.number, ANYTHING)
            unknown = outcome.status is Status.UNKNOWN
            self.progress.withheld.append(Withheld(step.name, effects, self.target(step), unknown))
        elif outcome.status is Status.WOULD_CHANGE and step.fetches:
            self.progress.withheld.append(Withheld(step.name, Effects(), HERE))
        host, app = self.progress.host.name, self.progress.app
        self._emit(
            StepFinished(
                time.time(),
                app,
                task=self.task,
                step=step.number,
                name=step.name,
                host=host,
                outcome=outcome,
            )
        )

    def gather(self, program: Program, number: int) -> None:
        """Register the results of all that ended before this step."""
        number = min([number, *(step.number for step, _ in self._queue)])
        for gather in program.gathers:
            if gather.parts and gather.parts[-1][2] <= number and id(gather) not in self._gathered:
                self._gathered.add(id(gather))
                hung = [n for _, a, b in gather.parts for n in range(a, b) if n in self.unknown]
                whole = gathered(gather, self.results)
                self.progress.register(
                    gather.name, Unknown(self.unknown[hung[0]]) if hung else whole
                )

    def _keep(self, step: PlannedStep, outcome: Outcome) -> None:
        failed = outcome.status.bad and not outcome.ignored
        (self.broken if failed else self.finished).add(step.number)
        result = result_of(outcome, failed=outcome.status.bad, name=step.name)
        self.results[step.number] = result
        unknown = outcome.status is Status.UNKNOWN
        if unknown:
            self.unknown[step.number] = step.name
            self.maybe.update(dict.fromkeys(step.notify, step.name))
        if step.register:
            self.progress.register(step.register, Unknown(step.name) if unknown else result)
        for name in step.sets if unknown else ():
            self.progress.register(name, Unknown(step.name))
        for name, value in self._values.pop(step.number, _NONE).items():
            self.progress.register(name, value, own=step.number in self._own)
        if outcome.status in _CHANGED:
            self.notified.update(step.notify)
        if step.on or step.ruling or step.again or step.fetches:
            self.tells.append((step.number, result.changed, result.failed))

    def skipped(self, step: PlannedStep, why: str) -> Outcome:
        """Return the outcome of a step that was not run."""
        waiting = step.handler and step.handler not in self.notified
        return Outcome(Status.SKIPPED, reason="not notified" if waiting else why)

    def target(self, step: PlannedStep) -> str:
        """Return the host that a step changes: its own, or the one that it is delegated to."""
        return step.on or self.progress.host.name

    def cause(self, step: PlannedStep) -> str:
        """Return on which step, not run by a check, this one's failure may depend; '' on none."""
        effects, on = self.effects.get(step.number), self.target(step)
        found = cause(self.progress.withheld, effects, on) if effects is not None else None
        return found.reason(effects, on) if found is not None and effects is not None else ""

    def _start(self, step: PlannedStep) -> None:
        self._running, self._since = step, time.monotonic()
        self._captures = {"stdout": Capture(), "stderr": Capture()}
        self._report = Report()
        if self._shown is step:  # another try
            return
        self._shown = step
        host, app = self.progress.host.name, self.progress.app
        self._emit(
            StepStarted(
                time.time(), app, task=self.task, step=step.number, name=step.name, host=host
            )
        )

    def _captured(self, status: Status, exit_status: int | None, reason: str = "") -> Outcome:
        return Outcome(
            status,
            exit_status,
            stdout=self._captures["stdout"].done(),
            stderr=self._captures["stderr"].done(),
            seconds=time.monotonic() - self._since,
            reason=reason,
        )

    def _outcome(self, step: PlannedStep, command: Command, ending: Ending) -> Outcome:
        if ending.how is How.SKIPPED:
            return self.skipped(step, ending.reason)
        if ending.how is How.ENDED:
            return self._captured(Status.CANCELLED, None, "interrupted")
        if ending.how is How.TIMED_OUT:
            reason = f"ended after its timeout of {command.timeout:g} s"
            outcome = self._captured(Status.TIMED_OUT, None, reason)
        else:
            status, reason = _status(ending)
            outcome = self._captured(status, ending.exit_status, reason)
            if command.wanted is not None:
                outcome = self._reported(outcome, command, command.wanted)
            elif command.check and not outcome.status.bad:
                return replace(outcome, status=Status.WOULD_RUN, reason=command.text)
        if step.judge is not None:
            outcome = self._judged(step, outcome, ending)
        if ending.unknown or (step.judge is not None and outcome.status is Status.FAILED):
            why = self.cause(step) or ("a run would wait for it" if ending.unknown else "")
            if why:
                why = f"{outcome.reason}; {why}" if outcome.reason else why
                outcome = replace(outcome, status=Status.UNKNOWN, reason=why)
        return outcome

    def _reported(self, outcome: Outcome, command: Command, wanted: Wanted) -> Outcome:
        """The outcome of a module, by what its script said of itself."""
        report = self._report
        if outcome.status.bad:
            reason, status = report.failure(wanted)
            if not reason:
                return outcome
            status = status if status is not None else outcome.exit_status
            return replace(outcome, reason=reason, exit_status=status)
        if outcome.status is not Status.CHANGED:
            return outcome
        diff = report.diff(wanted) if command.show else ""
        told = replace(outcome, changes=report.changes(wanted), diff=diff)
        return replace(told, status=Status.WOULD_CHANGE) if command.check else told

    def _judged(self, step: PlannedStep, outcome: Outcome, ending: Ending) -> Outcome:
        if step.judge is None or self.session is None:
            return outcome
        try:
            verdict = step.judge(self.progress.results, result_of(outcome, failed=ending.failed))
        except OrchError as error:
            return replace(outcome, status=Status.FAILED, reason=error.problems[0].what)
        failed = ending.failed if verdict.failed is None else verdict.failed
        changed = ending.changed if verdict.changed is None else verdict.changed
        self.session.tell(step.number, changed=changed and not failed, failed=failed)
        if failed:
            reason = outcome.reason or "failed_when holds"
            return replace(outcome, status=Status.FAILED, reason=reason)
        return replace(outcome, status=Status.CHANGED if changed else Status.OK, reason="")


def gathered(gather: Gather, results: dict[int, Result]) -> Result:
    """The result of a called task (its last step's output, whether any changed) or a loop."""
    parts = [
        replace(_whole([results[n] for n in range(start, end) if n in results]), item=item)
        for item, start, end in gather.parts
    ]
    if not gather.loop:
        return parts[0]
    return replace(_whole(parts), items=tuple(parts), item=None)


def _whole(results: Sequence[Result]) -> Result:
    ran = [result for result in results if not result.skipped]
    if not ran:
        return Result(str(Status.SKIPPED), skipped=True)
    failed, changed = any(r.failed for r in ran), any(r.changed for r in ran)
    status = Status.FAILED if failed else Status.CHANGED if changed else Status.OK
    withheld = next((r.withheld for r in ran if r.withheld), "")
    return replace(ran[-1], status=str(status), changed=changed, failed=failed, withheld=withheld)


def _status(ending: Ending) -> tuple[Status, str]:
    if not ending.failed and not ending.unknown:
        return (Status.CHANGED if ending.changed else Status.OK), ""
    if ending.exit_status is not None and ending.exit_status in _SIGNALLED:
        return Status.KILLED, f"killed by {_signal_name(ending.exit_status - 128)}"
    return Status.FAILED, ending.reason or f"exit status {ending.exit_status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_MOST = 1 << 20
"""How much of a step's states is kept, and how much of the lines of its diff: characters."""

_EACH = 100  # what a state or a line takes besides
_SHOWN = 40


class Report:
    """Takes the reports of one step, as ``session/reports.py`` says they come."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._sizes = {"states": 0, "lines": 0}
        self._have: dict[str, str | None] = {}
        self._after: dict[str, str | None] = {}
        self._lines: dict[str, list[str]] = {"old": [], "new": []}
        self._ends: dict[str, str] = {}
        self._stages: dict[str, int] = {}

    def take(self, kind: str, text: str) -> None:
        """Take the next one; text that goes on has a kind that begins with ``+``. Raises Garbled
        where it is none, or the states come to too much. Lines that do are not kept."""
        which = "lines" if kind.lstrip("+") in self._lines else "states"
        self._sizes[which] += len(text) + _EACH
        full = self._sizes[which] > _MOST
        if full and which == "states":
            what = f"a module's states come to more than {_MOST >> 20} MiB"
            raise Garbled(f"{what}: have the probe state a checksum of what is long")
        if full:
            self._ends[kind.lstrip("+")] = "long"
        else:
            self._parts.append(text)
        if kind.startswith("+"):
            return
        text = decode(encode("".join(self._parts)))  # a character may be cut between two parts
        self._parts = []
        if not full:
            self._whole(kind, text)

    def _whole(self, kind: str, text: str) -> None:
        if kind in ("have", "after"):
            key, value = value_of(text)
            (self._have if kind == "have" else self._after)[key] = value
        elif kind in self._lines:
            self._lines[kind].append(text)
        elif kind in ("old#", "new#"):
            self._ends.setdefault(kind[:-1], text)
        elif kind in ("probe", "fix"):
            self._stages[kind] = number(text)
        else:
            raise Garbled(f"a module reports {quote_text(kind[:_SHOWN])}")

    def changes(self, wanted: Wanted) -> tuple[Change, ...]:
        """What differed before, state by state."""
        return _changes(self._have, wanted)

    def failure(self, wanted: Wanted) -> tuple[str, int | None]:
        """Why it failed, if it says so, and the exit status of what did."""
        if "fix" in self._stages:
            return f"its fix failed: exit status {self._stages['fix']}", self._stages["fix"]
        if "probe" in self._stages:
            return f"its probe failed: exit status {self._stages['probe']}", self._stages["probe"]
        said = "; ".join(
            f"{change.key} is {_said(change.before)}, wanted {_said(change.after)}"
            for change in _changes(self._after, wanted)
        )
        if not said:
            return "", None
        return (f"its fix did not bring it about: {said}" if self._have else said), None

    def diff(self, wanted: Wanted) -> str:
        """The contents that were there and those that are to be, as a unified diff; '' where
        there is nothing to show."""
        told = any(self._lines.values()) or bool(self._ends)
        if not told and "contents" not in self._have:
            return ""
        if "new" in self._ends:
            wanted = replace(wanted, brings=None, sends=None)
        if "binary" in self._ends.values() or b"\0" in (wanted.brings or b""):
            return "binary contents differ\n"
        if wanted.sends or "long" in self._ends.values():
            return "long contents differ\n"
        new = self._text("new")
        if wanted.brings is not None:
            new = decode(wanted.brings).split("\n")
            new = [f"{line}\n" for line in new[:-1]] + [line for line in new[-1:] if line]
        return "".join(_ended(difflib.unified_diff(self._text("old"), new, "before", "after")))

    def _text(self, kind: str) -> list[str]:
        lines = [f"{line}\n" for line in self._lines[kind]]
        if lines and self._ends.get(kind) == "cut":
            lines[-1] = lines[-1].removesuffix("\n")
        return lines


def _changes(found: Mapping[str, str | None], wanted: Wanted) -> tuple[Change, ...]:
    states = wanted.states
    return tuple(Change(key, found[key], states[key]) for key in found if key in states)


def _said(value: str | None) -> str:
    if value is None:
        return "not there"
    return quote_text(value if len(value) <= 200 else value[:199] + "…")


def _ended(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield line
        if not line.endswith("\n"):
            yield "\n\\ No newline at end of file\n"


HEAD = TAIL = 64 * 1024
"""Bytes kept of the beginning and of the end of each stream of a step."""


class Capture:
    """Takes one stream of one step; keeps its head and its tail."""

    __slots__ = ("_head", "_size", "_tail")

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        room = HEAD - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data[-TAIL:]
            if len(self._tail) > 2 * TAIL:  # cut now and then, not on every chunk
                del self._tail[:-TAIL]

    def done(self) -> Captured:
        """All that was kept."""
        tail = bytes(self._tail[-TAIL:])
        return Captured(bytes(self._head), tail, self._size - len(self._head) - len(tail))
