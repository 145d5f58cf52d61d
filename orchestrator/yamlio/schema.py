"""Validation of values against expected types; all errors are collected.

    problems = DiagnosticCollector()
    read = SchemaReader(problems)
    fields = read.fields(load_yaml(path, shown), "role 'web'", {"desc", "hosts", "port", "wait"})
    desc = read.text(fields.get("desc"), "desc") or ""
    port = read.integer(fields.get("port"), "port", 1, 65535)
    wait = read.duration(fields.get("wait"), "wait")
    hosts = read.string_list(fields.get("hosts"), "hosts")     # None: the key is missing
    problems.raise_any()

Every method takes the value (or None if the key is missing) and a description of it for messages.
It returns None if the value is missing or invalid; an error has then been added to the problems,
with its position, the value found and the value expected. A key without a value (``port:``) is an
error, except for mappings, where it means an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import cast

from orchestrator.errors import DiagnosticCollector, SourcePosition, suggest_nearest
from orchestrator.model import ansible
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.model.secret import Secret
from orchestrator.yamlio.naming_rules import variable_name_error

_DURATION = lazy_regex(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_SECONDS = 3650 * 86400
_MAX_SHOWN_CHARS = 40
DURATION_FORMAT = "seconds, or like 250ms, 10s, 5m, 1h"
"""How durations are written, for messages."""


def parse_duration(text: str) -> float | None:
    """Return a written duration in seconds; None if it is none."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _SECONDS[match[2] or "s"] if match else None


def describe_value(value: MarkedValue) -> str:
    """Return a description of a value: ``a list``, ``nothing``, ``the text 'abc'``."""
    match value.data:
        case None:
            return "nothing"
        case bool(flag):
            return str(flag).lower()
        case int(number) | float(number):
            return f"the number {shorten_text(_value_text(number))}"
        case str(text):
            return f"the text '{shorten_text(text)}'"
        case list():
            return "a list"
        case Secret():
            return "a secret"
        case _:
            return "a mapping"


def shorten_text(text: str) -> str:
    """Return the text, or its beginning and ``…``."""
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"


def _value_text(value: object) -> str:
    """Return the value as text; a number too long for Python to print (4300 digits) in words."""
    try:
        return str(value)
    except ValueError:
        return "of too many digits"


class SchemaReader:
    """A validator that converts values to their types; errors go to ``problems``."""

    def __init__(self, problems: DiagnosticCollector) -> None:
        self.problems = problems

    def report_mismatch(self, value: MarkedValue, what: str, expected: str, hint: str = "") -> None:
        """Report that ``what`` must be ``expected`` and is something else."""
        self.problems.add(
            f"{what} must be {expected}, found {describe_value(value)}", value.mark, hint
        )

    def mapping(
        self, value: MarkedValue | None, what: str, allowed: Collection[str] | None = None
    ) -> dict[MarkedKey, MarkedValue]:
        """Return the mapping's allowed keys; {} if it is missing, null or invalid.

        ``allowed`` is None if every key is allowed.
        """
        if value is None or value.data is None:
            return {}
        if not isinstance(value.data, dict):
            known = f"with the keys {', '.join(sorted(allowed))}" if allowed else "(name: value)"
            self.report_mismatch(value, what, f"a mapping {known}")
            return {}
        if allowed is None:
            return value.data
        for key in value.data:
            if key not in allowed:
                self.report_unknown_key(key, what, allowed)
        return {key: item for key, item in value.data.items() if key in allowed}

    def fields(
        self, value: MarkedValue | None, what: str, allowed: Collection[str] | None = None
    ) -> dict[str, MarkedValue]:
        """Return the same as ``mapping``, typed for lookups of keys by their text."""
        return cast(dict[str, MarkedValue], self.mapping(value, what, allowed))

    def report_unknown_key(self, key: MarkedKey, what: str, allowed: Collection[str]) -> None:
        """Report a key that ``what`` does not have, with the nearest one that it has."""
        hint = ansible.KEYWORD_HINTS.get(key, "") or suggest_nearest(key, allowed)
        hint = hint or f"known keys: {', '.join(sorted(allowed))}"
        self.problems.add(f"unknown key '{key}' in {what}", key.mark, hint)

    def variables(self, value: MarkedValue | None, what: str) -> dict[MarkedKey, MarkedValue]:
        """Return the entries of a mapping whose keys are valid variable names."""
        fields = self.mapping(value, what)
        return {key: item for key, item in fields.items() if self.check_variable_name(key, what)}

    def check_variable_name(self, name: MarkedKey, what: str) -> bool:
        """Return True if this is a valid variable name; otherwise report it."""
        why, hint = variable_name_error(name)
        if why:
            self.problems.add(f"'{name}' in {what} cannot name a variable: {why}", name.mark, hint)
        return not why

    def text(self, value: MarkedValue | None, what: str) -> str | None:
        """Return text that is not blank; numbers are converted to text as written."""
        if value is None:
            return None
        match value.data:
            case bool() | None:
                hint = "put it in quotes if the text is meant" if value.data is not None else ""
                self.report_mismatch(value, what, "text", hint)
            case str(text) if not text.strip():
                self.problems.add(f"{what} is blank", value.mark, "give it a value or remove it")
            case str() | int() | float():
                return str(value.data)
            case _:
                self.report_mismatch(value, what, "text")
        return None

    def choice(self, value: MarkedValue | None, what: str, choices: Collection[str]) -> str | None:
        """Return text that is one of the ``choices``."""
        text = self.text(value, what)
        if value is None or text is None or text in choices:
            return text
        self.report_mismatch(
            value, what, f"one of {', '.join(choices)}", suggest_nearest(text, choices)
        )
        return None

    def integer(
        self,
        value: MarkedValue | None,
        what: str,
        least: int | None = None,
        most: int | None = None,
    ) -> int | None:
        """Return a whole number within the inclusive bounds; a quoted ``"22"`` is accepted."""
        if value is None:
            return None
        number = value.data
        if isinstance(number, str) and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", number):
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool):
            hint = ""
            if isinstance(number, str) and re.fullmatch(r"0[0-9]+", number):
                hint = "a leading zero makes it text: write it without"
            self.report_mismatch(value, what, "a whole number", hint)
            return None
        low, high = least is not None and number < least, most is not None and number > most
        if low or high:
            bounds = f"between {least} and {most}" if most is not None else f"{least} or more"
            self.report_mismatch(value, what, bounds if least is not None else f"{most} or less")
            return None
        return number

    def boolean(self, value: MarkedValue | None, what: str) -> bool | None:
        """Return true or false."""
        if value is None or isinstance(value.data, bool):
            return value.data if value and isinstance(value.data, bool) else None
        words = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false"}
        meant = words.get(str(value.data).lower(), "")
        self.report_mismatch(value, what, "true or false", f"write {meant}" if meant else "")
        return None

    def duration(self, value: MarkedValue | None, what: str) -> float | None:
        """Return a duration in seconds, 0 or more.

        It is written as a number of seconds, or as ``250ms``, ``10s``, ``5m``, ``1h`` or ``2d``.
        The maximum is 10 years, which every clock and shell can represent.
        """
        if value is None:
            return None
        plain = isinstance(value.data, (str, int, float)) and not isinstance(value.data, bool)
        seconds = parse_duration(_value_text(value.data)) if plain else None
        if seconds is None:
            self.report_mismatch(value, what, f"a duration: {DURATION_FORMAT}")
            return None
        if seconds > _MAX_SECONDS:
            self.report_mismatch(value, what, f"a duration of {_MAX_SECONDS // 86400} days at most")
            return None
        return seconds

    def items(self, value: MarkedValue | None, what: str) -> list[MarkedValue] | None:
        """Return the values of a list; a single value is a list of one."""
        if value is None:
            return None
        if isinstance(value.data, list):
            return value.data
        if value.data is None or isinstance(value.data, dict):
            self.report_mismatch(value, what, "a list", "an empty list is written []")
            return None
        return [value]

    def string_list(self, value: MarkedValue | None, what: str) -> tuple[MarkedKey, ...] | None:
        """Return the texts of a list, with their positions (``.mark``); one text is a list of one.

        Invalid items are left out. The result is () for an empty list and None if there is no list.
        """
        items = self.items(value, what)
        if items is None:
            return None
        texts = [(self.text(item, f"an item of {what}"), item.mark) for item in items]
        return tuple(MarkedKey(text, mark) for text, mark in texts if text is not None)

    def check_one_of(
        self, name: str, mark: SourcePosition, what: str, known: Collection[str]
    ) -> bool:
        """Return True if ``name`` is one of ``known``; otherwise report it."""
        if name in known:
            return True
        listed = ", ".join(sorted(known)[:20]) or "none at all"
        self.problems.add(
            f"no {what} '{name}'", mark, suggest_nearest(name, known) or f"known: {listed}"
        )
        return False
