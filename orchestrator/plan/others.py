"""What templates see of the other hosts: ``hosts``.

``hosts['web1'].x`` is, as for `x` on web1 itself, what a task registered or set there under that
name, else its variable: but only results of tasks that ended before the one at hand began.
``name``, ``address``, ``roles`` and ``vars`` are the host's own; ``hosts['web1'].vars.x`` is `x`
whatever it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from orchestrator.errors import DefinitionError, Problem
from orchestrator.model.host import Host
from orchestrator.plan.model import Results
from orchestrator.plan.scope import HostScope, Place
from orchestrator.plan.views import HostView, Lazy, host_view
from orchestrator.templating import Waits

KNOWN = "known of other hosts"
"""Under this name, which no template can have, results hold what the plan knows (``Known``) of
every host when a task begins."""

ENDED = "results of other hosts"
"""Under this name, which no template can have, results hold those of every host when a task
began; what is not among them never came."""


class Known(Struct, frozen=True):
    """Of each host the names that earlier tasks register there, and the values that are settled.
    ``lenient``: names that never came are none (in a rollback)."""

    hosts: Mapping[str, tuple[Iterable[str], Results]]
    lenient: bool = False


def ended(results: Mapping[str, Results]) -> Results:
    """What is to be among each host's results, out of those of every host."""
    apart = {
        host: {name: value for name, value in of.items() if name != ENDED}
        for host, of in results.items()
    }
    return {ENDED: apart}


def seen(host: Host, scope: HostScope, place: Place) -> HostView:
    """The host, whose new scope this is, as it is seen from another host's place."""
    known = place.results.get(KNOWN, Known({}))
    came = place.results.get(ENDED)
    registered, settled = known.hosts.get(host.name, ((), {}))
    names = frozenset(registered)
    there = scope.place
    there.registered = {**there.registered, **dict.fromkeys(names, ())}
    results = {**settled, **(came or {}).get(host.name, {})}
    further = {name: place.results[name] for name in (KNOWN, ENDED) if name in place.results}
    there.results = {**results, **further}
    there.final = came is not None
    there.lenient = names if known.lenient and there.final else frozenset()

    def resolve(of: str) -> object:
        asked = f"hosts['{host.name}'].{of}"
        if asked in place.asking:
            circle = (*place.asking[place.asking.index(asked) :], asked)
            raise DefinitionError(Problem(f"values that need each other: {' → '.join(circle)}"))
        there.asking = (*place.asking, asked)
        before, heard = there.reads, there.heard
        try:
            return scope.resolve(of)
        except Waits as waits:
            if came is not None:
                what = f"the facts of '{host.name}' are not known: no earlier task named them there"
                raise DefinitionError(Problem(what)) from None
            here = f"hosts['{host.name}']."
            awaited = {n if n.startswith("hosts[") else here + n for n in waits.names}
            place.elsewhere |= awaited
            raise Waits(awaited) from None
        finally:
            place.reads += there.reads - before
            place.heard += there.heard - heard

    every = {**scope.vars, **scope.strong, **there.registered, **results, "facts": None}
    return host_view(host, Lazy(every, resolve))
