"""Whatever its params are given, a module's script is one that every shell can read."""

from __future__ import annotations

import itertools
import math
import random
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator import playbook
from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner import module_script
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook.model import Task, TaskParam
from orchestrator.playbook.task_index import shipped_modules
from orchestrator.templating import TemplateCache, compile_command, compile_value

ODD = "a 'b' \"c\" $(d) `e` \\"
BY_TYPE: Mapping[str, Sequence[Any]] = {
    "str": ["x", ODD],
    "int": [0, 7],
    "bool": [True, False],
    "list": [[], ["x", ODD]],
    "dict": [{}, {"X-Y": ODD}],
    "name": ["x", ODD],
    "path": ["/p/x", f"~/{ODD}"],
    "mode": ["0644"],
    "file_mode": ["0644", "u=rwX,go=rX"],
    "regex": ["x", ODD],
    "any": ["x", 7, ["x", ODD]],
    "command": ["true %s", "printf '%%s' %s"],
}
BY_NAME: Mapping[str, Sequence[Any]] = {
    "url": ["http://h/x", "https://u:p@h/x"],
    "checksum": [f"sha256:{'0' * 64}"],
    "within": ["5s"],
    "delimiters": [{"variable": ["<<", ">>"]}],
    "marker": ["# {mark} {name}"],
    "repo": ["/srv/x.git", "https://u:p@h/x.git", "git@h:x.git"],
}
MOST, MOST_IN_SHORT = 50_000, 500
SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
MOST_COMBINATIONS = 1_500_000
CHECKS = """\
nl='
'
check() { (eval "it() {$nl$1$nl}") >/dev/null 2>&1 || echo "$2"; }
"""


def load_module(name: str, root: Path) -> Task:
    return playbook.load_tasks(root, [name]).by_name[name]


def param_values(param: TaskParam, file: Path) -> list[Any]:
    """Return relevant arguments of each kind; None leaves the param out."""
    if param.choices:
        arguments: Sequence[Any] = param.choices
    elif param.type == "file":
        arguments = [str(file)]
    elif param.secret:  # which may not be short
        arguments = ["secret", ODD]
    else:
        arguments = BY_NAME.get(param.name, BY_TYPE[param.type])
    return [*([] if param.required else [None]), *arguments]


def decisive_params(task: Task) -> set[str]:
    """Return the params on which the text of the module's scripts depends."""
    tags = " ".join(
        re.findall(r"\{%.*?%\}", (MODULES_FOLDER / f"{task.name}.yml").read_text(), re.S)
    )
    return set(task.params) & set(re.findall(r"\w+", tags))


def all_combinations(
    options: Mapping[str, Sequence[Any]], most: int = MOST
) -> Iterator[dict[str, Any]]:
    """Every combination; of more than ``most``, as many at random."""
    if math.prod(map(len, options.values())) > most:
        chance = random.Random(0)
        for _ in range(most):
            yield {name: chance.choice(values) for name, values in options.items()}
        return
    for arguments in itertools.product(*options.values()):
        yield dict(zip(options, arguments, strict=True))


def some_combinations(task: Task, options: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield combinations of the decisive params, and every one of any two params."""
    inner = {name: options[name] for name in options if name in decisive_params(task)}
    for number, arguments in enumerate(all_combinations(inner, MOST_IN_SHORT)):
        yield {n: v[number % len(v)] for n, v in options.items()} | arguments
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


def written_value(data: Any, mark: SourcePosition) -> MarkedValue:
    """Return a value as if given on the command line."""
    if isinstance(data, list):
        return MarkedValue([written_value(each, mark) for each in data], mark, literal=True)
    if isinstance(data, dict):
        fields = {MarkedKey(k, mark): written_value(each, mark) for k, each in data.items()}
        return MarkedValue(fields, mark, literal=True)
    return MarkedValue(data, mark, literal=True)


def render_script(task: Task, params: Mapping[str, Any], root: Path) -> str | None:
    """Return the script for a host, or None if the combination is rejected."""
    mark = SourcePosition(str(root / "it"), 1, 1)
    types = {
        name: compile_command if task.params[name].type == "command" else compile_value
        for name in params
    }
    args = {k: types[k](written_value(v, mark)) for k, v in params.items() if v is not None}
    scope = HostScope({}, {}, {}, TemplateCache(), project_files=ProjectFiles(str(root)))
    frame = TaskScope(task, scope, written_args=args)
    assert task.module is not None
    try:
        return module_script.module_script(
            task.module, frame, module_script.desired_state(task.module, frame)
        )
    except DefinitionError as error:
        message = error.diagnostics[0].message  # of `one_of` or of the payload
        known = (" needs ", "only one of them is allowed", "is not a regular expression")
        assert any(words in message for words in known), message
        return None


def unreadable_texts(shell: str, texts: Sequence[str], folder: Path) -> list[str]:
    """Those of the texts that are no script to the shell, all asked in one process."""
    calls = (f"check {shlex.quote(text)} {number}\n" for number, text in enumerate(texts))
    (folder / "checks").write_text(CHECKS + "".join(calls))
    words = [*SHELLS[shell], str(folder / "checks")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [texts[int(number)] for number in done.stdout.split()]


def script_texts(name: str, root: Path, *, every: bool) -> list[str]:
    task = load_module(name, root)
    if task.module is None:
        return []
    (root / "file").write_text("x\n")
    (root / "folder").mkdir()
    (root / "folder" / "file").write_text("x\n")
    folders = {n for each in task.module.payloads if each.kind == "parts" for n in each.what.names}
    options = {
        name: param_values(param, root / ("folder" if name in folders else "file"))
        for name, param in task.params.items()
    }
    every = every and math.prod(map(len, options.values())) <= MOST_COMBINATIONS
    combined: Iterable[dict[str, Any]] = (
        all_combinations(options) if every else some_combinations(task, options)
    )
    texts = (render_script(task, arguments, root) for arguments in combined)
    return list(dict.fromkeys(text for text in texts if text is not None))


def check_read_by_all(name: str, root: Path, *, every: bool) -> None:
    texts = script_texts(name, root, every=every)
    for shell in SHELLS:
        bad = unreadable_texts(shell, texts, root)
        assert not bad, f"{shell}: {len(bad)} of {len(texts)}, such as\n{bad[0]}"


@pytest.mark.parametrize("name", sorted(shipped_modules()))
def test_scripts_are_read_whatever_decides_them(name: str, tmp_path: Path) -> None:
    check_read_by_all(name, tmp_path, every=False)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(shipped_modules()))
def test_scripts_are_read_whatever_is_given(name: str, tmp_path: Path) -> None:
    check_read_by_all(name, tmp_path, every=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_no_script_is_seen(shell: str, tmp_path: Path) -> None:
    bad = ["if true; then\nfi", "echo 'a", "case x in\nx) echo", "probe() {\n}\n", "a ) b"]
    assert unreadable_texts(shell, ["echo a", *bad, "case x in x) ;; esac"], tmp_path) == bad
