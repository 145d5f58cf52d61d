"""The history of a host, given in words and written as a record and folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.deploy_app import RECIPE
from tests.support.machine import MachineRun as Ran
from tests.support.machine import ShellMachine


@dataclass
class ReleaseStory:
    """A folder of an app to which events are applied; each word is a separate run."""

    folder: Path
    number: int = 0
    live: str = ""

    def __post_init__(self) -> None:
        (self.folder / "releases").mkdir(parents=True)

    def apply_words(self, words: Iterable[str]) -> ReleaseStory:
        """Apply ``deploy A``, ``back A``, ``fail A`` and so on: the methods starting with ``_``."""
        for each in words:
            what, name = each.split()
            self.number += 1
            getattr(self, f"_{what}")(name)
        return self

    @property
    def run(self) -> str:
        return f"20260101{self.number:06}-abcd"

    @property
    def record(self) -> Path:
        return self.folder / ".orch-releases"

    def release(self, name: str) -> Path:
        return self.folder / "releases" / name

    def append_events(self, name: str, *events: str) -> None:
        """Append lines of the current run to the record."""
        with self.record.open("a") as record:
            for event in events:
                record.write(f"2026-01-01T00:{self.number:02}:00Z {event} {self.run} {name}/\n")

    def switch_link(self, name: str) -> None:
        self.live = name
        (self.folder / "current").unlink(missing_ok=True)
        (self.folder / "current").symlink_to(f"{self.folder}/releases/{name}")

    def make_complete(self, name: str, *, well: bool = True) -> None:
        self.release(name).mkdir()
        text = f"release={name}\nrevision=abc{self.number}\nby=anna\nrun={self.run}\n"
        (self.release(name) / ".orch-release").write_text(text)
        if well:
            (self.release(name) / ".orch-published").write_text(f"{self.run}\n")

    def _deploy(self, name: str) -> None:
        """Deploy a release: live and healthy."""
        self.make_complete(name)
        self.switch_link(name)
        self.append_events(name, "begun", "switched", "live")

    def _back(self, name: str) -> None:
        """Roll back to a release."""
        (self.release(name) / ".orch-published").write_text(f"{self.run}\n")
        self.switch_link(name)
        self.append_events(name, "switched", "back")

    def _fail(self, name: str) -> None:
        """Fail a deploy: switched back, and removed."""
        self.append_events(name, "begun", "switched", "undone", "failed")

    def _stay(self, name: str) -> None:
        """Fail a deploy whose folder could not be removed."""
        self.make_complete(name, well=False)
        self._fail(name)

    def _unwell(self, name: str) -> None:
        """Fail a deploy that was healthy here, but not on another host."""
        self.make_complete(name)
        self.append_events(name, "begun", "switched", "live", "undone", "failed")

    def _die(self, name: str) -> None:
        """Abort a deploy that was live, but not yet found healthy."""
        self.make_complete(name, well=False)
        self.switch_link(name)
        self.append_events(name, "begun", "switched")

    def _half(self, name: str) -> None:
        """Abort a deploy while its release was incomplete."""
        self.release(name).mkdir()
        self.append_events(name, "begun")

    def _going(self, name: str) -> None:
        """Abort a rollback to a release in the middle."""
        self.switch_link(name)
        self.append_events(name, "switched")

    def _undo(self, name: str) -> None:
        """Undo a rollback to a release, because another host failed afterwards."""
        self.append_events(name, "switched", "back", "undone")

    def _ill(self, name: str) -> None:
        """Undo a rollback to a release, because it was not healthy any more."""
        self.append_events(name, "switched", "failed")

    def _remove(self, name: str) -> None:
        shutil.rmtree(self.release(name))

    def _foreign(self, name: str) -> None:
        """Add another tool's release."""
        self.release(name).mkdir()
        (self.release(name) / "REVISION").write_text(f"rev{self.number}\n")

    def _adopt(self, name: str) -> None:
        """Add another tool's release that was live before the first deploy by orch."""
        self._foreign(name)
        self.switch_link(name)
        self.append_events(name, "adopted")


def ask_history(machine: ShellMachine, story: ReleaseStory, **args: object) -> str:
    """Return the output of deploy:history, or its error."""
    return ask_histories(machine, [(story, args)])[0]


def ask_histories(
    machine: ShellMachine, asked: Sequence[tuple[ReleaseStory, Mapping[str, object]]]
) -> list[str]:
    """Return the history of many stories in one run, like ``ask_history``."""
    steps: list[object] = []
    for story, args in asked:
        steps.append({"set": {"deploy_to": str(story.folder)}})
        steps.append({"deploy:history": args, "ignore_errors": True})
    ended = [
        s.outcome for s in run_recipe(machine, steps).steps if s.name.startswith("deploy:history")
    ]
    assert len(ended) == len(asked)
    return [o.stderr.text if o.status.is_failure else o.stdout.text for o in ended]


def run_recipe(
    machine: ShellMachine, steps: Sequence[object], run_id: str = "r", to: str = ""
) -> Ran:
    """Run steps of the recipe."""
    project = machine.root.parent / f"{machine.root.name}-project"
    if not project.exists():
        shutil.copytree(RECIPE / "deploy", project / "tasks/deploy")
    return machine.run_steps(steps, variables={"deploy_to": to} if to else {}, run_id=run_id)
