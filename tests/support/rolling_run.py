"""A rolling run of three tasks whose steps leave marks on their hosts, and can be held there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.projects import OrchProject
from tests.sshd import SshdServer, serve_sshd, wait_until

HOSTS = {f"web{number}": f"127.0.9.{number}" for number in range(1, 5)}
TIMEOUT = 60.0  # seconds, for whatever is waited for
STEPS = ("one.1", "one.2", "one.told", "two.1", "two.2", "three.1")
"""The marks that a complete run leaves on each host."""

_MARK = """\
#!/bin/sh
# HOST NAME: note that this begins, and that it ends; wait as long as it is held.
cd {state} || exit
echo "$2" >>begun-$1
if [ -e hold-$1-$2 ]; then echo $$ >>pids; mv hold-$1-$2 held-$1-$2-$$; fi
while [ -e held-$1-$2-$$ ]; do sleep .05; done
[ ! -e fail-$1-$2 ] || {{ echo "$2" >>failed-$1; exit 1; }}
echo "$2" >>ended-$1
"""
_INVENTORY = """\
#!/bin/sh
# The hosts; those who read them after the first one wait as long as it is held.
echo $PPID >>{state}/planners
[ -s {state}/planned ] || {{ echo >{state}/planned; exec cat {state}/hosts.json; }}
while [ -e {state}/hold-plan ]; do sleep .05; done
exec cat {state}/hosts.json
"""
_LOCK_COMMAND = """\
#!/bin/sh
# The system's command; it is marked if its last argument is a lock.
for last; do :; done
case $last in
{state}/locks/*.*) ;;
{state}/locks/*) {state}/mark "${{last##*/}}" {mark};;
esac
exec {path} "$@"
"""


@dataclass(frozen=True, slots=True)
class RollingRun:
    """A project with the run, and what its hosts tell; ``state`` is the folder of that."""

    project: OrchProject
    sshd: SshdServer
    state: Path

    words = ("-s", "dev", "run", "site", "--app", "shop", "--json")

    def hold(self, host: str, mark: str) -> None:
        """Let what leaves this mark wait on the host."""
        (self.state / f"hold-{host}-{mark}").touch()

    def fail(self, host: str, mark: str) -> None:
        """Let what leaves this mark fail on the host."""
        (self.state / f"fail-{host}-{mark}").touch()

    def is_held(self, host: str, mark: str) -> bool:
        """Return True if what leaves this mark waits on the host."""
        return any(self.state.glob(f"held-{host}-{mark}-*"))

    def go_on(self) -> None:
        """Let everything go on, and nothing fail."""
        for kind in ("hold", "held", "fail"):
            for path in self.state.glob(f"{kind}-*"):
                path.unlink()

    def go_on_with(self, host: str, mark: str) -> None:
        """Let what leaves this mark go on, on this host."""
        for path in self.state.glob(f"held-{host}-{mark}-*"):
            path.unlink()

    def marks(self, kind: str) -> Counter[tuple[str, str]]:
        """Return how often each mark was left by each host; ``kind`` is begun, ended or failed."""
        found: Counter[tuple[str, str]] = Counter()
        for host in HOSTS:
            with suppress(FileNotFoundError):
                lines = (self.state / f"{kind}-{host}").read_text().split()
                found.update((host, line) for line in lines)
        return found

    def reported(self, host: str, event: str = "step_finished") -> int:
        """Return how many steps of a host have ended, or so, according to the run's journal."""
        lines = [
            line
            for path in self.project.root.glob(".orch/runs/*/events.jsonl")
            for line in path.read_text().splitlines()
        ]
        return sum(f'"{event}"' in line and f'"host":"{host}"' in line for line in lines)

    def planners(self) -> list[int]:
        """Return the process IDs of those that have read the inventory."""
        with suppress(FileNotFoundError):
            return [int(pid) for pid in (self.state / "planners").read_text().split()]
        return []

    def wait_until_ended(self) -> None:
        """Wait until nothing that was held is left."""
        with suppress(FileNotFoundError):
            pids = [int(pid) for pid in (self.state / "pids").read_text().split()]
            wait_until(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids),
                "the end of what was held",
                TIMEOUT,
            )

    def wait_until_left(self) -> None:
        """Wait until no process is left on the hosts."""
        self.wait_until_ended()
        wait_until(lambda: not self.sshd.session_processes(), "the end of the connections", TIMEOUT)

    def locked_hosts(self) -> list[str]:
        """Return the hosts that have a lock."""
        names = (path.name for path in (self.state / "locks").iterdir())
        return sorted(name for name in names if "." not in name)  # no draft of a lock


@contextmanager
def rolling_run(project: OrchProject, folder: Path) -> Iterator[RollingRun]:
    """Write the project, and start its hosts."""
    state = folder / "state"
    (state / "bin").mkdir(parents=True)
    (state / "locks").mkdir()
    scripts: Mapping[str, str] = {
        "mark": _MARK.format(state=state),
        "bin/ln": _LOCK_COMMAND.format(state=state, mark="lock", path="/bin/ln"),
        "bin/rm": _LOCK_COMMAND.format(state=state, mark="unlock", path="/bin/rm"),
    }
    for name, text in scripts.items():
        (state / name).write_text(text)
        (state / name).chmod(0o755)
    environment = {"PATH": f"{state}/bin:/usr/bin:/bin"}
    with serve_sshd(folder / "sshd", environment=environment) as sshd:
        project.add_sshd_stage(sshd, HOSTS, stage="dev")
        listed = project.root / "inventories/dev/hosts.yml"
        listed.rename(state / "hosts.json")
        listed.with_suffix("").write_text(_INVENTORY.format(state=state))
        listed.with_suffix("").chmod(0o755)
        mark = f"{state}/mark {{{{ host.name }}}}"
        project.write(
            {
                "inventories/dev/apps/shop.yml": json.dumps(
                    {"vars": {"lock_path": f"{state}/locks/{{{{ host.name }}}}"}}
                ),
                "tasks/site.yml": """
                    tasks:
                    - {name: roll, batch: 2, tasks: [one, two]}
                    - commit
                    - three
                """,
                "tasks/one.yml": f"""
                    steps:
                    - run: {mark} one.1
                    - {{run: '{mark} one.2', notify: told}}
                    handlers:
                      told: [{{run: '{mark} one.told'}}]
                    rollback: [{{run: '{mark} one.undone'}}]
                """,
                "tasks/two.yml": f"""
                    steps: [{{run: '{mark} two.1'}}, {{run: '{mark} two.2'}}]
                    rollback: [{{run: '{mark} two.undone'}}]
                """,
                "tasks/three.yml": f"steps: [{{run: '{mark} three.1'}}]\n",
                "tasks/alarm.yml": f"""
                    failed: [site]
                    steps: [{{run: '{mark} alarm'}}]
                """,
                "tasks/quick.yml": "steps: [{run: 'true'}]\n",
            }
        )
        yield RollingRun(project, sshd, state)


def reach_through(run: RollingRun, port: int) -> None:
    """Let the hosts be reached through another port."""
    known = run.state / "known_hosts"
    known.write_text(f"[*]:{port} {run.sshd.host_key}\n")
    path = run.project.root / "inventories/dev/stage.yml"
    stage = json.loads(path.read_text())
    stage["connect"] |= {"port": port, "known_hosts": str(known)}
    path.write_text(json.dumps(stage))
