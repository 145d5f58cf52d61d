"""Parsing of steps: commands, calls, blocks and control steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias, cast

from orchestrator import templating
from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.model import ansible
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.playbook import keywords
from orchestrator.playbook.model import (
    CommonOptions,
    ConditionExpr,
    ControlStep,
    DownloadStep,
    RunStep,
    Step,
    StepBlock,
    TaskCall,
)
from orchestrator.playbook.template_compiler import TemplateCompiler
from orchestrator.yamlio.schema import SchemaReader, describe_value

if TYPE_CHECKING:
    from orchestrator.templating import CompileCache

FieldMap: TypeAlias = dict[str, MarkedValue]
StepAction: TypeAlias = RunStep | TaskCall | StepBlock | ControlStep | DownloadStep

CALLED_TASK = "called_task"
"""Variable of the steps of a `call`: the name of the task that is called."""

_SHELL = lazy_regex(r"[A-Za-z0-9_./+-]+")
_KNOWN_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh"})


class StepParser:
    """A parser of lists of steps; errors go to ``problems`` and are not raised."""

    def __init__(self, problems: DiagnosticCollector, cache: CompileCache | None = None) -> None:
        self.problems = problems
        self.read = SchemaReader(problems)
        self.compile = TemplateCompiler(problems, cache)

    def parse_steps(self, value: MarkedValue | None, what: str) -> tuple[Step, ...]:
        """Return the steps in order; invalid ones are left out."""
        if value is None:
            return ()
        listed = self.parse_list(value, what)
        return tuple(step for step in map(self.parse_step, listed) if step is not None)

    def parse_list(self, value: MarkedValue, what: str) -> list[MarkedValue]:
        """Return the entries of a list that must not be empty; [] after reporting an error."""
        if not isinstance(value.data, list) or not value.data:
            expected = "a list with at least one entry"
            if value.data == []:
                self.problems.add(f"{what} is empty; it must be {expected}", value.mark)
            else:
                self.read.report_mismatch(value, what, expected)
            return []
        return value.data

    def allowed_fields(self, value: MarkedValue, what: str, allowed: Iterable[str]) -> FieldMap:
        """Return the allowed keys of a mapping; others are reported."""
        return cast(FieldMap, self.read.mapping(value, what, frozenset(allowed)))

    def parse_step(self, value: MarkedValue) -> Step | None:
        """Return one step, or None after reporting an error.

        A step is ``run: text``, a task's name, a name with arguments, a block and so on.
        """
        if isinstance(value.data, str):
            if value.data in keywords.BARE_STEPS:
                nothing = {value.data: MarkedValue(None, value.mark)}
                control = self.parse_control(value.data, nothing)
                return Step(control, value.mark) if control is not None else None
            return Step(TaskCall(value.data, value.mark), value.mark)
        if isinstance(value.data, dict) and "block" in value.data:
            return self.parse_block(value)
        every = keywords.STEP_KEYS | keywords.RUN_KEYS | keywords.BLOCK_KEYS
        name = self.called_name(value, "a step", every)
        if name is None:
            return None
        more, read = self._action_parsers().get(name, (frozenset(), self.parse_call))
        allowed = keywords.STEP_KEYS | more | {name}
        what = f"step `{name}`"
        fields = self.allowed_fields(value, what, allowed)
        if name != "run":
            self._refuse_host_options(what, name, fields)
        action = read(name, fields)
        if name == "call" and action is not None:
            fields = {**fields, "vars": _with_called_name(fields)}
        return self.compile.build_step(action, value.mark, fields) if action else None

    def _action_parsers(
        self,
    ) -> dict[str, tuple[frozenset[str], Callable[[str, FieldMap], StepAction | None]]]:
        controls = {name: (frozenset[str](), self.parse_control) for name in keywords.CONTROL_KEYS}
        return {
            "run": (keywords.RUN_KEYS, self.parse_run),
            "download": (frozenset(), self.parse_download),
            "call": (frozenset(), self.parse_choice),
            **controls,
        }

    def _refuse_host_options(self, what: str, name: str, fields: FieldMap) -> None:
        """Report options that do not apply to steps which no host executes."""
        if name in keywords.CONTROL_KEYS:
            refused = keywords.CONDITION_KEYS | keywords.RETRY_KEYS
            refused |= {"delegate_to", "notify", "timeout", "loop", "become", "local"}
            refused |= {"diff", "secret", "throttle"}
            refused |= set() if name in ("assert", "fail") else {"ignore_errors"}
            if name == "flush_handlers" or _is_prompt(fields[name]):
                refused |= keywords.STEP_KEYS - {"name"}
            for key in fields.keys() & refused:
                mark = mark_of_key(fields, key)
                self.problems.add(f"`{key}` is not allowed on {what}", mark, "it is for `run`")
        conditions = keywords.CONDITION_KEYS | keywords.RETRY_KEYS
        for key in fields.keys() & conditions if name == "call" else ():
            mark = mark_of_key(fields, key)
            self.problems.add(f"`{key}` is not allowed on {what}", mark, "it is for `run`")
        for key in fields.keys() & keywords.CONDITION_KEYS if name == "download" else ():
            hint = "it fails if the file is missing, and is changed if the local file differs"
            self.problems.add(f"`{key}` is not allowed on {what}", mark_of_key(fields, key), hint)
        self.read.boolean(fields.get("ignore_errors"), f"ignore_errors of {what}")

    def parse_block(self, value: MarkedValue) -> Step | None:
        """Return a block with its ``rescue`` and ``always`` steps."""
        fields = self.allowed_fields(value, "a block", keywords.BLOCK_STEP_KEYS)
        self.read.boolean(fields.get("ignore_errors"), "ignore_errors of a block")
        steps = self.parse_steps(fields["block"], "block")
        rescue = self.parse_steps(fields.get("rescue"), "rescue")
        always = self.parse_steps(fields.get("always"), "always")
        return self.compile.build_step(StepBlock(steps, rescue, always), value.mark, fields)

    def called_name(self, value: MarkedValue, what: str, modifiers: frozenset[str]) -> str | None:
        """Return the one key that names the action, or None after reporting an error."""
        if not isinstance(value.data, dict):
            self.problems.add(
                f"{what} must be a task's name or a mapping, found {describe_value(value)}",
                value.mark,
            )
            return None
        calls = [key for key in value.data if key not in modifiers]
        ours = [key for key in calls if key not in ansible.KEYWORD_HINTS]
        if len(calls) == 1 or len(ours) == 1:
            return str((ours or calls)[0])
        if "run" in calls or not calls:
            if not calls:
                hint = "give it `run:` or a task"
                if "shell" in value.data:
                    hint = "write `run: COMMAND`; `shell:` beside it names another shell, like bash"
                self.problems.add(f"{what} has no action", value.mark, hint)
            return "run" if calls else None
        listed = ", ".join(f"`{key}`" for key in calls)
        self.problems.add(
            f"{what} must have one action, found {listed}",
            calls[1].mark,
            "begin a new entry with `- `, or correct the key",
        )
        return None

    def parse_run(self, _name: str, fields: FieldMap) -> RunStep | None:
        """Return a command with its options, or None after reporting an error."""
        if isinstance(fields["run"].data, (dict, list)):
            self.read.report_mismatch(
                fields["run"], "run", "the command's text", "write options beside `run:`"
            )
            return None
        if self.read.text(fields["run"], "run") is None:
            return None
        shell = self.read.text(fields.get("shell"), "shell") or "sh"
        if not _SHELL.fullmatch(shell):
            self.read.report_mismatch(fields["shell"], "shell", "a shell's name or path, like bash")
        text = self.compile.compile_shell(fields["run"])
        if text and (text.names | text.optional) and shell.rpartition("/")[2] not in _KNOWN_SHELLS:
            self.problems.add(
                f"cannot quote values for `{shell}`: orch does not know its syntax",
                fields["shell"].mark,
                f"remove the expressions, or use one of {', '.join(sorted(_KNOWN_SHELLS))}",
            )
        return RunStep(
            text=text,
            shell=shell,
            readonly=self.read.boolean(fields.get("readonly"), "readonly") or False,
            stdin=self.compile.compile_optional(fields.get("stdin")),
            creates=self.compile.compile_optional(fields.get("creates")),
            removes=self.compile.compile_optional(fields.get("removes")),
            unless=self.compile.compile_script(fields.get("unless"), "unless"),
            onlyif=self.compile.compile_script(fields.get("onlyif"), "onlyif"),
        )

    def parse_download(self, _name: str, fields: FieldMap) -> DownloadStep | None:
        """Return a download from ``path`` on the host to the local ``to``, or None."""
        written = fields["download"]
        args = {
            str(k): v for k, v in self.read.mapping(written, "download", keywords.DOWNLOAD).items()
        }
        for key in keywords.DOWNLOAD:
            if key not in args:
                hint = "write `download: {path: REMOTE FILE, to: LOCAL FILE}`"
                self.problems.add(f"download needs `{key}`", written.mark, hint)
            elif self.read.text(args[key], f"{key} of download") is None:
                return None
        if len(args) < len(keywords.DOWNLOAD):
            return None
        return DownloadStep(
            self.compile.compile_value(args["path"]), self.compile.compile_value(args["to"])
        )

    def parse_connection_wait(self, value: MarkedValue) -> ControlStep:
        """Return a step that waits for a connection, with its timeout and delay."""
        options = self.read.fields(value, "wait_for_connection", keywords.CONNECTION)
        times = []
        for name, default in (("timeout", 600.0), ("delay", 0.0)):
            written = options.get(name)
            if written is None or not (isinstance(written.data, str) and "{{" in written.data):
                seconds = self.read.duration(written, name)
                written = MarkedValue(default if seconds is None else seconds, value.mark)
            times.append(written)
        return ControlStep(
            "wait_for_connection",
            self.compile.compile_value(MarkedValue(times, value.mark)),
            test=self.compile.compile_script(options.get("test"), "test"),
        )

    def parse_prompt(self, value: MarkedValue) -> str:
        """Return the prompt of a pause, or '' after reporting an error."""
        fields = self.read.fields(value, "pause", ("prompt",))
        if "prompt" not in fields:
            if isinstance(value.data, dict) and not value.data:
                hint = "write `pause: {prompt: TEXT}`; `wait: 10s` pauses a host"
                self.problems.add("pause needs `prompt`", value.mark, hint)
            return ""
        text = self.read.text(fields["prompt"], "prompt of pause") or ""
        if "{{" in text:
            message = "prompt of pause cannot have values of hosts: it is shown once for all hosts"
            self.problems.add(message, fields["prompt"].mark, "write a fixed text")
        return text

    def parse_control(self, name: str, fields: FieldMap) -> ControlStep | None:
        """Return a control step, or None after reporting an error."""
        value = fields[name]
        if name == "flush_handlers" and value.data is not None:
            self.read.report_mismatch(value, name, "without a value", f"write `- {name}`")
        if name == "wait_for_connection":
            return self.parse_connection_wait(value)
        if name == "pause":
            options = self.read.fields(value, "pause", keywords.PAUSE)
            if "seconds" not in options or "prompt" in options:
                prompt = MarkedValue(self.parse_prompt(value), value.mark, literal=True)
                return ControlStep(name, self.compile.compile_value(prompt))
            name, value = "wait", options["seconds"]
        if name == "set":
            names = self.read.variables(value, "set")
            if not isinstance(value.data, dict):
                self.read.report_mismatch(value, "set", "a mapping of names and values")
                return None
            return ControlStep(
                name, self.compile.compile_value(value), names=tuple(map(str, names))
            )
        if name == "assert":
            return self._parse_assert(value)
        if name == "wait" and "{{" not in str(value.data):
            self.read.duration(value, "wait")
        elif name == "fail":
            self.read.text(value, "fail")
        return ControlStep(name, self.compile.compile_value(value))

    def _parse_assert(self, value: MarkedValue) -> ControlStep:
        """Return an assert step: an expression, a list of them, or ``that:`` with ``message:``."""
        that, message = value, MarkedValue("", value.mark)
        if isinstance(value.data, dict):
            fields = self.allowed_fields(value, "assert", keywords.ASSERT_KEYS)
            that = fields.get("that", MarkedValue(None, value.mark))
            message = fields.get("message", message)
        judgements = self.compile.compile_conditions(that, "assert") or ()
        return ControlStep("assert", self.compile.compile_value(message), judgements)

    def parse_choice(self, _name: str, fields: FieldMap) -> StepBlock | None:
        """Return a block that calls one of several tasks, or None.

        Each of the calls has a condition over ``called_task``, which is the name in the run.
        """
        written = fields["call"]
        options = self.read.fields(written, "call", keywords.CALL)
        for key in ("task", "one_of"):
            if key not in options and isinstance(written.data, dict):
                hint = "write `call: {task: TEMPLATE, one_of: [TASK, TASK]}`"
                self.problems.add(f"call needs `{key}`", written.mark, hint)
        if "task" not in options or self.read.text(options["task"], "task of call") is None:
            return None
        names = self.read.string_list(options.get("one_of"), "one_of of call")
        args = self.read.mapping(options.get("args"), "args of call")
        if not names:
            if names is not None:
                self.problems.add("one_of of call is empty", options["one_of"].mark)
            return None
        mark = options["task"].mark
        steps = [
            Step(
                TaskCall(str(name), name.mark, {}, cast(FieldMap, args)),
                written.mark,
                options=CommonOptions((self._called_is(repr(str(name)), "==", mark),)),
            )
            for name in names
        ]
        listed = ", ".join(names)
        message = MarkedValue(f"'{{{{ {CALLED_TASK} }}}}' is not one of {listed}", mark)
        known = self._called_is(repr([str(name) for name in names]), "in", mark)
        check = ControlStep("assert", self.compile.compile_value(message), (known,))
        name = templating.compile_text(f"call one of {listed}", mark)
        return StepBlock((Step(check, mark, name=name), *steps))

    def _called_is(self, literal: str, operator: str, mark: SourcePosition) -> ConditionExpr:
        text = MarkedValue(f"{CALLED_TASK} {operator} {literal}", mark)
        return (self.compile.compile_conditions(text, "call") or (False,))[0]

    def parse_call(self, name: str, fields: FieldMap) -> TaskCall:
        """Return a call of a task by name; its arguments are checked once that task is loaded."""
        written = fields[name]
        args: dict[MarkedKey, MarkedValue] = {}
        if isinstance(written.data, dict):
            args = written.data
        elif written.data is not None and name not in ansible.MODULE_HINTS:
            hint = f"write them as `{name}: {{NAME: VALUE}}`"
            self.read.report_mismatch(written, f"the arguments of `{name}`", "a mapping", hint)
        return TaskCall(
            name,
            mark_of_key(fields, name),
            {},  # compiled by the types of the callee's params once it is loaded
            cast(FieldMap, args),
            tuple(
                k
                for k in fields
                if k in keywords.CONDITION_KEYS | keywords.RETRY_KEYS and isinstance(k, MarkedKey)
            ),
        )


def _is_prompt(value: MarkedValue) -> bool:
    """Return True if the value is that of a pause for a person."""
    return isinstance(value.data, dict) and "prompt" in map(str, value.data)


def _with_called_name(fields: FieldMap) -> MarkedValue:
    """Return the ``vars`` of a `call` with the name of the called task."""
    call, written = fields["call"], fields.get("vars", MarkedValue({}, fields["call"].mark))
    if not isinstance(call.data, dict) or not isinstance(written.data, dict):
        return written
    called = {key: value for key, value in call.data.items() if key == "task"}
    name = {MarkedKey(CALLED_TASK, key.mark): value for key, value in called.items()}
    return MarkedValue({**written.data, **name}, written.mark)


def mark_of_key(fields: FieldMap, name: str) -> SourcePosition:
    """Return the position of a key."""
    return next(key.mark for key in fields if key == name and isinstance(key, MarkedKey))
