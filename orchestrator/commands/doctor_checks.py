"""Evaluates a host's report to `orch doctor`, and finds the requirements of the project's tasks.

Tasks may require become users and commands, in addition to a shell.
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
)  # bytes; below the first, no step can write; below the second, warn
MAX_CLOCK_SKEW = 5.0  # seconds that clocks may differ without a warning
_SHORT_NUMBER = lazy_regex(r"[0-9]{1,18}")
_DF_LINE = lazy_regex(  # POSIX.1-2017 df -P, and the format of df -Pi
    r"\s([0-9]{1,18})\s+([0-9]{1,18})\s+(-?[0-9]{1,18})\s+([0-9]{1,18})%\s+\S"
)
_PASSWORD_REQUIRED = lazy_regex("password is required|asks for a password")
_TTY_REQUIRED = lazy_regex("must have a tty|no tty present")
_DIRECTORY_NAMES = {"home": "the home folder", "tmp": "the folder for temporary files"}
_UNUSABLE_HINTS = {
    "missing": ("does not exist", "create it"),
    "closed": ("can't be written by the login user", "make it writable"),
    "readonly": ("is read-only", "find the cause, then remount it"),
}


class DoctorReport(Struct):
    """The lines of a host's report, by their first words.

    ``become_results``: index of the user, exit status of become, and its message. ``is_complete``:
    the last line is there.
    """

    values: dict[str, str] = field(default_factory=dict)
    missing_tools: set[str] = field(default_factory=set)
    become_results: list[tuple[int, int, str]] = field(default_factory=list)
    is_complete: bool = False

    @classmethod
    def parse(cls, text: str) -> DoctorReport:
        """Parse a report; unknown lines are ignored."""
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
        """Return which shell the host's ``sh`` is."""
        return self.values.get("shell", "") or "sh"

    @property
    def free_bytes(self) -> dict[str, int]:
        """Return the free bytes at ``home`` and ``tmp``, as far as reported."""
        found = {}
        for directory in _DIRECTORY_NAMES:
            if match := _DF_LINE.search(self.values.get(f"{directory}.blocks", "")):
                found[directory] = max(0, int(match[3])) * 1024
        return found

    def clock_skew(self, sent_at: float, received_at: float) -> float | None:
        """Return how many seconds the host's clock is ahead of the local one, at least.

        The host read its clock between ``sent_at`` and ``received_at``, and reported whole seconds.
        Return None if it has no readable clock.
        """
        clock_text = self.values.get("clock", "")
        if not _SHORT_NUMBER.fullmatch(clock_text):
            return None
        least, most = int(clock_text) - received_at, int(clock_text) + 1 - sent_at
        return least if least > 0 else min(most, 0.0)


def disk_findings(report: DoctorReport) -> Iterator[HealthFinding]:
    """Yield problems of the folders in which steps write.

    Uploads use either of the two folders.
    """
    unusable = {
        directory: report.values.get(f"{directory}.is", "") for directory in _DIRECTORY_NAMES
    }
    for directory, name in _DIRECTORY_NAMES.items():
        path = report.values.get(f"{directory}.path", "")
        if directory == "tmp" and path == report.values.get("home.path", ""):
            continue
        if unusable[directory]:
            message, hint = _UNUSABLE_HINTS[unusable[directory]]
            hint += "; or set TMPDIR to another folder" if directory == "tmp" else ""
            yield HealthFinding(
                "disk", f"{name} {path} {message}", hint, fails=all(unusable.values())
            )
        elif shortage := _space_shortage(report, directory):
            message, hint, fails = shortage
            yield HealthFinding("disk", f"{message} at {name} {path}", hint, fails=fails)


def _space_shortage(report: DoctorReport, directory: str) -> tuple[str, str, bool] | None:
    inodes = _DF_LINE.search(report.values.get(f"{directory}.inodes", ""))
    free = report.free_bytes.get(directory)
    if free is not None and free < MIN_FREE_BYTES:
        return "no space is left", "free some disk space", True
    if inodes and int(inodes[1]) and not int(inodes[3]):
        return "no inode is left", "remove folders with many small files", True
    if free is not None and free < LOW_FREE_BYTES:
        return f"{free >> 20} MiB of space are left", "free some disk space", False
    return None


def clock_findings(skew: float | None) -> Iterator[HealthFinding]:
    """Yield a finding if the host's clock and the local one differ."""
    if skew is None:
        yield HealthFinding("clock", "cannot read the host's clock: `date +%s` failed")
    elif abs(skew) >= MAX_CLOCK_SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        message = f"its clock is {abs(skew):.0f} s {direction} this machine's"
        hint = "see `timedatectl` on both: certificates, tokens and make depend on the time"
        yield HealthFinding("clock", message, hint)


def tool_findings(report: DoctorReport, requirements: HostRequirements) -> Iterator[HealthFinding]:
    """Yield findings for commands that are missing on the host and needed."""
    missing = report.missing_tools
    needed = (*STEP_TOOLS, *(MODULE_TOOLS if requirements.modules else ()))
    if lacks := [tool for tool in needed if tool in missing]:
        message = f"missing {', '.join(lacks)}, which modules need"
        if set(lacks) & set(STEP_TOOLS):
            message = f"missing {', '.join(lacks)}, which steps need"
        hint = "they are in coreutils, diffutils, findutils, grep and sed, or all in busybox"
        yield HealthFinding("tools", message, f"{hint}; or add their folder to PATH", fails=True)
    if missing.issuperset(PROCESS_GROUP_TOOLS):
        message = "without setsid or perl, killing a timed-out step also kills its shell session"
        yield HealthFinding("tools", message, "setsid is in util-linux")
    if requirements.modules and missing.issuperset(DIGEST_TOOLS):
        message = "missing sha256sum, shasum or openssl, which modules need to compare files"
        yield HealthFinding("tools", message, "sha256sum is in coreutils", fails=True)
    for module, choices in requirements.modules.items():
        for choice in choices:
            if missing.issuperset(choice):
                message = f"missing {' or '.join(choice)}, which the tasks' module `{module}` needs"
                yield HealthFinding(
                    "tools", message, "install it on the host, unless the tasks do so first"
                )


def become_findings(
    report: DoctorReport, method: str, users: Sequence[str]
) -> Iterator[HealthFinding]:
    """Yield findings for become users whose shell cannot be started, or requires a password."""
    for number, status, message in report.become_results:
        if not status or not 0 <= number < len(users):
            continue
        user = users[number]
        if _TTY_REQUIRED.search(message):
            hint = "`Defaults !requiretty` in the host's sudoers: orch needs no terminal"
            yield HealthFinding(
                "become", f"{method} requires a terminal: {message}", hint, fails=True
            )
        elif _PASSWORD_REQUIRED.search(message) and BecomeCommand.can_prompt(method):
            reason = f"{method} requires a password to become {user}"
            hint = f"a run prompts for it once, or reads the file named by {BECOME_FILE_VARIABLE}"
            yield HealthFinding("become", reason, hint)
        else:
            error = _become_error(method, user, status, message)
            yield HealthFinding("become", error.reason, error.hint, fails=True)


def _become_error(method: str, user: str, status: int, message: str) -> ConnectError:
    try:
        return BecomeCommand(method, user).exit_error(encode_text(message), status)
    except ConnectError as error:  # an invalid user or method
        return error


STEP_TOOLS = ("cat", "sleep")
"""Commands that every step needs."""
MODULE_TOOLS = (
    *("chmod", "chown", "cmp", "cp", "cut", "date", "find", "grep", "head", "id", "ln"),
    *("ls", "mkdir", "mv", "readlink", "rm", "sed", "tail", "tr", "wc"),
)
"""Commands of the functions that modules share."""
DIGEST_TOOLS = ("sha256sum", "shasum", "openssl")
PROCESS_GROUP_TOOLS = ("setsid", "perl")
"""One of these is needed to end a step with all its processes."""


class HostRequirements(Struct, frozen=True):
    """Requirements of tasks on a host.

    ``users`` are the become users of steps. ``modules`` are the called modules, each with the
    commands that it requires; one command of each tuple is sufficient.
    """

    users: tuple[str, ...] = ()
    modules: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


class RequirementsFinder:
    """Finds the requirements of all tasks of the project at ``root``.

    ``tasks_unreadable``: the tasks have errors, so no requirements are known.
    """

    def __init__(self, root: Path) -> None:
        """Load the tasks and collect their requirements."""
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
        """Return the requirements of the tasks whose roles the host has."""
        found = [
            requirements
            for task, requirements in self._requirements_by_task
            if task.roles is None or {*map(str, task.roles)} & {*host.roles}
        ]
        users = dict.fromkeys(user for requirements in found for user in requirements.users)
        if host.connect.become:
            users[host.connect.become_user or "root"] = None
        modules = {
            name: needs for requirements in found for name, needs in requirements.modules.items()
        }
        return HostRequirements(tuple(sorted(users)), dict(sorted(modules.items())))


def _remote_calls(task: Task) -> Iterator[TaskCall]:
    for step in task.all_steps():
        if isinstance(step.action, TaskCall) and not step.local:
            yield step.action


def _become_users(task: Task) -> Iterable[str]:
    """Return become users that are given by name, and do not depend on a host's variables."""
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
