"""Inventories in Ansible's INI format.

``[GROUP]`` lists hosts with ``KEY=VALUE`` variables, ``[GROUP:children]`` groups, ``[GROUP:vars]``
variables. A line of hosts is split like a shell's words; values are Python literals where they can
be read as such, otherwise text.
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from collections.abc import Iterator

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.inventory.ansible.groups import UNGROUPED, AnsibleGroup, AnsibleInventory
from orchestrator.inventory.ansible.host_patterns import expand_host_pattern
from orchestrator.inventory.hostnames import InvalidHostNameError
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue, ValueData

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?$")
_GROUP_NAME = re.compile(r"([^:\]\s]+)\s*(?:#.*)?$")
_SIMPLE_LINE = re.compile(r"[^'\"\\#]*")
_SIMPLE_WORD = re.compile(r"[^ \t]+")
_PLAIN_TEXT = lazy_regex(r"[A-Za-z_/~][A-Za-z0-9_./:@~-]*", re.ASCII)
_LITERAL_WORDS = frozenset(("True", "False", "None"))
_NO_LITERAL = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)
_MAX_LITERAL_CHARS = 100_000
_MAX_DEPTH = 100


def parse_ini_value(text: str, mark: SourcePosition) -> MarkedValue:
    """Return the value of a variable: a Python literal, or the text itself."""
    if _PLAIN_TEXT.fullmatch(text) and text not in _LITERAL_WORDS:
        return MarkedValue(text, mark)
    if len(text) > _MAX_LITERAL_CHARS:
        return MarkedValue(text, mark)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ast.literal_eval(text)
        return _marked(found, mark, 0)
    except _NO_LITERAL:
        return MarkedValue(text, mark)


def _marked(item: object, mark: SourcePosition, depth: int) -> MarkedValue:
    data: ValueData
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(item, dict):
        data = {
            MarkedKey(str(key), mark): _marked(value, mark, depth + 1)
            for key, value in item.items()
        }
    elif isinstance(item, (list, tuple, set)):
        data = [_marked(each, mark, depth + 1) for each in item]
    elif isinstance(item, bytes):
        data = item.decode("utf-8")
    elif item is None or isinstance(item, (str, bool, int, float)):
        data = item
    else:
        data = "..." if item is ... else str(item)
    return MarkedValue(data, mark)


def read_ini_source(
    text: str, shown: str, inventory: AnsibleInventory, problems: DiagnosticCollector
) -> None:
    """Add the hosts and groups of an INI text to the inventory; errors go to ``problems``."""
    _IniReader(shown, inventory, problems).read_lines(text.splitlines())


class _IniReader:
    """A reader of one INI file."""

    def __init__(
        self, shown: str, inventory: AnsibleInventory, problems: DiagnosticCollector
    ) -> None:
        self.shown, self.inventory, self.problems = shown, inventory, problems
        self.group: AnsibleGroup = inventory.groups[UNGROUPED]
        self.kind = "hosts"
        self.declared = set(inventory.groups)
        self.wanted: dict[str, tuple[str, SourcePosition]] = {}  # groups that must be declared

    def read_lines(self, lines: list[str]) -> None:
        for number, raw in enumerate(lines, 1):
            line = raw.strip()
            if not line or line[0] in ";#":
                continue
            mark = SourcePosition(self.shown, number, raw.index(line[0]) + 1)
            try:
                self.read_line(line, mark)
            except InvalidHostNameError as bad:
                self.problems.add(f"the host cannot be read: {bad.why}", mark, bad.hint)
            except DefinitionError as error:
                for problem in error.diagnostics:
                    self.problems.add(problem.message, problem.mark, problem.hint)
        for name, (what, mark) in self.wanted.items():
            if name not in self.declared:
                hint = f"add a section [{name}]"
                self.problems.add(f"{what} '{name}', which no section declares", mark, hint)

    def read_line(self, line: str, mark: SourcePosition) -> None:
        if line[0] == "[" and (found := _SECTION.match(line)):
            self.open_section(found[1], found[2] or "hosts", mark)
        elif line[0] == "[" and line[-1] == "]":
            hint = "write [GROUP], [GROUP:children] or [GROUP:vars], without blanks"
            raise DefinitionError(Diagnostic(f"'{line}' is not a section", mark, hint))
        elif self.kind == "hosts":
            self.read_hosts(line, mark)
        elif self.kind == "vars":
            name, equals, value = line.partition("=")
            if not equals:
                what = f"'{line}' is not a variable of group '{self.group.name}'"
                raise DefinitionError(Diagnostic(what, mark, "write NAME=VALUE"))
            column = mark.column + len(line) - len(value.lstrip())
            at = SourcePosition(self.shown, mark.line, column)
            key = MarkedKey(name.strip(), mark)
            self.group.set_variable(key, parse_ini_value(value.strip(), at))
        else:
            self.read_child(line, mark)

    def open_section(self, name: str, kind: str, mark: SourcePosition) -> None:
        if kind not in ("hosts", "children", "vars"):
            what = f"the section [{name}:{kind}] has an unknown type"
            raise DefinitionError(Diagnostic(what, mark, "write hosts, children or vars"))
        self.group, self.kind = self.inventory.add_group(name, mark), kind
        if kind == "vars":
            self.wanted.setdefault(name, ("variables of the group", mark))
        else:
            self.declared.add(name)

    def read_child(self, line: str, mark: SourcePosition) -> None:
        found = _GROUP_NAME.match(line)
        if found is None:
            raise DefinitionError(Diagnostic(f"'{line}' is not the name of a group", mark))
        name = found[1]
        self.wanted.setdefault(name, (f"the group '{self.group.name}' contains", mark))
        self.inventory.add_child(self.group, self.inventory.add_group(name, mark), mark)

    def read_hosts(self, line: str, mark: SourcePosition) -> None:
        (pattern, _), *settings = self.split_words(line, mark)
        names, port = expand_host_pattern(pattern)
        if pattern == "---":
            hint = "name the file .yml, if it is YAML"
            raise DefinitionError(Diagnostic("'---' is not a host", mark, hint))
        variables: list[tuple[MarkedKey, MarkedValue]] = []
        for word, column in settings:
            at = SourcePosition(self.shown, mark.line, mark.column + column)
            name, equals, value = word.partition("=")
            if not equals:
                what = f"'{word}' is not a variable of host '{pattern}'"
                raise DefinitionError(Diagnostic(what, at, "write NAME=VALUE, without blanks"))
            variables.append((MarkedKey(name, at), parse_ini_value(value, at)))
        for name in names:
            is_new = name not in self.inventory.hosts
            host = self.inventory.add_host(name, self.group, mark)
            if port is not None and is_new:
                host.set_variable(MarkedKey("ansible_port", mark), MarkedValue(port, mark))
            for key, value_read in variables:
                host.set_variable(key, value_read)

    def split_words(self, line: str, mark: SourcePosition) -> list[tuple[str, int]]:
        """Return the words of a line with their offsets."""
        if _SIMPLE_LINE.fullmatch(line) and line.isprintable():
            return [(found[0], found.start()) for found in _SIMPLE_WORD.finditer(line)]
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            what = f"the line cannot be split into words: {str(error).lower()}"
            raise DefinitionError(Diagnostic(what, mark)) from None
        return list(_with_offsets(words, line))


def _with_offsets(words: list[str], line: str) -> Iterator[tuple[str, int]]:
    """Yield each word with the offset at which its name begins."""
    at = 0
    for word in words:
        found = line.find(word.partition("=")[0], at)
        at = found if found >= 0 else at
        yield word, at
        at += 1
