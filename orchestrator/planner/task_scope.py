"""The names of one task file on one host: its params hide the host's variables.

Also checks rules over several params: exactly one of them, or disjoint paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from itertools import pairwise
from typing import Any, TypeAlias

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.model.marked_value import CommandText, MarkedValue, Values
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.host_scope import (
    MAX_HOPS,
    HostScope,
    follow_origin,
    origin_of_item,
    secret_names_in,
)
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.template_objects import NamedView
from orchestrator.playbook.model import ArgumentTemplate, ParamRule, Task, TaskParam
from orchestrator.playbook.param_types import ListItemError, convert_param
from orchestrator.templating import ResultPending, Scope

COMMAND_LINE = SourcePosition("<command line>")

TaskArgument: TypeAlias = "str | tuple[ArgumentTemplate, Scope]"
"""Text from the command line, or a template and the scope it is rendered in."""


class TaskScope:
    """The scope of a task file.

    ``written_args`` are the arguments of its call, rendered in ``caller``. ``passed_args`` are
    arguments from further out (command line, enclosing playbooks); None if the task is called as a
    step and accepts none. Params of such a task, and of any module, are not filled from variables,
    but from ``defaults``, which the stage and the roles set for it. ``call_position`` is the
    position of the calling step.

    A step has a copy with more names: those of its loop (``extra``), and its ``vars``
    (``step_vars``), which may use those of the loop. Params do not see them: ``file_scope`` is the
    scope without them.
    """

    __slots__ = (
        *("call_position", "caller", "defaults", "extra", "extra_from_host", "extra_sources"),
        *("file_scope", "step_vars"),
        *(
            "passed_args",
            "host",
            "checked_rules",
            "task",
            "names_being_traced",
            "values",
            "written_args",
        ),
    )

    def __init__(
        self,
        task: Task,
        host: HostScope,
        *,
        written_args: Mapping[str, ArgumentTemplate] | None = None,
        caller: Scope | None = None,
        passed_args: Mapping[str, TaskArgument] | None = None,
        defaults: Values | None = None,
        call_position: SourcePosition | None = None,
    ) -> None:
        """Create the scope; a task with ``vars`` adds them to the host's scope."""
        self.task, self.call_position = task, call_position
        self.host = host.with_file_vars(task.vars, self) if task.vars else host
        self.written_args, self.caller, self.passed_args = (
            written_args or {},
            caller or host,
            passed_args,
        )
        self.defaults: Values = defaults or {}
        self.values: dict[str, object] = {}
        self.checked_rules: set[ParamRule] = set()
        self.extra: Mapping[str, object] = {}
        self.extra_sources: frozenset[str] = frozenset()
        self.extra_from_host = False
        # the params that ``from_host`` is currently tracing
        self.names_being_traced: list[str] = []
        self.step_vars: Values = {}
        self.file_scope: TaskScope | None = None

    def with_names(
        self, extra: Mapping[str, object], sources: frozenset[str], *, from_host: bool = False
    ) -> TaskScope:
        """Return a copy of this scope with more names.

        ``sources`` are the names that their values are derived from; ``from_host``: they are
        derived from host output.
        """
        task_scope = copy(self)
        task_scope.extra_from_host = self.extra_from_host or from_host
        task_scope.extra = {**self.extra, **extra}
        task_scope.extra_sources = self.extra_sources | sources
        return task_scope.with_vars({}) if self.step_vars else task_scope

    def with_vars(self, step_vars: Values) -> TaskScope:
        """Return a copy of this scope with the ``vars`` of a step or block."""
        task_scope = copy(self)
        task_scope.step_vars = {**self.step_vars, **step_vars}
        task_scope.file_scope = self.file_scope or self
        task_scope.host = task_scope.file_scope.host.with_step_vars(
            task_scope.step_vars, task_scope
        )
        return task_scope

    @property
    def secrets(self) -> SecretResolver:
        """Return the secrets of the run."""
        return self.host.secrets

    @property
    def project_files(self) -> ProjectFiles:
        """Return what reads the project's files."""
        return self.host.project_files

    @property
    def project_folder(self) -> str:
        """Return the project's folder, for paths in templates; '' without a project."""
        return self.host.project_folder

    @property
    def host_text_reads(self) -> int:
        """Return how often a value derived from host output was read."""
        return self.host.position.host_text_reads

    @host_text_reads.setter
    def host_text_reads(self, count: int) -> None:
        """Set the counter, after a read that does not count."""
        self.host.position.host_text_reads = count

    def resolve(self, name: str) -> object:
        """Return a param's converted value, ``task``, or the value of the name on the host."""
        if name in self.extra:
            if self.extra_from_host:
                self.host.position.count_host_text()
            return self.extra[name]
        param = self.task.params.get(name)
        if param is None:
            if name == "task":
                return NamedView(self.task.name, self.task.desc)
            return self.host.resolve(name)
        if self.file_scope is not None:
            return self.file_scope.resolve(name)
        if name not in self.values:
            position = self.host.position
            reads, reads_before = (
                (position.result_reads, self.secrets.stand_in_reads),
                position.host_text_reads,
            )
            value = self.host.without_cycles(
                (self, name), param.mark, lambda: self._param_value(param)
            )
            if param.type == "file" and position.host_text_reads != reads_before:
                message = f"param '{name}' of task '{self.task.name}' is made of text from a host"
                message += ", which could name any file of this machine"
                raise DefinitionError(Diagnostic(message, self._argument_position(param)))
            if (position.result_reads, self.secrets.stand_in_reads) == reads:
                self.values[name] = value
            for rule in self.task.rules:
                if name in rule.names:
                    self.check_rule(rule)
            return value
        return self.values[name]

    def template_behind(self, name: str) -> tuple[ArgumentTemplate, Scope] | None:
        """Return the template of a name's value and the scope that it uses.

        Return None if there is none: the name is built in, or given on the command line.
        """
        if name in self.extra:
            return None
        param = self.task.params.get(name)
        if param is None:
            return self.host.template_behind(name)
        if self.file_scope is not None:
            return self.file_scope.template_behind(name)
        if name in self.written_args:
            return self.written_args[name], self.caller
        if self.passed_args is not None and name in self.passed_args:
            passed = self.passed_args[name]
            return None if isinstance(passed, str) else passed
        if not self.is_called and (found := self.host.template_behind(name)) is not None:
            return found
        return None if param.default is None else (param.default, self)

    def check_rule(self, rule: ParamRule) -> None:
        """Check a rule over params, as far as all of them are known. Raises DefinitionError."""
        if rule in self.checked_rules or any(
            self.host.is_being_made((self, name)) for name in rule.names
        ):
            return  # a param that is being resolved checks the rule at its end
        self.checked_rules.add(rule)
        known = False
        try:
            values: dict[str, object] = {name: self.resolve(name) for name in rule.names}
            check_param_rule(rule, values, self)
            known = all(name in self.values for name in rule.names)
        except ResultPending:
            pass
        finally:
            if not known:
                self.checked_rules.discard(rule)

    def check_param(self, param: TaskParam) -> None:
        """Check a param that no step may use: text from the command line, or a missing value.

        Other values are not made, because that could fetch a secret that nothing needs. Raises
        DefinitionError.
        """
        if param.name in self.values or param.name in self.written_args:
            return
        passed = (self.passed_args or {}).get(param.name)
        if isinstance(passed, str):
            self.resolve(param.name)
        elif (
            passed is None
            and param.required
            and param.default is None
            and not self._takes_variable(param.name)
            and not (self.is_called and param.name in self.defaults)
        ):
            raise DefinitionError(self._missing_param_error(param))

    def _argument_position(self, param: TaskParam) -> SourcePosition:
        written = self.written_args.get(param.name)
        return written.mark if written is not None else param.mark

    def _param_value(self, param: TaskParam) -> object:
        """Return the value of a param, converted to its type.

        The first of these counts: argument of the call, passed argument, variable (of a module:
        default in the inventory), default in the task.
        """
        name = param.name
        if name in self.written_args:
            template = self.written_args[name]
            return self._convert(param, template.render(self.caller), template.mark)
        if self.passed_args is not None and name in self.passed_args:
            return self._passed_value(param, self.passed_args[name])
        if self._takes_variable(name) and (found := self.host.written_value(name)) is not None:
            of_host = self.host.command_value if param.is_command else self.host.resolve
            return self._convert(param, of_host(name), found.mark)
        if self.is_called and name in self.defaults:
            return self._convert(param, self._default_value(param), self.defaults[name].mark)
        if param.default is not None:
            return self._convert(param, param.default.render(self), param.default.mark)
        if param.required:
            raise DefinitionError(self._missing_param_error(param))
        return None

    def _missing_param_error(self, param: TaskParam) -> Diagnostic:
        message = f"task '{self.task.name}' needs a value for its param '{param.name}'"
        if self.passed_args is None:
            return Diagnostic(message, self.call_position or param.mark, f"write {param.name}: …")
        if self.host.app is None:
            hint = self.host.hint(param.name)
            return Diagnostic(
                message, param.mark, hint if "--app" in hint else f"give it as {param.name}=…"
            )
        message = f"app '{self.host.app.name}' has no {param.name}, and {message}"
        return Diagnostic(message, self.host.app.mark, f"write `{param.name}: …` among its `vars`")

    @property
    def is_called(self) -> bool:
        """Return True if variables do not fill the params: it is a module, or called as a step."""
        return self.passed_args is None or self.task.module is not None

    def _takes_variable(self, name: str) -> bool:
        """Return True if the param is filled from a variable."""
        is_passed = name in self.written_args or (
            self.passed_args is not None and name in self.passed_args
        )
        return not (is_passed or self.is_called) and self.host.written_value(name) is not None

    def args_for_inner_tasks(self) -> dict[str, TaskArgument]:
        """Return the arguments that the tasks of this playbook receive if they accept them."""
        written = {str(name): (value, self.caller) for name, value in self.written_args.items()}
        return {**(self.passed_args or {}), **written}

    def _passed_value(self, param: TaskParam, argument: TaskArgument) -> object:
        if isinstance(argument, str):
            text = CommandText(argument) if param.type == "command" else argument
            return self._convert(param, text, COMMAND_LINE, is_typed=False)
        template, scope = argument
        return self._convert(param, template.render(scope), template.mark)

    def _default_value(self, param: TaskParam) -> object:
        templates, value = self.host.templates, self.defaults[param.name]
        compiled = templates.command if param.is_command else templates.value
        return compiled(value).render(self.host)

    def _convert(
        self, param: TaskParam, value: Any, mark: SourcePosition, is_typed: bool = True
    ) -> object:
        try:
            found = convert_param(param, value, typed=is_typed)
            if param.secret:
                self.secrets.hide_value(param.name, found, mark)
            if param.type == "file" and found is not None:
                return self.host.project_files.find(found, mark)
            return found
        except ValueError as error:
            reason = "is a secret whose value has the wrong type" if param.secret else str(error)
            message = f"'{param.name}' {reason}"
            if not self._takes_variable(param.name):
                message = f"param '{param.name}' of task '{self.task.name}' {reason}"
            written = self.origin(param.name)
            if written is not None and isinstance(error, ListItemError):
                written = origin_of_item(written, error.index)
            raise DefinitionError(Diagnostic(message, written.mark if written else mark)) from None

    def origin(self, name: str, hops: int = MAX_HOPS) -> MarkedValue | None:
        """Return the value of a param, or of a variable, as written."""
        if name in self.extra:
            return self._origin_of_extra(name, hops)
        param = self.task.params.get(name)
        if param is None:
            return self.host.origin(name, hops)
        if self.file_scope is not None:
            return self.file_scope.origin(name, hops)
        if name in self.written_args:
            return _template_origin(self.written_args[name], self.caller, hops)
        if self.passed_args is not None and name in self.passed_args:
            passed = self.passed_args[name]
            if isinstance(passed, str):
                return MarkedValue(passed, COMMAND_LINE, literal=True)
            return _template_origin(*passed, hops)
        if self._takes_variable(name):
            return self.host.origin(name, hops)
        if self.is_called and name in self.defaults:
            return follow_origin(self.defaults[name], self.host, hops)
        return param.written_default and follow_origin(param.written_default, self, hops)

    def _origin_of_extra(self, name: str, hops: int) -> MarkedValue | None:
        """Return the loop's item as written in the list that the loop iterates over."""
        sources = tuple(self.extra_sources - self.extra.keys())
        found = self.origin(sources[0], hops) if len(sources) == 1 else None
        items = found.data if found is not None and isinstance(found.data, list) else []
        return next((item for item in items if item.data == self.extra[name]), found)

    def from_host(self, name: str) -> bool:
        """Return True if the name can lead to text from a host."""
        if name in self.extra:
            if self.extra_from_host:
                return True
            return any(map(self.from_host, self.extra_sources - self.extra.keys()))
        if name not in self.task.params:
            return self.host.from_host(name)
        if self.file_scope is not None:
            return self.file_scope.from_host(name)
        if name in self.names_being_traced:
            return False  # a cycle, which is reported when it is resolved
        self.names_being_traced.append(name)
        try:
            return self._made_of_host_text(self.task.params[name])
        finally:
            self.names_being_traced.pop()

    def _made_of_host_text(self, param: TaskParam) -> bool:
        """Return True if the value that ``_param_value`` returns can contain text from a host."""
        name = param.name
        if name in self.written_args:
            return any_from_host(self.written_args[name], self.caller)
        if self.passed_args is not None and name in self.passed_args:
            passed = self.passed_args[name]
            return not isinstance(passed, str) and any_from_host(*passed)
        if not self.is_called and self.host.written_value(name) is not None:
            return self.host.from_host(name)
        if self.is_called and name in self.defaults:
            return any_from_host(self.host.templates.value(self.defaults[name]), self.host)
        return param.default is not None and any_from_host(param.default, self)

    def fetch_secrets(self, names: Iterable[str], visited: frozenset[str] = frozenset()) -> None:
        """Fetch the secrets that these names lead to now."""
        for name in names:
            param = self.task.params.get(name)
            if name in self.extra:
                self.fetch_secrets(self.extra_sources - self.extra.keys(), visited)
            elif param is None:
                self.host.fetch_secrets((name,))
            elif self.file_scope is not None:
                self.file_scope.fetch_secrets((name,), visited)
            else:
                self._fetch_param_secrets(param, visited)

    def _fetch_param_secrets(self, param: TaskParam, visited: frozenset[str]) -> None:
        """Fetch the secrets that the param's value leads to, but not those of an unused default."""
        name, passed = param.name, (self.passed_args or {}).get(param.name)
        if name in self.written_args:
            _fetch_template_secrets(self.written_args[name], self.caller)
        elif passed is not None:
            if not isinstance(passed, str):
                _fetch_template_secrets(*passed)
        elif self._takes_variable(name):
            self.host.fetch_secrets((name,))
        elif self.is_called and name in self.defaults:
            self.host.fetch_value_secrets(self.defaults[name], self.host)
        elif param.default is not None and name not in visited:
            self.fetch_secrets(param.default.names | param.default.optional, visited | {name})

    def secrets_behind(
        self, names: Iterable[str], visited: set[str] | None = None
    ) -> Iterator[str]:
        """Yield the names of the secrets that these names lead to."""
        visited = set() if visited is None else visited
        for name in names:
            param = self.task.params.get(name)
            if name in self.extra:
                yield from self.secrets_behind(self.extra_sources - self.extra.keys(), visited)
            elif param is None:
                yield from self.host.secrets_behind((name,), visited)
            elif self.file_scope is not None:
                yield from self.file_scope.secrets_behind((name,), visited)
            else:
                yield from self._secrets_behind_param(param, visited)

    def _secrets_behind_param(self, param: TaskParam, visited: set[str]) -> Iterator[str]:
        name, passed = param.name, (self.passed_args or {}).get(param.name)
        if param.secret:
            yield name
        if name in self.written_args:
            yield from _secrets_behind_template(self.written_args[name], self.caller)
        elif passed is not None:
            yield from () if isinstance(passed, str) else _secrets_behind_template(*passed)
        elif not self.is_called and self.host.written_value(name) is not None:
            yield from self.host.secrets_behind((name,), visited)
        elif self.is_called and name in self.defaults:
            template = self.host.templates.value(self.defaults[name])
            yield from secret_names_in(self.defaults[name])
            yield from self.host.secrets_behind(template.names | template.optional, visited)
        elif param.default is not None and name not in visited:
            visited.add(name)
            yield from self.secrets_behind(param.default.names | param.default.optional, visited)

    def names(self) -> Iterable[str]:
        """Return every known name."""
        return {*self.extra, *self.task.params, "task", *self.host.names()}

    def hint(self, name: str) -> str:
        """Return a hint for a name that does not exist, or ''."""
        return self.host.hint(name) or suggest_nearest(name, self.names())

    def is_known(self, name: str) -> bool:
        """Return True if the name can be resolved, now or after its step has run."""
        own = name in self.extra or name in self.task.params or name == "task"
        return own or self.host.is_known(name)

    def check_names(self, names: Iterable[str], mark: SourcePosition) -> None:
        """Raise DefinitionError if one of the names can never be resolved."""
        for name in names:
            if not self.is_known(name):
                raise DefinitionError(Diagnostic(f"'{name}' is undefined", mark, self.hint(name)))


def _template_origin(template: ArgumentTemplate, scope: Scope, hops: int) -> MarkedValue:
    return follow_origin(MarkedValue(template.source, template.mark), scope, hops)


def _fetch_template_secrets(template: ArgumentTemplate, scope: Scope) -> None:
    if isinstance(scope, TaskScope | HostScope):
        scope.fetch_secrets(template.names | template.optional)


def _secrets_behind_template(template: ArgumentTemplate, scope: Scope) -> Iterator[str]:
    if isinstance(scope, TaskScope | HostScope):
        yield from scope.secrets_behind(template.names | template.optional)


def any_from_host(template: ArgumentTemplate, scope: Scope) -> bool:
    """Return True if a name in the template can lead to text from a host."""
    return any(map(scope.from_host, template.sources))


_ParamPath = tuple[str, str, SourcePosition | None]
"""A path, its param, and the position where it is written."""


def check_param_rule(rule: ParamRule, values: Mapping[str, object], task_scope: TaskScope) -> None:
    """Check a rule. Raises DefinitionError if the values violate it."""
    diagnostic = _RULE_CHECKS[rule.kind](rule, values, task_scope)
    if diagnostic is not None:
        raise DefinitionError(diagnostic)


def _one_of_error(
    rule: ParamRule, values: Mapping[str, object], task_scope: TaskScope
) -> Diagnostic | None:
    present = [name for name in rule.names if values[name] not in (None, "", False, [], {})]
    if len(present) == 1:
        return None
    listed = f"{', '.join(rule.names[:-1])} or {rule.names[-1]}"
    if present:
        first, last = (task_scope.origin(name) for name in (present[0], present[-1]))
        message = f"{_rule_owner(task_scope)} has {' and '.join(present)}"
        message += ", but only one of them is allowed"
        hint = (
            f"'{present[0]}' is set at {first.mark}; remove one of them"
            if first
            else "remove one of them"
        )
        return Diagnostic(message, last.mark if last else rule.mark, hint)
    message = f"{_rule_owner(task_scope)} needs {listed}, but none of them is set"
    meant = _similar_variable(rule, task_scope)
    if meant is not None:
        return Diagnostic(message, meant[0], meant[1])
    app = None if task_scope.is_called else task_scope.host.app
    mark = app.mark if app else next((w.mark for w in task_scope.written_args.values()), rule.mark)
    hint = "" if task_scope.is_called else task_scope.host.hint(rule.names[0])
    if "--app" not in hint:
        hint = "set one of them" + (", among its `vars`" if app else "")
    return Diagnostic(message, mark, hint)


def _similar_variable(rule: ParamRule, task_scope: TaskScope) -> tuple[SourcePosition, str] | None:
    """Return position and hint of an app variable whose name is similar to a param's, or None."""
    app = None if task_scope.is_called else task_scope.host.app
    for layer in app.layers if app else ():
        for name, value in layer.vars.items():
            hint = "" if name in task_scope.task.params else suggest_nearest(name, rule.names)
            if hint:
                return getattr(name, "mark", value.mark), f"'{name}' is not known: {hint}"
    return None


def _disjoint_error(
    rule: ParamRule, values: Mapping[str, object], task_scope: TaskScope
) -> Diagnostic | None:
    paths = sorted(_param_paths(values, task_scope), key=lambda path: path[0].split("/"))
    for (first, param, mark), (other_path, other_param, other_position) in pairwise(paths):
        if first != other_path and not other_path.startswith(f"{first.rstrip('/')}/"):
            continue
        relation = "is given twice" if first == other_path else f"is inside '{first}'"
        message = f"{_rule_owner(task_scope)}: '{other_path}' of {other_param} {relation}"
        first_path = f"'{first}' of {param}" + (f" is at {mark}" if mark else "")
        return Diagnostic(message, other_position or rule.mark, f"{first_path}; remove one of them")
    return None


def _param_paths(values: Mapping[str, object], task_scope: TaskScope) -> Iterator[_ParamPath]:
    for name, value in values.items():
        written: MarkedValue | None = task_scope.origin(name)
        for index, path in enumerate(value if isinstance(value, list) else [value]):
            if path is not None:
                yield str(path), name, origin_of_item(written, index).mark if written else None


def _rule_owner(task_scope: TaskScope) -> str:
    app = None if task_scope.is_called else task_scope.host.app
    return f"app '{app.name}'" if app else f"task '{task_scope.task.name}'"


_RULE_CHECKS = {"one_of": _one_of_error, "disjoint": _disjoint_error}
