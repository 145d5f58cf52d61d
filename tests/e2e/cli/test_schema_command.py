"""JSON Schemas: files that orch accepts are valid, misspelt keys and params are not."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest

from orchestrator.commands.json_schema import SCHEMA_KINDS, file_schema
from orchestrator.modules import MODULES_FOLDER
from orchestrator.yamlio.yaml_loader import parse_yaml
from tests.projects import OrchProject

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@cache
def validator(kind: str, directory: str | None) -> jsonschema.Draft202012Validator:
    schema = file_schema(kind, directory)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def is_valid(kind: str, text: str, directory: str | None = None) -> bool:
    data = parse_yaml(dedent(text), "x.yml").to_plain()
    return validator(kind, directory).is_valid(json.loads(json.dumps(data)))


def check_files(schema: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema))
    return subprocess.run([*words, *map(str, files)], capture_output=True, text=True, check=False)


def test_shipped_modules_and_tasks_and_a_new_project_are_valid(project: OrchProject) -> None:
    assert project.orch("init", "new").code == 0
    new = project.root / "new"
    assert project.orch("schema", "--write", "-C", "new").code == 0
    schemas = new / ".orch/schemas"
    assert sorted(path.stem for path in schemas.iterdir()) == sorted(SCHEMA_KINDS)
    inventories = new / "inventories"
    for kind, files in {
        "task": [*(new / "tasks").rglob("*.yml"), *MODULES_FOLDER.glob("*.yml")],
        "stage": [*inventories.glob("*/stage.yml")],
        "host": [],
        "role": [*inventories.glob("*/roles/*.yml")],
        "app": [*inventories.glob("*/apps/*.yml")],
    }.items():
        assert files or kind == "host"
        done = check_files(schemas / f"{kind}.json", *files) if files else None
        assert done is None or done.returncode == 0, done.stdout + done.stderr
    for file in (ROOT / "tasks").rglob("*.yml"):
        assert is_valid("task", file.read_text(), str(ROOT)), file


@pytest.mark.parametrize("kind", SCHEMA_KINDS)
def test_every_kind_of_file_has_a_schema_outside_a_project(kind: str) -> None:
    validator(kind, None)


VALID = {
    "task": [
        "steps: [{run: id, register: x, tags: a}]",
        "steps: [{service: {name: nginx, state: '{{ s }}', enabled: true}}]",
        "steps: [{block: [{run: id}], rescue: [{fail: x}], always: [{wait: 1s}]}]",
        "steps: [{assert: {that: [a, b], message: x}}, {set: {a: [1, 2]}}]",
        "tasks: [a, commit, {a: {x: 1}, once: true, on: any}, {name: g, batch: [1, 25%], tasks: [a]}]",
        "probe: x\nwant: {a: b}\nfix: {a: c}\nparams: {p: , q: {type: list, elements: path}}",
        "steps: [other:task]",
        "steps: [{other:task: {x: 1}, when: [a, b], become: deploy, loop: '{{ x }}'}]",
        "steps: [{run: id, timeout: 5m, delay: 2, until: result.changed, environment: {A: 1}}]",
    ],
    "fact": ["script: echo a=1", "desc: x\nfields: {a: {type: int}, b: }\nscript: x"],
    "stage": ["", "connect: {user: a, jump: none, timeout: 3s}\nprotected: true"],
    "host": ["", "address: 10.0.0.1\nroles: [web]"],
    "hosts": ["web1:\nweb2: {address: a}"],
    "role": ["[a, 'b[1-3]']", "hosts: [a]\nprimary: a", ""],
    "roles": ["web: [a]\ndb: {hosts: [b]}"],
    "app": ["roles: web\nclaims: {ports: [80]}\nhosts: {web1: {vars: {a: 1}}}"],
}
INVALID = {
    "task": [
        "steps: []",
        "step: [{run: id}]",
        "steps: [{run: id}]\ntasks: [a]",
        "steps: [{run: id, registr: x}]",
        "steps: [{creates: x, wait: 1s}]",
        "steps: [{service: {nam: nginx}}]",
        "steps: [{service: {name: nginx, state: runing}}]",
        "steps: [{service: {name: nginx, enabled: perhaps}}]",
        "steps: [{run: id, timeout: soon}]",
        "steps: [{block: [{run: id}], resque: []}]",
        "steps: [{run: id, loop_control: {lable: x}}]",
        "tasks: [{a: {}, onse: true}]",
        "tasks: [{a: {}, once: true, on: some}]",
        "steps: [{run: id}]\nwant: {a: b}",
        "steps: [{run: id}]\nparams: {p: {typ: int}}",
        "steps: [{run: id}]\nparams: {p: {type: integer}}",
        "steps: [{assert: {this: a}}]",
    ],
    "fact": ["desc: x", "script: x\nfield: {}", "script: x\nfields: {a: {type: file}}"],
    "stage": ["protectd: true", "connect: {usr: a}", "connect: {transport: telnet}"],
    "host": ["adress: a", "connect: {port: many}"],
    "hosts": ["web1: {adress: a}", "[web1]"],
    "role": ["host: [a]", "[{a: 1}]"],
    "roles": ["web: {host: [a]}"],
    "app": ["role: web", "claims: {port: [80]}", "hosts: {web1: {var: {}}}"],
}


@pytest.mark.parametrize(("kind", "text"), [(k, text) for k in VALID for text in VALID[k]])
def test_what_orch_accepts_is_valid(kind: str, text: str) -> None:
    assert is_valid(kind, text)


@pytest.mark.parametrize(("kind", "text"), [(k, text) for k in INVALID for text in INVALID[k]])
def test_misspelt_keys_params_and_choices_are_invalid(kind: str, text: str) -> None:
    assert not is_valid(kind, text)


def test_in_a_project_its_tasks_and_their_params_are_known(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/greet.yml": "params: {who: {required: true}}\nsteps: [{run: 'echo {{ who }}'}]",
            "tasks/broken.yml": "steps: [{run: id, registr: x}]",
        }
    )
    schema = json.loads(project.orch("schema", "task").out)
    known = jsonschema.Draft202012Validator(schema)
    assert known.is_valid({"steps": ["greet", {"greet": {"who": "x"}}, {"broken": None}]})
    assert known.is_valid({"tasks": ["greet", "commit"]})
    for step in ("gret", {"gret": {}}, {"greet": {"whom": "x"}}, {"greet": {}, "run": "id"}):
        assert not known.is_valid({"steps": [step]}), step


def test_an_unknown_kind_names_the_nearest(project: OrchProject) -> None:
    done = project.orch("schema", "tasks")
    assert done.code == 2
    assert "there is no schema 'tasks'" in done.err
    assert "did you mean 'task'?" in done.err


def test_without_a_kind_it_says_what_to_write(project: OrchProject) -> None:
    for words in ((), ("task", "--write")):
        done = project.orch("schema", *words)
        assert done.code == 2
        assert "orch schema KIND" in done.err
