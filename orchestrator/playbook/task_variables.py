"""Variables of tasks in files of their own: ``vars_files``, and ``vars.yml`` of a folder."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, DiagnosticCollector
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.playbook.model import Task
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_loader import load_yaml

_EXPRESSION = lazy_regex(r"\{\{([^{}]+)\}\}")
_FILE_HINT = "the path begins in the project's folder"
_TASK_KEYS = ("steps", "tasks", "probe")


class VarsFileReader:
    """Adds variables of files to tasks; each file is read once, and errors go to ``problems``.

    ``folder_vars`` are the files that apply to all tasks of a folder.
    """

    def __init__(
        self, root: Path, folder_vars: Mapping[Path, Path], problems: DiagnosticCollector
    ) -> None:
        self._root, self._folder_vars, self._problems = root, folder_vars, problems
        self._read = SchemaReader(problems)
        self._known: dict[Path, Values] = {}

    def with_files(self, task: Task, path: Path) -> Task:
        """Return the task, which is in this file, with the variables of its files.

        From weak to strong: the folders, outer ones first, the task's own ``vars``, its
        ``vars_files``.
        """
        found: dict[str, object] = {}
        for folder in reversed(path.parents):
            if folder in self._folder_vars:
                found.update(self._values_of(self._folder_vars[folder]))
        found.update(task.vars)
        for number, names in enumerate(task.vars_files, 1):
            if len(names) > 1 or "{{" in names[0]:
                found.update(self._values_by_host(names, f"vars_files_{number}", found))
            elif named := self._find_file(names[0]):
                found.update(self._values_of(named))
        return replace(task, vars=cast(Values, found)) if found else task

    def _values_by_host(
        self, names: Sequence[MarkedKey], chosen: str, weaker: Mapping[str, object]
    ) -> dict[str, object]:
        """Return the variables of files of which one is taken: the first of the names that exists.

        All of them are read, so that text of a host chooses between them and opens none. The name
        that is taken, or '', is the variable ``chosen``. For each variable ``x`` there is a mapping
        ``x__files`` of its values; ``x`` picks one of them or, if the chosen file lacks it, the
        weaker value ``x__weaker``.
        """
        mark = names[0].mark
        expressions: list[str] = []
        existing: set[str] = set()
        choices: dict[str, dict[str, MarkedValue]] = {}
        for name in names:
            pattern, expression = self._pattern_of(name)
            expressions.append(expression)
            # Path.glob raises for an absolute path, which is refused below with its position
            for shown in sorted(glob.glob(pattern, root_dir=self._root)):  # noqa: PTH207
                if file := self._find_file(MarkedKey(shown, name.mark)):
                    existing.add(shown)
                    for variable, value in self._values_of(file).items():
                        choices.setdefault(variable, {})[shown] = value
        if not choices and all(expressions):
            listed = ", ".join(f"'{name}'" for name in names)
            self._problems.add(f"no file has variables for {listed}", mark, _FILE_HINT)
        written = f"[{', '.join(expressions)}]"
        pick = f"{written} | select('in', {json.dumps(sorted(existing))}) | first | default('')"
        found: dict[str, object] = {chosen: MarkedValue(f"{{{{ {pick} }}}}", mark)}
        for variable, values in choices.items():
            keys = {MarkedKey(shown, mark): value for shown, value in values.items()}
            found[f"{variable}__files"] = MarkedValue(keys, mark)
            pick = f"{variable}__files[{chosen}]"
            if variable in weaker:
                found[f"{variable}__weaker"] = weaker[variable]
                pick += f" if {chosen} in {variable}__files else {variable}__weaker"
            else:
                lack = json.dumps(f" does not have '{variable}', as {', '.join(values)} does")
                pick += f" | mandatory(({chosen} or {written} | join(' or ')) ~ {lack})"
            found[variable] = MarkedValue(f"{{{{ {pick} }}}}", mark)
        return found

    def _pattern_of(self, name: MarkedKey) -> tuple[str, str]:
        """Return the pattern of glob(7) of a name with expressions, and the expression of its text.

        Return two empty texts after reporting an error.
        """
        parts = _EXPRESSION.split(name)
        literals, inner = parts[::2], parts[1::2]
        if any(sign in part for part in (*literals, *inner) for sign in "{}"):
            hint = "write `vars/{{ facts.family }}.yml`, or put the variables into the inventory"
            what = "only expressions in {{ }} are allowed in a name of vars_files"
            self._problems.add(what, name.mark, hint)
            return "", ""
        pattern = "*".join(glob.escape(literal) for literal in literals)
        texts = [json.dumps(literals[0])]
        for expression, literal in zip(inner, literals[1:], strict=True):
            texts += [f"({expression})", json.dumps(literal)]
        return pattern, " ~ ".join(texts)

    def _find_file(self, name: MarkedKey) -> Path | None:
        """Return the file of this name, which must be in the project, or None."""
        root = self._root.resolve()
        path = (root / name).resolve()
        why = hint = ""
        if not path.is_relative_to(root):
            why = "is outside of the project"
        elif not path.is_file():
            why, hint = "does not exist", _FILE_HINT
        elif path.is_relative_to(root / "tasks") and path not in self._folder_vars.values():
            why, hint = "is below tasks/, where it would be a task", "move it, like to vars/"
        if not why:
            return path
        self._problems.add(f"the file '{name}' {why}", name.mark, hint)
        return None

    def _values_of(self, path: Path) -> Values:
        if path not in self._known:
            self._known[path] = {}
            try:
                value = load_yaml(path, display_path(path))
            except DefinitionError as error:
                self._problems.diagnostics.extend(error.diagnostics)
                return {}
            what = f"'{path.name}'"
            entries = value.data.items() if isinstance(value.data, dict) else ()
            if any(key in _TASK_KEYS and isinstance(each.data, list) for key, each in entries):
                message = f"{what} holds variables, and this looks like a task"
                self._problems.add(message, value.mark, "rename the file")
                return {}
            self._known[path] = cast(Values, self._read.variables(value, what))
        return self._known[path]
