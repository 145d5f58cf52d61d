"""Count the tasks of Ansible repositories that have a counterpart in orch for all they use.

    python -m tests.compare.ansible_roles [--reasons 30] FOLDER...

A task counts only if its module, each of its params and their values, each keyword, and each
filter, test, lookup and fact in its expressions have a counterpart. A `run` counts only if Ansible
had `command` or `shell`. What orch has is read from orch's own tables; ``ansible_names.yml`` has
the names that differ. Nothing is fetched: each folder is a repository, or a folder of some.

A filter of the repository itself counts if its file works in ``tasks/filters/`` as it is: orch finds
the filter in it, and it imports only Python's own modules.

A second total leaves out the tasks that do not count because of a plugin of their own repository:
program code, which no other tool has.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2 import nodes

from orchestrator.errors import DiagnosticCollector
from orchestrator.model import ansible
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.template_objects import OBJECT_FIELDS
from orchestrator.playbook import keywords
from orchestrator.playbook.own_filters import read_filters
from orchestrator.templating.environment import FUNCTIONS, template_environment

NAMES = Path(__file__).with_name("ansible_names.yml")
_BLOCK_KEYS = ("block", "rescue", "always")
_PLAY_TASKS = ("tasks", "pre_tasks", "post_tasks", "handlers")
_NO_TASK_KEYS = frozenset(("args", "action", "local_action", "connection"))
_FACT = re.compile(r"\{\{ ([^}]*?\bfacts\b[^}]*?) \}\}")
_KEYWORDS_OF_BLOCKS = frozenset(_BLOCK_KEYS)
_IS_TEMPLATE = re.compile(r"\{\{|\{%")
_PLUGIN_FOLDERS = {
    **dict.fromkeys(("library", "modules"), "module"),
    **dict.fromkeys(("lookup_plugins", "lookup"), "lookup"),
    **dict.fromkeys(("filter_plugins", "filter"), "filter"),
    **dict.fromkeys(("test_plugins", "test"), "test"),
}
_PLUGIN_NAME = re.compile(r"""["'](\w+)["']\s*:\s*\w""")
"""A key of the mapping that a plugin of filters or tests returns."""
_CONDITIONS = frozenset(("when", "changed_when", "failed_when", "until"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the counts of each repository, the total, and the reasons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reasons", type=int, default=30, help="how many reasons to show")
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    only: Counter[str] = Counter()
    for folder in options.folders:
        counts: Counter[str] = Counter()
        own, filters = own_plugins(folder), own_filters(folder)
        checker, without = TaskChecker(filters), TaskChecker()
        for task in repository_tasks(folder):
            found = set(checker.reasons(task))
            counts["tasks"] += 1
            counts["counted"] += not found
            counts["own"] += bool(found & own)
            counts["filters"] += not found and any(without.reasons(task))
            reasons.update(found)
            only.update(found if len(found) == 1 else ())
        totals.update(counts)
        print(f"{folder.name}: {_share(counts)}", flush=True)
    print(f"total: {_share(totals)}")
    print(f"{totals['filters']} of them with filters of their own repository")
    totals["tasks"] -= totals["own"]
    print(f"without plugins of their own: {_share(totals)}")
    for reason, number in reasons.most_common(options.reasons):
        print(f"{number:6} ({only[reason]} alone)  {reason}")
    return 0


def _share(counts: Counter[str]) -> str:
    share = 100 * counts["counted"] / max(1, counts["tasks"])
    return f"{counts['counted']} of {counts['tasks']} tasks ({share:.1f} %)"


def own_plugins(folder: Path) -> frozenset[str]:
    """Return the plugins that a repository has itself, each as the reason that it would be."""
    found = set()
    for path in folder.rglob("*.py"):
        kind = _PLUGIN_FOLDERS.get(path.parent.name)
        if kind in ("module", "lookup"):
            found.add(f"{kind} {path.stem}")
        elif kind:
            text = path.read_text("utf-8", "replace")
            found |= {f"{kind} {name}" for name in _PLUGIN_NAME.findall(text)}
    return frozenset(found)


def own_filters(folder: Path) -> frozenset[str]:
    """Return the filters that a repository has itself, and that orch has if it has their files."""
    found = set()
    for path in folder.rglob("*.py"):
        if _PLUGIN_FOLDERS.get(path.parent.name) != "filter":
            continue
        text, problems = path.read_text("utf-8", "replace"), DiagnosticCollector()
        filters = read_filters(str(path), path.name, text, problems)
        if _imported_modules(text) <= sys.stdlib_module_names:
            found |= {each.name for each in filters}
    return frozenset(found)


def _imported_modules(text: str) -> set[str]:
    """Return the top packages that a file of Python imports, those inside functions as well."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return set()
    main = [n for n in tree.body if isinstance(n, ast.If) and "__main__" in ast.unparse(n.test)]
    skipped = {id(node) for part in main for node in ast.walk(part)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


class _Loader(yaml.SafeLoader):
    """A loader that reads Ansible's tags as what they tag."""


def _construct_tagged(loader: _Loader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _construct_tagged)


def repository_tasks(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the tasks and handlers in the YAML files of a repository, those in blocks as well."""
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in (".yml", ".yaml"))
    for path in files:
        if ".git" in path.parts or not path.is_file() or path.is_symlink():
            continue
        try:
            data = yaml.load(path.read_text("utf-8"), Loader=_Loader)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            continue
        entries = (
            [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
        )
        plays = [entry for entry in entries if "hosts" in entry]
        for play in plays:
            for key in _PLAY_TASKS:
                yield from _flat_tasks(play.get(key))
        if {"tasks", "handlers"} & set(path.relative_to(folder).parts[:-1]):
            yield from _flat_tasks([entry for entry in entries if "hosts" not in entry])


def _flat_tasks(entries: object) -> Iterator[dict[str, Any]]:
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        if "block" in entry:
            inherited = {
                key: value
                for key, value in entry.items()
                if key in ("when", "become", "become_user")
            }
            for key in _BLOCK_KEYS:
                for task in _flat_tasks(entry.get(key)):
                    yield {**inherited, **task}
        elif len(entry) > 1 or "name" not in entry:
            yield entry


class OrchTables:
    """What orch has, read from its own tables."""

    def __init__(self) -> None:
        env = template_environment(comments=True)
        self.filters, self.tests = frozenset(env.filters), frozenset(env.tests)
        self.functions = frozenset(FUNCTIONS)
        self.facts = OBJECT_FIELDS["facts"]
        self.step_keys = frozenset({*keywords.STEP, *keywords.RUN})
        self.handler_keys = frozenset(getattr(keywords, "HANDLER", ()))
        self.loop_control = frozenset(keywords.LOOP_CONTROL)
        self.actions: dict[str, frozenset[str]] = {name: frozenset() for name in keywords.ACTIONS}
        self.actions |= {
            "assert": frozenset(keywords.ASSERT),
            "download": frozenset(keywords.DOWNLOAD),
            "pause": frozenset(keywords.PAUSE),
            "wait_for_connection": frozenset(keywords.CONNECTION),
        }

    @cache  # noqa: B019 - there is one for a process
    def params(self, module: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return the params of a module that comes with orch, or None if there is none."""
        path = MODULES_FOLDER / f"{module}.yml"
        if not path.exists():
            return None
        written = yaml.safe_load(path.read_text())
        return {name: param or {} for name, param in (written.get("params") or {}).items()}

    @cache  # noqa: B019 - there is one for a process
    def is_readonly(self, module: str) -> bool:
        """Return True if a module that comes with orch changes nothing."""
        path = MODULES_FOLDER / f"{module}.yml"
        return path.exists() and "fix" not in yaml.safe_load(path.read_text())

    @cache  # noqa: B019 - there is one for a process
    def has_expression(self, expression: str) -> bool:
        """Return True if all filters, functions, facts and objects of an expression exist."""
        tree = jinja2.Environment().parse(f"{{{{ {expression.replace('…', 'x')} }}}}")
        for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Call, nodes.Getattr)):
            if isinstance(node, nodes.Filter) and node.name not in self.filters:
                return False
            if isinstance(node, nodes.Test) and node.name not in self.tests:
                return False
            if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
                known = OBJECT_FIELDS.get(node.node.name)
                if known is not None and node.attr not in known:
                    return False
            is_function = isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name)
            if is_function and node.node.name not in self.functions:  # type: ignore[union-attr]
                return False
        return True


@cache
def _orch_tables() -> OrchTables:
    return OrchTables()


class TaskChecker:
    """Says why a task has no counterpart in orch.

    ``own_filters`` are those of the task's repository that orch would have as well.
    """

    def __init__(self, own_filters: frozenset[str] = frozenset()) -> None:
        self.orch = _orch_tables()
        self.filters = self.orch.filters | own_filters
        self.names: dict[str, Any] = yaml.safe_load(NAMES.read_text("utf-8"))
        self.facts = {
            name.removeprefix("ansible_"): found[1]
            for name, hint in ansible.VARIABLE_HINTS.items()
            if name.startswith("ansible_") and (found := _FACT.search(hint))
        }
        self.lookups = {
            name
            for name, expression in ansible.LOOKUPS.items()
            if self.orch.has_expression(expression)
        }

    def unknown_names(self) -> list[str]:
        """Return the modules of orch in the names that do not exist; their tasks never count."""
        found = {
            entry["module"]
            for module in self.names["modules"].values()
            for entry in (module, *module.get("cases", {}).values())
            if "module" in entry
        }
        return sorted(name for name in found if self.orch.params(name) is None)

    def reasons(self, task: Mapping[str, Any]) -> Iterator[str]:
        """Yield why a task does not count: nothing if it does."""
        module, arguments, task_keys = self._parts(task)
        if module is None:
            yield "no module that is known to be one"
        else:
            yield from self._module_reasons(module, arguments)
        entry = self._entry(module or "", arguments) if module else None
        for key, value in task_keys.items():
            yield from self._keyword_reasons(str(key), value, entry or {}, arguments)
        for is_condition, text in _texts(task):
            yield from self._expression_reasons(text, is_condition=is_condition)

    def _parts(self, task: Mapping[str, Any]) -> tuple[str | None, Any, dict[str, Any]]:
        """Return the module, its arguments and the keywords of a task."""
        own = {str(key): value for key, value in task.items()}
        for key in ("action", "local_action"):
            if key in own:
                given = own.pop(key)
                if isinstance(given, dict):
                    module = str(given.get("module", ""))
                    arguments: Any = {k: v for k, v in given.items() if k != "module"}
                else:
                    module, _, arguments = str(given).partition(" ")
                return module.rpartition(".")[2], arguments, own
        is_keyword = {*self.names["keywords"], *_NO_TASK_KEYS, "loop_control", *_ANSIBLE_KEYWORDS}
        for key in own:
            if key not in is_keyword and not key.startswith("with_"):
                arguments = own.pop(key)
                if isinstance(own.get("args"), dict):
                    inner = arguments if isinstance(arguments, dict) else {}
                    free = arguments if isinstance(arguments, str) else None
                    arguments = {**own.pop("args"), **inner}
                    if free:
                        arguments["_free"] = free
                return key.rpartition(".")[2], arguments, own
        return None, None, own

    def _entry(self, module: str, arguments: Any) -> dict[str, Any] | None:
        entry: dict[str, Any] | None = self.names["modules"].get(module)
        if entry is not None and "by" in entry:
            chosen = _arguments_of(arguments).get(entry["by"]["param"], entry["by"].get("default"))
            case = entry["by"]["cases"].get(str(chosen))
            if _IS_TEMPLATE.search(str(chosen)):
                case = _case_of_template(str(chosen), entry["by"])
            return entry["cases"].get(case)
        return entry

    def _module_reasons(self, module: str, arguments: Any) -> Iterator[str]:
        if module not in self.names["modules"]:
            yield f"module {module}"
            return
        entry = self._entry(module, arguments)
        if entry is None:
            yield f"value of {module}.{self.names['modules'][module]['by']['param']}"
            return
        target = self._target(entry)
        if target is None:
            yield f"module {module}"
            return
        for name, value in _arguments_of(arguments, free="free" in entry).items():
            yield from self._param_reasons(module, entry, target, str(name), value)

    def _target(self, entry: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]] | None:
        """Return the params of the counterpart, or None if orch does not have it."""
        if "module" in entry:
            return self.orch.params(entry["module"])
        if "fact" in entry:
            return {} if entry["fact"] in self.orch.facts else None
        if "task" in entry:
            return {entry["task"]: {}} if entry["task"] in keywords.TASK else None
        keys: Iterable[str] = self.orch.step_keys
        if "action" in entry:
            if entry["action"] not in self.orch.actions:
                return None
            keys = {*keys, *self.orch.actions[entry["action"]], entry["action"]}
        return {key: {} for key in (*keys, "run", "call")}

    def _param_reasons(
        self,
        module: str,
        entry: Mapping[str, Any],
        target: Mapping[str, Mapping[str, Any]],
        name: str,
        value: Any,
    ) -> Iterator[str]:
        params = entry.get("params", {})
        if name == "_free":
            values = entry.get("values")
            if values is not None and value not in values:
                yield f"value of {module}: {value}"
            return
        if params.get(name) == {"keywords": True}:
            for key in value if isinstance(value, dict) else (name,):
                if self.names["keywords"].get(key) not in self.orch.step_keys:
                    yield f"param {module}.{name}.{key}"
            return
        if name not in params:
            if not entry.get("any"):
                yield f"param {module}.{name}"
            return
        mapped = params[name]
        values = {}
        if isinstance(mapped, dict) and "step" in mapped:
            if mapped["step"] not in self.orch.step_keys:
                yield f"param {module}.{name}"
            return
        if isinstance(mapped, dict) and "pattern" in mapped:
            for each in value if isinstance(value, list) else (value,):
                if not re.fullmatch(mapped["pattern"], str(each)):
                    yield f"value of {module}.{name}: {each}"
        if isinstance(mapped, dict):
            values, mapped = mapped.get("values", {}), mapped.get("param")
        written = _plain(value)
        if isinstance(written, str | int) and written in values:
            mapped = mapped if values[written] is not None else None
            if values[written] is None:
                return
            value = values[written]
        elif values and mapped not in target:
            yield f"value of {module}.{name}"
            return
        if mapped is None:
            return
        if mapped not in target:
            yield f"param {module}.{name}"
            return
        choices = target[mapped].get("choices")
        word = self.names["states"].get(str(value), value)
        if choices and not _IS_TEMPLATE.search(str(word)) and word not in choices:
            yield f"value of {module}.{name}: {word}"

    def _keyword_reasons(
        self, key: str, value: Any, entry: Mapping[str, Any], arguments: Any
    ) -> Iterator[str]:
        if "task" in entry and key not in ("name", "tags", *entry.get("keywords", ())):
            yield f"keyword {key} of {entry['task']}"  # a key of the task has none of a step
            return
        if key.startswith("with_"):
            name = key.rpartition(".")[2].removeprefix("with_")
            if name not in self.lookups:
                yield f"keyword {key}"
            return
        if key == "loop_control":
            for inner in value if isinstance(value, dict) else ():
                if self.names["loop_control"].get(inner) not in self.orch.loop_control:
                    yield f"keyword loop_control.{inner}"
            return
        if key == "connection" and value == "local":
            if "local" not in self.orch.step_keys:
                yield "keyword connection"
            return
        if key == "poll" and _plain(value) not in (0, "0"):
            return  # how often Ansible looks whether the step has ended
        mapped = self.names["keywords"].get(key)
        if isinstance(mapped, dict):  # a value that needs no counterpart
            if _plain(value) not in mapped["values"]:
                yield f"value of {key}"
            return
        if mapped == "readonly" and "run" not in entry:
            if _plain(value) is not False or not self._changes_nothing(entry, arguments):
                yield f"keyword {key} of a module"
        elif mapped not in self.orch.step_keys | self.orch.handler_keys:
            yield f"keyword {key}"

    def _changes_nothing(self, entry: Mapping[str, Any], arguments: Any) -> bool:
        """Return True if the counterpart runs in a check as well, or can be told to."""
        if "readonly_if" in entry:
            (name, values), *_ = entry["readonly_if"].items()
            return str(_arguments_of(arguments).get(name, values[0])).upper() in values
        if "module" in entry and "readonly" in (self.orch.params(entry["module"]) or {}):
            return True
        if "module" in entry:
            return self.orch.is_readonly(entry["module"])
        return "fact" in entry or entry.get("action") in ("set", "assert", "fail")

    def _expression_reasons(self, text: str, *, is_condition: bool) -> Iterator[str]:
        source = f"{{{{ {text} }}}}" if is_condition and "{{" not in text else text
        try:
            tree = _environment().parse(source)
        except (jinja2.TemplateError, RecursionError):
            yield "an expression that Jinja does not parse"
            return
        for node in tree.find_all(nodes.Filter):
            short = node.name.rpartition(".")[2]
            if short not in self.filters:
                yield f"filter {short}"
        for test in tree.find_all(nodes.Test):
            short = test.name.rpartition(".")[2]
            short = self.names["tests"].get(short, short)
            if short not in self.orch.tests:
                yield f"test {short}"
        yield from self._call_reasons(tree)
        yield from self._name_reasons(tree)

    def _call_reasons(self, tree: nodes.Template) -> Iterator[str]:
        for call in tree.find_all(nodes.Call):
            if not isinstance(call.node, nodes.Name):
                continue
            name = call.node.name
            if name in ("lookup", "query", "q"):
                plugin = call.args[0] if call.args else None
                word = str(plugin.value) if isinstance(plugin, nodes.Const) else "of a variable"
                if word.rpartition(".")[2] not in self.lookups:
                    yield f"lookup {word.rpartition('.')[2]}"
            elif name not in self.orch.functions:
                yield f"function {name}"

    def _name_reasons(self, tree: nodes.Template) -> Iterator[str]:
        used: dict[int, tuple[str, ...]] = {}
        for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
            path = _path(node)
            if path:
                root = id(_root(node))
                used[root] = max(used.get(root, ()), path, key=len)
        for call in tree.find_all(nodes.Call):
            if _is_get_of_facts(call):
                used[id(_root(call))] = _path(call)
        for name in tree.find_all(nodes.Name):
            if name.ctx == "load":
                yield from self._variable_reasons(used.get(id(name), (name.name,)))

    def _variable_reasons(self, path: tuple[str, ...]) -> Iterator[str]:
        name, *fields = path
        if name in self.names["variables"]:
            expression = self.names["variables"][name]
            if expression is None or not self.orch.has_expression(expression):
                yield f"variable {name}"
            return
        if name == "ansible_facts":
            if not fields:
                yield "variable ansible_facts"
                return
            name, *fields = fields
        elif name.startswith("ansible_"):
            name = name.removeprefix("ansible_")
        else:
            return
        expression = self.facts.get(name)
        if expression is None or not self.orch.has_expression(expression):
            yield f"fact {name}"
            return
        known = self.names["fact_fields"].get(name, [])
        if fields and known != "any" and fields[0] not in known and not hasattr("", fields[0]):
            yield f"fact {name}.{fields[0]}"


_ANSIBLE_KEYWORDS = frozenset(
    (
        *("any_errors_fatal", "async", "poll", "become_method", "become_flags", "become_exe"),
        *("check_mode", "collections", "debugger", "delegate_facts", "ignore_unreachable"),
        *("module_defaults", "port", "remote_user", "sudo", "sudo_user", "su", "su_user", "static"),
        *("tags", "first_available_file", "always_run", "max_fail_percentage"),
    )
)
"""Keywords of Ansible's tasks that are no keys of the data file."""


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])


def _arguments_of(arguments: Any, *, free: bool = False) -> dict[str, Any]:
    """Return the arguments of a module, also those written as `name=value`."""
    if isinstance(arguments, dict):
        return arguments
    if not isinstance(arguments, str):
        return {}
    found: dict[str, Any] = {}
    rest = []
    for word in re.findall(r"""(?:\{\{.*?\}\}|"[^"]*"|'[^']*'|\S)+""", arguments, re.DOTALL):
        name, sign, value = word.partition("=")
        known = not free or name in ("chdir", "creates", "removes", "executable", "warn", "stdin")
        if sign and name.isidentifier() and known:
            found[name] = value.strip("\"'")
        else:
            rest.append(word)
    if rest:
        found["_free"] = " ".join(rest)
    return found


def _plain(value: Any) -> Any:
    """Return a value as YAML would read it, if it is a text like `yes`."""
    words = {"yes": True, "true": True, "no": False, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _texts(value: Any, *, is_condition: bool = False) -> Iterator[tuple[bool, str]]:
    """Yield the texts of a task with expressions, and whether each is a bare one."""
    if isinstance(value, str):
        if is_condition or _IS_TEMPLATE.search(value):
            yield is_condition, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, is_condition=is_condition)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, is_condition=key in _CONDITIONS or key == "that")


def _case_of_template(text: str, by: Mapping[str, Any]) -> str | None:
    """Return the case that has all values which a template names, if it names the case itself."""
    try:
        tree = _environment().parse(text)
    except (jinja2.TemplateError, RecursionError):
        return None
    named = {str(const.value) for const in tree.find_all(nodes.Const)} & by["cases"].keys()
    fits = (
        case
        for case, values in by.get("templates", {}).items()
        if case in named and named <= set(values)
    )
    return next(fits, None)


def _root(node: nodes.Node) -> nodes.Node:
    while isinstance(node, nodes.Getattr | nodes.Getitem | nodes.Call):
        node = node.node
    return node


def _is_get_of_facts(node: nodes.Call) -> bool:
    """Return True for `ansible_facts.get('NAME')`."""
    method, first = node.node, node.args[0] if node.args else None
    return (
        isinstance(method, nodes.Getattr)
        and isinstance(method.node, nodes.Name)
        and (method.node.name, method.attr) == ("ansible_facts", "get")
        and isinstance(first, nodes.Const)
    )


def _path(node: nodes.Node) -> tuple[str, ...]:
    """Return the names of `a.b['c']`, or () if its root is not a name or a part is not known."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Call) and _is_get_of_facts(node):  # facts are never missing
        return (*_path(node.node.node), node.args[0].value)  # type: ignore[attr-defined]
    if isinstance(node, nodes.Getattr):
        inner = _path(node.node)
        return (*inner, node.attr) if inner else ()
    if isinstance(node, nodes.Getitem):
        inner = _path(node.node)
        part = node.arg.value if isinstance(node.arg, nodes.Const) else ""
        return (*inner, str(part)) if inner else ()
    return ()


if __name__ == "__main__":
    raise SystemExit(main())
