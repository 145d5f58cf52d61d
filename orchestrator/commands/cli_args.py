"""From the words of the command line to requests and values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import DefinitionError, Mark, Problem, Problems, UsageError
from orchestrator.model.marked_value import Value, Values, merge
from orchestrator.playbook.model import Request
from orchestrator.yamlio.naming_rules import RESERVED, why_no_variable
from orchestrator.yamlio.schema import Reader
from orchestrator.yamlio.yaml_loader import load

COMMAND_LINE = Mark("<command line>")


def requests(words: Sequence[str]) -> tuple[Request, ...]:
    """Tasks with their arguments: a ``key=value`` belongs to the task before it.

    Raises UsageError where there is no task before one, or one is given twice.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            found.append((word, {}))
            continue
        if not found:
            hint = f"write the task first: orch run TASK {word}"
            raise UsageError(Problem(f"'{word}' stands before any task", None, hint))
        task, args = found[-1]
        if key in args:
            raise UsageError(Problem(f"'{key}' is given twice to task '{task}'"))
        args[key] = text
    if not found:
        raise UsageError(Problem("no task named", None, "see `orch tasks`"))
    return tuple(Request(task, args) for task, args in found)


def extra_values(items: Sequence[str]) -> Values:
    """The variables of ``-e key=value`` and ``-e @FILE``, later over earlier.

    Text given as ``key=value`` is text and never a template; a file is read like any other.
    Raises UsageError or DefinitionError.
    """
    found: dict[str, Value] = {}
    problems = Problems()
    for item in items:
        if item.startswith("@"):
            path = Path(item[1:])
            fields = Reader(problems).variables(load(path, str(path), secrets=True), str(path))
            values: dict[str, Value] = {str(key): value for key, value in fields.items()}
        else:
            values = dict([_pair(item)])
        for name, value in values.items():
            found[name] = merge(found[name], value) if name in found else value
    if problems.found:
        raise DefinitionError(*problems.found)
    return found


def _pair(item: str) -> tuple[str, Value]:
    name, equals, text = item.partition("=")
    if not equals:
        hint = "write -e NAME=VALUE, or -e @FILE"
        raise UsageError(Problem(f"'-e {item}' gives no value", None, hint))
    why, hint = why_no_variable(name)
    if name in RESERVED:
        hint = "a stage is named with -s STAGE" if name == "stage" else hint
    if why:
        raise UsageError(Problem(f"'-e {item}' cannot set '{name}': {why}", None, hint))
    return name, Value(text, COMMAND_LINE, literal=True)
