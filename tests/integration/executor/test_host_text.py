"""Text from hosts must not determine local files, users or other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from tests.support.machine import MachineRun, ShellMachine

SECRET = "not for any host"

ASK: dict[str, Any] = {"run": "cat told", "register": "r", "readonly": True}
"""A host that replies with the path of a file on this machine."""


@pytest.fixture
def machine(tmp_path: Path) -> ShellMachine:
    root = tmp_path / "root"
    root.mkdir()
    machine = ShellMachine("dash", root)
    (tmp_path / "id_rsa").write_text(SECRET)
    (machine.home / "told").write_text("../../id_rsa")
    (machine.home / ".profile").write_text("")
    return machine


FILES = {
    "mine.yml": """
        params: {path: {type: path}, name: {}}
        probe: '[ ! -f {{ path }} ] || state is "$(cat {{ path }})"'
        want: {is: x}
        fix: payload >{{ path }}
        payload: {file: "../{{ name }}"}
    """,
    "own.yml": """
        params: {path: {type: path}}
        probe: ":"
        want: {is: x}
        fix: payload >{{ path }}
        payload: {template: "../{{ facts.distro }}"}
    """,
    "whole.yml": """
        params: {path: {type: path}, from: {type: any}}
        probe: ":"
        want: {is: x}
        fix: ":"
        payload: {tree: "{{ from }}"}
    """,
    "sub.yml": """
        params: {f: {type: file}, g: {default: "{{ facts.distro }}"}}
        steps:
          - copy: {path: out, src: "{{ f }}"}
    """,
    "default.yml": """
        params: {g: {default: "{{ facts.distro }}"}}
        steps:
          - copy: {path: out, src: "{{ g }}"}
    """,
    "plain.txt": "plain\n",
    "also.txt": "also\n",
    "t.j2": "of {{ facts.distro }}\n",
    "inner.j2": "{% include facts.distro %}",
    "outer.j2": "{% extends facts.distro %}",
    "macro.j2": "{% import facts.distro as m %}",
    "from.j2": "{% from facts.distro import m %}",
}

COPY: dict[str, Any] = {"path": "out"}

KNOWN_BY_NAME: dict[str, list[Any]] = {
    "a fact": [{"copy": {**COPY, "src": "../files/{{ facts.distro }}"}}],
    "a template's name": [ASK, {"template": {**COPY, "src": "{{ r.stdout }}.j2"}}],
    "an upload": [ASK, {"upload": {**COPY, "src": "x/{{ r.stdout }}"}}],
    "what is left out of it": [
        ASK,
        {"upload": {**COPY, "src": ".", "exclude": ["{{ r.stdout }}"]}},
    ],
    "an archive": [ASK, {"unarchive": {**COPY, "src": "{{ r.stdout }}"}}],
    "a module of ours": [ASK, {"mine": {**COPY, "name": "{{ r.stdout }}"}}],
    "a module's own words": [{"own": COPY}],
    "a tree of a module of ours": [ASK, {"whole": {**COPY, "from": "{{ r.stdout }}"}}],
    "a param of a called task": [ASK, {"sub": {"f": "{{ r.stdout }}"}}],
    "a param's default": [{"default": {}}],
    "a value that was set": [
        ASK,
        {"set": {"x": "{{ r.stdout }}"}},
        {"copy": {**COPY, "src": "{{ x }}"}},
    ],
    "a variable": [{"copy": {**COPY, "src": "{{ named }}"}}],
    "another host": [{"copy": {**COPY, "src": "{{ hosts['one'].named }}"}}],
    "a part of it": [ASK, {"copy": {**COPY, "src": "{{ 'x' if 1 else r.stdout[:2] }}"}}],
    "what a choice chooses": [
        ASK,
        {"copy": {**COPY, "src": "{% if r.changed %}{{ r.stdout }}{% endif %}x"}},
    ],
    "a file from there": [ASK, {"download": {"path": "told", "to": "{{ r.stdout }}"}}],
    "a user": [ASK, {"run": "id", "become": "{{ r.stdout }}"}],
    "a user, by a fact": [{"run": "id", "become": "{{ facts.user }}"}],
    "a host": [ASK, {"run": "id", "delegate_to": "{{ r.stdout }}"}],
    "a host, by a fact": [{"run": "id", "delegate_to": "{{ facts.hostname }}"}],
}

KNOWN_BY_THEN: dict[str, list[Any]] = {
    "items": [ASK, {"copy": {**COPY, "src": "{{ item }}"}, "loop": "r.stdout.splitlines()"}],
    "items of a called task": [ASK, {"sub": {"f": "{{ item }}"}, "loop": "{{ [r.stdout] }}"}],
    "a host's variable": [{"copy": {**COPY, "src": "{{ host.vars.named }}"}}],
    "a host's variable, set": [
        {"set": {"x": "{{ host.vars.named }}"}},
        {"copy": {**COPY, "src": "{{ x }}"}},
    ],
    "items of a host's variable": [
        {"copy": {**COPY, "src": "{{ item }}"}, "loop": "{{ [host.vars.named] }}"}
    ],
    "users": [ASK, {"run": "id", "become": "{{ item }}", "loop": "r.stdout.splitlines()"}],
    "hosts": [ASK, {"run": "id", "delegate_to": "{{ item }}", "loop": "r.stdout.splitlines()"}],
    "a command": [ASK, {"run": "touch out; echo {{ host.vars.named | raw }}"}],
    "a command, by a name of its own": [
        ASK,
        {"run": "touch out\n{% set x = host.vars.named %}\necho {{ x | raw }}"},
    ],
}


def run_steps(machine: ShellMachine, steps: list[Any]) -> MachineRun:
    return machine.run_steps(
        steps, files=FILES, variables={"named": "{{ facts.distro }}", "ok": "also.txt"}
    )


@pytest.mark.parametrize("what", KNOWN_BY_NAME)
def test_what_names_tell_is_refused_before_anything_runs(machine: ShellMachine, what: str) -> None:
    with pytest.raises(DefinitionError, match="is made of text from a host") as refused:
        run_steps(machine, [{"run": "touch began"}, *KNOWN_BY_NAME[what]])
    (problem,) = refused.value.diagnostics
    assert problem.hint
    assert problem.mark is not None
    assert problem.mark.line
    assert not (machine.home / "began").exists()


@pytest.mark.parametrize("what", KNOWN_BY_THEN)
def test_what_only_the_value_tells_fails_its_host(machine: ShellMachine, what: str) -> None:
    done = run_steps(machine, KNOWN_BY_THEN[what])
    reason = done.outcomes[-1].reason
    assert "is made of text from a host" in reason or "`raw` of 'host', which came" in reason
    assert done.code == 1
    assert not (machine.home / "out").exists()


@pytest.mark.parametrize("key", ["become", "delegate_to"])
def test_what_waits_for_a_host_says_not_who_does_it(machine: ShellMachine, key: str) -> None:
    with pytest.raises(DefinitionError, match=f"`{key}` depends on `facts.distro`"):
        run_steps(machine, [{"run": "id", key: "{{ host.vars.named }}"}])


@pytest.mark.parametrize("name", ["inner", "outer", "macro", "from"])
def test_a_template_takes_no_file_that_a_host_names(machine: ShellMachine, name: str) -> None:
    with pytest.raises(
        DefinitionError, match="the name of a template must be known before the run"
    ):
        run_steps(machine, [{"template": {**COPY, "src": f"{name}.j2"}}])


ALLOWED: dict[str, list[Any]] = {
    "a name": [{"copy": {**COPY, "src": "also.txt"}}],
    "a variable": [{"copy": {**COPY, "src": "{{ ok }}"}}],
    "a host's variable": [{"copy": {**COPY, "src": "{{ host.vars.ok }}"}}],
    "items": [{"copy": {**COPY, "src": "{{ item }}"}, "loop": ["plain.txt", "also.txt"]}],
    "a value that was set": [{"set": {"x": "also"}}, {"copy": {**COPY, "src": "{{ x }}.txt"}}],
    "a value that was set late": [
        ASK,
        {"set": {"x": "also.txt"}, "when": "r.stdout"},
        {"copy": {**COPY, "src": "{{ x }}"}},
    ],
    "a choice": [
        {"copy": {**COPY, "src": "plain.txt"}, "when": "facts.os != 'linux'"},
        {"copy": {**COPY, "src": "also.txt"}, "when": "facts.os == 'linux'"},
    ],
    "a choice in the name": [
        ASK,
        {"copy": {**COPY, "src": "{{ 'also.txt' if r.stdout else 'plain.txt' }}"}},
    ],
    "a choice in the text": [
        {"copy": {**COPY, "src": "{% if facts.os == 'linux' %}also{% else %}plain{% endif %}.txt"}}
    ],
    "contents": [ASK, {"copy": {**COPY, "content": "{{ r.stdout and 'also\n' }}"}}],
    "a called task": [{"set": {"x": "also.txt"}}, {"sub": {"f": "{{ x }}"}}],
    "a user": [{"set": {"x": False}}, {"copy": {**COPY, "src": "also.txt"}, "become": "{{ x }}"}],
    "raw text": [
        {"set": {"x": "echo also"}},
        {"run": "{{ x | raw }} >out; echo {{ host.vars.ok | raw }} {{ facts.os }}"},
    ],
    "this host": [{"copy": {**COPY, "src": "also.txt"}, "delegate_to": "{{ host.name }}"}],
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_the_project_says_is_done(machine: ShellMachine, what: str) -> None:
    done = run_steps(machine, ALLOWED[what])
    assert done.code == 0, done.outcomes
    assert (machine.home / "out").read_text() == "also\n"


def test_a_name_that_a_host_gave_once_is_its_text_until_it_is_set_again(
    machine: ShellMachine,
) -> None:
    block = {
        "block": [{"run": "exit 1"}, {"set": {"r": "also.txt"}}],
        "rescue": [{"copy": {**COPY, "src": "{{ r }}"}}],
    }
    with pytest.raises(DefinitionError, match="text from a host"):
        run_steps(machine, [ASK, block])
    done = run_steps(
        machine, [ASK, {"set": {"r": "also.txt"}}, {"copy": {**COPY, "src": "{{ r }}"}}]
    )
    assert done.code == 0, done.outcomes
