"""Expressions among the arguments of bash's declaring builtins.

``declare -a name='(…)'`` makes an array of the value, quoted or not, and runs the ``$(…)`` in
it; so does ``declare name='(…)'`` where the name is an array already (declare.def, bash 4.2 to
5.3). And a name with a subscript is evaluated.

Walks a template's tree with the lexer, and puts the escaping around each expression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from jinja2 import nodes

from orchestrator.model.lazy_regex import regex
from orchestrator.templating.environment import INSERT
from orchestrator.templating.free_names import Names
from orchestrator.templating.shell.command_prefix import VALUE, masked, named, split
from orchestrator.templating.shell.lexer import Lexer
from orchestrator.templating.shell.lexer_state import Refusal, State, begin, join
from orchestrator.templating.shell.placeholders import Place, hole
from orchestrator.templating.template_parser import Parsed, apply_filter

_ALWAYS = frozenset({"declare", "typeset", "local"})
_WITH_OPTION = frozenset({"readonly", "export"})
_MAY_BE_ARRAY = regex(rf"[-+].*[aA$`{VALUE}]|[$`{VALUE}]")


def judge(place: Place, command: str) -> None:
    """Note the builtin that may read the value again. ``command``: the (masked) text of the
    command up to the expression. Raises ``Refusal`` if no value would be safe there."""
    beginning = split(command)
    words = _called(beginning[0]) if beginning else []
    if not beginning or not words or words[0] not in _ALWAYS | _WITH_OPTION:
        return
    builtin, *args = words
    array = any(_MAY_BE_ARRAY.match(word) for word in args)
    _name, equals, value = beginning[1].partition("=")
    if not equals:
        if builtin in _ALWAYS:
            what = f"an expression as a variable's name after `{builtin}`, which bash evaluates"
            raise Refusal(what, place.offset, "write the name itself")
        return
    if builtin not in _ALWAYS and not array:
        return
    if value.startswith("(") or (array and value[:1] in ("$", "`")):
        what = f"an expression in what `{builtin}` may take for an array's words, and evaluate"
        hint = "write the words without quotes around the parentheses: `name=({{ … }})`"
        raise Refusal(what, place.offset, hint)
    if not value.strip(VALUE):
        place.declared = builtin


def _called(words: list[str]) -> list[str]:
    """The words from the builtin's name on, behind `command` and `builtin`."""
    words = named(words)
    while words and words[0] in ("command", "builtin"):
        words = words[1:]
        while words and words[0].startswith("-"):
            words = words[1:]
    return words


_FILTERS = ("raw", "words")
_LITERAL = "for text that is no template write `{% raw %}…{% endraw %}` around it"
_REFUSED: dict[type[nodes.Node], str] = {
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


class Walk:
    """One template's way through the lexer. ``places`` are its expressions', in order."""

    def __init__(self, parsed: Parsed, names: Names) -> None:
        self._parsed, self._names = parsed, names
        self.places: list[Place] = []
        self._numbers: dict[int, int] = {}

    def run(self) -> None:
        """Find the place of every expression. Raises ``Refusal``."""
        body = self._parsed.tree.body
        self._only_expression(body)
        state = self._all(body, begin())
        Lexer(state, self.places).finish()
        source = masked(self._parsed.source.text)
        for place in self.places:
            judge(place, source[place.begun : place.offset])
            if place.descriptor and not place.alone:
                what = "an expression in a part of the word after `>&`, which bash expands twice"
                raise Refusal(what, place.offset, "for both streams write `>{{ … }} 2>&1`")
            if place.integer and place.wide:
                what = "an integer right after a character beyond ASCII"
                raise Refusal(what, place.offset, "put a blank before it")
            if place.filter and not place.alone:
                what = f"`{place.filter}` in the middle of a word"
                raise Refusal(what, place.offset, "put blanks around the expression")

    def rewrite(self) -> None:
        """Give every expression over to the escaping of its place."""
        for output in self._parsed.tree.find_all(nodes.Output):
            output.nodes = [self._escaped(node) for node in output.nodes]

    def _escaped(self, node: nodes.Expr) -> nodes.Expr:
        index = self._numbers.get(id(node))
        if index is None:
            return node
        inner = node.node if self.places[index].filter and isinstance(node, nodes.Filter) else node
        number = nodes.Const(index, lineno=node.lineno)
        return apply_filter(inner, INSERT, node.lineno, number)

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
            raise Refusal(what, self._parsed.begin(parts[0]), hint)

    def _all(self, body: Sequence[nodes.Node], state: State) -> State:
        for node in body:
            if isinstance(node, nodes.Output):
                self._output(node, state)
            elif isinstance(node, nodes.If):
                state = self._if(node, state)
            elif isinstance(node, nodes.For):
                state = self._for(node, state)
            elif isinstance(node, nodes.Assign):
                self._no_filters(node)
            else:
                self._refused(node)
        return state

    def _output(self, node: nodes.Output, state: State) -> None:
        for part in node.nodes:
            lexer = Lexer(state, self.places)
            if isinstance(part, nodes.TemplateData):
                lexer.feed(part.data, part.lineno - 1)
            else:
                hole(lexer, self._place(part))

    def _place(self, node: nodes.Expr) -> int:
        """The number of an expression's place, made on the first call for it."""
        if id(node) in self._numbers:
            return self._numbers[id(node)]
        filtered = isinstance(node, nodes.Filter) and node.name in _FILTERS
        name = node.name if filtered and isinstance(node, nodes.Filter) else ""
        self._no_filters(node, besides=node if filtered else None)
        sources = self._names.sources(node)
        place = Place(self._parsed.begin(node), name, sources=sources)
        self._numbers[id(node)] = len(self.places)
        self.places.append(place)
        return len(self.places) - 1

    def _no_filters(self, node: nodes.Node, besides: nodes.Node | None = None) -> None:
        inside = [node, *node.find_all(nodes.Filter)]
        for found in inside:
            if found is not besides and isinstance(found, nodes.Filter) and found.name in _FILTERS:
                what = f"`{found.name}` has to be the last thing in a `{{{{ … }}}}`"
                raise Refusal(what, found.lineno - 1)
        if isinstance(besides, nodes.Filter) and (besides.args or besides.kwargs):
            raise Refusal(f"`{besides.name}` takes no arguments", besides.lineno - 1)

    def _if(self, node: nodes.If, state: State) -> State:
        self._no_filters(node.test)
        ends = [self._all(node.body, state.copy())]
        rest: Sequence[nodes.If] = node.elif_
        for other in rest:
            self._no_filters(other.test)
            ends.append(self._all(other.body, state.copy()))
        ends.append(self._all(node.else_, state.copy()))
        joined = ends[0]
        for end in ends[1:]:
            joined = join(joined, end) or self._differ(
                node, joined, end, "the branches of this `if`"
            )
        return joined

    def _for(self, node: nodes.For, state: State) -> State:
        self._no_filters(node.iter)
        if node.test:
            self._no_filters(node.test)
        if node.recursive:
            raise Refusal("a recursive `for` in a command", self._parsed.begin(node))
        while True:
            end = self._all(node.body, state.copy())
            what = "the start and the end of this `for`"
            joined = join(state, end) or self._differ(node, state, end, what)
            if joined == state:
                break
            state = joined
        after = self._all(node.else_, state.copy())
        return join(state, after) or self._differ(node, state, after, "this `for` and its `else`")

    def _differ(self, node: nodes.Node, one: State, other: State, what: str) -> NoReturn:
        deeper = max(one, other, key=lambda state: len(state.frames))
        shallow = min(one, other, key=lambda state: len(state.frames))
        frames: Iterator[str] = (
            mine.kind.value
            for n, mine in enumerate(deeper.frames)
            if n >= len(shallow.frames) or not mine.like(shallow.frames[n])
        )
        left = next(frames, "something")
        hint = "open and close it in the same branch, or outside of both"
        raise Refusal(
            f"{what} do not agree: {left} is open in one only", self._parsed.begin(node), hint
        )

    def _refused(self, node: nodes.Node) -> NoReturn:
        word = _REFUSED.get(type(node), type(node).__name__.lower())
        what = f"`{{% {word} %}}` cannot stand in a command"
        hint = f"`if`, `for` and `set` can; {_LITERAL}"
        raise Refusal(what, self._parsed.begin(node), hint)


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.TemplateData) and not node.data.strip()
