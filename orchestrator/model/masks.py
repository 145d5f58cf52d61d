"""Secrets out of text: whatever is shown has ``‹name›`` in their place."""

from __future__ import annotations

import re
import threading
from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import AnyStr, Generic, TypeAlias

from msgspec import Struct, field

from orchestrator.model.text import encode

LEAST = 4
"""Shorter texts cannot be hidden: they stand in too many others."""

_CUT = re.compile(r"\n?\[… [^\n]*…\]\n?|…")
"""Where something was left out, so that only a part of a secret may stand beside it."""

_FEW = 150
"""Up to so many forms each is looked for by itself, which for a handful is much faster."""

Span: TypeAlias = "tuple[int, int, AnyStr]"


class Table(Struct, Generic[AnyStr], frozen=True):
    """What to look for, with what stands in its place. ``by_head``: the same by their first
    ``LEAST`` characters, none where they are few."""

    labels: Mapping[AnyStr, AnyStr] = field(default_factory=dict)
    by_head: Mapping[AnyStr, Sequence[AnyStr]] = field(default_factory=dict)

    def spans(
        self, text: AnyStr, covered: int = 0, more: Sequence[Span[AnyStr]] = ()
    ) -> list[Span[AnyStr]]:
        """Where in the text they stand, in order; those that overlap as one. The first
        ``covered`` characters are one of them, with nothing in its place."""
        found: list[Span[AnyStr]] = [(0, covered, text[:0])] if covered else []
        for start, form in self.found(text):
            insort(found, (start, start + len(form), self.labels[form]), key=_order)
        for span in more:
            insort(found, span, key=_order)
        merged: list[Span[AnyStr]] = []
        for start, end, label in found:
            if merged and start < merged[-1][1]:
                first, last, kept = merged[-1]
                merged[-1] = (first, max(last, end), kept)
            else:
                merged.append((start, end, label))
        if covered:
            merged[0] = (0, merged[0][1], text[:0])
        return merged

    def found(self, text: AnyStr) -> Iterator[tuple[int, AnyStr]]:
        """Where each of them begins."""
        if self.by_head:
            for start in range(len(text) - LEAST + 1):
                for form in self.by_head.get(text[start : start + LEAST], ()):
                    if text.startswith(form, start):
                        yield start, form
            return
        for form in self.labels:
            start = text.find(form)
            while start >= 0:
                yield start, form
                start = text.find(form, start + 1)

    def begun(self, text: AnyStr) -> int:
        """How many characters at the end of the text may be the beginning of one of them."""
        most = 0
        for form in self.labels:
            start = text.find(form[:1], max(0, len(text) - len(form) + 1))
            while start >= 0 and len(text) - start > most:
                if form.startswith(text[start:]):
                    most = len(text) - start
                start = text.find(form[:1], start + 1)
        return most

    def ended(self, text: AnyStr) -> int:
        """How many characters at the beginning of the text may be the end of one of them."""
        most = 0
        for form in self.labels:
            start = form.find(text[:1], 1) if text else -1
            while start >= 0 and len(form) - start > most:
                if text.startswith(form[start:]):
                    most = len(form) - start
                start = form.find(text[:1], start + 1)
        return most


def _order(span: tuple[int, int, object]) -> tuple[int, int]:
    return span[0], -span[1]


class _Tables(Struct, frozen=True):
    """``secrets``: by form, those that it shows."""

    text: Table[str]
    data: Table[bytes]
    secrets: Mapping[str, Sequence[str]]


class Masks:
    """The secrets of a run, as they become known. Threads may share it.

    It is true once there are any: before that, masking gives back what it is given.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._forms: dict[str, list[str]] = {}  # each with the secrets that it shows
        self._built: _Tables | None = None
        self._tell: Callable[[str, str], object] | None = None

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, name: str, text: str) -> None:
        """Hide this text, and each of its lines, in any form under the name; what is too short
        is left."""
        from orchestrator.model.forms import forms  # not for a run without secrets

        before = len(self._names)
        with self._lock:
            for part in (text, *text.splitlines()):
                if len(part.strip()) < LEAST or part in self._names:
                    continue
                self._names[part] = name
                for form in forms(part):
                    self._forms.setdefault(form, []).append(part)
                self._built = None
        if self._tell is not None and len(self._names) > before:
            self._tell(name, text)

    def tell(self, whom: Callable[[str, str], object]) -> None:
        """Have ``whom`` told, before ``add`` returns, of each that is not known yet: its name and
        the text. For a process that is not the one that shows things."""
        self._tell = whom

    def text(self, text: str) -> str:
        """The text without secrets, nor parts of them right beside a ``…``."""
        table = self._tables().text
        if not table.labels or not text:
            return text
        parts = list(_beside_cuts(text, table)) if "…" in text else []
        return _without(text, table.spans(text, more=parts))

    def data(self, data: bytes) -> bytes:
        """The same for bytes that are whole: UTF-8, or what looks alike."""
        table = self._tables().data
        return _without(data, table.spans(data)) if table.labels and data else data

    def ends(self, head: bytes, tail: bytes) -> tuple[bytes, bytes]:
        """What stood before and after a gap, masked, without parts of secrets at the gap."""
        table = self._tables().data
        before, after = len(head) - table.begun(head), table.ended(tail)
        cut = [(before, len(head), b"")] if before < len(head) else []
        rest = [(0, after, b"")] if after else []
        masked = _without(head, table.spans(head, more=cut))
        return masked, _without(tail, table.spans(tail, more=rest))

    def shown(self, text: str) -> dict[str, str]:
        """The secrets that the text shows in one form or another, with their names."""
        if not self._names:
            return {}
        secrets = self._tables().secrets
        found = {form for _, form in self._tables().text.found(text) if form in secrets}
        return {secret: self._names[secret] for form in found for secret in secrets[form]}

    def blank(self, text: str) -> str:
        """The text with a NUL for every secret in it."""
        return _without(
            text, [(start, end, "\0") for start, end, _ in self._tables().text.spans(text)]
        )

    def stream(self) -> Stream:
        """A new way for bytes that come bit by bit."""
        return Stream(self)

    @property
    def table(self) -> Table[bytes]:
        """What to look for in bytes, as of now."""
        return self._tables().data

    def _tables(self) -> _Tables:
        built = self._built
        if built is not None:
            return built
        with self._lock:
            secrets = {form: tuple(shows) for form, shows in self._forms.items()}
            known = {name: self._label(name) for name in dict.fromkeys(self._names.values())}
            labels = {form: known[self._names[shows[0]]] for form, shows in secrets.items()}
            data = {as_bytes(form): as_bytes(label) for form, label in labels.items()}
            self._built = _Tables(_table(labels), _table(data), secrets)
            return self._built

    def _label(self, name: str) -> str:
        """A label that shows no secret."""
        for label in (f"‹{name}›", "‹secret›"):
            if not any(form in label for form in self._forms):
                return label
        return "‹•›"


class Stream:
    """Masks bytes that come bit by bit: what may be the beginning of a secret is held back
    until it is known, so never more than the longest of them."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._held = b""
        self._covered = 0  # so many of the bytes held have had their label already

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; those that can be shown by now."""
        table = self._masks.table
        if not table.labels and not self._held:
            return data
        raw = self._held + data
        return self._give(raw, len(raw) - table.begun(raw), table)

    def end(self) -> bytes:
        """Nothing more comes: the rest."""
        return self._give(self._held, len(self._held), self._masks.table)

    def _give(self, raw: bytes, end: int, table: Table[bytes]) -> bytes:
        parts, at = [], 0
        for start, stop, label in table.spans(raw, self._covered):
            if start >= end and not (start == 0 and self._covered):
                break
            parts += [raw[at:start], label]
            at = stop
        parts.append(raw[at:end])
        self._held, self._covered = raw[end:], max(0, at - end)
        return b"".join(parts)


def as_bytes(text: str) -> bytes:
    """In UTF-8, bytes that were none before as they were."""
    try:
        return encode(text)
    except ValueError:
        return text.encode("utf-8", "replace")


def _table(labels: dict[AnyStr, AnyStr]) -> Table[AnyStr]:
    heads: dict[AnyStr, list[AnyStr]] = {}
    if len(labels) > _FEW:
        for form in labels:
            heads.setdefault(form[:LEAST], []).append(form)
    return Table(labels, heads)


def _without(text: AnyStr, spans: Sequence[Span[AnyStr]]) -> AnyStr:
    if not spans:
        return text
    parts: list[AnyStr] = []
    at = 0
    for start, stop, label in spans:
        parts += [text[at:start], label]
        at = stop
    parts.append(text[at:])
    return text[:0].join(parts)


def _beside_cuts(text: str, table: Table[str]) -> Iterator[Span[str]]:
    for cut in _CUT.finditer(text):
        before, after = table.begun(text[: cut.start()]), table.ended(text[cut.end() :])
        if before >= LEAST:
            yield cut.start() - before, cut.start(), "‹secret›"
        if after >= LEAST:
            yield cut.end(), cut.end() + after, "‹secret›"
