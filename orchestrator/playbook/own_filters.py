"""The project's own filters: functions in the Python files of ``tasks/filters/``.

The names are read from a file's text, without running it: checking a project runs none of its code.
The file runs when a template uses one of its filters for the first time. Its filters are its
functions without ``_`` in front; of a filter plugin of Ansible, they are the mapping that
``FilterModule.filters`` returns.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from orchestrator.errors import DefinitionError, DiagnosticCollector, SourcePosition
from orchestrator.playbook.task_index import FILTERS_FOLDER
from orchestrator.templating.filter_calls import (
    NO_FILTERS,
    OwnFilter,
    OwnFilters,
    error_text,
    failed_line,
)
from orchestrator.yamlio.local_files import display_path, list_directory, read_file
from orchestrator.yamlio.yaml_loader import decode_utf8

_MAX_FILE_BYTES = 1 << 20
_PLUGIN_CLASS, _PLUGIN_METHOD = "FilterModule", "filters"
_PLUGIN_HINT = (
    f"end `{_PLUGIN_METHOD}` with a mapping that is written out: `return {{'x': x}}`; without the "
    "class, each function of the file is a filter"
)
_ANSIBLE_HINT = "orch runs without Ansible: drop the import, and raise ValueError for an error"
_IMPORT_HINT = "install it beside orch, with the same Python"


def load_own_filters(root: Path) -> OwnFilters:
    """Return the project's own filters. Raises DefinitionError with every error in their files.

    As long as the files have the same texts, the filters are the same objects, and run once.
    """
    folder = root / "tasks" / FILTERS_FOLDER
    if not folder.is_dir():
        return NO_FILTERS
    problems = DiagnosticCollector()
    listing = list_directory(folder, display_path(folder), problems)
    texts: list[tuple[str, str, str]] = []
    for filename in (name for name in listing.others if name.endswith(".py")):
        path = folder / filename
        shown = display_path(path)
        try:
            text = decode_utf8(read_file(path, _MAX_FILE_BYTES), shown)
            texts.append((str(path.absolute()), shown, text))
        except DefinitionError as error:
            problems.diagnostics.extend(error.diagnostics)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            problems.add(f"cannot read {shown}: {why}", SourcePosition(shown, 1, 1))
    problems.raise_any()
    return _filters_of(tuple(texts)) if texts else NO_FILTERS


@lru_cache(8)
def _filters_of(texts: tuple[tuple[str, str, str], ...]) -> OwnFilters:
    """Return the filters of files, each as its path, its path for display and its text."""
    from orchestrator.templating.environment import template_environment  # loads Jinja

    shipped = template_environment(comments=False).filters
    problems = DiagnosticCollector()
    found: dict[str, OwnFilter] = {}
    for path, shown, text in texts:
        for one in read_filters(path, shown, text, problems):
            if one.name in shipped:
                what = f"'{one.name}' cannot be a filter: orch has a filter of that name"
                problems.add(what, one.mark, f"rename it, like 'my_{one.name}'")
            elif one.name in found:
                what = f"the filter '{one.name}' is defined twice"
                other = found[one.name].mark
                problems.add(what, one.mark, f"the other one is at {other.path}:{other.line}")
            else:
                found[one.name] = one
    problems.raise_any()
    return OwnFilters(dict(sorted(found.items())))


def read_filters(
    path: str, shown: str, text: str, problems: DiagnosticCollector
) -> list[OwnFilter]:
    """Return the filters of a file, in order, without running it.

    ``path`` is the absolute one, ``shown`` that of errors.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        mark = SourcePosition(shown, error.lineno or 1, error.offset or 1)
        problems.add(f"invalid Python: {error.msg}", mark)
        return []
    except (ValueError, RecursionError, MemoryError) as error:
        problems.add(f"invalid Python: {error_text(error)}", SourcePosition(shown, 1, 1))
        return []
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    plugin = next((node for node in classes if node.name == _PLUGIN_CLASS), None)
    defined: Mapping[str, ast.AST] = {
        name: node for name, node in functions.items() if not name.startswith("_")
    }
    if plugin is not None:
        returned = _returned_names(plugin, functions)
        if returned is None:
            mark = SourcePosition(shown, plugin.lineno, plugin.col_offset + 1)
            problems.add("the names of these filters cannot be read", mark, _PLUGIN_HINT)
            return []
        defined = returned
    code = _FilterFile(path, shown, text, is_plugin=plugin is not None)
    return [
        OwnFilter(name, _description(node), _mark(node, shown), partial(code.function, name))
        for name, node in defined.items()
    ]


def _returned_names(
    plugin: ast.ClassDef, functions: Mapping[str, ast.FunctionDef]
) -> dict[str, ast.AST] | None:
    """Return the filters of a plugin class, each with its function or else its place.

    Return None if they are not a mapping that is written out.
    """
    methods = [node for node in plugin.body if isinstance(node, ast.FunctionDef)]
    method = next((node for node in methods if node.name == _PLUGIN_METHOD), None)
    last = method.body[-1] if method else None
    if not isinstance(last, ast.Return) or not isinstance(last.value, ast.Dict):
        return None
    found: dict[str, ast.AST] = {}
    for key, value in zip(last.value.keys, last.value.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        function = functions.get(value.id) if isinstance(value, ast.Name) else None
        found[key.value] = function or key
    return found


def _description(node: ast.AST) -> str:
    """Return the summary of a function's docstring on one line, or ''."""
    text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
    first = (text or "").partition("\n\n")[0]
    return " ".join(first.split()).removesuffix(".")


def _mark(node: Any, shown: str) -> SourcePosition:
    return SourcePosition(shown, node.lineno, node.col_offset + 1)


class _FilterFile:
    """A file of filters, which runs once, when the first of them is used.

    ``path`` is the absolute one; ``shown`` is that of errors and tracebacks.
    """

    def __init__(self, path: str, shown: str, text: str, *, is_plugin: bool) -> None:
        self._path, self._shown, self._text, self._is_plugin = path, shown, text, is_plugin
        self._lock = Lock()
        self._functions: Mapping[str, Any] | None = None
        self._failure: tuple[str, str] | None = None

    def function(self, name: str) -> Callable[..., Any]:
        """Return the function of a filter. Raises UnusableValueError if the file fails."""
        from orchestrator.templating.value_text import UnusableValueError  # loads Jinja

        with self._lock:
            if self._functions is None and self._failure is None:
                self._run()
        if self._failure is not None:
            raise UnusableValueError(*self._failure)
        function = (self._functions or {}).get(name)
        if not callable(function):
            raise UnusableValueError(
                f"{self._shown} has no function for the filter '{name}' once it has run"
            )
        found: Callable[..., Any] = function
        return found

    def _run(self) -> None:
        """Run the file; what it raises is kept, and not tried again."""
        digest = hashlib.sha256(self._path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        module = ModuleType(f"orch_filters_{digest}")
        module.__file__ = self._path
        module.__dict__["print"] = _print_to_stderr
        sys.modules[module.__name__] = module  # as dataclasses and pickle require
        try:
            # dont_inherit: the file has its own `from __future__` imports
            exec(compile(self._text, self._shown, "exec", dont_inherit=True), module.__dict__)
            if self._is_plugin:
                plugin = module.__dict__[_PLUGIN_CLASS]()
                self._functions = dict(getattr(plugin, _PLUGIN_METHOD)())
            else:
                self._functions = module.__dict__
        except (Exception, SystemExit) as error:
            line = failed_line(error, self._shown)
            place = f"{self._shown}:{line}" if line else self._shown
            self._failure = (f"{place} fails: {error_text(error)}", _failure_hint(error))


def _failure_hint(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError):
        return ""
    package = (error.name or "").partition(".")[0]
    return _ANSIBLE_HINT if package in ("ansible", "ansible_collections") else _IMPORT_HINT


def _print_to_stderr(*values: object, **options: Any) -> None:
    """Print like ``print``, to stderr: stdout may be read by a program, as with ``--json``."""
    print(*values, **{"file": sys.stderr, **options})
