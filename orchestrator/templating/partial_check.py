"""Checks of a template while some names have no values yet, limited to the other expressions."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import nodes

from orchestrator.templating.free_names import FreeNames, find_free_names
from orchestrator.templating.rendering import CompiledTemplate, compile_tree
from orchestrator.templating.scope import Scope
from orchestrator.templating.shell.placeholders import Placeholder
from orchestrator.templating.shell.shell_template import EscapingContext, ShellTemplate, rewriter_of
from orchestrator.templating.template_parser import ParsedTemplate, environment_of
from orchestrator.templating.text_templates import (
    InsertingContext,
    TextTemplate,
    ValueTemplate,
    mark_insertions,
)

AnyTemplate = ShellTemplate | TextTemplate | ValueTemplate


def check_known(template: AnyTemplate, scope: Scope, unknown: frozenset[str]) -> None:
    """Render the parts of the template that are always rendered and use no ``unknown`` name.

    Raises DefinitionError if they fail, as they would once all names are known.
    """
    names = template.names | template.optional
    if not names - unknown:
        return
    if not names & unknown:
        template.render(scope)
    elif isinstance(template, ShellTemplate):
        if (shell := _known_part_of_shell(template, unknown)) is not None:
            program, placeholders = shell
            program.run(EscapingContext(program, scope, placeholders))
    elif isinstance(template, ValueTemplate) and template.parts:
        for part in template.parts:
            check_known(part, scope, unknown)
    elif (text := _known_part_of_text(template, unknown)) is not None:
        text.run(InsertingContext(text, scope))


def names_in_any_case(template: AnyTemplate) -> frozenset[str]:
    """Return the names whose values are always used.

    They are not inside a block, nor in a part of an expression that may be skipped.
    """
    if isinstance(template, ValueTemplate) and template.parts:
        return frozenset[str]().union(*map(names_in_any_case, template.parts))
    return _always_used_names(template) if "{{" in template.source else frozenset()


@lru_cache(maxsize=512)
def _always_used_names(template: AnyTemplate) -> frozenset[str]:
    tree = template.parsed().tree
    outputs = (node for node in tree.body if isinstance(node, nodes.Output))
    return frozenset(
        name for output in outputs for node in output.nodes for name in _always_asked(node)
    )


def _always_asked(node: nodes.Node) -> set[str]:
    if isinstance(node, nodes.Name):
        return {node.name}
    if isinstance(node, nodes.CondExpr):
        either = (
            _always_asked(node.expr1) & _always_asked(node.expr2)
            if node.expr2 is not None
            else set()
        )
        return _always_asked(node.test) | either
    if isinstance(node, nodes.And | nodes.Or):
        return _always_asked(node.left)
    return {name for child in node.iter_child_nodes() for name in _always_asked(child)}


@lru_cache(maxsize=512)
def _known_part_of_shell(
    template: ShellTemplate, unknown: frozenset[str]
) -> tuple[CompiledTemplate, list[Placeholder]] | None:
    parsed, names, walk = rewriter_of(template.source, template.mark, template.env)
    walk.rewrite()
    if not _keep_known_expressions(parsed, names, unknown):
        return None
    return compile_tree(parsed, environment_of(parsed), names), walk.placeholders


@lru_cache(maxsize=512)
def _known_part_of_text(
    template: TextTemplate | ValueTemplate, unknown: frozenset[str]
) -> CompiledTemplate | None:
    parsed = template.parsed()
    names = find_free_names(parsed.tree)
    mark_insertions(parsed)
    if not _keep_known_expressions(parsed, names, unknown):
        return None
    return compile_tree(parsed, environment_of(parsed), names)


def _keep_known_expressions(
    parsed: ParsedTemplate, names: FreeNames, unknown: frozenset[str]
) -> bool:
    """Keep only the expressions outside blocks that use no unknown and no local names.

    Return True if any are left.
    """
    body: list[nodes.Node] = []
    for output in parsed.tree.body:
        if isinstance(output, nodes.Output):
            output.nodes = [node for node in output.nodes if _is_known(node, names, unknown)]
            body += [output] if output.nodes else []
    parsed.tree.body = body
    return bool(body)


def _is_known(node: nodes.Node, names: FreeNames, unknown: frozenset[str]) -> bool:
    if isinstance(node, nodes.TemplateData):
        return False
    assigned = {each.name for each in node.find_all(nodes.Name)} & names.origins.keys()
    return not assigned and not names.sources(node) & unknown
