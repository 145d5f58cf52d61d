r"""Conversion of values to the types of params, with checks of POSIX regular expressions.

A regex param must not use syntax that Perl and Python have and POSIX extended regular expressions
do not: grep silently takes most of it for something else, such as ``\\d`` for the letter d.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.errors import DefinitionError, suggest_nearest
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import CommandText, HomePath, NamedObject
from orchestrator.model.text_encoding import repr_text
from orchestrator.playbook.model import TaskParam
from orchestrator.yamlio.yaml_loader import parse_yaml

_KNOWN_ESCAPES = frozenset("wWsSbB123456789")
"""The letters and digits that GNU and busybox grep support after a backslash."""

_ESCAPES = {
    "d": "write [0-9]",
    "D": "write [^0-9]",
    "t": "write [[:blank:]]",
    "h": "write [[:blank:]]",
    "r": "lines are matched without their line end",
    "n": "lines are matched without their line end",
    "A": "write ^",
    "Z": "write $",
    "z": "write $",
}
_SETS = {"d": "0-9", "w": "[:alnum:]_", "s": "[:space:]"}
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""POSIX classes, as parts of a bracket expression of Python."""
_GROUPS = {
    ":": "write ( alone",
    "i": "write both letters, such as [Aa]",
    "=": "lookahead is not supported",
    "!": "lookahead is not supported; for lines that do not match, write two steps",
    "<": "write ( alone: lookbehind and named groups are not supported",
    "P": "write ( alone: groups have no names",
}
_BRACKETS = lazy_regex(r"\[\^?\]?")
_INTERVAL = lazy_regex(r"\{[0-9]*,?[0-9]*\}")


def posix_regex_error(text: str) -> str:
    """Return the first construct that POSIX lacks, and its replacement, or '' if there is none.

    The text completes a sentence that ends in "which". Errors that grep reports itself are ignored.
    """
    at, quantifier = 0, ""
    while at < len(text):
        char, behind = text[at], text[at + 1 : at + 2]
        if char in "?+" and quantifier:
            return f"has no {quantifier}{char}: leave out the {char}"
        quantifier = char if char in "*+?" and at else ""
        if char == "\\" and behind.isascii() and behind.isalnum() and behind not in _KNOWN_ESCAPES:
            return f"has no \\{behind}: {_ESCAPES.get(behind, 'write the characters themselves')}"
        if char == "(" and behind == "?":
            kind = text[at + 2 : at + 3]
            return f"has no (?{kind}: {_GROUPS.get(kind, 'write it without')}"
        if char == "[":
            end = _set_end(text, at)
            found = re.search(r"(?<!\\)\\([dDwWsS])", text[at:end])
            if found:
                instead = _SETS.get(found[1], "the characters themselves")
                return f"has no {found[0]} between brackets: write {instead}"
            at = end
        elif char == "{" and (interval := _INTERVAL.match(text, at)):
            quantifier, at = "}", interval.end()
        else:
            at += 2 if char == "\\" else 1
    return ""


def python_regex(text: str) -> str:
    """Return a POSIX ERE without a ``posix_regex_error`` in the syntax of Python, for ASCII."""
    named = re.sub(r"\[:(\w+):\]", lambda found: _CLASSES.get(found[1], found[0]), text)
    return named.replace(r"\<", r"\b").replace(r"\>", r"\b")


def _set_end(text: str, at: int) -> int:
    """Return the index after the bracket expression at ``at``, or the text's length."""
    start = _BRACKETS.match(text, at)
    at = start.end() if start else at + 1
    while at < len(text) and text[at] != "]":
        kind = text[at + 1 : at + 2]
        if text[at] == "[" and kind and kind in ":.=":
            closed = text.find(f"{kind}]", at + 2)
            at = closed + 2 if closed >= 0 else len(text)
        else:
            at += 1
    return min(at + 1, len(text))


_INT = lazy_regex(r"[+-]?[0-9]{1,4000}")  # a little below the limit of Python's int()
_MODE = lazy_regex(r"[0-7]{3,4}")
_SYMBOLIC_MODE = lazy_regex(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")


class ListItemError(ValueError):
    """An item of a list cannot be converted to its type. ``index`` counts from 0."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"{why}, as item {index + 1}")
        self.index = index


def convert_param(param: TaskParam, value: Any, *, typed: bool = True) -> Any:
    """Return the value converted to the param's type.

    ``typed`` is False for text from the command line, where the items of a list are separated by
    commas; elsewhere, text given to a list is its only item. Raises ValueError with what is
    expected if the value cannot be converted.
    """
    if value is None:
        if param.required:
            raise ValueError("needs a value, found nothing")
        return None
    if param.type == "list" and isinstance(value, str) and not typed:
        value = _parse_list(value)
        if param.elements == "command":  # the user types the whole command
            value = [CommandText(item) if type(item) is str else item for item in value]
    result = _CONVERTERS[param.type](value)
    if param.elements:
        result = [_convert_item(param.elements, index, item) for index, item in enumerate(result)]
    if param.absolute and not (isinstance(result, HomePath) or result.startswith("/")):
        raise ValueError(f"must begin with / or ~/, found {_type_name(value)}")
    if param.choices and result not in param.choices:
        known = [str(choice) for choice in param.choices]
        hint = suggest_nearest(str(result), known)
        what = f"must be one of {', '.join(known)}, found {repr_text(result)}"
        raise ValueError(f"{what}; {hint}" if hint else what)
    return result


def _convert_item(kind: str, index: int, value: Any) -> Any:
    try:
        return _CONVERTERS[kind](value)
    except ValueError as error:
        raise ListItemError(index, str(error)) from None


def _parse_list(text: str) -> list[Any]:
    """Parse ``a,b``, or a list in YAML flow style: ``[a, "b, c"]``. Raises ValueError."""
    if not text.startswith("["):
        return text.split(",") if text else []
    try:
        found = parse_yaml(text, "").to_plain()
    except DefinitionError as error:
        why = error.diagnostics[0].message
        raise ValueError(f"must be a list, found {repr_text(text)}: {why}") from None
    return found if isinstance(found, list) else [found]


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | NamedObject):
        hint = ": put it in quotes if the text is meant" if isinstance(value, bool) else ""
        raise ValueError(f"must be text, found {_type_name(value)}{hint}")
    return str(value)


def _to_int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INT.fullmatch(value.strip()):
        return int(value)
    raise ValueError(f"must be a whole number, found {_type_name(value)}")


def _to_float(value: Any) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        return float(value if isinstance(value, str) else "no")
    except (ValueError, OverflowError):
        raise ValueError(f"must be a number, found {_type_name(value)}") from None


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError(f"must be true or false, found {_type_name(value)}")


def _to_list(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and value.strip():
        return [value]
    raise ValueError(f"must be a list, found {_type_name(value)}")


def _to_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(
        f"must be a mapping, found {_type_name(value)}; on the command line, use -e @FILE"
    )


def _to_path(value: Any) -> str:
    text = _to_text(value)
    if not text.strip():
        raise ValueError("must be a path, found blank text")
    return HomePath(text) if text == "~" or text.startswith("~/") else text


def _to_command(value: Any) -> CommandText:
    """Return the compiled text of a command; any other text may contain unquoted values."""
    if isinstance(value, CommandText):
        return value
    raise ValueError(f"must be a command, found {_type_name(value)} in which no value is quoted")


def _to_subpath(value: Any) -> str:
    """Return a normalized relative path that does not leave its folder."""
    text = _to_text(value)
    parts = text.split("/")
    if text.startswith(("/", "~/")) or text == "~" or ".." in parts:
        raise ValueError(f"must be a path that stays below its folder, found {_type_name(value)}")
    inner = "/".join(part for part in parts if part not in ("", "."))
    if not inner.strip():
        raise ValueError(f"must name something below its folder, found {_type_name(value)}")
    return inner


def _to_name(value: Any) -> str:
    """Return a valid name of one file or folder."""
    text = _to_text(value)
    if not text.strip() or "/" in text or text in (".", "..") or not text.isprintable():
        raise ValueError(
            f"must be the name of a file or folder, without /, found {_type_name(value)}"
        )
    return text


def _to_regex(value: Any) -> str:
    text = _to_text(value)
    why = posix_regex_error(text)
    if why:
        raise ValueError(f"must be a POSIX extended regular expression (grep -E), which {why}")
    return text


def _to_mode(value: Any) -> str:
    if isinstance(value, str) and _MODE.fullmatch(value):
        return value.rjust(4, "0")
    hint = f": write '0{value}' in quotes" if isinstance(value, int) else ""
    raise ValueError(f"must be a file mode, three or four octal digits as text{hint}")


def _to_file_mode(value: Any) -> str:
    """Return a mode, or symbolic permissions with one operator in each part and `a` written out."""
    if not isinstance(value, str) or _MODE.fullmatch(value) or not re.search(r"[-+=]", value):
        return _to_mode(value)
    parts: list[str] = []
    for part in value.split(","):
        found = _SYMBOLIC_MODE.fullmatch(part)
        if found is None:
            message = "must be a file mode, octal digits or like u=rwX,g=u,o-w"
            raise ValueError(f"{message}, found {repr_text(value)}")
        who = "ugo" if found[1] in ("", "a") else found[1].replace("a", "ugo")
        parts += [who + each for each in re.findall(r"[-+=][a-zX]*", found[2])]
    return ",".join(parts)


def _type_name(value: Any) -> str:
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


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "str": _to_text,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "list": _to_list,
    "dict": _to_dict,
    "path": _to_path,
    "subpath": _to_subpath,
    "name": _to_name,
    "mode": _to_mode,
    "file_mode": _to_file_mode,
    "regex": _to_regex,
    "file": _to_path,
    "command": _to_command,
    "any": lambda value: value,
}
