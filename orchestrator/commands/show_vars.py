"""A host's variables: their values, and who set them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from orchestrator.commands.cli_args import extra_values
from orchestrator.commands.context import There, new_run
from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.inventory.precedence import Merger, connect_of, defaults_of, environment_of
from orchestrator.model.host import App, Host
from orchestrator.model.host_folding import fold
from orchestrator.model.marked_value import Value, merge
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.request import Ask, Scopes


def values_of(
    there: There,
    name: str,
    extra: Sequence[str],
    environ: Mapping[str, str],
    app: App | None = None,
) -> dict[str, object]:
    """Every variable of the host (of an app on it), rendered, with words in a secret's place on
    where it comes from. Raises DefinitionError."""
    host = _host(there, name, app)
    ask = Ask(
        there.stage,
        (host,),
        requests=(),
        tasks={},
        run=new_run(0.0),
        extra=extra_values(extra),
        environ=environ,
    )
    scope = Scopes(ask, app).of(host)
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


class Origin(Struct, frozen=True):
    """A value as it is written, with its place."""

    value: object
    mark: Mark

    def plain(self) -> dict[str, object]:
        """Return it for JSON. ``line`` and ``column`` are null for what is in no file."""
        line, column = self.mark.line or None, self.mark.column or None
        return {"value": self.value, "file": self.mark.path, "line": line, "column": column}


def origins_of(
    there: There, name: str, extra: Sequence[str], app: App | None = None
) -> dict[str, list[Origin]]:
    """Return each variable and setting of the host (of an app on it) as it is written, followed by
    the values that it overrides, the strongest first. Raises DefinitionError."""
    host = _host(there, name, app)
    layers = app.at(host) if app else ()
    found = dict(Merger().of(host, layers))
    for key, value in extra_values(extra).items():
        found[key] = merge(found[key], value) if key in found else value
    sections = [("", found)]
    for title, section in (
        ("connect.", connect_of),
        ("environment.", environment_of),
        ("defaults.", defaults_of),
    ):
        sections.append((title, dict(Merger(section).of(host, layers))))
    return {
        key: written
        for title, values in sections
        for name in sorted(values)
        for key, written in _origins(f"{title}{name}", values[name])
    }


def _origins(name: str, value: Value) -> Iterator[tuple[str, list[Origin]]]:
    if isinstance(value.data, dict) and value.data:
        for key, inner in value.data.items():
            yield from _origins(f"{name}.{key}", inner)
        return
    written = [Origin(value.plain(), value.mark)]
    below = value.under
    while below is not None:
        if not isinstance(below.data, dict):
            written.append(Origin(below.plain(), below.mark))
        below = below.under
    yield name, written


def _host(there: There, name: str, app: App | None) -> Host:
    host = there.stage.hosts.get(name)
    if host is None:
        hint = nearest(name, there.stage.hosts) or f"see `orch -s {there.stage.name} hosts`"
        raise DefinitionError(
            Problem(f"stage '{there.stage.name}' has no host '{name}'", None, hint)
        )
    if app is not None and not app.lives_on(host):
        on = fold(each.name for each in there.stage.hosts.values() if app.lives_on(each))
        what = f"app '{app.name}' does not run on host '{name}'"
        raise DefinitionError(Problem(what, app.mark, f"it runs on {on}" if on else ""))
    return host
