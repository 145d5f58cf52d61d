"""What a host answered to `orch doctor`, and what is to be thought of it.

What the project's tasks want of a host beside a shell: other users, and commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from orchestrator import playbook
from orchestrator.errors import ConnectError, OrchError
from orchestrator.model.host import Host
from orchestrator.model.host_check import Trouble
from orchestrator.model.lazy_regex import regex
from orchestrator.model.text_encoding import encode
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.model import Call, Task
from orchestrator.templating import Templates, ValueTemplate
from orchestrator.transports.become import Become
from orchestrator.transports.prompts import BECOME_FILE

FULL, SCARCE = 1 << 20, 100 << 20  # bytes free: no step could write there; it may soon be so
SKEW = 5.0  # seconds that clocks may differ before anybody minds
_NUMBER = regex(r"[0-9]{1,18}")
_DF = regex(  # POSIX.1-2017 df -P; as df -Pi has it
    r"\s([0-9]{1,18})\s+([0-9]{1,18})\s+(-?[0-9]{1,18})\s+([0-9]{1,18})%\s+\S"
)
_PASSWORD = regex("password is required|asks for a password")
_TTY = regex("must have a tty|no tty present")
_NAMES = {"home": "the home folder", "tmp": "the folder for temporary files"}
_UNUSABLE = {
    "missing": ("is not there", "make it"),
    "closed": ("can't be written by the login user", "let it write there"),
    "readonly": ("is read-only", "remount it, once it is known why"),
}


class Answers(Struct):
    """The lines of the host, by their first words. ``become``: which of the users, the exit status
    of becoming them, and what was said. ``whole``: the last line is there, too."""

    one: dict[str, str] = field(default_factory=dict)
    lacks: set[str] = field(default_factory=set)
    become: list[tuple[int, int, str]] = field(default_factory=list)
    whole: bool = False

    @classmethod
    def read(cls, text: str) -> Answers:
        """The answers in what the host said; a line that is none is passed over."""
        found = cls()
        for line in text.splitlines():
            key, _, rest = line.partition(" ")
            if key == "lacks":
                found.lacks.add(rest)
            elif key == "end":
                found.whole = True
            elif key == "become":
                number, status, said = (*rest.split(" ", 2), "", "")[:3]
                if _NUMBER.fullmatch(number) and _NUMBER.fullmatch(status):
                    found.become.append((int(number) - 1, int(status), said))
            else:
                found.one[key] = rest
        return found

    @property
    def shell(self) -> str:
        """What its ``sh`` is."""
        return self.one.get("shell", "") or "sh"

    @property
    def free(self) -> dict[str, int]:
        """Bytes free at ``home`` and ``tmp``, as far as it told."""
        found = {}
        for place in _NAMES:
            if match := _DF.search(self.one.get(f"{place}.blocks", "")):
                found[place] = max(0, int(match[3])) * 1024
        return found

    def skew(self, sent: float, heard: float) -> float | None:
        """How many seconds its clock is ahead of ours at the least, since it looked between
        ``sent`` and ``heard``, and told whole seconds. None where it has no clock to look at.
        """
        said = self.one.get("clock", "")
        if not _NUMBER.fullmatch(said):
            return None
        least, most = int(said) - heard, int(said) + 1 - sent
        return least if least > 0 else min(most, 0.0)


def disk(answers: Answers) -> Iterator[Trouble]:
    """What is wrong with where steps write. What a step brings to a host gets there by either of
    the two folders."""
    odd = {place: answers.one.get(f"{place}.is", "") for place in _NAMES}
    for place, name in _NAMES.items():
        path = answers.one.get(f"{place}.path", "")
        if place == "tmp" and path == answers.one.get("home.path", ""):
            continue
        if odd[place]:
            what, hint = _UNUSABLE[odd[place]]
            hint += "; or have TMPDIR name another" if place == "tmp" else ""
            yield Trouble("disk", f"{name} {path} {what}", hint, fails=all(odd.values()))
        elif found := _full(answers, place):
            what, hint, fails = found
            yield Trouble("disk", f"{what} at {name} {path}", hint, fails=fails)


def _full(answers: Answers, place: str) -> tuple[str, str, bool] | None:
    inodes = _DF.search(answers.one.get(f"{place}.inodes", ""))
    free = answers.free.get(place)
    if free is not None and free < FULL:
        return "no space is left", "make room", True
    if inodes and int(inodes[1]) and not int(inodes[3]):
        return "no inode is left", "remove what has many small files", True
    if free is not None and free < SCARCE:
        return f"{free >> 20} MiB of space are left", "make room before it is none", False
    return None


def clock(skew: float | None) -> Iterator[Trouble]:
    """Whether its clock and ours differ."""
    if skew is None:
        yield Trouble("clock", "it does not tell the time: `date +%s` fails")
    elif abs(skew) >= SKEW:
        where = "ahead of" if skew > 0 else "behind"
        what = f"its clock is {abs(skew):.0f} s {where} this machine's"
        hint = "see `timedatectl` on both: certificates, tokens and make go by the time"
        yield Trouble("clock", what, hint)


def tools(answers: Answers, wants: Wants) -> Iterator[Trouble]:
    """Which commands it lacks that something here needs."""
    missing = answers.lacks
    needed = (*STEP, *(MODULE if wants.modules else ()))
    if lacks := [tool for tool in needed if tool in missing]:
        what = f"it lacks {', '.join(lacks)}, which modules build on"
        if set(lacks) & set(STEP):
            what = f"it lacks {', '.join(lacks)}, which steps need"
        hint = "they are in coreutils, diffutils, findutils, grep and sed, or all in busybox"
        yield Trouble("tools", what, f"{hint}; or PATH leaves out where they are", fails=True)
    if missing.issuperset(GROUP):
        what = "it has neither setsid nor perl: a step that is ended takes its session with it"
        yield Trouble("tools", what, "setsid is in util-linux")
    if wants.modules and missing.issuperset(DIGEST):
        what = "it has none of sha256sum, shasum and openssl, which modules compare files by"
        yield Trouble("tools", what, "sha256sum is in coreutils", fails=True)
    for module, choices in wants.modules.items():
        for choice in choices:
            if missing.issuperset(choice):
                what = f"it has no {' or '.join(choice)}, which the tasks' module `{module}` needs"
                yield Trouble("tools", what, "install it there, if the tasks do not do so before")


def become(answers: Answers, method: str, users: Sequence[str]) -> Iterator[Trouble]:
    """Which of the users whose shells steps want it gives no shell of."""
    for number, status, said in answers.become:
        if not status or not 0 <= number < len(users):
            continue
        user = users[number]
        if _TTY.search(said):
            hint = "`Defaults !requiretty` in the host's sudoers: orch needs no terminal"
            yield Trouble("become", f"{method} wants a terminal: {said}", hint, fails=True)
        elif _PASSWORD.search(said) and Become.can_ask(method):
            what = f"{method} wants a password before it gives a shell of {user}"
            hint = f"a run asks for it once, or takes it from the file that {BECOME_FILE} names"
            yield Trouble("become", what, hint)
        else:
            error = _refusal(method, user, status, said)
            yield Trouble("become", error.why, error.hint, fails=True)


def _refusal(method: str, user: str, status: int, said: str) -> ConnectError:
    try:
        return Become(method, user).refused(encode(said), status)
    except ConnectError as error:  # no such user or method can be
        return error


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
            loaded = playbook.load(root, None)
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
