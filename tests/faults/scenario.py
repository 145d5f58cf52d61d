"""What the runs do: hosts, ways to them, and steps that each leave a line on their host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Way
from tests.projects import Project

BIG = 300_000  # bytes: a file of this size takes a channel of its own


@dataclass(frozen=True, slots=True)
class Scenario:
    """``tasks`` by name: what kinds of steps they have. ``hops``: which hosts stand behind
    which jump host, by its name. ``undone``: the tasks have rollbacks; ``locked``: they are an
    app's, and so are its locks. ``up`` and ``down``: about how many bytes a connection has.
    """

    name: str
    tasks: dict[str, list[str]]
    count: int = 20
    hops: tuple[str, ...] = ()
    transport: str = "ssh"
    up: int = 9000
    down: int = 8000
    mixes: tuple[str, ...] = ("cut", "cut", "cut", "slow", "cut", "cut", "cut", "stall")
    undone: bool = False
    locked: bool = False

    @property
    def hosts(self) -> list[str]:
        return [f"h{number:02}" for number in range(self.count)]

    @property
    def addresses(self) -> dict[str, str]:
        """Of the hosts and jump hosts, by name."""
        own = {name: f"127.9.1.{number + 1}" for number, name in enumerate(self.hosts)}
        return own | {name: f"127.9.2.{number + 1}" for number, name in enumerate(self.hops)}

    def hop(self, host: str) -> str:
        """The jump host before this one, '' for none."""
        return self.hops[self.hosts.index(host) % len(self.hops)] if self.hops else ""

    def span(self, host: str) -> dict[Way, int]:
        """How long the streams to this host are: a jump host carries all those behind it."""
        times = self.count // len(self.hops) if host in self.hops else 1
        return {Way.UP: self.up * times, Way.DOWN: self.down * times}

    @property
    def order(self) -> list[str]:
        """What the steps write on a host where nothing happens, in order."""
        return [
            f"{task}.{number}"
            for task, steps in self.tasks.items()
            for number, module in enumerate(steps, 1)
            if module not in ("copy", "download")
        ]

    def write(self, project: Project, server: dict[str, object], runs: Path) -> None:
        """The project. What the steps of a run leave is in a folder of its name below ``runs``."""
        connect = {**server, "transport": self.transport}
        hosts: dict[str, object] = {}
        for name, address in self.addresses.items():
            own = {"jump": self.hop(name)} if self.hops and name in self.hosts else {}
            hosts[name] = {"address": address, "connect": own}
        project.write(
            {
                "inventories/real/stage.yml": json.dumps({"connect": connect}),
                "inventories/real/hosts.yml": json.dumps(hosts),
            }
        )
        if self.locked:
            locks = f"vars: {{lock_path: '{_log(runs)}.lock'}}\n"
            project.write({"inventories/real/apps/blog.yml": locks})
        (project.root / "tasks").mkdir()
        (project.root / "tasks/big.bin").write_bytes(bytes(range(256)) * (BIG // 256))
        for task, steps in self.tasks.items():
            text = "steps:\n" + "".join(
                _step(task, number, module, runs) for number, module in enumerate(steps, 1)
            )
            if self.undone:
                text += f"rollback:\n- run: echo undo.{task} >> {_log(runs)}\n"
            project.write({f"tasks/{task}.yml": text})


def _log(runs: Path) -> str:
    return f"{runs}/{{{{ run.id }}}}/{{{{ host.name }}}}"


def _step(task: str, number: int, module: str, runs: Path) -> str:
    log = _log(runs)
    if module == "copy":
        return f"- copy: {{src: big.bin, path: '{log}.there'}}\n"
    if module == "download":
        return f"- download: {{path: '{log}.there', to: '{log}.here'}}\n"
    line = f"echo {task}.{number} >> {log}"
    return {
        "run": f"- run: {line}\n",
        "says": f"- run: {line}; seq 1 600; seq 1 200 >&2\n  register: r{number}\n",
        "asks": f"- run: {line}; echo {{{{ r{number - 1}.exit_status }}}} {{{{ r{number - 1}.stdout }}}} | wc\n",
        "slow": f"- run: {line}; sleep .05; echo late\n",
        "tries": f"- run: {line}\n  until: result.exit_status == 0\n  retries: 3\n  delay: 0\n",
        "floods": f"- run: {line}; yes | head -c 3000000\n",
    }[module]


PLAIN = Scenario("plain", {"one": ["run", "says", "asks", "slow", "run"], "two": ["run", "tries"]})
UNDO = Scenario("undo", {"one": ["run", "says", "asks"], "two": ["run", "slow"]}, undone=True)
LOCKS = Scenario(
    "locks", {"one": ["run", "says", "asks"], "two": ["run"]}, count=4, undone=True, locked=True
)
FILES = Scenario(
    "files",
    {"one": ["run", "copy", "run", "download", "run"]},
    count=12,
    up=330_000,
    down=320_000,
)
FLOOD = Scenario("flood", {"one": ["run", "floods", "run"]}, count=6, down=3_100_000)
JUMP = Scenario(
    "jump",
    {"one": ["run", "says", "asks", "slow"], "two": ["run"]},
    hops=("b1", "b2"),
)
OPENSSH = Scenario(
    "openssh", {"one": ["run", "says", "asks"], "two": ["run"]}, count=8, transport="openssh"
)
ALL = {each.name: each for each in (PLAIN, UNDO, LOCKS, FILES, FLOOD, JUMP, OPENSSH)}
