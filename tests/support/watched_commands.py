"""Records the arguments of processes during a run."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.machine import ShellMachine

_WRAPPER = """\
#!{shell}
printf '%s\\0' "$0" "$@" >>'{log}'
exec '{real}'/"${{0##*/}}" "$@"
"""


@dataclass
class WatchedCommands:
    """All commands of a machine, and of git's own, which record their arguments when they start.

    ``texts_found`` is what /proc contained in addition.
    """

    log: Path
    texts_found: set[bytes] = field(default_factory=set)

    @property
    def all_words(self) -> list[str]:
        """Return the arguments of all commands so far."""
        return self.log.read_bytes().decode("utf-8", "surrogateescape").split("\0")

    def exposures(self, text: str) -> list[str]:
        """Return where a text appeared: the arguments, and the contents of /proc."""
        spied = (each.decode("utf-8", "replace").replace("\0", " ") for each in self.texts_found)
        return [word for word in (*self.all_words, *spied) if text in word]


@contextmanager
def watch_commands(
    machine: ShellMachine, folder: Path, texts: Iterable[str]
) -> Iterator[WatchedCommands]:
    """Watch the machine's commands; search for ``texts`` in /proc/*/cmdline all the time."""
    folder.mkdir()
    found = WatchedCommands(folder / "log")
    found.log.touch()
    locations = [Path(each) for each in machine.environment["PATH"].split(":")]
    machine.environment["PATH"] = _make_wrappers(folder / "commands", locations, found.log)
    git = Path(os.popen("git --exec-path").read().strip())
    machine.environment["GIT_EXEC_PATH"] = _make_wrappers(folder / "git", [git], found.log)
    with _spy_on_processes([text.encode() for text in texts], found):
        yield found


def _make_wrappers(folder: Path, folders: Iterable[Path], log: Path) -> str:
    """Create a folder with a wrapper for each command in these folders."""
    real, wrapped = folder / "real", folder / "wrapped"
    real.mkdir(parents=True)
    wrapped.mkdir()
    wrapper = folder / "wrapper"
    text = _WRAPPER.format(shell=shutil.which("dash"), log=log, real=real)
    wrapper.write_text(text)
    wrapper.chmod(0o755)
    for folder_on_path in folders:
        for command in folder_on_path.iterdir() if folder_on_path.is_dir() else ():
            target = real / command.name
            if not target.is_symlink() and _is_executable(command):
                target.symlink_to(command)
                (wrapped / command.name).symlink_to(wrapper)
    return str(wrapped)


def _is_executable(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and mode & 0o111 != 0


@contextmanager
def _spy_on_processes(texts: list[bytes], found: WatchedCommands) -> Iterator[None]:
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    words = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if any(text in words for text in texts):
                    found.texts_found.add(words)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
