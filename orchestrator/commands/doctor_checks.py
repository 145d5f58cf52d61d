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
from orchestrator.model.host_check import HealthFinding
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.text_encoding import encode_text
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook.model import Task, TaskCall
from orchestrator.templating import TemplateCache, ValueTemplate
from orchestrator.transports.become import BecomeCommand
from orchestrator.transports.prompts import BECOME_FILE_VARIABLE

MIN_FREE_BYTES, LOW_FREE_BYTES = (
    1 << 20,
    100 << 20,
)  # bytes free: no step could write there; it may soon be so
MAX_CLOCK_SKEW = 5.0  # seconds that clocks may differ before anybody minds
_SHORT_NUMBER = lazy_regex(r"[0-9]{1,18}")
_DF_LINE = lazy_regex(  # POSIX.1-2017 df -P; as df -Pi has it
    r"\s([0-9]{1,18})\s+([0-9]{1,18})\s+(-?[0-9]{1,18})\s+([0-9]{1,18})%\s+\S"
)
_PASSWORD_REQUIRED = lazy_regex("password is required|asks for a password")
_TTY_REQUIRED = lazy_regex("must have a tty|no tty present")
_DIRECTORY_NAMES = {"home": "the home folder", "tmp": "the folder for temporary files"}
_UNUSABLE_HINTS = {
    "missing": ("is not there", "make it"),
    "closed": ("can't be written by the login user", "let it write there"),
    "readonly": ("is read-only", "remount it, once it is known why"),
}


class DoctorReport(Struct):
    """The lines of the host, by their first words. ``become``: which of the users, the exit status
    of becoming them, and what was said. ``is_complete``: the last line is there, too."""

    values: dict[str, str] = field(default_factory=dict)
    missing_tools: set[str] = field(default_factory=set)
    become_results: list[tuple[int, int, str]] = field(default_factory=list)
    is_complete: bool = False

    @classmethod
    def parse(cls, text: str) -> DoctorReport:
        """The answers in what the host said; a line that is none is passed over."""
        report = cls()
        for line in text.splitlines():
            key, _, rest = line.partition(" ")
            if key == "lacks":
                report.missing_tools.add(rest)
            elif key == "end":
                report.is_complete = True
            elif key == "become":
                number, status, message = (*rest.split(" ", 2), "", "")[:3]
                if _SHORT_NUMBER.fullmatch(number) and _SHORT_NUMBER.fullmatch(status):
                    report.become_results.append((int(number) - 1, int(status), message))
            else:
                report.values[key] = rest
        return report

    @property
    def shell(self) -> str:
        """What its ``sh`` is."""
        return self.values.get("shell", "") or "sh"

    @property
    def free_bytes(self) -> dict[str, int]:
        """Bytes free at ``home`` and ``tmp``, as far as it told."""
        found = {}
        for directory in _DIRECTORY_NAMES:
            if match := _DF_LINE.search(self.values.get(f"{directory}.blocks", "")):
                found[directory] = max(0, int(match[3])) * 1024
        return found

    def clock_skew(self, sent_at: float, received_at: float) -> float | None:
        """How many seconds its clock is ahead of ours at the least, since it looked between
        ``sent_at`` and ``received_at``, and told whole seconds. None where it has no clock to look at.
        """
        clock_text = self.values.get("clock", "")
        if not _SHORT_NUMBER.fullmatch(clock_text):
            return None
        least, most = int(clock_text) - received_at, int(clock_text) + 1 - sent_at
        return least if least > 0 else min(most, 0.0)


def disk_findings(report: DoctorReport) -> Iterator[HealthFinding]:
    """What is wrong with where steps write. What a step brings to a host gets there by either of
    the two folders."""
    unusable = {
        directory: report.values.get(f"{directory}.is", "") for directory in _DIRECTORY_NAMES
    }
    for place, name in _DIRECTORY_NAMES.items():
        path = report.values.get(f"{place}.path", "")
        if place == "tmp" and path == report.values.get("home.path", ""):
            continue
        if unusable[place]:
            message, hint = _UNUSABLE_HINTS[unusable[place]]
            hint += "; or have TMPDIR name another" if place == "tmp" else ""
            yield HealthFinding(
                "disk", f"{name} {path} {message}", hint, fails=all(unusable.values())
            )
        elif shortage := _space_shortage(report, place):
            message, hint, fails = shortage
            yield HealthFinding("disk", f"{message} at {name} {path}", hint, fails=fails)


def _space_shortage(report: DoctorReport, directory: str) -> tuple[str, str, bool] | None:
    inodes = _DF_LINE.search(report.values.get(f"{directory}.inodes", ""))
    free = report.free_bytes.get(directory)
    if free is not None and free < MIN_FREE_BYTES:
        return "no space is left", "make room", True
    if inodes and int(inodes[1]) and not int(inodes[3]):
        return "no inode is left", "remove what has many small files", True
    if free is not None and free < LOW_FREE_BYTES:
        return f"{free >> 20} MiB of space are left", "make room before it is none", False
    return None


def clock_findings(skew: float | None) -> Iterator[HealthFinding]:
    """Whether its clock and ours differ."""
    if skew is None:
        yield HealthFinding("clock", "it does not tell the time: `date +%s` fails")
    elif abs(skew) >= MAX_CLOCK_SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        message = f"its clock is {abs(skew):.0f} s {direction} this machine's"
        hint = "see `timedatectl` on both: certificates, tokens and make go by the time"
        yield HealthFinding("clock", message, hint)


def tool_findings(report: DoctorReport, requirements: HostRequirements) -> Iterator[HealthFinding]:
    """Which commands it lacks that something here needs."""
    missing = report.missing_tools
    needed = (*STEP_TOOLS, *(MODULE_TOOLS if requirements.modules else ()))
    if lacks := [tool for tool in needed if tool in missing]:
        message = f"it lacks {', '.join(lacks)}, which modules build on"
        if set(lacks) & set(STEP_TOOLS):
            message = f"it lacks {', '.join(lacks)}, which steps need"
        hint = "they are in coreutils, diffutils, findutils, grep and sed, or all in busybox"
        yield HealthFinding(
            "tools", message, f"{hint}; or PATH leaves out where they are", fails=True
        )
    if missing.issuperset(PROCESS_GROUP_TOOLS):
        message = "it has neither setsid nor perl: a step that is ended takes its session with it"
        yield HealthFinding("tools", message, "setsid is in util-linux")
    if requirements.modules and missing.issuperset(DIGEST_TOOLS):
        message = "it has none of sha256sum, shasum and openssl, which modules compare files by"
        yield HealthFinding("tools", message, "sha256sum is in coreutils", fails=True)
    for module, choices in requirements.modules.items():
        for choice in choices:
            if missing.issuperset(choice):
                message = (
                    f"it has no {' or '.join(choice)}, which the tasks' module `{module}` needs"
                )
                yield HealthFinding(
                    "tools", message, "install it there, if the tasks do not do so before"
                )


def become_findings(
    report: DoctorReport, method: str, users: Sequence[str]
) -> Iterator[HealthFinding]:
    """Which of the users whose shells steps want it gives no shell of."""
    for number, status, message in report.become_results:
        if not status or not 0 <= number < len(users):
            continue
        user = users[number]
        if _TTY_REQUIRED.search(message):
            hint = "`Defaults !requiretty` in the host's sudoers: orch needs no terminal"
            yield HealthFinding("become", f"{method} wants a terminal: {message}", hint, fails=True)
        elif _PASSWORD_REQUIRED.search(message) and BecomeCommand.can_prompt(method):
            what = f"{method} wants a password before it gives a shell of {user}"
            hint = f"a run asks for it once, or takes it from the file that {BECOME_FILE_VARIABLE} names"
            yield HealthFinding("become", what, hint)
        else:
            error = _become_error(method, user, status, message)
            yield HealthFinding("become", error.reason, error.hint, fails=True)


def _become_error(method: str, user: str, status: int, message: str) -> ConnectError:
    try:
        return BecomeCommand(method, user).exit_error(encode_text(message), status)
    except ConnectError as error:  # no such user or method can be
        return error


STEP_TOOLS = ("cat", "sleep")
"""Commands that every step needs."""
MODULE_TOOLS = (
    *("chmod", "chown", "cmp", "cp", "cut", "date", "find", "grep", "head", "id", "ln"),
    *("ls", "mkdir", "mv", "readlink", "rm", "sed", "tail", "tr", "wc"),
)
"""Those of the functions that modules share."""
DIGEST_TOOLS = ("sha256sum", "shasum", "openssl")
PROCESS_GROUP_TOOLS = ("setsid", "perl")
"""One of which ends a step with all that it started."""


class HostRequirements(Struct, frozen=True):
    """What tasks ask of a host: the ``users`` whose shells steps run in, and the ``modules`` that
    they call, each with the commands that it requires; of those in one tuple one is enough."""

    users: tuple[str, ...] = ()
    modules: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


class RequirementsFinder:
    """Knows what all tasks of the project at ``root`` want. ``tasks_unreadable``: they can't be read, and
    want nothing as far as is known."""

    def __init__(self, root: Path) -> None:
        self.tasks_unreadable = False
        self._requirements_by_task: list[tuple[Task, HostRequirements]] = []
        try:
            loaded = playbook.load_tasks(root, None)
        except OrchError:
            self.tasks_unreadable = True
            return
        for name in loaded.index.files:
            task = loaded.by_name[name]
            called = [task, *(loaded.by_name[call.task] for call in _remote_calls(task))]
            modules = {each.name: each.module.requires for each in called if each.module}
            self._requirements_by_task.append(
                (task, HostRequirements(tuple(_become_users(task)), modules))
            )

    def requirements_of(self, host: Host) -> HostRequirements:
        """What the tasks that this host has a role for want."""
        found = [
            requirements
            for task, requirements in self._requirements_by_task
            if task.roles is None or {*map(str, task.roles)} & {*host.roles}
        ]
        users = dict.fromkeys(user for wants in found for user in wants.users)
        modules = {name: needs for wants in found for name, needs in wants.modules.items()}
        return HostRequirements(tuple(sorted(users)), dict(sorted(modules.items())))


def _remote_calls(task: Task) -> Iterator[TaskCall]:
    for step in task.all_steps():
        if isinstance(step.action, TaskCall) and not step.local:
            yield step.action


def _become_users(task: Task) -> Iterable[str]:
    """The users that stand there by name; those that depend on a host's variables do not."""
    found: dict[str, None] = {}
    task_scope = TaskScope(task, HostScope({}, {}, {}, TemplateCache()))
    for template in _become_templates(task):
        if not template.constant:
            continue
        value = template.render(task_scope)
        if value is True:
            found["root"] = None
        elif isinstance(value, str) and value.strip():
            found[value] = None
    return found


def _become_templates(task: Task) -> Iterator[ValueTemplate]:
    every = [*task.all_options(), *(step.options for step in task.all_steps() if not step.local)]
    yield from (modifiers.become for modifiers in every if modifiers.become is not None)
