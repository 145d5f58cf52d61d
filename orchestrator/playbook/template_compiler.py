"""Compilation of the templates of steps; errors are reported, and the template is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from orchestrator import templating
from orchestrator.errors import DefinitionError, DiagnosticCollector, SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.playbook.keywords import BECOME_HINT, LOOP_CONTROL
from orchestrator.playbook.model import (
    ArgumentTemplate,
    CommonOptions,
    ConditionExpr,
    ControlStep,
    DownloadStep,
    ModuleSpec,
    RetryPolicy,
    RunStep,
    Step,
    StepBlock,
    StepLoop,
    TaskCall,
)
from orchestrator.yamlio.naming_rules import ENVIRONMENT_NAME, variable_name_error
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import CompileCache, ShellTemplate, ValueTemplate

T = TypeVar("T")


class TemplateCompiler:
    """A compiler of values to templates; errors go to ``problems``.

    ``cache``: compiled templates of earlier runs, or None.
    """

    def __init__(self, problems: DiagnosticCollector, cache: CompileCache | None = None) -> None:
        self.problems, self.cache = problems, cache
        self.read = SchemaReader(problems)

    def build_step(
        self,
        action: RunStep | TaskCall | StepBlock | ControlStep | ModuleSpec | DownloadStep,
        mark: SourcePosition,
        fields: Mapping[str, MarkedValue],
    ) -> Step:
        """Return a step with its options."""
        name = fields.get("name")
        ignored = fields.get("ignore_errors")
        return Step(
            action=action,
            mark=mark,
            name=self._compile_or_report(templating.compile_text, name)
            if name and self._is_text(name)
            else None,
            options=self.common_options(fields),
            register=self.result_name(fields.get("register")),
            changed_when=self.compile_conditions(fields.get("changed_when"), "changed_when"),
            failed_when=self.compile_conditions(fields.get("failed_when"), "failed_when"),
            ignore_errors=next(
                iter(self.compile_conditions(ignored, "ignore_errors") or ()), False
            ),
            loop=self.build_loop(fields),
            retry=self.build_retry(fields),
            notify=self.read.string_list(fields.get("notify"), "notify") or (),
            delegate_to=self.compile_optional(fields.get("delegate_to")),
            local=self.runs_locally(fields),
            throttle=self.throttle_of(fields),
            once=self.read.boolean(fields.get("once"), "once") or False,
            vars=cast(Values, self.read.variables(fields.get("vars"), "vars of a step")),
        )

    def throttle_of(self, fields: Mapping[str, MarkedValue]) -> int:
        """Return how many hosts may run a step or task at the same time, 0 for no limit."""
        return self.read.integer(fields.get("throttle"), "throttle", 1, 1_000_000) or 0

    def runs_locally(self, fields: Mapping[str, MarkedValue]) -> bool:
        """Return True if the step runs on this machine."""
        if "local" in fields and "delegate_to" in fields:
            mark = fields["local"].mark
            self.problems.add("`local` and `delegate_to` exclude each other", mark, "drop one")
        return self.read.boolean(fields.get("local"), "local") or False

    def build_loop(self, fields: Mapping[str, MarkedValue]) -> StepLoop | None:
        """Return the loop of a step, or None.

        Text without braces is an expression, as in ``when``.
        """
        over, control = fields.get("loop"), fields.get("loop_control")
        if over is None:
            if control is not None:
                self.problems.add("`loop_control` requires `loop`", control.mark)
            return None
        settings = self.read.fields(control, "loop_control", LOOP_CONTROL)
        label = settings.get("label")
        text = isinstance(over.data, str) and "{{" not in over.data
        compiled = (
            self._compile_or_report(templating.compile_expression, over)
            if text
            else self.compile_value(over)
        )
        if compiled is None:
            return None
        var = self._loop_name(settings, "var") or "item"
        index = self._loop_name(settings, "index")
        if index == var:
            self.problems.add("`index` and `var` have the same name", settings["index"].mark)
        return StepLoop(
            compiled,
            self._compile_or_report(templating.compile_text, label) if label else None,
            var=var,
            index=index,
            pause=self.read.duration(settings.get("pause"), "pause") or 0.0,
        )

    def _loop_name(self, settings: Mapping[str, MarkedValue], key: str) -> str:
        """Return a name that a loop defines, or '' if it is missing or after reporting an error."""
        value = settings.get(key)
        name = self.read.text(value, key)
        if value is None or name is None or (key, name) == ("var", "item"):
            return ""
        why, hint = variable_name_error(name)
        if why:
            self.problems.add(f"`{key}` cannot be '{name}': {why}", value.mark, hint)
        return "" if why else MarkedKey(name, value.mark)

    def build_retry(self, fields: Mapping[str, MarkedValue]) -> RetryPolicy | None:
        """Return how often a step is retried, or None if it is not."""
        until = self.compile_conditions(fields.get("until"), "until")
        retries = self.read.integer(fields.get("retries"), "retries", 0, 100_000)
        delay = self.read.duration(fields.get("delay"), "delay")
        if until is None and retries is None:
            if "delay" in fields:
                self.problems.add("`delay` requires `until`", fields["delay"].mark)
            return None
        return RetryPolicy(
            until or (), 3 if retries is None else retries, 5.0 if delay is None else delay
        )

    def common_options(self, fields: Mapping[str, MarkedValue]) -> CommonOptions:
        """Return the inherited options among the fields."""
        timeout = fields.get("timeout")
        if timeout is not None and "{{" not in str(timeout.data):
            seconds = self.read.duration(timeout, "timeout")
            if seconds == 0:
                self.read.report_mismatch(
                    timeout, "timeout", "more than 0", "leave it out for no limit"
                )
        return CommonOptions(
            when=self.compile_conditions(fields.get("when"), "when") or (),
            environment=self.compile_environment(fields.get("environment")),
            chdir=self.compile_optional(fields.get("chdir")),
            timeout=self.compile_optional(timeout),
            tags=tuple(map(str, self.read.string_list(fields.get("tags"), "tags") or ())),
            become=self.compile_become(fields.get("become")),
            diff=self.read.boolean(fields.get("diff"), "diff"),
            secret=self.read.boolean(fields.get("secret"), "secret") or False,
        )

    def compile_become(self, value: MarkedValue | None) -> ValueTemplate | None:
        """Return the user to run as, or None.

        An empty value is an error, because its intent is unclear.
        """
        empty = value is not None and (value.data is None or not str(value.data).strip())
        if value is not None and empty:
            self.problems.add("`become` is empty", value.mark, BECOME_HINT)
            return None
        return self.compile_optional(value)

    def compile_environment(self, value: MarkedValue | None) -> dict[MarkedKey, ValueTemplate]:
        """Return environment variables, each as a template; the key of a whole mapping is ''."""
        if value is not None and isinstance(value.data, str) and "{{" in value.data:
            return {MarkedKey("", value.mark): self.compile_value(value)}
        fields = self.read.mapping(value, "environment")
        for key in fields:
            if not ENVIRONMENT_NAME.fullmatch(key):
                self.problems.add(f"'{key}' cannot name an environment variable", key.mark)
        return {key: self.compile_value(item) for key, item in fields.items()}

    def compile_conditions(
        self, value: MarkedValue | None, what: str
    ) -> tuple[ConditionExpr, ...] | None:
        """Return a condition, or a list of conditions that must all hold, or None."""
        if value is None:
            return None
        items = value.data if isinstance(value.data, list) else [value]
        return tuple(
            j for j in (self._compile_condition(item, what) for item in items) if j is not None
        )

    def result_name(self, value: MarkedValue | None) -> str:
        """Return the name under which the step's result is registered, or ''."""
        name = self.read.text(value, "register")
        if value is None or name is None:
            return ""
        why, hint = variable_name_error(name)
        if why:
            self.problems.add(f"'{name}' cannot be registered: {why}", value.mark, hint)
        return name

    def compile_shell(self, value: MarkedValue) -> ShellTemplate | None:
        """Compile the text of a command; return None after reporting an error."""
        return self._compile_or_report(templating.compile_shell, value)

    def compile_script(self, value: MarkedValue | None, what: str) -> ShellTemplate | None:
        """Compile the text of an optional command; None if it is missing or in error."""
        if value is None or self.read.text(value, what) is None:
            return None
        return self.compile_shell(value)

    def compile_optional(self, value: MarkedValue | None) -> ValueTemplate | None:
        """Compile a value that may be missing; return None in that case."""
        return None if value is None else self.compile_value(value)

    def compile_value(self, value: MarkedValue) -> ValueTemplate:
        """Compile a value; after reporting an error, return the template of None."""
        try:
            return templating.compile_value(value, self.cache)
        except DefinitionError as error:
            self.problems.diagnostics.extend(error.diagnostics)
            return templating.compile_value(MarkedValue(None, value.mark))

    def compile_argument(self, value: MarkedValue, *, commands: bool) -> ArgumentTemplate:
        """Compile an argument of a param; after reporting an error, return the template of None."""
        if not commands:
            return self.compile_value(value)
        try:
            return templating.compile_command(value, self.cache)
        except DefinitionError as error:
            self.problems.diagnostics.extend(error.diagnostics)
            return templating.compile_command(MarkedValue(None, value.mark))

    def _compile_condition(self, value: MarkedValue, what: str) -> ConditionExpr | None:
        if isinstance(value.data, bool):
            return value.data
        if isinstance(value.data, str) and "{{" in value.data:
            self.problems.add(
                f"{what} takes an expression without braces", value.mark, "drop the {{ }}"
            )
            return None
        if not self._is_text(value):
            self.read.report_mismatch(value, what, "an expression or true or false")
            return None
        return self._compile_or_report(templating.compile_expression, value)

    def _is_text(self, value: MarkedValue) -> bool:
        return isinstance(value.data, str) and bool(value.data.strip())

    def _compile_or_report(
        self,
        compile_: Callable[[str, SourcePosition, CompileCache | None], T],
        value: MarkedValue,
    ) -> T | None:
        try:
            return compile_(str(value.data), value.mark, self.cache)
        except DefinitionError as error:
            self.problems.diagnostics.extend(error.diagnostics)
            return None
