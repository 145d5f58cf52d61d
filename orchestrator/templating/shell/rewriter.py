"""The walk over a template's tree with the lexer, which wraps each expression in its quoting.

It also checks expressions in the arguments of bash's declaring builtins. ``declare -a name='(…)'``
makes an array of the value, quoted or not, and runs a ``$(…)`` in it; so does ``declare
name='(…)'`` if the name is an array already (declare.def, bash 4.2 to 5.3). A name with a subscript
is evaluated as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from jinja2 import nodes

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.templating.environment import INSERT_FILTER
from orchestrator.templating.free_names import FreeNames
from orchestrator.templating.shell.command_prefix import (
    VALUE_CHAR,
    command_words,
    mask_templates,
    split_prefix,
)
from orchestrator.templating.shell.lexer import ShellLexer
from orchestrator.templating.shell.lexer_state import (
    LexerState,
    UnsafeShellError,
    initial_state,
    join_states,
)
from orchestrator.templating.shell.placeholders import Placeholder, add_placeholder
from orchestrator.templating.template_parser import ParsedTemplate, apply_filter

_DECLARING = frozenset({"declare", "typeset", "local"})
_DECLARING_WITH_OPTION = frozenset({"readonly", "export"})
_MAY_BE_ARRAY = lazy_regex(rf"[-+].*[aA$`{VALUE_CHAR}]|[$`{VALUE_CHAR}]")


def check_declaration(placeholder: Placeholder, command: str) -> None:
    """Record the builtin that may evaluate the value again.

    ``command`` is the masked text of the command before the expression. Raises ``UnsafeShellError``
    if no value would be safe there.
    """
    beginning = split_prefix(command)
    words = _builtin_words(beginning[0]) if beginning else []
    if not beginning or not words or words[0] not in _DECLARING | _DECLARING_WITH_OPTION:
        return
    builtin, *args = words
    array = any(_MAY_BE_ARRAY.match(word) for word in args)
    _name, equals, value = beginning[1].partition("=")
    if not equals:
        if builtin in _DECLARING:
            what = f"an expression as a variable's name after `{builtin}`, which bash evaluates"
            raise UnsafeShellError(what, placeholder.offset, "write the name itself")
        return
    if builtin not in _DECLARING and not array:
        return
    if value.startswith("(") or (array and value[:1] in ("$", "`")):
        what = f"an expression in what `{builtin}` may take for an array's words, and evaluate"
        hint = "write the words without quotes around the parentheses: `name=({{ … }})`"
        raise UnsafeShellError(what, placeholder.offset, hint)
    if not value.strip(VALUE_CHAR):
        placeholder.declared = builtin


def _builtin_words(words: list[str]) -> list[str]:
    """Return the words from the builtin's name on, after `command` and `builtin`."""
    words = command_words(words)
    while words and words[0] in ("command", "builtin"):
        words = words[1:]
        while words and words[0].startswith("-"):
            words = words[1:]
    return words


_FILTERS = ("raw", "words")
_NO_QUOTE = "`quote` in a command would quote the value twice"
_QUOTE_HINT = "remove it: values in a command are quoted for their context"
_LITERAL_HINT = "for literal text write `{% raw %}…{% endraw %}` around it"
_REFUSED_NODES: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.Block: "block",
    nodes.FilterBlock: "filter",
    nodes.With: "with",
    nodes.AssignBlock: "set … endset",
}


class ShellTemplateRewriter:
    """The processing of one template. ``placeholders`` are those of its expressions, in order."""

    def __init__(self, parsed: ParsedTemplate, names: FreeNames) -> None:
        self._parsed, self._names = parsed, names
        self.placeholders: list[Placeholder] = []
        self._numbers: dict[int, int] = {}

    def find_placeholders(self) -> None:
        """Find the context of every expression. Raises ``UnsafeShellError``."""
        body = self._parsed.tree.body
        self._only_expression(body)
        state = self._lex_nodes(body, initial_state())
        ShellLexer(state, self.placeholders).finish()
        source = mask_templates(self._parsed.source.text)
        for placeholder in self.placeholders:
            check_declaration(placeholder, source[placeholder.command_start : placeholder.offset])
            if placeholder.descriptor and not placeholder.alone:
                what = "an expression in a part of the word after `>&`, which bash expands twice"
                raise UnsafeShellError(
                    what, placeholder.offset, "for both streams write `>{{ … }} 2>&1`"
                )
            if placeholder.integer and placeholder.wide:
                what = "an integer right after a non-ASCII character"
                raise UnsafeShellError(what, placeholder.offset, "put a blank before it")
            if placeholder.filter and not placeholder.alone:
                what = f"`{placeholder.filter}` in the middle of a word"
                raise UnsafeShellError(what, placeholder.offset, "put blanks around the expression")

    def rewrite(self) -> None:
        """Wrap every expression in the quoting of its context."""
        for output in self._parsed.tree.find_all(nodes.Output):
            output.nodes = [self._escape_call(node) for node in output.nodes]

    def _escape_call(self, node: nodes.Expr) -> nodes.Expr:
        index = self._numbers.get(id(node))
        if index is None:
            return node
        inner = (
            node.node
            if self.placeholders[index].filter and isinstance(node, nodes.Filter)
            else node
        )
        number = nodes.Const(index, lineno=node.lineno)
        return apply_filter(inner, INSERT_FILTER, node.lineno, number)

    def _only_expression(self, body: Sequence[nodes.Node]) -> None:
        output = body[0] if len(body) == 1 else None
        if not isinstance(output, nodes.Output):
            return
        parts = [n for n in output.nodes if not _is_blank(n)]
        if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData):
            return
        if not (isinstance(parts[0], nodes.Filter) and parts[0].name in _FILTERS):
            what = "the whole command is one expression, which would be quoted as one word"
            hint = "write `| words` to split it into words, or `| raw` to run it as it is"
            raise UnsafeShellError(what, self._parsed.begin_of(parts[0]), hint)

    def _lex_nodes(self, body: Sequence[nodes.Node], state: LexerState) -> LexerState:
        for node in body:
            if isinstance(node, nodes.Output):
                self._lex_output(node, state)
            elif isinstance(node, nodes.If):
                state = self._lex_if(node, state)
            elif isinstance(node, nodes.For):
                state = self._lex_for(node, state)
            elif isinstance(node, nodes.Assign):
                self._refuse_filters(node)
            else:
                self._raise_refused(node)
        return state

    def _lex_output(self, node: nodes.Output, state: LexerState) -> None:
        for part in node.nodes:
            lexer = ShellLexer(state, self.placeholders)
            if isinstance(part, nodes.TemplateData):
                lexer.feed(part.data, part.lineno - 1)
            else:
                add_placeholder(lexer, self._placeholder_index(part))

    def _placeholder_index(self, node: nodes.Expr) -> int:
        """Return the index of an expression's placeholder, which the first call creates."""
        if id(node) in self._numbers:
            return self._numbers[id(node)]
        filtered = isinstance(node, nodes.Filter) and node.name in _FILTERS
        name = node.name if filtered and isinstance(node, nodes.Filter) else ""
        self._refuse_filters(node, besides=node if filtered else None)
        sources = self._names.sources(node)
        placeholder = Placeholder(self._parsed.begin_of(node), name, sources=sources)
        self._numbers[id(node)] = len(self.placeholders)
        self.placeholders.append(placeholder)
        return len(self.placeholders) - 1

    def _refuse_filters(self, node: nodes.Node, besides: nodes.Node | None = None) -> None:
        inside = [node, *node.find_all(nodes.Filter)]
        for found in inside:
            if isinstance(found, nodes.Filter) and found.name == "quote":
                raise UnsafeShellError(_NO_QUOTE, found.lineno - 1, _QUOTE_HINT)
            if found is not besides and isinstance(found, nodes.Filter) and found.name in _FILTERS:
                what = f"`{found.name}` must be the last filter in a `{{{{ … }}}}`"
                raise UnsafeShellError(what, found.lineno - 1)
        if isinstance(besides, nodes.Filter) and (besides.args or besides.kwargs):
            raise UnsafeShellError(f"`{besides.name}` takes no arguments", besides.lineno - 1)

    def _lex_if(self, node: nodes.If, state: LexerState) -> LexerState:
        self._refuse_filters(node.test)
        ends = [self._lex_nodes(node.body, state.copy())]
        rest: Sequence[nodes.If] = node.elif_
        for other in rest:
            self._refuse_filters(other.test)
            ends.append(self._lex_nodes(other.body, state.copy()))
        ends.append(self._lex_nodes(node.else_, state.copy()))
        joined = ends[0]
        for end in ends[1:]:
            joined = join_states(joined, end) or self._raise_branches_differ(
                node, joined, end, "the branches of this `if`"
            )
        return joined

    def _lex_for(self, node: nodes.For, state: LexerState) -> LexerState:
        self._refuse_filters(node.iter)
        if node.test:
            self._refuse_filters(node.test)
        if node.recursive:
            raise UnsafeShellError("a recursive `for` in a command", self._parsed.begin_of(node))
        while True:
            end = self._lex_nodes(node.body, state.copy())
            what = "the start and the end of this `for`"
            joined = join_states(state, end) or self._raise_branches_differ(node, state, end, what)
            if joined == state:
                break
            state = joined
        after = self._lex_nodes(node.else_, state.copy())
        return join_states(state, after) or self._raise_branches_differ(
            node, state, after, "this `for` and its `else`"
        )

    def _raise_branches_differ(
        self, node: nodes.Node, one: LexerState, other: LexerState, what: str
    ) -> NoReturn:
        deeper = max(one, other, key=lambda state: len(state.frames))
        shallow = min(one, other, key=lambda state: len(state.frames))
        frames: Iterator[str] = (
            mine.kind.value
            for n, mine in enumerate(deeper.frames)
            if n >= len(shallow.frames) or not mine.is_like(shallow.frames[n])
        )
        left = next(frames, "something")
        hint = "open and close it in the same branch, or outside of both"
        raise UnsafeShellError(
            f"{what} differ: {left} is open in only one of them", self._parsed.begin_of(node), hint
        )

    def _raise_refused(self, node: nodes.Node) -> NoReturn:
        word = _REFUSED_NODES.get(type(node), type(node).__name__.lower())
        what = f"`{{% {word} %}}` is not allowed in a command"
        hint = f"`if`, `for` and `set` are; {_LITERAL_HINT}"
        raise UnsafeShellError(what, self._parsed.begin_of(node), hint)


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.TemplateData) and not node.data.strip()
