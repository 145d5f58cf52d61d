"""What several params of a file must be together: exactly one of them, or paths apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.model.value import Value
from orchestrator.plan.origins import item_of
from orchestrator.tasks.model import Rule

if TYPE_CHECKING:
    from orchestrator.plan.frame import Frame

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
