"""The scenarios: hosts, connections, and steps that each write a line on their host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.projects import OrchProject
from tests.support.link_faults import LinkDirection

BIG = 300_000  # bytes: a file of this size takes a channel of its own
OTHER = "carl"  # who is become
LOGINS: tuple[Mapping[str, str], ...] = (
    {"user": "free"},
    {"user": "alice"},
    {"user": "alice", "become_method": "su"},
)
"""Connect settings that the hosts take turns in, where others are become: free needs no password
for it, alice has one, and su wants carl's, which is the same."""


@dataclass(frozen=True, slots=True)
class FaultScenario:
    """A scenario of runs with faults.

    ``tasks`` by name: the kinds of their steps, ``carl:KIND`` for one that runs as carl,
    ``HOST:KIND`` for one that is delegated. ``jump_hosts``: the hosts behind each jump host.
    ``delegates``: hosts that steps are delegated to and that are not part of the run.
    ``is_undone``: the tasks have rollbacks, which write a line here and one on this host, if given.
    ``is_locked``: the tasks are an app's, and so are the locks. ``once``: tasks that run on the
    first host only. ``is_kept``: the connections are kept, and every second run finds them open.
    ``bytes_up`` and ``bytes_down``: the approximate size of a connection's
    streams; ``more``: what a delegate receives and sends in addition for each other host.
    """

    name: str
    tasks: dict[str, list[str]]
    count: int = 20
    jump_hosts: tuple[str, ...] = ()
    transport: str = "ssh"
    bytes_up: int = 9000
    bytes_down: int = 8000
    more: int = 0
    mixes: tuple[str, ...] = ("cut", "cut", "cut", "slow", "cut", "cut", "cut", "stall")
    is_undone: bool = False
    undone_on: str = ""
    is_locked: bool = False
    delegates: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    is_kept: bool = False

    @property
    def hosts(self) -> list[str]:
        return [f"h{number:02}" for number in range(self.count)]

    @property
    def addresses(self) -> dict[str, str]:
        """Return the addresses of hosts, jump hosts and delegates, by name."""
        own = {name: f"127.9.1.{number + 1}" for number, name in enumerate(self.hosts)}
        hops = {name: f"127.9.2.{number + 1}" for number, name in enumerate(self.jump_hosts)}
        others = {name: f"127.9.4.{number + 1}" for number, name in enumerate(self.delegates)}
        return own | hops | others

    @property
    def needs_become(self) -> bool:
        """Return True if steps run as another user, with accounts of a private machine."""
        return any(_step_parts(step)[0] for steps in self.tasks.values() for step in steps)

    def jump_host_of(self, host: str) -> str:
        """Return the jump host of this host, or ''."""
        if not self.jump_hosts or host not in self.hosts:
            return ""
        return self.jump_hosts[self.hosts.index(host) % len(self.jump_hosts)]

    def delegates_of(self, host: str) -> set[str]:
        """Return the other hosts that this host's steps are delegated to."""
        on = {_step_parts(step)[1] for steps in self.tasks.values() for step in steps}
        return (on | {self.undone_on}) - {"", host}

    def stream_lengths(self, host: str) -> dict[LinkDirection, int]:
        """Return the lengths of the streams to this host.

        Those of a jump host include the hosts behind it, those of a delegate all hosts' steps.
        """
        times, more = self.count // len(self.jump_hosts) if host in self.jump_hosts else 1, 0
        if any(host in self.delegates_of(other) for other in self.hosts):
            times, more = self.count // 2, self.count * self.more
        return {
            LinkDirection.TO_SERVER: self.bytes_up * times + more,
            LinkDirection.TO_CLIENT: self.bytes_down * times + more,
        }

    def expected_lines(self, host: str) -> list[str]:
        """Return the lines that the steps write on this host without faults, in order.

        A line has the step, and the become user or the delegate.
        """
        return [
            f"{task}.{number}{self._trace(step)}"
            for task, steps in self.tasks.items()
            for number, step in enumerate(steps, 1)
            if _step_parts(step)[2] not in ("copy", "download")
            if task not in self.once or host == self.hosts[0]
        ]

    def rollback_lines(self) -> set[str]:
        """Return the lines that rollbacks write on a host without faults."""
        on = f"@{self.addresses[self.undone_on]}" if self.undone_on else ""
        own = {f"undo.{task}" for task in self.tasks if self.is_undone}
        return own | {f"undone.{task}{on}" for task in self.tasks if on}

    def step_kinds(self) -> dict[str, list[str]]:
        """Return the kinds of the tasks' steps, without become user and delegate."""
        return {
            task: [_step_parts(step)[2] for step in steps] for task, steps in self.tasks.items()
        }

    def write_project(self, project: OrchProject, server: dict[str, object], runs: Path) -> None:
        """Write the project. The steps of a run write into a folder of ``runs`` with its name."""
        connect = {**server, "transport": self.transport}
        hosts: dict[str, object] = {}
        for number, (name, address) in enumerate(self.addresses.items()):
            own: dict[str, str] = {"jump": hop} if (hop := self.jump_host_of(name)) else {}
            if self.needs_become:
                own |= LOGINS[number % len(LOGINS)]
            hosts[name] = {"address": address, "connect": own}
        project.write(
            {
                "inventories/real/stage.yml": json.dumps({"connect": connect}),
                "inventories/real/hosts.yml": json.dumps(hosts),
            }
        )
        if self.is_locked:
            locks = f"vars: {{lock_path: '{_log_path(runs)}.lock'}}\n"
            project.write({"inventories/real/apps/blog.yml": locks})
        items = [{task: {}, **({"once": True} if task in self.once else {})} for task in self.tasks]
        project.write({"tasks/all.yml": json.dumps({"tasks": items})})
        (project.root / "tasks/big.bin").write_bytes(bytes(range(256)) * (BIG // 256))
        for task, steps in self.tasks.items():
            text = "steps:\n" + "".join(
                self._step(task, number, step, runs) for number, step in enumerate(steps, 1)
            )
            if self.is_undone:
                text += f"rollback:\n- run: echo undo.{task} >> {_log_path(runs)}\n"
            if self.undone_on:
                text += f"- run: {_write_label(f'undone.{task}', runs)}\n  delegate_to: {self.undone_on}\n"
            project.write({f"tasks/{task}.yml": text})

    def _trace(self, step: str) -> str:
        user, on, _ = _step_parts(step)
        return f"@{user or self.addresses[on]}" if user or on else ""

    def _step(self, task: str, number: int, step: str, runs: Path) -> str:
        user, on, kind = _step_parts(step)
        log = _log_path(runs)
        line = f"echo {task}.{number}{'@$USER' if user else ''} >> {log}"
        if on and not user:
            line = _write_label(f"{task}.{number}", runs)
        text = {
            "copy": f"- copy: {{src: big.bin, path: '{log}.there'}}\n",
            "download": f"- download: {{path: '{log}.there', to: '{log}.here'}}\n",
            "run": f"- run: {line}\n",
            "says": f"- run: {line}; seq 1 600; seq 1 200 >&2\n  register: r{number}\n",
            "asks": f"- run: {line}; echo {{{{ r{number - 1}.exit_status }}}} {{{{ r{number - 1}.stdout }}}} | wc\n",
            "slow": f"- run: {line}; sleep .05; echo late\n",
            "tries": f"- run: {line}\n  until: result.exit_status == 0\n  retries: 3\n  delay: 0\n",
            "floods": f"- run: {line}; yes | head -c 3000000\n",
        }[kind]
        text += f"  become: {user}\n" if user else ""
        return text + (f"  delegate_to: {on}\n" if on else "")


def _log_path(runs: Path) -> str:
    return f"{runs}/{{{{ run.id }}}}/{{{{ host.name }}}}"


def _write_label(label: str, runs: Path) -> str:
    """Return a command that writes the label and the address, which identifies the host."""
    return f"set -- $SSH_CONNECTION; echo {label}@$3 >> {_log_path(runs)}"


def _step_parts(step: str) -> tuple[str, str, str]:
    """Return a step's become user, delegate and kind."""
    *before, kind = step.split(":")
    user = OTHER if OTHER in before else ""
    return user, next((name for name in before if name != OTHER), ""), kind


PLAIN = FaultScenario(
    "plain", {"one": ["run", "says", "asks", "slow", "run"], "two": ["run", "tries"]}
)
UNDO = FaultScenario(
    "undo", {"one": ["run", "says", "asks"], "two": ["run", "slow"]}, is_undone=True
)
LOCKS = FaultScenario(
    "locks",
    {"one": ["run", "says", "asks"], "two": ["run"]},
    count=4,
    is_undone=True,
    is_locked=True,
)
FILES = FaultScenario(
    "files",
    {"one": ["run", "copy", "run", "download", "run"]},
    count=12,
    bytes_up=330_000,
    bytes_down=320_000,
)
FLOOD = FaultScenario("flood", {"one": ["run", "floods", "run"]}, count=6, bytes_down=3_100_000)
JUMP = FaultScenario(
    "jump",
    {"one": ["run", "says", "asks", "slow"], "two": ["run"]},
    jump_hosts=("b1", "b2"),
)
OPENSSH = FaultScenario(
    "openssh", {"one": ["run", "says", "asks"], "two": ["run"]}, count=8, transport="openssh"
)
BECOME = FaultScenario(
    "become",
    {"one": ["run", "carl:says", "asks", "carl:slow"], "two": ["carl:run", "carl:tries", "run"]},
    count=12,
    bytes_up=16_000,
    bytes_down=12_000,
    is_undone=True,
)
BECOME_FILES = FaultScenario(
    "become-files",
    {"one": ["run", "carl:copy", "carl:run", "carl:download", "run"]},
    count=6,
    bytes_up=340_000,
    bytes_down=325_000,
)
BECOME_OPENSSH = FaultScenario(
    "become-openssh", {"one": ["run", "carl:says", "asks"]}, count=6, transport="openssh"
)
KEPT = FaultScenario(
    "kept",
    {"one": ["run", "says", "asks", "slow", "run"], "two": ["run", "tries"]},
    bytes_up=7000,
    bytes_down=5000,
    is_kept=True,
)
KEPT_JUMP = FaultScenario(
    "kept-jump",
    {"one": ["run", "says", "asks"], "two": ["run"]},
    count=10,
    jump_hosts=("b1", "b2"),
    bytes_up=7000,
    bytes_down=5000,
    is_kept=True,
)
DELEGATE = FaultScenario(
    "delegate",
    {"one": ["run", "d1:says", "asks", "h00:run", "run"], "two": ["d1:run", "d1:tries"]},
    count=8,
    bytes_up=11_000,
    is_undone=True,
    undone_on="d1",
    delegates=("d1",),
)
DELEGATE_FILES = FaultScenario(
    "delegate-files",
    {"one": ["run", "d1:copy", "run", "d1:download", "run"]},
    count=5,
    more=300_000,
    delegates=("d1",),
)
ONCE = FaultScenario(
    "once",
    {"one": ["run"], "solo": ["run", "says", "asks"], "three": ["run", "d1:carl:run", "run"]},
    count=6,
    is_undone=True,
    delegates=("d1",),
    once=("solo",),
)
ALL = {
    each.name: each
    for each in (
        *(PLAIN, UNDO, LOCKS, FILES, FLOOD, JUMP, OPENSSH, KEPT, KEPT_JUMP),
        *(BECOME, BECOME_FILES, BECOME_OPENSSH, DELEGATE, DELEGATE_FILES, ONCE),
    )
}
