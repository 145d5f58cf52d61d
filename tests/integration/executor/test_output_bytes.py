"""Output that is not UTF-8: the bytes that a host printed are sent back unchanged."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from orchestrator.model.step_result import StepResult
from tests.support.machine import ShellMachine

EVERY = (
    bytes(n for n in range(1, 256) if n != 10)
    + b"\ncaf\xe9 \xc3\xa9 \xed\xa0\x80 '\"$(id)`id` .\xe2\x82"
)
"""All bytes but NUL, Latin-1 next to UTF-8, an encoded surrogate, half a character at the end.
"""


@pytest.fixture(params=["dash", "bash", "busybox"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> ShellMachine:
    root = tmp_path / "root"
    root.mkdir()
    (root / "raw").write_bytes(EVERY)
    return ShellMachine(request.param, root)


def read_step(machine: ShellMachine, **more: Any) -> dict[str, Any]:
    """Return the step that registers the bytes as `it`."""
    return {"run": f"cat '{machine.root}/raw'", "register": "it", "readonly": True, **more}


USES: dict[str, Any] = {
    "a word": {"run": "printf %s {{ it.stdout }} >out"},
    "part of a word": {"run": "printf %s x{{ it.stdout }} | tail -c +2 >out"},
    "double quotes": {"run": 'printf %s "{{ it.stdout }}" >out'},
    "single quotes": {"run": "printf %s '{{ it.stdout }}' >out"},
    "a here-document": {"run": "head -c -1 >out <<END\n{{ it.stdout }}\nEND\n"},
    "a command substitution": {"run": 'v=$(printf %s "{{ it.stdout }}"); printf %s "$v" >out'},
    "stdin": {"run": "head -c -1 >out", "stdin": "{{ it.stdout }}\n"},
    "the environment": {"run": 'printf %s "$V" >out', "environment": {"V": "{{ it.stdout }}"}},
    "a copy": {"copy": {"path": "out", "content": "{{ it.stdout }}"}},
    "a template": {"template": {"path": "out", "src": "t.j2"}},
    "a param of a task": {"put": {"text": "{{ it.stdout }}"}},
    "a loop": {"run": "printf %s {{ item }} >out", "loop": ["{{ it.stdout }}"]},
    "a guard": {"run": "cp raw out", "unless": '[ {{ it.stdout }} != "$(cat raw)" ]'},
}


def in_test_folder(step: dict[str, Any], machine: ShellMachine) -> dict[str, Any]:
    """Return the step with the test's folder."""
    name = next(iter(step))
    if name == "run":
        return {**step, "chdir": str(machine.root)}
    args = {k: str(machine.root / v) if k == "path" else v for k, v in step[name].items()}
    return {name: args, "chdir": str(machine.root)}


FILES = {
    "t.j2": "{{ it.stdout }}",
    "put.yml": dedent("""\
        params: {text: {required: true}}
        steps:
        - run: printf %s {{ text }} >out
        """),
}


@pytest.mark.parametrize("named", [False, True], ids=["registered", "set"])
def test_the_bytes_arrive_wherever_they_are_used(machine: ShellMachine, named: bool) -> None:
    out = machine.root / "out"
    steps: list[Any] = [read_step(machine)]
    if named:
        steps += [{"set": {"again": "{{ it.stdout }}"}}, {"set": {"it": {"stdout": "{{ again }}"}}}]
    for step in USES.values():
        check = f"cmp '{out}' '{machine.root}/raw' && rm '{out}'"
        steps += [in_test_folder(step, machine), {"run": check}]
    done = machine.run_steps(steps, files=FILES)
    bad = [(s.name, s.outcome) for s in done.steps if s.outcome.status.is_failure]
    assert not bad, bad
    assert len(done.steps) == len(steps)


def test_two_that_differ_in_a_byte_differ(machine: ShellMachine) -> None:
    (machine.root / "other").write_bytes(EVERY.replace(b"caf\xe9", b"caf\xe8"))
    other = {**read_step(machine), "run": f"cat '{machine.root}/other'", "register": "other"}
    steps = [
        read_step(machine),
        other,
        {"run": "echo differs", "when": "it.stdout != other.stdout"},
        {"run": "echo same", "when": "it.stdout == other.stdout"},
        {"run": "echo within", "when": "other.stdout[200:260] in it.stdout"},
        {"assert": ["it.stdout | length == other.stdout | length"]},
    ]
    assert machine.run_steps(steps).statuses[2:] == ["changed", "skipped", "skipped", "ok"]


def test_a_state_of_bytes_is_compared_and_shown(machine: ShellMachine) -> None:
    module = """
        desc: A file's first line
        params: {path: {type: path, required: true}, line: {required: true}}
        probe: '[ ! -f {{ path }} ] || state line "$(cat {{ path }})"'
        want: {line: "{{ line }}"}
        fix: printf %s {{ line }} >{{ path }}
    """
    (machine.root / "it").write_bytes(b"was \xff")
    step = {"first": {"path": str(machine.root / "it"), "line": "{{ it.stdout }}"}}
    steps = [read_step(machine), step, step]
    done = machine.run_steps(steps, files={"first.yml": module})
    assert done.statuses == ["ok", "changed", "ok"]
    (change,) = done.outcomes[1].changes
    assert os.fsencode(change.before or "") == b"was \xff"
    assert os.fsencode(change.after) == EVERY


def test_a_diff_keeps_characters_that_reports_cut(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_bytes("é".encode() * 999 + b"\xff\n" + b"x" + "€".encode() * 700 + b"\n")
    outcome: StepResult = machine.run_step({"copy": {"path": str(path), "content": "new\n"}})
    assert outcome.diff.splitlines()[3:5] == ["-" + "é" * 999 + "\udcff", "-x" + "€" * 700]


def test_names_of_files_may_be_any_bytes(machine: ShellMachine) -> None:
    name = b"caf\xe9 \xff$(id)"
    (machine.root / os.fsdecode(name)).write_bytes(b"of it")
    to = machine.root.parent / "here"
    steps = [
        {"run": f"cd '{machine.root}'; printf %s caf*", "register": "it", "readonly": True},
        {"download": {"path": f"{machine.root}/{{{{ it.stdout }}}}", "to": f"{to}/"}},
        {"file": {"path": f"{machine.root}/{{{{ it.stdout }}}}", "mode": "0600"}},
        {"copy": {"path": f"{machine.root}/{{{{ it.stdout }}}}", "content": "new"}},
    ]
    done = machine.run_steps(steps)
    assert done.statuses == ["ok", "changed", "changed", "changed"], done.outcomes
    assert (os.fsencode(to) + b"/" + name) in [os.fsencode(path) for path in to.iterdir()]
    assert (machine.root / os.fsdecode(name)).read_bytes() == b"new"
