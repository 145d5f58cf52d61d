"""What ``orch lint`` finds that would otherwise fail in a run, and what a run refuses at once."""

from __future__ import annotations

import json

import pytest

from tests.projects import Project

TASK = "desc: t\nsteps: [{run: 'true'}]\n"


@pytest.fixture
def shop(project: Project) -> Project:
    return project.sandbox("a1", "a2", "a3", "a4", "a5").write({"tasks/t.yml": TASK})


def variables(project: Project, text: str) -> Project:
    return project.write(
        {"inventories/dev/stage.yml": f"connect: {{transport: sandbox}}\nvars:\n  {text}\n"}
    )


def test_variables_that_need_each_other_are_found_and_told_once_for_all_hosts(
    shop: Project,
) -> None:
    done = variables(shop, 'a: "{{ b }}"\n  b: "{{ a }}"\n  c: "{{ a }}"').orch("lint")
    assert done.code == 3
    assert done.err.count("a → b → a (on a[1-5])") == 1
    assert "stage.yml:3:6" in done.err


@pytest.mark.parametrize(
    ("value", "what", "place"),
    [
        ('"{{ nothing }}"', "'nothing' is undefined", "3:10"),
        ('"{{ 1 / 0 }}"', "division by zero", "3:"),
        ('"{{ 1 + }}"', "this is no template", "3:"),
        ('["{{ hosts.a1.vars.nope }}"]', "'hosts.a1.vars.nope' is undefined", "3:"),
        ('"{{ task.desc }}"', "'task' is undefined", "3:10"),
    ],
)
def test_a_variable_without_a_value_is_an_error_at_its_place(
    shop: Project, value: str, what: str, place: str
) -> None:
    done = variables(shop, f"v: {value}\n  w: '{{{{ v }}}}'").orch("lint")
    assert done.code == 3
    assert done.err.count(what) == 1
    assert f"stage.yml:{place}" in done.err


@pytest.mark.parametrize(
    "value",
    [
        "{{ facts.os }}",
        "{{ app.name }}",
        "{{ item }}",
        "{{ before.stdout }}",
        "{{ made }}",
        "{{ own }}",
        "{{ env.NOT_THERE }}",
        "{{ hosts.a2.vars.other }}",
        "{{ nothing | default('x') }}",
        "{{ host.name }} {{ stage.name }} {{ run.release }} {{ roles | length }}",
    ],
)
def test_a_variable_that_only_a_run_can_know_is_not_judged(shop: Project, value: str) -> None:
    shop.write(
        {
            "tasks/u.yml": """\
                desc: u
                vars: {own: 1}
                steps:
                - {run: id, register: before}
                - set: {made: 1}
                """
        }
    )
    done = variables(shop, f'v: "{value}"\n  w: "{{{{ v }}}}"\n  other: "{{{{ facts.x }}}}"').orch(
        "lint"
    )
    assert done.code == 0, done.err


def test_the_environment_of_a_stage_is_judged_like_its_variables(shop: Project) -> None:
    shop.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\n"
            "environment: {A: '{{ nope }}', B: '{{ [1] }}'}\n"
        }
    )
    err = shop.orch("lint").err
    assert "'nope' is undefined" in err
    assert "environment variable 'B' must be text" in err


def test_a_problem_of_one_host_names_it(shop: Project) -> None:
    shop.write({"inventories/dev/hosts/a2.yml": "vars: {v: '{{ nope }}'}\n"})
    assert "'nope' is undefined (on a2)" in shop.orch("lint").err


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({"run": "id", "when": "'no'"}, "'no' is text, and any text counts as true"),
        ({"run": "id", "when": [True, "'0'"]}, "'0' is text"),
        ({"run": "id", "changed_when": "'false'"}, "'false' is text"),
        ({"run": "id", "failed_when": "'no'"}, "'no' is text"),
        ({"run": "id", "ignore_errors": "'no'"}, "'no' is text"),
        ({"run": "id", "until": "'no'", "retries": 0}, "'no' is text"),
        ({"assert": "'no'"}, "'no' is text"),
        ({"run": "id", "creates": ["a"]}, "creates must be text"),
        ({"run": "id", "creates": " "}, "creates is blank"),
        ({"run": "id", "removes": {"a": 1}}, "removes must be text"),
        ({"run": "id", "stdin": ["a"]}, "stdin must be text"),
        ({"run": "id", "chdir": ["a"]}, "chdir must be text"),
        ({"run": "id", "delegate_to": ["a1"]}, "delegate_to must be text"),
        ({"run": "id", "environment": {"A": ["b"]}}, "environment variable 'A' must be text"),
        ({"run": "id", "loop": 5}, "`loop` needs a list"),
        ({"run": "id", "loop": "'a b'"}, "`loop` needs a list"),
        ({"block": [{"run": "id", "creates": ["a"]}]}, "creates must be text"),
    ],
)
def test_a_constant_that_would_fail_in_every_run_is_an_error(
    shop: Project, step: dict[str, object], what: str
) -> None:
    done = shop.write({"tasks/u.yml": json.dumps({"desc": "u", "steps": [step]})}).orch("lint")
    assert done.code == 3
    assert done.err.count(what) == 1
    assert "tasks/u.yml:1:" in done.err
    run = shop.orch("-s", "dev", "run", "u", "-l", "a1")
    assert run.code in (1, 3), "lint refuses what runs"


def test_a_constant_on_a_task_or_an_item_is_judged(shop: Project) -> None:
    shop.write(
        {
            "tasks/u.yml": "desc: u\nchdir: [a]\nsteps: [{run: id}]\n",
            "tasks/v.yml": "desc: v\ntasks:\n- t: {}\n  when: \"'no'\"\n"
            "- {name: w, when: \"'off'\", steps: [{run: id}]}\n",
        }
    )
    err = shop.orch("lint").err
    for place in ("tasks/u.yml:2:8", "tasks/v.yml:4:", "tasks/v.yml:5:"):
        assert place in err


@pytest.mark.parametrize(
    "step",
    [
        {"run": "id", "when": "'yes'"},
        {"run": "id", "when": "x == 'no'"},
        {"run": "id", "creates": "{{ x }}"},
        {"run": "id", "creates": 5},
        {"run": "id", "loop": [1, 2]},
        {"run": "id", "loop": "range(3)"},
        {"run": "id", "environment": {"A": None, "B": True}},
    ],
)
def test_what_can_work_is_no_error(shop: Project, step: dict[str, object]) -> None:
    done = shop.write({"tasks/u.yml": json.dumps({"desc": "u", "steps": [step]})}).orch("lint")
    assert (done.code, done.err) == (0, "")


def test_a_stage_named_is_judged_alone_but_a_role_may_be_another_ones(shop: Project) -> None:
    shop.sandbox("b1", stage="one").write(
        {
            "inventories/dev/roles/web.yml": "[a1]",
            "inventories/dev/hosts/a1.yml": "vars: {v: '{{ nope }}'}",
            "tasks/u.yml": "desc: u\nroles: [web]\nsteps: [{run: id}]\n",
        }
    )
    assert shop.orch("-s", "one", "lint").code == 0
    assert shop.orch("-s", "dev", "lint").code == 3
    shop.write({"tasks/u.yml": "desc: u\nroles: [wbe]\nsteps: [{run: id}]\n"})
    assert "no stage has the role 'wbe'" in shop.orch("-s", "one", "lint").err
    shop.write({"inventories/dev/stage.yml": "nope: 1\n", "tasks/u.yml": TASK})
    assert shop.orch("-s", "one", "lint").code == 0
    assert shop.orch("-s", "dev", "lint").code == 3


def test_a_stage_in_error_does_not_make_its_roles_unknown(shop: Project) -> None:
    shop.write(
        {
            "inventories/dev/roles/web.yml": "hosts: [a1]\nnope: 1\n",
            "tasks/u.yml": "desc: u\nroles: [web]\nsteps: [{run: id}]\n",
        }
    )
    err = shop.orch("lint").err
    assert "nope" in err
    assert "no stage has the role" not in err
