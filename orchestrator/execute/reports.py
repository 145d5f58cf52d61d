"""What a module's script says of itself, made into what a step's outcome tells."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from orchestrator.model.command import Wanted
from orchestrator.model.outcome import Change
from orchestrator.model.text import decode, encode, quote_text
from orchestrator.session.reports import value_of
from orchestrator.session.streams import Garbled, number

_MOST = 1 << 20
"""How much of a step's states is kept, and how much of the lines of its diff: characters."""

_EACH = 100  # what a state or a line takes besides
_SHOWN = 40


class Report:
    """Takes the reports of one step, as ``session/reports.py`` says they come."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._sizes = {"states": 0, "lines": 0}
        self._have: dict[str, str | None] = {}
        self._after: dict[str, str | None] = {}
        self._lines: dict[str, list[str]] = {"old": [], "new": []}
        self._ends: dict[str, str] = {}
        self._stages: dict[str, int] = {}

    def take(self, kind: str, text: str) -> None:
        """Take the next one; text that goes on has a kind that begins with ``+``. Raises Garbled
        where it is none, or the states come to too much. Lines that do are not kept."""
        which = "lines" if kind.lstrip("+") in self._lines else "states"
        self._sizes[which] += len(text) + _EACH
        full = self._sizes[which] > _MOST
        if full and which == "states":
            what = f"a module's states come to more than {_MOST >> 20} MiB"
            raise Garbled(f"{what}: have the probe state a checksum of what is long")
        if full:
            self._ends[kind.lstrip("+")] = "long"
        else:
            self._parts.append(text)
        if kind.startswith("+"):
            return
        text = decode(encode("".join(self._parts)))  # a character may be cut between two parts
        self._parts = []
        if not full:
            self._whole(kind, text)

    def _whole(self, kind: str, text: str) -> None:
        if kind in ("have", "after"):
            key, value = value_of(text)
            (self._have if kind == "have" else self._after)[key] = value
        elif kind in self._lines:
            self._lines[kind].append(text)
        elif kind in ("old#", "new#"):
            self._ends.setdefault(kind[:-1], text)
        elif kind in ("probe", "fix"):
            self._stages[kind] = number(text)
        else:
            raise Garbled(f"a module reports {quote_text(kind[:_SHOWN])}")

    def changes(self, wanted: Wanted) -> tuple[Change, ...]:
        """What differed before, state by state."""
        return _changes(self._have, wanted)

    def failure(self, wanted: Wanted) -> tuple[str, int | None]:
        """Why it failed, if it says so, and the exit status of what did."""
        if "fix" in self._stages:
            return f"its fix failed: exit status {self._stages['fix']}", self._stages["fix"]
        if "probe" in self._stages:
            return f"its probe failed: exit status {self._stages['probe']}", self._stages["probe"]
        said = "; ".join(
            f"{change.key} is {_said(change.before)}, wanted {_said(change.after)}"
            for change in _changes(self._after, wanted)
        )
        if not said:
            return "", None
        return (f"its fix did not bring it about: {said}" if self._have else said), None

    def diff(self, wanted: Wanted) -> str:
        """The contents that were there and those that are to be, as a unified diff; '' where
        there is nothing to show."""
        told = any(self._lines.values()) or bool(self._ends)
        if not told and "contents" not in self._have:
            return ""
        if "new" in self._ends:
            wanted = replace(wanted, brings=None, sends=None)
        if "binary" in self._ends.values() or b"\0" in (wanted.brings or b""):
            return "binary contents differ\n"
        if wanted.sends or "long" in self._ends.values():
            return "long contents differ\n"
        new = self._text("new")
        if wanted.brings is not None:
            new = decode(wanted.brings).split("\n")
            new = [f"{line}\n" for line in new[:-1]] + [line for line in new[-1:] if line]
        return "".join(_ended(difflib.unified_diff(self._text("old"), new, "before", "after")))

    def _text(self, kind: str) -> list[str]:
        lines = [f"{line}\n" for line in self._lines[kind]]
        if lines and self._ends.get(kind) == "cut":
            lines[-1] = lines[-1].removesuffix("\n")
        return lines


def _changes(found: Mapping[str, str | None], wanted: Wanted) -> tuple[Change, ...]:
    states = wanted.states
    return tuple(Change(key, found[key], states[key]) for key in found if key in states)


def _said(value: str | None) -> str:
    if value is None:
        return "not there"
    return quote_text(value if len(value) <= 200 else value[:199] + "…")


def _ended(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield line
        if not line.endswith("\n"):
            yield "\n\\ No newline at end of file\n"
