"""Typed tasks as parsed from their files: templates are compiled, but not bound to a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values

if TYPE_CHECKING:
    from orchestrator.templating import (
        CommandTemplate,
        Expression,
        ShellTemplate,
        TextTemplate,
        ValueTemplate,
    )

PARAM_TYPES: Mapping[str, str] = {
    "str": "Text; a number is converted to text",
    "int": "A whole number",
    "float": "A number",
    "bool": "true or false",
    "list": 'A list; a single text is a list of one. On the command line: `a,b` or `[a, "b, c"]`',
    "dict": "A mapping; on the command line, only with `-e @FILE`",
    "path": "A path on the host; `~/` is the home folder of the user who runs the step",
    "subpath": "A relative path that stays below its folder",
    "name": "The name of one file or folder, without `/`",
    "mode": 'File permissions: three or four octal digits as text, like "0644"',
    "file_mode": "A `mode`, or symbolic permissions, applied to the present ones: `u=rwX,go=rX`",
    "regex": "A POSIX extended regular expression, as of `grep -E`",
    "file": "A file of this machine: beside the file that names it, or relative to the project",
    "command": "A command of the caller; values in it are quoted where the caller writes them",
    "any": "Any value",
}
"""The types of params, with their meanings."""
ELEMENT_TYPES = tuple(kind for kind in PARAM_TYPES if kind != "file")
FIELD_TYPES = ("str", "int", "float", "bool", "list", "dict", "any")
"""The types that a field of a fact, or of a module's result, may have."""

ConditionExpr: TypeAlias = "Expression | bool"

ArgumentTemplate: TypeAlias = "ValueTemplate | CommandTemplate"
"""An argument as written; a CommandTemplate if the param is a command or a list of commands."""


class TaskParam(Struct, frozen=True):
    """A parameter of a task file; without a default and not required, its value is ``none``.

    ``elements`` is the type of a list's items, or '' for any type. An ``absolute`` path begins with
    / or ~/.
    """

    name: str
    mark: SourcePosition
    type: str = "str"
    default: ArgumentTemplate | None = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    help: str = ""
    secret: bool = False
    written_default: MarkedValue | None = None
    elements: str = ""
    absolute: bool = False

    @property
    def is_command(self) -> bool:
        """Return True if the type is command or a list of commands."""
        return "command" in (self.type, self.elements)


class ParamRule(Struct, frozen=True):
    """A constraint on several params of a file.

    ``kind`` is ``one_of`` (exactly one of the params is given) or ``disjoint`` (no path in one of
    the params equals or contains a path in another).
    """

    kind: str
    names: tuple[MarkedKey, ...]
    mark: SourcePosition


class CommonOptions(Struct, frozen=True):
    """Options that a step, item, task or playbook passes on to everything inside it.

    Every ``when`` must hold. ``environment`` and ``tags`` are merged, inner over outer. Of
    ``chdir``, ``timeout`` (seconds), ``become`` (a user, or true for root) and ``diff`` (whether
    contents are shown) the innermost value counts. ``secret`` hides output, and inner values cannot
    undo that. A variable of the environment without a name is a template of a whole mapping.
    """

    when: tuple[ConditionExpr, ...] = ()
    environment: Mapping[MarkedKey, ValueTemplate] = field(default_factory=dict)
    chdir: ValueTemplate | None = None
    timeout: ValueTemplate | None = None
    tags: tuple[str, ...] = ()
    become: ValueTemplate | None = None
    diff: bool | None = None
    secret: bool = False


class RunStep(Struct, frozen=True):
    """A command: ``literal`` is sent unchanged (ad-hoc commands), or ``text`` is rendered."""

    text: ShellTemplate | None
    literal: str = ""
    shell: str = "sh"
    stdin: ValueTemplate | None = None
    readonly: bool = False
    creates: ValueTemplate | None = None
    removes: ValueTemplate | None = None
    unless: ShellTemplate | None = None
    onlyif: ShellTemplate | None = None


class ModulePayload(Struct, frozen=True):
    """Bytes that a module uploads.

    ``kind`` is ``text`` (the value itself), or ``file``, ``template``, ``tree`` or ``parts`` (the
    value is a local path), or ``host``: nothing is sent, and the module's functions print the bytes
    of the path on the host. ``options`` are the other keys that the kind has, see PAYLOAD_OPTIONS.
    """

    kind: str
    what: ValueTemplate
    options: Mapping[str, ValueTemplate] = field(default_factory=dict)

    @property
    def templates(self) -> tuple[ValueTemplate, ...]:
        """Return the templates of the value and of the options."""
        return self.what, *self.options.values()


class ModuleFix(Struct, frozen=True):
    """A script that sets these keys of ``want``, or all keys if ``keys`` is empty."""

    keys: tuple[str, ...]
    text: ShellTemplate


ANYTHING = "anything"
"""Value of `makes` and `reads` that replaces a list."""

PathExtent: TypeAlias = "tuple[ValueTemplate, ...] | str | None"
"""Paths and names of users and groups, or ANYTHING; None if the module does not declare them."""


class ModuleSpec(Struct, frozen=True):
    """A module: the desired state of something on a host. It is the only step of its file.

    ``probe`` reports the current state. If it differs from ``want``, the fixes run in order; then
    the probe must report the desired state within ``within`` (a duration). A module without fixes
    changes nothing; it only waits for the state.

    At most one of ``payloads`` is given a value; ``validates``: check mode needs the payload on the
    host. ``functions`` is shell text put before the probe and the fixes. ``contained``: no script
    leaves a process behind or depends on its process ID. ``exposes`` maps the params that appear in
    process arguments to the exposed part. ``makes`` lists what the fixes may create, change or
    remove, ``reads`` what the probe examines; check mode relies on both. ``unique`` renders to
    lines of a name, a tab and a value; a host can have only one value per name. ``requires`` lists
    the commands needed on the host beyond those that every module needs; of the commands in one
    tuple, one is enough. ``needs`` are the modules on whose earlier steps the probe depends.
    ``returns`` are the types of the values that the probe prints, by the fields of the result.
    """

    probe: ShellTemplate
    want: Mapping[MarkedKey, ValueTemplate] = field(default_factory=dict)
    fixes: tuple[ModuleFix, ...] = ()
    payloads: tuple[ModulePayload, ...] = ()
    validates: ValueTemplate | None = None
    within: ValueTemplate | None = None
    functions: ShellTemplate | None = None
    contained: ConditionExpr = False
    exposes: Mapping[str, ValueTemplate] = field(default_factory=dict)
    makes: PathExtent = None
    reads: PathExtent = None
    unique: ValueTemplate | None = None
    requires: tuple[tuple[str, ...], ...] = ()
    needs: tuple[MarkedKey, ...] = ()
    returns: Mapping[str, TaskParam] = field(default_factory=dict)

    @property
    def readonly(self) -> bool:
        """Return True if the module cannot change anything."""
        return not self.fixes


class TaskCall(Struct, frozen=True):
    """A call of a task file by name, with its arguments.

    ``written`` are the arguments as parsed; ``args`` are the same arguments compiled by the types
    of the callee's params, filled in once the callee is loaded. ``judged`` are the condition and
    retry keys of the step, which are allowed only if the callee is a module.
    """

    task: str
    mark: SourcePosition
    args: dict[str, ArgumentTemplate] = field(default_factory=dict)
    written: Values = field(default_factory=dict)
    judged: tuple[MarkedKey, ...] = ()


class StepBlock(Struct, frozen=True):
    """A group of steps; if one fails, ``rescue`` runs instead of the rest and recovers the failure.

    ``always`` runs last in any case.
    """

    steps: tuple[Step, ...]
    rescue: tuple[Step, ...] = ()
    always: tuple[Step, ...] = ()


class ControlStep(Struct, frozen=True):
    """A step executed by orch itself, not by a host.

    ``kind`` is set, fail, assert, wait, flush_handlers, pause (``value``: the prompt) or
    wait_for_connection (``value``: the timeout and the delay, as seconds or as durations; ``test``:
    the command that must succeed then).

    ``value`` is the mapping to set (``names`` are its keys), the message, or the seconds to wait;
    ``conditions`` are those of an assert.
    """

    kind: str
    value: ValueTemplate
    conditions: tuple[ConditionExpr, ...] = ()
    names: tuple[str, ...] = ()
    test: ShellTemplate | None = None


class DownloadStep(Struct, frozen=True):
    """A download of the host's file or folder ``path`` to the local path ``to``.

    ``by_host``: to a folder of the host's name in the folder ``to``.
    """

    path: ValueTemplate
    to: ValueTemplate
    by_host: bool = False

    @property
    def readonly(self) -> bool:
        """Return True: a download does not change the host."""
        return True


class RetryPolicy(Struct, frozen=True):
    """How often a step is repeated until ``until`` holds.

    It is repeated at most ``retries`` more times, ``delay`` seconds apart.
    """

    until: tuple[ConditionExpr, ...]
    retries: int = 3
    delay: float = 5.0


class StepLoop(Struct, frozen=True):
    """A loop over the items of ``over``: a list, or a mapping as ``key`` and ``value`` pairs.

    ``label`` is the display name of an item, ``var`` the name of its value and ``index`` that of
    its number, from 0 ('': it has none). ``pause`` are the seconds between two items.
    """

    over: Expression | ValueTemplate
    label: TextTemplate | None = None
    var: str = "item"
    index: str = ""
    pause: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that the loop defines for each item."""
        return (self.var, self.index) if self.index else (self.var,)


class Step(Struct, frozen=True):
    """One step of a task.

    Conditions are None if the step does not set them. ``local``: the step runs on this machine.
    ``vars`` are variables of the step and of everything in it. ``throttle`` is the number of hosts
    that run it at the same time at most, 0 for no limit. ``once``: only the primary host runs it.
    """

    action: RunStep | TaskCall | StepBlock | ControlStep | ModuleSpec | DownloadStep
    mark: SourcePosition
    name: TextTemplate | None = None
    options: CommonOptions = CommonOptions()
    register: str = ""
    changed_when: tuple[ConditionExpr, ...] | None = None
    failed_when: tuple[ConditionExpr, ...] | None = None
    ignore_errors: ConditionExpr = False
    loop: StepLoop | None = None
    retry: RetryPolicy | None = None
    notify: tuple[MarkedKey, ...] = ()
    delegate_to: ValueTemplate | None = None
    local: bool = False
    vars: Values = field(default_factory=dict)
    throttle: int = 0
    once: bool = False

    @property
    def kind(self) -> str:
        """Return the kind of a control step, or ''."""
        return self.action.kind if isinstance(self.action, ControlStep) else ""

    @property
    def waits_for_hosts(self) -> str:
        """Return the key that makes every host wait for the others at this step, or ''."""
        return "once" if self.once else "pause" if self.kind == "pause" else ""

    def nested_steps(self) -> Iterator[Step]:
        """Yield the step itself and, for a block, all steps in it."""
        yield self
        if isinstance(self.action, StepBlock):
            for step in (*self.action.steps, *self.action.rescue, *self.action.always):
                yield from step.nested_steps()


class HostCount(Struct, frozen=True):
    """A number of hosts, or a percentage of them."""

    number: int
    percent: bool = False

    def hosts_of(self, count: int) -> int:
        """Return the number of hosts out of ``count``; percentages are rounded down."""
        return count * self.number // 100 if self.percent else self.number


class PlaybookItem(Struct, frozen=True):
    """One item of a playbook: a call by name, an inline task, or ``action`` is None.

    Without an action, ``name`` is commit, flush_handlers or pause (``prompt``: what is asked).

    ``once``: only the primary runs the item (with ``any_host``, another host if the primary is
    out). ``batch`` are the batch sizes, the last one repeating; () means all hosts at once.
    ``max_failures`` is the number of hosts that may fail in the item before the run stops. Between
    batches, ``pause`` waits this many seconds and ``confirm`` asks the user; ``order`` is the order
    of the hosts: inventory, reversed or shuffle. ``on_batch_failure`` is stop or continue.
    ``stops_at_error``: a failure stops the other hosts after the step that each of them runs.
    """

    action: TaskCall | Task | None
    mark: SourcePosition
    name: str = ""
    options: CommonOptions = CommonOptions()
    once: bool = False
    any_host: bool = False
    batch: tuple[HostCount, ...] = ()
    max_failures: HostCount | None = None
    pause: float = 0.0
    confirm: bool = False
    order: str = "inventory"
    on_batch_failure: str = "stop"
    stops_at_error: bool = False
    prompt: str = ""


class Task(Struct, frozen=True):
    """One task file, or an inline task, which is named after its item.

    Exactly one of ``steps`` and ``tasks`` (a playbook) is not None. ``roles`` is None for every
    host. ``before``, ``after`` and ``failed`` are the names of the tasks that this task hooks into;
    the hook applies to ``apps``, or to every app if that is empty. ``rules`` are constraints on its
    params. ``topics`` are the names that handlers listen to, beside their own. ``vars`` have those
    of the ``vars_files`` and of the folder, once the task is loaded. ``throttle`` is as in Step.
    """

    name: str
    mark: SourcePosition
    desc: str = ""
    roles: tuple[MarkedKey, ...] | None = None
    params: Mapping[str, TaskParam] = field(default_factory=dict)
    vars: Values = field(default_factory=dict)
    options: CommonOptions = CommonOptions()
    steps: tuple[Step, ...] | None = None
    tasks: tuple[PlaybookItem, ...] | None = None
    handlers: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    topics: Mapping[str, tuple[MarkedKey, ...]] = field(default_factory=dict)
    vars_files: tuple[tuple[MarkedKey, ...], ...] = ()
    throttle: int = 0
    rollback: tuple[Step, ...] = ()
    before: tuple[MarkedKey, ...] = ()
    after: tuple[MarkedKey, ...] = ()
    failed: tuple[MarkedKey, ...] = ()
    apps: tuple[MarkedKey, ...] = ()
    example: str = ""
    rules: tuple[ParamRule, ...] = ()

    @property
    def module(self) -> ModuleSpec | None:
        """Return the module that the file defines, or None if it is not a module."""
        first = self.steps[0].action if self.steps else None
        return first if isinstance(first, ModuleSpec) else None

    def notifiable_names(self) -> Iterator[str]:
        """Yield the names of the handlers, and those that they listen to."""
        for name in self.handlers:
            yield name
            yield from self.topics.get(name, ())

    def inline_tasks(self) -> Iterator[Task]:
        """Yield the task itself and every inline task in it."""
        yield self
        for item in self.tasks or ():
            if isinstance(item.action, Task):
                yield from item.action.inline_tasks()

    def own_steps(self) -> Iterator[Step]:
        """Yield the steps, handlers and rollback of this task, without inline tasks."""
        for steps in (self.steps or (), self.rollback, *self.handlers.values()):
            for step in steps:
                yield from step.nested_steps()

    def all_steps(self) -> Iterator[Step]:
        """Yield every step of this file, including those of inline tasks."""
        for task in self.inline_tasks():
            yield from task.own_steps()

    def all_options(self) -> Iterator[CommonOptions]:
        """Yield the options of this task, its items and inline tasks, without those of steps."""
        yield self.options
        for item in self.tasks or ():
            yield item.options
            if isinstance(item.action, Task):
                yield from item.action.all_options()

    def step_calls(self) -> Iterator[TaskCall]:
        """Return every call in this file that is a step."""
        return (step.action for step in self.all_steps() if isinstance(step.action, TaskCall))

    def item_calls(self) -> Iterator[TaskCall]:
        """Yield every call in this file that is an item of ``tasks``."""
        for item in self.tasks or ():
            if isinstance(item.action, Task):
                yield from item.action.item_calls()
            elif item.action is not None:
                yield item.action

    def all_calls(self) -> Iterator[TaskCall]:
        """Yield every call by name in this file."""
        yield from self.item_calls()
        yield from self.step_calls()


class TaskRequest(Struct, frozen=True):
    """A task requested on the command line, with the ``key=value`` arguments after its name."""

    task: str
    args: Mapping[str, str] = field(default_factory=dict)
