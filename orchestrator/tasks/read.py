"""From a task file's values to a typed Task, telling everything that is wrong with it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeAlias, cast

from orchestrator.errors import Mark, Problems
from orchestrator.model.value import Key, Value
from orchestrator.source.read import Reader, found
from orchestrator.tasks import keys, types
from orchestrator.tasks.compile import Compiler
from orchestrator.tasks.model import PARAM_TYPES, Call, Item, Param, Run, Step, Task

Fields: TypeAlias = dict[str, Value]

_SHELL = re.compile(r"[A-Za-z0-9_./+-]+")


class TaskReader:
    """Reads task files. Nothing is raised: what is wrong goes to ``problems``."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.read = Reader(problems)
        self.compile = Compiler(problems)

    def task(self, name: str, value: Value) -> Task:
        """The whole file."""
        what = f"task '{name}'"
        if value.data is None:
            self.problems.add(f"{what} is empty", value.mark, "give it `steps:` or `tasks:`")
        fields = self.known(value, what, keys.TASK, keys.NOT_YET["task"])
        return self.body(name, value.mark, fields, what)

    def known(
        self, value: Value, what: str, allowed: frozenset[str], later: frozenset[str]
    ) -> Fields:
        """A mapping's allowed keys; those that only a later version obeys are refused."""
        fields = self.read.mapping(value, what, allowed | later)
        for key in (k for k in fields if k in later):
            self.problems.add(f"`{key}` in {what} is not supported yet", key.mark)
        return cast(Fields, {k: v for k, v in fields.items() if k in allowed})

    def body(self, name: str, mark: Mark, fields: Fields, what: str) -> Task:
        """A task out of its known keys."""
        if fields and ("steps" in fields) == ("tasks" in fields):
            self.problems.add(f"{what} needs either `steps` or `tasks`", mark, "give it one")
        roles = self.read.string_list(fields.get("roles"), "roles")
        if roles == ():
            self.problems.add(
                f"`roles` of {what} names no role, so it could run nowhere",
                fields["roles"].mark,
                "name a role, or leave `roles` out to mean all hosts",
            )
        steps, tasks = fields.get("steps"), fields.get("tasks")
        return Task(
            name=name,
            mark=mark,
            desc=self.read.text(fields.get("desc"), "desc") or "",
            roles=roles or None,
            params=self.params(fields.get("params"), what),
            vars=cast(Fields, self.read.variables(fields.get("vars"), f"vars of {what}")),
            mods=self.compile.modifiers(fields),
            steps=None if steps is None else self.steps(steps, what),
            tasks=None if tasks is None else self.items(tasks, what),
        )

    def params(self, value: Value | None, what: str) -> dict[str, Param]:
        """The parameters, each checked for sense."""
        named = self.read.variables(value, f"params of {what}")
        return {str(name): self.param(str(name), name.mark, spec) for name, spec in named.items()}

    def param(self, name: str, mark: Mark, value: Value) -> Param:
        """One parameter; a spec without keys is optional text."""
        what = f"param '{name}'"
        fields = self.known(value, what, keys.PARAM, keys.NOT_YET["param"])
        default, choices = fields.get("default"), fields.get("choices")
        param = Param(
            name=name,
            mark=mark,
            type=self.read.choice(fields.get("type"), f"type of {what}", PARAM_TYPES) or "str",
            default=None if default is None else self.compile.value(default),
            required=self.read.boolean(fields.get("required"), f"required of {what}") or False,
            help=self.read.text(fields.get("help"), f"help of {what}") or "",
            written_default=default,
        )
        if param.required and default is not None:
            self.problems.add(f"{what} is required and has a default", default.mark, "drop one")
        listed = self.read.items(choices, f"choices of {what}") or []
        param = replace(param, choices=tuple(self.typed(param, choice) for choice in listed))
        if default is not None:
            self.typed(param, default)
        return param

    def typed(self, param: Param, value: Value) -> Any:
        """A written value in the param's type, as far as it is no template."""
        if templated(value):
            return None
        try:
            return types.convert(param, value.plain())
        except ValueError as error:
            self.problems.add(f"{param.name} {error}", value.mark)
            return None

    def steps(self, value: Value, what: str) -> tuple[Step, ...]:
        """The steps, in order; those that make no sense are left out."""
        listed = self.listed(value, f"steps of {what}")
        return tuple(step for step in map(self.step, listed) if step is not None)

    def items(self, value: Value, what: str) -> tuple[Item, ...]:
        """The items of a playbook, in order."""
        listed = self.listed(value, f"tasks of {what}")
        read = (self.item(item, f"{what}[{n}]") for n, item in enumerate(listed, 1))
        return tuple(item for item in read if item is not None)

    def listed(self, value: Value, what: str) -> list[Value]:
        """A list with something in it."""
        if not isinstance(value.data, list) or not value.data:
            self.read.wrong(value, what, "a list with at least one entry")
            return []
        return value.data

    def step(self, value: Value) -> Step | None:
        """One step: ``run: text``, a task's name, or a name with arguments."""
        if isinstance(value.data, str):
            return Step(Call(value.data, value.mark), value.mark)
        modifiers = keys.STEP | keys.RUN | keys.NOT_YET["step"]
        call = self.call_key(value, "a step", modifiers)
        if call is None:
            return None
        allowed = keys.STEP | ({"run"} | keys.RUN if call == "run" else {call})
        fields = self.known(value, f"step `{call}`", frozenset(allowed), keys.NOT_YET["step"])
        if call != "run":
            self.only_on_run(call, fields)
        does = self.run(fields) if call == "run" else self.call(call, fields)
        return self.compile.step(does, value.mark, fields) if does else None

    def only_on_run(self, call: str, fields: Fields) -> None:
        """Refuse what cannot be said of a task as a whole."""
        for key in ("changed_when", "failed_when"):
            if key in fields:
                self.problems.add(
                    f"{key} cannot judge all of '{call}'",
                    fields[key].mark,
                    f"put it on a step inside '{call}'",
                )
        self.read.boolean(fields.get("ignore_errors"), f"ignore_errors of `{call}`")

    def item(self, value: Value, place: str) -> Item | None:
        """One item of ``tasks``: a name, a name with arguments, or a task in place."""
        if isinstance(value.data, str):
            if value.data in keys.BUILT_IN_NOT_YET:
                self.problems.add(f"`{value.data}` is not supported yet", value.mark)
            return Item(Call(value.data, value.mark), value.mark)
        if isinstance(value.data, dict) and value.data.keys() & {"steps", "tasks"}:
            fields = self.known(value, "a task in place", keys.IN_PLACE, keys.NOT_YET["item"])
            name = self.read.text(fields.get("name"), "name") or place
            return Item(self.body(name, value.mark, fields, f"'{name}'"), value.mark, name)
        call = self.call_key(value, "an item of tasks", keys.ITEM | keys.NOT_YET["item"])
        if call is None:
            return None
        fields = self.known(value, f"item `{call}`", keys.ITEM | {call}, keys.NOT_YET["item"])
        name = self.read.text(fields.get("name"), "name") or ""
        return Item(self.call(call, fields), value.mark, name, self.compile.modifiers(fields))

    def call_key(self, value: Value, what: str, modifiers: frozenset[str]) -> str | None:
        """The one key that says what is called."""
        if not isinstance(value.data, dict):
            self.problems.add(
                f"{what} must be a task's name or a mapping, found {found(value)}", value.mark
            )
            return None
        calls = [key for key in value.data if key not in modifiers]
        if len(calls) == 1:
            return str(calls[0])
        if "run" in calls or not calls:
            for key in calls:
                if key != "run":
                    self.read.unknown(key, "step `run`", modifiers | {"run"})
            if not calls:
                self.problems.add(f"{what} calls nothing", value.mark, "give it `run:` or a task")
            return "run" if calls else None
        listed = ", ".join(f"`{key}`" for key in calls)
        self.problems.add(
            f"{what} is one call, found {listed}",
            calls[1].mark,
            "begin a new entry with `- `, or mend the key",
        )
        return None

    def run(self, fields: Fields) -> Run | None:
        """A command with its options."""
        if isinstance(fields["run"].data, (dict, list)):
            self.read.wrong(
                fields["run"], "run", "the command's text", "options stand beside `run:`"
            )
            return None
        if self.read.text(fields["run"], "run") is None:
            return None
        shell = self.read.text(fields.get("shell"), "shell") or "sh"
        if not _SHELL.fullmatch(shell):
            self.read.wrong(fields["shell"], "shell", "a shell's name or path, like bash")
        return Run(
            text=self.compile.shell(fields["run"]),
            shell=shell,
            readonly=self.read.boolean(fields.get("readonly"), "readonly") or False,
            stdin=self.compile.optional(fields.get("stdin")),
            creates=self.compile.optional(fields.get("creates")),
            removes=self.compile.optional(fields.get("removes")),
            unless=self.compile.script(fields.get("unless"), "unless"),
            onlyif=self.compile.script(fields.get("onlyif"), "onlyif"),
        )

    def call(self, name: str, fields: Fields) -> Call:
        """A task called by its name; its arguments are checked once that task is known."""
        written = fields[name]
        args = self.read.mapping(written, f"the arguments of `{name}`")
        return Call(
            name,
            next(key.mark for key in fields if key == name and isinstance(key, Key)),
            {key: self.compile.value(arg) for key, arg in args.items()},
            cast(Fields, args),
        )


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
