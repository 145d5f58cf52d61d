"""Giving a param's value its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.errors import DefinitionError, nearest
from orchestrator.model.regex import regex
from orchestrator.model.text import quote_text
from orchestrator.model.value import CommandText, HomePath, Titled
from orchestrator.source.load import parse
from orchestrator.tasks.model import Param
from orchestrator.tasks.posix_regex import not_posix

_INT = regex(r"[+-]?[0-9]{1,4000}")  # as many digits as Python reads, and some less
_MODE = regex(r"[0-7]{3,4}")


class ItemError(ValueError):
    """An item of a list cannot have its type. ``index`` counts from 0."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"{why}, as item {index + 1}")
        self.index = index


def convert(param: Param, value: Any, *, typed: bool = True) -> Any:
    """The value in the param's type. ``typed`` False: text from the command line, where a
    list's entries are joined by commas; elsewhere a text is a list of just that.

    Raises ValueError, saying what is expected, where it cannot have that type.
    """
    if value is None:
        if param.required:
            raise ValueError("needs a value, found nothing")
        return None
    if param.type == "list" and isinstance(value, str) and not typed:
        value = _written_list(value)
        if param.elements == "command":  # who types it writes all of it
            value = [CommandText(item) if type(item) is str else item for item in value]
    result = _CONVERT[param.type](value)
    if param.elements:
        result = [_item(param.elements, index, item) for index, item in enumerate(result)]
    if param.absolute and not (isinstance(result, HomePath) or result.startswith("/")):
        raise ValueError(f"must begin with / or ~/, found {_kind(value)}")
    if param.choices and result not in param.choices:
        known = [str(choice) for choice in param.choices]
        hint = nearest(str(result), known)
        what = f"must be one of {', '.join(known)}, found {quote_text(result)}"
        raise ValueError(f"{what}; {hint}" if hint else what)
    return result


def _item(kind: str, index: int, value: Any) -> Any:
    try:
        return _CONVERT[kind](value)
    except ValueError as error:
        raise ItemError(index, str(error)) from None


def _written_list(text: str) -> list[Any]:
    """``a,b``, or a list as YAML writes it: ``[a, "b, c"]``. Raises ValueError."""
    if not text.startswith("["):
        return text.split(",") if text else []
    try:
        found = parse(text, "").plain()
    except DefinitionError as error:
        why = error.problems[0].what
        raise ValueError(f"must be a list, found {quote_text(text)}: {why}") from None
    return found if isinstance(found, list) else [found]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Titled):
        hint = ": put it in quotes if the text is meant" if isinstance(value, bool) else ""
        raise ValueError(f"must be text, found {_kind(value)}{hint}")
    return str(value)


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INT.fullmatch(value.strip()):
        return int(value)
    raise ValueError(f"must be a whole number, found {_kind(value)}")


def _float(value: Any) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        return float(value if isinstance(value, str) else "no")
    except (ValueError, OverflowError):
        raise ValueError(f"must be a number, found {_kind(value)}") from None


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError(f"must be true or false, found {_kind(value)}")


def _list(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and value.strip():
        return [value]
    raise ValueError(f"must be a list, found {_kind(value)}")


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"must be a mapping, found {_kind(value)}; on the command line, use -e @FILE")


def _path(value: Any) -> str:
    text = _text(value)
    if not text.strip():
        raise ValueError("must be a path, found blank text")
    return HomePath(text) if text == "~" or text.startswith("~/") else text


def _command(value: Any) -> CommandText:
    """The compiled text of a command. Any other text may hold what nobody quoted."""
    if isinstance(value, CommandText):
        return value
    raise ValueError(f"must be a command, found {_kind(value)} in which no value is quoted")


def _subpath(value: Any) -> str:
    """A path below a folder, which it does not lead out of, without needless parts."""
    text = _text(value)
    parts = text.split("/")
    if text.startswith(("/", "~/")) or text == "~" or ".." in parts:
        raise ValueError(f"must be a path that stays below its folder, found {_kind(value)}")
    inner = "/".join(part for part in parts if part not in ("", "."))
    if not inner.strip():
        raise ValueError(f"must name something below its folder, found {_kind(value)}")
    return inner


def _name(value: Any) -> str:
    """What one file or folder can be called, and no more than that."""
    text = _text(value)
    if not text.strip() or "/" in text or text in (".", "..") or not text.isprintable():
        raise ValueError(f"must be the name of a file or folder, without /, found {_kind(value)}")
    return text


def _regex(value: Any) -> str:
    text = _text(value)
    why = not_posix(text)
    if why:
        raise ValueError(f"must be a POSIX extended regular expression (grep -E), which {why}")
    return text


def _mode(value: Any) -> str:
    if isinstance(value, str) and _MODE.fullmatch(value):
        return value.rjust(4, "0")
    hint = f": write '0{value}' in quotes" if isinstance(value, int) else ""
    raise ValueError(f"must be a file mode, three or four octal digits as text{hint}")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text '{value if len(value) <= 40 else value[:39] + '…'}'"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "list": _list,
    "dict": _dict,
    "path": _path,
    "subpath": _subpath,
    "name": _name,
    "mode": _mode,
    "regex": _regex,
    "file": _path,
    "command": _command,
    "any": lambda value: value,
}
