"""Tasks as their files say them: typed, their templates compiled, not yet bound to any host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct, field

from orchestrator.errors import Mark
from orchestrator.model.marked_value import Key, Value, Values

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

Judgement: TypeAlias = "Expression | bool"

ArgumentTemplate: TypeAlias = "ValueTemplate | CommandTemplate"
"""What a param is given, as written; a CommandTemplate where it is a command or a list of them."""


class Param(Struct, frozen=True):
    """One parameter of a task file. Without a default and not required it is ``none``.

    ``elements`` is the type of a list's items, '' for any; an ``absolute`` path begins with / or
    with ~/.
    """

    name: str
    mark: Mark
    type: str = "str"
    default: ArgumentTemplate | None = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    help: str = ""
    secret: bool = False
    written_default: Value | None = None
    elements: str = ""
    absolute: bool = False

    @property
    def runs(self) -> bool:
        """Whether it is a command, or a list of them."""
        return "command" in (self.type, self.elements)


class Rule(Struct, frozen=True):
    """What several params of a file must be together. ``kind``: ``one_of`` (exactly one of them is
    given) or ``disjoint`` (no path in one of them is, or is in, another)."""

    kind: str
    names: tuple[Key, ...]
    mark: Mark


class Modifiers(Struct, frozen=True):
    """What a step, an item, a task or a playbook says of all that is inside it.

    Every ``when`` must hold; ``environment`` and ``tags`` add up, inner over outer; the
    innermost ``chdir``, ``timeout`` (seconds) and ``become`` (a user, or true for root) count.
    """

    when: tuple[Judgement, ...] = ()
    environment: Mapping[Key, ValueTemplate] = field(default_factory=dict)
    chdir: ValueTemplate | None = None
    timeout: ValueTemplate | None = None
    tags: tuple[str, ...] = ()
    become: ValueTemplate | None = None


class Run(Struct, frozen=True):
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


class Payload(Struct, frozen=True):
    """Bytes that a module brings along. ``kind``: ``text`` (the value itself), or ``file``,
    ``template`` and ``tree``, where the value is a path on this side; of a tree, ``exclude`` are
    the patterns of what is left out."""

    kind: str
    what: ValueTemplate
    exclude: ValueTemplate | None = None


class Fix(Struct, frozen=True):
    """What mends these keys of ``want``, or all of them where none is named."""

    keys: tuple[str, ...]
    text: ShellTemplate


ANYTHING = "anything"
"""Stands under `makes` and `reads` in place of a list."""

Extent: TypeAlias = "tuple[ValueTemplate, ...] | str | None"
"""Paths, and names of users and groups; or ANYTHING; None: nothing is said."""


class Module(Struct, frozen=True):
    """What is to be so on a host: the only step of its file.

    ``probe`` states what is; where that differs from ``want``, the fixes run, in order, and
    the probe must then state what was wanted, at most ``within`` (a duration) later. Without
    fixes it changes nothing, and is waited for. Of several ``payloads`` one is given a value;
    ``tries``: whether a check needs it on the host. ``functions`` is shell text that stands
    before probe and fixes, for what they share. ``contained``: none of them leaves a process
    behind, or asks which process it is. ``exposes``: the params that get into the arguments of
    processes, and what of them does. ``makes``: what the fixes may make, change or remove;
    ``reads``: what the probe looks at. A check goes by both. ``unique``: a text with lines of a
    name, a tab and a value, where a host can have one value for each name. ``requires``:
    the commands that it needs on a host beyond those that all modules do; of those in one tuple
    one is enough.
    """

    probe: ShellTemplate
    want: Mapping[Key, ValueTemplate] = field(default_factory=dict)
    fixes: tuple[Fix, ...] = ()
    payloads: tuple[Payload, ...] = ()
    tries: ValueTemplate | None = None
    within: ValueTemplate | None = None
    functions: ShellTemplate | None = None
    contained: Judgement = False
    exposes: Mapping[str, ValueTemplate] = field(default_factory=dict)
    makes: Extent = None
    reads: Extent = None
    unique: ValueTemplate | None = None
    requires: tuple[tuple[str, ...], ...] = ()

    @property
    def readonly(self) -> bool:
        """Whether it cannot change anything."""
        return not self.fixes


class Call(Struct, frozen=True):
    """A task file called by its name, with arguments as written; ``args``, compiled as the
    types of that file's params have it, are there once it is read. ``judged``: the modifiers
    beside it that only a module, being one step, can have."""

    task: str
    mark: Mark
    args: dict[str, ArgumentTemplate] = field(default_factory=dict)
    written: Values = field(default_factory=dict)
    judged: tuple[Key, ...] = ()


class Block(Struct, frozen=True):
    """Steps as one: where one of them fails, ``rescue`` runs in place of the rest and makes up
    for it; ``always`` runs in any case, and last."""

    steps: tuple[Step, ...]
    rescue: tuple[Step, ...] = ()
    always: tuple[Step, ...] = ()


class Control(Struct, frozen=True):
    """What this side does and no host: ``kind`` is set, fail, assert or wait.

    ``value`` is what is set (a mapping; ``names`` are its keys), the message, or the seconds;
    ``that`` is what an assert asks for.
    """

    kind: str
    value: ValueTemplate
    that: tuple[Judgement, ...] = ()
    names: tuple[str, ...] = ()


class Download(Struct, frozen=True):
    """A file that is brought from the host to this side: from ``path`` there to ``to``."""

    path: ValueTemplate
    to: ValueTemplate

    @property
    def readonly(self) -> bool:
        """Whether it leaves the host as it is."""
        return True


class Again(Struct, frozen=True):
    """Run a step again until ``until`` holds: at most ``retries`` times more, ``delay`` seconds
    after one another."""

    until: tuple[Judgement, ...]
    retries: int = 3
    delay: float = 5.0


class Loop(Struct, frozen=True):
    """Run a step for every item of ``over``: a list, or a mapping's ``key`` and ``value``.

    ``label`` is what an item is called on screen.
    """

    over: Expression | ValueTemplate
    label: TextTemplate | None = None


class Step(Struct, frozen=True):
    """One step of a task. The judgements are None where the step leaves them out. ``local``: it
    is run on this machine."""

    does: Run | Call | Block | Control | Module | Download
    mark: Mark
    name: TextTemplate | None = None
    mods: Modifiers = Modifiers()
    register: str = ""
    changed_when: tuple[Judgement, ...] | None = None
    failed_when: tuple[Judgement, ...] | None = None
    ignore_errors: Judgement = False
    loop: Loop | None = None
    again: Again | None = None
    notify: tuple[Key, ...] = ()
    delegate_to: ValueTemplate | None = None
    local: bool = False

    def inner(self) -> Iterator[Step]:
        """The step itself and, of a block, all steps in it."""
        yield self
        if isinstance(self.does, Block):
            for step in (*self.does.steps, *self.does.rescue, *self.does.always):
                yield from step.inner()


class Share(Struct, frozen=True):
    """A number of hosts, or a percentage of them."""

    number: int
    percent: bool = False

    def of(self, count: int) -> int:
        """How many of ``count`` hosts that is; a percentage is rounded down."""
        return count * self.number // 100 if self.percent else self.number


class Item(Struct, frozen=True):
    """One item of a playbook: a call by name, a task in place, or ``commit`` (None).

    ``once``: only the primary runs it (``anyone``: or, if that is out, another host).
    ``batch``: the sizes of the batches, the last one repeating; () is all hosts at once.
    ``max_failures``: how many hosts may fail in it before the run stops.
    """

    does: Call | Task | None
    mark: Mark
    name: str = ""
    mods: Modifiers = Modifiers()
    once: bool = False
    anyone: bool = False
    batch: tuple[Share, ...] = ()
    max_failures: Share | None = None


class Task(Struct, frozen=True):
    """One task file, or a task in place (named after its item).

    Exactly one of ``steps`` and ``tasks`` (a playbook) is not None. ``roles`` None means
    every host. ``before``, ``after`` and ``failed`` are the tasks that it hooks into, for the
    ``apps`` named or for all. ``rules`` are for its params.
    """

    name: str
    mark: Mark
    desc: str = ""
    roles: tuple[Key, ...] | None = None
    params: Mapping[str, Param] = field(default_factory=dict)
    vars: Values = field(default_factory=dict)
    mods: Modifiers = Modifiers()
    steps: tuple[Step, ...] | None = None
    tasks: tuple[Item, ...] | None = None
    handlers: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    rollback: tuple[Step, ...] = ()
    before: tuple[Key, ...] = ()
    after: tuple[Key, ...] = ()
    failed: tuple[Key, ...] = ()
    apps: tuple[Key, ...] = ()
    example: str = ""
    rules: tuple[Rule, ...] = ()

    @property
    def module(self) -> Module | None:
        """What a file with a ``probe`` is; its only step."""
        first = self.steps[0].does if self.steps else None
        return first if isinstance(first, Module) else None

    def in_place(self) -> Iterator[Task]:
        """The task itself and those in place in it."""
        yield self
        for item in self.tasks or ():
            if isinstance(item.does, Task):
                yield from item.does.in_place()

    def own_steps(self) -> Iterator[Step]:
        """Its steps, handlers and rollback, without those of its tasks in place."""
        for steps in (self.steps or (), self.rollback, *self.handlers.values()):
            for step in steps:
                yield from step.inner()

    def all_steps(self) -> Iterator[Step]:
        """Every step that stands in this file, those of its tasks in place included."""
        for task in self.in_place():
            yield from task.own_steps()

    def modifiers(self) -> Iterator[Modifiers]:
        """Those of this task and of its items, tasks in place included; not those of steps."""
        yield self.mods
        for item in self.tasks or ():
            yield item.mods
            if isinstance(item.does, Task):
                yield from item.does.modifiers()

    def called(self) -> Iterator[Call]:
        """Every call that is a step, in this file."""
        return (step.does for step in self.all_steps() if isinstance(step.does, Call))

    def scheduled(self) -> Iterator[Call]:
        """Every call that is an item of ``tasks``, in this file."""
        for item in self.tasks or ():
            if isinstance(item.does, Task):
                yield from item.does.scheduled()
            elif item.does is not None:
                yield item.does

    def calls(self) -> Iterator[Call]:
        """Every call by name in this file."""
        yield from self.scheduled()
        yield from self.called()


class Request(Struct, frozen=True):
    """A task as the command line asks for it, with the ``key=value`` that stood after it."""

    task: str
    args: Mapping[str, str] = field(default_factory=dict)
