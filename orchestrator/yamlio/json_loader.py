"""Loading of a program's JSON output (RFC 8259) into marked values.

The text is not in a file, so every position is the program's path without a line.
"""

from __future__ import annotations

import json

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue, ValueData

_MAX_DEPTH = 100


def parse_json(text: str, shown: str) -> MarkedValue:
    """Return the value of a JSON text. Raises ``DefinitionError`` if it is not JSON."""
    mark = SourcePosition(shown)
    try:
        pairs = json.loads(text, object_pairs_hook=_JsonPairs, parse_constant=_refuse_constant)
        return _marked_value(pairs, mark, 0)
    except json.JSONDecodeError as error:
        row = (text.splitlines() or [""])[min(error.lineno, text.count("\n") + 1) - 1 :][:1]
        shown_row = f": {row[0][:80]}" if row else ""
        what = f"its output is not valid JSON: {error.msg} in line {error.lineno}{shown_row}"
        raise DefinitionError(Diagnostic(what, mark)) from error
    except (ValueError, RecursionError) as error:
        what = f"its output cannot be used: {error}"
        raise DefinitionError(Diagnostic(what, mark)) from error


class _JsonPairs(list[tuple[str, object]]):
    """The pairs of a JSON object, including duplicates."""


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not valid JSON")


def _marked_value(item: object, mark: SourcePosition, depth: int) -> MarkedValue:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    data: ValueData
    if isinstance(item, _JsonPairs):
        data = {}
        for name, below in item:
            if name in data:
                raise ValueError(f"the key '{name}' occurs twice")
            data[MarkedKey(name, mark)] = _marked_value(below, mark, depth + 1)
    elif isinstance(item, list):
        data = [_marked_value(below, mark, depth + 1) for below in item]
    elif item is None or isinstance(item, (str, int, float, bool)):
        data = item
    else:
        raise ValueError(f"{type(item).__name__} is not valid JSON")
    return MarkedValue(data, mark)
