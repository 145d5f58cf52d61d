"""What a waiting step depends on, and what of it is checked before the run."""

from __future__ import annotations

import pytest

from orchestrator.planner.template_objects import (
    HostView,
    LazyMapping,
    NamedView,
    run_view,
)
from orchestrator.templating import ResultPending
from tests.unit.planner.plan_project import PlanProject, output, resumed_command


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ("run: echo {{ a.stdout }}", ("a",)),
        ("run: echo {{ b.stdout }} {{ a.stdout }}", ("a", "b")),
        ("{run: echo x, stdin: '{{ a.stdout }}'}", ("a",)),
        ("{run: echo x, chdir: '{{ a.stdout }}'}", ("a",)),
        ("{run: echo x, timeout: '{{ a.stdout }}'}", ("a",)),
        ("{run: echo x, environment: {A: '{{ a.stdout }}'}}", ("a",)),
        ("{run: echo x, creates: '{{ a.stdout }}', onlyif: 'test {{ b.stdout }}'}", ("a", "b")),
        ("{run: echo x, when: a.stdout}", ("a",)),
        ("{run: 'echo {{ b.stdout }}', when: a.stdout}", ("a", "b")),
        ("copy: {path: /x, content: '{{ a.stdout }}'}", ("a",)),
        ("download: {path: '{{ a.stdout }}', to: x}", ("a",)),
        ("set: {v: '{{ a.stdout }}'}", ("a",)),
        ("assert: a.stdout == b.stdout", ("a", "b")),
        ("{run: 'echo {{ item }}', loop: a.stdout.split()}", ("a",)),
        ("run: echo {{ made }}", ("a",)),
        ("run: echo {{ facts.os }} {{ a.stdout }}", ("a", "facts.os")),
    ],
)
def test_a_step_waits_for_the_results_that_it_uses(
    plans: PlanProject, step: str, names: tuple[str, ...]
) -> None:
    plans.variables('made: "<{{ a.stdout }}>"')
    planned = plans.step(f"- {{run: x, register: a}}\n- {{run: x, register: b}}\n- {step}")
    assert planned.awaited_names == names


def test_a_step_waits_for_no_result_that_it_does_not_use(plans: PlanProject) -> None:
    step = plans.step("- {run: x, register: a}\n- run: echo {{ host.name }}\n")
    assert step.awaited_names == ()
    assert step.resume is None


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("run: echo {{ a.stdout }} {{ 1 // (m.a - 1) }}", "the expression fails"),
        ("run: echo {{ a.stdout }} {{ nope }}", "'nope' is undefined"),
        ("{run: 'echo {{ a.stdout }}', chdir: '{{ nope }}'}", "'nope' is undefined"),
        ("{run: 'echo {{ a.stdout }}', environment: {A: '{{ nope }}'}}", "'nope' is undefined"),
        ("run: echo {{ a.stdout }} {{ broken }}", "the expression fails"),
        ("{run: x, when: [a.stdout, nope == 1]}", "'nope' is undefined"),
        ("run: echo {{ a.stdout }} {{ m.b }}", "'m.b' is undefined"),
    ],
)
def test_what_fails_whatever_the_result_is_fails_before_the_run(
    plans: PlanProject, step: str, message: str
) -> None:
    plans.variables('broken: "{{ 1 // 0 }}"\nm: {a: 1}')
    problem = plans.refused_steps(f"- {{run: x, register: a}}\n- {step}")
    assert problem.message.startswith(message)


def test_what_a_pending_condition_may_rule_out_is_not_an_error(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: x, register: a}
        - {run: "echo {{ 10 // (a.stdout | int) }}", when: a.stdout != '0'}
    """)
    assert step.awaited_names == ("a",)
    assert resumed_command(step, a=output("3")).text == "echo 3"


def test_a_file_that_is_missing_is_an_error_though_its_step_waits(plans: PlanProject) -> None:
    problem = plans.refused_steps("""
        - {run: x, register: a}
        - {template: {src: no.j2, path: "{{ a.stdout }}"}}
    """)
    assert "no.j2" in problem.message


def test_a_set_name_may_have_any_field(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: x, register: a}
        - set: {m: {version: "{{ a.stdout }}"}}
        - run: echo {{ m.version }}
    """)
    assert resumed_command(step, m={"version": "1.2"}).text == "echo 1.2"


def test_a_param_hides_the_fields_of_a_built_in_object(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {config: {type: dict, required: true}}
        steps: [{run: x, register: a}, run: "echo {{ config.rc }} {{ a.stdout }}"]
        """,
        "u",
    )
    step = plans.step("- u: {config: {rc: 1}}")
    assert resumed_command(step, a="x").text == "echo 1 x"


def test_a_view_of_a_run_has_its_start_in_utc() -> None:
    view = run_view("r7", "me", 86_399.9, "why")
    assert (str(view), view.started, view.release, view.user, view.message) == (
        *("r7", "1970-01-01T23:59:59Z", "19700101235959", "me", "why"),
    )
    assert str(NamedView("dev", "a stage")) == "dev"


def test_a_mapping_makes_its_values_when_they_are_read() -> None:
    names_read: list[str] = []

    def read_value(name: str) -> str:
        names_read.append(name)
        if name == "later":
            raise ResultPending({name})
        return name.upper()

    mapping = LazyMapping({"a": 1, "b": 2, "later": 3}, read_value)
    assert list(mapping) == ["a", "b", "later"]
    assert len(mapping) == 3
    assert "later" in mapping
    assert "c" not in mapping
    assert names_read == []
    assert mapping["a"] == "A"
    assert names_read == ["a"]
    with pytest.raises(KeyError):
        mapping["c"]
    with pytest.raises(ResultPending):
        mapping["later"]
    with pytest.raises(TypeError):
        str(mapping)


def test_an_attribute_of_a_host_that_is_not_a_field_is_its_variable() -> None:
    view = HostView("web1", "10.0.0.1", ("web",), {"port": 80, "name": "hidden"})
    assert (str(view), view.name, view.port, view.vars["name"]) == ("web1", "web1", 80, "hidden")
    for name in ("other", "__len__", "_private"):
        with pytest.raises(AttributeError):
            getattr(view, name)


def test_a_skipped_step_checks_only_what_is_needed_to_show_it(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: "echo {{ nope }}", when: false, chdir: "{{ nope }}", become: "{{ nope }}"}
    """)
    assert step.skip == "when: false"
    assert step.user == ""
    assert step.display_text == "echo {{ nope }}"


def test_facts_of_another_host_are_known_only_if_a_task_used_them_there(
    plans: PlanProject,
) -> None:
    plans.write(
        {
            "tasks/a.yml": "steps: [run: 'echo {{ facts.os }}']\n",
            "tasks/b.yml": "steps: [run: \"echo {{ hosts['db1'].facts.os }}\"]\n",
        }
    )
    (app_plan,) = plans.plan("a", "b").app_plans
    step = app_plan.planned_tasks[1].hosts[0].steps[0]
    assert step.awaited_names == ("hosts['db1'].facts.os",)
