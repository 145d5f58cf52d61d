"""Checks that no two apps claim the same path, port or unit on a host."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import TypeAlias

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.host import App, Host
from orchestrator.model.marked_value import MarkedValue
from orchestrator.planner.host_diagnostics import HostDiagnostics
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.request import PlanRequest, ScopeFactory
from orchestrator.templating import ResultPending

_DEPLOY_TO = "deploy_to"
_ResourceClaim: TypeAlias = tuple[str, str, SourcePosition]
_AppClaims: TypeAlias = tuple[App, list[_ResourceClaim]]
_KIND_NAMES = {"paths": "path", "ports": "port", "units": "unit"}


def check_claims(request: PlanRequest, diagnostics: HostDiagnostics) -> None:
    """Report every claim of a selected app that another app on the same host makes as well.

    A path inside another app's path is a conflict, too.
    """
    scopes = {app.name: ScopeFactory(request, app) for app in request.stage.apps.values()}
    chosen = {app.name for app in request.apps}
    for host in request.stage.hosts.values():
        apps_on_host = [app for app in request.stage.apps.values() if app.lives_on(host)]
        if len(apps_on_host) < 2 or not any(app.name in chosen for app in apps_on_host):
            continue
        claims = [
            (app, list(_app_claims(app, host, scopes[app.name], chosen=app.name in chosen)))
            for app in apps_on_host
        ]
        for number, (first_app, first_claims) in enumerate(claims):
            for second_app, second_claims in claims[number + 1 :]:
                if first_app.name in chosen or second_app.name in chosen:
                    _compare_claims(
                        host, (first_app, first_claims), (second_app, second_claims), diagnostics
                    )


def _compare_claims(
    host: Host,
    first: tuple[App, list[_ResourceClaim]],
    second: tuple[App, list[_ResourceClaim]],
    diagnostics: HostDiagnostics,
) -> None:
    first_app, second_app = first[0], second[0]
    for kind, mine, mark in first[1]:
        for other_kind, theirs, other_position in second[1]:
            if kind == other_kind and (
                mine == theirs or (kind == "paths" and _is_within(mine, theirs))
            ):
                apps = f"apps '{first_app.name}' and '{second_app.name}'"
                message = f"{apps} both claim the {_KIND_NAMES[kind]} {mine}"
                if mine != theirs:
                    message += f" ('{second_app.name}': {theirs})"
                hint = f"'{first_app.name}' claims it at {mark}; give one of them its own"
                diagnostics.add_for_host(
                    host.name,
                    DefinitionError(Diagnostic(message, other_position, hint)),
                    other_position,
                )


def _app_claims(
    app: App, host: Host, scopes: ScopeFactory, *, chosen: bool
) -> Iterator[_ResourceClaim]:
    """Yield the claims of an app on a host; an app that is not selected may have invalid claims."""
    scope = scopes.scope_of(host)
    try:
        if not app.claims:
            yield from _default_claim(scope)
        for kind, value in app.claims.items():
            yield from _written_claims(kind, value, scope, scopes)
    except DefinitionError:
        if chosen:
            raise
    except ResultPending as pending:  # a deploy_to that is not known yet claims nothing
        if chosen and app.claims:
            message = f"the claims of app '{app.name}' need {', '.join(sorted(pending.names))}"
            hint = "claim only values that are known before the run"
            raise DefinitionError(Diagnostic(message, app.mark, hint)) from None


def _default_claim(scope: HostScope) -> Iterator[_ResourceClaim]:
    written = scope.written_value(_DEPLOY_TO)
    if written is not None:
        yield "paths", _normalize_path(str(scope.resolve(_DEPLOY_TO))), written.mark


def _written_claims(
    kind: str, value: MarkedValue, scope: HostScope, scopes: ScopeFactory
) -> Iterator[_ResourceClaim]:
    for item in value.data if isinstance(value.data, list) else [value]:
        found = scopes.templates.value(item).render(scope)
        for each in found if isinstance(found, (list, tuple)) else [found]:
            if each is not None:
                yield kind, _normalize_path(str(each)) if kind == "paths" else str(each), item.mark


def _normalize_path(text: str) -> str:
    return posixpath.normpath(text)


def _is_within(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short.rstrip("/") + "/")
