"""Unknown fields and names are rejected before any host is contacted."""

from __future__ import annotations

from textwrap import dedent

import pytest

from orchestrator.model.registered_result import RegisteredResult
from orchestrator.planner.template_objects import RESULT_FIELDS
from tests.projects import OrchProject


def refused_errors(project: OrchProject, text: str, *words: str) -> str:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": text})
    done = project.orch("-s", "dev", "run", "t", *words)
    assert done.code == 3, done.err
    assert not (project.root / ".orch" / "runs").exists()
    return done.err


def test_the_fields_of_results_are_those_that_results_have() -> None:
    assert all(hasattr(RegisteredResult("ok"), name) for name in RESULT_FIELDS)


@pytest.mark.parametrize(
    ("step", "what", "hint"),
    [
        ("run: echo {{ facts.os_family }}", "'facts.os_family'", "write facts.family"),
        ("run: echo {{ facts['hostnam'] }}", "'facts['hostnam']'", "did you mean 'hostname'?"),
        (
            "copy: {path: /tmp/x, content: '{{ facts.nodename }}'}",
            "'facts.nodename'",
            "facts.hostname",
        ),
        ("run: echo {{ r.rc }}", "'r.rc'", "write r.exit_status"),
        ("run: echo {{ r.stdout_lines }}", "'r.stdout_lines'", "write r.stdout.splitlines()"),
        ("run: echo {{ r.results[0].stdout }}", "'r.results'", "write r.items"),
        ("{run: ls, loop: '{{ r.results }}'}", "'r.results'", "write r.items"),
        ("{run: ls, when: r.rc == 0}", "'r.rc'", "write r.exit_status"),
        ("{run: ls, when: r.stdout and r.exit_code == 0}", "'r.exit_code'", "exit_status"),
        ("{run: ls, changed_when: result.rc == 1}", "'result.rc'", "write result.exit_status"),
        ("{run: ls, failed_when: 'result.stderrr'}", "'result.stderrr'", "'stderr'?"),
        ("{run: ls, until: result.succeded}", "'result.succeded'", "did you mean"),
        ("run: echo {{ r.stdout }} {{ run.releese }}", "'run.releese'", "'release'?"),
        ("set: {x: '{{ r.stdot }}'}", "'r.stdot'", "did you mean 'stdout'?"),
        ("{run: ls, stdin: '{{ r.output }}'}", "'r.output'", "available: status"),
    ],
)
def test_an_unknown_field_is_an_error_at_its_place(
    project: OrchProject, step: str, what: str, hint: str
) -> None:
    err = refused_errors(project, f"steps:\n- {{run: ls, register: r}}\n- {step}\n")
    assert f"{what} is undefined" in err
    assert hint in err
    assert "tasks/t.yml:3:" in err


def test_an_unknown_field_in_a_variable_or_a_template_file_is_found(project: OrchProject) -> None:
    project.write({"inventories/common/stage.yml": "vars: {family: '{{ facts.os_family }}'}\n"})
    err = refused_errors(project, "steps:\n- run: echo {{ family }}\n")
    assert "'facts.os_family' is undefined" in err
    assert "inventories/common/stage.yml:1:" in err
    project.write({"tasks/f.j2": "\n{{ facts.os_family }}\n"})
    err = refused_errors(project, "steps:\n- template: {src: f.j2, path: /tmp/x}\n")
    assert "tasks/f.j2:2:" in err


def test_what_an_earlier_task_registered_is_known_too(project: OrchProject) -> None:
    project.write(
        {
            "tasks/one.yml": "steps:\n- {run: ls, register: r}\n",
            "tasks/two.yml": "steps:\n- run: echo {{ r.rc }}\n",
        }
    )
    assert "'r.rc' is undefined" in refused_errors(project, "tasks: [one, two]\n")


@pytest.mark.parametrize(
    "steps",
    [
        "- {run: echo a, register: r, readonly: true}\n- run: echo {{ r.rc | default('none') }}",
        "- {run: echo a, register: r, readonly: true}\n- run: echo {{ r.rc is defined }}",
        "- set: {r: {rc: 1}}\n- run: echo {{ r.rc }}",
        dedent("""\
            - {run: echo a, register: x, readonly: true}
            - set: {r: {rc: '{{ x.stdout }}'}}
            - run: echo {{ r.rc }}"""),
        "- {run: echo a, register: x, readonly: true}\n"
        "- run: echo {% for r in [{'rc':1}] %}{{ x.stdout }}{{ r.rc }}{% endfor %}",
        "- {run: echo a, register: r, readonly: true}\n- u: {r: {rc: 1}}",
    ],
)
def test_names_that_may_hold_anything_are_left_alone(project: OrchProject, steps: str) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": f"steps:\n{steps}\n",
            "tasks/u.yml": dedent("""\
                params: {r: {type: dict}}
                steps:
                - run: echo {{ r.rc }}
                """),
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({"tasks/t.yml": "steps:\n- {run: ls, notify: restart}\n"}, "define it under `handlers:`"),
        (
            {
                "tasks/t.yml": dedent("""\
                    steps:
                    - {run: ls, notify: restrt}
                    handlers: {restart: [{run: ls}]}""")
            },
            "did you mean 'restart'?",
        ),
        (
            {
                "tasks/t.yml": dedent("""\
                    tasks:
                    - steps:
                      - {run: ls, notify: h}
                    - two
                    """),
                "tasks/two.yml": "steps: [{run: ls}]\nhandlers: {h: [{run: ls}]}\n",
            },
            "define it under `handlers:`",
        ),
        (
            {
                "tasks/t.yml": dedent("""\
                    steps: [{run: ls}]
                    rollback: [{run: ls, notify: gone}]
                    handlers: {h: [{run: ls}]}
                    """)
            },
            "handlers: h",
        ),
    ],
)
def test_a_handler_that_no_task_in_reach_has_is_an_error(
    project: OrchProject, files: dict[str, str], hint: str
) -> None:
    project.add_sandbox_stage("a1").write(files)
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "has no handler '" in done.err
    assert hint in done.err


def test_handlers_of_tasks_that_call_and_are_called_are_in_reach(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": dedent("""\
                steps:
                - a: {}
                - {run: touch x, notify: of_b}
                handlers: {of_t: [{run: echo of t}]}
                """),
            "tasks/a.yml": "steps:\n- b: {}\n",
            "tasks/b.yml": "steps: [{run: touch y, notify: of_t}]\n"
            "handlers: {of_b: [{run: echo of b}]}\n",
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 0, done.err
    assert "of t" in done.out
    assert "of b" in done.out
