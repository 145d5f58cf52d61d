"""Where a value was written in the first place, for errors that point at it.

What a template can name on one host: the tool's objects, results, variables.

A file's own params are put before these by its frame (``frame.py``).

What templates see of the other hosts: ``names_by_host``.

``hosts['web1'].x`` is, as for `x` on web1 itself, what a task registered or set there under that
name, else its variable: but only results of tasks that ended before the one at hand began.
``name``, ``address``, ``roles`` and ``vars`` are the host's own; ``hosts['web1'].vars.x`` is `x`
whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.model import ansible
from orchestrator.model.host import App, Host
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import CommandText, HomePath, MarkedValue, Values, merge_values
from orchestrator.model.secret import Secret, SecretResolver
from orchestrator.planner.plan import ResultsByName
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.template_objects import HostView, LazyMapping, check_fields, host_view
from orchestrator.templating import ResultPending, Scope

if TYPE_CHECKING:
    from orchestrator.templating import TemplateCache, ValueTemplate


MAX_HOPS = 9
"""How many names are followed; values that need each other are an error elsewhere."""

_LONE_NAME = lazy_regex(
    r"\s*\{\{-?\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:(?:\||if\b)[^{}]*)?-?\}\}\s*", re.ASCII
)


def lone_name(source: str) -> str:
    """The name whose value a template gives on, as ``{{ x | raw }}`` does; '' where none does."""
    found = _LONE_NAME.fullmatch(source)
    return found["name"] if found else ""


def follow_origin(value: MarkedValue, scope: Scope, hops: int) -> MarkedValue:
    """What the value gives on, as it was written; the value itself where it is no such template."""
    name = lone_name(value.data) if isinstance(value.data, str) and not value.literal else ""
    return (name and hops and scope.origin(name, hops - 1)) or value


def origin_of_item(value: MarkedValue, index: int) -> MarkedValue:
    """One item of a list as written; the value itself where it is written in another way."""
    items = value.data if isinstance(value.data, list) else []
    return items[index] if index < len(items) else value


UNAVAILABLE_NAMES = {
    "app": "a run without `--app NAME` is for none",
    "item": "`item` is known only in a loop",
    "result": "`result` is known only in changed_when and failed_when of its own step",
}


CONTROLLER_NAMES = "no host's text"
"""Under this name, which no template can have, results hold the names among them whose values no
host had a part in."""


class MissingResult:
    """A result that never came: it is none, and so is everything of it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __bool__(self) -> bool:
        return False


MISSING_RESULT = MissingResult()
_MAX_DEPTH = 40


class ScopePosition:
    """Where on a host's way a template is seen from.

    ``results`` are those known by now. ``registered`` are the names that steps before this
    place register: they are waited for and not looked up; the numbers are those steps' in
    this task, none where an earlier task did it. ``result_reads`` counts how often a result was
    taken, since what rests on one is not to be kept. ``no_more_results``: none of them is on its way any
    more; ``missing_is_none`` names are none then, the others what they would be without those steps.
    ``awaited_hosts``: what was waited for of other hosts; ``via_hosts``: through which of their names
    one came here. ``set_names``: those of the registered names that `set` gives a value of any kind.
    ``controller_names``: those whose values no host had a part in; ``heard`` counts how often another was taken.
    ``untainted_names``: those that will be own, as far as names tell.
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
        "set_names",
        "untainted_names",
        "via_hosts",
    )

    def __init__(self) -> None:
        self.via_hosts: tuple[str, ...] = ()
        self.awaited_hosts: set[str] = set()
        self.missing_is_none: frozenset[str] = frozenset()
        self.set_names: frozenset[str] = frozenset()
        self.results: ResultsByName = {}
        self.registered: Mapping[str, tuple[int, ...]] = {}
        self.controller_names: frozenset[str] = frozenset()
        self.untainted_names: frozenset[str] = frozenset()
        self.no_more_results = False
        self.host_text_reads = self.result_reads = 0

    def count_host_text(self) -> None:
        """Count that a value was taken which came from a host, or was made of what did."""
        self.result_reads += 1
        self.host_text_reads += 1


class FileScope(Scope, Protocol):
    """The names of a file that has ``vars``, its params among them."""

    def fetch_secrets(self, names: Iterable[str]) -> None: ...

    def secrets_behind(self, names: Iterable[str], visited: set[str]) -> Iterator[str]: ...


class HostScope:
    """The names of one host, but for the params of a file. Used by one thread at a time.

    ``file_vars`` are the ``vars`` of files, weaker than the host's own; what is written in one of
    them means the names of its file (``file_scopes``). ``app`` is the one that they are for; ``apps``
    are those of the stage, in a run that is for none of them.
    """

    __slots__ = (
        *(
            "_fetched_names",
            "_cache",
            "_names_being_made",
            "app",
            "apps",
            "project_files",
            "file_scopes",
            "objects",
            "position",
        ),
        *("secrets", "extra_vars", "templates", "vars", "file_vars"),
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
        position: ScopePosition | None = None,
        project_files: ProjectFiles | None = None,
        secrets: SecretResolver | None = None,
        apps: Collection[App] = (),
        app: App | None = None,
    ) -> None:
        self.apps, self.app = apps, app
        self.project_files = project_files or ProjectFiles()
        self.secrets = secrets or SecretResolver()
        self.vars, self.extra_vars, self.objects = variables, extra_vars, objects
        self.templates = templates
        self.file_vars, self.file_scopes, self.position = (
            file_vars or {},
            file_scopes or {},
            position or ScopePosition(),
        )
        self._cache: dict[str, object] = {}
        self._names_being_made: list[tuple[object, str]] = []
        self._fetched_names: set[str] = set()

    def with_file_vars(self, file_vars: Values, file: FileScope) -> HostScope:
        """This scope, at the same place, with a file's ``vars`` beneath everything else."""
        return HostScope(
            self.vars,
            self.extra_vars,
            self.objects,
            self.templates,
            file_vars={**self.file_vars, **file_vars},
            file_scopes={**self.file_scopes, **dict.fromkeys(file_vars, file)},
            position=self.position,
            project_files=self.project_files,
            secrets=self.secrets,
            apps=self.apps,
            app=self.app,
        )

    def resolve(self, name: str) -> object:
        """The value of a name; KeyError where there is none, ResultPending where a step will give it."""
        if name in self.position.results:
            self.position.result_reads += 1
            self.position.host_text_reads += name not in self.position.controller_names
            return self.position.results[name]
        if name == "facts":
            raise ResultPending({name})  # gathered when the first step that names them is come to
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
                Diagnostic(f"'{name}' is not known here: {UNAVAILABLE_NAMES[name]}")
            )
        value = self.written_value(name)
        if value is None:
            raise KeyError(name)
        return self.without_cycles(
            (None, name), value.mark, lambda: self._render_variable(name, value)
        )

    def command_value(self, name: str) -> CommandText | list[CommandText] | None:
        """A variable that is a command, or a list of them. Raises DefinitionError, also where a
        step gives it."""
        value = self.written_value(name)
        if value is None or self.is_registered(name):
            message = f"'{name}' is what a step gives, and no text from a host may be run"
            raise DefinitionError(
                Diagnostic(message, None, "write the command, with `{{ … }}` in it")
            )
        value_scope = self._scope_of_value(name, value)
        template = self.templates.command(value)
        found: CommandText | list[CommandText] | None = self.without_cycles(
            (None, name), value.mark, lambda: template.render(value_scope)
        )
        return found

    def without_cycles(
        self, key: tuple[object, str], mark: SourcePosition, make: Callable[[], Any]
    ) -> Any:
        """``make()``, unless making it leads back to itself. ``key``: whose name, and the name."""
        if key in self._names_being_made:
            circle = [
                name for _, name in self._names_being_made[self._names_being_made.index(key) :]
            ]
            message = f"values that need each other: {' → '.join((*circle, key[1]))}"
            raise DefinitionError(Diagnostic(message, mark))
        if len(self._names_being_made) > _MAX_DEPTH:
            message = f"values that are made of each other more than {_MAX_DEPTH} levels deep"
            raise DefinitionError(Diagnostic(message, mark))
        self._names_being_made.append(key)
        try:
            return make()
        finally:
            self._names_being_made.pop()

    def is_being_made(self, key: tuple[object, str]) -> bool:
        """Return True if the value of this key is being made by `guarded`."""
        return key in self._names_being_made

    def _render_variable(self, name: str, value: MarkedValue) -> object:
        before = self.position.result_reads, self.secrets.stand_in_reads
        template = self.templates.value(value)
        check_fields(template.fields)
        rendered = template.render(self._scope_of_value(name, value))
        if not self.from_host(name):
            rendered = expand_home_paths(rendered)
        if (self.position.result_reads, self.secrets.stand_in_reads) == before:
            self._cache[name] = rendered
        return rendered

    @property
    def host_text_reads(self) -> int:
        """How often a value was taken that a host had a part in."""
        return self.position.host_text_reads

    @host_text_reads.setter
    def host_text_reads(self, count: int) -> None:
        self.position.host_text_reads = count

    def written_value(self, name: str) -> MarkedValue | None:
        """A variable as written, the strongest over the weaker."""
        written = [
            v for v in (s.get(name) for s in (self.file_vars, self.vars, self.extra_vars)) if v
        ]
        return reduce(merge_values, written) if written else None

    def template_behind(self, name: str) -> tuple[ValueTemplate, Scope] | None:
        """The template that gives a variable its value, and the names that it sees; None where
        the name is no variable."""
        value = (
            None if name in self.objects or self.is_registered(name) else self.written_value(name)
        )
        if value is None:
            return None
        return self.templates.value(value), self._scope_of_value(name, value)

    def _scope_of_value(self, name: str, value: MarkedValue) -> FileScope:
        """Whose names those in the value are."""
        return self.file_scopes[name] if value is self.file_vars.get(name) else self

    def from_host(self, name: str) -> bool:
        """Whether text from a host can be reached by this name."""
        position = self.position
        if name in position.controller_names or (
            name in position.untainted_names and name not in position.results
        ):
            return False
        if self.is_registered(name) or name in ("facts", "hosts", "result"):
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
        """Have the secrets that these names lead to fetched now, so that nothing that waits for
        a result asks for them in the middle of the run."""
        for name in names:
            value = (
                None
                if name in self._fetched_names or name in self.objects
                else self.written_value(name)
            )
            if value is None or self.secrets.fetch_secret is None:
                continue
            self._fetched_names.add(name)
            for secret in _secrets_in(value):
                self.secrets.resolve_secret(secret)
            template = self.templates.value(value)
            self._scope_of_value(name, value).fetch_secrets(template.names | template.optional)

    def secrets_behind(
        self, names: Iterable[str], visited: set[str] | None = None
    ) -> Iterator[str]:
        """The names of the secrets that these names lead to; of all that there are, where that
        cannot be told."""
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
        """Whether a step before this place registers the name."""
        return name in self.position.registered or name in self.position.results

    def names(self) -> Iterable[str]:
        """Every name that is known."""
        position = self.position
        registered = {*position.results, *position.registered}
        return {*self.objects, *registered, *self.file_vars, *self.vars, *self.extra_vars, "facts"}

    def hint(self, name: str) -> str:
        """Return what to write in place of a name that does not exist, or ''."""
        apps = [app.name for app in self.apps if app.sets_variable(name)]
        if apps:
            others = f" (or {', '.join(apps[1:])})" if apps[1:] else ""
            return f"give `--app {apps[0]}`{others}: it is a variable of that app"
        return ansible.VARIABLE_HINTS.get(name, "") or suggest_nearest(name, self.names())

    def origin(self, name: str, hops: int = MAX_HOPS) -> MarkedValue | None:
        """Return what a variable stands for as it was written, over at most ``hops`` more names."""
        value = (
            None if self.is_registered(name) or name in self.objects else self.written_value(name)
        )
        return value and follow_origin(value, self._scope_of_value(name, value), hops)

    def awaited_names(self) -> frozenset[str]:
        """The names that steps before this place register, here and on other hosts, and what
        only the host knows."""
        return frozenset((*self.position.registered, *self.position.awaited_hosts, "facts"))

    def is_known(self, name: str) -> bool:
        """Whether the name can be resolved, now or once its step has run."""
        known = (self.objects, self.extra_vars, self.vars, self.file_vars)
        return name == "facts" or self.is_registered(name) or any(name in names for names in known)


def secret_names_in(value: MarkedValue) -> Iterator[str]:
    """The names of the secrets in a value as written."""
    return (secret.name for secret in _secrets_in(value))


def _secrets_in(value: MarkedValue) -> Iterator[Secret]:
    """The secrets in a value as written."""
    if isinstance(value.data, Secret):
        yield value.data
    elif isinstance(value.data, dict):
        for inner in value.data.values():
            yield from _secrets_in(inner)
    elif isinstance(value.data, list):
        for inner in value.data:
            yield from _secrets_in(inner)


def expand_home_paths(value: object) -> object:
    """The value with every text in it that begins with ``~/`` taken as a path in the home of
    whoever runs the command: so the project's files mean it, wherever in a command it stands."""
    if isinstance(value, str):
        return HomePath(value) if value.startswith("~/") else value
    if isinstance(value, list):
        return [expand_home_paths(item) for item in value]
    if isinstance(value, dict):
        return {key: expand_home_paths(item) for key, item in value.items()}
    return value


HOSTVARS_INDEX = "known of other hosts"
"""Under this name, which no template can have, results hold what the plan knows (``HostVarsIndex``) of
every host when a task begins."""

OTHER_HOSTS_RESULTS = "results of other hosts"
"""Under this name, which no template can have, results hold those of every host when a task
began; what is not among them never came."""


class HostVarsIndex(Struct, frozen=True):
    """Of each host the names that earlier tasks register there, and the values that are settled.
    ``missing_is_none``: names that never came are none (in a rollback)."""

    names_by_host: Mapping[str, tuple[Iterable[str], ResultsByName]]
    missing_is_none: bool = False


def completed_results(results: Mapping[str, ResultsByName]) -> ResultsByName:
    """What is to be among each host's results, out of those of every host."""
    results_by_host = {
        host: {name: value for name, value in of.items() if name != OTHER_HOSTS_RESULTS}
        for host, of in results.items()
    }
    return {OTHER_HOSTS_RESULTS: results_by_host}


def hostvars_view(host: Host, scope: HostScope, position: ScopePosition) -> HostView:
    """The host, whose new scope this is, as it is seen from another host's place."""
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

    def resolve_on_host(name: str) -> object:
        path = f"hosts['{host.name}'].{name}"
        if path in position.via_hosts:
            circle = (*position.via_hosts[position.via_hosts.index(path) :], path)
            raise DefinitionError(Diagnostic(f"values that need each other: {' → '.join(circle)}"))
        other_position.via_hosts = (*position.via_hosts, path)
        reads_before, host_reads_before = (
            other_position.result_reads,
            other_position.host_text_reads,
        )
        try:
            return scope.resolve(name)
        except ResultPending as waits:
            if other_results is not None:
                message = (
                    f"the facts of '{host.name}' are not known: no earlier task named them there"
                )
                raise DefinitionError(Diagnostic(message)) from None
            prefix = f"hosts['{host.name}']."
            awaited = {n if n.startswith("hosts[") else prefix + n for n in waits.names}
            position.awaited_hosts |= awaited
            raise ResultPending(awaited) from None
        finally:
            position.result_reads += other_position.result_reads - reads_before
            position.host_text_reads += other_position.host_text_reads - host_reads_before

    every = {
        **scope.vars,
        **scope.extra_vars,
        **other_position.registered,
        **results,
        "facts": None,
    }
    return host_view(host, LazyMapping(every, resolve_on_host))
