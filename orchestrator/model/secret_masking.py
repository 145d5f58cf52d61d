"""Secrets out of text: whatever is shown has ``‹name›`` in their place.

A secret is found wherever a reader would see it: also where escape sequences, controls, characters
without a width or line breaks stand within it, or typed over characters (``s\\bs``).
"""

from __future__ import annotations

import codecs
import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.lazy_regex import regex
from orchestrator.model.sanitize import ESCAPES, rubbed_out
from orchestrator.model.text_encoding import decode, encode

LEAST = 4
"""Shorter texts cannot be hidden: they stand in too many others."""

_LOOSE = 8
"""From so many characters on a secret is found with blanks within it that are not its own: a
program folds lines. Of a shorter one that would hide what is none."""

_CUT = regex(r"\n?\[… [^\n…]{1,80} …\]\n?|…")
"""Where something was left out, so that only a part of a secret may stand beside it."""

_CUTS = 200
"""So many of them are looked at: what orch itself leaves out of a text leaves a few."""

_FEW = 150
"""Up to so many forms each is looked for by itself, which for a handful is much faster."""

_CONTEXT = 256  # characters
"""How far back a stream still knows what it gave out."""

_HELD = 4096  # characters
"""What a stream holds back at most, beyond the longest of what it looks for."""

_HIDDEN = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # controls
    # what has no width (Unicode 15, Default_Ignorable_Code_Point)
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
_UNSEEN = regex(f"(?:{'|'.join(ESCAPES)}|[{_HIDDEN}])+")
_BLANK = regex(f"(?:{'|'.join(ESCAPES)}|[{_HIDDEN}]|\\s)+")
_UNENDED = regex(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|\x9d)[^\x07\x1b\n]*\x1b?|\x1b[ -/]*)\Z"
)
"""An escape sequence whose end has not come yet."""

Span: TypeAlias = "tuple[int, int, str]"


class _View:
    """A text without blanks and all that is not seen, and where in it each character stands."""

    def __init__(self, text: str) -> None:
        parts: list[str] = []
        self._starts: list[int] = []  # of each part, in the view
        self._at: list[int] = []  # and in the text
        size = 0
        for start, end in _seen(text):
            parts.append(text[start:end])
            self._starts.append(size)
            self._at.append(start)
            size += end - start
        self.text = "".join(parts)

    def at(self, index: int) -> int:
        """Where in the text the view's character stands."""
        part = bisect_right(self._starts, index) - 1
        return self._at[part] + index - self._starts[part] if part >= 0 else 0

    def span(self, start: int, size: int) -> tuple[int, int]:
        """What of the text some characters of the view take up."""
        return self.at(start), self.at(start + size - 1) + 1


def _seen(text: str) -> Iterator[tuple[int, int]]:
    """The parts of the text that are seen, blanks left out."""
    if "\b" in text:
        yield from _not_rubbed_out(text)
        return
    at = 0
    for gap in _BLANK.finditer(text):
        if gap.start() > at:
            yield at, gap.start()
        at = gap.end()
    if at < len(text):
        yield at, len(text)


def _not_rubbed_out(text: str) -> Iterator[tuple[int, int]]:
    kept: list[int] = []
    at = 0
    for gap in (*((m.start(), m.end()) for m in _UNSEEN.finditer(text)), (len(text), len(text))):
        kept += range(at, gap[0])
        for _ in range(text.count("\b", *gap)):
            if kept and text[kept[-1]] not in "\r\n":
                kept.pop()
        at = gap[1]
    for at in kept:
        if not text[at].isspace():
            yield at, at + 1


class Table(Struct, frozen=True):
    """What to look for, with what stands in its place. ``loose``: without blanks and what is not
    seen, with all that it stands for. ``by_head`` and ``loose_by_head``: the same by their first
    ``LEAST`` characters, none where they are few. ``longest``: characters of a form."""

    labels: Mapping[str, str] = field(default_factory=dict)
    loose: Mapping[str, Sequence[str]] = field(default_factory=dict)
    by_head: Mapping[str, Sequence[str]] = field(default_factory=dict)
    loose_by_head: Mapping[str, Sequence[str]] = field(default_factory=dict)
    longest: int = 0

    def spans(self, text: str, more: Iterable[Span] = ()) -> list[Span]:
        """Return where in the text they stand, in order; those that overlap as one."""
        found = [(at, at + len(form), self.labels[form]) for at, form in self.found(text)]
        found += self._loosely(text)
        found += more
        found.sort(key=lambda span: (span[0], -span[1]))
        merged: list[Span] = []
        for start, end, label in found:
            if merged and start < merged[-1][1]:
                first, last, kept = merged[-1]
                merged[-1] = (first, max(last, end), kept)
            else:
                merged.append((start, end, label))
        return merged

    def found(self, text: str) -> Iterator[tuple[int, str]]:
        """Where each of them begins, as it is."""
        return _occurrences(text, self.labels, self.by_head)

    def _loosely(self, text: str) -> Iterator[Span]:
        view = _View(text)
        for index, key in _occurrences(view.text, self.loose, self.loose_by_head):
            start, end = view.span(index, len(key))
            form = _as_seen(text[start:end], self.loose[key])
            if form or len(key) >= _LOOSE:
                yield start, end, self.labels[form or self.loose[key][0]]

    def begun(self, text: str, least: int = 1) -> int:
        """Return how many characters at the end of the text may be the beginning of one of them:
        ``least`` or more, and ``LEAST`` where what is not seen stands among them."""
        text = text[-self.reach :]
        most = _begun(text, self.labels, least)
        view = _View(text)
        size = _begun(view.text, self.loose, max(least, LEAST))
        return max(most, len(text) - view.at(len(view.text) - size)) if size else most

    def ended(self, text: str, least: int = 1) -> int:
        """Return how many characters at the beginning of the text may be the end of one."""
        text = text[: self.reach]
        most = _ended(text, self.labels, least)
        view = _View(text)
        size = _ended(view.text, self.loose, max(least, LEAST))
        return max(most, view.at(size - 1) + 1) if size else most

    @property
    def reach(self) -> int:
        """How far one of them may reach, with what is not seen among it."""
        return 2 * self.longest + 4 * _CONTEXT


def _occurrences(
    text: str, keys: Iterable[str], by_head: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, str]]:
    if by_head:
        for start in range(len(text) - LEAST + 1):
            for key in by_head.get(text[start : start + LEAST], ()):
                if text.startswith(key, start):
                    yield start, key
        return
    for key in keys:
        start = text.find(key)
        while start >= 0:
            yield start, key
            start = text.find(key, start + 1)


def _begun(text: str, keys: Iterable[str], least: int) -> int:
    most = least - 1
    for key in keys:
        start = text.find(key[:1], max(0, len(text) - len(key) + 1))
        while start >= 0 and len(text) - start > most:
            if key.startswith(text[start:]):
                most = len(text) - start
            start = text.find(key[:1], start + 1)
    return most if most >= least else 0


def _ended(text: str, keys: Iterable[str], least: int) -> int:
    most = least - 1
    for key in keys:
        start = key.find(text[:1], 1) if text else -1
        while start >= 0 and len(key) - start > most:
            if text.startswith(key[start:]):
                most = len(key) - start
            start = key.find(text[:1], start + 1)
    return most if most >= least else 0


def _as_seen(text: str, forms: Sequence[str]) -> str:
    """Return the one of the forms that the text shows, blanks and all, or ''."""
    shown = _UNSEEN.sub("", rubbed_out(text))
    return next((form for form in forms if _UNSEEN.sub("", form) == shown), "")


class _Tables(Struct, frozen=True):
    """``secrets``: by form, those that it shows."""

    table: Table
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

    def names(self) -> frozenset[str]:
        """The names of all secrets that are hidden."""
        with self._lock:
            return frozenset(self._names.values())

    def add(self, name: str, text: str) -> None:
        """Hide this text, and each of its lines, in any form under the name; what is too short
        is left."""
        from orchestrator.model.secret_encodings import forms  # not for a run without secrets

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
        table = self.table
        if not table.labels or not text:
            return text
        return _without(text, table.spans(text, _beside_cuts(text, table)))

    def data(self, data: bytes) -> bytes:
        """The same for bytes that are whole."""
        table = self.table
        if not table.labels or not data:
            return data
        text = decode(data)
        spans = table.spans(text)
        return as_bytes(_without(text, spans)) if spans else data

    def ends(self, head: bytes, tail: bytes) -> tuple[bytes, bytes]:
        """What stood before and after a gap, masked, without parts of secrets at the gap."""
        table, first, last = self.table, decode(head), decode(tail)
        before, after = len(first) - table.begun(first), table.ended(last)
        cut = [(before, len(first), "")] if before < len(first) else []
        rest = [(0, after, "")] if after else []
        masked = _without(first, table.spans(first, cut)), _without(last, table.spans(last, rest))
        return as_bytes(masked[0]), as_bytes(masked[1])

    def shown(self, text: str) -> dict[str, str]:
        """The secrets that the text shows in one form or another, with their names."""
        if not self._names:
            return {}
        secrets = self._tables().secrets
        found = {form for _, form in self.table.found(text) if form in secrets}
        return {secret: self._names[secret] for form in found for secret in secrets[form]}

    def blank(self, text: str) -> str:
        """The text with a NUL for every secret in it."""
        return _without(text, [(start, end, "\0") for start, end, _ in self.table.spans(text)])

    def stream(self) -> Stream:
        """A new way for bytes that come bit by bit."""
        return Stream(self)

    @property
    def table(self) -> Table:
        """What to look for, as of now."""
        return self._tables().table

    def _tables(self) -> _Tables:
        built = self._built
        if built is not None:
            return built
        with self._lock:
            secrets = {form: tuple(shows) for form, shows in self._forms.items()}
            known = {name: self._label(name) for name in dict.fromkeys(self._names.values())}
            labels = {form: known[self._names[shows[0]]] for form, shows in secrets.items()}
            self._built = _Tables(_table(labels), secrets)
            return self._built

    def _label(self, name: str) -> str:
        """A label that shows no secret."""
        for label in (f"‹{name}›", "‹secret›"):
            if not any(form in label for form in self._forms):
                return label
        return "‹•›"


class Stream:
    """Masks bytes that come bit by bit: what may be the beginning of a secret is held back
    until it is known. Of one that goes on after a line's end fewer than ``LEAST`` characters may
    have been given out by then."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""  # the last of what was given out, then what is held
        self._out = 0  # so many of its characters were
        self._covered = False  # the last of these stands for a secret, whose label is out

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; those that can be shown by now."""
        table = self._masks.table
        if not table.labels and len(self._text) == self._out and not self._decoder.getstate()[0]:
            return data
        text = self._text + self._decoder.decode(data)
        return self._give(text, len(text) - self._holds(text, table), table)

    def end(self) -> bytes:
        """Nothing more comes: the rest."""
        text = self._text + self._decoder.decode(b"", final=True)
        return self._give(text, len(text), self._masks.table)

    def _holds(self, text: str, table: Table) -> int:
        """How many characters at the end may be a secret's, or an escape sequence's within it."""
        held, unended = table.begun(text), _unended(text)
        if unended and (before := table.begun(text[: len(text) - unended])):
            held = max(held, before + unended)
        return held if held <= table.longest + _HELD else 0

    def _give(self, text: str, end: int, table: Table) -> bytes:
        parts: list[str] = []
        at, end = self._out, max(end, self._out)
        covered = self._covered and end == at
        for start, stop, label in table.spans(text):
            if start >= end:
                break
            if stop <= at:
                continue
            if start >= at:
                parts += [text[at:start], label]
            elif not self._covered:
                parts.append(label)
            at, covered = stop, stop >= end
        parts.append(text[at:end])
        out = max(at, end)
        kept = max(0, out - _CONTEXT)
        self._text, self._out, self._covered = text[kept:], out - kept, covered
        return as_bytes("".join(parts))


def as_bytes(text: str) -> bytes:
    """In UTF-8, bytes that were none before as they were."""
    try:
        return encode(text)
    except ValueError:
        return text.encode("utf-8", "replace")


def _table(labels: Mapping[str, str]) -> Table:
    loose: dict[str, list[str]] = {}
    for form in labels:
        key = _BLANK.sub("", form)
        if len(key) >= LEAST:
            loose.setdefault(key, []).append(form)
    return Table(labels, loose, _heads(labels), _heads(loose), max(map(len, labels), default=0))


def _heads(keys: Collection[str]) -> dict[str, list[str]]:
    heads: dict[str, list[str]] = {}
    for key in keys if len(keys) > _FEW else ():
        heads.setdefault(key[:LEAST], []).append(key)
    return heads


def _without(text: str, spans: Sequence[Span]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, stop, label in spans:
        parts += [text[at:start], label]
        at = stop
    parts.append(text[at:])
    return "".join(parts)


def _beside_cuts(text: str, table: Table) -> Iterator[Span]:
    for cut in islice(_CUT.finditer(text), _CUTS) if "…" in text else ():
        first, last = cut.span()
        before = table.begun(text[max(0, first - table.reach) : first], LEAST)
        after = table.ended(text[last : last + table.reach], LEAST)
        if before:
            yield first - before, first, "‹secret›"
        if after:
            yield last, last + after, "‹secret›"


def _unended(text: str) -> int:
    """How many characters at the end are an escape sequence that may go on."""
    found = _UNENDED.search(text[-_HELD:])
    return len(found[0]) if found else 0
