"""Where a value was written in the first place, for errors that point at it.

What a template can name on one host: the tool's objects, results, variables.

A file's own params are put before these by its frame (``frame.py``).

What templates see of the other hosts: ``hosts``.

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

from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.model import ansible
from orchestrator.model.host import App, Host
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import CommandText, HomePath, Value, Values, merge
from orchestrator.model.secret import Secret, Secrets
from orchestrator.planner.plan import Results
from orchestrator.planner.project_files import Files
from orchestrator.planner.template_objects import HostView, Lazy, check_fields, host_view
from orchestrator.templating import Scope, Waits

if TYPE_CHECKING:
    from orchestrator.templating import Templates, ValueTemplate


HOPS = 9
"""How many names are followed; values that need each other are an error elsewhere."""

_LONE = regex(
    r"\s*\{\{-?\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:(?:\||if\b)[^{}]*)?-?\}\}\s*", re.ASCII
)


def lone_name(source: str) -> str:
    """The name whose value a template gives on, as ``{{ x | raw }}`` does; '' where none does."""
    found = _LONE.fullmatch(source)
    return found["name"] if found else ""


def followed(value: Value, scope: Scope, hops: int) -> Value:
    """What the value gives on, as it was written; the value itself where it is no such template."""
    name = lone_name(value.data) if isinstance(value.data, str) and not value.literal else ""
    return (name and hops and scope.origin(name, hops - 1)) or value


def item_of(value: Value, index: int) -> Value:
    """One item of a list as written; the value itself where it is written in another way."""
    items = value.data if isinstance(value.data, list) else []
    return items[index] if index < len(items) else value


NOT_YET = {
    "app": "a run without `--app NAME` is for none",
    "item": "`item` is known only in a loop",
    "result": "`result` is known only in changed_when and failed_when of its own step",
}


OWN = "no host's text"
"""Under this name, which no template can have, results hold the names among them whose values no
host had a part in."""


class Absent:
    """A result that never came: it is none, and so is everything of it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __bool__(self) -> bool:
        return False


ABSENT = Absent()
_DEEPEST = 40


class Place:
    """Where on a host's way a template is seen from.

    ``results`` are those known by now. ``registered`` are the names that steps before this
    place register: they are waited for and not looked up; the numbers are those steps' in
    this task, none where an earlier task did it. ``reads`` counts how often a result was
    taken, since what rests on one is not to be kept. ``final``: none of them is on its way any
    more; ``lenient`` names are none then, the others what they would be without those steps.
    ``elsewhere``: what was waited for of other hosts; ``asking``: through which of their names
    one came here. ``made``: those of the registered names that `set` gives a value of any kind.
    ``own``: those whose values no host had a part in; ``heard`` counts how often another was taken.
    ``clean``: those that will be own, as far as names tell.
    """

    __slots__ = (
        "asking",
        "clean",
        "elsewhere",
        "final",
        "heard",
        "lenient",
        "made",
        "own",
        "reads",
        "registered",
        "results",
    )

    def __init__(self) -> None:
        self.asking: tuple[str, ...] = ()
        self.elsewhere: set[str] = set()
        self.lenient: frozenset[str] = frozenset()
        self.made: frozenset[str] = frozenset()
        self.results: Results = {}
        self.registered: Mapping[str, tuple[int, ...]] = {}
        self.own: frozenset[str] = frozenset()
        self.clean: frozenset[str] = frozenset()
        self.final = False
        self.heard = self.reads = 0

    def hear(self) -> None:
        """Count that a value was taken which came from a host, or was made of what did."""
        self.reads += 1
        self.heard += 1


class File(Scope, Protocol):
    """The names of a file that has ``vars``, its params among them."""

    def ask(self, names: Iterable[str]) -> None: ...

    def hidden(self, names: Iterable[str], seen: set[str]) -> Iterator[str]: ...


class HostScope:
    """The names of one host, but for the params of a file. Used by one thread at a time.

    ``weak`` are the ``vars`` of files, weaker than the host's own; what is written in one of
    them means the names of its file (``files_of``). ``app`` is the one that they are for; ``apps``
    are those of the stage, in a run that is for none of them.
    """

    __slots__ = (
        *("_asked", "_cache", "_open", "app", "apps", "files", "files_of", "objects", "place"),
        *("secrets", "strong", "templates", "vars", "weak"),
    )

    def __init__(
        self,
        variables: Values,
        strong: Values,
        objects: Mapping[str, object],
        templates: Templates,
        *,
        weak: Values | None = None,
        files_of: Mapping[str, File] | None = None,
        place: Place | None = None,
        files: Files | None = None,
        secrets: Secrets | None = None,
        apps: Collection[App] = (),
        app: App | None = None,
    ) -> None:
        self.apps, self.app = apps, app
        self.files = files or Files()
        self.secrets = secrets or Secrets()
        self.vars, self.strong, self.objects = variables, strong, objects
        self.templates = templates
        self.weak, self.files_of, self.place = weak or {}, files_of or {}, place or Place()
        self._cache: dict[str, object] = {}
        self._open: list[tuple[object, str]] = []
        self._asked: set[str] = set()

    def under(self, weak: Values, file: File) -> HostScope:
        """This scope, at the same place, with a file's ``vars`` beneath everything else."""
        return HostScope(
            self.vars,
            self.strong,
            self.objects,
            self.templates,
            weak={**self.weak, **weak},
            files_of={**self.files_of, **dict.fromkeys(weak, file)},
            place=self.place,
            files=self.files,
            secrets=self.secrets,
            apps=self.apps,
            app=self.app,
        )

    def resolve(self, name: str) -> object:
        """The value of a name; KeyError where there is none, Waits where a step will give it."""
        if name in self.place.results:
            self.place.reads += 1
            self.place.heard += name not in self.place.own
            return self.place.results[name]
        if name == "facts":
            raise Waits({name})  # gathered when the first step that names them is come to
        if name in self.place.registered:
            if not self.place.final:
                raise Waits({name})
            self.place.reads += 1
            if name in self.place.lenient:
                return ABSENT
        if name in self.objects:
            return self.objects[name]
        if name in self._cache:
            return self._cache[name]
        if name in NOT_YET:
            raise DefinitionError(Problem(f"'{name}' is not known here: {NOT_YET[name]}"))
        value = self.written(name)
        if value is None:
            raise KeyError(name)
        return self.guarded((None, name), value.mark, lambda: self._render(name, value))

    def command(self, name: str) -> CommandText | list[CommandText] | None:
        """A variable that is a command, or a list of them. Raises DefinitionError, also where a
        step gives it."""
        value = self.written(name)
        if value is None or self.awaited(name):
            what = f"'{name}' is what a step gives, and no text from a host may be run"
            raise DefinitionError(Problem(what, None, "write the command, with `{{ … }}` in it"))
        seen = self._seen_from(name, value)
        template = self.templates.command(value)
        found: CommandText | list[CommandText] | None = self.guarded(
            (None, name), value.mark, lambda: template.render(seen)
        )
        return found

    def guarded(self, key: tuple[object, str], mark: Mark, make: Callable[[], Any]) -> Any:
        """``make()``, unless making it leads back to itself. ``key``: whose name, and the name."""
        if key in self._open:
            circle = [name for _, name in self._open[self._open.index(key) :]]
            what = f"values that need each other: {' → '.join((*circle, key[1]))}"
            raise DefinitionError(Problem(what, mark))
        if len(self._open) > _DEEPEST:
            what = f"values that are made of each other more than {_DEEPEST} levels deep"
            raise DefinitionError(Problem(what, mark))
        self._open.append(key)
        try:
            return make()
        finally:
            self._open.pop()

    def making(self, key: tuple[object, str]) -> bool:
        """Return True if the value of this key is being made by `guarded`."""
        return key in self._open

    def _render(self, name: str, value: Value) -> object:
        before = self.place.reads, self.secrets.reads
        template = self.templates.value(value)
        check_fields(template.fields)
        rendered = template.render(self._seen_from(name, value))
        if not self.from_host(name):
            rendered = in_home(rendered)
        if (self.place.reads, self.secrets.reads) == before:
            self._cache[name] = rendered
        return rendered

    @property
    def heard(self) -> int:
        """How often a value was taken that a host had a part in."""
        return self.place.heard

    @heard.setter
    def heard(self, heard: int) -> None:
        self.place.heard = heard

    def written(self, name: str) -> Value | None:
        """A variable as written, the strongest over the weaker."""
        written = [v for v in (s.get(name) for s in (self.weak, self.vars, self.strong)) if v]
        return reduce(merge, written) if written else None

    def behind(self, name: str) -> tuple[ValueTemplate, Scope] | None:
        """The template that gives a variable its value, and the names that it sees; None where
        the name is no variable."""
        value = None if name in self.objects or self.awaited(name) else self.written(name)
        if value is None:
            return None
        return self.templates.value(value), self._seen_from(name, value)

    def _seen_from(self, name: str, value: Value) -> File:
        """Whose names those in the value are."""
        return self.files_of[name] if value is self.weak.get(name) else self

    def from_host(self, name: str) -> bool:
        """Whether text from a host can be reached by this name."""
        place = self.place
        if name in place.own or (name in place.clean and name not in place.results):
            return False
        if self.awaited(name) or name in ("facts", "hosts", "result"):
            return True
        if name in self.objects or (None, name) in self._open:
            return False
        value = self.written(name)
        if value is None:
            return False
        template = self.templates.value(value)
        names, scope = template.sources, self._seen_from(name, value)
        return bool(
            self.guarded((None, name), value.mark, lambda: any(map(scope.from_host, names)))
        )

    def ask(self, names: Iterable[str]) -> None:
        """Have the secrets that these names lead to fetched now, so that nothing that waits for
        a result asks for them in the middle of the run."""
        for name in names:
            value = None if name in self._asked or name in self.objects else self.written(name)
            if value is None or self.secrets.fetch is None:
                continue
            self._asked.add(name)
            for secret in _secrets(value):
                self.secrets.value(secret)
            template = self.templates.value(value)
            self._seen_from(name, value).ask(template.names | template.optional)

    def hidden(self, names: Iterable[str], seen: set[str] | None = None) -> Iterator[str]:
        """The names of the secrets that these names lead to; of all that there are, where that
        cannot be told."""
        seen = set() if seen is None else seen
        for name in names:
            if name in seen:
                continue
            seen.add(name)
            value = self.written(name)
            if self.awaited(name) or name in self.objects or value is None:
                yield from self.secrets.masks.names()
                continue
            yield from secrets_in(value)
            template = self.templates.value(value)
            inner = template.names | template.optional
            yield from self._seen_from(name, value).hidden(inner, seen)

    def awaited(self, name: str) -> bool:
        """Whether a step before this place registers the name."""
        return name in self.place.registered or name in self.place.results

    def names(self) -> Iterable[str]:
        """Every name that is known."""
        place = self.place
        awaited = {*place.results, *place.registered}
        return {*self.objects, *awaited, *self.weak, *self.vars, *self.strong, "facts"}

    def hint(self, name: str) -> str:
        """Return what to write in place of a name that does not exist, or ''."""
        apps = [app.name for app in self.apps if app.sets(name)]
        if apps:
            others = f" (or {', '.join(apps[1:])})" if apps[1:] else ""
            return f"give `--app {apps[0]}`{others}: it is a variable of that app"
        return ansible.VARIABLES.get(name, "") or nearest(name, self.names())

    def origin(self, name: str, hops: int = HOPS) -> Value | None:
        """Return what a variable stands for as it was written, over at most ``hops`` more names."""
        value = None if self.awaited(name) or name in self.objects else self.written(name)
        return value and followed(value, self._seen_from(name, value), hops)

    def known(self) -> frozenset[str]:
        """The names that steps before this place register, here and on other hosts, and what
        only the host knows."""
        return frozenset((*self.place.registered, *self.place.elsewhere, "facts"))

    def knows(self, name: str) -> bool:
        """Whether the name can be resolved, now or once its step has run."""
        known = (self.objects, self.strong, self.vars, self.weak)
        return name == "facts" or self.awaited(name) or any(name in names for names in known)


def secrets_in(value: Value) -> Iterator[str]:
    """The names of the secrets in a value as written."""
    return (secret.name for secret in _secrets(value))


def _secrets(value: Value) -> Iterator[Secret]:
    """The secrets in a value as written."""
    if isinstance(value.data, Secret):
        yield value.data
    elif isinstance(value.data, dict):
        for inner in value.data.values():
            yield from _secrets(inner)
    elif isinstance(value.data, list):
        for inner in value.data:
            yield from _secrets(inner)


def in_home(value: object) -> object:
    """The value with every text in it that begins with ``~/`` taken as a path in the home of
    whoever runs the command: so the project's files mean it, wherever in a command it stands."""
    if isinstance(value, str):
        return HomePath(value) if value.startswith("~/") else value
    if isinstance(value, list):
        return [in_home(item) for item in value]
    if isinstance(value, dict):
        return {key: in_home(item) for key, item in value.items()}
    return value


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
