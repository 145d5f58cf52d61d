"""Reading a value against what is expected of it, telling everything that is wrong at once.

    problems = Problems()
    read = Reader(problems)
    fields = read.fields(load(path, shown), "role 'web'", {"desc", "hosts", "port", "wait"})
    desc = read.text(fields.get("desc"), "desc") or ""
    port = read.integer(fields.get("port"), "port", 1, 65535)
    wait = read.duration(fields.get("wait"), "wait")
    hosts = read.string_list(fields.get("hosts"), "hosts")     # None: no such key
    problems.raise_any()

Every method takes the value (or None where the key is absent) and the words that name it in
a message. None comes back where the value is absent or wrong; what is wrong has then been
added to the problems, with its place, what was found and what was expected. A key without a
value (``port:``) is wrong everywhere but for mappings, where it is an empty one.
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
_MAX_SECONDS = 3650 * 86400  # seconds
_MAX_SHOWN_CHARS = 40


def describe_value(value: MarkedValue) -> str:
    """What a value is, in words: ``a list``, ``nothing``, ``the text 'abc'``."""
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
    """The text, or its beginning and ``…``."""
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"


def _value_text(value: object) -> str:
    """The value as text; a number of more digits than Python writes (4300) in words."""
    try:
        return str(value)
    except ValueError:
        return "of too many digits"


class SchemaReader:
    """Checks values and gives them their types; what is wrong goes to ``problems``."""

    def __init__(self, problems: DiagnosticCollector) -> None:
        self.problems = problems

    def report_mismatch(self, value: MarkedValue, what: str, expected: str, hint: str = "") -> None:
        """Note that ``what`` must be ``expected`` and is something else."""
        self.problems.add(
            f"{what} must be {expected}, found {describe_value(value)}", value.mark, hint
        )

    def mapping(
        self, value: MarkedValue | None, what: str, allowed: Collection[str] | None = None
    ) -> dict[MarkedKey, MarkedValue]:
        """The mapping's known keys; {} where it is absent, null or wrong.

        ``allowed`` None lets every key pass.
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
        """As ``mapping``, for looking keys up by their text."""
        return cast(dict[str, MarkedValue], self.mapping(value, what, allowed))

    def report_unknown_key(self, key: MarkedKey, what: str, allowed: Collection[str]) -> None:
        """Note a key that ``what`` does not know, with the nearest one that it does."""
        hint = ansible.KEYWORD_HINTS.get(key, "") or suggest_nearest(key, allowed)
        hint = hint or f"known keys: {', '.join(sorted(allowed))}"
        self.problems.add(f"unknown key '{key}' in {what}", key.mark, hint)

    def variables(self, value: MarkedValue | None, what: str) -> dict[MarkedKey, MarkedValue]:
        """A mapping whose keys can all be names of variables; those that cannot are left out."""
        fields = self.mapping(value, what)
        return {key: item for key, item in fields.items() if self.check_variable_name(key, what)}

    def check_variable_name(self, name: MarkedKey, what: str) -> bool:
        """Whether this can be the name of a variable."""
        why, hint = variable_name_error(name)
        if why:
            self.problems.add(f"'{name}' in {what} cannot name a variable: {why}", name.mark, hint)
        return not why

    def text(self, value: MarkedValue | None, what: str) -> str | None:
        """Text that is not blank. Numbers are taken as they were written."""
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
        """One of the ``choices``."""
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
        """A whole number within the bounds, both included; ``"22"`` in quotes is one, too."""
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
        """True or false."""
        if value is None or isinstance(value.data, bool):
            return value.data if value and isinstance(value.data, bool) else None
        words = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false"}
        meant = words.get(str(value.data).lower(), "")
        self.report_mismatch(value, what, "true or false", f"write {meant}" if meant else "")
        return None

    def duration(self, value: MarkedValue | None, what: str) -> float | None:
        """Seconds, 0 or more: a number of them, or ``250ms``, ``10s``, ``5m``, ``1h``, ``2d``;
        10 years at most, so that every clock and shell can count them."""
        if value is None:
            return None
        plain = isinstance(value.data, (str, int, float)) and not isinstance(value.data, bool)
        match = _DURATION.fullmatch(_value_text(value.data)) if plain else None
        if match is None:
            self.report_mismatch(value, what, "a duration: seconds, or like 250ms, 10s, 5m, 1h")
            return None
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
        if seconds > _MAX_SECONDS:
            self.report_mismatch(value, what, f"a duration of {_MAX_SECONDS // 86400} days at most")
            return None
        return seconds

    def items(self, value: MarkedValue | None, what: str) -> list[MarkedValue] | None:
        """The list's values; one value that is no list stands for a list of one."""
        if value is None:
            return None
        if isinstance(value.data, list):
            return value.data
        if value.data is None or isinstance(value.data, dict):
            self.report_mismatch(value, what, "a list", "an empty list is written []")
            return None
        return [value]

    def string_list(self, value: MarkedValue | None, what: str) -> tuple[MarkedKey, ...] | None:
        """Texts that remember where each stands (``.mark``); one text alone is a list of one.

        Wrong items are left out; () where the list is empty, None where there is none.
        """
        items = self.items(value, what)
        if items is None:
            return None
        texts = [(self.text(item, f"an item of {what}"), item.mark) for item in items]
        return tuple(MarkedKey(text, mark) for text, mark in texts if text is not None)

    def check_one_of(
        self, name: str, mark: SourcePosition, what: str, known: Collection[str]
    ) -> bool:
        """Whether ``name`` is among the ``known``; the nearest of them is told where not."""
        if name in known:
            return True
        listed = ", ".join(sorted(known)[:20]) or "none at all"
        self.problems.add(
            f"no {what} '{name}'", mark, suggest_nearest(name, known) or f"known: {listed}"
        )
        return False
