"""Loading of one YAML file into one marked value.

The syntax is YAML 1.1 as libyaml parses it. Duplicate keys, further documents and unknown tags are
errors; keys are text, as written; anchors, aliases and ``<<`` work, within limits.

Plain scalars have fewer meanings than in YAML 1.1. A scalar is a number only if printing the number
yields the same text, so that ``0644``, ``1_000``, ``1.10``, ``0x1F``, ``22:22``, ``1e3`` and dates
stay text. ``yes``, ``no``, ``on`` and ``off`` are text as well.

``!secret`` marks a value whose source is outside the file, and ``!vault`` one that is encrypted.
Syntax errors of libyaml are translated to messages with hints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader as YamlReader
from yaml.reader import ReaderError

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue, ValueData
from orchestrator.model.secret import VAULT_VALUE, Secret
from orchestrator.yamlio.local_files import read_file
from orchestrator.yamlio.schema import SchemaReader

ScalarValue = str | int | float | bool | None

_SCALAR_WORDS: dict[str, ScalarValue] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_INTEGER = lazy_regex(r"-?[1-9][0-9]{0,99}|0")
_DECIMAL = lazy_regex(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_FIRST_CHARS = frozenset("-0123456789")


def resolve_scalar(text: str) -> ScalarValue:
    """Return the value of a plain scalar: null, a boolean, a number, or the text itself."""
    if text in _SCALAR_WORDS:
        return _SCALAR_WORDS[text]
    if text[0] not in _FIRST_CHARS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def tagged_scalar(tag: str, text: str) -> ScalarValue:
    """Return the value of a scalar with a standard tag like ``!!int``; ``tag`` is its last word.

    Raises ``ValueError`` if the text is not a valid value, or if the tag is not one of str, int,
    float, bool and null.
    """
    if tag == "str":
        return text
    value = resolve_scalar(text)
    kinds: dict[str, type | tuple[type, ...]] = {
        **{"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    }
    right = isinstance(value, kinds.get(tag, ()))
    if not right or (isinstance(value, bool) and tag != "bool"):
        raise ValueError(text)
    return float(value) if tag == "float" and isinstance(value, int) else value


_BARE_TEMPLATE = lazy_regex(r"""(?:^\s*|:\s+|-\s+|[\[,]\s*)(\{\{|\{%)""")
_NESTED_BRACKET = lazy_regex(r"\[[^\]\"']*\[|\[[0-9A-Fa-f]*:[0-9A-Fa-f:.%]*\]")
MAX_DEPTH = 100
"""Maximum nesting depth of lists and mappings."""
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_QUOTE = "put the value in quotes"
TEMPLATE_HINT = 'a value that begins with {{ or {% must be quoted: "{{ … }}"'


def yaml_error(error: yaml.YAMLError, text: str, shown: str) -> DefinitionError:
    """Return the parser's error with its position and, for a known cause, a hint."""
    if isinstance(error, ReaderError):
        return _unprintable_error(text, shown)
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return DefinitionError(Diagnostic(f"not valid YAML: {error}", SourcePosition(shown)))
    at, context_mark = error.problem_mark, error.context_mark
    problem = error.problem or "it cannot be read"
    if "end of stream" in problem and context_mark is not None:
        at, problem = context_mark, "the value that begins here is not closed"
    if "maximum nesting depth" in problem:  # libyaml's own limit, which is higher (PyYAML 6.0.4)
        return DefinitionError(
            Diagnostic(TOO_DEEP, SourcePosition(shown, at.line + 1, at.column + 1))
        )
    rows = text.splitlines()
    row = rows[at.line] if at.line < len(rows) else ""
    mark = SourcePosition(shown, at.line + 1, at.column + 1)
    indent = row[: len(row) - len(row.lstrip())]
    if "\t" in indent and at.column <= len(indent):
        tab = SourcePosition(shown, at.line + 1, indent.index("\t") + 1)
        return DefinitionError(Diagnostic("a tab cannot indent YAML", tab, "indent with spaces"))
    context = f" {error.context}" if error.context and context_mark is not at else ""
    if context and context_mark is not None and context_mark.line != at.line:
        context += f" that begins in line {context_mark.line + 1}"
    return DefinitionError(
        Diagnostic(f"not valid YAML: {problem}{context}", mark, _syntax_hint(row, error))
    )


def _syntax_hint(row: str, error: yaml.MarkedYAMLError) -> str:
    if _BARE_TEMPLATE.search(row):
        return TEMPLATE_HINT
    problem = error.problem or ""
    if "flow" in (error.context or "") and ("{{" in row or "{%" in row):
        return "a text with {{ or {% must be quoted inside {…} and […]"
    if "cannot start any token" in problem:
        return _QUOTE
    if "mapping values are not allowed" in problem:
        return f"{_QUOTE} if it contains ': ', and check the indentation"
    if _NESTED_BRACKET.search(row):
        return f"{_QUOTE}: brackets mean a list otherwise"
    if "expected key" in problem or "block end" in problem:
        return "check the indentation of this line and the one above"
    return ""


def _unprintable_error(text: str, shown: str) -> DefinitionError:
    bad = YamlReader.NON_PRINTABLE.search(text)
    if bad is None:
        return DefinitionError(
            Diagnostic("a character that YAML does not allow", SourcePosition(shown))
        )
    before = text[: bad.start()]
    mark = SourcePosition(shown, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    what = f"the character U+{ord(bad[0]):04X} is not allowed in YAML"
    return DefinitionError(
        Diagnostic(what, mark, r'remove it, or write it as "\x07" in double quotes')
    )


SECRET_KINDS = ("env", "command", "file", "prompt")
_VARIABLE_SECTIONS = ("vars", "environment", "defaults")
SECRET_FORM = (
    'like !secret {env: DB_PASSWORD}, {command: [sops, -d, …]}, {file: …} or {prompt: "…"}'
)


def read_secret(
    value: MarkedValue, keys: Sequence[str], problems: DiagnosticCollector
) -> Secret | None:
    """Return the secret that a mapping tagged ``!secret`` describes.

    ``keys`` are the keys that lead to it in its file. Return None after reporting an error.
    """
    read = SchemaReader(problems)
    if not isinstance(value.data, dict) or not value.data:
        what = "!!secret must be a mapping that names its source"
        # The message must not contain the value, which may be the secret itself.
        problems.add(what, value.mark, SECRET_FORM)
        return None
    fields = read.mapping(value, "!secret", SECRET_KINDS)
    if len(fields) != len(value.data):
        return None
    if len(fields) > 1:
        listed = " and ".join(fields)
        problems.add(f"!!secret has both {listed}", value.mark, "one secret has one source")
        return None
    ((kind, source),) = fields.items()
    words = _source_words(kind, source, read)
    if not words:
        return None
    for word in words:
        if "{{" in word or "{%" in word:
            what = f"{kind} of !secret is a template, but templates are not rendered there"
            problems.add(what, source.mark, "write the value itself; each stage can have its own")
            return None
    folder = str(Path(value.mark.path).parent) if kind in ("command", "file") else ""
    return Secret(str(kind), words, folder, variable_name(keys), value.mark)


def _source_words(kind: str, source: MarkedValue, read: SchemaReader) -> tuple[str, ...]:
    if kind == "command":
        if not isinstance(source.data, list) or not source.data:
            read.report_mismatch(
                source, "command of !secret", "a list of words", "like [sops, -d, db.enc]"
            )
            return ()
        texts = [read.text(item, "a word of command") for item in source.data]
        return tuple(text for text in texts if text is not None) if None not in texts else ()
    text = read.text(source, f"{kind} of !secret")
    if text is not None and not text.strip():
        read.report_mismatch(source, f"{kind} of !secret", "a text that is not blank")
        return ()
    return () if text is None else (text,)


def variable_name(keys: Sequence[str]) -> str:
    """Return the name of the variable: the keys below the section that contains it."""
    for section in _VARIABLE_SECTIONS:
        if section in keys[:-1]:
            keys = keys[keys.index(section) + 1 :]
            break
    return ".".join(keys) or "secret"


# PyYAML without libyaml has only the slow parser, which produces the same events.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
STANDARD_TAG = "tag:yaml.org,2002:"
"""The prefix of the tags of YAML's own types."""
_VAULT_TAGS = ("!vault", "!vault-encrypted")
_MAX_ALIASED = 100_000
"""Maximum number of values that aliases may expand to in one file, against YAML bombs."""


def load_yaml(path: Path, shown: str, *, secrets: bool = False) -> MarkedValue:
    """Return the value of a file; an empty file is null.

    ``shown`` is the path used in positions; ``secrets``: ``!secret`` is allowed. Raises
    ``DefinitionError`` with every error found.
    """
    try:
        data = read_file(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DefinitionError(
            Diagnostic(f"cannot read {shown}: {why}", SourcePosition(shown))
        ) from error
    return parse_yaml(decode_utf8(data, shown), shown, secrets=secrets)


def decode_utf8(data: bytes, shown: str) -> str:
    """Decode UTF-8 with or without a BOM. Raises ``DefinitionError`` for invalid UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        body = error.object  # without the BOM
        before = body[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        mark = SourcePosition(shown, before.count(b"\n") + 1, column)
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = f"not UTF-8: {'UTF-16' if wide else f'the byte 0x{body[error.start]:02x}'}"
        raise DefinitionError(Diagnostic(what, mark, "save the file as UTF-8")) from error


def parse_yaml(text: str, shown: str, *, secrets: bool = False) -> MarkedValue:
    """Return the value of a YAML text. Raises ``DefinitionError`` with every error found."""
    return build_value(ValueBuilder(text, shown, secrets=secrets), text, shown)


def build_value(builder: ValueBuilder, text: str, shown: str) -> MarkedValue:
    """Return the value that ``builder`` reads from ``text``.

    Raises ``DefinitionError`` with every error found.
    """
    if not text or text.isspace():
        return MarkedValue(None, SourcePosition(shown, 1, 1))
    try:
        value = builder.read_document()
    except yaml.YAMLError as error:
        broken = yaml_error(error, text, shown)
        reported_lines = {p.mark.line for p in builder.problems.diagnostics if p.mark}
        rest = [p for p in broken.diagnostics if not (p.mark and p.mark.line in reported_lines)]
        raise DefinitionError(*builder.problems.diagnostics, *rest) from error
    builder.problems.raise_any()
    return value


def load_nodes(text: str) -> Any:
    """Return the parser's nodes of a valid YAML text, with their exact positions; None if empty."""
    return yaml.compose(text, Loader=_PARSER)


class ValueBuilder:
    """A builder of values from the parser's events; errors are collected.

    Subclasses read other dialects.
    """

    def __init__(self, text: str, shown: str, *, secrets: bool) -> None:
        self.shown = shown
        self.secrets = secrets
        self.keys: list[str] = []  # the path to the current node
        self.problems = DiagnosticCollector()
        self.events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)
        self.anchors: dict[str, tuple[MarkedValue, int] | None] = {}  # None while incomplete
        self.nodes = 0  # built so far, including expanded aliases
        self.aliased = 0
        self.depth = 0

    def mark(self, event: Any) -> SourcePosition:
        at = event.start_mark
        return SourcePosition(self.shown, at.line + 1, at.column + 1)

    def fail(self, what: str, event: Any, hint: str = "") -> DefinitionError:
        return DefinitionError(*self.problems.diagnostics, Diagnostic(what, self.mark(event), hint))

    def read_document(self) -> MarkedValue:
        next(self.events)
        event = next(self.events)
        if type(event) is yaml.StreamEndEvent:
            return MarkedValue(None, SourcePosition(self.shown, 1, 1))
        value = self.read_node(next(self.events))
        next(self.events)
        after = next(self.events)
        if type(after) is not yaml.StreamEndEvent:
            hint = "remove the '---', or split the file"
            raise self.fail("a second document begins here; only one is allowed", after, hint)
        return value

    def read_node(self, event: Any) -> MarkedValue:
        if type(event) is yaml.AliasEvent:
            return self.resolve_alias(event)
        before, anchor = self.nodes, event.anchor
        self.nodes += 1
        if anchor:
            self.anchors[anchor] = None
        value = MarkedValue(self.read_data(event), self.mark(event))
        if anchor:
            self.anchors[anchor] = (value, self.nodes - before)
        return value

    def read_data(self, event: Any) -> ValueData:
        kind = type(event)
        if event.tag == "!secret":
            return self.read_secret_tag(event)
        if event.tag in _VAULT_TAGS and self.secrets:
            return self.read_vault_tag(event)
        if kind is yaml.ScalarEvent:
            return self.read_scalar(event)
        self.has_standard_tag(event, "map" if kind is yaml.MappingStartEvent else "seq")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(TOO_DEEP, event)
        data: ValueData = (
            self.read_mapping(event) if kind is yaml.MappingStartEvent else self.read_sequence()
        )
        self.depth -= 1
        return data

    def read_secret_tag(self, event: Any) -> ValueData:
        """Return the secret of a node tagged ``!secret``, or None after reporting an error."""
        event.tag = None
        value = MarkedValue(self.read_data(event), self.mark(event))
        if not self.secrets:
            hint = "move it to the vars of a stage, role, host or app, and use the variable here"
            what = "!secret is allowed only in variables of the inventory"
            self.problems.add(what, value.mark, hint)
            return None
        return read_secret(value, self.keys, self.problems)

    def read_vault_tag(self, event: Any) -> ValueData:
        """Return the secret of a node tagged ``!vault``, or None after reporting an error."""
        event.tag = None
        mark = self.mark(event)
        if type(event) is yaml.ScalarEvent:
            return Secret(VAULT_VALUE, (event.value,), name=variable_name(self.keys), mark=mark)
        self.read_data(event)
        self.problems.add("!!vault must be a text, as `orch vault string` prints it", mark)
        return None

    def resolve_alias(self, event: Any) -> MarkedValue:
        name = event.anchor
        if name not in self.anchors:
            raise self.fail(f"no anchor &{name} is defined above this alias", event)
        known = self.anchors[name]
        if known is None:
            raise self.fail(f"the alias *{name} is inside its own anchor", event)
        value, size = known
        self.nodes += size
        self.aliased += size
        if self.aliased > _MAX_ALIASED:
            what = f"the aliases of this file expand to more than {_MAX_ALIASED} values"
            raise self.fail(what, event)
        return value

    def read_sequence(self) -> list[MarkedValue]:
        items: list[MarkedValue] = []
        while type(event := next(self.events)) is not yaml.SequenceEndEvent:
            items.append(self.read_node(event))
        return items

    def read_mapping(self, opening: Any) -> dict[MarkedKey, MarkedValue]:
        fields: dict[MarkedKey, MarkedValue] = {}
        merged: list[MarkedValue] = []
        first: dict[MarkedKey, SourcePosition] = {}
        while type(event := next(self.events)) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent:
                self.refuse_key(event, opening)
                continue
            key = self.read_key(event)
            self.keys.append(key)
            value = self.read_node(next(self.events))
            self.keys.pop()
            if key in first and not self.accepts_duplicate(key, first[key]):
                continue
            first[key] = key.mark
            if key == "<<" and event.implicit[0]:
                merged = self.merged_mappings(value)
            else:
                fields[key] = value
        for below in merged:  # earlier mappings override later ones, own keys override all
            if isinstance(below.data, dict):
                fields = {**below.data, **fields}
        return fields

    def read_key(self, event: Any) -> MarkedKey:
        """Return a mapping's key: the text as written."""
        if event.tag:
            self.has_standard_tag(event, "str")
        return MarkedKey(event.value, self.mark(event))

    def accepts_duplicate(self, key: MarkedKey, first: SourcePosition) -> bool:
        """Report a key that occurs twice. Return True if its value replaces the other's."""
        what = f"the key '{key}' is duplicated; the first is in line"
        self.problems.add(f"{what} {first.line}", key.mark, "keep one of them")
        return False

    def refuse_key(self, event: Any, opening: Any) -> None:
        """Report an invalid key, and skip it and its value."""
        inner = type(event) is yaml.MappingStartEvent and event.flow_style and opening.flow_style
        if inner and opening.start_mark.index + 1 == event.start_mark.index:
            mark, hint = self.mark(opening), TEMPLATE_HINT
            self.problems.add("a template without quotes is parsed as a mapping", mark, hint)
        else:
            self.problems.add("a key must be text", self.mark(event))
        self.read_node(event)
        self.read_node(next(self.events))

    def merged_mappings(self, value: MarkedValue) -> list[MarkedValue]:
        """Return the mappings that ``<<`` names: one, or a list of them."""
        below = value.data if isinstance(value.data, list) else [value]
        for item in below:
            if not isinstance(item.data, dict):
                hint = "name an anchor of a mapping: <<: *name"
                self.problems.add("'<<' merges mappings only", item.mark, hint)
        return below

    def read_scalar(self, event: Any) -> ScalarValue:
        text: str = event.value
        tag: str | None = event.tag
        if tag is None:
            return resolve_scalar(text) if event.implicit[0] else text
        if tag == "!":
            return text
        if self.has_standard_tag(event, *("str", "int", "float", "bool", "null")):
            try:
                return tagged_scalar(tag.removeprefix(STANDARD_TAG), text)
            except ValueError:
                shown = tag.removeprefix(STANDARD_TAG)
                self.problems.add(f"'{text}' cannot be read as !!{shown}", self.mark(event))
        return None

    def has_standard_tag(self, event: Any, *allowed: str) -> bool:
        """Return True if there is no tag, or an allowed standard one; otherwise report it."""
        tag: str | None = event.tag
        if tag is None or tag == "!" or tag.removeprefix(STANDARD_TAG) in allowed:
            return True
        shown = tag.replace(STANDARD_TAG, "!!")
        hint = "text that begins with ! must be quoted" if tag[:1] == "!" else ""
        self.problems.add(f"unknown tag {shown}", self.mark(event), hint)
        return False
