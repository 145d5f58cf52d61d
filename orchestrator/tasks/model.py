"""Tasks as their files say them: typed, their templates compiled, not yet bound to any host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orchestrator.errors import Mark
from orchestrator.model.value import Key, Value, Values
from orchestrator.templating import Expression, ShellTemplate, TextTemplate, ValueTemplate

PARAM_TYPES = ("str", "int", "float", "bool", "list", "dict", "path", "mode")

Judgement: TypeAlias = "Expression | bool"


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a task file. Without a default and not required it is ``none``."""

    name: str
    mark: Mark
    type: str = "str"
    default: ValueTemplate | None = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    help: str = ""
    written_default: Value | None = None


@dataclass(frozen=True, slots=True)
class Modifiers:
    """What a step, an item, a task or a playbook says of all that is inside it.

    Every ``when`` must hold; ``environment`` adds up, inner over outer; the innermost
    ``chdir`` and ``timeout`` (seconds) count.
    """

    when: tuple[Judgement, ...] = ()
    environment: Mapping[Key, ValueTemplate] = field(default_factory=dict)
    chdir: ValueTemplate | None = None
    timeout: ValueTemplate | None = None


@dataclass(frozen=True, slots=True)
class Run:
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


@dataclass(frozen=True, slots=True)
class Call:
    """A task file called by its name, with arguments as written."""

    task: str
    mark: Mark
    args: Mapping[str, ValueTemplate] = field(default_factory=dict)
    written: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a task. The judgements are None where the step leaves them out."""

    does: Run | Call
    mark: Mark
    name: TextTemplate | None = None
    mods: Modifiers = Modifiers()
    register: str = ""
    changed_when: tuple[Judgement, ...] | None = None
    failed_when: tuple[Judgement, ...] | None = None
    ignore_errors: Judgement = False


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a playbook: a call by name, or a task in place."""

    does: Call | Task
    mark: Mark
    name: str = ""
    mods: Modifiers = Modifiers()


@dataclass(frozen=True, slots=True)
class Task:
    """One task file, or a task in place (named after its item).

    Exactly one of ``steps`` and ``tasks`` (a playbook) is not None. ``roles`` None means
    every host.
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

    def calls(self) -> Iterator[Call]:
        """Every call by name in this file, in the order written."""
        for step in self.steps or ():
            if isinstance(step.does, Call):
                yield step.does
        for item in self.tasks or ():
            if isinstance(item.does, Task):
                yield from item.does.calls()
            else:
                yield item.does


@dataclass(frozen=True, slots=True)
class Request:
    """A task as the command line asks for it, with the ``key=value`` that stood after it."""

    task: str
    args: Mapping[str, str] = field(default_factory=dict)
