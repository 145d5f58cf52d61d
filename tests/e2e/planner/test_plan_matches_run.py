"""A plan shows what a run sends: the same texts in the same order, without contacting hosts."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.projects import OrchProject

ODD = 'it\'s $HOME `id` \\ "x" é\n  last'
FED = "exec </dev/null;"
"""The text that the session writes before a step's text, on the same line."""


def write_spy_shell(folder: Path) -> Path:
    """Write a shell that stores the text it receives, and does nothing."""
    kept = folder / "kept"
    kept.mkdir()
    shell = folder / "sh"
    shell.write_text(f"#!/bin/sh\nn=$(ls {kept} | wc -l)\ncat > {kept}/$n\n")
    shell.chmod(0o755)
    return shell


def show_plan(project: OrchProject, *args: str) -> dict[str, Any]:
    done = project.orch("-s", "dev", "plan", *args, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def plan_texts(planned: dict[str, Any], host: str) -> list[str]:
    return [
        step["text"]
        for lane in planned["lanes"]
        for wave in lane["waves"]
        for entry in wave["hosts"]
        if entry["host"] == host
        for step in entry["steps"]
    ]


def test_each_steps_text_is_byte_for_byte_what_its_shell_receives(
    project: OrchProject, tmp_path: Path
) -> None:
    shell = write_spy_shell(tmp_path)
    steps = [
        {"run": "echo {{ odd }}"},
        {"run": "cat <<'END'\n{{ odd }}\nEND\necho \"{{ odd }}\" '{{ odd }}' $(echo {{ odd }})\n"},
        {"run": "printf x", "environment": {"ODD": "{{ odd }}"}, "chdir": "/tmp"},
        {"run": "echo {% for n in [1, 2] %}{{ n }} {% endfor %}{{ ['a b', 'c'] }}"},
        {"part": {"what": "{{ odd }}"}},
    ]
    for step in steps[:-1]:
        step["shell"] = str(shell)
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/hosts/a1.yml": json.dumps({"vars": {"odd": ODD}}),
            "tasks/t.yml": json.dumps({"steps": steps}),
            "tasks/part.yml": json.dumps(
                {"params": {"what": {}}, "steps": [{"run": "echo {{ what }}", "shell": str(shell)}]}
            ),
        }
    )
    planned = plan_texts(show_plan(project, "t"), "a1")
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert done.code == 0, done.err
    kept = sorted((tmp_path / "kept").iterdir(), key=lambda p: int(p.name))
    received = [path.read_bytes().removeprefix(FED.encode()) for path in kept]
    assert received == [text.encode() for text in planned]
    assert len(received) == 5


def test_a_plan_contacts_nobody(project: OrchProject) -> None:
    """The host's address is unused; a connection would fail and be reported."""
    project.write(
        {
            "inventories/dev/hosts/a1.yml": "address: no-such-host.invalid\n",
            "tasks/t.yml": "steps: [{run: id}]\n",
        }
    )
    assert plan_texts(show_plan(project, "t"), "a1") == ["id"]
    assert not (project.root / ".orch").exists()


def test_what_waits_for_a_result_is_shown_as_its_template_with_that_name(
    project: OrchProject,
) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": dedent("""\
                steps:
                - {run: echo 1, register: first}
                - run: echo {{ first.stdout }}
                - {run: echo 2, when: first.changed}
                """)
        }
    )
    (wave,) = show_plan(project, "t")["lanes"][0]["waves"]
    one, two, three = wave["hosts"][0]["steps"]
    assert (one["waits"], two["waits"], three["waits"]) == ([], ["first"], [])
    assert two["text"] == "echo {{ first.stdout }}"
    assert three["when"] == "first.changed"
    shown = project.orch("-s", "dev", "plan", "t").out
    assert "waits for `first`" in shown


def test_the_order_of_the_plan_is_the_order_of_the_run(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2").write(
        {
            "inventories/dev/roles/web.yml": "[a2]\n",
            "tasks/one.yml": "steps: [{run: echo 1}, {run: echo 2}]\n",
            "tasks/two.yml": "roles: [web]\nsteps: [{run: echo 3}]\n",
            "tasks/all.yml": "tasks: [one, two, one, {name: last, steps: [{run: echo 4}]}]\n",
        }
    )
    planned = show_plan(project, "all")
    waves = [(w["task"], [h["host"] for h in w["hosts"]]) for w in planned["lanes"][0]["waves"]]
    assert waves == [
        ("one", ["a1", "a2"]),
        ("two", ["a2"]),
        ("one", ["a1", "a2"]),
        ("last", ["a1", "a2"]),
    ]
    done = project.orch("-s", "dev", "run", "all", "--json")
    for host in ("a1", "a2"):
        assert [s["name"] for s in done.host_steps(host)] == plan_texts(planned, host)


@pytest.mark.parametrize(
    ("task", "position", "what", "help_"),
    [
        ("steps:\n- run: echo {{ relase }}\n", "2:16", "'relase' is undefined", "release"),
        ("steps:\n- run: echo {{ host.nam }}\n", "2:", "nam", "name"),
        ("steps:\n- run: echo {{ hots.name }}\n", "2:16", "'hots' is undefined", "hosts"),
        ("steps:\n- run: echo {{ nope.at_root }}\n", "2:16", "'nope' is undefined", ""),
        ("steps:\n- run: echo {{ app.name }}\n", "2:", "with `--app NAME`", ""),
        (
            dedent("""\
                vars: {a: '{{ b }}', b: '{{ a }}'}
                steps:
                - run: echo {{ a }}
                """),
            "1:",
            "a → b → a",
            "",
        ),
        ("steps:\n- {run: id, when: relase == 1}\n", "2:19", "'relase' is undefined", "release"),
        (
            dedent("""\
                steps:
                - {run: id, register: r}
                - run: echo {{ r.stdout }} {{ relase }}
                """),
            "3:",
            "relase",
            "release",
        ),
        (
            dedent("""\
                params: {n: {type: int}}
                steps:
                - run: echo {{ n }}
                """),
            "<command line>",
            "whole number",
            "",
        ),
        (
            dedent("""\
                params: {n: {required: true}}
                steps:
                - run: echo {{ n }}
                """),
            "1:",
            "needs a value",
            "n=…",
        ),
    ],
)
def test_what_cannot_be_resolved_is_found_before_anything_is_contacted(
    project: OrchProject, task: str, position: str, what: str, help_: str
) -> None:
    project.write(
        {
            "inventories/dev/stage.yml": "vars: {release: 1}\n",
            "inventories/dev/hosts/a1.yml": "address: no-such-host.invalid\n",
            "tasks/t.yml": task,
        }
    )
    args = ["n=x"] if "type: int" in task else []
    done = project.orch("-s", "dev", "run", "t", *args)
    assert done.code == 3, done.err
    assert position in done.err
    assert what in done.err
    assert help_ in done.err


def test_a_problem_of_many_hosts_is_told_once_with_the_hosts(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2", "a3", "a4", "a5").write(
        {
            "inventories/dev/hosts/a5.yml": "vars: {x: 1}\n",
            "tasks/t.yml": "steps:\n- run: echo {{ x }}\n",
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert done.err.count("'x' is undefined") == 1
    assert "(on a[1-4])" in done.err


def test_an_undefined_name_behind_default_or_a_test_is_no_error(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": dedent("""\
                steps:
                - {run: id, register: r}
                - run: echo {{ x | default('d') }} {{ y if y is defined else 'no' }} {{ r.stdout }}
                """)
        }
    )
    assert project.orch("-s", "dev", "plan", "t").code == 0


def test_a_files_vars_see_its_params_also_where_another_file_names_them(
    project: OrchProject,
) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/hosts/a1.yml": "vars: {root: /srv}\n",
            "tasks/t.yml": (
                dedent("""\
                    params: {release: {default: r1}}
                    vars: {folder: '{{ root }}/{{ release }}', under: '{{ folder }}/x'}
                    steps:
                    - run: echo {{ under }}
                    - part: {release: other}
                    - {run: 'echo {{ item }} {{ folder }}', loop: [1]}
                    """)
            ),
            "tasks/part.yml": (
                "params: {release: {}, at: {default: '{{ under }}'}}\n"
                "steps: [{run: 'echo {{ release }} {{ at }}'}]\n"
            ),
            "tasks/both.yml": "params: {release: {}}\ntasks: [t: {release: '{{ release }}+'}]\n",
        }
    )
    assert plan_texts(show_plan(project, "t"), "a1") == [
        "echo /srv/r1/x", "echo other /srv/r1/x", "echo 1 /srv/r1",
    ]  # fmt: skip
    assert plan_texts(show_plan(project, "t", "release=r 2"), "a1")[0] == "echo '/srv/r 2/x'"
    assert plan_texts(show_plan(project, "both", "release=b"), "a1")[0] == "echo /srv/b+/x"
    project.write({"inventories/dev/hosts/a1.yml": "vars: {root: /srv, folder: '{{ release }}'}\n"})
    refused = project.orch("-s", "dev", "plan", "t")
    assert refused.code == 3, "an inventory's value sees no file's params"
    assert "'release' is undefined" in refused.err


def test_vars_of_a_file_that_need_themselves_are_a_circle(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {"tasks/t.yml": dedent("""\
            params: {a: {default: '{{ b }}'}}
            vars: {b: '{{ a }}'}
            steps: [{run: 'echo {{ b }}'}]
            """)}
    )  # fmt: skip
    done = project.orch("-s", "dev", "plan", "t")
    assert done.code == 3
    assert "values that depend on each other: b → a → b" in done.err


def test_files_named_after_their_hosts_that_are_missing_are_one_error(project: OrchProject) -> None:
    step = "steps:\n- copy: {src: 'keys/{{ host.name }}.pem', path: /tmp/x}\n"
    project.add_sandbox_stage("a1", "a2", "a3").write({"tasks/t.yml": step})
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert done.err.count("error:") == 1
    assert "a[1-3].pem" in done.err
    assert "(on a[1-3])" in done.err
