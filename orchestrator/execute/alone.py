"""Steps that go alone: what comes of a try, and the bytes that go beside a command."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from orchestrator.errors import ConnectError, OrchError
from orchestrator.execute.checked import reason_of
from orchestrator.model.command import UNKNOWN, Bytes, Command
from orchestrator.model.outcome import Outcome, Status
from orchestrator.model.result import NotRun, result_of
from orchestrator.plan.model import Again, PlannedStep, Results
from orchestrator.session import NotReady
from orchestrator.session.channel import Channel
from orchestrator.session.transfer import PIECE, Failure, TransferError, send, staging

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
