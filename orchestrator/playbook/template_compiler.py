"""Compiling the templates of steps; a template in error is told and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from orchestrator import templating
from orchestrator.errors import DefinitionError, Mark, Problems
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Key, Value
from orchestrator.playbook.keywords import BECOME_HINT
from orchestrator.playbook.model import (
    Again,
    ArgumentTemplate,
    Block,
    Call,
    Control,
    Download,
    Judgement,
    Loop,
    Modifiers,
    Module,
    Run,
    Step,
)
from orchestrator.yamlio.naming_rules import why_no_variable
from orchestrator.yamlio.schema import Reader

if TYPE_CHECKING:
    from orchestrator.templating import ShellTemplate, ValueTemplate

T = TypeVar("T")

_ENVIRONMENT_NAME = regex(r"[A-Za-z_][A-Za-z0-9_]*")


class Compiler:
    """Turns written values into templates; what is wrong goes to ``problems``."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.read = Reader(problems)

    def step(
        self,
        does: Run | Call | Block | Control | Module | Download,
        mark: Mark,
        fields: Mapping[str, Value],
    ) -> Step:
        """A step with its modifiers."""
        name = fields.get("name")
        ignored = fields.get("ignore_errors")
        return Step(
            does=does,
            mark=mark,
            name=self._tell(templating.text, name) if name and self._is_text(name) else None,
            mods=self.modifiers(fields),
            register=self.register(fields.get("register")),
            changed_when=self.judgements(fields.get("changed_when"), "changed_when"),
            failed_when=self.judgements(fields.get("failed_when"), "failed_when"),
            ignore_errors=next(iter(self.judgements(ignored, "ignore_errors") or ()), False),
            loop=self.loop(fields),
            again=self.again(fields),
            notify=self.read.string_list(fields.get("notify"), "notify") or (),
            delegate_to=self.optional(fields.get("delegate_to")),
            local=self.local(fields),
        )

    def local(self, fields: Mapping[str, Value]) -> bool:
        """Whether a step is run on this machine."""
        if "local" in fields and "delegate_to" in fields:
            place = fields["local"].mark
            self.problems.add("`local` and `delegate_to` exclude each other", place, "drop one")
        return self.read.boolean(fields.get("local"), "local") or False

    def loop(self, fields: Mapping[str, Value]) -> Loop | None:
        """What a step is run for. Text without braces is an expression, as in ``when``."""
        over, control = fields.get("loop"), fields.get("loop_control")
        if over is None:
            if control is not None:
                self.problems.add("`loop_control` requires `loop`", control.mark)
            return None
        label = self.read.mapping(control, "loop_control", {"label"})
        shown = next(iter(label.values()), None)
        text = isinstance(over.data, str) and "{{" not in over.data
        compiled = self._tell(templating.expression, over) if text else self.value(over)
        if compiled is None:
            return None
        return Loop(compiled, self._tell(templating.text, shown) if shown else None)

    def again(self, fields: Mapping[str, Value]) -> Again | None:
        """How often a step is tried."""
        until = self.judgements(fields.get("until"), "until")
        retries = self.read.integer(fields.get("retries"), "retries", 0, 100_000)
        delay = self.read.duration(fields.get("delay"), "delay")
        if until is None and retries is None:
            if "delay" in fields:
                self.problems.add("`delay` requires `until`", fields["delay"].mark)
            return None
        return Again(
            until or (), 3 if retries is None else retries, 5.0 if delay is None else delay
        )

    def modifiers(self, fields: Mapping[str, Value]) -> Modifiers:
        """The inherited modifiers among the fields."""
        timeout = fields.get("timeout")
        if timeout is not None and "{{" not in str(timeout.data):
            seconds = self.read.duration(timeout, "timeout")
            if seconds == 0:
                self.read.wrong(
                    timeout, "timeout", "more than nothing", "leave it out for no limit"
                )
        return Modifiers(
            when=self.judgements(fields.get("when"), "when") or (),
            environment=self.environment(fields.get("environment")),
            chdir=self.optional(fields.get("chdir")),
            timeout=self.optional(timeout),
            tags=tuple(map(str, self.read.string_list(fields.get("tags"), "tags") or ())),
            become=self.become(fields.get("become")),
        )

    def become(self, value: Value | None) -> ValueTemplate | None:
        """Who runs it. An empty one is an error: nobody can tell whether it was meant to be."""
        empty = value is not None and (value.data is None or not str(value.data).strip())
        if value is not None and empty:
            self.problems.add("`become` is empty", value.mark, BECOME_HINT)
            return None
        return self.optional(value)

    def environment(self, value: Value | None) -> dict[Key, ValueTemplate]:
        """Variables for the command, each a template."""
        fields = self.read.mapping(value, "environment")
        for key in fields:
            if not _ENVIRONMENT_NAME.fullmatch(key):
                self.problems.add(f"'{key}' cannot name an environment variable", key.mark)
        return {key: self.value(item) for key, item in fields.items()}

    def judgements(self, value: Value | None, what: str) -> tuple[Judgement, ...] | None:
        """A condition, or a list of which every one must hold. None where there is none."""
        if value is None:
            return None
        items = value.data if isinstance(value.data, list) else [value]
        return tuple(j for j in (self._judgement(item, what) for item in items) if j is not None)

    def register(self, value: Value | None) -> str:
        """The name that the step's result gets."""
        name = self.read.text(value, "register")
        if value is None or name is None:
            return ""
        why, hint = why_no_variable(name)
        if why:
            self.problems.add(f"'{name}' cannot be registered: {why}", value.mark, hint)
        return name

    def shell(self, value: Value) -> ShellTemplate | None:
        """Command text."""
        return self._tell(templating.shell, value)

    def script(self, value: Value | None, what: str) -> ShellTemplate | None:
        """Optional command text."""
        if value is None or self.read.text(value, what) is None:
            return None
        return self.shell(value)

    def optional(self, value: Value | None) -> ValueTemplate | None:
        """A value that may be left out."""
        return None if value is None else self.value(value)

    def value(self, value: Value) -> ValueTemplate:
        """A written value; one in error is told, and stands for nothing."""
        try:
            return templating.value(value)
        except DefinitionError as error:
            self.problems.found.extend(error.problems)
            return templating.value(Value(None, value.mark))

    def argument(self, value: Value, *, commands: bool) -> ArgumentTemplate:
        """What a param is given; what is in error is told, and stands for nothing."""
        if not commands:
            return self.value(value)
        try:
            return templating.command(value)
        except DefinitionError as error:
            self.problems.found.extend(error.problems)
            return templating.command(Value(None, value.mark))

    def _judgement(self, value: Value, what: str) -> Judgement | None:
        if isinstance(value.data, bool):
            return value.data
        if isinstance(value.data, str) and "{{" in value.data:
            self.problems.add(
                f"{what} is an expression already, without braces", value.mark, "drop the {{ }}"
            )
            return None
        if not self._is_text(value):
            self.read.wrong(value, what, "an expression or true or false")
            return None
        return self._tell(templating.expression, value)

    def _is_text(self, value: Value) -> bool:
        return isinstance(value.data, str) and bool(value.data.strip())

    def _tell(self, compile_: Callable[[str, Mark], T], value: Value) -> T | None:
        try:
            return compile_(str(value.data), value.mark)
        except DefinitionError as error:
            self.problems.found.extend(error.problems)
            return None
