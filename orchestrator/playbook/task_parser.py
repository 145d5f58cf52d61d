"""From a task file's values to a typed Task, telling everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec.structs import replace

from orchestrator.errors import Mark, Problems, nearest
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Key, Value
from orchestrator.playbook import keywords, param_types
from orchestrator.playbook.model import (
    ELEMENT_TYPES,
    PARAM_TYPES,
    Call,
    Item,
    Param,
    Rule,
    Share,
    Step,
    Task,
)
from orchestrator.playbook.module_parser import ModuleReader
from orchestrator.playbook.step_parser import Fields, StepReader
from orchestrator.yamlio.schema import Reader

_PATHS = ("path", "subpath", "list")
_SHARE = regex(r"([0-9]{1,6})(%)?")


_LIST = (
    "write the list of steps under `steps:`. A play of Ansible's is a file of its own, with "
    "`roles:` in place of `hosts:` and `steps:` in place of `tasks:`"
)


class TaskReader:
    """Reads task files. Nothing is raised: what is wrong goes to ``problems``."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.read = Reader(problems)
        self.steps = StepReader(problems)
        self.compile = self.steps.compile

    def task(self, name: str, value: Value) -> Task:
        """The whole file."""
        what = f"task '{name}'"
        if value.data is None:
            self.problems.add(f"{what} is empty", value.mark, "give it `steps:` or `tasks:`")
        if isinstance(value.data, list):
            self.problems.add(f"{what} must be a mapping, found a list", value.mark, _LIST)
            return self.body(name, value.mark, {}, what)
        fields = self.steps.known(value, what, keywords.TASK, keywords.NOT_YET["task"])
        return self.body(name, value.mark, fields, what)

    def body(self, name: str, mark: Mark, fields: Fields, what: str) -> Task:
        """A task out of its known keys."""
        kinds = [key for key in ("steps", "tasks", "probe") if key in fields]
        if fields and len(kinds) != 1:
            found = f"has {' and '.join(f'`{kind}`' for kind in kinds)}" if kinds else "has none"
            self.problems.add(
                f"{what} needs exactly one of `steps`, `tasks` and `probe`, and {found}", mark
            )
        for key in ("handlers", "rollback"):
            if "tasks" in fields and key in fields:
                place = fields[key].mark
                self.problems.add(f"`{key}` cannot stand on a playbook", place, "put it on a task")
        if "probe" not in fields:
            for key in sorted(keywords.MODULE & fields.keys()):
                place = fields[key].mark
                self.problems.add(f"`{key}` requires `probe`", place, "remove it")
        roles = self.names(fields, "roles", "roles")
        if roles == () and "roles" in fields:
            self.problems.add(
                f"`roles` of {what} names no role, so it could run nowhere",
                fields["roles"].mark,
                "name a role, or leave `roles` out to mean all hosts",
            )
        tasks = fields.get("tasks")
        params = self.params(fields.get("params"), what)
        task = Task(
            name=name,
            mark=mark,
            desc=self.read.text(fields.get("desc"), "desc") or "",
            roles=roles or None,
            params=params,
            vars=cast(Fields, self.read.variables(fields.get("vars"), f"vars of {what}")),
            mods=self.compile.modifiers(fields),
            steps=self.own_steps(fields, mark, what),
            tasks=None if tasks is None else self.items(tasks, what),
            handlers=self.handlers(fields.get("handlers"), what),
            rollback=self.steps.steps(fields.get("rollback"), f"rollback of {what}"),
            before=self.names(fields, "before", "before"),
            after=self.names(fields, "after", "after"),
            failed=self.names(fields, "failed", "failed"),
            apps=self.names(fields, "apps", "apps"),
            example=self.read.text(fields.get("example"), "example") or "",
            rules=self.rules(fields, params),
        )
        if task.module is not None:
            from orchestrator.playbook.code_arguments import check_evals  # loads Jinja

            check_evals(task.module, task.params, self.problems)
        return task

    def own_steps(self, fields: Fields, mark: Mark, what: str) -> tuple[Step, ...] | None:
        """What stands under ``steps``, or a module as the one step that it is."""
        if "probe" in fields:
            module = ModuleReader(self.compile).module(fields, mark, what)
            return (Step(module, mark),) if module else ()
        steps = fields.get("steps")
        return None if steps is None else self.steps.steps(steps, f"steps of {what}")

    def names(self, fields: Fields, key: str, what: str) -> tuple[Key, ...]:
        """A list of names, or one name."""
        return self.read.string_list(fields.get(key), what) or ()

    def handlers(self, value: Value | None, what: str) -> dict[str, tuple[Step, ...]]:
        """Each handler's steps, in the order defined."""
        named = self.read.mapping(value, f"handlers of {what}")
        return {str(k): self.steps.steps(v, f"handler '{k}'") for k, v in named.items()}

    def params(self, value: Value | None, what: str) -> dict[str, Param]:
        """The parameters, each checked for sense."""
        named = self.read.variables(value, f"params of {what}")
        return {str(name): self.param(str(name), name.mark, spec) for name, spec in named.items()}

    def param(self, name: str, mark: Mark, value: Value) -> Param:
        """One parameter; a spec without keys is optional text."""
        what = f"param '{name}'"
        fields = self.steps.known(value, what, keywords.PARAM, keywords.NOT_YET["param"])
        default, choices = fields.get("default"), fields.get("choices")
        param = Param(
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
            param = replace(param, default=self.compile.argument(default, commands=param.runs))
        listed = self.read.items(choices, f"choices of {what}") or []
        param = replace(param, choices=tuple(self.typed(param, choice) for choice in listed))
        if default is not None:
            self.typed(param, default)
        return param

    def typed(self, param: Param, value: Value) -> Any:
        """A written value in the param's type, as far as it is no template. Of a command, what
        is wrong is told when it is compiled."""
        if templated(value) or param.runs:
            return None
        try:
            return param_types.convert(param, value.plain())
        except param_types.ItemError as error:
            item = value.data[error.index] if isinstance(value.data, list) else value
            self.problems.add(f"{param.name} {error}", item.mark)
        except ValueError as error:
            self.problems.add(f"{param.name} {error}", value.mark)
        return None

    def rules(self, fields: Fields, params: Mapping[str, Param]) -> tuple[Rule, ...]:
        """What the params must be together: of each kind one list of them, or several."""
        rules = []
        for kind in keywords.RULES:
            value = fields.get(kind)
            groups = value.data if value and isinstance(value.data, list) else [value]
            several = all(group and isinstance(group.data, list) for group in groups)
            for group in groups if several else (value,):
                if group is not None:
                    rules.append(self.rule(group, kind, params))
        return tuple(rules)

    def rule(self, value: Value, kind: str, params: Mapping[str, Param]) -> Rule:
        """One rule over params that there are."""
        names = self.read.string_list(value, kind) or ()
        for name in names:
            if name not in params:
                hint = nearest(name, params) or "declare it under `params:`"
                self.problems.add(f"{kind}: there is no param '{name}'", name.mark, hint)
            elif kind == "disjoint" and params[name].type not in _PATHS:
                hint = f"give it one of the types {', '.join(_PATHS)}"
                self.problems.add(f"{kind}: param '{name}' is no path", name.mark, hint)
        if kind == "one_of" and len(names) < 2:
            self.read.wrong(value, kind, "a list of two params or more")
        return Rule(kind, tuple(name for name in names if name in params), value.mark)

    def items(self, value: Value, what: str) -> tuple[Item, ...]:
        """The items of a playbook, in order."""
        listed = self.steps.listed(value, f"tasks of {what}")
        read = (self.item(item, f"{what}[{n}]") for n, item in enumerate(listed, 1))
        return tuple(item for item in read if item is not None)

    def item(self, value: Value, place: str) -> Item | None:
        """One item of ``tasks``: a name, a name with arguments, a task in place, ``commit``."""
        if isinstance(value.data, str):
            does = None if value.data == "commit" else Call(value.data, value.mark)
            return Item(does, value.mark, value.data if does is None else "")
        if isinstance(value.data, dict) and value.data.keys() & {"steps", "tasks"}:
            fields = self.steps.known(
                value, "a task in place", keywords.IN_PLACE, keywords.NOT_YET["item"]
            )
            name = self.read.text(fields.get("name"), "name") or place
            inner = self.body(name, value.mark, fields, f"'{name}'")
            return self.flow(Item(inner, value.mark, name), fields)
        name = (
            self.steps.called(value, "an item of tasks", keywords.ITEM | keywords.NOT_YET["item"])
            or ""
        )
        if not name:
            return None
        allowed = keywords.ITEM | {name}
        fields = self.steps.known(value, f"item `{name}`", allowed, keywords.NOT_YET["item"])
        shown = self.read.text(fields.get("name"), "name") or ""
        call = self.steps.call(name, fields)
        item = Item(call, value.mark, shown, self.compile.modifiers(fields))
        return self.flow(item, fields)

    def flow(self, item: Item, fields: Fields) -> Item:
        """The item with what says how it goes over the hosts."""
        once = self.read.boolean(fields.get("once"), "once") or False
        on = self.read.choice(fields.get("on"), "on", ("primary", "any"))
        if on and not once:
            self.problems.add("`on` requires `once: true`", fields["on"].mark)
        if once and "batch" in fields:
            place = fields["batch"].mark
            self.problems.add("`once` and `batch` exclude each other", place, "drop one")
        sizes = self.read.items(fields.get("batch"), "batch") or []
        if "batch" in fields and not sizes:
            self.problems.add("`batch` names no size", fields["batch"].mark, "like [1, 25%, 100%]")
        shares = [self.share(size, "batch", least=1) for size in sizes]
        most = fields.get("max_failures")
        return replace(
            item,
            once=once,
            anyone=on == "any",
            batch=tuple(shares),
            max_failures=self.share(most, "max_failures") if most is not None else None,
        )

    def share(self, value: Value, what: str, least: int = 0) -> Share:
        """A number of hosts, or a percentage of them."""
        plain = isinstance(value.data, (str, int)) and not isinstance(value.data, bool)
        match = _SHARE.fullmatch(str(value.data)) if plain else None
        if match is None or int(match[1]) < least or (match[2] and int(match[1]) > 100):
            self.read.wrong(value, what, f"a number of hosts from {least} on, or like 25%")
            return Share(1)
        return Share(int(match[1]), bool(match[2]))


def templated(value: Value) -> bool:
    """Whether there is a template anywhere in a written value."""
    match value.data:
        case str(text):
            return not value.literal and ("{{" in text or "{%" in text)
        case list(items):
            return any(templated(item) for item in items)
        case dict(fields):
            return any(templated(item) for item in fields.values())
        case _:
            return False
