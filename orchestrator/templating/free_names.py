"""Analysis of the names that a template takes from its scope, without rendering it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jinja2 import meta, nodes
from jinja2.visitor import NodeTransformer
from msgspec import Struct, field

from orchestrator.templating.environment import (
    CONCAT_FILTER,
    CONDITION_NAME_FILTER,
    FREE_NAME_FILTER,
    FUNCTIONS,
    PROJECT_TEXT_FILTER,
    READS_FILTER,
    ROUNDS_FILTER,
    SLICE_FILTER,
    mark_unbounded,
)
from orchestrator.templating.filters import PATH_FUNCTIONS, PATH_USERS, PATTERN_USERS
from orchestrator.templating.scope import RENDERED_FILE
from orchestrator.templating.template_parser import apply_filter

_APPLYING_FILTERS = frozenset(("map", "select", "reject", "selectattr", "rejectattr"))
"""Filters that apply another filter or test, which their first or second argument names."""


class FreeNames(Struct, frozen=True):
    """The free names of a template.

    ``required`` names must exist. ``optional`` names are tested before use (``is defined``,
    ``default``). ``asked`` are those of both that are used only in conditions and are not part of a
    value. ``origins`` maps each local name of the template to the names that it was made of.
    ``calls`` are the functions that read files of the project.
    ``lazy`` are the free names that are never assigned in the template. ``fields`` are the field
    accesses of required names: ``x.y`` as x, y and the offset of y, and ``x.y.z`` as x.y, z and its
    offset.
    """

    required: frozenset[str]
    optional: frozenset[str]
    lazy: frozenset[str]
    origins: Mapping[str, frozenset[str]]
    fields: tuple[tuple[str, str, int], ...] = ()
    asked: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()

    @property
    def value_names(self) -> frozenset[str]:
        """Return the names that the result is made of, ``RENDERED_FILE`` for that of a file."""
        names = (self.required | self.optional) - self.asked
        return names | {RENDERED_FILE} if "render" in self.calls else names

    def sources(self, node: nodes.Node) -> frozenset[str]:
        """Return the scope's names that an expression's value is made of, also through locals."""
        found: set[str] = set()
        for name in _loaded_names(node):
            found |= self.origins.get(name, frozenset({name}))
            if name in self.required or name in self.optional:
                found.add(name)
        if "render" in _called_functions(node, self.calls):
            found.add(RENDERED_FILE)
        return frozenset(found)


def find_free_names(tree: nodes.Template) -> FreeNames:
    """Return the free names of a template. ``tree`` is not changed."""
    assigned = _assigned_names(tree)
    loaded = set(_loaded_names(tree))
    free = loaded - assigned
    if loaded & assigned:  # the use may precede the assignment: apply Jinja's own rules
        free |= meta.find_undeclared_variables(tree) & loaded
    uses = _NameUses(free)
    uses.visit(tree, soft=False)
    required = frozenset(uses.required - uses.tested)
    used = frozenset(uses.required | uses.optional)
    fields = tuple(each for each in uses.fields if each[0].partition(".")[0] in required)
    asked = used - _names_in_value(tree)
    return FreeNames(
        required,
        used - required,
        lazy=used - assigned,
        origins=_name_origins(tree, assigned),
        fields=fields,
        asked=asked,
        calls=_called_functions(tree, PATH_FUNCTIONS - assigned),
    )


def _called_functions(node: nodes.Node, functions: frozenset[str]) -> frozenset[str]:
    """Return those of the functions that are called."""
    if not functions:
        return functions
    calls = [*([node] if isinstance(node, nodes.Call) else ()), *node.find_all(nodes.Call)]
    return (
        frozenset(call.node.name for call in calls if isinstance(call.node, nodes.Name)) & functions
    )


def _names_in_value(node: nodes.Node) -> set[str]:
    """Return the names that are used anywhere except in the condition of an ``if``."""
    found: set[str] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, nodes.Name):
            found.add(node.name)
        skipped = node.test if isinstance(node, nodes.CondExpr | nodes.If) else None
        stack += [child for child in node.iter_child_nodes() if child is not skipped]
    return found


class LazyLookupTransformer(NodeTransformer):
    """A transformer that looks names up when they are used, not when the template starts.

    A branch that is not taken looks up nothing. ``X if Y`` without ``else`` has the value
    ``otherwise``. ``counters`` are names that only ever are integers; calculations with them need
    no bounds checks.
    """

    def __init__(self, names: FreeNames, otherwise: str | None, counters: frozenset[str]) -> None:
        self._free, self._names = names, names.lazy
        self._otherwise, self._counters = otherwise, counters
        self._look_up = FREE_NAME_FILTER

    def _calculation(self, node: nodes.BinExpr) -> nodes.Node:
        mark_unbounded(node, is_number(node, self._counters))
        return self.generic_visit(node)

    visit_Add = visit_Mul = visit_Mod = _calculation  # noqa: N815

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Replace a free name by its lookup."""
        if node.ctx != "load" or node.name not in self._names:
            return node
        name = nodes.Const(node.name, lineno=node.lineno)
        return apply_filter(name, self._look_up, node.lineno)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        """Keep the name of a function unchanged; let it refuse text from a host as a path."""
        function = node.node
        if isinstance(function, nodes.Name) and function.name in self._free.calls:
            name = function.name
            node.args[:1] = [self._guard(arg, name) for arg in node.args[:1]]
            for pair in node.kwargs:
                if pair.key in ("path", "paths"):
                    pair.value = self._guard(pair.value, name)
            if node.dyn_args:
                node.dyn_args = self._guard(node.dyn_args, name)
            if node.dyn_kwargs:
                node.dyn_kwargs = self._guard(node.dyn_kwargs, name)
        self.generic_visit(node)
        if isinstance(function, nodes.Name) and function.name in FUNCTIONS:
            node.node = function
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Replace a slice by a filter, which can track secrets."""
        self.generic_visit(node)
        part = node.arg
        if not isinstance(part, nodes.Slice):
            return node
        none = nodes.Const(None, lineno=node.lineno)
        bounds = [bound or none for bound in (part.start, part.stop, part.step)]
        return apply_filter(node.node, SLICE_FILTER, node.lineno, *bounds)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Replace ``~`` by a filter that joins the operands' texts."""
        self.generic_visit(node)
        texts = nodes.List(node.nodes, lineno=node.lineno)
        return apply_filter(texts, CONCAT_FILTER, node.lineno)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Let a filter refuse text from a host as a regular expression or a path."""
        return self._with_patterns(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        """Let a test refuse text from a host as a regular expression or a path."""
        return self._with_patterns(node)

    def _with_patterns(self, node: nodes.Filter | nodes.Test) -> nodes.Node:
        """Guard the argument after the name of the filter or test, also if `map` applies it."""
        applied = _applied_names(node)
        users = [name for name in applied if name in PATTERN_USERS]
        if users:
            at = 0 if node.name in PATTERN_USERS else 1 + node.args.index(_const(node, users[0]))
            node.args[at : at + 1] = [self._guard(arg, users[0]) for arg in node.args[at : at + 1]]
            for pair in node.kwargs:
                if pair.key in ("pattern", "regex"):
                    pair.value = self._guard(pair.value, users[0])
            if node.dyn_args:
                node.dyn_args = self._guard(node.dyn_args, users[0])
            if node.dyn_kwargs:
                node.dyn_kwargs = self._guard(node.dyn_kwargs, users[0])
        paths = [name for name in applied if name in PATH_USERS]
        if paths and node.node is not None:
            node.node = self._guard(node.node, paths[0])
        return self.generic_visit(node)

    def _guard(self, node: nodes.Expr, used_by: str) -> nodes.Expr:
        """Return the expression, which refuses text from a host when it is evaluated."""
        sources = tuple(sorted(self._pattern_sources(node)))
        if not sources:
            return node
        at = node.lineno
        reads = apply_filter(nodes.Const(None, lineno=at), READS_FILTER, at)
        given = (nodes.Const(value, lineno=at) for value in (used_by, sources))
        return apply_filter(reads, PROJECT_TEXT_FILTER, at, node, *given)

    def _pattern_sources(self, node: nodes.Expr) -> frozenset[str]:
        """Return the names that a regular expression is made of, except those it has escaped."""
        if isinstance(node, nodes.Filter) and node.name == "regex_escape":
            return frozenset()
        if isinstance(node, nodes.Concat):
            return frozenset[str]().union(*map(self._pattern_sources, node.nodes))
        if isinstance(node, nodes.Add):
            return self._pattern_sources(node.left) | self._pattern_sources(node.right)
        return self._free.sources(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Count the rounds of a loop, each with the number of steps of its body."""
        parts = sum(1 for part in node.body for _ in part.find_all(nodes.Node))
        self.generic_visit(node)
        steps, at = nodes.Const(1 + parts // 8, lineno=node.lineno), node.iter.lineno
        node.iter = apply_filter(node.iter, ROUNDS_FILTER, at, steps)
        return node

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.Node:  # noqa: N802
        """Set the value of an ``if`` without ``else``."""
        if node.expr2 is None:
            node.expr2 = nodes.Const(self._otherwise, lineno=node.lineno)
        return self._conditional(node)

    def visit_If(self, node: nodes.If) -> nodes.Node:  # noqa: N802
        """Distinguish names used only in conditions from names that are part of a value."""
        return self._conditional(node)

    def _conditional(self, node: nodes.CondExpr | nodes.If) -> nodes.Node:
        test, before = node.test, self._look_up
        self._look_up = CONDITION_NAME_FILTER
        test = self.visit(test)
        self._look_up = before
        node.test = nodes.Const(True)
        self.generic_visit(node)
        node.test = test
        return node


def _applied_names(node: nodes.Filter | nodes.Test) -> list[str]:
    """Return the name of the filter or test, and the names of those that it may apply."""
    constants = (arg.value for arg in node.args[:2] if isinstance(arg, nodes.Const))
    given = [value for value in constants if isinstance(value, str)]
    return [node.name, *given] if node.name in _APPLYING_FILTERS else [node.name]


def _const(node: nodes.Filter | nodes.Test, value: str) -> nodes.Expr:
    """Return the argument that is a constant text."""
    return next(arg for arg in node.args if isinstance(arg, nodes.Const) and arg.value == value)


def counter_names(tree: nodes.Template, free: frozenset[str]) -> frozenset[str]:
    """Return the names that are assigned only as the variable of a loop over ``range(…)``."""
    stored = [n.name for n in tree.find_all(nodes.Name) if n.ctx in ("store", "param")]
    found = {
        loop.target.name
        for loop in tree.find_all(nodes.For)
        if isinstance(loop.target, nodes.Name)
        and isinstance(loop.iter, nodes.Call)
        and isinstance(loop.iter.node, nodes.Name)
        and loop.iter.node.name == "range"
    }
    return frozenset(name for name in found - free if stored.count(name) == 1)


def is_number(node: nodes.Node, counters: frozenset[str]) -> bool:
    """Return True if the value can only be a number, of about the size of the numbers in it."""
    match node:
        case nodes.Const():
            return type(node.value) in (int, float)
        case nodes.Name():
            return node.name in counters
        case nodes.Add() | nodes.Sub():
            return is_number(node.left, counters) or is_number(node.right, counters)
        case nodes.Mod():
            return is_number(node.left, counters)
        case nodes.Mul():
            return is_number(node.left, counters) and is_number(node.right, counters)
    return False


class _NameUses(Struct):
    """A collector of uses of free names: those that need the name and those that test it first."""

    free: set[str]
    required: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    tested: set[str] = field(default_factory=set)
    fields: list[tuple[str, str, int]] = field(default_factory=list)

    def visit(self, node: nodes.Node, *, soft: bool) -> None:
        if isinstance(node, nodes.Name):
            if node.ctx == "load" and node.name in self.free:
                (self.optional if soft else self.required).add(node.name)
        elif isinstance(node, nodes.Test) and node.name in ("defined", "undefined"):
            self.tested |= _root_names(node.node)
            self.visit(node.node, soft=True)
        elif isinstance(node, nodes.Filter) and node.name in ("default", "d") and node.node:
            for part in (node.node, *node.args):
                self.visit(part, soft=True)
        elif soft and isinstance(node, nodes.Getattr | nodes.Getitem):
            self.visit(node.node, soft=True)
            if isinstance(node, nodes.Getitem):
                self.visit(node.arg, soft=False)
        elif isinstance(node, nodes.Call) and _is_function(node.node):
            for argument in (*node.args, *node.kwargs):
                self.visit(argument, soft=False)
        else:
            if isinstance(node, nodes.Getattr | nodes.Getitem):
                self._field(node)
            for child in node.iter_child_nodes():
                self.visit(child, soft=False)

    def _field(self, node: nodes.Getattr | nodes.Getitem) -> None:
        field, offset = _field_of(node)
        owner, name = node.node, ""
        if isinstance(owner, nodes.Getattr | nodes.Getitem):
            inner = _field_of(owner)[0]
            owner, name = owner.node, f".{inner}" if inner else ""
            if not inner:
                return
        if field and isinstance(owner, nodes.Name) and owner.name in self.free:
            self.fields.append((f"{owner.name}{name}", field, offset))


def _field_of(node: nodes.Getattr | nodes.Getitem) -> tuple[str, int]:
    """Return the name of a field and its offset; '' if it is not written as text."""
    if isinstance(node, nodes.Getattr):
        return node.attr, node.lineno  # its token is the dot
    if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value, node.arg.lineno - 1
    return "", 0


def _is_function(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name in FUNCTIONS


def _root_names(node: nodes.Node) -> set[str]:
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        return _root_names(node.node)
    return {node.name} if isinstance(node, nodes.Name) else set()


def _loaded_names(node: nodes.Node) -> Iterable[str]:
    if isinstance(node, nodes.Name) and node.ctx == "load":
        yield node.name
    for found in node.find_all(nodes.Name):
        if found.ctx == "load":
            yield found.name


def _assigned_names(tree: nodes.Template) -> set[str]:
    """Return the names that the template itself assigns."""
    assigned = {n.name for n in tree.find_all(nodes.Name) if n.ctx in ("store", "param")}
    assigned |= {m.name for m in tree.find_all(nodes.Macro)}
    if tree.find(nodes.For):
        assigned.add("loop")
    if any(tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Block))):
        assigned |= {"self", "super", "caller", "varargs", "kwargs"}
    return assigned


def _name_origins(tree: nodes.Template, assigned: set[str]) -> dict[str, frozenset[str]]:
    direct: dict[str, set[str]] = {name: set() for name in assigned}
    for node in tree.find_all((nodes.Assign, nodes.For)):
        assert isinstance(node, nodes.Assign | nodes.For)
        value = node.node if isinstance(node, nodes.Assign) else node.iter
        names = set(_loaded_names(value))
        for target in (node.target, *node.target.find_all((nodes.Name, nodes.NSRef))):
            if isinstance(target, nodes.Name | nodes.NSRef):
                direct.setdefault(target.name, set()).update(names)
        if isinstance(node, nodes.For):
            direct["loop"] |= names  # loop.previtem and loop.nextitem are items as well
    return {name: frozenset(_reachable_names(name, direct)) for name in direct}


def _reachable_names(name: str, direct: Mapping[str, set[str]]) -> set[str]:
    reached, open_, found = {name}, [name], set()
    while open_:
        for other in direct[open_.pop()]:
            if other not in direct:
                found.add(other)
            elif other not in reached:
                reached.add(other)
                open_.append(other)
    return found
