"""The names of one file on one host: its params, hiding the host's variables of that name.

What several params of a file must be together: exactly one of them, or paths apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from itertools import pairwise
from typing import Any, TypeAlias

from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.model.marked_value import CommandText, Value, Values
from orchestrator.model.secret import Secrets
from orchestrator.planner.host_scope import HOPS, HostScope, followed, item_of, secrets_in
from orchestrator.planner.template_objects import Named
from orchestrator.playbook.model import ArgumentTemplate, Param, Rule, Task
from orchestrator.playbook.param_types import ItemError, convert
from orchestrator.templating import Scope, Waits

COMMAND_LINE = Mark("<command line>")

Argument: TypeAlias = "str | tuple[ArgumentTemplate, Scope]"
"""Text from the command line, or a written value with the scope it is seen from."""


class Frame:
    """A file's scope. ``written`` are the arguments of its call, seen from ``caller``.

    ``given`` are arguments from further out (command line, enclosing playbooks); None: the
    file is called as a step, and takes none. What is called so, and any module, takes no
    variables for its params, but ``defaults``, the stage's and roles' for it. ``called_at``: where
    the step stands that calls it.
    """

    __slots__ = (
        *("called_at", "caller", "defaults", "extra", "extra_heard", "extra_sources"),
        *("given", "host", "obeyed", "task", "traced", "values", "written"),
    )

    def __init__(
        self,
        task: Task,
        host: HostScope,
        *,
        written: Mapping[str, ArgumentTemplate] | None = None,
        caller: Scope | None = None,
        given: Mapping[str, Argument] | None = None,
        defaults: Values | None = None,
        called_at: Mark | None = None,
    ) -> None:
        self.task, self.called_at = task, called_at
        self.host = host.under(task.vars, self) if task.vars else host
        self.written, self.caller, self.given = written or {}, caller or host, given
        self.defaults: Values = defaults or {}
        self.values: dict[str, object] = {}
        self.obeyed: set[Rule] = set()
        self.extra: Mapping[str, object] = {}
        self.extra_sources: frozenset[str] = frozenset()
        self.extra_heard = False
        self.traced: list[str] = []  # the params that `from_host` is on its way through

    def bound(
        self, extra: Mapping[str, object], sources: frozenset[str], *, heard: bool = False
    ) -> Frame:
        """This frame with more names; ``sources`` are those that their values were made of, and
        ``heard``: a host had a part in them."""
        frame = copy(self)
        frame.extra_heard = self.extra_heard or heard
        frame.extra = {**self.extra, **extra}
        frame.extra_sources = self.extra_sources | sources
        return frame

    @property
    def secrets(self) -> Secrets:
        """Those of the run."""
        return self.host.secrets

    @property
    def heard(self) -> int:
        """How often a value was taken that a host had a part in."""
        return self.host.place.heard

    @heard.setter
    def heard(self, heard: int) -> None:
        self.host.place.heard = heard

    def resolve(self, name: str) -> object:
        """A param's value in its type, ``task``, or whatever the host knows by that name."""
        if name in self.extra:
            if self.extra_heard:
                self.host.place.hear()
            return self.extra[name]
        param = self.task.params.get(name)
        if param is None:
            if name == "task":
                return Named(self.task.name, self.task.desc)
            return self.host.resolve(name)
        if name not in self.values:
            place = self.host.place
            reads, heard = (place.reads, self.secrets.reads), place.heard
            value = self.host.guarded((self, name), param.mark, lambda: self._value(param))
            if param.type == "file" and place.heard != heard:
                what = f"param '{name}' of task '{self.task.name}' is made of text from a host"
                what += ", which could name any file of this machine"
                raise DefinitionError(Problem(what, self._given_at(param)))
            if (place.reads, self.secrets.reads) == reads:
                self.values[name] = value
            for rule in self.task.rules:
                if name in rule.names:
                    self.obey(rule)
            return value
        return self.values[name]

    def behind(self, name: str) -> tuple[ArgumentTemplate, Scope] | None:
        """The template that gives a name its value, and the names that it sees; None where there
        is none: the name is the tool's, or given on the command line."""
        if name in self.extra:
            return None
        param = self.task.params.get(name)
        if param is None:
            return self.host.behind(name)
        if name in self.written:
            return self.written[name], self.caller
        if self.given is not None and name in self.given:
            given = self.given[name]
            return None if isinstance(given, str) else given
        if not self.called and (found := self.host.behind(name)) is not None:
            return found
        return None if param.default is None else (param.default, self)

    def obey(self, rule: Rule) -> None:
        """Hold a rule against the params that it is for, as far as all of them are known. Raises
        DefinitionError."""
        if rule in self.obeyed or any(self.host.making((self, name)) for name in rule.names):
            return  # what is being made comes to it at its end
        self.obeyed.add(rule)
        known = False
        try:
            values: dict[str, object] = {name: self.resolve(name) for name in rule.names}
            hold(rule, values, self)
            known = all(name in self.values for name in rule.names)
        except Waits:
            pass
        finally:
            if not known:
                self.obeyed.discard(rule)

    def _given_at(self, param: Param) -> Mark:
        written = self.written.get(param.name)
        return written.mark if written is not None else param.mark

    def _value(self, param: Param) -> object:
        """The first of: written, given, variable (default of module), default."""
        name = param.name
        if name in self.written:
            template = self.written[name]
            return self._typed(param, template.render(self.caller), template.mark)
        if self.given is not None and name in self.given:
            return self._argument(param, self.given[name])
        if self._takes_variable(name) and (found := self.host.written(name)) is not None:
            of_host = self.host.command if param.runs else self.host.resolve
            return self._typed(param, of_host(name), found.mark)
        if self.called and name in self.defaults:
            return self._typed(param, self._default(param), self.defaults[name].mark)
        if param.default is not None:
            return self._typed(param, param.default.render(self), param.default.mark)
        if param.required:
            raise DefinitionError(self._missing(param))
        return None

    def _missing(self, param: Param) -> Problem:
        what = f"task '{self.task.name}' needs a value for its param '{param.name}'"
        if self.given is None:
            return Problem(what, self.called_at or param.mark, f"write {param.name}: …")
        if self.host.app is None:
            hint = self.host.hint(param.name)
            return Problem(
                what, param.mark, hint if "--app" in hint else f"give it as {param.name}=…"
            )
        what = f"app '{self.host.app.name}' has no {param.name}, and {what}"
        return Problem(what, self.host.app.mark, f"write `{param.name}: …` among its `vars`")

    @property
    def called(self) -> bool:
        """Whether its params take no variables: it is a module, or called as a step."""
        return self.given is None or self.task.module is not None

    def _takes_variable(self, name: str) -> bool:
        """Return True if the param is not given here, and is a variable's."""
        given = name in self.written or (self.given is not None and name in self.given)
        return not (given or self.called) and self.host.written(name) is not None

    def handed_on(self) -> dict[str, Argument]:
        """What the tasks in this playbook are given, as far as they declare it."""
        written = {str(name): (value, self.caller) for name, value in self.written.items()}
        return {**(self.given or {}), **written}

    def _argument(self, param: Param, given: Argument) -> object:
        if isinstance(given, str):
            text = CommandText(given) if param.type == "command" else given
            return self._typed(param, text, COMMAND_LINE, typed=False)
        template, scope = given
        return self._typed(param, template.render(scope), template.mark)

    def _default(self, param: Param) -> object:
        templates, value = self.host.templates, self.defaults[param.name]
        compiled = templates.command if param.runs else templates.value
        return compiled(value).render(self.host)

    def _typed(self, param: Param, value: Any, mark: Mark, typed: bool = True) -> object:
        try:
            found = convert(param, value, typed=typed)
            if param.secret:
                self.secrets.hide(param.name, found, mark)
            if param.type == "file" and found is not None:
                return self.host.files.find(found, mark)
            return found
        except ValueError as error:
            why = "is a secret, and not of its type" if param.secret else str(error)
            what = f"'{param.name}' {why}"
            if not self._takes_variable(param.name):
                what = f"param '{param.name}' of task '{self.task.name}' {why}"
            written = self.origin(param.name)
            if written is not None and isinstance(error, ItemError):
                written = item_of(written, error.index)
            raise DefinitionError(Problem(what, written.mark if written else mark)) from None

    def origin(self, name: str, hops: int = HOPS) -> Value | None:
        """Return what a param, or a variable, stands for as it was written."""
        if name in self.extra:
            return self._origin_of_extra(name, hops)
        param = self.task.params.get(name)
        if param is None:
            return self.host.origin(name, hops)
        if name in self.written:
            return _origin(self.written[name], self.caller, hops)
        if self.given is not None and name in self.given:
            given = self.given[name]
            if isinstance(given, str):
                return Value(given, COMMAND_LINE, literal=True)
            return _origin(*given, hops)
        if self._takes_variable(name):
            return self.host.origin(name, hops)
        if self.called and name in self.defaults:
            return followed(self.defaults[name], self.host, hops)
        return param.written_default and followed(param.written_default, self, hops)

    def _origin_of_extra(self, name: str, hops: int) -> Value | None:
        """The item of a loop, in what that goes over."""
        sources = tuple(self.extra_sources - self.extra.keys())
        found = self.origin(sources[0], hops) if len(sources) == 1 else None
        items = found.data if found is not None and isinstance(found.data, list) else []
        return next((item for item in items if item.data == self.extra[name]), found)

    def from_host(self, name: str) -> bool:
        """Whether text from a host can be reached by this name."""
        if name in self.extra:
            if self.extra_heard:
                return True
            return any(map(self.from_host, self.extra_sources - self.extra.keys()))
        if name not in self.task.params:
            return self.host.from_host(name)
        if name in self.traced:
            return False  # a circle, which resolving it tells
        self.traced.append(name)
        try:
            return self._made_of_host_text(self.task.params[name])
        finally:
            self.traced.pop()

    def _made_of_host_text(self, param: Param) -> bool:
        """As ``_value`` finds the param's value."""
        name = param.name
        if name in self.written:
            return any_from_host(self.written[name], self.caller)
        if self.given is not None and name in self.given:
            given = self.given[name]
            return not isinstance(given, str) and any_from_host(*given)
        if not self.called and self.host.written(name) is not None:
            return self.host.from_host(name)
        if self.called and name in self.defaults:
            return any_from_host(self.host.templates.value(self.defaults[name]), self.host)
        return param.default is not None and any_from_host(param.default, self)

    def ask(self, names: Iterable[str], seen: frozenset[str] = frozenset()) -> None:
        """Have the secrets that these names lead to fetched now."""
        for name in names:
            param = self.task.params.get(name)
            if name in self.extra:
                self.ask(self.extra_sources - self.extra.keys(), seen)
            elif param is None:
                self.host.ask((name,))
            elif name in self.written:
                _ask(self.written[name], self.caller)
            elif self.given is not None and name in self.given:
                given = self.given[name]
                if not isinstance(given, str):
                    _ask(*given)
            elif not self.called:
                self.host.ask((name,))
            if param is not None and param.default is not None and name not in seen:
                self.ask(param.default.names | param.default.optional, seen | {name})

    def hidden(self, names: Iterable[str], seen: set[str] | None = None) -> Iterator[str]:
        """The names of the secrets that these names lead to."""
        seen = set() if seen is None else seen
        for name in names:
            param = self.task.params.get(name)
            if name in self.extra:
                yield from self.hidden(self.extra_sources - self.extra.keys(), seen)
            elif param is None:
                yield from self.host.hidden((name,), seen)
            else:
                yield from self._hidden(param, seen)

    def _hidden(self, param: Param, seen: set[str]) -> Iterator[str]:
        name, given = param.name, (self.given or {}).get(param.name)
        if param.secret:
            yield name
        if name in self.written:
            yield from _hidden(self.written[name], self.caller)
        elif given is not None:
            yield from () if isinstance(given, str) else _hidden(*given)
        elif not self.called and self.host.written(name) is not None:
            yield from self.host.hidden((name,), seen)
        elif self.called and name in self.defaults:
            template = self.host.templates.value(self.defaults[name])
            yield from secrets_in(self.defaults[name])
            yield from self.host.hidden(template.names | template.optional, seen)
        elif param.default is not None and name not in seen:
            seen.add(name)
            yield from self.hidden(param.default.names | param.default.optional, seen)

    def names(self) -> Iterable[str]:
        """Every name that is known."""
        return {*self.extra, *self.task.params, "task", *self.host.names()}

    def hint(self, name: str) -> str:
        """Return what to write in place of a name that does not exist, or ''."""
        return self.host.hint(name) or nearest(name, self.names())

    def knows(self, name: str) -> bool:
        """Whether the name can be resolved, now or once its step has run."""
        own = name in self.extra or name in self.task.params or name == "task"
        return own or self.host.knows(name)

    def check(self, names: Iterable[str], mark: Mark) -> None:
        """Raise DefinitionError where one of the names can never be resolved."""
        for name in names:
            if not self.knows(name):
                raise DefinitionError(Problem(f"'{name}' is undefined", mark, self.hint(name)))


def _origin(template: ArgumentTemplate, scope: Scope, hops: int) -> Value:
    return followed(Value(template.source, template.mark), scope, hops)


def _ask(template: ArgumentTemplate, scope: Scope) -> None:
    if isinstance(scope, Frame | HostScope):
        scope.ask(template.names | template.optional)


def _hidden(template: ArgumentTemplate, scope: Scope) -> Iterator[str]:
    if isinstance(scope, Frame | HostScope):
        yield from scope.hidden(template.names | template.optional)


def any_from_host(template: ArgumentTemplate, scope: Scope) -> bool:
    """Whether text from a host can be reached by a name in the template."""
    return any(map(scope.from_host, template.sources))


_Path = tuple[str, str, Mark | None]
"""A path, the param that it is of, and where it is written."""


def hold(rule: Rule, values: Mapping[str, object], frame: Frame) -> None:
    """Return if the values obey the rule. Raises DefinitionError where they do not."""
    problem = _RULES[rule.kind](rule, values, frame)
    if problem is not None:
        raise DefinitionError(problem)


def _one_of(rule: Rule, values: Mapping[str, object], frame: Frame) -> Problem | None:
    given = [name for name in rule.names if values[name] not in (None, "", False, [], {})]
    if len(given) == 1:
        return None
    listed = f"{', '.join(rule.names[:-1])} or {rule.names[-1]}"
    if given:
        first, last = (frame.origin(name) for name in (given[0], given[-1]))
        what = f"{_who(frame)} has {' and '.join(given)}, of which only one can be"
        hint = f"'{given[0]}' is given at {first.mark}: drop one" if first else "drop one"
        return Problem(what, last.mark if last else rule.mark, hint)
    what = f"{_who(frame)} needs {listed}, and has none of them"
    meant = _meant(rule, frame)
    if meant is not None:
        return Problem(what, meant[0], meant[1])
    app = None if frame.called else frame.host.app
    mark = app.mark if app else next((w.mark for w in frame.written.values()), rule.mark)
    hint = "" if frame.called else frame.host.hint(rule.names[0])
    if "--app" not in hint:
        hint = "give it one of them" + (", among its `vars`" if app else "")
    return Problem(what, mark, hint)


def _meant(rule: Rule, frame: Frame) -> tuple[Mark, str] | None:
    """The variable of the app that is called almost like one of the params, with a hint."""
    app = None if frame.called else frame.host.app
    for layer in app.layers if app else ():
        for name, value in layer.vars.items():
            hint = "" if name in frame.task.params else nearest(name, rule.names)
            if hint:
                return getattr(name, "mark", value.mark), f"'{name}' is not known: {hint}"
    return None


def _disjoint(rule: Rule, values: Mapping[str, object], frame: Frame) -> Problem | None:
    paths = sorted(_paths(values, frame), key=lambda path: path[0].split("/"))
    for (one, of, mark), (other, also, place) in pairwise(paths):
        if one != other and not other.startswith(f"{one.rstrip('/')}/"):
            continue
        how = "is given twice" if one == other else f"is inside '{one}'"
        what = f"{_who(frame)}: '{other}' of {also} {how}"
        where = f"'{one}' of {of}" + (f" is at {mark}" if mark else "")
        return Problem(what, place or rule.mark, f"{where}: drop one of them")
    return None


def _paths(values: Mapping[str, object], frame: Frame) -> Iterator[_Path]:
    for name, value in values.items():
        written: Value | None = frame.origin(name)
        for index, path in enumerate(value if isinstance(value, list) else [value]):
            if path is not None:
                yield str(path), name, item_of(written, index).mark if written else None


def _who(frame: Frame) -> str:
    app = None if frame.called else frame.host.app
    return f"app '{app.name}'" if app else f"task '{frame.task.name}'"


_RULES = {"one_of": _one_of, "disjoint": _disjoint}
