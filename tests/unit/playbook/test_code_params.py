"""A module runs no value that is not a command: what would is an error when it is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator import playbook
from orchestrator.errors import DefinitionError
from orchestrator.modules import EVAL_FUNCTIONS, MODULES_FOLDER
from orchestrator.playbook.lint_warnings import lint_warnings
from orchestrator.playbook.model import Task
from orchestrator.playbook.task_index import shipped_modules
from tests.support.shell_events import read_script


def load_module(root: Path, **fields: Any) -> Task:
    module = {
        "desc": "m",
        "params": {"x": {}, "check": {"type": "command"}},
        "probe": "state a 1",
        "want": {"a": "1"},
        **fields,
    }
    (root / "tasks").mkdir(exist_ok=True)
    (root / "tasks" / "m.yml").write_text(json.dumps(module))
    return playbook.load_tasks(root, ["m"]).by_name["m"]


REFUSED = {
    "a param": "eval {{ x }}",
    "in quotes": 'eval "true {{ x }}"',
    "in single quotes": "eval 'true {{ x }}'",
    "not only commands": "eval {{ check ~ x }}",
    "another name": "eval {{ app.name }}",
    "after a command": "eval {{ check }} {{ x }}",
    "by way of a variable": 'c={{ x }}\neval "$c"',
    "of a part of it": 'c="true {{ x }}"; eval "${c#a}"',
    "by way of two": 'a={{ x }} b="$a"\neval "$b"',
    "by a function of the module": 'runs() { eval "$1"; }\nruns {{ x }}',
    "by a longer one": 'runs() {\n  shift\n  eval "$@"\n}\nruns a {{ x }}',
    "tried": "tried {{ x }}",
    "compared": "compared /p '' '' {{ x or '' }}",
    "planned": "planned {{ x }}",
    "tried as a variable": 'c={{ x }}; tried "$c"',
    "in a condition": "if eval {{ x }}; then state a 1; fi",
    "within": "y=$(eval {{ x }})",
    "with a keyword before it": "! command eval {{ x }}",
}


@pytest.mark.parametrize("script", ["functions", "probe", "fix"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_would_be_run_is_refused(tmp_path: Path, name: str, script: str) -> None:
    with pytest.raises(DefinitionError) as error:
        load_module(tmp_path, **{script: REFUSED[name]})
    assert "runs its arguments as code" in error.value.diagnostics[0].message
    assert error.value.diagnostics[0].mark.path.endswith("m.yml")


@pytest.mark.parametrize(
    "probe",
    [
        "eval {{ check }}",
        "eval {{ check or '' }}",
        "eval {{ 'true' }}",
        'c={{ check }}; eval "$c"',
        'c={{ x }}; eval "echo \\$c"; eval "$d"',
        "compared {{ x }} {{ x }} {{ x }} {{ check }}",
        "tried {{ check }} {{ x }}",
        "evaluated {{ x }}",
        "echo eval {{ x }}",
        'shows() { echo "$1"; eval "$c"; }\nshows {{ x }}',
    ],
)
def test_commands_and_the_modules_own_text_may_be_run(tmp_path: Path, probe: str) -> None:
    load_module(tmp_path, probe=probe)


def test_what_reads_code_of_its_own_is_noted_in_modules_too(tmp_path: Path) -> None:
    notes = lint_warnings([load_module(tmp_path, probe="sh -c {{ x }}", fix="awk {{ x }} f")])
    assert [note for note, _ in notes] == [
        "`sh` interprets this argument as code: a value in it can inject code",
        "`awk` interprets this argument as code: a value in it can inject code",
    ]


def test_the_library_runs_commands_only(tmp_path: Path) -> None:
    """Load each built-in module: it passes the check above, and no value in it is read as code."""
    loaded = playbook.load_tasks(tmp_path, sorted(shipped_modules())).by_name
    assert not [
        note
        for note in lint_warnings(loaded.values())
        if "interprets this argument as code" in note[0]
    ]
    named = re.compile(r"\{\{[^}]*\b(validate)\b[^}]*\}\}")
    for name in loaded:
        if named.search((MODULES_FOLDER / f"{name}.yml").read_text()):
            assert loaded[name].params["validate"].type == "command"


def test_the_functions_that_run_an_argument_are_known() -> None:
    text = (MODULES_FOLDER / "functions.sh").read_text()
    # find's expression in f_seen is made of modes, four digits each, and of a tool's name
    lines = [
        line for line in re.findall(r"^.*\beval\b.*$", text, re.M) if 'eval "find ' not in line
    ]
    assert lines == ['    eval "$f_tried_text" </dev/null 3>&- 4>&-']
    bodies = list(read_script(text).all_bodies())
    reach = {"tried"}
    while (
        more := {
            body.name
            for body in bodies
            if any(e.what == "call" and e.name in reach for e in body.events)
        }
        - reach
    ):
        reach |= more
    assert reach == set(EVAL_FUNCTIONS)


def test_no_script_of_a_module_evals() -> None:
    for name, path in shipped_modules().items():
        found = re.findall(r"^.*\beval (?!\{ require).*$", path.read_text(), re.M)
        assert not found, (name, found)
