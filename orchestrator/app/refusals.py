"""What the inventory may say and this version can't obey: refused before anything is contacted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.errors import DefinitionError, Problem
from orchestrator.inventory.values import origins
from orchestrator.model.host import Connect, Host
from orchestrator.plan.model import Plan
from orchestrator.report.fold import fold

_HINTS = {
    "jump": "`jump: none` goes straight to a host",
    "forward_agent": "leave it out",
}


def taking_part(plan: Plan) -> frozenset[str]:
    """The names of all hosts that a run may contact: its own, and those delegated to."""
    waves = [w for lane in plan.lanes for w in lane.waves]
    waves += [w for lane in plan.lanes for _, failed in lane.failed for w in failed]
    hosts = [host for wave in waves for host in wave.hosts]
    steps = [step for h in hosts for p in (h.program, h.rollback) for step in p.steps]
    return frozenset((*plan.hosts, *(step.on for step in steps if step.on)))


def refuse(hosts: Iterable[Host]) -> None:
    """Return if these hosts' connect settings can all be obeyed.

    Raises DefinitionError with a problem for each setting that cannot, and its hosts.
    """
    found: dict[str, list[Host]] = {}
    for host in hosts:
        for setting in _missing(host.connect):
            found.setdefault(setting, []).append(host)
    if found:
        raise DefinitionError(*(_problem(setting, on) for setting, on in found.items()))


def _missing(connect: Connect) -> Iterator[str]:
    if connect.transport != "ssh":
        return
    if connect.jump:
        yield "jump"
    if connect.forward_agent:
        yield "forward_agent"


def _problem(setting: str, hosts: list[Host]) -> Problem:
    written = (origins(host).get(setting) for host in hosts)
    places = dict.fromkeys(str(value.mark) for value in written if value is not None)
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    at = f"; it stands at {', '.join(list(places)[:3])}{more}" if places else ""
    what = f"`{setting}` is not supported yet (on {fold(h.name for h in hosts)})"
    return Problem(what, hosts[0].mark, _HINTS[setting] + at)
