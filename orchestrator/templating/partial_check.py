"""Judging a template while some of its names have no values yet: the expressions without them."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import nodes

from orchestrator.templating.free_names import Names, survey
from orchestrator.templating.rendering import Program, compile_tree
from orchestrator.templating.scope import Scope
from orchestrator.templating.shell.placeholders import Place
from orchestrator.templating.shell.shell_template import Escaping, ShellTemplate, walked
from orchestrator.templating.template_parser import Parsed, environment_of
from orchestrator.templating.text_templates import Inserting, TextTemplate, ValueTemplate, put

Template = ShellTemplate | TextTemplate | ValueTemplate


def check_known(template: Template, scope: Scope, unknown: frozenset[str]) -> None:
    """Render what stands in the template whatever comes, and is made of none of the ``unknown``
    names. Raises DefinitionError where that would fail once all is known.
    """
    names = template.names | template.optional
    if not names - unknown:
        return
    if not names & unknown:
        template.render(scope)
    elif isinstance(template, ShellTemplate):
        if (shell := _of_shell(template, unknown)) is not None:
            program, places = shell
            program.run(Escaping(program, scope, places))
    elif isinstance(template, ValueTemplate) and template.parts:
        for part in template.parts:
            check_known(part, scope, unknown)
    elif (text := _of_text(template, unknown)) is not None:
        text.run(Inserting(text, scope))


def names_in_any_case(template: Template) -> frozenset[str]:
    """Return the names whose values are asked for whatever comes: in no block, and in no part of
    an expression that may be left out.
    """
    if isinstance(template, ValueTemplate) and template.parts:
        return frozenset[str]().union(*map(names_in_any_case, template.parts))
    return _in_any_case(template) if "{{" in template.source else frozenset()


@lru_cache(maxsize=512)
def _in_any_case(template: Template) -> frozenset[str]:
    tree = template.parsed().tree
    outputs = (node for node in tree.body if isinstance(node, nodes.Output))
    return frozenset(name for output in outputs for node in output.nodes for name in _asked(node))


def _asked(node: nodes.Node) -> set[str]:
    if isinstance(node, nodes.Name):
        return {node.name}
    if isinstance(node, nodes.CondExpr):
        either = _asked(node.expr1) & _asked(node.expr2) if node.expr2 is not None else set()
        return _asked(node.test) | either
    if isinstance(node, nodes.And | nodes.Or):
        return _asked(node.left)
    return {name for child in node.iter_child_nodes() for name in _asked(child)}


@lru_cache(maxsize=512)
def _of_shell(
    template: ShellTemplate, unknown: frozenset[str]
) -> tuple[Program, list[Place]] | None:
    parsed, names, walk = walked(template.source, template.mark)
    walk.rewrite()
    if not _reduce(parsed, names, unknown):
        return None
    return compile_tree(parsed, environment_of(parsed), names), walk.places


@lru_cache(maxsize=512)
def _of_text(template: TextTemplate | ValueTemplate, unknown: frozenset[str]) -> Program | None:
    parsed = template.parsed()
    names = survey(parsed.tree)
    put(parsed)
    if not _reduce(parsed, names, unknown):
        return None
    return compile_tree(parsed, environment_of(parsed), names)


def _reduce(parsed: Parsed, names: Names, unknown: frozenset[str]) -> bool:
    """Leave only the expressions that are in no block, and made of none of these names nor of
    names that the template makes. Return whether there are any.
    """
    body: list[nodes.Node] = []
    for output in parsed.tree.body:
        if isinstance(output, nodes.Output):
            output.nodes = [node for node in output.nodes if _is_known(node, names, unknown)]
            body += [output] if output.nodes else []
    parsed.tree.body = body
    return bool(body)


def _is_known(node: nodes.Node, names: Names, unknown: frozenset[str]) -> bool:
    if isinstance(node, nodes.TemplateData):
        return False
    made = {each.name for each in node.find_all(nodes.Name)} & names.origins.keys()
    return not made and not names.sources(node) & unknown
