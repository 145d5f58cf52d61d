"""What the project's tasks want of a host beside a shell: other users, and commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, field

from orchestrator import tasks
from orchestrator.errors import OrchError
from orchestrator.model.host import Host
from orchestrator.plan.frame import Frame
from orchestrator.plan.scope import HostScope
from orchestrator.tasks.model import Call, Task
from orchestrator.templating import Templates, ValueTemplate

STEP = ("cat", "sleep")
"""Commands that every step needs."""
MODULE = (
    *("chmod", "chown", "cmp", "cp", "cut", "date", "find", "grep", "head", "id", "ln"),
    *("ls", "mkdir", "mv", "readlink", "rm", "sed", "tail", "tr", "wc"),
)
"""Those of the functions that modules share."""
DIGEST = ("sha256sum", "shasum", "openssl")
GROUP = ("setsid", "perl")
"""One of which ends a step with all that it started."""


class Wants(Struct, frozen=True):
    """What tasks ask of a host: the ``users`` whose shells steps run in, and the ``modules`` that
    they call, each with the commands that it requires; of those in one tuple one is enough."""

    users: tuple[str, ...] = ()
    modules: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


class Wanted:
    """Knows what all tasks of the project at ``root`` want. ``broken``: they can't be read, and
    want nothing as far as is known."""

    def __init__(self, root: Path) -> None:
        self.broken = False
        self._tasks: list[tuple[Task, Wants]] = []
        try:
            loaded = tasks.load(root, None)
        except OrchError:
            self.broken = True
            return
        for name in loaded.index.files:
            task = loaded.by_name[name]
            called = [task, *(loaded.by_name[call.task] for call in _called(task))]
            modules = {each.name: each.module.requires for each in called if each.module}
            self._tasks.append((task, Wants(tuple(_users(task)), modules)))

    def of(self, host: Host) -> Wants:
        """What the tasks that this host has a role for want."""
        found = [
            wants
            for task, wants in self._tasks
            if task.roles is None or {*map(str, task.roles)} & {*host.roles}
        ]
        users = dict.fromkeys(user for wants in found for user in wants.users)
        modules = {name: needs for wants in found for name, needs in wants.modules.items()}
        return Wants(tuple(sorted(users)), dict(sorted(modules.items())))


def _called(task: Task) -> Iterator[Call]:
    for step in task.all_steps():
        if isinstance(step.does, Call) and not step.local:
            yield step.does


def _users(task: Task) -> Iterable[str]:
    """The users that stand there by name; those that depend on a host's variables do not."""
    found: dict[str, None] = {}
    frame = Frame(task, HostScope({}, {}, {}, Templates()))
    for template in _becomes(task):
        if not template.constant:
            continue
        value = template.render(frame)
        if value is True:
            found["root"] = None
        elif isinstance(value, str) and value.strip():
            found[value] = None
    return found


def _becomes(task: Task) -> Iterator[ValueTemplate]:
    every = [*task.modifiers(), *(step.mods for step in task.all_steps() if not step.local)]
    yield from (mods.become for mods in every if mods.become is not None)
