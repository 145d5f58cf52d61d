"""Bare expressions: `when`, `changed_when`, `failed_when`, `until`, `loop`."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.templating.compile_cache import filters_of
from orchestrator.templating.environment import template_environment
from orchestrator.templating.rendering import CompiledTemplate, FieldAccess, restore_program
from orchestrator.templating.scope import Scope
from orchestrator.templating.taint import secrets_of
from orchestrator.templating.template_parser import ParsedTemplate, TemplateSource, parse_expression
from orchestrator.templating.text_templates import compile_native, render_native

if TYPE_CHECKING:
    from orchestrator.templating.compile_cache import CompileCache

# Text that is true to Jinja and false to a person.
_FALSE_WORDS = frozenset({"false", "no", "off", "n", "f", "0", "none", "null"})


class Expression(Struct, frozen=True, eq=False):
    """A compiled expression."""

    source: str
    mark: SourcePosition
    names: frozenset[str]
    optional: frozenset[str]
    _program: CompiledTemplate
    _is_path: bool
    _tree: list[nodes.Expr] = field(default_factory=list)
    _parts: dict[int, CompiledTemplate] = field(default_factory=dict)

    @property
    def node(self) -> nodes.Expr:
        """Return the tree, for further analysis."""
        if not self._tree:
            parsed = parse_expression(self._program.source, self._program.env)
            self._tree.append(_expression_of(parsed))
        return self._tree[0]

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """Return the field accesses of names that must exist."""
        return self._program.fields

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name."""
        return self._program.position_of(name)

    @property
    def sources(self) -> frozenset[str]:
        """Return the names that the value is made of, without those used only in conditions."""
        return self._program.names.value_names

    def value(self, scope: Scope) -> Any:
        """Return the native value. Raises ``DefinitionError`` and exceptions of ``scope``."""
        if self._is_path:
            return render_native(self._program, scope)
        return _evaluate_decision(self._program, scope)

    def is_true(self, scope: Scope) -> bool:
        """Return True if the value is true in Jinja's sense: not empty, not zero, not none.

        Text such as ``no``, ``false`` or ``0`` would count as true, so it is an error. Any other
        text that is not empty is true, so that ``when: before.stdout`` works.
        """
        value = _evaluate_decision(self._program, scope)
        return self.is_truthy(value, self.node, scope) if isinstance(value, str) else bool(value)

    def value_of_part(self, node: nodes.Expr, scope: Scope) -> Any:
        """Return the value of a sub-expression."""
        program = self._parts.get(id(node))
        if program is None:
            program = self._parts[id(node)] = _compile_node(self._program, deepcopy(node))
        return _evaluate_decision(program, scope)

    def is_truthy(self, value: Any, node: nodes.Expr, scope: Scope) -> bool:
        """Return True if the value of the sub-expression ``node`` is true."""
        if isinstance(value, str) and value.strip().lower() in _FALSE_WORDS:
            raise self._false_word_error(value, node, scope)
        return bool(value)

    def _false_word_error(self, value: str, node: nodes.Expr, scope: Scope) -> DefinitionError:
        """Return the error, at the definition of the variable if the sub-expression is a name."""
        source = self._program.source
        written = scope.origin(node.name) if isinstance(node, nodes.Name) else None
        if written is None or not isinstance(node, nodes.Name):
            hint = "use `| bool` to convert it, or `!= ''` to test whether there is any text"
            what = f"'{value}' is text, and any text counts as true"
            return source.error_at(what, node.lineno - 1, hint)
        what = f"{node.name} is the text '{value}', and any text counts as true"
        hint = f"leave it out, or empty, if it means no: `{node.name}` is a condition at "
        return DefinitionError(
            Diagnostic(what, written.mark, hint + str(source.mark_at(node.lineno - 1)))
        )


def compile_expression(
    text: str, mark: SourcePosition, cache: CompileCache | None = None
) -> Expression:
    """Compile a bare expression. Raises ``DefinitionError``."""
    source = TemplateSource(text, mark)
    if not text.strip():
        raise DefinitionError(Diagnostic("an empty expression", mark))
    env = template_environment(filters_of(cache), comments=False)
    kept = cache.find("expression", text, mark) if cache else None
    if kept is not None:
        is_path, plain = kept
        restored = restore_program(plain, source, env)
        if restored is not None:
            return _expression(restored, is_path)
    parsed = parse_expression(source, env)
    for found in parsed.tree.find_all(nodes.Filter):
        if found.name in ("raw", "words"):
            raise source.error_at(f"`{found.name}` is for commands only", found.lineno - 1)
    node = _expression_of(parsed)
    kept_node, is_path = deepcopy(node), _is_path(node)
    program = compile_native(parsed, env, node)
    if cache:
        cache.add("expression", text, mark, (is_path, program.to_plain()))
    return _expression(program, is_path, kept_node)


def _expression_of(parsed: ParsedTemplate) -> nodes.Expr:
    (output,) = parsed.tree.body
    assert isinstance(output, nodes.Output)
    return output.nodes[0]


def _expression(
    program: CompiledTemplate, is_path: bool, node: nodes.Expr | None = None
) -> Expression:
    return Expression(
        program.source.text,
        program.source.mark,
        names=program.names.required,
        optional=program.names.optional,
        _program=program,
        _is_path=is_path,
        _tree=[] if node is None else [node],
    )


def _is_path(node: nodes.Expr) -> bool:
    """Return True for a name, or a path of attributes and items below one."""
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    return isinstance(node, nodes.Name)


def _evaluate_decision(program: CompiledTemplate, scope: Scope) -> Any:
    """Return the value of an expression that the plan depends on.

    If the value used the stand-in of a secret, it is recorded that the secret affects the plan.
    """
    secrets = secrets_of(scope)
    before = secrets.stand_in_reads
    try:
        return render_native(program, scope)
    finally:
        secrets.affects_plan |= secrets.stand_in_reads != before


def _compile_node(whole: CompiledTemplate, node: nodes.Expr) -> CompiledTemplate:
    tree = nodes.Template([nodes.Output([node], lineno=node.lineno)], lineno=1)
    tree.set_environment(whole.env)
    return compile_native(ParsedTemplate(whole.source, tree, ()), whole.env, node)
