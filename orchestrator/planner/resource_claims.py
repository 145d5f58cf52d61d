"""What apps claim for themselves on a host, and where two of them claim the same."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import TypeAlias

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.host import App, Host
from orchestrator.model.marked_value import Value
from orchestrator.planner.host_diagnostics import HostProblems
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.request import Ask, Scopes
from orchestrator.templating import Waits

_DEFAULT = "deploy_to"
_Claim: TypeAlias = tuple[str, str, Mark]
_Claims: TypeAlias = tuple[App, list[_Claim]]
_KINDS = {"paths": "path", "ports": "port", "units": "unit"}


def check_claims(ask: Ask, problems: HostProblems) -> None:
    """Note each claim of a chosen app that another app of the stage makes as well, on a host where
    both live. A path within another's is the other's, too."""
    scopes = {app.name: Scopes(ask, app) for app in ask.stage.apps.values()}
    chosen = {app.name for app in ask.apps}
    for host in ask.stage.hosts.values():
        here = [app for app in ask.stage.apps.values() if app.lives_on(host)]
        if len(here) < 2 or not any(app.name in chosen for app in here):
            continue
        claims = [
            (app, list(_claims(app, host, scopes[app.name], chosen=app.name in chosen)))
            for app in here
        ]
        for number, (one, ones) in enumerate(claims):
            for other, others in claims[number + 1 :]:
                if one.name in chosen or other.name in chosen:
                    _compare(host, (one, ones), (other, others), problems)


def _compare(
    host: Host,
    first: tuple[App, list[_Claim]],
    second: tuple[App, list[_Claim]],
    problems: HostProblems,
) -> None:
    one, other = first[0], second[0]
    for kind, mine, mark in first[1]:
        for also, theirs, place in second[1]:
            if kind == also and (mine == theirs or (kind == "paths" and _within(mine, theirs))):
                what = f"apps '{one.name}' and '{other.name}' both claim the {_KINDS[kind]} {mine}"
                if mine != theirs:
                    what += f" ('{other.name}': {theirs})"
                hint = f"'{one.name}' does at {mark}: give one of them its own"
                problems.on(host.name, DefinitionError(Problem(what, place, hint)), place)


def _claims(app: App, host: Host, scopes: Scopes, *, chosen: bool) -> Iterator[_Claim]:
    """What it claims there; of an app that is not chosen, as far as that can be told."""
    scope = scopes.of(host)
    try:
        if not app.claims:
            yield from _default(scope)
        for kind, value in app.claims.items():
            yield from _written(kind, value, scope, scopes)
    except DefinitionError:
        if chosen:
            raise
    except Waits as waits:  # a deploy_to of which nothing is known yet claims nothing
        if chosen and app.claims:
            what = f"the claims of app '{app.name}' need {', '.join(sorted(waits.names))}"
            hint = "claim what is known before the run"
            raise DefinitionError(Problem(what, app.mark, hint)) from None


def _default(scope: HostScope) -> Iterator[_Claim]:
    written = scope.written(_DEFAULT)
    if written is not None:
        yield "paths", _path(str(scope.resolve(_DEFAULT))), written.mark


def _written(kind: str, value: Value, scope: HostScope, scopes: Scopes) -> Iterator[_Claim]:
    for item in value.data if isinstance(value.data, list) else [value]:
        found = scopes.templates.value(item).render(scope)
        for each in found if isinstance(found, (list, tuple)) else [found]:
            if each is not None:
                yield kind, _path(str(each)) if kind == "paths" else str(each), item.mark


def _path(text: str) -> str:
    return posixpath.normpath(text)


def _within(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short.rstrip("/") + "/")
