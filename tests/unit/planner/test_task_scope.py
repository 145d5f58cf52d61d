"""The params of a task file: where their values come from, and the rules over them."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from tests.unit.planner.plan_project import PlanProject, resume_step, resumed_command

SAY = "params: {x: {default: default}}\nsteps: [run: 'echo {{ x }}']\n"
"""A task file that prints its param."""


def printed(plans: PlanProject, **options: object) -> list[str]:
    """Return the commands of the only planned task on web1."""
    (planned,) = plans.planned_tasks("t", limit="web1", **options)
    return [step.display_text.removeprefix("echo ") for step in planned.hosts[0].steps]


def test_a_requested_task_takes_arguments_then_variables_then_defaults(plans: PlanProject) -> None:
    plans.write_task(SAY)
    assert printed(plans) == ["default"]
    plans.variables("x: stage")
    assert printed(plans) == ["stage"]
    assert printed(plans, extra=("x=extra",)) == ["extra"]
    assert printed(plans, extra=("x=extra",), args={"x": "argument"}) == ["argument"]


def test_an_item_of_a_playbook_takes_its_arguments_before_those_of_the_command_line(
    plans: PlanProject,
) -> None:
    plans.write_task(SAY, "say")
    plans.write_task("tasks: [say: {x: written}]\n")
    assert printed(plans, args={}) == ["written"]
    plans.write_task("params: {x: {default: outer}}\ntasks: [say: {x: '{{ x }}!'}]\n")
    assert printed(plans, args={"x": "given"}) == ["'given!'"]


def test_arguments_of_an_inner_playbook_count_before_those_from_further_out(
    plans: PlanProject,
) -> None:
    plans.write_task(SAY, "say")
    plans.write_task("params: {x: {default: own}}\ntasks: [say]\n", "inner")
    plans.write_task("params: {x: {default: outer}}\ntasks: [inner: {x: written}, inner]\n")
    planned = plans.planned_tasks("t", limit="web1", args={"x": "given"})
    assert [each.hosts[0].steps[0].display_text for each in planned] == [
        "echo written",
        "echo given",
    ]


def test_a_task_called_as_a_step_takes_only_what_is_written_there(plans: PlanProject) -> None:
    plans.variables("x: stage")
    plans.write_task(SAY, "say")
    plans.write_task("params: {x: {default: outer}}\nsteps: [say: {}, say: {x: '{{ x }}'}]\n")
    assert printed(plans, args={"x": "given"}) == ["default", "given"]


def test_defaults_of_the_inventory_apply_to_called_tasks_and_to_modules(plans: PlanProject) -> None:
    plans.write(
        {
            "inventories/dev/stage.yml": "defaults: {say: {x: inventory}}\n",
            "tasks/say.yml": SAY,
            "tasks/t.yml": "steps: [say: {}, say: {x: written}]\n",
        }
    )
    assert printed(plans) == ["inventory", "written"]


def test_a_param_hides_a_variable_but_not_in_the_variables_themselves(plans: PlanProject) -> None:
    plans.variables('x: stage\nurl: "http://{{ x }}"')
    plans.write_task(
        "params: {x: {default: d}}\nsteps: [run: 'echo {{ x }}', run: 'echo {{ url }}']\n"
    )
    assert printed(plans, args={"x": "given"}) == ["given", "http://stage"]


def test_the_default_of_a_param_can_use_other_params(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {a: {default: 1}, b: {default: "{{ a }}-{{ host.name }}"}}
        steps: [run: "echo {{ b }}"]
        """
    )
    assert printed(plans, args={"a": "9"}) == ["9-web1"]


def test_params_that_depend_on_each_other_are_an_error(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {a: {default: "{{ b }}"}, b: {default: "{{ a }}"}}
        steps: [run: "echo {{ b }}"]
        """
    )
    problem = plans.only_diagnostic("t", limit="web1")
    assert problem.message == "values that depend on each other: b → a → b"


def test_a_missing_param_of_a_call_is_an_error_at_the_call(plans: PlanProject) -> None:
    plans.write_task("params: {x: {required: true}}\nsteps: [run: 'echo {{ x }}']\n", "say")
    problem = plans.refused_steps("- say: {}")
    assert "'x'" in problem.message
    assert str(problem.mark).startswith("tasks/t.yml:2:")


def test_a_missing_param_of_a_requested_task_names_the_argument_to_give(plans: PlanProject) -> None:
    plans.write_task("params: {x: {required: true}}\nsteps: [run: 'echo {{ x }}']\n")
    problem = plans.only_diagnostic("t", limit="web1")
    assert problem.message == "task 't' needs a value for its param 'x'"
    assert problem.hint == "give it as x=…"
    plans.write({"inventories/dev/apps/blog.yml": "roles: [web]\nvars: {y: 1}\n"})
    problem = plans.only_diagnostic("t", limit="web1", apps=("blog",))
    assert problem.message == "app 'blog' has no x, and task 't' needs a value for its param 'x'"
    assert str(problem.mark).startswith("inventories/dev/apps/blog.yml:1:")


@pytest.mark.parametrize(
    ("param", "value", "shown"),
    [
        ("{type: int}", "12", "12"),
        ("{type: bool}", "true", "true"),
        ("{type: list}", "a,b c", "a 'b c'"),
        ("{type: path}", "~/x", "\"$HOME\"/'x'"),
        ("{type: mode}", "0640", "0640"),
        ("{type: str}", "0640", "0640"),
    ],
)
def test_text_of_the_command_line_is_converted_to_the_type(
    plans: PlanProject, param: str, value: str, shown: str
) -> None:
    plans.write_task(f"params: {{x: {param}}}\nsteps: [run: 'echo {{{{ x }}}}']\n")
    assert printed(plans, args={"x": value}) == [shown]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("{type: int}", "twelve"),
        ("{type: bool}", "perhaps"),
        ("{choices: [a, b]}", "c"),
        ("{type: mode}", "rw"),
        ("{type: name}", "a/b"),
        ("{type: subpath}", "../a"),
        ("{type: path, absolute: true}", "a"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_where_it_is_written(
    plans: PlanProject, param: str, value: str
) -> None:
    plans.write_task(f"params: {{x: {param}}}\nsteps: [run: 'echo {{{{ x }}}}']\n")
    problem = plans.only_diagnostic("t", limit="web1", args={"x": value})
    assert problem.message.startswith("param 'x' of task 't' ")
    assert str(problem.mark) == "<command line>"
    plans.variables(f"x: '{value}'")
    problem = plans.only_diagnostic("t", limit="web1")
    assert problem.message.startswith("'x' ")
    assert str(problem.mark) == "inventories/dev/stage.yml:2:6"


def test_a_wrong_item_of_a_list_is_an_error_at_the_item(plans: PlanProject) -> None:
    plans.variables("ports:\n  - 80\n  - http\n")
    plans.write_task(
        """
        params: {ports: {type: list, elements: int}}
        steps: [run: "echo {{ ports }}"]
        """
    )
    problem = plans.only_diagnostic("t", limit="web1")
    assert str(problem.mark) == "inventories/dev/stage.yml:4:7"


ONE_OF = "params: {a: {}, b: {}}\none_of: [a, b]\nsteps: [run: 'true']\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "task 't' needs a or b, but none of them is set"),
        ({"a": "", "b": ""}, "task 't' needs a or b, but none of them is set"),
        ({"a": "1", "b": "2"}, "task 't' has a and b, but only one of them is allowed"),
    ],
)
def test_exactly_one_of_some_params_is_given_though_no_step_uses_them(
    plans: PlanProject, args: dict[str, str], message: str
) -> None:
    plans.write_task(ONE_OF)
    assert plans.only_diagnostic("t", limit="web1", args=args).message == message
    assert plans.plan("t", limit="web1", args={"a": "1"})


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("/srv/a", "/srv/a", "'/srv/a' of b is given twice"),
        ("/srv", "/srv/a", "'/srv/a' of b is inside '/srv'"),
        ("/srv/a/b", "/srv/a", "'/srv/a/b' of a is inside '/srv/a'"),
        ("/", "/srv", "'/srv' of b is inside '/'"),
    ],
)
def test_paths_that_must_be_disjoint_are_an_error_if_one_contains_the_other(
    plans: PlanProject, first: str, second: str, message: str
) -> None:
    plans.write_task(
        """
        params: {a: {type: path}, b: {type: path}}
        disjoint: [a, b]
        steps: [run: "true"]
        """
    )
    problem = plans.only_diagnostic("t", limit="web1", args={"a": first, "b": second})
    assert problem.message == f"task 't': {message}"
    assert plans.plan("t", limit="web1", args={"a": "/srv/a", "b": "/srv/ab"})


def test_a_path_between_two_others_does_not_hide_that_one_contains_the_other(
    plans: PlanProject,
) -> None:
    plans.write_task(
        """
        params: {a: {type: list, elements: path}}
        disjoint: [a]
        steps: [run: "true"]
        """
    )
    problem = plans.only_diagnostic("t", limit="web1", args={"a": "/srv/a/c,/srv/a-b,/srv/a"})
    assert problem.message == "task 't': '/srv/a/c' of a is inside '/srv/a'"


def test_a_rule_over_a_result_is_checked_when_the_result_is_known(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {a: {}, b: {}}
        one_of: [a, b]
        steps: [run: "echo {{ a or '' }}{{ b or '' }}"]
        """,
        "either",
    )
    step = plans.step("""
        - {run: x, register: r}
        - either: {a: "{{ r.stdout }}", b: "{{ r.stderr }}"}
    """)
    assert resumed_command(step, r="x").text == "echo 'x'''"
    with pytest.raises(DefinitionError, match="needs a or b"):
        resume_step(step, r="")


def test_a_called_task_does_not_see_the_item_of_its_callers_loop(plans: PlanProject) -> None:
    plans.write_task("steps: [run: 'echo {{ item }}']\n", "inner")
    problem = plans.refused_steps("- {inner: {}, loop: [a]}")
    assert problem.message.startswith("'item' is not available here")


def test_the_vars_of_a_file_use_the_params_of_that_file(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {x: {default: 1}}
        vars: {y: "<{{ x }}>", z: "{{ y }}!"}
        steps: [run: "echo {{ z }}"]
        """
    )
    assert printed(plans, args={"x": "9"}) == ["'<9>!'"]


def test_the_name_of_the_task_is_available_in_it(plans: PlanProject) -> None:
    plans.write_task("desc: A test\nsteps: [run: 'echo {{ task }} {{ task.desc }}']\n")
    assert printed(plans) == ["t 'A test'"]
