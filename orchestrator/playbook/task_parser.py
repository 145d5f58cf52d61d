"""Parsing of task files to typed tasks; every error in a file is reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from orchestrator.errors import DiagnosticCollector, SourcePosition, suggest_nearest
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.playbook import keywords, param_types
from orchestrator.playbook.model import (
    ELEMENT_TYPES,
    FIELD_TYPES,
    PARAM_TYPES,
    HostCount,
    ParamRule,
    PlaybookItem,
    Step,
    Task,
    TaskCall,
    TaskParam,
)
from orchestrator.playbook.module_parser import ModuleParser
from orchestrator.playbook.step_parser import FieldMap, StepParser
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import CompileCache

_PATH_TYPES = ("path", "subpath", "list")
_HOST_COUNT = lazy_regex(r"([0-9]{1,6})(%)?")


_LIST_HINT = (
    "write the list of steps under `steps:`. An Ansible play becomes a file of its own, with "
    "`roles:` in place of `hosts:` and `steps:` in place of `tasks:`"
)


class TaskParser:
    """A parser of task files; errors go to ``problems`` and are not raised."""

    def __init__(self, problems: DiagnosticCollector, cache: CompileCache | None = None) -> None:
        self.problems = problems
        self.read = SchemaReader(problems)
        self.steps = StepParser(problems, cache)
        self.compile = self.steps.compile

    def parse_task(self, name: str, value: MarkedValue) -> Task:
        """Return the task of a whole file."""
        what = f"task '{name}'"
        if value.data is None:
            self.problems.add(f"{what} is empty", value.mark, "give it `steps:` or `tasks:`")
        if isinstance(value.data, list):
            self.problems.add(f"{what} must be a mapping, found a list", value.mark, _LIST_HINT)
            return self.parse_body(name, value.mark, {}, what)
        fields = self.steps.allowed_fields(value, what, keywords.TASK_KEYS)
        return self.parse_body(name, value.mark, fields, what)

    def parse_body(self, name: str, mark: SourcePosition, fields: FieldMap, what: str) -> Task:
        """Return a task made of the allowed keys in ``fields``."""
        kinds = [key for key in ("steps", "tasks", "probe") if key in fields]
        if fields and len(kinds) != 1:
            found = f"has {' and '.join(f'`{kind}`' for kind in kinds)}" if kinds else "has none"
            self.problems.add(
                f"{what} needs exactly one of `steps`, `tasks` and `probe`, and {found}", mark
            )
        if "tasks" in fields and "rollback" in fields:
            message = "`rollback` is not allowed on a playbook"
            self.problems.add(message, fields["rollback"].mark, "put it on a task")
        if "probe" not in fields:
            for key in sorted(keywords.MODULE_KEYS & fields.keys()):
                refused_mark = fields[key].mark
                self.problems.add(f"`{key}` requires `probe`", refused_mark, "remove it")
        roles = self.parse_names(fields, "roles", "roles")
        if roles == () and "roles" in fields:
            self.problems.add(
                f"`roles` of {what} is empty, so no host would run it",
                fields["roles"].mark,
                "name a role, or leave `roles` out to mean all hosts",
            )
        tasks = fields.get("tasks")
        params = self.parse_params(fields.get("params"), what)
        handlers, topics = self.parse_handlers(fields.get("handlers"), what)
        task = Task(
            name=name,
            mark=mark,
            desc=self.read.text(fields.get("desc"), "desc") or "",
            roles=roles or None,
            params=params,
            vars=cast(FieldMap, self.read.variables(fields.get("vars"), f"vars of {what}")),
            options=self.compile.common_options(fields),
            steps=self.parse_own_steps(fields, mark, what),
            tasks=None if tasks is None else self.parse_items(tasks, what),
            handlers=handlers,
            topics=topics,
            rollback=self.steps.parse_steps(fields.get("rollback"), f"rollback of {what}"),
            before=self.parse_names(fields, "before", "before"),
            after=self.parse_names(fields, "after", "after"),
            failed=self.parse_names(fields, "failed", "failed"),
            apps=self.parse_names(fields, "apps", "apps"),
            example=self.read.text(fields.get("example"), "example") or "",
            rules=self.parse_rules(fields, params),
            throttle=self.compile.throttle_of(fields),
            vars_files=self.parse_vars_files(fields.get("vars_files")),
        )
        self.check_step_names(task)
        self.check_waiting_steps(task)
        if task.module is not None:
            from orchestrator.playbook.code_arguments import check_evals  # loads Jinja

            check_evals(task.module, task.params, self.problems)
        return task

    def check_waiting_steps(self, task: Task) -> None:
        """Report steps at which hosts wait for each other where they cannot."""
        direct = {id(step) for step in task.steps or ()}
        for step in task.own_steps():
            if step.waits_for_hosts and id(step) not in direct:
                message = f"`{step.waits_for_hosts}` is not allowed here: hosts cannot wait for "
                message += "each other inside a block, a handler or a rollback"
                self.problems.add(message, step.mark, "put it directly under `steps` of the task")

    def check_step_names(self, task: Task) -> None:
        """Report names of loops and variables of steps that are params of the file."""
        for step in task.own_steps():
            own = (("vars of a step", step.vars), ("loop_control", step.loop and step.loop.names))
            for what, names in own:
                for name in names or ():
                    if name in task.params and isinstance(name, MarkedKey):
                        message = f"'{name}' in {what} is a param of the task"
                        self.problems.add(message, name.mark, "rename one of them")

    def parse_own_steps(
        self, fields: FieldMap, mark: SourcePosition, what: str
    ) -> tuple[Step, ...] | None:
        """Return the steps under ``steps``, a module as the only step, or None without either."""
        if "probe" in fields:
            returns = self.parse_returns(fields, what)
            module = ModuleParser(self.compile).parse_module(fields, mark, what, returns)
            return (Step(module, mark),) if module else ()
        steps = fields.get("steps")
        return None if steps is None else self.steps.parse_steps(steps, f"steps of {what}")

    def parse_returns(self, fields: FieldMap, what: str) -> dict[str, TaskParam]:
        """Return the types of the values that a module prints."""
        written = fields.get("returns")
        if written is None:
            return {}
        returns = self.parse_params(written, what)
        for name, param in returns.items():
            if hasattr(RegisteredResult, name):
                message = f"returns: '{name}' is a field that every result has"
                self.problems.add(message, param.mark, "give it another name")
            if param.type not in FIELD_TYPES:
                hint = f"it is one of {', '.join(FIELD_TYPES)}"
                message = f"a value that a module returns cannot be a '{param.type}'"
                self.problems.add(message, param.mark, hint)
        return returns

    def parse_names(self, fields: FieldMap, key: str, what: str) -> tuple[MarkedKey, ...]:
        """Return a list of names; a single name is a list of one."""
        return self.read.string_list(fields.get(key), what) or ()

    def parse_vars_files(self, value: MarkedValue | None) -> tuple[tuple[MarkedKey, ...], ...]:
        """Return the paths of ``vars_files``, of each entry those of which one is taken."""
        what = "vars_files"
        entries = (
            self.read.string_list(entry, f"an item of {what}")
            for entry in self.read.items(value, what) or ()
        )
        return tuple(entry for entry in entries if entry)

    def parse_handlers(
        self, value: MarkedValue | None, what: str
    ) -> tuple[dict[str, tuple[Step, ...]], dict[str, tuple[MarkedKey, ...]]]:
        """Return each handler's steps, in the order defined, and the names that it listens to."""
        handlers: dict[str, tuple[Step, ...]] = {}
        topics: dict[str, tuple[MarkedKey, ...]] = {}
        for name, handler in self.read.mapping(value, f"handlers of {what}").items():
            shown, steps = f"handler '{name}'", handler
            if isinstance(handler.data, dict):
                fields = self.steps.allowed_fields(handler, shown, keywords.HANDLER)
                topics[str(name)] = self.parse_names(fields, "listen", f"listen of {shown}")
                steps = fields.get("steps", MarkedValue(None, handler.mark))
            handlers[str(name)] = self.steps.parse_steps(steps, shown)
            for step in (inner for each in handlers[str(name)] for inner in each.nested_steps()):
                if step.kind == "flush_handlers":
                    message = "`flush_handlers` is not allowed in a handler"
                    self.problems.add(message, step.mark, "put it under `steps`")
        return handlers, topics

    def parse_params(self, value: MarkedValue | None, what: str) -> dict[str, TaskParam]:
        """Return the parameters; their default values and choices are checked."""
        named = self.read.variables(value, f"params of {what}")
        return {
            str(name): self.parse_param(str(name), name.mark, spec) for name, spec in named.items()
        }

    def parse_param(self, name: str, mark: SourcePosition, value: MarkedValue) -> TaskParam:
        """Return one parameter; a spec without keys is an optional string."""
        what = f"param '{name}'"
        fields = self.steps.allowed_fields(value, what, keywords.PARAM_KEYS)
        default, choices = fields.get("default"), fields.get("choices")
        param = TaskParam(
            name=name,
            mark=mark,
            type=self.read.choice(fields.get("type"), f"type of {what}", PARAM_TYPES) or "str",
            default=None,
            required=self.read.boolean(fields.get("required"), f"required of {what}") or False,
            help=self.read.text(fields.get("help"), f"help of {what}") or "",
            secret=self.read.boolean(fields.get("secret"), f"secret of {what}") or False,
            written_default=default,
            elements=self.read.choice(fields.get("elements"), f"elements of {what}", ELEMENT_TYPES)
            or "",
            absolute=self.read.boolean(fields.get("absolute"), f"absolute of {what}") or False,
        )
        for key, kind in (("elements", "list"), ("absolute", "path")):
            if getattr(param, key) and param.type != kind:
                hint = f"write `type: {kind}`"
                self.problems.add(f"`{key}` of {what} is for a {kind}", fields[key].mark, hint)
                param = replace(param, elements="", absolute=False)
        if param.required and default is not None:
            self.problems.add(f"{what} is required and has a default", default.mark, "drop one")
        if default is not None:
            param = replace(
                param, default=self.compile.compile_argument(default, commands=param.is_command)
            )
        listed = self.read.items(choices, f"choices of {what}") or []
        param = replace(param, choices=tuple(self.typed_value(param, choice) for choice in listed))
        if default is not None:
            self.typed_value(param, default)
        return param

    def typed_value(self, param: TaskParam, value: MarkedValue, hint: str = "") -> Any:
        """Return a value converted to the param's type, or None for a template or a command.

        ``hint`` says what to write if it cannot be converted. Errors in commands are reported when
        they are compiled.
        """
        if has_template(value) or param.is_command:
            return None
        try:
            return param_types.convert_param(param, value.to_plain())
        except param_types.ListItemError as error:
            item = value.data[error.index] if isinstance(value.data, list) else value
            self.problems.add(f"{param.name} {error}", item.mark)
        except ValueError as error:
            self.problems.add(f"{param.name} {error}", value.mark, hint)
        return None

    def parse_rules(
        self, fields: FieldMap, params: Mapping[str, TaskParam]
    ) -> tuple[ParamRule, ...]:
        """Return the constraints on params: for each kind one list of params, or several lists."""
        rules = []
        for kind in keywords.RULES:
            value = fields.get(kind)
            groups = value.data if value and isinstance(value.data, list) else [value]
            several = all(group and isinstance(group.data, list) for group in groups)
            for group in groups if several else (value,):
                if group is not None:
                    rules.append(self.parse_rule(group, kind, params))
        return tuple(rules)

    def parse_rule(
        self, value: MarkedValue, kind: str, params: Mapping[str, TaskParam]
    ) -> ParamRule:
        """Return one constraint on existing params."""
        names = self.read.string_list(value, kind) or ()
        for name in names:
            if name not in params:
                hint = suggest_nearest(name, params) or "declare it under `params:`"
                self.problems.add(f"{kind}: there is no param '{name}'", name.mark, hint)
            elif kind == "disjoint" and params[name].type not in _PATH_TYPES:
                hint = f"give it one of the types {', '.join(_PATH_TYPES)}"
                self.problems.add(f"{kind}: param '{name}' is not a path", name.mark, hint)
        if kind == "one_of" and len(names) < 2:
            self.read.report_mismatch(value, kind, "a list of two params or more")
        return ParamRule(kind, tuple(name for name in names if name in params), value.mark)

    def parse_items(self, value: MarkedValue, what: str) -> tuple[PlaybookItem, ...]:
        """Return the items of a playbook, in order."""
        listed = self.steps.parse_list(value, f"tasks of {what}")
        read = (self.parse_item(item, f"{what}[{n}]") for n, item in enumerate(listed, 1))
        return tuple(item for item in read if item is not None)

    def parse_item(self, value: MarkedValue, default_name: str) -> PlaybookItem | None:
        """Return one item of ``tasks``, or None after reporting an error.

        An item is a name, a name with arguments, an inline task, a pause or a word like ``commit``.
        """
        if isinstance(value.data, str):
            is_word = value.data in keywords.BARE_ITEMS
            action = None if is_word else TaskCall(value.data, value.mark)
            return PlaybookItem(action, value.mark, value.data if action is None else "")
        if isinstance(value.data, dict) and value.data.keys() & {"steps", "tasks"}:
            fields = self.steps.allowed_fields(
                value,
                "an inline task",
                keywords.INLINE_TASK_KEYS,
            )
            name = self.read.text(fields.get("name"), "name") or default_name
            inner = self.parse_body(name, value.mark, fields, f"'{name}'")
            return self.add_host_flow(PlaybookItem(inner, value.mark, name), fields)
        if isinstance(value.data, dict) and _is_prompt(value.data):
            fields = self.steps.allowed_fields(value, "a pause", ("pause",))
            prompt = self.steps.parse_prompt(fields["pause"])
            return PlaybookItem(None, value.mark, "pause", prompt=prompt)
        name = self.steps.called_name(value, "an item of tasks", keywords.ITEM_KEYS) or ""
        if not name:
            return None
        allowed = keywords.ITEM_KEYS | {name}
        fields = self.steps.allowed_fields(value, f"item `{name}`", allowed)
        shown = self.read.text(fields.get("name"), "name") or ""
        call = self.steps.parse_call(name, fields)
        item = PlaybookItem(call, value.mark, shown, self.compile.common_options(fields))
        return self.add_host_flow(item, fields)

    def add_host_flow(self, item: PlaybookItem, fields: FieldMap) -> PlaybookItem:
        """Return the item with the options that say which hosts run it, and when."""
        once = self.read.boolean(fields.get("once"), "once") or False
        on = self.read.choice(fields.get("on"), "on", keywords.ITEM["on"].choices)
        if on and not once:
            self.problems.add("`on` requires `once: true`", fields["on"].mark)
        if once and "batch" in fields:
            mark = fields["batch"].mark
            self.problems.add("`once` and `batch` exclude each other", mark, "drop one")
        for key in ("pause", "confirm", "order", "on_batch_failure"):
            if key in fields and "batch" not in fields:
                self.problems.add(f"`{key}` requires `batch`", fields[key].mark)
        sizes = self.read.items(fields.get("batch"), "batch") or []
        if "batch" in fields and not sizes:
            self.problems.add("`batch` is empty", fields["batch"].mark, "like [1, 25%, 100%]")
        shares = [self.parse_host_count(size, "batch", least=1) for size in sizes]
        most, errors = fields.get("max_failures"), fields.get("any_errors")
        at_error = self.read.choice(errors, "any_errors", keywords.ITEM["any_errors"].choices)
        if errors is not None and at_error == "stop" and most is not None:
            message = "`any_errors: stop` and `max_failures` exclude each other"
            self.problems.add(message, errors.mark, "drop one")
        return replace(
            item,
            once=once,
            any_host=on == "any",
            batch=tuple(shares),
            max_failures=self.parse_host_count(most, "max_failures") if most is not None else None,
            pause=self.read.duration(fields.get("pause"), "pause") or 0.0,
            confirm=self.read.boolean(fields.get("confirm"), "confirm") or False,
            order=self.read.choice(fields.get("order"), "order", keywords.ITEM["order"].choices)
            or "inventory",
            on_batch_failure=self.read.choice(
                fields.get("on_batch_failure"),
                "on_batch_failure",
                keywords.ITEM["on_batch_failure"].choices,
            )
            or "stop",
            stops_at_error=at_error == "stop",
        )

    def parse_host_count(self, value: MarkedValue, what: str, least: int = 0) -> HostCount:
        """Return a number of hosts, or a percentage of them."""
        plain = isinstance(value.data, (str, int)) and not isinstance(value.data, bool)
        match = _HOST_COUNT.fullmatch(str(value.data)) if plain else None
        if match is None or int(match[1]) < least or (match[2] and int(match[1]) > 100):
            self.read.report_mismatch(
                value, what, f"a number of hosts, at least {least}, or a percentage like 25%"
            )
            return HostCount(1)
        return HostCount(int(match[1]), bool(match[2]))


def _is_prompt(fields: Mapping[MarkedKey, MarkedValue]) -> bool:
    """Return True if an item is a pause; beside a task, `pause` is the time between batches."""
    return any(key == "pause" and isinstance(each.data, dict) for key, each in fields.items())


def has_template(value: MarkedValue) -> bool:
    """Return True if a value contains a template at any depth."""
    match value.data:
        case str(text):
            return not value.literal and ("{{" in text or "{%" in text)
        case list(items):
            return any(has_template(item) for item in items)
        case dict(fields):
            return any(has_template(item) for item in fields.values())
        case _:
            return False
