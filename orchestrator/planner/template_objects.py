"""The built-in objects that templates can use, and the names of their fields."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orchestrator
from orchestrator.errors import DefinitionError, Diagnostic, suggest_nearest
from orchestrator.model import ansible
from orchestrator.model.facts import FACTS
from orchestrator.model.host import App, Host
from orchestrator.model.marked_value import NamedObject
from orchestrator.planner.fact_sources import fact_hint
from orchestrator.templating.scope import FieldUse


class RunView(NamedObject, frozen=True):
    """``run``, which is rendered as its ID.

    ``release`` is the UTC start as 14 digits, the same for all hosts; ``message`` is the text of
    ``-m``, or ''. ``check``: the run is a check. ``folder`` is that of the project, '' without one.
    """

    id: str
    started: str
    user: str
    release: str
    message: str = ""
    check: bool = False
    folder: str = ""
    version: str = orchestrator.__version__

    def __str__(self) -> str:
        """Return the ID."""
        return self.id


def run_view(run: str, user: str, started: float, message: str = "") -> RunView:
    """Return the view of a run that started ``started`` seconds after the epoch."""
    at = datetime.fromtimestamp(started, UTC)
    began, release = at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%Y%m%d%H%M%S")
    return RunView(run, began, user, release, message)


class NamedView(NamedObject, frozen=True):
    """``stage`` or ``task``, which are rendered as their names."""

    name: str
    desc: str = ""

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class MergedNames(Mapping[str, object]):
    """The names of several mappings; none of these is read until a name is needed."""

    __slots__ = ("_mappings",)

    def __init__(self, *mappings: Mapping[str, object]) -> None:
        """Store the mappings; of two with one name, the first counts."""
        self._mappings = mappings

    def __getitem__(self, name: str) -> object:
        """Return the value of a name."""
        for mapping in self._mappings:
            if name in mapping:
                return mapping[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(dict.fromkeys(name for mapping in self._mappings for name in mapping))

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(1 for _ in self)


class LazyMapping(Mapping[str, Any]):
    """A mapping whose values are made when they are accessed."""

    __slots__ = ("_make", "_names")

    def __init__(self, names: Mapping[str, object], make: Callable[[str], Any]) -> None:
        """Store the names and the function that makes a value."""
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Any:
        """Return the value, which is made anew each time."""
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        """Return True if the name exists; no value is made."""
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._names)

    def __str__(self) -> str:
        """Raise TypeError, because rendering a whole mapping is a mistake."""
        raise TypeError("a mapping cannot be rendered as text; name one of its values")


class HostView(NamedObject, frozen=True):
    """``host``, and each value of ``hosts``; rendered as its name.

    An attribute that is not one of the fields is looked up in ``vars``.
    """

    name: str
    address: str
    roles: tuple[str, ...]
    vars: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def __getattr__(self, name: str) -> Any:
        """Return a variable of the host."""
        if name.startswith("_"):  # a special attribute that Python looks up
            raise AttributeError(name)
        try:
            return self.vars[name]
        except KeyError:
            raise AttributeError(name) from None


def host_view(host: Host, variables: Mapping[str, Any]) -> HostView:
    """Return the view of a host with its variables."""
    return HostView(host.name, host.connect.address, host.roles, variables)


class AppView(NamedObject, frozen=True):
    """``app``, which is rendered as its name.

    ``hosts`` are the names of all its hosts, selected or not; ``lock`` is the path of its lock.
    """

    name: str
    desc: str
    roles: tuple[str, ...]
    hosts: tuple[str, ...]
    vars: Mapping[str, Any]
    _lock: Callable[[], str]

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def lock(self) -> str:
        """Return the path of the lock on the current host. Raises DefinitionError."""
        return self._lock()


def app_view(
    app: App, hosts: tuple[str, ...], variables: Mapping[str, Any], lock: Callable[[], str]
) -> AppView:
    """Return the view of an app with its variables and lock path on the current host."""
    return AppView(
        app.name, app.desc, roles=app.roles or (), hosts=hosts, vars=variables, _lock=lock
    )


RESULT_FIELDS: Mapping[str, str] = {
    "status": "The step's status: ok, changed, failed, skipped, timed_out, …",
    "stdout": "The standard output without trailing newlines; of a loop, the output of all items",
    "stderr": "The standard error, likewise",
    "exit_status": "The exit status of the command; none if it has none",
    "changed": "Whether the step changed something",
    "failed": "Whether the step failed, also if the failure was ignored",
    "skipped": "Whether the step was skipped",
    "succeeded": "Whether the step did not fail",
    "item": "Of an item of a loop: the item",
    "items": "Of a loop: a result for each item",
}
"""The fields of a step's result, with their meanings."""

OBJECT_FIELDS: Mapping[str, Mapping[str, str]] = {
    "host": {
        "name": "The host's name in the inventory",
        "address": "The name or IP address that orch connects to",
        "roles": "The names of its roles",
        "vars": "Its variables; `host.x` is short for `host.vars.x`",
    },
    "app": {
        "name": "The app's name",
        "desc": "Its description",
        "roles": "The roles whose hosts run it",
        "hosts": "The names of all its hosts, selected or not",
        "vars": "Its variables",
        "lock": "The path of its lock on the host",
    },
    "stage": {"name": "The stage's name", "desc": "Its description"},
    "task": {"name": "The task's name", "desc": "Its description"},
    "run": {
        "id": "The run's ID",
        "started": "When the run started, like 2026-01-31T12:00:00Z (UTC)",
        "user": "The local user",
        "release": "When the run started as 14 digits (UTC), the same for all hosts",
        "message": "The text of `-m`, or empty",
        "check": "Whether this is a check (`--check`), which changes nothing",
        "folder": "The project's folder on this machine",
        "version": "The version of orch: `run.version is version('1.2', '>=')`",
    },
    "facts": {name: fact.help for name, fact in FACTS.items()},
    "result": RESULT_FIELDS,
}
"""The fields of the built-in objects, with their meanings."""

OBJECT_HELP: Mapping[str, str] = {
    "host": "The host that the step is for; as text, its name",
    "hosts": "All hosts of the stage by name; `hosts['web1'].x` is a variable, or a result that an "
    "earlier task registered there",
    "roles": "The names of the hosts of each role, like `roles.web`",
    "app": "The app that the run is for; as text, its name. Only in a run for an app",
    "stage": "The stage; as text, its name",
    "task": "The task; as text, its name",
    "run": "The run; as text, its ID",
    "env": "The environment variables of orch itself, like `env.HOME`",
    "facts": "What is known of the host: see `orch doc facts`. Each is collected once per host, if "
    "a template names it",
    "result": "The result of the step, in `changed_when`, `failed_when` and `until`; a name of "
    "`register` is such an object, too",
    "item": "The item of the loop",
    "vars": "The variables of the host by name: `vars['my-name']` is one whose name no template "
    "can use, and `vars[x]` the one that the variable `x` names",
}
"""The built-in objects of templates, with their meanings."""


def check_fields(
    uses: Iterable[FieldUse],
    results: Container[str] = (),
    returned: Mapping[str, Mapping[str, str]] | None = None,
    facts: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Raise DefinitionError with each field that its object does not have.

    ``results`` are the names that steps register; ``returned`` are the values that their modules
    return, by the name of the result; ``facts`` are the fields of ``facts`` and of its facts, as in
    ``FactSources``.
    """
    diagnostics = []
    for use in uses:
        # any other attribute of a host is a variable
        known = None if use.name == "host" else OBJECT_FIELDS.get(use.name)
        if facts is not None and use.name in facts:
            known = facts[use.name]
            if use.name != "facts" and hasattr(dict, use.field):
                continue  # a method
        values = (returned or {}).get(use.name, {})
        if use.name == "result" or (known is None and use.name in results):
            known = {**RESULT_FIELDS, **values}
        if use.name == ansible.FACTS_VARIABLE:
            known = {}
        if known is None or use.field in known:
            continue
        if use.name == "facts":
            hint = fact_hint(use.field, known)
        elif use.name == ansible.FACTS_VARIABLE:
            hint = ansible.FACT_HINTS.get(use.field) or ansible.VARIABLE_HINTS[use.name]
        else:
            hint = _result_hint(use, values) if "exit_status" in known else ""
            hint = hint or suggest_nearest(use.field, known) or f"available: {', '.join(known)}"
        diagnostics.append(Diagnostic(f"'{use.name}.{use.field}' is undefined", use.mark, hint))
    if diagnostics:
        raise DefinitionError(*diagnostics)


def _result_hint(use: FieldUse, values: Container[str]) -> str:
    """Return what to write instead of a field of Ansible's results, or ''."""
    hint = ansible.RETURNED_HINTS.get(use.field, "") if values else ""
    hint = hint or ansible.RESULT_FIELD_HINTS.get(use.field, "")
    return hint.replace("NAME", use.name)
