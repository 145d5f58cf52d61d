"""What libyaml says about a text that is not YAML, in words that help."""

from __future__ import annotations

import yaml
from yaml.reader import Reader as YamlReader
from yaml.reader import ReaderError

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.regex import regex

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
