"""Properties that must hold for every run, whatever happens to its connections."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from orchestrator.model.event import ConnectFinished, StepFinished, StepStarted
from orchestrator.model.step_result import HostSummary, Status
from tests.integration.faults.scenarios import BIG
from tests.integration.faults.testbed import FaultyRun
from tests.support.link_faults import FaultKind

PHASES = ("resolve", "connect", "banner", "kex", "host key", "auth", "channel", "shell")
BIG_FILE = bytes(range(256)) * (BIG // 256)
STARVED = 0.5
GOOD_STATUSES = (Status.CHANGED, Status.OK)


def find_violations(ran: FaultyRun) -> list[str]:
    """Return the violated properties; none if all hold."""
    if ran.error is not None:
        return [f"the run raised {ran.error!r}"]
    found = [f"left behind: {what}" for what in ran.leftovers]
    for host in ran.scenario.hosts:
        if host not in ran.rows:
            found.append(f"{host}: it has no row")
            continue
        row = ran.rows[host]
        fault = ran.faults.get(host)
        state = f"{row.status} ({row.reason}), log {ran.logs[host]}, {fault}"
        found += [f"{host}: {what}: {state}" for what in _check_host(ran, row)]
    return found


def _check_host(ran: FaultyRun, row: HostSummary) -> Iterator[str]:
    yield from _check_log(ran, row)
    yield from _check_events(ran, row)
    yield from _check_files(ran, row)
    yield from _check_reason(ran, row)
    harmed = any(_harmful_faults(ran, host) for host in _hosts_needed(ran, row.host))
    may = (Status.NOT_STARTED,) if _was_refused(ran) else GOOD_STATUSES
    if not harmed and row.status not in may and not _was_starved(ran, row):
        yield "nothing happened to it"


def _hosts_needed(ran: FaultyRun, host: str) -> set[str]:
    """Return the hosts that this one's steps need, including those that steps are delegated to."""
    return {host, ran.scenario.jump_host_of(host), *ran.scenario.delegates_of(host)} - {""}


def _was_starved(ran: FaultyRun, row: HostSummary) -> bool:
    """Return True if a timeout passed because the machine was busy."""
    late = re.search("timed out|came for|within", row.reason)
    return ran.starved_seconds > STARVED and late is not None


def _harmful_faults(ran: FaultyRun, host: str) -> bool:
    fault = ran.faults.get(host)
    return fault is not None and fault.kind is not FaultKind.SLOW and host in ran.struck_hosts


def _check_log(ran: FaultyRun, row: HostSummary) -> Iterator[str]:
    log, order = ran.logs[row.host], ran.scenario.expected_lines(row.host)
    did = [line for line in log if not line.startswith("und")]
    undid = [line for line in log if line.startswith("und")]
    if did != order[: len(did)]:
        yield "steps out of order, run twice, as somebody else or elsewhere"
    if len(set(undid)) != len(undid) or not ran.scenario.rollback_lines().issuperset(undid):
        yield "undone twice, or elsewhere"
    if row.status in GOOD_STATUSES and did != order:
        yield "good, and did not do it all"
    if row.status is Status.NOT_STARTED and log:
        yield "not started, and did something"
    if _was_refused(ran) and log:
        yield "touched, though a host was away"
    if did and row.status is Status.UNREACHABLE:
        yield "unreachable, and did something"


def _was_refused(ran: FaultyRun) -> bool:
    """Return True if the run rightly did not start on a host.

    A required host was unreachable before anything was touched, or a lock could not be acquired.
    """
    first = list(itertools.takewhile(lambda e: not isinstance(e, StepStarted), ran.events))
    if ran.scenario.is_locked and first == ran.events:
        return True
    away = {e.host for e in first if isinstance(e, ConnectFinished) and e.error}
    needed = {*ran.scenario.delegates, *(ran.scenario.hosts[:1] if ran.scenario.once else ())}
    return bool(away and (not ran.is_skipped or away & needed))


def _check_events(ran: FaultyRun, row: HostSummary) -> Iterator[str]:
    began = [e for e in ran.events if isinstance(e, StepStarted) and e.host == row.host]
    ended = [e for e in ran.events if isinstance(e, StepFinished) and e.host == row.host]
    counts = Counter((e.task, e.step) for e in began)
    if any(count > 1 for count in counts.values()):
        yield "a step began twice"
    if counts != Counter((e.task, e.step) for e in ended):
        yield "steps that began and never ended, or the other way round"
    labels, did = (
        _line_labels(ran.scenario.expected_lines(row.host)),
        _line_labels(ran.logs[row.host]),
    )
    for event in ended:
        label = f"{event.task}.{event.step}"
        output = event.outcome.status
        if output in GOOD_STATUSES and label in labels and label not in did:
            yield f"{label} is {output}, and it was not run"
        away = output is Status.FAILED and _is_delegate_unreachable(
            ran, row.host, event.outcome.reason
        )
        if output not in (*GOOD_STATUSES, Status.LOST) and not away:
            yield f"{label} is {output} ({event.outcome.reason})"
    if row.status is Status.LOST and not _check_row(row, began, ended):
        yield "lost, and not in the step that was running"


def _line_labels(lines: list[str]) -> list[str]:
    """Return the labels of the steps that lines are from."""
    return [line.partition("@")[0] for line in lines]


def _check_row(row: HostSummary, began: list[StepStarted], ended: list[StepFinished]) -> bool:
    own = [e for e in ended if not e.task.startswith("rollback of")]
    if own and own[-1].outcome.status is Status.LOST:
        return f"in step {own[-1].step} '" in row.reason
    words = "between two steps", "may have run", "its lock could not be released"
    return any(word in row.reason for word in words)


def _is_delegate_unreachable(ran: FaultyRun, host: str, reason: str) -> bool:
    """Return True if a step did not start because the host that it is delegated to had a fault."""
    helpers = [helper for helper in ran.scenario.delegates_of(host) if _harmful_faults(ran, helper)]
    phases = "|".join(PHASES)
    return any(
        re.match(rf"{helper}, which it is delegated to, is unreachable: ({phases}): ", reason)
        for helper in helpers
    )


def _check_files(ran: FaultyRun, row: HostSummary) -> Iterator[str]:
    kinds = ran.scenario.step_kinds()
    modules = [module for steps in kinds.values() for module in steps]
    done = {
        kinds[e.task][e.step - 1]
        for e in ran.events
        if isinstance(e, StepFinished) and e.task in kinds
        if e.host == row.host and e.outcome.status in GOOD_STATUSES
    }
    if (ran.folder / f"{row.host}.lock").exists() and row.status is not Status.LOST:
        yield "its lock is left there"
    for module, end in (("copy", "there"), ("download", "here")):
        path = ran.folder / f"{row.host}.{end}"
        if module not in modules:
            continue
        if path.exists() and path.read_bytes() != BIG_FILE:
            yield f"a part of a file, after {module}"
        if not path.exists() and (module in done or row.status in GOOD_STATUSES):
            yield f"no file, after {module}"


def _check_reason(ran: FaultyRun, row: HostSummary) -> Iterator[str]:
    link = (*GOOD_STATUSES, Status.LOST, Status.UNREACHABLE, Status.STOPPED, Status.NOT_STARTED)
    away = row.status is Status.FAILED and _is_delegate_unreachable(ran, row.host, row.reason)
    if row.status not in link and not away:
        yield "a state that no link brings about"
    if not row.reason.isprintable():
        yield "a reason of more than a line"
    harmed = [host for host in _hosts_needed(ran, row.host) if _harmful_faults(ran, host)]
    endpoints = "|".join(re.escape(ran.scenario.addresses[host]) for host in {row.host, *harmed})
    phases = tuple(f"{phase}: " for phase in PHASES)
    if row.status is Status.UNREACHABLE and not row.reason.startswith(phases):
        yield "no phase"
    if row.status in (Status.UNREACHABLE, Status.LOST, Status.FAILED):
        if not re.search(rf"\w+@({endpoints}):\d+", row.reason):
            yield "no address"
        if re.search(r"[:(] *($|[,;)])", row.reason):
            yield "no cause"
