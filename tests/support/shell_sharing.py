"""The rule for sharing variables between shell functions, and its violations.

A shell has one set of variables, and POSIX functions have no local ones. Therefore

- a function's own variable starts with the function's name, after the file's prefix; no other
  function uses it, and it is written before it is read;
- what a function leaves for others, and what it takes from them, is declared in the comment above
  it:
  ``# Sets NAME…`` and ``# Reads NAME…``, each on its own line that ends with a full stop;
- no function reads a variable after calling a function that may write it without declaring it.

Functions may read variables that the same file sets outside of functions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from tests.support.shell_events import FunctionBody, ShellEvent, read_script

_DECLARED = re.compile(r"# (Sets|Reads) ([a-z0-9_ ]+)\.")
_ENVIRONMENT = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class ShellScript:
    """A file, or a part of one, with the ``prefix`` of its functions' variables.

    ``declared_variables`` are names that have a value before it starts. A script that ``is_last``
    runs alone, after all others.
    """

    label: str
    text: str
    prefix: str = ""
    declared_variables: frozenset[str] = frozenset()
    is_last: bool = False

    @cached_property
    def body(self) -> FunctionBody:
        return read_script(self.text)


@dataclass(frozen=True)
class ShellFunction:
    """A function with the declarations of its comment; ``enclosing`` are the functions it is in."""

    script: ShellScript
    body: FunctionBody
    enclosing: tuple[ShellFunction, ...] = ()

    @property
    def location(self) -> str:
        return f"{self.script.label}: {self.body.name}"

    @property
    def own_prefix(self) -> str:
        """Return the prefix of its own variables."""
        return f"{self.script.prefix}{self.body.name.removeprefix(self.script.prefix)}_"

    def declared_names(self, what: str) -> frozenset[str]:
        found = (_DECLARED.fullmatch(line) for line in self.body.comment)
        return frozenset(n for each in found if each and each[1] == what for n in each[2].split())


class SharedShell:
    """Scripts that are run one after the other in the same shell."""

    def __init__(self, *scripts: ShellScript) -> None:
        self.scripts = scripts
        self._known: dict[str, str] = {}
        self._writes: dict[int, frozenset[str]] = {}
        self.functions: dict[str, list[ShellFunction]] = {}
        for script in scripts:
            for function in _collect_functions(script, script.body, ()):
                self.functions.setdefault(function.body.name, []).append(function)

    def find_violations(self) -> list[str]:
        """Return the violations of the rule, with their positions."""
        every = [function for named in self.functions.values() for function in named]
        found = [problem for function in every for problem in self._check_function(function)]
        known = {name for script in self.scripts for name in script.declared_variables}
        for script in self.scripts:
            found += self._check_outside(script, frozenset(known))
            if not script.is_last:
                known |= _written_variables(script.body)
        return found

    @cached_property
    def _variable_owners(self) -> dict[str, str]:
        return {f.own_prefix: f.body.name for named in self.functions.values() for f in named}

    def _owner_of(self, name: str) -> str:
        """Return the function that owns the variable, or ''."""
        if name not in self._known:
            fit = [own for own in self._variable_owners if name.startswith(own)]
            self._known[name] = self._variable_owners[max(fit, key=len)] if fit else ""
        return self._known[name]

    def _called_functions(self, event: ShellEvent) -> list[ShellFunction]:
        if event.what != "call" or event.is_trapped:
            return []
        if "$" in event.name:  # by_$tool
            start = event.name.partition("$")[0]
            names = [name for name in self.functions if start and name.startswith(start)]
        else:
            names = [event.name] if event.name in self.functions else []
        return [function for name in names for function in self.functions[name]]

    def _may_write(self, function: ShellFunction, visited: tuple[str, ...] = ()) -> frozenset[str]:
        """Return what a call of it may write, except its own variables and those of its callees.

        Raises ValueError for a recursive function, whose calls would share one set of variables.
        """
        name = function.body.name
        if id(function) in self._writes:
            return self._writes[id(function)]
        if name in visited:
            raise ValueError(f"{function.location} calls itself, by way of {' '.join(visited)}")
        found = {e.name for e in function.body.events if e.what == "set" and not e.is_trapped}
        found = {name for name in found if not self._owner_of(name) and not _is_environment(name)}
        for event in function.body.events:
            for called in self._called_functions(event):
                found |= self._may_write(called, (*visited, name))
        self._writes[id(function)] = frozenset(found)
        return self._writes[id(function)]

    def _check_function(self, function: ShellFunction) -> Iterator[str]:
        sets, reads = function.declared_names("Sets"), function.declared_names("Reads")
        names = {function.body.name, *(each.body.name for each in function.enclosing)}
        yield from self._foreign_variables(function.location, function.body, names)
        for event in function.body.events:
            alone = self._owner_of(event.name) in names
            if event.what == "set" and not alone and event.name not in sets | _is_free(event.name):
                yield f"{function.location} writes {event.name} and does not declare it"
        for name in sorted(sets - self._may_write(function)):
            yield f"{function.location} declares that it sets {name}, and never does"
        known = reads.union(*(script.declared_variables for script in self.scripts))
        for script in self.scripts:
            known |= frozenset() if script.is_last else _written_variables(script.body)
        for each in function.enclosing:
            known |= (
                each.declared_names("Reads") | self._may_write(each) | _written_variables(each.body)
            )
        needed: set[str] = set()
        yield from self._check_flow(function.location, function.body, known, needed)
        for name in sorted(reads - needed):
            yield f"{function.location} declares that it reads {name}, and never does"

    def _check_outside(self, script: ShellScript, known: frozenset[str]) -> Iterator[str]:
        yield from self._foreign_variables(script.label, script.body, frozenset())
        if script.is_last:
            for event in script.body.events:
                taken = any(event.name.startswith(s.prefix) for s in self.scripts if s.prefix)
                if event.what == "set" and taken:
                    yield f"{script.label} writes {event.name}, which only functions may"
        yield from self._check_flow(script.label, script.body, known, set())

    def _foreign_variables(
        self, location: str, body: FunctionBody, names: Collection[str]
    ) -> Iterator[str]:
        """Return the function variables that it uses, except those of ``names``."""
        for event in body.events:
            if event.what not in ("get", "set"):
                continue
            owner = self._owner_of(event.name)
            if owner and owner not in names:
                yield f"{location} names {event.name}, a variable of {owner} alone"

    def _check_flow(
        self, location: str, body: FunctionBody, known: frozenset[str], needed: set[str]
    ) -> Iterator[str]:
        """Yield variables that are read before they are written, or after an undeclared write.

        ``needed`` collects the names that must have a value before.
        """
        state: dict[str, str] = {}
        for event in _repeat_loops(body.events):
            if event.is_trapped:
                continue
            for called in self._called_functions(event):
                for name in sorted(called.declared_names("Reads")):
                    yield from _check_read(
                        f"{location} calls {called.body.name}, which", name, state, known
                    )
                    needed |= {name} if name not in state else set()
            if event.what == "get" and not _is_environment(event.name):
                yield from _check_read(location, event.name, state, known)
                needed |= {event.name} if event.name not in state else set()
            elif event.what == "set":
                state[event.name] = ""
            for called in self._called_functions(event):
                declared = called.declared_names("Sets")
                for name in self._may_write(called):
                    state[name] = "" if name in declared else called.body.name


def _collect_functions(
    script: ShellScript, body: FunctionBody, enclosing: tuple[ShellFunction, ...]
) -> Iterator[ShellFunction]:
    for inner in body.inner:
        function = ShellFunction(script, inner, enclosing)
        yield function
        yield from _collect_functions(script, inner, (*enclosing, function))


def _check_read(
    location: str, name: str, state: Mapping[str, str], known: frozenset[str]
) -> Iterator[str]:
    if name in state:
        if state[name]:
            yield f"{location} reads {name} after {state[name]}, which may have written it"
    elif name not in known:
        yield f"{location} reads {name}, which nobody has written"


def _repeat_loops(events: list[ShellEvent]) -> Iterator[ShellEvent]:
    """Yield the events in order, those of a loop twice."""
    loop_starts: list[int] = []
    for number, event in enumerate(events):
        yield event
        if event.what == "loop":
            loop_starts.append(number)
        elif event.what == "done" and loop_starts:
            yield from (
                e for e in events[loop_starts.pop() : number] if e.what not in ("loop", "done")
            )


def _written_variables(body: FunctionBody) -> frozenset[str]:
    return frozenset(event.name for event in body.events if event.what == "set")


def _is_environment(name: str) -> bool:
    """Return True for a variable of the environment or of the shell."""
    return _ENVIRONMENT.fullmatch(name) is not None


def _is_free(name: str) -> frozenset[str]:
    return frozenset({name}) if _is_environment(name) else frozenset()
