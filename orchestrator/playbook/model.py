"""Tasks as their files say them: typed, their templates compiled, not yet bound to any host."""

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

PARAM_TYPES = tuple(
    "str int float bool list dict path subpath name mode regex file command any".split()
)
ELEMENT_TYPES = tuple(kind for kind in PARAM_TYPES if kind != "file")

ConditionExpr: TypeAlias = "Expression | bool"

ArgumentTemplate: TypeAlias = "ValueTemplate | CommandTemplate"
"""What a param is given, as written; a CommandTemplate where it is a command or a list of them."""


class TaskParam(Struct, frozen=True):
    """One parameter of a task file. Without a default and not required it is ``none``.

    ``elements`` is the type of a list's items, '' for any; an ``absolute`` path begins with / or
    with ~/.
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
        """Whether it is a command, or a list of them."""
        return "command" in (self.type, self.elements)


class ParamRule(Struct, frozen=True):
    """What several params of a file must be together. ``kind``: ``one_of`` (exactly one of them is
    given) or ``disjoint`` (no path in one of them is, or is in, another)."""

    kind: str
    names: tuple[MarkedKey, ...]
    mark: SourcePosition


class CommonOptions(Struct, frozen=True):
    """What a step, an item, a task or a playbook says of all that is inside it.

    Every ``when`` must hold; ``environment`` and ``tags`` add up, inner over outer; the
    innermost ``chdir``, ``timeout`` (seconds) and ``become`` (a user, or true for root) count.
    """

    when: tuple[ConditionExpr, ...] = ()
    environment: Mapping[MarkedKey, ValueTemplate] = field(default_factory=dict)
    chdir: ValueTemplate | None = None
    timeout: ValueTemplate | None = None
    tags: tuple[str, ...] = ()
    become: ValueTemplate | None = None


class RunStep(Struct, frozen=True):
    """A command. ``literal`` text is sent as it is (from the command line); else ``text``."""

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
    """Bytes that a module brings along. ``kind``: ``text`` (the value itself), or ``file``,
    ``template`` and ``tree``, where the value is a path on this side; of a tree, ``exclude`` are
    the patterns of what is left out."""

    kind: str
    what: ValueTemplate
    exclude: ValueTemplate | None = None


class ModuleFix(Struct, frozen=True):
    """What mends these keys of ``want``, or all of them where none is named."""

    keys: tuple[str, ...]
    text: ShellTemplate


ANYTHING = "anything"
"""Stands under `makes` and `reads` in place of a list."""

PathExtent: TypeAlias = "tuple[ValueTemplate, ...] | str | None"
"""Paths, and names of users and groups; or ANYTHING; None: nothing is said."""


class ModuleSpec(Struct, frozen=True):
    """What is to be so on a host: the only step of its file.

    ``probe`` states what is; where that differs from ``want``, the fixes run, in order, and
    the probe must then state what was wanted, at most ``within`` (a duration) later. Without
    fixes it changes nothing, and is waited for. Of several ``payloads`` one is given a value;
    ``validates``: whether a check needs it on the host. ``functions`` is shell text that stands
    before probe and fixes, for what they share. ``contained``: none of them leaves a process
    behind, or asks which process it is. ``exposes``: the params that get into the arguments of
    processes, and what of them does. ``makes``: what the fixes may make, change or remove;
    ``reads``: what the probe looks at. A check goes by both. ``unique``: a text with lines of a
    name, a tab and a value, where a host can have one value for each name. ``requires``:
    the commands that it needs on a host beyond those that all modules do; of those in one tuple
    one is enough.
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

    @property
    def readonly(self) -> bool:
        """Whether it cannot change anything."""
        return not self.fixes


class TaskCall(Struct, frozen=True):
    """A task file called by its name, with arguments as written; ``args``, compiled as the
    types of that file's params have it, are there once it is read. ``judged``: the modifiers
    beside it that only a module, being one step, can have."""

    task: str
    mark: SourcePosition
    args: dict[str, ArgumentTemplate] = field(default_factory=dict)
    written: Values = field(default_factory=dict)
    judged: tuple[MarkedKey, ...] = ()


class StepBlock(Struct, frozen=True):
    """Steps as one: where one of them fails, ``rescue`` runs in place of the rest and makes up
    for it; ``always`` runs in any case, and last."""

    steps: tuple[Step, ...]
    rescue: tuple[Step, ...] = ()
    always: tuple[Step, ...] = ()


class ControlStep(Struct, frozen=True):
    """What this side does and no host: ``kind`` is set, fail, assert or wait.

    ``value`` is what is set (a mapping; ``names`` are its keys), the message, or the seconds;
    ``conditions`` is what an assert asks for.
    """

    kind: str
    value: ValueTemplate
    conditions: tuple[ConditionExpr, ...] = ()
    names: tuple[str, ...] = ()


class DownloadStep(Struct, frozen=True):
    """A file that is brought from the host to this side: from ``path`` there to ``to``."""

    path: ValueTemplate
    to: ValueTemplate

    @property
    def readonly(self) -> bool:
        """Whether it leaves the host as it is."""
        return True


class RetryPolicy(Struct, frozen=True):
    """Run a step again until ``until`` holds: at most ``retries`` times more, ``delay`` seconds
    after one another."""

    until: tuple[ConditionExpr, ...]
    retries: int = 3
    delay: float = 5.0


class StepLoop(Struct, frozen=True):
    """Run a step for every item of ``over``: a list, or a mapping's ``key`` and ``value``.

    ``label`` is what an item is called on screen.
    """

    over: Expression | ValueTemplate
    label: TextTemplate | None = None


class Step(Struct, frozen=True):
    """One step of a task. The judgements are None where the step leaves them out. ``local``: it
    is run on this machine."""

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

    def nested_steps(self) -> Iterator[Step]:
        """The step itself and, of a block, all steps in it."""
        yield self
        if isinstance(self.action, StepBlock):
            for step in (*self.action.steps, *self.action.rescue, *self.action.always):
                yield from step.nested_steps()


class HostCount(Struct, frozen=True):
    """A number of hosts, or a percentage of them."""

    number: int
    percent: bool = False

    def hosts_of(self, count: int) -> int:
        """How many of ``count`` hosts that is; a percentage is rounded down."""
        return count * self.number // 100 if self.percent else self.number


class PlaybookItem(Struct, frozen=True):
    """One item of a playbook: a call by name, a task in place, or ``commit`` (None).

    ``once``: only the primary runs it (``any_host``: or, if that is out, another host).
    ``batch``: the sizes of the batches, the last one repeating; () is all hosts at once.
    ``max_failures``: how many hosts may fail in it before the run stops.
    """

    action: TaskCall | Task | None
    mark: SourcePosition
    name: str = ""
    options: CommonOptions = CommonOptions()
    once: bool = False
    any_host: bool = False
    batch: tuple[HostCount, ...] = ()
    max_failures: HostCount | None = None


class Task(Struct, frozen=True):
    """One task file, or a task in place (named after its item).

    Exactly one of ``steps`` and ``tasks`` (a playbook) is not None. ``roles`` None means
    every host. ``before``, ``after`` and ``failed`` are the tasks that it hooks into, for the
    ``apps`` named or for all. ``rules`` are for its params.
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
    rollback: tuple[Step, ...] = ()
    before: tuple[MarkedKey, ...] = ()
    after: tuple[MarkedKey, ...] = ()
    failed: tuple[MarkedKey, ...] = ()
    apps: tuple[MarkedKey, ...] = ()
    example: str = ""
    rules: tuple[ParamRule, ...] = ()

    @property
    def module(self) -> ModuleSpec | None:
        """What a file with a ``probe`` is; its only step."""
        first = self.steps[0].action if self.steps else None
        return first if isinstance(first, ModuleSpec) else None

    def inline_tasks(self) -> Iterator[Task]:
        """The task itself and those in place in it."""
        yield self
        for item in self.tasks or ():
            if isinstance(item.action, Task):
                yield from item.action.inline_tasks()

    def own_steps(self) -> Iterator[Step]:
        """Its steps, handlers and rollback, without those of its tasks in place."""
        for steps in (self.steps or (), self.rollback, *self.handlers.values()):
            for step in steps:
                yield from step.nested_steps()

    def all_steps(self) -> Iterator[Step]:
        """Every step that stands in this file, those of its tasks in place included."""
        for task in self.inline_tasks():
            yield from task.own_steps()

    def all_options(self) -> Iterator[CommonOptions]:
        """Those of this task and of its items, tasks in place included; not those of steps."""
        yield self.options
        for item in self.tasks or ():
            yield item.options
            if isinstance(item.action, Task):
                yield from item.action.all_options()

    def step_calls(self) -> Iterator[TaskCall]:
        """Every call that is a step, in this file."""
        return (step.action for step in self.all_steps() if isinstance(step.action, TaskCall))

    def item_calls(self) -> Iterator[TaskCall]:
        """Every call that is an item of ``tasks``, in this file."""
        for item in self.tasks or ():
            if isinstance(item.action, Task):
                yield from item.action.item_calls()
            elif item.action is not None:
                yield item.action

    def all_calls(self) -> Iterator[TaskCall]:
        """Every call by name in this file."""
        yield from self.item_calls()
        yield from self.step_calls()


class TaskRequest(Struct, frozen=True):
    """A task as the command line asks for it, with the ``key=value`` that stood after it."""

    task: str
    args: Mapping[str, str] = field(default_factory=dict)
