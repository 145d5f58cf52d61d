"""Masks secrets in text: everything that is displayed has ``‹name›`` in their place.

A secret is found whenever a reader could see it: also if escape sequences, control characters,
zero-width characters or line breaks are inside it, or typed over characters (``s\\bs``).
"""

from __future__ import annotations

import codecs
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import ESCAPES, apply_backspaces
from orchestrator.model.text_encoding import decode_bytes, encode_lossy

MIN_SECRET_CHARS = 4
"""Shorter texts cannot be masked, because they occur in too many other texts."""

_MIN_LOOSE_CHARS = 8
"""Minimum length of a secret that is also found with additional white space inside it.

Programs fold long lines. With a shorter secret this would mask unrelated text.
"""

_OMISSION = lazy_regex(r"\n?\[… [^\n…]{1,80} …\]\n?|…")
"""Where text was left out, so that only part of a secret may be next to it."""

_MAX_OMISSIONS = 200
"""Limit of omissions that are examined; orch itself adds only a few to a text."""

_MAX_UNINDEXED_FORMS = 150
"""Up to this number of forms, each is searched separately, which is much faster for a few."""

_CONTEXT_CHARS = 256  # characters
"""How much of its past output a stream keeps."""

_MAX_HELD_CHARS = 4096  # characters
"""How much a stream holds back at most, in addition to the longest form."""

_INVISIBLE_CHARS = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # controls
    # zero-width characters (Unicode 15, Default_Ignorable_Code_Point)
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
_INVISIBLE = lazy_regex(f"(?:{'|'.join(ESCAPES)}|[{_INVISIBLE_CHARS}])+")
_INVISIBLE_OR_BLANK = lazy_regex(f"(?:{'|'.join(ESCAPES)}|[{_INVISIBLE_CHARS}]|\\s)+")
_UNFINISHED_ESCAPE = lazy_regex(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|\x9d)[^\x07\x1b\n]*\x1b?|\x1b[ -/]*)\Z"
)
"""An escape sequence that is still incomplete."""

LabelledSpan: TypeAlias = "tuple[int, int, str]"


class VisibleText:
    """A text without white space and invisible characters, with the position of each character."""

    def __init__(self, text: str) -> None:
        """Collect the visible parts of the text."""
        parts: list[str] = []
        self._view_offsets: list[int] = []  # of each part, in the visible text
        self._text_offsets: list[int] = []  # of each part, in the original text
        size = 0
        for start, end in _visible_parts(text):
            parts.append(text[start:end])
            self._view_offsets.append(size)
            self._text_offsets.append(start)
            size += end - start
        self.text = "".join(parts)

    def text_offset(self, index: int) -> int:
        """Return the position in the original text of a visible character."""
        part = bisect_right(self._view_offsets, index) - 1
        return self._text_offsets[part] + index - self._view_offsets[part] if part >= 0 else 0

    def text_span(self, start: int, size: int) -> tuple[int, int]:
        """Return start and end in the original text of ``size`` visible characters."""
        return self.text_offset(start), self.text_offset(start + size - 1) + 1


def _visible_parts(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of the visible parts of the text, without white space."""
    if "\b" in text:
        yield from _parts_after_backspaces(text)
        return
    at = 0
    for gap in _INVISIBLE_OR_BLANK.finditer(text):
        if gap.start() > at:
            yield at, gap.start()
        at = gap.end()
    if at < len(text):
        yield at, len(text)


def _parts_after_backspaces(text: str) -> Iterator[tuple[int, int]]:
    kept: list[int] = []
    at = 0
    for gap in (*((m.start(), m.end()) for m in _INVISIBLE.finditer(text)), (len(text), len(text))):
        kept += range(at, gap[0])
        for _ in range(text.count("\b", *gap)):
            if kept and text[kept[-1]] not in "\r\n":
                kept.pop()
        at = gap[1]
    for at in kept:
        if not text[at].isspace():
            yield at, at + 1


class SecretTable(Struct, frozen=True):
    """The forms to search for, with their labels.

    ``loose_forms`` maps a form without white space and invisible characters to the original forms.
    ``forms_by_head`` and ``loose_forms_by_head`` index the forms by their first
    ``MIN_SECRET_CHARS`` characters; they are empty if there are few forms. ``longest_form`` is a
    number of characters.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    loose_forms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    forms_by_head: Mapping[str, Sequence[str]] = field(default_factory=dict)
    loose_forms_by_head: Mapping[str, Sequence[str]] = field(default_factory=dict)
    longest_form: int = 0

    def find_spans(self, text: str, extra_spans: Iterable[LabelledSpan] = ()) -> list[LabelledSpan]:
        """Return the spans of all secrets in the text in order; overlapping spans are merged."""
        found = [(at, at + len(form), self.labels[form]) for at, form in self.find_forms(text)]
        found += self._find_loose(text)
        found += extra_spans
        found.sort(key=lambda span: (span[0], -span[1]))
        merged: list[LabelledSpan] = []
        for start, end, label in found:
            if merged and start < merged[-1][1]:
                first, last, kept = merged[-1]
                merged[-1] = (first, max(last, end), kept)
            else:
                merged.append((start, end, label))
        return merged

    def find_forms(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield the position of each exact occurrence of a form, and the form."""
        return _find_occurrences(text, self.labels, self.forms_by_head)

    def _find_loose(self, text: str) -> Iterator[LabelledSpan]:
        view = VisibleText(text)
        for index, key in _find_occurrences(view.text, self.loose_forms, self.loose_forms_by_head):
            start, end = view.text_span(index, len(key))
            form = _matching_form(text[start:end], self.loose_forms[key])
            if form or len(key) >= _MIN_LOOSE_CHARS:
                yield start, end, self.labels[form or self.loose_forms[key][0]]

    def started_length(self, text: str, min_chars: int = 1) -> int:
        """Return how many characters at the end of the text may be the start of a secret.

        The result is 0 or at least ``min_chars``; if invisible characters are among them, at least
        ``MIN_SECRET_CHARS``.
        """
        text = text[-self.max_span :]
        most = _started_length(text, self.labels, min_chars)
        view = VisibleText(text)
        size = _started_length(view.text, self.loose_forms, max(min_chars, MIN_SECRET_CHARS))
        return max(most, len(text) - view.text_offset(len(view.text) - size)) if size else most

    def ended_length(self, text: str, min_chars: int = 1) -> int:
        """Return how many characters at the start of the text may be the end of a secret."""
        text = text[: self.max_span]
        most = _ended_length(text, self.labels, min_chars)
        view = VisibleText(text)
        size = _ended_length(view.text, self.loose_forms, max(min_chars, MIN_SECRET_CHARS))
        return max(most, view.text_offset(size - 1) + 1) if size else most

    @property
    def max_span(self) -> int:
        """Return how many characters an occurrence may span, invisible ones included."""
        return 2 * self.longest_form + 4 * _CONTEXT_CHARS


def _find_occurrences(
    text: str, keys: Iterable[str], by_head: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, str]]:
    if by_head:
        for start in range(len(text) - MIN_SECRET_CHARS + 1):
            for key in by_head.get(text[start : start + MIN_SECRET_CHARS], ()):
                if text.startswith(key, start):
                    yield start, key
        return
    for key in keys:
        start = text.find(key)
        while start >= 0:
            yield start, key
            start = text.find(key, start + 1)


def _started_length(text: str, keys: Iterable[str], min_chars: int) -> int:
    most = min_chars - 1
    for key in keys:
        start = text.find(key[:1], max(0, len(text) - len(key) + 1))
        while start >= 0 and len(text) - start > most:
            if key.startswith(text[start:]):
                most = len(text) - start
            start = text.find(key[:1], start + 1)
    return most if most >= min_chars else 0


def _ended_length(text: str, keys: Iterable[str], min_chars: int) -> int:
    most = min_chars - 1
    for key in keys:
        start = key.find(text[:1], 1) if text else -1
        while start >= 0 and len(key) - start > most:
            if text.startswith(key[start:]):
                most = len(key) - start
            start = key.find(text[:1], start + 1)
    return most if most >= min_chars else 0


def _matching_form(text: str, forms: Sequence[str]) -> str:
    """Return the form that the text shows, white space included, or ''."""
    shown = _INVISIBLE.sub("", apply_backspaces(text))
    return next((form for form in forms if _INVISIBLE.sub("", form) == shown), "")


class SecretTables(Struct, frozen=True):
    """The search table, and for each form the secrets that it shows."""

    table: SecretTable
    secrets_by_form: Mapping[str, Sequence[str]]


class SecretMasker:
    """The secrets of a run as they become known. Thread-safe.

    It is true if there are any; otherwise masking returns its argument.
    """

    def __init__(self) -> None:
        """Create a masker without secrets."""
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._forms: dict[str, list[str]] = {}  # each with the secrets that it shows
        self._built_tables: SecretTables | None = None

    def __bool__(self) -> bool:
        """Return True if there are any secrets."""
        return bool(self._names)

    def secret_names(self) -> frozenset[str]:
        """Return the names of all secrets."""
        with self._lock:
            return frozenset(self._names.values())

    def add_secret(self, name: str, text: str) -> None:
        """Mask this text, and each of its lines, in all encodings; ignore too short texts."""
        # a run without secrets does not need it
        from orchestrator.model.secret_encodings import encoded_forms

        with self._lock:
            for part in (text, *text.splitlines()):
                if len(part.strip()) < MIN_SECRET_CHARS or part in self._names:
                    continue
                self._names[part] = name
                for form in encoded_forms(part, MIN_SECRET_CHARS):
                    self._forms.setdefault(form, []).append(part)
                self._built_tables = None

    def mask_text(self, text: str) -> str:
        """Return the text with secrets masked, and also parts of secrets next to a ``…``."""
        table = self.table
        if not table.labels or not text:
            return text
        return _replace_spans(text, table.find_spans(text, _spans_beside_omissions(text, table)))

    def mask_bytes(self, data: bytes) -> bytes:
        """Return the bytes with secrets masked; ``data`` must be complete."""
        table = self.table
        if not table.labels or not data:
            return data
        text = decode_bytes(data)
        spans = table.find_spans(text)
        return encode_lossy(_replace_spans(text, spans)) if spans else data

    def mask_head_and_tail(self, head: bytes, tail: bytes) -> tuple[bytes, bytes]:
        """Return the text around a gap with secrets masked, also parts of them at the gap."""
        table, first, last = self.table, decode_bytes(head), decode_bytes(tail)
        before, after = len(first) - table.started_length(first), table.ended_length(last)
        cut = [(before, len(first), "")] if before < len(first) else []
        rest = [(0, after, "")] if after else []
        masked = (
            _replace_spans(first, table.find_spans(first, cut)),
            _replace_spans(last, table.find_spans(last, rest)),
        )
        return encode_lossy(masked[0]), encode_lossy(masked[1])

    def secrets_shown_in(self, text: str) -> dict[str, str]:
        """Return the secrets that the text contains in any encoding, with their names."""
        if not self._names:
            return {}
        secrets = self._tables().secrets_by_form
        found = {form for _, form in self.table.find_forms(text) if form in secrets}
        return {secret: self._names[secret] for form in found for secret in secrets[form]}

    def blank_secrets(self, text: str) -> str:
        """Return the text with a NUL for every secret in it."""
        return _replace_spans(
            text, [(start, end, "\0") for start, end, _ in self.table.find_spans(text)]
        )

    def new_stream(self) -> MaskingStream:
        """Return a new masking stream."""
        return MaskingStream(self)

    @property
    def table(self) -> SecretTable:
        """Return the current search table."""
        return self._tables().table

    def _tables(self) -> SecretTables:
        built = self._built_tables
        if built is not None:
            return built
        with self._lock:
            secrets = {form: tuple(shows) for form, shows in self._forms.items()}
            known = {name: self._label(name) for name in dict.fromkeys(self._names.values())}
            labels = {form: known[self._names[shows[0]]] for form, shows in secrets.items()}
            self._built_tables = SecretTables(_build_table(labels), secrets)
            return self._built_tables

    def _label(self, name: str) -> str:
        """Return a label that contains no secret."""
        for label in (f"‹{name}›", "‹secret›"):
            if not any(form in label for form in self._forms):
                return label
        return "‹•›"


class MaskingStream:
    """Masks a stream of bytes.

    What may be the start of a secret is held back until more bytes arrive. If a secret continues
    after a line end, fewer than ``MIN_SECRET_CHARS`` of its characters may already have been
    returned.
    """

    def __init__(self, masks: SecretMasker) -> None:
        """Start an empty stream."""
        self._masks = masks
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._buffer = ""  # the last characters returned, then the characters held back
        self._emitted_chars = 0  # how many characters of the buffer were returned
        # the last of these belongs to a secret whose label was returned
        self._ends_in_secret = False

    def feed(self, data: bytes) -> bytes:
        """Add the next bytes and return those that can be shown already."""
        table = self._masks.table
        if (
            not table.labels
            and len(self._buffer) == self._emitted_chars
            and not self._decoder.getstate()[0]
        ):
            return data
        text = self._buffer + self._decoder.decode(data)
        return self._emit(text, len(text) - self._held_length(text, table), table)

    def finish(self) -> bytes:
        """Return the remaining bytes at the end of the stream."""
        text = self._buffer + self._decoder.decode(b"", final=True)
        return self._emit(text, len(text), self._masks.table)

    def _held_length(self, text: str, table: SecretTable) -> int:
        """Return how many characters at the end may belong to a secret or an escape in it."""
        held, unended = table.started_length(text), _unfinished_escape_length(text)
        if unended and (before := table.started_length(text[: len(text) - unended])):
            held = max(held, before + unended)
        return held if held <= table.longest_form + _MAX_HELD_CHARS else 0

    def _emit(self, text: str, end: int, table: SecretTable) -> bytes:
        parts: list[str] = []
        at, end = self._emitted_chars, max(end, self._emitted_chars)
        covered = self._ends_in_secret and end == at
        for start, stop, label in table.find_spans(text):
            if start >= end:
                break
            if stop <= at:
                continue
            if start >= at:
                parts += [text[at:start], label]
            elif not self._ends_in_secret:
                parts.append(label)
            at, covered = stop, stop >= end
        parts.append(text[at:end])
        out = max(at, end)
        kept = max(0, out - _CONTEXT_CHARS)
        self._buffer, self._emitted_chars, self._ends_in_secret = text[kept:], out - kept, covered
        return encode_lossy("".join(parts))


def _build_table(labels: Mapping[str, str]) -> SecretTable:
    loose: dict[str, list[str]] = {}
    for form in labels:
        key = _INVISIBLE_OR_BLANK.sub("", form)
        if len(key) >= MIN_SECRET_CHARS:
            loose.setdefault(key, []).append(form)
    return SecretTable(
        labels,
        loose,
        _index_by_head(labels),
        _index_by_head(loose),
        max(map(len, labels), default=0),
    )


def _index_by_head(keys: Collection[str]) -> dict[str, list[str]]:
    heads: dict[str, list[str]] = {}
    for key in keys if len(keys) > _MAX_UNINDEXED_FORMS else ():
        heads.setdefault(key[:MIN_SECRET_CHARS], []).append(key)
    return heads


def _replace_spans(text: str, spans: Sequence[LabelledSpan]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, stop, label in spans:
        parts += [text[at:start], label]
        at = stop
    parts.append(text[at:])
    return "".join(parts)


def _spans_beside_omissions(text: str, table: SecretTable) -> Iterator[LabelledSpan]:
    for cut in islice(_OMISSION.finditer(text), _MAX_OMISSIONS) if "…" in text else ():
        first, last = cut.span()
        before = table.started_length(
            text[max(0, first - table.max_span) : first], MIN_SECRET_CHARS
        )
        after = table.ended_length(text[last : last + table.max_span], MIN_SECRET_CHARS)
        if before:
            yield first - before, first, "‹secret›"
        if after:
            yield last, last + after, "‹secret›"


def _unfinished_escape_length(text: str) -> int:
    """Return how many characters at the end belong to an incomplete escape sequence."""
    found = _UNFINISHED_ESCAPE.search(text[-_MAX_HELD_CHARS:])
    return len(found[0]) if found else 0
