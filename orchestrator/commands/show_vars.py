"""Shows a host's variables: their values, and where they are set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from msgspec import Struct

from orchestrator.commands.cli_args import parse_extra_variables
from orchestrator.commands.context import ProjectContext, new_run
from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.inventory.precedence import (
    VariableMerger,
    connect_of,
    defaults_of,
    environment_of,
)
from orchestrator.model.host import App, Host
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.marked_value import MarkedValue, merge_values
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.encrypted_layers import open_encrypted_layer
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.request import PlanRequest, ScopeFactory
from orchestrator.yamlio.vault_passwords import has_vault_password


def resolved_variables(
    context: ProjectContext,
    name: str,
    extra: Sequence[str],
    environ: Mapping[str, str],
    app: App | None = None,
) -> dict[str, object]:
    """Return every variable of the host (of an app on it), rendered.

    Those of Ansible's inventories are as written, because only their uses need to be resolved. A
    secret is shown as a description of its source. Raises DefinitionError.
    """
    host = _find_host(context, name, app)
    plan_request = PlanRequest(
        context.stage,
        (host,),
        requests=(),
        tasks={},
        run=new_run(0.0),
        extra_variables=parse_extra_variables(extra),
        environ=environ,
        secrets=_file_secrets(context, environ),
    )
    scope = ScopeFactory(plan_request, app).scope_of(host)
    names = sorted({*scope.vars, *scope.extra_vars})
    if context.stage.is_ansible:
        written = ((str(name), scope.written_value(name)) for name in names)
        return {name: value.to_display() for name, value in written if value is not None}
    return {str(name): _resolve_variable(scope, name) for name in names}


def _resolve_variable(scope: HostScope, name: str) -> object:
    """Return the variable's value without fetching secrets."""
    before = scope.secrets.stand_in_reads
    try:
        return scope.resolve(name)
    except DefinitionError:
        if scope.secrets.stand_in_reads == before:
            raise
        return "‹depends on a secret›"


class ValueOrigin(Struct, frozen=True):
    """A value as written, with its position."""

    value: object
    mark: SourcePosition

    def plain(self) -> dict[str, object]:
        """Return the JSON fields; ``line`` and ``column`` are null if no file has the value."""
        line, column = self.mark.line or None, self.mark.column or None
        return {"value": self.value, "file": self.mark.path, "line": line, "column": column}


def _file_secrets(context: ProjectContext, environ: Mapping[str, str]) -> SecretResolver:
    """Return what decrypts files if the environment names a password; it decrypts nothing else."""
    can_open = context.stage.has_encrypted_files and has_vault_password(environ)
    return context.secrets if can_open else SecretResolver()


def locked_files(context: ProjectContext, name: str, environ: Mapping[str, str]) -> list[str]:
    """Return the encrypted files of a host whose variables are not shown."""
    host = context.stage.hosts.get(name)
    if host is None or has_vault_password(environ):
        return []
    layers = (layer.encrypted for layer in host.layers)
    return [encrypted.mark.path for encrypted in layers if encrypted is not None]


def variable_origins(
    context: ProjectContext,
    name: str,
    extra: Sequence[str],
    environ: Mapping[str, str],
    app: App | None = None,
) -> dict[str, list[ValueOrigin]]:
    """Return each variable and setting of the host (of an app on it) as written.

    Each value is followed by the values that it overrides, highest precedence first. Raises
    DefinitionError.
    """
    host = _find_host(context, name, app)
    layers = app.layers_on(host) if app else ()
    secrets = _file_secrets(context, environ)
    merger = VariableMerger(open_layer=partial(open_encrypted_layer, secrets=secrets))
    found = dict(merger.values_of(host, layers))
    for key, value in parse_extra_variables(extra).items():
        found[key] = merge_values(found[key], value) if key in found else value
    sections = [("", found)]
    for title, section in (
        ("connect.", connect_of),
        ("environment.", environment_of),
        ("defaults.", defaults_of),
    ):
        sections.append((title, dict(VariableMerger(section).values_of(host, layers))))
    return {
        key: written
        for title, values in sections
        for name in sorted(values)
        for key, written in _value_origins(f"{title}{name}", values[name])
    }


def _value_origins(name: str, value: MarkedValue) -> Iterator[tuple[str, list[ValueOrigin]]]:
    if isinstance(value.data, dict) and value.data:
        for key, inner in value.data.items():
            yield from _value_origins(f"{name}.{key}", inner)
        return
    written = [ValueOrigin(value.to_display(), value.mark)]
    overridden = value.overridden
    while overridden is not None:
        if not isinstance(overridden.data, dict):
            written.append(ValueOrigin(overridden.to_display(), overridden.mark))
        overridden = overridden.overridden
    yield name, written


def _find_host(context: ProjectContext, name: str, app: App | None) -> Host:
    host = context.stage.hosts.get(name)
    if host is None:
        hint = (
            suggest_nearest(name, context.stage.hosts)
            or f"see `orch -s {context.stage.name} hosts`"
        )
        raise DefinitionError(
            Diagnostic(f"stage '{context.stage.name}' has no host '{name}'", None, hint)
        )
    if app is not None and not app.lives_on(host):
        on = fold_hostnames(
            each.name for each in context.stage.hosts.values() if app.lives_on(each)
        )
        message = f"app '{app.name}' does not run on host '{name}'"
        raise DefinitionError(Diagnostic(message, app.mark, f"it runs on {on}" if on else ""))
    return host
