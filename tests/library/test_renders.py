"""Whatever its params are given, a module's script is one that every shell can read."""

from __future__ import annotations

import itertools
import random
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator import playbook
from orchestrator.errors import DefinitionError, Mark
from orchestrator.model.marked_value import Key, Value
from orchestrator.modules import FOLDER
from orchestrator.planner import module_script
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.project_files import Files
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.model import Param, Task
from orchestrator.playbook.task_index import shipped
from orchestrator.templating import Templates, command, value

ODD = "a 'b' \"c\" $(d) `e` \\"
BY_TYPE: Mapping[str, Sequence[Any]] = {
    "str": ["x", ODD],
    "int": [0, 7],
    "bool": [True, False],
    "list": [[], ["x", ODD]],
    "dict": [{}, {"X-Y": ODD}],
    "path": ["/p/x", f"~/{ODD}"],
    "mode": ["0644"],
    "regex": ["x", ODD],
    "any": ["x", 7, ["x", ODD]],
    "command": ["true %s", "printf '%%s' %s"],
}
BY_NAME: Mapping[str, Sequence[Any]] = {
    "url": ["http://h/x", "https://u:p@h/x"],
    "checksum": [f"sha256:{'0' * 64}"],
    "within": ["5s"],
    "marker": ["# {mark} {name}"],
    "repo": ["/srv/x.git", "https://u:p@h/x.git", "git@h:x.git"],
}
SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
CHECKS = """\
nl='
'
check() { (eval "it() {$nl$1$nl}") >/dev/null 2>&1 || echo "$2"; }
"""


def load(name: str, root: Path) -> Task:
    return playbook.load(root, [name]).by_name[name]


def values(param: Param, file: Path) -> list[Any]:
    """Some of each kind that make a difference; None: it is left out."""
    if param.choices:
        given: Sequence[Any] = param.choices
    elif param.type == "file":
        given = [str(file)]
    else:
        given = BY_NAME.get(param.name, BY_TYPE[param.type])
    return [*([] if param.required else [None]), *given]


def decisive(task: Task) -> set[str]:
    """The params that its scripts ask about, to be one text or another."""
    tags = " ".join(re.findall(r"\{%.*?%\}", (FOLDER / f"{task.name}.yml").read_text(), re.S))
    return set(task.params) & set(re.findall(r"\w+", tags))


def whole(options: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination."""
    for given in itertools.product(*options.values()):
        yield dict(zip(options, given, strict=True))


def some(task: Task, options: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the decisive params, and every one of any two params."""
    inner = {name: options[name] for name in options if name in decisive(task)}
    for number, given in enumerate(whole(inner)):
        yield {n: v[number % len(v)] for n, v in options.items()} | given
    chance = random.Random(0)
    missing = {
        ((one, i), (other, j))
        for one, other in itertools.combinations(options, 2)
        for i in range(len(options[one]))
        for j in range(len(options[other]))
    }
    while missing:
        row = {name: chance.randrange(len(values)) for name, values in options.items()}
        new = missing.intersection(itertools.combinations(row.items(), 2))
        if new:
            missing -= new
            yield {name: options[name][i] for name, i in row.items()}


def written(data: Any, mark: Mark) -> Value:
    """A value as if it were given on the command line."""
    if isinstance(data, list):
        return Value([written(each, mark) for each in data], mark, literal=True)
    if isinstance(data, dict):
        fields = {Key(k, mark): written(each, mark) for k, each in data.items()}
        return Value(fields, mark, literal=True)
    return Value(data, mark, literal=True)


def script(task: Task, given: Mapping[str, Any], root: Path) -> str | None:
    """What a host would be sent; None where this side refuses the combination."""
    mark = Mark(str(root / "it"), 1, 1)
    types = {name: command if task.params[name].type == "command" else value for name in given}
    args = {k: types[k](written(v, mark)) for k, v in given.items() if v is not None}
    scope = HostScope({}, {}, {}, Templates(), files=Files(str(root)))
    frame = Frame(task, scope, written=args)
    assert task.module is not None
    try:
        return module_script.script(task.module, frame, module_script.wanted(task.module, frame))
    except DefinitionError as error:
        assert "needs one of" in error.problems[0].what, error.problems
        return None


def unread(shell: str, texts: Sequence[str], folder: Path) -> list[str]:
    """Those of the texts that are no script to the shell, all asked in one process."""
    calls = (f"check {shlex.quote(text)} {number}\n" for number, text in enumerate(texts))
    (folder / "checks").write_text(CHECKS + "".join(calls))
    words = [*SHELLS[shell], str(folder / "checks")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [texts[int(number)] for number in done.stdout.split()]


def texts_of(name: str, root: Path, *, every: bool) -> list[str]:
    task = load(name, root)
    if task.module is None:
        return []
    (root / "file").write_text("x\n")
    options = {n: values(param, root / "file") for n, param in task.params.items()}
    combined: Iterable[dict[str, Any]] = whole(options) if every else some(task, options)
    texts = (script(task, given, root) for given in combined)
    return list(dict.fromkeys(text for text in texts if text is not None))


def read_by_all(name: str, root: Path, *, every: bool) -> None:
    texts = texts_of(name, root, every=every)
    for shell in SHELLS:
        bad = unread(shell, texts, root)
        assert not bad, f"{shell}: {len(bad)} of {len(texts)}, such as\n{bad[0]}"


@pytest.mark.parametrize("name", sorted(shipped()))
def test_scripts_are_read_whatever_decides_them(name: str, tmp_path: Path) -> None:
    read_by_all(name, tmp_path, every=False)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(shipped()))
def test_scripts_are_read_whatever_is_given(name: str, tmp_path: Path) -> None:
    read_by_all(name, tmp_path, every=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_no_script_is_seen(shell: str, tmp_path: Path) -> None:
    bad = ["if true; then\nfi", "echo 'a", "case x in\nx) echo", "probe() {\n}\n", "a ) b"]
    assert unread(shell, ["echo a", *bad, "case x in x) ;; esac"], tmp_path) == bad
