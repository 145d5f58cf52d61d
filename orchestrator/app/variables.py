"""A host's variables: their values, and who set them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.app.arguments import extra_values
from orchestrator.app.prepare import There, new_run
from orchestrator.errors import DefinitionError, Problem, nearest
from orchestrator.inventory.values import Merger, connect_of, defaults_of, environment_of
from orchestrator.model.host import Host
from orchestrator.model.value import Value, merge
from orchestrator.plan.ask import Ask, Scopes
from orchestrator.plan.scope import HostScope


def values_of(
    there: There, name: str, extra: Sequence[str], environ: Mapping[str, str]
) -> dict[str, object]:
    """Every variable of the host, rendered, with words in a secret's place on where it comes
    from. Raises DefinitionError."""
    host = _host(there, name)
    ask = Ask(there.stage, (host,), (), {}, new_run(0.0), extra_values(extra), environ)
    scope = Scopes(ask).of(host)
    return {str(name): _value(scope, name) for name in sorted({*scope.vars, *scope.strong})}


def _value(scope: HostScope, name: str) -> object:
    """The variable's value; secrets are not fetched for it."""
    before = scope.secrets.reads
    try:
        return scope.resolve(name)
    except DefinitionError:
        if scope.secrets.reads == before:
            raise
        return "‹known once the secret is that it is made of›"


def origins_of(there: There, name: str, extra: Sequence[str]) -> Iterator[str]:
    """Each value as written, where it stands, and below it what it overrode."""
    host = _host(there, name)
    found = dict(Merger().of(host))
    for key, value in extra_values(extra).items():
        found[key] = merge(found[key], value) if key in found else value
    sections = [("", found)]
    for title, section in (
        ("connect.", connect_of),
        ("environment.", environment_of),
        ("defaults.", defaults_of),
    ):
        sections.append((title, dict(Merger(section).of(host))))
    for title, values in sections:
        for key in sorted(values):
            yield from _origin(f"{title}{key}", values[key])


def _origin(name: str, value: Value) -> Iterator[str]:
    if isinstance(value.data, dict) and value.data:
        for key, inner in value.data.items():
            yield from _origin(f"{name}.{key}", inner)
        return
    yield f"{name}: {_json(value)}  {value.mark}"
    below = value.under
    while below is not None:
        if not isinstance(below.data, dict):
            yield f"  over {_json(below)}  {below.mark}"
        below = below.under


def _json(value: Value) -> str:
    return json.dumps(value.plain(), ensure_ascii=False)


def _host(there: There, name: str) -> Host:
    host = there.stage.hosts.get(name)
    if host is None:
        hint = nearest(name, there.stage.hosts) or f"see `orch -s {there.stage.name} hosts`"
        raise DefinitionError(
            Problem(f"stage '{there.stage.name}' has no host '{name}'", None, hint)
        )
    return host
