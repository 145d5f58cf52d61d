"""Steps as written: commands, calls, blocks, and what only this side does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

from orchestrator.errors import Mark, Problems
from orchestrator.model import ansible
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Key, Value
from orchestrator.playbook import keywords
from orchestrator.playbook.model import Block, Call, Control, Download, Run, Step
from orchestrator.playbook.template_compiler import Compiler
from orchestrator.yamlio.schema import Reader, found

Fields: TypeAlias = dict[str, Value]
Does: TypeAlias = Run | Call | Block | Control | Download

_SHELL = regex(r"[A-Za-z0-9_./+-]+")
_DOWNLOAD = ("path", "to")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh"})


class StepReader:
    """Reads lists of steps. Nothing is raised: what is wrong goes to ``problems``."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.read = Reader(problems)
        self.compile = Compiler(problems)

    def steps(self, value: Value | None, what: str) -> tuple[Step, ...]:
        """The steps, in order; those that make no sense are left out."""
        if value is None:
            return ()
        listed = self.listed(value, what)
        return tuple(step for step in map(self.step, listed) if step is not None)

    def listed(self, value: Value, what: str) -> list[Value]:
        """A list with something in it."""
        if not isinstance(value.data, list) or not value.data:
            expected = "a list with at least one entry"
            if value.data == []:
                self.problems.add(f"{what} is empty; it must be {expected}", value.mark)
            else:
                self.read.wrong(value, what, expected)
            return []
        return value.data

    def known(
        self, value: Value, what: str, allowed: Iterable[str], later: frozenset[str]
    ) -> Fields:
        """A mapping's allowed keys; those that only a later version obeys are refused."""
        allowed = frozenset(allowed)
        fields = self.read.mapping(value, what, allowed | later)
        for key in (k for k in fields if k in later):
            self.problems.add(f"`{key}` in {what} is not supported yet", key.mark)
        return cast(Fields, {k: v for k, v in fields.items() if k in allowed})

    def step(self, value: Value) -> Step | None:
        """One step: ``run: text``, a task's name, a name with arguments, a block, …"""
        if isinstance(value.data, str):
            return Step(Call(value.data, value.mark), value.mark)
        if isinstance(value.data, dict) and "block" in value.data:
            return self.block(value)
        every = keywords.STEP | keywords.RUN | keywords.NOT_YET["step"] | keywords.BLOCK
        name = self.called(value, "a step", every)
        if name is None:
            return None
        more, read = self._kinds().get(name, (frozenset(), self.call))
        allowed = keywords.STEP | more | {name}
        what = f"step `{name}`"
        fields = self.known(value, what, allowed, keywords.NOT_YET["step"])
        if name != "run":
            self._only_on_run(what, name, fields)
        does = read(name, fields)
        return self.compile.step(does, value.mark, fields) if does else None

    def _kinds(self) -> dict[str, tuple[frozenset[str], Callable[[str, Fields], Does | None]]]:
        controls = {name: (frozenset[str](), self.control) for name in keywords.CONTROL}
        return {
            "run": (keywords.RUN, self.run),
            "download": (frozenset(), self.download),
            **controls,
        }

    def _only_on_run(self, what: str, name: str, fields: Fields) -> None:
        """Refuse what cannot be said of what no host does."""
        if name in keywords.CONTROL:
            refused = keywords.JUDGED | keywords.AGAIN
            refused |= {"delegate_to", "notify", "timeout", "ignore_errors", "loop"}
            refused |= {"become", "local"}
            for key in fields.keys() & refused:
                mark = key_mark(fields, key)
                self.problems.add(f"`{key}` cannot stand on {what}", mark, "it is for `run`")
        for key in fields.keys() & keywords.JUDGED if name == "download" else ():
            hint = "it fails where there is no such file, and changed where it is new here"
            self.problems.add(f"`{key}` cannot stand on {what}", key_mark(fields, key), hint)
        self.read.boolean(fields.get("ignore_errors"), f"ignore_errors of {what}")

    def block(self, value: Value) -> Step | None:
        """A block, with what rescues it and what always follows."""
        fields = self.known(value, "a block", keywords.BLOCK_STEP, keywords.NOT_YET["step"])
        self.read.boolean(fields.get("ignore_errors"), "ignore_errors of a block")
        steps = self.steps(fields["block"], "block")
        rescue = self.steps(fields.get("rescue"), "rescue")
        always = self.steps(fields.get("always"), "always")
        return self.compile.step(Block(steps, rescue, always), value.mark, fields)

    def called(self, value: Value, what: str, modifiers: frozenset[str]) -> str | None:
        """The one key that says what is called."""
        if not isinstance(value.data, dict):
            self.problems.add(
                f"{what} must be a task's name or a mapping, found {found(value)}", value.mark
            )
            return None
        calls = [key for key in value.data if key not in modifiers]
        ours = [key for key in calls if key not in ansible.KEYS]
        if len(calls) == 1 or len(ours) == 1:
            return str((ours or calls)[0])
        if "run" in calls or not calls:
            if not calls:
                hint = "give it `run:` or a task"
                if "shell" in value.data:
                    hint = "write `run: COMMAND`; `shell:` beside it names another shell, like bash"
                self.problems.add(f"{what} calls nothing", value.mark, hint)
            return "run" if calls else None
        listed = ", ".join(f"`{key}`" for key in calls)
        self.problems.add(
            f"{what} is one call, found {listed}",
            calls[1].mark,
            "begin a new entry with `- `, or correct the key",
        )
        return None

    def run(self, _name: str, fields: Fields) -> Run | None:
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
        text = self.compile.shell(fields["run"])
        if text and (text.names | text.optional) and shell.rpartition("/")[2] not in _SHELLS:
            self.problems.add(
                f"values are quoted for a shell, and `{shell}` is none that orch knows",
                fields["shell"].mark,
                f"leave the expressions out of it, or use one of {', '.join(sorted(_SHELLS))}",
            )
        return Run(
            text=text,
            shell=shell,
            readonly=self.read.boolean(fields.get("readonly"), "readonly") or False,
            stdin=self.compile.optional(fields.get("stdin")),
            creates=self.compile.optional(fields.get("creates")),
            removes=self.compile.optional(fields.get("removes")),
            unless=self.compile.script(fields.get("unless"), "unless"),
            onlyif=self.compile.script(fields.get("onlyif"), "onlyif"),
        )

    def download(self, _name: str, fields: Fields) -> Download | None:
        """A file of the host's: ``path`` there, ``to`` here."""
        written = fields["download"]
        args = {str(k): v for k, v in self.read.mapping(written, "download", _DOWNLOAD).items()}
        for key in _DOWNLOAD:
            if key not in args:
                hint = "write `download: {path: FILE THERE, to: FILE HERE}`"
                self.problems.add(f"download needs `{key}`", written.mark, hint)
            elif self.read.text(args[key], f"{key} of download") is None:
                return None
        if len(args) < len(_DOWNLOAD):
            return None
        return Download(self.compile.value(args["path"]), self.compile.value(args["to"]))

    def control(self, name: str, fields: Fields) -> Control | None:
        """``set``, ``fail``, ``assert`` or ``wait``."""
        value = fields[name]
        if name == "set":
            names = self.read.variables(value, "set")
            if not isinstance(value.data, dict):
                self.read.wrong(value, "set", "a mapping of names and values")
                return None
            return Control(name, self.compile.value(value), names=tuple(map(str, names)))
        if name == "assert":
            return self._assert(value)
        if name == "wait" and "{{" not in str(value.data):
            self.read.duration(value, "wait")
        elif name == "fail":
            self.read.text(value, "fail")
        return Control(name, self.compile.value(value))

    def _assert(self, value: Value) -> Control:
        """An expression, a list of them, or ``that:`` with a ``message:``."""
        that, message = value, Value("", value.mark)
        if isinstance(value.data, dict):
            fields = self.known(value, "assert", {"that", "message"}, frozenset())
            that = fields.get("that", Value(None, value.mark))
            message = fields.get("message", message)
        judgements = self.compile.judgements(that, "assert") or ()
        return Control("assert", self.compile.value(message), judgements)

    def call(self, name: str, fields: Fields) -> Call:
        """A task called by its name; its arguments are checked once that task is known."""
        written = fields[name]
        args: dict[Key, Value] = {}
        if isinstance(written.data, dict):
            args = written.data
        elif written.data is not None and name not in ansible.MODULES:
            hint = f"write them as `{name}: {{NAME: VALUE}}`"
            self.read.wrong(written, f"the arguments of `{name}`", "a mapping", hint)
        return Call(
            name,
            key_mark(fields, name),
            {},  # by the types of what it calls, once that is read
            cast(Fields, args),
            tuple(
                k for k in fields if k in keywords.JUDGED | keywords.AGAIN and isinstance(k, Key)
            ),
        )


def key_mark(fields: Fields, name: str) -> Mark:
    """Where a key stands."""
    return next(key.mark for key in fields if key == name and isinstance(key, Key))
