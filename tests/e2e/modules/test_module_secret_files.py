"""A new file that a module makes of a secret is its owner's alone, unless it is given a mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.projects import OrchProject

CANARY = "c4n4ry's $ecret"

# what makes the file: (step, whether a secret is in it). AT is its path.
STEPS = {
    "copy": ({"copy": {"path": "AT", "content": "a={{ token }}"}}, True),
    "copy of what a filter made": (
        {"copy": {"path": "AT", "content": "{{ token | upper }}"}},
        True,
    ),
    "copy of much": ({"copy": {"path": "AT", "content": "{{ ('-' * 40000) ~ token }}"}}, True),
    "copy of a file": ({"copy": {"path": "AT", "src": "key.txt"}, "when": "token != ''"}, True),
    "template": ({"template": {"path": "AT", "src": "t.j2"}}, True),
    "template of a variable": ({"template": {"path": "AT", "src": "u.j2"}}, True),
    "line": ({"line": {"path": "AT", "line": "a={{ token }}", "create": True}}, True),
    "text_block": ({"text_block": {"path": "AT", "block": "a={{ token }}", "create": True}}, True),
    "own module": ({"own": {"path": "AT", "word": "{{ token }}"}}, True),
    "copy in a loop": (
        {"copy": {"path": "AT", "content": "{{ item }}"}, "loop": ["{{ token }}"]},
        True,
    ),
    "copy without one": (
        {"copy": {"path": "AT", "content": "x"}, "environment": {"T": "{{ token }}"}},
        False,
    ),
    "template without one": ({"template": {"path": "AT", "src": "v.j2"}}, False),
    "line without one": ({"line": {"path": "AT", "line": "x", "create": True}}, False),
}

FILES = {
    "inventories/dev/stage.yml": """\
        connect: {transport: local}
        vars: {token: !secret {env: TOKEN}, url: "postgres://u:{{ token }}@h/"}
    """,
    "inventories/dev/hosts.yml": "one: {}\n",
    "tasks/t.j2": "a={{ token }}\n",
    "tasks/u.j2": "{% set x = url %}{{ x | replace('p', 'P') }}\n",
    "tasks/v.j2": "{% if token %}there{% endif %}\n",
    "tasks/key.txt": f"{CANARY}\n",
    "tasks/own.yml": """\
        desc: A module of a user
        params: {path: {type: path}, word: {}}
        probe: compared {{ path }} '' '' ''
        want: {contents: as given}
        payload: {text: "{{ word }}"}
        fix: put {{ path }} '' '' '' false
    """,
}


@pytest.fixture
def local(project: OrchProject) -> OrchProject:
    return project.write(FILES)


def run_steps(project: OrchProject, folder: Path, steps: dict[str, dict[str, object]]) -> None:
    """Run the steps, each of which makes the file of its name in the folder."""
    texts = [json.dumps(step).replace("AT", str(folder / what)) for what, step in steps.items()]
    project.write({"tasks/t.yml": f'{{"steps": [{", ".join(texts)}]}}'})
    done = project.orch("-s", "dev", "run", "t", TOKEN=CANARY)
    assert done.code == 0, done.out + done.err
    assert CANARY not in done.out + done.err


def file_mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


def test_a_new_file_is_its_owners_alone_if_a_secret_is_in_it(
    local: OrchProject, tmp_path: Path
) -> None:
    run_steps(local, tmp_path, {what: step for what, (step, _) in STEPS.items()})
    for what, (_, secret) in STEPS.items():
        assert (what, file_mode(tmp_path / what)) == (what, "0600" if secret else "0644")
        assert ("ecret" in (tmp_path / what).read_text().lower()) is secret


def test_a_file_that_is_there_keeps_its_mode(local: OrchProject, tmp_path: Path) -> None:
    for what in STEPS:
        (tmp_path / what).write_text("before\n")
        (tmp_path / what).chmod(0o640)
    run_steps(local, tmp_path, {what: step for what, (step, _) in STEPS.items()})
    assert {file_mode(tmp_path / what) for what in STEPS} == {"0640"}


def test_a_mode_that_is_given_counts(local: OrchProject, tmp_path: Path) -> None:
    names = ("copy", "template", "line", "text_block")
    steps = {what: json.loads(json.dumps(STEPS[what][0])) for what in names}
    for what, step in steps.items():
        step[what]["mode"] = "0644"
    run_steps(local, tmp_path, steps)
    assert {file_mode(tmp_path / what) for what in names} == {"0644"}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_with_an_owner_too_and_in_every_shell(
    local: OrchProject, tmp_path: Path, shell: str
) -> None:
    sh = tmp_path / "bin" / "sh"
    sh.parent.mkdir()
    sh.write_text(f'#!/bin/bash\nexec {shell} "$@"\n')
    sh.chmod(0o755)
    local.write({"inventories/dev/hosts.yml": f"one: {{connect: {{shell: {sh}}}}}\n"})
    owner = tmp_path.stat().st_uid
    run_steps(
        local, tmp_path, {"it": {"copy": {"path": "AT", "content": "{{ token }}", "owner": owner}}}
    )
    assert file_mode(tmp_path / "it") == "0600"


def test_a_plan_that_fetches_no_secret_shows_the_script_that_runs(local: OrchProject) -> None:
    step = {"template": {"path": "/srv/it", "src": "t.j2"}}
    local.write({"tasks/t.yml": json.dumps({"steps": [step]})})
    done = local.orch("-s", "dev", "plan", "t", "--json")
    assert done.code == 0, done.err
    (planned,) = json.loads(done.out)["lanes"][0]["waves"][0]["hosts"][0]["steps"]
    assert planned["script"].count("o_private=1") == 1
