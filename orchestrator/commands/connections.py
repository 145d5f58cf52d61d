"""Completes the connection options of hosts whose inventory has templates or passwords in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, OrchError
from orchestrator.inventory.ansible.connection_variables import (
    PASSWORD_SETTINGS,
    SETTING_OF_VARIABLE,
    connection_options,
    is_template,
)
from orchestrator.model.host import ConnectionOptions, Host, InventoryPassword, Stage
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.plan import Plan
from orchestrator.planner.request import PlanRequest, ScopeFactory
from orchestrator.planner.template_objects import run_view
from orchestrator.templating import ResultPending


def complete_connections(
    stage: Stage, root: Path, environ: Mapping[str, str], secrets: SecretResolver
) -> Stage:
    """Return the stage with the templates in its hosts' connection options rendered.

    What depends on a secret is left out if ``secrets`` queries no source. Passwords are found when
    a host asks for them. Raises DefinitionError and UsageError.
    """
    hosts = [host for host in stage.hosts.values() if host.written_connect or _is_locked(host)]
    if not hosts:
        return stage
    run = run_view("", "", time.time())
    scopes = ScopeFactory(
        PlanRequest(stage, tuple(hosts), (), {}, run, environ=environ, secrets=secrets)
    )
    completer = _ConnectionCompleter(scopes, root, secrets)
    completed = {host.name: completer.complete(host) for host in hosts}
    return replace(stage, hosts={**stage.hosts, **completed})


def check_connections(hosts: tuple[Host, ...]) -> None:
    """Raise DefinitionError with every setting because of which a host cannot be connected to."""
    invalid = dict.fromkeys(each for host in hosts if (each := host.connect.invalid) is not None)
    if invalid:
        raise DefinitionError(*invalid)


def decrypt_passwords(hosts: Iterable[Host], plan: Plan) -> None:
    """Decrypt the passwords that the run may need, so that their vault's is asked for before it.

    An error is left for the host that needs the password.
    """
    hosts = [host for host in hosts if host.written_connect]
    if not hosts:
        return
    becoming = {
        host_plan.host
        for app_plan in plan.app_plans
        for planned_task in app_plan.planned_tasks
        for host_plan in planned_task.hosts
        if any(step.user for step in host_plan.steps)
    }
    for host in hosts:
        for setting, password in (
            ("password", host.connect.password),
            ("become_password", host.connect.become_password),
        ):
            is_needed = setting == "password" or host.name in becoming
            if password is not None and setting in host.written_connect and is_needed:
                with suppress(OrchError):
                    password.find()


def _is_locked(host: Host) -> bool:
    return any(layer.encrypted is not None for layer in host.layers)


class _ConnectionCompleter:
    """Renders the connection settings of hosts."""

    def __init__(self, scopes: ScopeFactory, root: Path, secrets: SecretResolver) -> None:
        self._scopes, self._root, self._secrets = scopes, root, secrets

    def complete(self, host: Host) -> Host:
        """Return the host with complete options."""
        scope = self._scopes.scope_of(host)
        known: dict[str, MarkedValue] = {}
        for setting, value in host.written_connect.items():
            if setting in PASSWORD_SETTINGS:
                continue
            rendered = self._render(scope, setting, value) if is_template(value) else value
            if rendered is not None:
                known[setting] = rendered
        connect = connection_options(host.name, known, self._root)
        passwords = {name: self._password(host, name) for name in PASSWORD_SETTINGS}
        return replace(host, connect=_with_passwords(connect, passwords))

    def _render(self, scope: HostScope, setting: str, value: MarkedValue) -> MarkedValue | None:
        """Return the rendered setting, or None if it depends on a secret that is not fetched."""
        before = self._secrets.stand_in_reads
        try:
            rendered = scope.templates.value(value).render(scope)
        except ResultPending as pending:
            names = ", ".join(sorted(pending.names))
            what = f"the connection setting `{setting}` depends on {names}"
            hint = "it must be known before the host is connected to"
            raise DefinitionError(Diagnostic(what, value.mark, hint)) from None
        if self._secrets.stand_in_reads != before:
            return None
        data = rendered if isinstance(rendered, (bool, int, float)) else str(rendered)
        return MarkedValue(data, value.mark, literal=True)

    def _password(self, host: Host, setting: str) -> InventoryPassword | None:
        written = host.written_connect.get(setting)
        if written is None and not _is_locked(host):
            return None
        if written is not None and not is_template(written):
            text = str(written.data)
            self._secrets.masker.add_secret(setting, text)
            return InventoryPassword((setting, written.mark), lambda: text)
        key = (setting, written.mark if written else None, host.name)
        return InventoryPassword(key, self._password_finder(host, setting))

    def _password_finder(self, host: Host, setting: str) -> Callable[[], str | None]:
        names = [name for name, known in SETTING_OF_VARIABLE.items() if known == setting]

        def find() -> str | None:
            scope = self._scopes.scope_of(host)
            known = [name for name in names if scope.written_value(name) is not None]
            if not known or self._secrets.fetch_secret is None:
                return None
            try:
                value = scope.resolve_variable(known[-1])
            except ResultPending as pending:
                what = f"`{known[-1]}` depends on {', '.join(sorted(pending.names))}"
                raise DefinitionError(Diagnostic(what)) from None
            return None if value is None else str(value)

        return find


def _with_passwords(
    connect: ConnectionOptions, passwords: Mapping[str, InventoryPassword | None]
) -> ConnectionOptions:
    return replace(
        connect,
        password=passwords["password"],
        become_password=passwords["become_password"],
    )
