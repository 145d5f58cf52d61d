"""What must hold of a run whatever happened to its links."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from orchestrator.model.event import ConnectFinished, StepFinished, StepStarted
from orchestrator.model.step_result import Row, Status
from tests.faults.fault import Kind
from tests.faults.scenario import BIG
from tests.faults.world import Ran

PHASES = ("resolve", "connect", "banner", "kex", "host key", "auth", "channel", "shell")
BIG_FILE = bytes(range(256)) * (BIG // 256)
STARVED = 0.5
GOOD = (Status.CHANGED, Status.OK)


def wrong(ran: Ran) -> list[str]:
    """What does not hold; nothing where all does."""
    if ran.error is not None:
        return [f"the run raised {ran.error!r}"]
    found = [f"left behind: {what}" for what in ran.left]
    for host in ran.scenario.hosts:
        if host not in ran.rows:
            found.append(f"{host}: it has no row")
            continue
        row = ran.rows[host]
        fault = ran.faults.get(host)
        state = f"{row.status} ({row.reason}), log {ran.logs[host]}, {fault}"
        found += [f"{host}: {what}: {state}" for what in _host(ran, row)]
    return found


def _host(ran: Ran, row: Row) -> Iterator[str]:
    yield from _log(ran, row)
    yield from _events(ran, row)
    yield from _files(ran, row)
    yield from _reason(ran, row)
    harmed = any(_harms(ran, host) for host in _behind(ran, row.host))
    may = (Status.NOT_STARTED,) if _refused(ran) else GOOD
    if not harmed and row.status not in may and not _starved(ran, row):
        yield "nothing happened to it"


def _behind(ran: Ran, host: str) -> set[str]:
    """The hosts without whose links this one's steps do not all run: also those that some are
    delegated to."""
    return {host, ran.scenario.hop(host), *ran.scenario.helpers(host)} - {""}


def _starved(ran: Ran, row: Row) -> bool:
    """Whether a timeout passed because the machine was busy with something else."""
    late = re.search("timed out|came for|within", row.reason)
    return ran.starved > STARVED and late is not None


def _harms(ran: Ran, host: str) -> bool:
    fault = ran.faults.get(host)
    return fault is not None and fault.kind is not Kind.SLOW and host in ran.happened


def _log(ran: Ran, row: Row) -> Iterator[str]:
    log, order = ran.logs[row.host], ran.scenario.order(row.host)
    did = [line for line in log if not line.startswith("und")]
    undid = [line for line in log if line.startswith("und")]
    if did != order[: len(did)]:
        yield "steps out of order, run twice, as somebody else or elsewhere"
    if len(set(undid)) != len(undid) or not ran.scenario.undoing().issuperset(undid):
        yield "undone twice, or elsewhere"
    if row.status in GOOD and did != order:
        yield "good, and did not do it all"
    if row.status is Status.NOT_STARTED and log:
        yield "not started, and did something"
    if _refused(ran) and log:
        yield "touched, though a host was away"
    if did and row.status is Status.UNREACHABLE:
        yield "unreachable, and did something"


def _refused(ran: Ran) -> bool:
    """Whether a host was away before anything was touched, and that was to stop the run, or it
    was one that the run cannot do without; or one whose lock could not be had."""
    first = list(itertools.takewhile(lambda e: not isinstance(e, StepStarted), ran.events))
    if ran.scenario.locked and first == ran.events:
        return True
    away = {e.host for e in first if isinstance(e, ConnectFinished) and e.error}
    needed = {*ran.scenario.delegates, *(ran.scenario.hosts[:1] if ran.scenario.once else ())}
    return bool(away and (not ran.skip or away & needed))


def _events(ran: Ran, row: Row) -> Iterator[str]:
    began = [e for e in ran.events if isinstance(e, StepStarted) and e.host == row.host]
    ended = [e for e in ran.events if isinstance(e, StepFinished) and e.host == row.host]
    counts = Counter((e.task, e.step) for e in began)
    if any(count > 1 for count in counts.values()):
        yield "a step began twice"
    if counts != Counter((e.task, e.step) for e in ended):
        yield "steps that began and never ended, or the other way round"
    labels, did = _labels(ran.scenario.order(row.host)), _labels(ran.logs[row.host])
    for event in ended:
        label = f"{event.task}.{event.step}"
        said = event.outcome.status
        if said in GOOD and label in labels and label not in did:
            yield f"{label} is {said}, and it was not run"
        away = said is Status.FAILED and _away(ran, row.host, event.outcome.reason)
        if said not in (*GOOD, Status.LOST) and not away:
            yield f"{label} is {said} ({event.outcome.reason})"
    if row.status is Status.LOST and not _told(row, began, ended):
        yield "lost, and not in the step that was running"


def _labels(lines: list[str]) -> list[str]:
    """Which steps lines are of."""
    return [line.partition("@")[0] for line in lines]


def _told(row: Row, began: list[StepStarted], ended: list[StepFinished]) -> bool:
    own = [e for e in ended if not e.task.startswith("rollback of")]
    if own and own[-1].outcome.status is Status.LOST:
        return f"in step {own[-1].step} '" in row.reason
    words = "between two steps", "may have run", "its lock could not be freed"
    return any(word in row.reason for word in words)


def _away(ran: Ran, host: str, reason: str) -> bool:
    """Whether a step did not begin because the host that it is delegated to was struck."""
    helpers = [helper for helper in ran.scenario.helpers(host) if _harms(ran, helper)]
    phases = "|".join(PHASES)
    return any(
        re.match(rf"{helper}, which it is delegated to, is unreachable: ({phases}): ", reason)
        for helper in helpers
    )


def _files(ran: Ran, row: Row) -> Iterator[str]:
    kinds = ran.scenario.kinds()
    modules = [module for steps in kinds.values() for module in steps]
    done = {
        kinds[e.task][e.step - 1]
        for e in ran.events
        if isinstance(e, StepFinished) and e.task in kinds
        if e.host == row.host and e.outcome.status in GOOD
    }
    if (ran.folder / f"{row.host}.lock").exists() and row.status is not Status.LOST:
        yield "its lock is left there"
    for module, end in (("copy", "there"), ("download", "here")):
        path = ran.folder / f"{row.host}.{end}"
        if module not in modules:
            continue
        if path.exists() and path.read_bytes() != BIG_FILE:
            yield f"a part of a file, after {module}"
        if not path.exists() and (module in done or row.status in GOOD):
            yield f"no file, after {module}"


def _reason(ran: Ran, row: Row) -> Iterator[str]:
    link = (*GOOD, Status.LOST, Status.UNREACHABLE, Status.STOPPED, Status.NOT_STARTED)
    away = row.status is Status.FAILED and _away(ran, row.host, row.reason)
    if row.status not in link and not away:
        yield "a state that no link brings about"
    if not row.reason.isprintable():
        yield "a reason of more than a line"
    harmed = [host for host in _behind(ran, row.host) if _harms(ran, host)]
    places = "|".join(re.escape(ran.scenario.addresses[host]) for host in {row.host, *harmed})
    phases = tuple(f"{phase}: " for phase in PHASES)
    if row.status is Status.UNREACHABLE and not row.reason.startswith(phases):
        yield "no phase"
    if row.status in (Status.UNREACHABLE, Status.LOST, Status.FAILED):
        if not re.search(rf"\w+@({places}):\d+", row.reason):
            yield "no address"
        if re.search(r"[:(] *($|[,;)])", row.reason):
            yield "no cause"
