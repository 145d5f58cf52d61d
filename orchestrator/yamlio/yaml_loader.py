"""What a plain YAML scalar means: fewer things than YAML 1.1 says, and no surprises.

A scalar is a number only where printing the number gives the same text back, so that
``0644``, ``1_000``, ``1.10``, ``0x1F``, ``22:22``, ``1e3`` and dates stay text. ``yes``,
``no``, ``on`` and ``off`` are text, too.

What libyaml says about a text that is not YAML, in words that help.

``!secret`` as it stands in a file: where a value comes from that no file may hold.

One YAML file to one marked value.

YAML 1.1 as libyaml reads it, with the scalars of ``scalar.py``. Duplicate keys, further
documents and unknown tags are refused; keys are text, as written; anchors, aliases and
``<<`` work, within bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader as YamlReader
from yaml.reader import ReaderError

from orchestrator.errors import DefinitionError, Mark, Problem, Problems
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Data, Key, Value
from orchestrator.model.secret import Secret
from orchestrator.yamlio.local_files import read_file
from orchestrator.yamlio.schema import Reader

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_INTEGER = regex(r"-?[1-9][0-9]{0,99}|0")
_DECIMAL = regex(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_FIRST = frozenset("-0123456789")


def resolve(text: str) -> Scalar:
    """The value of a plain scalar: null, a boolean, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def typed(tag: str, text: str) -> Scalar:
    """The value of a scalar under a standard tag like ``!!int``, given by its last word.

    Raises ``ValueError`` where the text is no such value, or the tag is none of
    str, int, float, bool and null.
    """
    if tag == "str":
        return text
    value = resolve(text)
    kinds: dict[str, type | tuple[type, ...]] = {
        **{"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    }
    right = isinstance(value, kinds.get(tag, ()))
    if not right or (isinstance(value, bool) and tag != "bool"):
        raise ValueError(text)
    return float(value) if tag == "float" and isinstance(value, int) else value


_BARE_TEMPLATE = regex(r"""(?:^\s*|:\s+|-\s+|[\[,]\s*)(\{\{|\{%)""")
_NESTED_BRACKET = regex(r"\[[^\]\"']*\[|\[[0-9A-Fa-f]*:[0-9A-Fa-f:.%]*\]")
DEPTH = 100
"""How deep lists and mappings may be nested in one another."""
TOO_DEEP = f"nested more than {DEPTH} levels deep"
_QUOTE = "put the value in quotes"
TEMPLATE_HINT = 'a value that begins with {{ or {% must be quoted: "{{ … }}"'


def not_yaml(error: yaml.YAMLError, text: str, shown: str) -> DefinitionError:
    """The parser's complaint with its place and, where the cause is a known one, the cure."""
    if isinstance(error, ReaderError):
        return _unprintable(text, shown)
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return DefinitionError(Problem(f"not valid YAML: {error}", Mark(shown)))
    at, begun = error.problem_mark, error.context_mark
    problem = error.problem or "it cannot be read"
    if "end of stream" in problem and begun is not None:
        at, problem = begun, "what begins here has no end"
    if "maximum nesting depth" in problem:  # libyaml's own bound, which is higher (PyYAML 6.0.4)
        return DefinitionError(Problem(TOO_DEEP, Mark(shown, at.line + 1, at.column + 1)))
    rows = text.splitlines()
    row = rows[at.line] if at.line < len(rows) else ""
    mark = Mark(shown, at.line + 1, at.column + 1)
    indent = row[: len(row) - len(row.lstrip())]
    if "\t" in indent and at.column <= len(indent):
        tab = Mark(shown, at.line + 1, indent.index("\t") + 1)
        return DefinitionError(Problem("a tab cannot indent YAML", tab, "indent with spaces"))
    context = f" {error.context}" if error.context and begun is not at else ""
    if context and begun is not None and begun.line != at.line:
        context += f" that begins in line {begun.line + 1}"
    return DefinitionError(Problem(f"not valid YAML: {problem}{context}", mark, _cure(row, error)))


def _cure(row: str, error: yaml.MarkedYAMLError) -> str:
    if _BARE_TEMPLATE.search(row):
        return TEMPLATE_HINT
    problem = error.problem or ""
    if "cannot start any token" in problem:
        return _QUOTE
    if "mapping values are not allowed" in problem:
        return f"{_QUOTE} if it holds a ': ', and look at the indentation"
    if _NESTED_BRACKET.search(row):
        return f"{_QUOTE}: brackets mean a list otherwise"
    if "expected key" in problem or "block end" in problem:
        return "look at the indentation of this line and of the one above"
    return ""


def _unprintable(text: str, shown: str) -> DefinitionError:
    bad = YamlReader.NON_PRINTABLE.search(text)
    if bad is None:
        return DefinitionError(Problem("a character that YAML does not allow", Mark(shown)))
    before = text[: bad.start()]
    mark = Mark(shown, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    what = f"the character U+{ord(bad[0]):04X} may not stand in YAML"
    return DefinitionError(
        Problem(what, mark, r'remove it, or write it as "\x07" in double quotes')
    )


KINDS = ("env", "command", "file", "prompt")
_SECTIONS = ("vars", "environment", "defaults")
FORM = 'like !secret {env: DB_PASSWORD}, {command: [sops, -d, …]}, {file: …} or {prompt: "…"}'


def read_secret(value: Value, keys: Sequence[str], problems: Problems) -> Secret | None:
    """The secret that a mapping under the tag describes. ``keys`` lead to it in its file.

    None where it is no such mapping, which is told.
    """
    read = Reader(problems)
    if not isinstance(value.data, dict) or not value.data:
        what = "!secret must be a mapping that says where it comes from"
        problems.add(what, value.mark, FORM)  # what stands there may be the secret itself
        return None
    fields = read.mapping(value, "!secret", KINDS)
    if len(fields) != len(value.data):
        return None
    if len(fields) > 1:
        listed = " and ".join(fields)
        problems.add(f"!secret says both {listed}", value.mark, "one secret has one source")
        return None
    ((kind, source),) = fields.items()
    words = _words(kind, source, read)
    if not words:
        return None
    for word in words:
        if "{{" in word or "{%" in word:
            what = f"{kind} of !secret is a template, and it is taken as it stands"
            problems.add(what, source.mark, "write it out; stages may each say their own")
            return None
    folder = str(Path(value.mark.path).parent) if kind in ("command", "file") else ""
    return Secret(str(kind), words, folder, _name(keys), value.mark)


def _words(kind: str, source: Value, read: Reader) -> tuple[str, ...]:
    if kind == "command":
        if not isinstance(source.data, list) or not source.data:
            read.wrong(source, "command of !secret", "a list of words", "like [sops, -d, db.enc]")
            return ()
        texts = [read.text(item, "a word of command") for item in source.data]
        return tuple(text for text in texts if text is not None) if None not in texts else ()
    text = read.text(source, f"{kind} of !secret")
    if text is not None and not text.strip():
        read.wrong(source, f"{kind} of !secret", "a text that is not blank")
        return ()
    return () if text is None else (text,)


def _name(keys: Sequence[str]) -> str:
    """The variable's name: of what leads to it, all that is below the section it stands in."""
    for section in _SECTIONS:
        if section in keys[:-1]:
            keys = keys[keys.index(section) + 1 :]
            break
    return ".".join(keys) or "secret"


# A PyYAML built without libyaml has only the slow one; it speaks the same events.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD = "tag:yaml.org,2002:"
_ALIASED = 100_000
"""How many values aliases may stand for in one file: enough for people, not for bombs."""


def load(path: Path, shown: str, *, secrets: bool = False) -> Value:
    """What the file holds; an empty one holds null.

    ``shown`` is the path in marks; ``secrets``: whether ``!secret`` may stand in it.
    Raises ``DefinitionError`` with every problem found.
    """
    try:
        data = read_file(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DefinitionError(Problem(f"cannot read {shown}: {why}", Mark(shown))) from error
    return parse(decode(data, shown), shown, secrets=secrets)


def decode(data: bytes, shown: str) -> str:
    """UTF-8 with or without a BOM as text. Raises ``DefinitionError`` where it is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        body = error.object  # without the BOM
        before = body[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        mark = Mark(shown, before.count(b"\n") + 1, column)
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = f"not UTF-8: {'UTF-16' if wide else f'the byte 0x{body[error.start]:02x}'}"
        raise DefinitionError(Problem(what, mark, "save the file as UTF-8")) from error


def parse(text: str, shown: str, *, secrets: bool = False) -> Value:
    """What a YAML text holds. Raises ``DefinitionError`` with every problem found."""
    if not text or text.isspace():
        return Value(None, Mark(shown, 1, 1))
    builder = _Builder(text, shown, secrets=secrets)
    try:
        value = builder.document()
    except yaml.YAMLError as error:
        broken = not_yaml(error, text, shown)
        told = {p.mark.line for p in builder.problems.found if p.mark}
        rest = [p for p in broken.problems if not (p.mark and p.mark.line in told)]
        raise DefinitionError(*builder.problems.found, *rest) from error
    builder.problems.raise_any()
    return value


class _Builder:
    """Makes values of the parser's events, noting what is wrong and going on."""

    def __init__(self, text: str, shown: str, *, secrets: bool) -> None:
        self.shown = shown
        self.secrets = secrets
        self.keys: list[str] = []  # that lead to what is being built
        self.problems = Problems()
        self.events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)
        self.anchors: dict[str, tuple[Value, int] | None] = {}  # None while it is being built
        self.nodes = 0  # built so far, those behind aliases included
        self.aliased = 0
        self.depth = 0

    def mark(self, event: Any) -> Mark:
        at = event.start_mark
        return Mark(self.shown, at.line + 1, at.column + 1)

    def fail(self, what: str, event: Any, hint: str = "") -> DefinitionError:
        return DefinitionError(*self.problems.found, Problem(what, self.mark(event), hint))

    def document(self) -> Value:
        next(self.events)
        event = next(self.events)
        if type(event) is yaml.StreamEndEvent:
            return Value(None, Mark(self.shown, 1, 1))
        value = self.node(next(self.events))
        next(self.events)
        after = next(self.events)
        if type(after) is not yaml.StreamEndEvent:
            hint = "remove the '---', or make two files of it"
            raise self.fail("a second document begins here; a file holds one", after, hint)
        return value

    def node(self, event: Any) -> Value:
        if type(event) is yaml.AliasEvent:
            return self.alias(event)
        before, anchor = self.nodes, event.anchor
        self.nodes += 1
        if anchor:
            self.anchors[anchor] = None
        value = Value(self.data(event), self.mark(event))
        if anchor:
            self.anchors[anchor] = (value, self.nodes - before)
        return value

    def data(self, event: Any) -> Data:
        kind = type(event)
        if event.tag == "!secret":
            return self.secret(event)
        if kind is yaml.ScalarEvent:
            return self.scalar(event)
        self.tag(event, "map" if kind is yaml.MappingStartEvent else "seq")
        self.depth += 1
        if self.depth > DEPTH:
            raise self.fail(TOO_DEEP, event)
        data: Data = self.mapping(event) if kind is yaml.MappingStartEvent else self.sequence()
        self.depth -= 1
        return data

    def secret(self, event: Any) -> Data:
        """What stands under the tag ``!secret``."""
        event.tag = None
        value = Value(self.data(event), self.mark(event))
        if not self.secrets:
            hint = "put it among the vars of a stage, role, host or app, and name it here"
            what = "a secret stands among the inventory's variables only"
            self.problems.add(what, value.mark, hint)
            return None
        return read_secret(value, self.keys, self.problems)

    def alias(self, event: Any) -> Value:
        name = event.anchor
        if name not in self.anchors:
            raise self.fail(f"no anchor &{name} stands above this alias", event)
        known = self.anchors[name]
        if known is None:
            raise self.fail(f"the alias *{name} stands inside what it names", event)
        value, size = known
        self.nodes += size
        self.aliased += size
        if self.aliased > _ALIASED:
            what = f"the aliases of this file stand for more than {_ALIASED} values"
            raise self.fail(what, event)
        return value

    def sequence(self) -> list[Value]:
        items: list[Value] = []
        while type(event := next(self.events)) is not yaml.SequenceEndEvent:
            items.append(self.node(event))
        return items

    def mapping(self, opening: Any) -> dict[Key, Value]:
        fields: dict[Key, Value] = {}
        merged: list[Value] = []
        first: dict[Key, Mark] = {}
        while type(event := next(self.events)) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent:
                self.no_key(event, opening)
                continue
            key = Key(event.value, self.mark(event))
            if event.tag:
                self.tag(event, "str")
            self.keys.append(key)
            value = self.node(next(self.events))
            self.keys.pop()
            if key in first:
                what = f"the key '{key}' stands here a second time; the first is in line"
                self.problems.add(f"{what} {first[key].line}", key.mark, "keep one of them")
                continue
            first[key] = key.mark
            if key == "<<" and event.implicit[0]:
                merged = self.merged(value)
            else:
                fields[key] = value
        for below in merged:  # an earlier mapping wins over a later one, the keys here over all
            if isinstance(below.data, dict):
                fields = {**below.data, **fields}
        return fields

    def no_key(self, event: Any, opening: Any) -> None:
        """Say that this is no key, and step over it and its value."""
        inner = type(event) is yaml.MappingStartEvent and event.flow_style and opening.flow_style
        if inner and opening.start_mark.index + 1 == event.start_mark.index:
            mark, hint = self.mark(opening), TEMPLATE_HINT
            self.problems.add("a template without quotes reads as a mapping", mark, hint)
        else:
            self.problems.add("a key must be text", self.mark(event))
        self.node(event)
        self.node(next(self.events))

    def merged(self, value: Value) -> list[Value]:
        """The mappings that ``<<`` names: one, or a list of them."""
        below = value.data if isinstance(value.data, list) else [value]
        for item in below:
            if not isinstance(item.data, dict):
                hint = "name an anchor of a mapping: <<: *name"
                self.problems.add("'<<' merges mappings only", item.mark, hint)
        return below

    def scalar(self, event: Any) -> Scalar:
        text: str = event.value
        tag: str | None = event.tag
        if tag is None:
            return resolve(text) if event.implicit[0] else text
        if tag == "!":
            return text
        if self.tag(event, *("str", "int", "float", "bool", "null")):
            try:
                return typed(tag.removeprefix(_STANDARD), text)
            except ValueError:
                shown = tag.removeprefix(_STANDARD)
                self.problems.add(f"'{text}' cannot be read as !!{shown}", self.mark(event))
        return None

    def tag(self, event: Any, *allowed: str) -> bool:
        """Whether the tag is one of the standard ones allowed here, or there is none."""
        tag: str | None = event.tag
        if tag is None or tag == "!" or tag.removeprefix(_STANDARD) in allowed:
            return True
        shown = tag.replace(_STANDARD, "!!")
        hint = "text that begins with ! must be quoted" if tag[:1] == "!" else ""
        self.problems.add(f"the tag {shown} is not known here", self.mark(event), hint)
        return False
