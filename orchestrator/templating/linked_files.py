"""File templates that consist of several files: include, import, extends and block.

The files are joined before the template is compiled, so that all names, results and secrets that
any of them uses are known, as those of a single file are. Each file is parsed on its own; the
offsets of its nodes are then shifted behind those of the files before it, by which every position
is found in its own file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from jinja2 import nodes
from jinja2.visitor import NodeTransformer
from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.templating.template_parser import ParsedTemplate, TemplateSource, environment_of

FileReader: TypeAlias = Callable[[str, SourcePosition], "tuple[str, SourcePosition] | None"]
"""Returns the text of a template file that another one names at a position, and where it begins.

Returns None if there is no such file. Raises DefinitionError.
"""

LINKING_NODES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)

_MAX_FILES = 200
_NAME_HINT = "write a fixed name in quotes; `{{ render(name) }}` inserts a file by a variable name"


class LinkedSource(TemplateSource, frozen=True):
    """The texts of several files behind each other; ``starts`` are their offsets."""

    parts: tuple[TemplateSource, ...] = ()
    starts: tuple[int, ...] = ()

    def mark_at(self, offset: int) -> SourcePosition:
        """Return the position of a character in its own file."""
        index = max(bisect_right(self.starts, offset) - 1, 0)
        return self.parts[index].mark_at(offset - self.starts[index])


class _LoadedFile(Struct):
    """A parsed file; ``blocks`` are those of the files that it extends, too, derived ones first."""

    source: TemplateSource
    body: list[nodes.Node]
    blocks: dict[str, list[nodes.Block]] = field(default_factory=dict)


def link_files(
    parsed: ParsedTemplate, read_file: FileReader, parse: Callable[[TemplateSource], ParsedTemplate]
) -> ParsedTemplate:
    """Return one template made of a file and of all files that it names.

    ``parse`` parses the text of another file. Raises DefinitionError.
    """
    linker = _Linker(read_file, parse)
    loaded = linker.load(parsed, ())
    tree = nodes.Template(linker.finish(loaded), lineno=1)
    tree.set_environment(environment_of(parsed))
    return ParsedTemplate(linker.source(), tree, tuple(linker.begins))


class _Linker:
    """Joins the files of one template."""

    def __init__(
        self, read_file: FileReader, parse: Callable[[TemplateSource], ParsedTemplate]
    ) -> None:
        self._read_file, self._parse = read_file, parse
        self._parts: list[TemplateSource] = []
        self._starts: list[int] = []
        self._size = 0
        self._imports = 0
        self.begins: list[int] = []

    def source(self) -> LinkedSource:
        """Return the source of all files so far."""
        text = "\n".join(part.text for part in self._parts)
        return LinkedSource(text, self._parts[0].mark, tuple(self._parts), tuple(self._starts))

    def load(self, parsed: ParsedTemplate, outer: tuple[str, ...]) -> _LoadedFile:
        """Return a file with everything that it names; ``outer`` are the files that lead to it."""
        start, source = self._size, parsed.source
        for node in parsed.tree.find_all(nodes.Node):
            node.lineno += start
        self.begins += [start + begin for begin in parsed.begins]
        self._parts.append(source)
        self._starts.append(start)
        self._size += len(source.text) + 1
        loaded = _LoadedFile(source, list(parsed.tree.body))
        paths = (*outer, source.mark.path)
        extended = [node for node in loaded.body if isinstance(node, nodes.Extends)]
        for block in parsed.tree.find_all(nodes.Block):
            if block.name in loaded.blocks:
                raise self._error(block, f"the block '{block.name}' is defined twice in this file")
            loaded.blocks[block.name] = [block]
        for node in parsed.tree.find_all(nodes.Extends):
            if node not in extended[:1]:
                raise self._error(node, "`extends` must stand once, at the top level of a template")
        transformer = _LinkTransformer(self, paths)
        loaded.body = transformer.visit_all(loaded.body)
        for blocks in loaded.blocks.values():
            blocks[0].body = transformer.visit_all(blocks[0].body)
        return self._extend(loaded, extended[0], paths) if extended else loaded

    def _extend(
        self, loaded: _LoadedFile, extends: nodes.Extends, paths: tuple[str, ...]
    ) -> _LoadedFile:
        """Return the file that is extended, with the blocks and definitions of this one."""
        base = self._load_named(extends.template, extends, paths)
        if base is None:
            raise self._missing(extends.template, extends)
        for name, blocks in base.blocks.items():
            loaded.blocks.setdefault(name, []).extend(blocks)
        kept = [node for node in loaded.body if isinstance(node, _DEFINITIONS)]
        for node in loaded.body:
            if not isinstance(node, (*_DEFINITIONS, nodes.Output, nodes.Block, nodes.Extends)):
                raise self.unsupported(node, "beside `extends`, this outside of a block")
        return _LoadedFile(base.source, [*kept, *base.body], loaded.blocks)

    def finish(self, loaded: _LoadedFile) -> list[nodes.Node]:
        """Return the body of a file with its blocks filled in."""
        return _BlockFiller(self, loaded.blocks).fill(loaded.body)

    def included(self, node: nodes.Include, paths: tuple[str, ...]) -> nodes.Node | None:
        """Return the nodes of an included file; None if it may be missing and is."""
        if not node.with_context:
            raise self._error(node, "`include … without context` is not supported")
        names = node.template.items if isinstance(node.template, _LISTS) else [node.template]
        for name in names:
            loaded = self._load_named(name, node, paths)
            if loaded is not None:
                return nodes.Scope(self.finish(loaded), lineno=node.lineno)
        if node.ignore_missing:
            return None
        raise self._missing(names[-1], node)

    def imported(
        self, node: nodes.Import | nodes.FromImport, paths: tuple[str, ...]
    ) -> tuple[list[nodes.Node], dict[str, str]]:
        """Return the definitions of an imported file, and their names there with those here."""
        loaded = self._load_named(node.template, node, paths)
        if loaded is None:
            raise self._missing(node.template, node)
        self._imports += 1
        body = self.finish(loaded)
        kept = [each for each in body if isinstance(each, _DEFINITIONS)]
        names = {name: f"_{self._imports}_{name}" for each in kept for name in _defined(each)}
        return [_Renamer(names).visit(each) for each in kept], names

    def _load_named(
        self, name: nodes.Expr, node: nodes.Node, paths: tuple[str, ...]
    ) -> _LoadedFile | None:
        if not isinstance(name, nodes.Const) or not isinstance(name.value, str):
            raise self._error(
                node, "the name of a template must be known before the run", _NAME_HINT
            )
        found = self._read_file(name.value, self.source().mark_at(node.lineno - 1))
        if found is None:
            return None
        text, mark = found
        if mark.path in paths:
            raise self._error(node, f"{mark.path} leads back to itself")
        if len(self._parts) >= _MAX_FILES:
            raise self._error(node, f"a template of more than {_MAX_FILES} files")
        return self.load(self._parse(TemplateSource(text, mark)), paths)

    def _missing(self, name: nodes.Expr, node: nodes.Node) -> DefinitionError:
        shown = name.value if isinstance(name, nodes.Const) else ""
        hint = "it is looked up beside the template that names it, and in the project's folder"
        return self._error(node, f"the project has no file '{shown}'", hint)

    def _error(self, node: nodes.Node, what: str, hint: str = "") -> DefinitionError:
        return DefinitionError(Diagnostic(what, self.source().mark_at(node.lineno - 1), hint))

    def unsupported(self, node: nodes.Node, what: str) -> DefinitionError:
        """Return the error for a construct of Jinja that has no meaning here."""
        return self._error(node, f"{what} is not supported")


_LISTS = (nodes.List, nodes.Tuple)
_DEFINITIONS = (nodes.Macro, nodes.Assign, nodes.AssignBlock)


class _LinkTransformer(NodeTransformer):
    """Puts the files in that nodes include or import; ``paths`` are the files that lead here."""

    def __init__(self, linker: _Linker, paths: tuple[str, ...]) -> None:
        self._linker, self._paths = linker, paths
        self._modules: dict[str, dict[str, str]] = {}

    def visit_all(self, body: Sequence[nodes.Node]) -> list[nodes.Node]:
        """Return the transformed nodes."""
        found: list[nodes.Node] = []
        for node in body:
            new = self.visit(node)
            found += new if isinstance(new, list) else [] if new is None else [new]
        return found

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        """Keep a block, whose body is linked on its own."""
        return node

    def visit_Include(self, node: nodes.Include) -> nodes.Node | None:  # noqa: N802
        """Replace an include by the nodes of the file."""
        return self._linker.included(node, self._paths)

    def visit_Import(self, node: nodes.Import) -> list[nodes.Node]:  # noqa: N802
        """Replace an import by the definitions of the file."""
        found, self._modules[node.target] = self._linker.imported(node, self._paths)
        return found

    def visit_FromImport(self, node: nodes.FromImport) -> list[nodes.Node]:  # noqa: N802
        """Replace an import by the definitions of the file, under the names given here."""
        found, names = self._linker.imported(node, self._paths)
        for each in node.names:
            name, alias = each if isinstance(each, tuple) else (each, each)
            if name not in names:
                raise self._linker.unsupported(node, f"importing '{name}', which is not defined,")
            target = nodes.Name(alias, "store", lineno=node.lineno)
            value = nodes.Name(names[name], "load", lineno=node.lineno)
            found.append(nodes.Assign(target, value, lineno=node.lineno))
        return found

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802
        """Replace `module.name` by the name of the definition."""
        if isinstance(node.node, nodes.Name) and node.node.name in self._modules:
            names = self._modules[node.node.name]
            if node.attr not in names:
                raise self._linker.unsupported(node, f"'{node.attr}', which is not defined there,")
            return nodes.Name(names[node.attr], "load", lineno=node.lineno)
        return self.generic_visit(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Refuse a module as a value."""
        if node.ctx == "load" and node.name in self._modules:
            raise self._linker.unsupported(node, "a whole imported file as a value")
        return node


class _BlockFiller(NodeTransformer):
    """Replaces each block by the body of its most derived definition."""

    def __init__(self, linker: _Linker, blocks: dict[str, list[nodes.Block]]) -> None:
        self._linker, self._blocks = linker, blocks
        self._levels: list[tuple[str, int]] = []

    def fill(self, body: Sequence[nodes.Node]) -> list[nodes.Node]:
        """Return the nodes with the blocks filled in."""
        found: list[nodes.Node] = []
        for node in body:
            new = self.visit(node)
            found += new if isinstance(new, list) else [new]
        return found

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        """Return the body of the most derived block of this name."""
        return self._body_of(node.name, 0, node.lineno)

    def _body_of(self, name: str, level: int, lineno: int) -> nodes.Node:
        self._levels.append((name, level))
        body = self.fill(self._blocks[name][level].body)
        self._levels.pop()
        return nodes.Scope(body, lineno=lineno)

    def visit_Output(self, node: nodes.Output) -> list[nodes.Node]:  # noqa: N802
        """Put the body of the block that is overridden in place of `{{ super() }}`."""
        found: list[nodes.Node] = []
        for part in node.nodes:
            if not (isinstance(part, nodes.Call) and _is_super(part.node)):
                found.append(nodes.Output([self.visit(part)], lineno=part.lineno))
                continue
            name, level = self._levels[-1] if self._levels else ("", 0)
            if not name or level + 1 >= len(self._blocks[name]):
                raise self._linker.unsupported(part, "`super()` without a block to override")
            found.append(self._body_of(name, level + 1, part.lineno))
        return found

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Refuse what only Jinja's own inheritance can do."""
        if node.name in ("super", "self") and node.ctx == "load":
            raise self._linker.unsupported(node, f"`{node.name}` other than as `{{{{ super() }}}}`")
        return node


def _is_super(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "super"


class _Renamer(NodeTransformer):
    """Renames the definitions of an imported file, so that they hide nothing."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Rename a use or an assignment."""
        node.name = self._names.get(node.name, node.name)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        """Rename a macro, but not what its arguments hide."""
        hidden = {arg.name for arg in node.args}
        node.name = self._names.get(node.name, node.name)
        inner = _Renamer({k: v for k, v in self._names.items() if k not in hidden})
        node.defaults = [self.visit(each) for each in node.defaults]
        node.body = [inner.visit(each) for each in node.body]
        return node


def _defined(node: nodes.Node) -> Iterator[str]:
    """Yield the names that a definition at the top level of a file gives."""
    if isinstance(node, nodes.Macro):
        yield node.name
    elif isinstance(node, nodes.Assign | nodes.AssignBlock):
        target = node.target
        parts = target.items if isinstance(target, _LISTS) else [target]
        yield from (each.name for each in parts if isinstance(each, nodes.Name))
