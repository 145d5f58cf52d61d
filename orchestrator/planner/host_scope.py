"""The names that templates can use on one host: objects, results and variables.

The params of a task file are added by ``TaskScope``. Errors point at the position where a value was
originally written (``follow_origin``).

Templates access other hosts through ``hosts``. ``hosts['web1'].x`` is the value that a task
registered or set on web1, else web1's variable; but only results of tasks that ended before the
current task started. ``name``, ``address``, ``roles`` and ``vars`` are attributes of the host
itself; ``hosts['web1'].vars.x`` is the variable `x` whatever its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.model import ansible
from orchestrator.model.host import App, Host
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import CommandText, HomePath, MarkedValue, Values, merge_values
from orchestrator.model.secret import Secret, SecretResolver
from orchestrator.planner.fact_sources import FACTS_RESULT, FactSources, FactsPending, FactsView
from orchestrator.planner.plan import ResultsByName
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.template_objects import (
    HostView,
    LazyMapping,
    MergedNames,
    check_fields,
    host_view,
)
from orchestrator.templating import ResultPending, Scope
from orchestrator.templating.scope import RENDERED_FILE
from orchestrator.yamlio.naming_rules import RESERVED_NAMES

if TYPE_CHECKING:
    from orchestrator.templating import TemplateCache, ValueTemplate


MAX_HOPS = 9
"""How many names ``origin`` follows; a cycle is reported elsewhere."""

_LONE_NAME = lazy_regex(
    r"\s*\{\{-?\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:(?:\||if\b)[^{}]*)?-?\}\}\s*", re.ASCII
)


def lone_name(source: str) -> str:
    """Return the name that a template passes on unchanged, as ``{{ x | raw }}`` does, or ''."""
    found = _LONE_NAME.fullmatch(source)
    return found["name"] if found else ""


def follow_origin(value: MarkedValue, scope: Scope, hops: int) -> MarkedValue:
    """Return the value that a one-name template refers to, as written, or the value itself."""
    name = lone_name(value.data) if isinstance(value.data, str) and not value.literal else ""
    return (name and hops and scope.origin(name, hops - 1)) or value


def origin_of_item(value: MarkedValue, index: int) -> MarkedValue:
    """Return one item of a list as written, or the value itself if it is not written as a list."""
    items = value.data if isinstance(value.data, list) else []
    return items[index] if index < len(items) else value


UNAVAILABLE_NAMES = {
    "app": "the run has no app; select one with `--app NAME`",
    "item": "`item` is available only in a loop",
    "result": "`result` is available only in changed_when and failed_when of its own step",
}


CONTROLLER_NAMES = "no host's text"
"""Key of the results that holds the names whose values do not depend on host output.

No template can use this name.
"""


class MissingResult:
    """A result that was never produced; evaluates to None, as does every attribute of it."""

    def __getattr__(self, name: str) -> None:
        """Return None for every attribute except special ones."""
        if name.startswith("__"):
            raise AttributeError(name)

    def __bool__(self) -> bool:
        """Return False."""
        return False


MISSING_RESULT = MissingResult()
_MAX_DEPTH = 40


class ScopePosition:
    """The point in a host's plan or run at which templates are rendered.

    - ``results``: the results known so far.
    - ``registered``: names that earlier steps register: templates wait for them instead of looking
      up a variable. The numbers are those steps of the current task; none for an earlier task.
    - ``result_reads``: counts reads of results; a value that depends on one must not be cached.
    - ``no_more_results``: no result is pending any more. Then the names in ``missing_is_none`` are
      None, and the others have the value that they would have without the steps.
    - ``awaited_hosts``: names of other hosts that were waited for.
    - ``via_hosts``: the chain of other hosts' names through which this scope was reached.
    - ``set_names``: the registered names that `set` assigns; their values may have any type.
    - ``returned_fields``: the values that modules return, with their meanings, by the registered
      name.
    - ``controller_names``: names whose values do not depend on the output of any host.
    - ``host_text_reads``: counts reads of all other names.
    - ``untainted_names``: pending names whose values will not depend on the output of any host,
      according to the names in their templates.
    """

    __slots__ = (
        "awaited_hosts",
        "controller_names",
        "host_text_reads",
        "missing_is_none",
        "no_more_results",
        "registered",
        "result_reads",
        "results",
        "returned_fields",
        "set_names",
        "untainted_names",
        "via_hosts",
    )

    def __init__(self) -> None:
        """Start with no results."""
        self.via_hosts: tuple[str, ...] = ()
        self.awaited_hosts: set[str] = set()
        self.missing_is_none: frozenset[str] = frozenset()
        self.set_names: frozenset[str] = frozenset()
        self.returned_fields: Mapping[str, Mapping[str, str]] = {}
        self.results: ResultsByName = {}
        self.registered: Mapping[str, tuple[int, ...]] = {}
        self.controller_names: frozenset[str] = frozenset()
        self.untainted_names: frozenset[str] = frozenset()
        self.no_more_results = False
        self.host_text_reads = self.result_reads = 0

    def count_host_text(self) -> None:
        """Count a read of a value that came from a host or was derived from one."""
        self.result_reads += 1
        self.host_text_reads += 1


class FileScope(Scope, Protocol):
    """The scope of a task file that has ``vars``."""

    def fetch_secrets(self, names: Iterable[str]) -> None:
        """Fetch the secrets that these names lead to now."""

    def secrets_behind(self, names: Iterable[str], visited: set[str]) -> Iterator[str]:
        """Yield the names of the secrets that these names lead to."""


class HostScope:
    """The names of one host, except the params of a task file. Not thread-safe.

    ``file_vars`` are the ``vars`` of task files; the host's own variables override them, and
    templates in them use the scope of their file (``file_scopes``). ``step_vars`` are those of
    steps: they replace the host's variables, except ``extra_vars``, and use the scope of their step
    (``step_scopes``). ``app`` is the app of the run; ``apps`` are the apps of the stage if the run
    has none. ``become`` and ``become_user`` are the
    host's, as in ``ConnectionOptions``.
    """

    __slots__ = (
        *(
            "_fetched_names",
            "_cache",
            "_names_being_made",
            "app",
            "apps",
            "become",
            "become_user",
            "facts",
            "project_files",
            "file_scopes",
            "objects",
            "position",
        ),
        *("secrets", "extra_vars", "templates", "vars", "file_vars", "step_vars", "step_scopes"),
    )

    def __init__(
        self,
        variables: Values,
        extra_vars: Values,
        objects: Mapping[str, object],
        templates: TemplateCache,
        *,
        file_vars: Values | None = None,
        file_scopes: Mapping[str, FileScope] | None = None,
        step_vars: Values | None = None,
        step_scopes: Mapping[str, FileScope] | None = None,
        position: ScopePosition | None = None,
        project_files: ProjectFiles | None = None,
        secrets: SecretResolver | None = None,
        apps: Collection[App] = (),
        app: App | None = None,
        become: bool = False,
        become_user: str | None = None,
        facts: FactSources | None = None,
    ) -> None:
        """Create a scope of these variables; ``extra_vars`` (``-e``) override all others."""
        self.facts = facts or FactSources()
        self.apps, self.app, self.become, self.become_user = apps, app, become, become_user
        self.project_files = project_files or ProjectFiles()
        self.secrets = secrets or SecretResolver()
        self.vars, self.extra_vars, self.objects = variables, extra_vars, objects
        self.templates = templates
        self.file_vars, self.file_scopes, self.position = (
            file_vars or {},
            file_scopes or {},
            position or ScopePosition(),
        )
        self.step_vars, self.step_scopes = step_vars or {}, step_scopes or {}
        self._cache: dict[str, object] = {}
        self._names_being_made: list[tuple[object, str]] = []
        self._fetched_names: set[str] = set()

    def with_file_vars(self, file_vars: Values, file: FileScope) -> HostScope:
        """Return a copy of this scope with a file's ``vars`` as its lowest layer."""
        return self._copy(
            {**self.file_vars, **file_vars},
            {**self.file_scopes, **dict.fromkeys(file_vars, file)},
            self.step_vars,
            self.step_scopes,
        )

    def with_step_vars(self, step_vars: Values, step: FileScope) -> HostScope:
        """Return a copy of this scope with the ``vars`` of a step, which override earlier ones."""
        return self._copy(
            self.file_vars,
            self.file_scopes,
            {**self.step_vars, **step_vars},
            {**self.step_scopes, **dict.fromkeys(step_vars, step)},
        )

    def _copy(
        self,
        file_vars: Values,
        file_scopes: Mapping[str, FileScope],
        step_vars: Values,
        step_scopes: Mapping[str, FileScope],
    ) -> HostScope:
        return HostScope(
            self.vars,
            self.extra_vars,
            self.objects,
            self.templates,
            file_vars=file_vars,
            file_scopes=file_scopes,
            step_vars=step_vars,
            step_scopes=step_scopes,
            position=self.position,
            project_files=self.project_files,
            secrets=self.secrets,
            apps=self.apps,
            app=self.app,
            become=self.become,
            become_user=self.become_user,
            facts=self.facts,
        )

    def resolve(self, name: str) -> object:
        """Return the value of a name.

        Raises KeyError if the name is undefined, ResultPending if a step registers it, and
        DefinitionError.
        """
        if name == FACTS_RESULT:
            self.position.count_host_text()
            return FactsView(self.facts, self._known_facts)
        if name in self.position.results:
            self.position.result_reads += 1
            self.position.host_text_reads += name not in self.position.controller_names
            return self.position.results[name]
        if name in self.position.registered:
            if not self.position.no_more_results:
                raise ResultPending({name})
            self.position.result_reads += 1
            if name in self.position.missing_is_none:
                return MISSING_RESULT
        if name in self.objects:
            return self.objects[name]
        if name in self._cache:
            return self._cache[name]
        if name in UNAVAILABLE_NAMES:
            raise DefinitionError(
                Diagnostic(f"'{name}' is not available here: {UNAVAILABLE_NAMES[name]}")
            )
        return self.resolve_variable(name)

    def _known_facts(self) -> Mapping[str, object]:
        """Return the facts of the host that are known at this point."""
        known = self.position.results.get(FACTS_RESULT)
        return known if isinstance(known, Mapping) else {}

    def resolve_variable(self, name: str) -> object:
        """Return the value of a variable, whatever else has its name.

        Raises as ``resolve`` does.
        """
        if name in self._cache:
            return self._cache[name]
        value = self.written_value(name)
        if value is None:
            raise KeyError(name)
        return self.without_cycles(
            (None, name), value.mark, lambda: self._render_variable(name, value)
        )

    def resolve_from_vars(self, name: str) -> object:
        """Return `vars[name]`: like ``resolve``, but a variable if a built-in object has the name.

        Raises as ``resolve`` does.
        """
        is_object = name in self.objects or name in RESERVED_NAMES
        return self.resolve_variable(name) if is_object else self.resolve(name)

    def command_value(self, name: str) -> CommandText | list[CommandText] | None:
        """Return a variable that is a command, or a list of commands.

        Raises DefinitionError, also if a step registers the name.
        """
        value = self.written_value(name)
        if value is None or self.is_registered(name):
            message = f"'{name}' is registered by a step, and text from a host must not be run"
            hint = "write the command, with `{{ … }}` in it"
            raise DefinitionError(Diagnostic(message, None, hint))
        value_scope = self._scope_of_value(name, value)
        template = self.templates.command(value)
        found: CommandText | list[CommandText] | None = self.without_cycles(
            (None, name), value.mark, lambda: template.render(value_scope)
        )
        return found

    def without_cycles(
        self, key: tuple[object, str], mark: SourcePosition, make: Callable[[], Any]
    ) -> Any:
        """Return ``make()``; raise DefinitionError if it leads back to itself.

        ``key``: the scope of the name, and the name.
        """
        if key in self._names_being_made:
            circle = [
                name for _, name in self._names_being_made[self._names_being_made.index(key) :]
            ]
            message = f"values that depend on each other: {' → '.join((*circle, key[1]))}"
            raise DefinitionError(Diagnostic(message, mark))
        if len(self._names_being_made) > _MAX_DEPTH:
            message = f"values that are nested more than {_MAX_DEPTH} levels deep"
            raise DefinitionError(Diagnostic(message, mark))
        self._names_being_made.append(key)
        try:
            return make()
        finally:
            self._names_being_made.pop()

    def is_being_made(self, key: tuple[object, str]) -> bool:
        """Return True if the value of this key is being made by ``without_cycles``."""
        return key in self._names_being_made

    def _render_variable(self, name: str, value: MarkedValue) -> object:
        before = self.position.result_reads, self.secrets.stand_in_reads
        template = self.templates.value(value)
        check_fields(template.fields, facts=self.facts.fields)
        rendered = template.render(self._scope_of_value(name, value))
        if value.masked:
            self.secrets.hide_texts(value.masked, rendered)
        if not self.from_host(name):
            rendered = expand_home_paths(rendered)
        if (self.position.result_reads, self.secrets.stand_in_reads) == before:
            self._cache[name] = rendered
        return rendered

    @property
    def project_folder(self) -> str:
        """Return the project's folder, for paths in templates; '' without a project."""
        return self.project_files.folder

    @property
    def host_text_reads(self) -> int:
        """Return how often a value derived from host output was read."""
        return self.position.host_text_reads

    @host_text_reads.setter
    def host_text_reads(self, count: int) -> None:
        """Set the counter, after a read that does not count."""
        self.position.host_text_reads = count

    def written_value(self, name: str) -> MarkedValue | None:
        """Return a variable as written, with layers of higher precedence merged over the others."""
        if name in self.step_vars and name not in self.extra_vars:
            return self.step_vars[name]
        written = [
            v for v in (s.get(name) for s in (self.file_vars, self.vars, self.extra_vars)) if v
        ]
        return reduce(merge_values, written) if written else None

    def template_behind(self, name: str) -> tuple[ValueTemplate, Scope] | None:
        """Return the template of a variable and the scope that it uses.

        Return None if the name is not a variable.
        """
        value = (
            None if name in self.objects or self.is_registered(name) else self.written_value(name)
        )
        if value is None:
            return None
        return self.templates.value(value), self._scope_of_value(name, value)

    def _scope_of_value(self, name: str, value: MarkedValue) -> FileScope:
        """Return the scope that the templates in the value use."""
        if value is self.step_vars.get(name):
            return self.step_scopes[name]
        return self.file_scopes[name] if value is self.file_vars.get(name) else self

    def from_host(self, name: str) -> bool:
        """Return True if the name can lead to text from a host."""
        position = self.position
        if name in position.controller_names or (
            name in position.untainted_names and name not in position.results
        ):
            return False
        of_hosts = ("facts", "hosts", "hostvars", "result", RENDERED_FILE)
        if self.is_registered(name) or name in of_hosts:
            return True
        if name in self.objects or (None, name) in self._names_being_made:
            return False
        value = self.written_value(name)
        if value is None:
            return False
        template = self.templates.value(value)
        names, scope = template.sources, self._scope_of_value(name, value)
        return bool(
            self.without_cycles((None, name), value.mark, lambda: any(map(scope.from_host, names)))
        )

    def fetch_secrets(self, names: Iterable[str]) -> None:
        """Fetch the secrets that these names lead to now, and not in the middle of the run."""
        for name in names:
            value = (
                None
                if name in self._fetched_names or name in self.objects
                else self.written_value(name)
            )
            if value is None or self.secrets.fetch_secret is None:
                continue
            self._fetched_names.add(name)
            self.fetch_value_secrets(value, self._scope_of_value(name, value))

    def fetch_value_secrets(self, value: MarkedValue, scope: FileScope) -> None:
        """Fetch the secrets in a value, and those that its templates lead to in ``scope``."""
        if self.secrets.fetch_secret is None:
            return
        for secret in _secrets_in(value):
            self.secrets.resolve_secret(secret)
        template = self.templates.value(value)
        scope.fetch_secrets(template.names | template.optional)

    def secrets_behind(
        self, names: Iterable[str], visited: set[str] | None = None
    ) -> Iterator[str]:
        """Yield the names of the secrets that these names lead to.

        Yield all known secrets for a name that cannot be traced.
        """
        visited = set() if visited is None else visited
        for name in names:
            if name in visited:
                continue
            visited.add(name)
            value = self.written_value(name)
            if self.is_registered(name) or name in self.objects or value is None:
                yield from self.secrets.masker.secret_names()
                continue
            yield from secret_names_in(value)
            template = self.templates.value(value)
            inner = template.names | template.optional
            yield from self._scope_of_value(name, value).secrets_behind(inner, visited)

    def is_registered(self, name: str) -> bool:
        """Return True if an earlier step registers the name."""
        return name in self.position.registered or name in self.position.results

    def names(self) -> Iterable[str]:
        """Return every known name."""
        position = self.position
        registered = {*position.results, *position.registered}
        variables = {*self.file_vars, *self.vars, *self.step_vars, *self.extra_vars}
        return {*self.objects, *registered, *variables, "facts"}

    def hint(self, name: str) -> str:
        """Return a hint for a name that does not exist, or ''."""
        apps = [app.name for app in self.apps if app.sets_variable(name)]
        if apps:
            others = f" (or {', '.join(apps[1:])})" if apps[1:] else ""
            return f"give `--app {apps[0]}`{others}: it is a variable of that app"
        return ansible.VARIABLE_HINTS.get(name, "") or suggest_nearest(name, self.names())

    def origin(self, name: str, hops: int = MAX_HOPS) -> MarkedValue | None:
        """Return a variable's value as written, following at most ``hops`` other names."""
        value = (
            None if self.is_registered(name) or name in self.objects else self.written_value(name)
        )
        return value and follow_origin(value, self._scope_of_value(name, value), hops)

    def awaited_names(self) -> frozenset[str]:
        """Return the names that earlier steps register on this and other hosts, and ``facts``."""
        facts = (f"{FACTS_RESULT}.{name}" for name in self.facts.names)
        position = self.position
        return frozenset((*position.registered, *position.awaited_hosts, *facts, FACTS_RESULT))

    def is_known(self, name: str) -> bool:
        """Return True if the name can be resolved, now or after its step has run."""
        known = (self.objects, self.extra_vars, self.vars, self.file_vars, self.step_vars)
        return name == "facts" or self.is_registered(name) or any(name in names for names in known)


def secret_names_in(value: MarkedValue) -> Iterator[str]:
    """Yield the names of the secrets in a value as written."""
    if value.masked:
        yield value.masked
    yield from (secret.name for secret in _secrets_in(value))


def _secrets_in(value: MarkedValue) -> Iterator[Secret]:
    """Yield the secrets in a value as written."""
    if isinstance(value.data, Secret):
        yield value.data
    elif isinstance(value.data, dict):
        for inner in value.data.values():
            yield from _secrets_in(inner)
    elif isinstance(value.data, list):
        for inner in value.data:
            yield from _secrets_in(inner)


def expand_home_paths(value: object) -> object:
    """Return the value with every text that starts with ``~/`` marked as a home path.

    In project files, ``~/`` means the home folder of the user who runs the command, anywhere in it.
    """
    if isinstance(value, str):
        return HomePath(value) if value.startswith("~/") else value
    if isinstance(value, list):
        return [expand_home_paths(item) for item in value]
    if isinstance(value, dict):
        return {key: expand_home_paths(item) for key, item in value.items()}
    return value


HOSTVARS_INDEX = "known of other hosts"
"""Key of the results under which a host has the ``HostVarsIndex`` of the task's start.

No template can use this name.
"""

OTHER_HOSTS_RESULTS = "results of other hosts"
"""Key of the results under which a host has the results of every host at the task's start.

No template can use this name. A result that is not among them was never produced.
"""


class HostVarsIndex(Struct, frozen=True):
    """For each host, the names that earlier tasks register there, and the results already known.

    ``missing_is_none``: results that were never produced are None (in a rollback).
    """

    names_by_host: Mapping[str, tuple[Iterable[str], ResultsByName]]
    missing_is_none: bool = False


def completed_results(results: Mapping[str, ResultsByName]) -> ResultsByName:
    """Return the results of every host, as an entry to add to the results of each host."""
    results_by_host = {
        host: {name: value for name, value in host_results.items() if name != OTHER_HOSTS_RESULTS}
        for host, host_results in results.items()
    }
    return {OTHER_HOSTS_RESULTS: results_by_host}


def _fact_names(names: frozenset[str]) -> str:
    """Return the names of facts for a message."""
    return ", ".join(f"the fact '{name}'" for name in sorted(names))


def hostvars_view(host: Host, scope: HostScope, position: ScopePosition) -> HostView:
    """Return the view of a host from another host's position; ``scope`` is a new scope of it."""
    index = position.results.get(HOSTVARS_INDEX, HostVarsIndex({}))
    other_results = position.results.get(OTHER_HOSTS_RESULTS)
    registered, settled = index.names_by_host.get(host.name, ((), {}))
    names = frozenset(registered)
    other_position = scope.position
    other_position.registered = {**other_position.registered, **dict.fromkeys(names, ())}
    results = {**settled, **(other_results or {}).get(host.name, {})}
    shared_entries = {
        name: position.results[name]
        for name in (HOSTVARS_INDEX, OTHER_HOSTS_RESULTS)
        if name in position.results
    }
    other_position.results = {**results, **shared_entries}
    other_position.no_more_results = other_results is not None
    other_position.missing_is_none = (
        names if index.missing_is_none and other_position.no_more_results else frozenset()
    )

    def fact_is_missing(names: frozenset[str]) -> NoReturn:
        if other_results is not None:
            message = f"{_fact_names(names)} of '{host.name}' is not known"
            raise DefinitionError(Diagnostic(f"{message}: no earlier task used it there"))
        awaited = {f"hosts['{host.name}'].{FACTS_RESULT}.{name}" for name in names}
        position.awaited_hosts |= awaited
        raise ResultPending(awaited)

    def resolve_on_host(name: str) -> object:
        path = f"hosts['{host.name}'].{name}"
        if path in position.via_hosts:
            circle = (*position.via_hosts[position.via_hosts.index(path) :], path)
            raise DefinitionError(
                Diagnostic(f"values that depend on each other: {' → '.join(circle)}")
            )
        other_position.via_hosts = (*position.via_hosts, path)
        reads_before, host_reads_before = (
            other_position.result_reads,
            other_position.host_text_reads,
        )
        try:
            value = scope.resolve(name)
            return value.with_missing(fact_is_missing) if isinstance(value, FactsView) else value
        except FactsPending as pending:
            fact_is_missing(pending.facts)
        except ResultPending as pending:
            prefix = f"hosts['{host.name}']."
            awaited = {n if n.startswith("hosts[") else prefix + n for n in pending.names}
            position.awaited_hosts |= awaited
            raise ResultPending(awaited) from None
        finally:
            position.result_reads += other_position.result_reads - reads_before
            position.host_text_reads += other_position.host_text_reads - host_reads_before

    known = {**other_position.registered, **results, "facts": None}
    every = MergedNames(known, scope.extra_vars, scope.vars)
    return host_view(host, LazyMapping(every, resolve_on_host))
