"""An executable ``hosts``: asked once, it prints the hosts as JSON.

Which files of a stage's folder are read, and as what.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TypeAlias

from orchestrator.errors import DefinitionError, Mark, Problem, Problems, nearest
from orchestrator.inventory.hostnames import printable
from orchestrator.model import ansible
from orchestrator.model.marked_value import Key, Value
from orchestrator.model.text_encoding import decode as keep_bytes
from orchestrator.yamlio import child_process
from orchestrator.yamlio.json_loader import parse_json
from orchestrator.yamlio.local_files import Folder, listing
from orchestrator.yamlio.schema import Reader
from orchestrator.yamlio.yaml_loader import decode, load

TIMEOUT = 30.0
_TAIL = 1000


def ask(path: Path, shown: str, root: Path, stage: str, timeout: float = TIMEOUT) -> Value:
    """What the program printed, as values whose marks are its path.

    It runs in the project's root, with ORCH_STAGE set and nothing on its standard input;
    it and what it started are ended after ``timeout`` seconds. Raises ``DefinitionError``
    where it cannot run, fails, takes too long or prints no JSON.
    """
    mark = Mark(shown)
    if not os.access(path, os.X_OK):
        hint = f"chmod +x {shown}, or name it {shown}.yml if it is a list of hosts"
        raise DefinitionError(Problem(f"{shown} is not executable", mark, hint))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [path.absolute()],
            cwd=root,
            env={**os.environ, "ORCH_STAGE": stage},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that its children can be ended with it
        )

    try:
        program, (out, err) = child_process.supervise(
            start, lambda program: (program, program.communicate(timeout=timeout)), _end
        )
    except OSError as error:
        hint = "its first line must name an interpreter, like #!/bin/sh"
        what = f"{shown} cannot run: {(error.strerror or str(error)).lower()}"
        raise DefinitionError(Problem(what, mark, hint)) from error
    except subprocess.TimeoutExpired as error:
        what = f"{shown} did not end within {timeout:g} seconds{_said(error.stderr or b'')}"
        raise DefinitionError(Problem(what, mark)) from error
    if program.returncode:
        how = f"exited with {program.returncode}" if program.returncode > 0 else "was killed"
        raise DefinitionError(Problem(f"{shown} {how}{_said(err)}", mark))
    return parse_json(decode(out, shown), shown)


def _end(program: subprocess.Popen[bytes]) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    for pipe in (program.stdout, program.stderr):
        if pipe is not None:
            pipe.close()


def _said(err: bytes) -> str:
    text = keep_bytes(err).strip()
    return f", saying: {text[-_TAIL:]}" if text else ""


Note: TypeAlias = tuple[str, Mark]
Named: TypeAlias = list[tuple[Key, Value]]

STAGE, HOSTS, ROLES, APPS = "stage", "hosts", "roles", "apps"
_FILES = (STAGE, HOSTS, ROLES, APPS)
_FOLDERS = (HOSTS, ROLES, APPS)


class StageFolder:
    """One folder of ``inventories/``: a stage's own, or ``common``.

    Nothing is raised: what is wrong goes to ``problems``, what ``lint`` should say to ``notes``.
    """

    def __init__(self, path: Path, shown: str, problems: Problems, notes: list[Note]) -> None:
        self.path, self.shown = path, shown
        self.problems, self.notes = problems, notes
        self.found: Folder = listing(path, shown, problems)
        self._strangers()

    def settings(self) -> Value | None:
        """What ``stage.yml`` holds; None where there is none."""
        name = self.found.files.get(STAGE)
        return self._load(name) if name else None

    def roles(self) -> Named:
        """Each role with what is said of it: ``roles/`` or ``roles.yml``."""
        return self._named(ROLES) if self._once(ROLES) else []

    def apps(self) -> Named:
        """Each app with what is said of it: ``apps/`` or ``apps.yml``."""
        return self._named(APPS) if self._once(APPS) else []

    def hosts(self, root: Path, stage: str) -> Named:
        """Each host with what is said of it: ``hosts/``, ``hosts.yml``, an executable ``hosts``."""
        if not self._once(HOSTS):
            return []
        if HOSTS not in self.found.others:
            return self._named(HOSTS)
        shown = f"{self.shown}/{HOSTS}"
        try:
            return self._mapping(ask(self.path / HOSTS, shown, root, stage), HOSTS)
        except DefinitionError as error:
            self._take(error)
            return []

    def _once(self, kind: str) -> bool:
        forms = [f"{kind}/"] if kind in self.found.folders else []
        forms += [self.found.files[kind]] if kind in self.found.files else []
        forms += [kind] if kind == HOSTS and kind in self.found.others else []
        if len(forms) > 1:
            what = f"{self.shown} has both {' and '.join(forms)}"
            self.problems.add(what, Mark(f"{self.shown}/{forms[-1]}"), "keep one of them")
        return len(forms) == 1

    def _named(self, kind: str) -> Named:
        if kind in self.found.files:
            value = self._load(self.found.files[kind])
            return self._mapping(value, kind) if value else []
        folder = f"{self.shown}/{kind}"
        found = listing(self.path / kind, folder, self.problems)
        for name in found.folders:
            what = f"folders in {kind}/ are not read"
            self.problems.add(
                what, Mark(f"{folder}/{printable(name)}"), f"move its files to {kind}/"
            )
        for name in found.others:
            self.notes.append(("not read: it is no .yml file", Mark(f"{folder}/{printable(name)}")))
        named: Named = []
        for base, name in found.files.items():
            value = self._load(f"{kind}/{name}")
            if value is not None:
                named.append((Key(base, Mark(f"{folder}/{printable(name)}", 1, 1)), value))
        return named

    def _mapping(self, value: Value, kind: str) -> Named:
        examples = {HOSTS: "web1: {address: 10.0.0.5}", APPS: "blog: {roles: [web]}"}
        example = examples.get(kind, "web: [web1, web2]")
        if value.data is not None and not isinstance(value.data, dict):
            Reader(self.problems).wrong(value, kind, "a mapping", f"like {example}")
            return []
        return list((value.data or {}).items())

    def _load(self, name: str) -> Value | None:
        try:
            return load(self.path / name, f"{self.shown}/{printable(name)}", secrets=True)
        except DefinitionError as error:
            self._take(error)
            return None

    def _take(self, error: DefinitionError) -> None:
        for problem in error.problems:
            self.problems.add(problem.what, problem.mark, problem.hint)

    def _strangers(self) -> None:
        """A misspelt ``hosts/`` would lose hosts without a word; what is like nothing is noted."""
        files = self.found.files
        strange = [(name, name, [f"{k}/" for k in _FOLDERS]) for name in self.found.folders]
        strange += [(base, name, [f"{k}.yml" for k in _FILES]) for base, name in files.items()]
        strange += [(name, name, [HOSTS, f"{HOSTS}.yml"]) for name in self.found.others]
        for base, name, known in strange:
            if base in (k.removesuffix("/").removesuffix(".yml") for k in known):
                continue
            mark = Mark(f"{self.shown}/{printable(name)}")
            hint = ansible.FILES.get(base) or nearest(base, known)
            if hint:
                self.problems.add(f"'{printable(name)}' is no part of a stage", mark, hint)
            else:
                self.notes.append(("not read: it is no part of a stage", mark))
