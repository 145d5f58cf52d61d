"""The rule by which shell functions share variables, and what breaks it.

A shell has one set of variables, and no function that POSIX knows has any of its own. So

- a variable of a function begins with the function's name, after the file's prefix, and nobody
  else names it; it is written before it is read;
- what a function leaves for others, and what it takes from them, is declared in the comment above
  it: ``# Sets NAME…`` and ``# Reads NAME…``, each on a line of its own that ends with a full stop;
- nobody reads a variable after a call of a function that may write it without declaring so.

All that stands outside of functions in the same file may be read by its functions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from tests.library.shell_events import Body, Event, read

_DECLARED = re.compile(r"# (Sets|Reads) ([a-z0-9_ ]+)\.")
_ENVIRONMENT = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Script:
    """A file, or a part of one: ``prefix`` is what its functions' variables begin with. ``given``
    are names with a value before it begins. A ``last`` script runs alone, behind all others."""

    label: str
    text: str
    prefix: str = ""
    given: frozenset[str] = frozenset()
    last: bool = False

    @cached_property
    def body(self) -> Body:
        return read(self.text)


@dataclass(frozen=True)
class Function:
    """A function with what its comment declares; ``around`` are the functions that it is in."""

    script: Script
    body: Body
    around: tuple[Function, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.script.label}: {self.body.name}"

    @property
    def own(self) -> str:
        """What its own variables begin with."""
        return f"{self.script.prefix}{self.body.name.removeprefix(self.script.prefix)}_"

    def declared(self, what: str) -> frozenset[str]:
        found = (_DECLARED.fullmatch(line) for line in self.body.comment)
        return frozenset(n for each in found if each and each[1] == what for n in each[2].split())


class Shell:
    """Scripts that come one after the other into the same shell."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self._known: dict[str, str] = {}
        self._writes: dict[int, frozenset[str]] = {}
        self.functions: dict[str, list[Function]] = {}
        for script in scripts:
            for function in _functions(script, script.body, ()):
                self.functions.setdefault(function.body.name, []).append(function)

    def problems(self) -> list[str]:
        """What breaks the rule, with where."""
        every = [function for named in self.functions.values() for function in named]
        found = [problem for function in every for problem in self._function(function)]
        known = {name for script in self.scripts for name in script.given}
        for script in self.scripts:
            found += self._outside(script, frozenset(known))
            if not script.last:
                known |= _written(script.body)
        return found

    @cached_property
    def _owners(self) -> dict[str, str]:
        return {f.own: f.body.name for named in self.functions.values() for f in named}

    def _owner(self, name: str) -> str:
        """The function whose own variable that is, or ''."""
        if name not in self._known:
            fit = [own for own in self._owners if name.startswith(own)]
            self._known[name] = self._owners[max(fit, key=len)] if fit else ""
        return self._known[name]

    def _called(self, event: Event) -> list[Function]:
        if event.what != "call" or event.trapped:
            return []
        if "$" in event.name:  # by_$tool
            start = event.name.partition("$")[0]
            names = [name for name in self.functions if start and name.startswith(start)]
        else:
            names = [event.name] if event.name in self.functions else []
        return [function for name in names for function in self.functions[name]]

    def _may_set(self, function: Function, seen: tuple[str, ...] = ()) -> frozenset[str]:
        """What a call of it may write, but for variables of its own, and of those that it calls.
        Raises ValueError for a function that calls itself: its variables would be one set."""
        name = function.body.name
        if id(function) in self._writes:
            return self._writes[id(function)]
        if name in seen:
            raise ValueError(f"{function.where} calls itself, by way of {' '.join(seen)}")
        found = {e.name for e in function.body.events if e.what == "set" and not e.trapped}
        found = {name for name in found if not self._owner(name) and not _outer(name)}
        for event in function.body.events:
            for called in self._called(event):
                found |= self._may_set(called, (*seen, name))
        self._writes[id(function)] = frozenset(found)
        return self._writes[id(function)]

    def _function(self, function: Function) -> Iterator[str]:
        sets, reads = function.declared("Sets"), function.declared("Reads")
        names = {function.body.name, *(each.body.name for each in function.around)}
        yield from self._names(function.where, function.body, names)
        for event in function.body.events:
            alone = self._owner(event.name) in names
            if event.what == "set" and not alone and event.name not in sets | _free(event.name):
                yield f"{function.where} writes {event.name} and does not declare it"
        for name in sorted(sets - self._may_set(function)):
            yield f"{function.where} declares that it sets {name}, and never does"
        known = reads.union(*(script.given for script in self.scripts))
        for script in self.scripts:
            known |= frozenset() if script.last else _written(script.body)
        for each in function.around:
            known |= each.declared("Reads") | self._may_set(each) | _written(each.body)
        needed: set[str] = set()
        yield from self._flow(function.where, function.body, known, needed)
        for name in sorted(reads - needed):
            yield f"{function.where} declares that it reads {name}, and never does"

    def _outside(self, script: Script, known: frozenset[str]) -> Iterator[str]:
        yield from self._names(script.label, script.body, frozenset())
        if script.last:
            for event in script.body.events:
                taken = any(event.name.startswith(s.prefix) for s in self.scripts if s.prefix)
                if event.what == "set" and taken:
                    yield f"{script.label} writes {event.name}, which only functions may"
        yield from self._flow(script.label, script.body, known, set())

    def _names(self, where: str, body: Body, names: Collection[str]) -> Iterator[str]:
        """The variables of functions that it names, but for those of ``names``."""
        for event in body.events:
            if event.what not in ("get", "set"):
                continue
            owner = self._owner(event.name)
            if owner and owner not in names:
                yield f"{where} names {event.name}, a variable of {owner} alone"

    def _flow(
        self, where: str, body: Body, known: frozenset[str], needed: set[str]
    ) -> Iterator[str]:
        """What is read before anybody wrote it, or after somebody wrote something else into it.
        ``needed`` gets the names that were there before."""
        state: dict[str, str] = {}
        for event in _twice(body.events):
            if event.trapped:
                continue
            for called in self._called(event):
                for name in sorted(called.declared("Reads")):
                    yield from _look(f"{where} calls {called.body.name}, which", name, state, known)
                    needed |= {name} if name not in state else set()
            if event.what == "get" and not _outer(event.name):
                yield from _look(where, event.name, state, known)
                needed |= {event.name} if event.name not in state else set()
            elif event.what == "set":
                state[event.name] = ""
            for called in self._called(event):
                declared = called.declared("Sets")
                for name in self._may_set(called):
                    state[name] = "" if name in declared else called.body.name


def _functions(script: Script, body: Body, around: tuple[Function, ...]) -> Iterator[Function]:
    for inner in body.inner:
        function = Function(script, inner, around)
        yield function
        yield from _functions(script, inner, (*around, function))


def _look(where: str, name: str, state: Mapping[str, str], known: frozenset[str]) -> Iterator[str]:
    if name in state:
        if state[name]:
            yield f"{where} reads {name} after {state[name]}, which may have written it"
    elif name not in known:
        yield f"{where} reads {name}, which nobody has written"


def _twice(events: list[Event]) -> Iterator[Event]:
    """The events as they come, those of a loop a second time as well."""
    begun: list[int] = []
    for number, event in enumerate(events):
        yield event
        if event.what == "loop":
            begun.append(number)
        elif event.what == "done" and begun:
            yield from (e for e in events[begun.pop() : number] if e.what not in ("loop", "done"))


def _written(body: Body) -> frozenset[str]:
    return frozenset(event.name for event in body.events if event.what == "set")


def _outer(name: str) -> bool:
    """Whether it is a variable of the environment, or of the shell."""
    return _ENVIRONMENT.fullmatch(name) is not None


def _free(name: str) -> frozenset[str]:
    return frozenset({name}) if _outer(name) else frozenset()
