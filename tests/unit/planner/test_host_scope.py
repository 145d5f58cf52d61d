"""Which layer a name's value comes from, and the positions of names without one."""

from __future__ import annotations

import pytest

from orchestrator.planner.host_scope import expand_home_paths, lone_name
from tests.unit.planner.plan_project import (
    PlanProject,
    output,
    resume_step,
    resumed_command,
)

LAYERS = {
    "task": {"tasks/t.yml": "vars: {x: task}\nsteps: [run: 'echo {{ x }}']\n"},
    "common": {"inventories/common/stage.yml": "vars: {x: common}\n"},
    "stage": {"inventories/dev/stage.yml": "vars: {x: stage}\n"},
    "role": {
        "inventories/dev/roles.yml": "web: {hosts: [web1, web2, web3], vars: {x: role}}\ndb: [db1]\n"
    },
    "host": {"inventories/dev/hosts.yml": "web1: {vars: {x: host}}\nweb2:\nweb3:\ndb1:\n"},
    "app": {"inventories/dev/apps/blog.yml": "roles: [web]\nvars: {x: app}\n"},
}
"""The layers of variables, from lowest to highest precedence, each with the files that set it."""


@pytest.mark.parametrize("count", range(1, len(LAYERS) + 1))
def test_each_layer_overrides_those_before_it(plans: PlanProject, count: int) -> None:
    chosen = list(LAYERS)[:count]
    for name in chosen:
        plans.write(LAYERS[name])
    apps = ("blog",) if "app" in chosen else ()
    (planned,) = plans.planned_tasks("t", limit="web1", apps=apps)
    assert planned.hosts[0].steps[0].display_text == f"echo {chosen[-1]}"


def test_extra_variables_override_all_layers_and_set_overrides_them(plans: PlanProject) -> None:
    for files in LAYERS.values():
        plans.write(files)
    (planned,) = plans.planned_tasks("t", limit="web1", apps=("blog",), extra=("x=given",))
    assert planned.hosts[0].steps[0].display_text == "echo given"
    steps = "- set: {x: set}\n- run: echo {{ x }}\n"
    assert plans.command(steps, extra=("x=given",)).text == "echo set"


def test_the_text_of_an_extra_variable_is_not_a_template(plans: PlanProject) -> None:
    assert plans.command("- run: echo {{ x }}", extra=("x={{ y }}",)).text == "echo '{{ y }}'"


def test_mappings_of_several_layers_are_merged(plans: PlanProject) -> None:
    plans.write(
        {
            "inventories/common/stage.yml": "vars: {m: {a: 1, b: 1}}\n",
            "inventories/dev/stage.yml": "vars: {m: {b: 2, c: 2}}\n",
        }
    )
    assert plans.command("- run: echo {{ m.a }} {{ m.b }} {{ m.c }}").text == "echo 1 2 2"


def test_a_variable_may_use_others_of_any_layer(plans: PlanProject) -> None:
    plans.write(
        {
            "inventories/common/stage.yml": 'vars: {url: "http://{{ domain }}/"}\n',
            "inventories/dev/stage.yml": 'vars: {domain: "{{ host.name }}.dev"}\n',
        }
    )
    assert plans.command("- run: curl {{ url }}", host="web2").text == "curl http://web2.dev/"


def test_variables_that_depend_on_each_other_are_an_error_with_the_circle(
    plans: PlanProject,
) -> None:
    plans.variables('a: "{{ b }}"\nb: "{{ c }}"\nc: "{{ a }}"')
    problem = plans.refused_steps("- run: echo {{ a }}")
    assert problem.message == "values that depend on each other: a → b → c → a"


@pytest.mark.parametrize(
    "step",
    [
        "run: echo {{ colur }}",
        'run: "echo {{ colur }}"',
        "{run: x, chdir: '{{ colur }}'}",
        "{run: x, stdin: 'a {{ colur }}'}",
        "{copy: {path: /x, content: '{{ colur }}'}}",
        "fail: '{{ colur }}'",
        "set: {a: '{{ colur }}'}",
        "assert: colur == 'red'",
        "{run: x, environment: {A: '{{ colur }}'}}",
        "{run: x, become: '{{ colur }}'}",
        "{run: x, loop: colur}",
    ],
)
def test_an_undefined_name_is_an_error_at_its_place_with_the_nearest(
    plans: PlanProject, step: str
) -> None:
    plans.variables("colour: red")
    problem = plans.refused_steps(f"- {step}")
    assert problem.message == "'colur' is undefined"
    assert problem.hint == "did you mean 'colour'?"
    column = f"  - {step}".index("colur") + 1
    assert str(problem.mark) == f"tasks/t.yml:2:{column}"


def test_an_undefined_name_in_a_variable_is_an_error_where_it_is_written(
    plans: PlanProject,
) -> None:
    plans.variables('url: "http://{{ domian }}"\ndomain: x')
    problem = plans.refused_steps("- run: curl {{ url }}")
    assert problem.message == "'domian' is undefined"
    assert str(problem.mark).startswith("inventories/dev/stage.yml:2:")


def test_a_waiting_step_reports_undefined_names_before_the_run(plans: PlanProject) -> None:
    problem = plans.refused_steps("""
        - {run: x, register: r}
        - run: echo {{ r.stdout }} {{ colur }}
    """)
    assert problem.message == "'colur' is undefined"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("app", "select one with `--app NAME`"),
        ("item", "only in a loop"),
        ("result", "changed_when and failed_when"),
    ],
)
def test_a_name_that_is_not_available_here_is_an_error_with_the_reason(
    plans: PlanProject, name: str, hint: str
) -> None:
    problem = plans.refused_steps(f"- run: echo {{{{ {name} }}}}")
    assert problem.message.startswith(f"'{name}' is not available here: ")
    assert hint in problem.message


def test_a_variable_of_an_app_is_an_error_that_names_the_app(plans: PlanProject) -> None:
    plans.write({"inventories/dev/apps/blog.yml": "roles: [web]\nvars: {branch: main}\n"})
    problem = plans.refused_steps("- run: git checkout {{ branch }}")
    assert problem.hint == "give `--app blog`: it is a variable of that app"


def test_the_default_filter_and_is_defined_allow_undefined_names(plans: PlanProject) -> None:
    command = plans.command("""
        - run: echo {{ no | default('d') }} {{ 'y' if no is defined else 'n' }}
    """)
    assert command.text == "echo d n"


def test_variables_of_another_host_are_read_through_hosts(plans: PlanProject) -> None:
    plans.write(
        {
            "inventories/dev/stage.yml": 'vars: {me: "{{ host.name }}:{{ port }}", port: 1}\n',
            "inventories/dev/hosts.yml": "web1:\nweb2:\nweb3:\n"
            "db1: {address: 10.0.0.9, vars: {port: 5432}}\n",
        }
    )
    command = plans.command("""
        - run: echo {{ hosts['db1'].me }} {{ hosts.db1.address }} {{ hosts.db1.roles[0] }} {{ me }}
    """)
    assert command.text == "echo db1:5432 10.0.0.9 db web1:1"


def test_a_result_of_another_host_is_awaited_under_the_name_of_the_host(
    plans: PlanProject,
) -> None:
    plans.write(
        {
            "tasks/a.yml": "steps: [{run: x, register: r}, set: {known: yes-it-is}]\n",
            "tasks/b.yml": """
                steps: [run: "echo {{ hosts['db1'].known }}", run: "echo {{ hosts['db1'].r.stdout }}"]
            """,
        }
    )
    (app_plan,) = plans.plan("a", "b").app_plans
    known, pending = app_plan.planned_tasks[1].hosts[0].steps
    assert known.display_text == "echo yes-it-is"
    assert pending.awaited_names == ("hosts['db1'].r",)


def test_an_unknown_variable_of_another_host_is_an_error(plans: PlanProject) -> None:
    problem = plans.refused_steps("- run: echo {{ hosts['db1'].nope }}")
    assert "nope" in problem.message
    assert str(problem.mark).startswith("tasks/t.yml:2:")


def test_hosts_that_read_each_other_are_an_error_with_the_circle(plans: PlanProject) -> None:
    plans.variables("""a: "{{ hosts['web2'].b }}"\nb: "{{ hosts['web1'].a }}" """)
    problem = plans.refused_steps("- run: echo {{ a }}")
    assert "values that depend on each other: " in problem.message
    assert "hosts['web2'].b" in problem.message


def test_facts_are_awaited_only_by_the_steps_that_use_them(plans: PlanProject) -> None:
    steps = plans.steps("- run: x\n- run: echo {{ facts.os }}\n")
    assert [step.awaited_names for step in steps] == [(), ("facts.os",)]
    assert resumed_command(steps[1], facts={"os": "a b"}).text == "echo 'a b'"


def test_a_fact_that_does_not_exist_is_an_error_with_a_hint(plans: PlanProject) -> None:
    problem = plans.refused_steps("- run: echo {{ facts.distribution }}")
    assert problem.message == "'facts.distribution' is undefined"
    assert "distro" in problem.hint


def test_a_value_is_not_kept_from_one_result_to_the_next(plans: PlanProject) -> None:
    """A variable made of a result differs between two attempts, or two loops."""
    plans.variables('shown: "<{{ r.stdout }}>"')
    step = plans.step("- {run: x, register: r}\n- run: echo {{ shown }}\n")
    assert [resumed_command(step, r=text).text for text in "ab"] == ["echo '<a>'", "echo '<b>'"]


def test_setting_a_variable_from_a_result_leaves_it_unknown_until_then(plans: PlanProject) -> None:
    steps = plans.steps("""
        - set: {x: before}
        - {run: date, register: r}
        - run: echo {{ x }}
        - set: {x: "{{ r.stdout }}"}
        - run: echo {{ x }}
    """)
    assert steps[2].display_text == "echo before"
    assert [step.awaited_names for step in steps[3:]] == [("r",), ("x",)]
    action = resume_step(steps[3], r=output("now"))
    assert dict(getattr(action, "values", {})) == {"x": "now"}


def test_set_uses_the_values_from_before_it(plans: PlanProject) -> None:
    steps = plans.steps("""
        - set: {n: 1}
        - set: {n: "{{ n + 1 }}", old: "{{ n }}"}
        - run: echo {{ n }} {{ old }}
    """)
    assert steps[2].display_text == "echo 2 1"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ x }}", "x"),
        (" {{x}} ", "x"),
        ("{{- x | raw -}}", "x"),
        ("{{ x if y else z }}", "x"),
        ("{{ x.y }}", ""),
        ("{{ x }}{{ y }}", ""),
        ("a {{ x }}", ""),
        ("{{ x + 1 }}", ""),
        ("x", ""),
        ("{{ 1 }}", ""),
    ],
)
def test_a_lone_name_is_passed_on_unchanged(source: str, name: str) -> None:
    assert lone_name(source) == name


def test_home_paths_are_marked_anywhere_in_a_value() -> None:
    value = {"a": ["~/x", "~", "x"], "b": {"c": "~/y"}, "n": 1}
    found = expand_home_paths(value)
    assert found == value
    assert isinstance(found, dict)
    assert [type(each).__name__ for each in found["a"]] == ["HomePath", "str", "str"]
    assert type(found["b"]["c"]).__name__ == "HomePath"


def test_only_values_of_the_project_name_the_home_folder(plans: PlanProject) -> None:
    plans.variables("path: ~/x y")
    steps = plans.steps("""
        - run: cat {{ path }}
        - {run: echo, register: r}
        - run: cat {{ r.stdout }}
    """)
    assert steps[0].display_text == "cat \"$HOME\"/'x y'"
    assert resumed_command(steps[2], r="~/x").text == "cat '~/x'"
