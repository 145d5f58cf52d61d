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
from orchestrator.executor.check_mode import Checked, Notified, reason_of
from orchestrator.executor.connection_pool import Emit, Fleet
from orchestrator.executor.download import Late, bring_home, compared
from orchestrator.executor.host_state import Progress, Way
from orchestrator.executor.remote_query import gather
from orchestrator.executor.step_recorder import Recorder
from orchestrator.model.command import UNKNOWN, Bytes, Command, Fetch
from orchestrator.model.registered_result import NotRun, result_of
from orchestrator.model.step_result import Outcome, Status
from orchestrator.planner.plan import Again, PlannedStep, Program, Results, Ruling
from orchestrator.planner.step_conditions import FINAL, NOTIFIED
from orchestrator.remote_shell import Lost, NotReady, Session
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.encoder import Known
from orchestrator.remote_shell.transfer import PIECE, Failure, TransferError, send, staging
from orchestrator.templating import Waits

Made: TypeAlias = Command | Ruling | Program | Outcome | str


class HostTask:
    """Sends one task's steps in as few segments as their data allows."""

    def __init__(self, fleet: Fleet, progress: Progress, task: str, emit: Emit) -> None:
        self.fleet, self.progress = fleet, progress
        self.recorder = Recorder(progress, task, emit)
        self.session: Session | None = None
        self.cancel = fleet.cancel
        self.known: dict[int, Known] = {}
        self.begun: list[Session] = []
        self.user = ""
        self.checked = Checked(self.recorder, progress)

    def run(self, program: Program) -> bool:
        """Walk the program until it ends, fails, or the run is cancelled; whether it ended well.

        Raises ConnectError, and whatever else goes wrong, once the step that it broke off is told
        as failed and its host is told to end what runs.
        """
        began = time.monotonic()
        self.cancel = self.fleet.cancel
        unwatch = self.cancel.watch(self._cancel)
        try:
            well = self._walk(program)
        except (ConnectError, Lost):
            raise
        except Exception as error:
            self._abandon(reason_of(error) if isinstance(error, OrchError) else describe_bug(error))
            raise
        finally:
            unwatch()
            self.session = None  # a late word of the interrupt is not for who uses it next
            self.progress.seconds += time.monotonic() - began
        if self.cancel.stopping and not self.progress.stopped:
            self.progress.worst(Status.CANCELLED, "interrupted")
        return well and not self._over()

    def _abandon(self, why: str) -> None:
        if self.session is not None:
            self.session.close()
        self.recorder.abandon(why)

    def _over(self) -> bool:
        return self.recorder.gone or self.cancel.stopping

    def _walk(self, program: Program) -> bool:
        way, recorder = Way(program), self.recorder
        outer, recorder.way = recorder.way, way
        step = way.begin()
        while not self._over():
            if step is None:
                failed = self._flush()
                if failed is None:
                    break
                step = way.rescue(failed)
                if step is None:
                    break
                continue
            failed = self._take(step)
            if failed is None and way.waits_at(step.number + 1):
                failed = self._flush()
            step = way.after(step) if failed is None else way.rescue(failed)
            if way.failed:
                break
        if program.steps:
            recorder.gather(program, program.steps[-1].number + 1)
        recorder.way = outer
        return not way.failed

    def _take(self, step: PlannedStep) -> PlannedStep | None:
        """Send, queue or do the step; the step that turned out to have failed, if any."""
        made: Made | None
        made = step.command or step.ruling or step.skip
        if not made:
            made, failed = self._later(step)
            if made is None:
                return failed
        if isinstance(made, Command):
            if self.checked.must_flush(made):
                failed = self._flush()
                if failed is not None or self._over():
                    return failed
            made = self.checked.seen(step, made)
        if isinstance(made, str):
            made = self.recorder.skipped(step, made)
        if isinstance(made, Outcome):
            self.checked.ended_locally(step, made)
            self.recorder.queue(step, made)
            return None
        if isinstance(made, Ruling):
            return self._ruling(step, made)
        if isinstance(made, Program):
            return self._loop(step, made)
        if step.on or step.again or step.fetches or sent_beside(made):
            failed = self._flush()
            return failed if failed or self._over() else self._alone(step, made)
        if step.user != self.user:
            failed = self._flush()
            if failed is not None:
                return failed
            self.user = step.user
        self.recorder.queue(step, made)
        return self._flush() if step.stops else None

    def _later(self, step: PlannedStep) -> tuple[Made | None, PlannedStep | None]:
        """What a waiting step has become; the segment before it goes out if it must."""
        if step.later is None:
            raise TypeError("a step is a command, a ruling, a skip, or waits")
        final: dict[str, object] = {}
        try:
            while True:
                try:
                    return step.later({**self._results(step), **final}), None
                except Waits as waits:
                    failed = self._flush()
                    if failed is None and not self._over() and "facts" in waits.names:
                        self._facts()
                    elif FINAL in final:
                        raise
                    else:
                        final = {FINAL: True}
                    if failed is not None or self._over():
                        return None, failed
        except NotRun as error:
            return Outcome(Status.UNKNOWN, reason=reason_of(error)), None
        except ConnectError:
            raise  # of what had to be sent first: the step did not begin
        except OrchError as error:
            failed = self._flush()
            if failed is not None or self._over():
                return None, failed
            if isinstance(error, MissingFileError) and self.progress.withheld:
                last = self.progress.withheld[-1].name
                what = f"{reason_of(error)}; it may depend on '{last}', which was not run"
                return Outcome(Status.UNKNOWN, reason=what), None
            self.recorder.done(step, Outcome(Status.FAILED, reason=reason_of(error)))
            return None, step

    def _facts(self) -> None:
        """Have the host's facts, for the rest of the run. Raises OrchError where it has none."""
        self.user = ""
        session = self.session = self._home()
        try:
            self.progress.results["facts"] = gather(session)
        except Lost as lost:
            self.recorder.lost(lost.reason)

    def _results(self, step: PlannedStep) -> dict[str, object]:
        recorder, results = self.recorder, dict(self.progress.results)
        if recorder.way is not None:
            recorder.gather(recorder.way.program, step.number)
            open_ = recorder.unanswered(recorder.way.program)
            results = {k: v for k, v in self.progress.results.items() if k not in open_}
        return {**results, NOTIFIED: Notified(recorder.notified, recorder.maybe)}

    def _ruling(self, step: PlannedStep, ruling: Ruling) -> PlannedStep | None:
        if ruling.ok and ruling.kind != "wait":
            self.recorder.queue(step, Outcome(Status.OK), ruling.values, own=ruling.own)
            return None
        failed = self._flush()
        if failed is not None or self._over():
            return failed
        if ruling.kind == "wait":
            self.cancel.sleep(ruling.seconds)
            self.recorder.done(step, Outcome(Status.OK, seconds=ruling.seconds))
            return None
        self.recorder.done(step, Outcome(Status.FAILED, reason=ruling.message))
        return step

    def _loop(self, step: PlannedStep, program: Program) -> PlannedStep | None:
        failed = self._flush()
        if failed is not None or self._over():
            return failed
        before, unknown = self.progress.counts["changed"], len(self.recorder.unknown)
        well = self._walk(program)
        changed = self.progress.counts["changed"] > before
        self.recorder.tells.append((step.number, changed, not well))
        if changed:
            self.recorder.notified.update(step.notify)
        elif len(self.recorder.unknown) > unknown:
            self.recorder.unknown[step.number] = step.name
            self.recorder.maybe.update(dict.fromkeys(step.notify, step.name))
        return None if well else step

    def _flush(self) -> PlannedStep | None:
        """Send what is queued and hear its end; the step that failed, if one did."""
        segment = self.recorder.take()
        if not segment or self._over():
            return None
        try:
            while segment and not (self.recorder.failed or self._over()):
                session = self.session = self._home()
                self._send(session, segment)
                if session.alive:
                    break
                # on some hosts a shell ends with a step; those behind that did not begin
                segment = [each for each in segment if each[1].step not in self.known]
        except ConnectError as error:
            self._refused(segment[0][0], error)
        return self.recorder.failed

    def _refused(self, step: PlannedStep, error: ConnectError) -> None:
        """A step that could not begin has failed, unless its own host cannot be reached; or a
        step that a check did not run may be why nobody lets us become its user."""
        begun = self.recorder.shows(step) or self._over()
        if error.phase == "become":
            error = error.at(self._place(step))
            if not begun and (why := self.recorder.cause(step)):
                self.recorder.hold = False
                what = f"{reason_of(error)}; {why}"
                self.recorder.pass_over(Outcome(Status.UNKNOWN, reason=what))
                return
        outcome = refused(error, "" if begun else step.on)
        if outcome is None:
            raise error
        self.recorder.hold = False
        self.recorder.done(step, outcome)

    def _home(self) -> Session:
        session = self.fleet.session(self.progress.host.name, self.progress.app, self.user)
        if session not in self.begun:
            session.begin_task(self.known)
            self.begun.append(session)
        for number, changed, failed in self.recorder.tells:
            session.tell(number, changed=changed, failed=failed)
        self.recorder.tells.clear()
        return session

    def _send(self, session: Session, segment: list[tuple[PlannedStep, Command]]) -> None:
        self.recorder.session = session
        if self.cancel.stopping:
            return
        try:
            session.run([command for _, command in segment], self.recorder)
        except Lost as lost:
            step = segment[0][0]
            self.recorder.lost(lost.reason, step if step.on else None)

    def _alone(self, step: PlannedStep, command: Command) -> PlannedStep | None:
        """A step on another host's session, one with bytes beside it, or one tried again."""
        check = command.effects is not None
        tries = 1 + (step.again.retries if step.again and not check else 0)
        for left in range(tries - 1, -1, -1):
            outcome = self._tried(step, command)
            if outcome is None:
                break
            if step.again is None or self._over() or outcome.status is Status.LOST:
                self.recorder.done(step, outcome, ignore=command.ignore)
                break
            outcome, again = judged(
                step.again,
                step,
                outcome,
                self.progress.results,
                left=left,
                check=check,
                cause=self.recorder.cause(step) if check else "",
            )
            if not again:
                self.recorder.done(step, outcome, ignore=command.ignore)
                break
            self.cancel.sleep(step.again.delay)
        return self.recorder.failed

    def _tried(self, step: PlannedStep, command: Command) -> Outcome | None:
        """As ``_try``; a step that had begun is lost where the host cannot be reached again."""
        try:
            return self._try(step, command)
        except ConnectError as error:
            self.recorder.hold = False
            if not self.recorder.shows(step):
                raise
            return Outcome(Status.LOST, reason=error.problems[0].what)

    def _try(self, step: PlannedStep, command: Command) -> Outcome | None:
        """Run it and keep its end from being told; None where that is told already."""
        if command.fetches is not None:
            return self._fetched(step, command, command.fetches)
        wanted, staged = command.wanted, ""
        asked: Outcome | None = None
        for sends in sent_beside(command):
            if asked is None:
                asked = self._held(step, replace(command, check=True, staged=staged))
            if asked is None or asked.status is not Status.WOULD_CHANGE or self._over():
                return asked
            known = not unknown(asked)
            if known and command.check and wanted and not wanted.tries:
                return asked
            if known and wanted and sends is wanted.asks:
                continue
            try:
                staged = self._staged(step, sends)
            except OrchError as error:
                return untold(error, self._place(step))
            asked = None
        return self._held(step, replace(command, staged=staged))

    def _held(self, step: PlannedStep, command: Command) -> Outcome | None:
        self.recorder.hold = True
        self.recorder.queue(step, command)
        if step.on:
            self._delegated(step)
        else:
            self.user = step.user
            self._flush()
        outcome, self.recorder.held = self.recorder.held, None
        self.recorder.hold = False
        return outcome

    def _delegated(self, step: PlannedStep) -> None:
        segment = self.recorder.take()
        try:
            with self.fleet.delegated(step.on, self.progress.app, step.user) as session:
                session.begin_task()
                self.session = session
                self._send(session, segment)
                self.session = None
        except ConnectError as error:
            self._refused(step, error)

    def _fetched(self, step: PlannedStep, command: Command, fetch: Fetch) -> Outcome | None:
        """Ask the host for its file, and read it where this side has another."""
        began = time.monotonic()
        late = Late(fetch.timeout, self._over)
        asked = self._held(step, command)
        if asked is None:
            return None
        try:
            outcome, there = compared(asked, fetch)
            if there is not None:
                bring_home(*self._beside(step), fetch, there, stopping=late)
        except OrchError as error:
            outcome = late.outcome or untold(error, self._place(step), "its bytes did not come")
        return replace(outcome, seconds=time.monotonic() - began)

    def _staged(self, step: PlannedStep, sends: Bytes) -> str:
        """Send what goes beside the command; where on the host that is then."""
        return bring(*self._beside(step), sends, self._over)

    def _beside(self, step: PlannedStep) -> tuple[Channel, float]:
        """A channel for a step's bytes, and how many seconds may pass without one."""
        host = step.on or self.progress.host.name
        lane = f"{self.progress.app or ''} delegated" if step.on else self.progress.app
        channel = self.fleet.beside(host, lane, step.user)
        return channel, self.fleet.hosts[host].connect.timeout

    def _place(self, step: PlannedStep) -> str:
        return self.fleet.place(step.on or self.progress.host.name)

    def _cancel(self) -> None:
        session = self.session
        if session is not None:
            session.cancel()


_LEFT = f"orch-{'[0-9a-f]' * 16}"


def judged(
    again: Again,
    step: PlannedStep,
    outcome: Outcome,
    results: Results,
    *,
    left: int,
    check: bool = False,
    cause: str = "",
) -> tuple[Outcome, bool]:
    """The outcome of a try, and whether to try again; ``left``: how often that can be.
    A ``check`` tries once; ``cause`` says which step, not run by it, may be why it fails."""
    result = result_of(outcome, failed=outcome.status.bad, name=step.name)
    try:
        if again.holds(results, result):
            return outcome, False
    except NotRun as error:
        return replace(outcome, status=Status.UNKNOWN, reason=reason_of(error)), False
    except OrchError as error:
        return replace(outcome, status=Status.FAILED, reason=reason_of(error)), False
    if left:
        return outcome, True
    if check and (again.retries or cause):
        why = cause or f"a run would try {again.retries + 1} times"
        what = f"'{again.said}' does not hold; {why}"
        return replace(outcome, status=Status.UNKNOWN, reason=what), False
    reason = f"'{again.said}' did not hold in {again.retries + 1} tries"
    return replace(outcome, status=Status.FAILED, reason=reason), False


def bring(channel: Channel, timeout: float, sends: Bytes, stopping: Callable[[], bool]) -> str:
    """Send the bytes to a private folder of their own on the host, in the home where the usual
    place takes none; their path there.

    Raises TransferError.
    """
    script = receiving(sends.size)
    told = send(channel, script, pieces(sends), timeout=timeout, stopping=stopping)
    return told.removesuffix("\n") + "/payload"


def receiving(size: int) -> str:
    """A script that takes so many bytes into a new folder, and names that; or leaves nothing.

    A link that is cut before the step begins which is to use them leaves that folder. Whoever
    brings something to the same user some days later takes it away.
    """
    name = f"orch-{secrets.token_hex(8)}"
    usual, other = f'"${{TMPDIR:-/tmp}}"/{name}', f"~/{name}"
    return (
        f"find \"${{TMPDIR:-/tmp}}/.\" ~/. ! -name . -prune -type d -name '{_LEFT}' "
        '-user "$(id -u)" -mtime +1 -exec rm -rf {} + </dev/null >/dev/null 2>&1 || :\n'
        "set -e; umask 077\n"
        f"mkdir -- {usual} && cd -- {usual} || {{ mkdir {other}; cd {other}; }}\n"
        # a link that is cut shows as a pipe that is gone, which would kill this shell trapless
        "trap '[ $? = 0 ] || rm -rf -- \"$PWD\"' EXIT; trap 'exit 129' HUP INT PIPE TERM; pwd\n"
        f"{staging('payload', size)}"
    )


def pieces(sends: Bytes) -> Iterator[bytes]:
    """The bytes, some at a time."""
    if sends.read is not None:
        yield from sends.read()
    elif sends.path is None:
        for at in range(0, len(sends.data), PIECE):
            yield sends.data[at : at + PIECE]
    else:
        with sends.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def refused(error: ConnectError, on: str) -> Outcome | None:
    """What becomes of a step that did not begin: nobody lets us become its user, or ``on``, the
    host that it is delegated to, cannot be reached. None where its own host cannot."""
    problem = error.problems[0]
    why = f"{problem.what}; {problem.hint}" if problem.hint else problem.what
    if error.phase == "become":
        return Outcome(Status.FAILED, reason=why)
    if not on:
        return None
    if isinstance(error, NotReady) and error.sent:
        return Outcome(Status.LOST, reason=f"{problem.what}; it may have run on {on}")
    return Outcome(Status.FAILED, reason=f"{on}, which it is delegated to, is unreachable: {why}")


def untold(error: OrchError, place: str, what: str = "its bytes were not sent") -> Outcome:
    """What becomes of a step whose bytes did not get there. ``place``: where the host is."""
    status = Status.FAILED
    if isinstance(error, ConnectError) and error.phase != "become":
        status = Status.LOST
    if isinstance(error, TransferError):
        ends = {Failure.CUT: Status.LOST, Failure.STOPPED: Status.CANCELLED}
        status = ends.get(error.how, status)
    at = f"{place}: " if place and isinstance(error, TransferError) else ""
    return Outcome(status, reason=f"{what}: {at}{reason_of(error)}")


def sent_beside(command: Command) -> list[Bytes]:
    """What has to be on the host before the command can do all that it is to do, each only where
    it says with those before it that something would change."""
    wanted = command.wanted
    if wanted is None:
        return []
    whole = wanted.tries or wanted.unsure or not command.check
    return [sends for sends in (wanted.asks, wanted.sends if whole else None) if sends]


def unknown(asked: Outcome) -> bool:
    """Whether the host needs the bytes to say what would change."""
    return any(change.before == UNKNOWN for change in asked.changes)
