"""Parsing of a template to Jinja's tree, with the exact offset of every node.

Jinja records lines only. Here the tokens are numbered by offset instead (from 1, since 0 means
"unknown" to Jinja), so that the ``lineno`` of every node is its offset.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import cast

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.model.ansible import FILTER_HINTS, TEST_HINTS, lookup_hint
from orchestrator.templating.environment import TemplateEnvironment

# Jinja converts every CR to a newline; so a blank that it keeps is substituted for CR.
_MAX_DEPTH = 100
_STAND_INS = "\x1c\x1d\x1e\x1f\x0b\x0c\x85\xa0\u2028\u2029"


class TemplateSource(Struct, frozen=True):
    """A template's text and its position in the file."""

    text: str
    mark: SourcePosition

    def mark_at(self, offset: int) -> SourcePosition:
        """Return the position of a character of the text."""
        end = min(max(offset, 0), len(self.text))
        line = self.text.count("\n", 0, end) + 1
        return self.mark.position_inside(line, end - self.text.rfind("\n", 0, end))

    def error_at(self, what: str, offset: int, hint: str = "") -> DefinitionError:
        """Return an error at a character of the text."""
        return DefinitionError(Diagnostic(what, self.mark_at(offset), hint))


class ParsedTemplate(Struct, frozen=True):
    """A template's tree. ``begins`` are the offsets of ``{{`` and ``{%``, ascending."""

    source: TemplateSource
    tree: nodes.Template
    begins: tuple[int, ...]

    def begin_of(self, node: nodes.Node) -> int:
        """Return the offset of the ``{{`` or ``{%`` that contains the node."""
        index = bisect_right(self.begins, node.lineno - 1)
        return self.begins[index - 1] if index else max(node.lineno - 1, 0)


def apply_filter(
    value: nodes.Node | None, name: str, line: int, *arguments: nodes.Expr
) -> nodes.Filter:
    """Return the tree of ``value | name(*arguments)``."""
    node = nodes.Filter(lineno=line)
    node.node = cast("nodes.Expr | None", value)
    node.name, node.args = name, list(arguments)
    node.kwargs, node.dyn_args, node.dyn_kwargs = [], None, None
    return node


def environment_of(parsed: ParsedTemplate) -> TemplateEnvironment:
    """Return the environment that the template was parsed in."""
    return cast("TemplateEnvironment", parsed.tree.environment)


def parse_template(
    source: TemplateSource, env: TemplateEnvironment, hint: str = ""
) -> ParsedTemplate:
    """Parse a template. Raises ``DefinitionError`` with ``hint`` if it is invalid."""
    return _parse_from_state(source, env, hint, None)


def parse_expression(source: TemplateSource, env: TemplateEnvironment) -> ParsedTemplate:
    """Parse one bare expression; the tree is a template that outputs only this expression."""
    hint = "write the bare expression, without `{{ }}`" if "{{" in source.text else ""
    return _parse_from_state(source, env, hint, "variable")


def _parse_from_state(
    source: TemplateSource, env: TemplateEnvironment, hint: str, state: str | None
) -> ParsedTemplate:
    begins: list[int] = []
    parser = Parser(env, "")
    try:
        tokens = _OffsetTokenStream(source, env, begins, state)
        parser.stream = TokenStream(tokens, None, None)
        if state:
            found = parser.parse_expression()
            if not parser.stream.eos:
                parser.fail(f"'{parser.stream.current.value}' is not expected here")
            tree = nodes.Template([nodes.Output([found], lineno=1)], lineno=1)
            tree.set_environment(env)
        else:
            tree = parser.parse()
    except TemplateSyntaxError as error:
        what, at = _plain_message(str(error.message), env), error.lineno - 1
        if state and "{{" in source.text:
            at = source.text.index("{{")
        raise source.error_at(what, at, hint) from None
    except RecursionError:
        raise too_deep_error(source, begins[-1] if begins else 0) from None
    parsed = ParsedTemplate(source, tree, tuple(begins))
    _check_depth(parsed)
    _check_filters(parsed, env)
    _check_calls(parsed)
    return parsed


def too_deep_error(source: TemplateSource, offset: int) -> DefinitionError:
    """Return the error for a template that is nested too deeply."""
    what = f"this template is nested too deeply: more than {_MAX_DEPTH} levels"
    return source.error_at(
        what, offset, "use `x in [a, b, c]` instead of many `or`s, and `~` instead of many `+`"
    )


def _check_depth(parsed: ParsedTemplate) -> None:
    """Reject trees that are too deep for recursive walks."""
    level: list[nodes.Node] = [parsed.tree]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise too_deep_error(parsed.source, parsed.begin_of(level[0]))


def _plain_message(message: str, env: TemplateEnvironment) -> str:
    message = re.sub(r" at \d+$", "", message.replace("Jinja was looking", "looking"))
    if "end of print statement" in message:
        message = message.replace("end of print statement", f"`{env.variable_end_string}`")
    return f"invalid template: {message[:1].lower()}{message[1:]}"


class _OffsetTokenStream:
    """Jinja's tokens of a text, each numbered by its offset + 1."""

    def __init__(
        self, source: TemplateSource, env: TemplateEnvironment, begins: list[int], state: str | None
    ) -> None:
        self._source, self._env, self._begins, self._state = source, env, begins, state
        self._at = 0
        text = source.text
        self._stand_in = next((c for c in _STAND_INS if c not in text), "\x1f")

    def __iter__(self) -> Iterator[Token]:
        for token in self._env.lexer.wrap(self._offset_tokens()):
            if "\r" in self._source.text and isinstance(token.value, str):
                value = token.value.replace(self._stand_in, "\r")
                yield Token(token.lineno, token.type, value)
            else:
                yield token

    def _offset_tokens(self) -> Iterator[tuple[int, str, str]]:
        text, end = self._source.text.replace("\r", self._stand_in), f"{self._stand_in}\n"
        trims = False
        try:
            for _, kind, value in self._env.lexer.tokeniter(text, None, None, self._state):
                self._at = text.index(value, self._at)  # skips blanks that `{%-` removed
                if kind in ("variable_begin", "block_begin", "raw_begin"):
                    self._begins.append(self._at)
                # CR LF after a tag, of which Jinja trims only LF
                cut = len(end) if trims and kind == "data" and value.startswith(end) else 0
                if cut < len(value):
                    yield self._at + 1 + cut, kind, value[cut:]
                self._at += len(value)
                trims = self._trims_newline(kind, value)
        except TemplateSyntaxError as error:
            raise TemplateSyntaxError(error.message or "", self._at + 1) from None

    def _trims_newline(self, kind: str, value: str) -> bool:
        """Return True if a newline after this token must be removed and is still present."""
        tag = self._env.comment_end_string if kind == "comment_end" else self._env.block_end_string
        ends = kind in ("block_end", "comment_end", "raw_end") and value.endswith(tag)
        return ends and self._env.trim_blocks and not value.endswith(f"+{tag}")


def _check_calls(parsed: ParsedTemplate) -> None:
    """Reject the functions that only Ansible has, and name what is written instead."""
    macros = {macro.name for macro in parsed.tree.find_all(nodes.Macro)}
    for call in parsed.tree.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Name) or call.node.name in macros:
            continue
        name = call.node.name
        if name in ("lookup", "query", "q"):
            words = [arg.value if isinstance(arg, nodes.Const) else "" for arg in call.args[:2]]
            plugin, argument, *_ = (*map(str, words), "", "")
            hint = lookup_hint(plugin, argument)
            raise parsed.source.error_at(f"there is no function '{name}'", call.lineno - 1, hint)


def _check_filters(parsed: ParsedTemplate, env: TemplateEnvironment) -> None:
    """Reject unknown filters and tests, even where Jinja would report them only at run time."""
    for node in parsed.tree.find_all((nodes.Filter, nodes.Test)):
        assert isinstance(node, nodes.Filter | nodes.Test)
        table = env.filters if isinstance(node, nodes.Filter) else env.tests
        if node.name in table:
            continue
        kind = "filter" if isinstance(node, nodes.Filter) else "test"
        of_ansible = FILTER_HINTS if isinstance(node, nodes.Filter) else TEST_HINTS
        short = node.name.rpartition(".")[2]  # as in ansible.builtin.combine
        hint = of_ansible.get(short) or suggest_nearest(short, table)
        if short != node.name and short in table:
            hint = f"write `{short}`"
        if node.name in ("shellquote", "sh"):
            hint = "remove it: values in a command are quoted for their context"
        if not hint and kind == "filter":
            hint = "one of your own is a function in tasks/filters/NAME.py"
        raise parsed.source.error_at(f"there is no {kind} '{node.name}'", node.lineno - 1, hint)
