"""Errors of many hosts are merged: one diagnostic names all hosts that have it."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.planner.host_diagnostics import HostDiagnostics
from tests.unit.planner.plan_project import PlanProject

HERE, ELSEWHERE = SourcePosition("f", 1, 1), SourcePosition("f", 2, 1)


def merged(*added: tuple[str, Diagnostic], count: int = 3) -> tuple[Diagnostic, ...]:
    """Return what is reported of these diagnostics of hosts."""
    collector = HostDiagnostics(count)
    for host, diagnostic in added:
        collector.add_for_host(host, DefinitionError(diagnostic), ELSEWHERE)
    with pytest.raises(DefinitionError) as caught:
        collector.raise_any()
    return caught.value.diagnostics


def test_nothing_is_raised_without_diagnostics() -> None:
    HostDiagnostics(3).raise_any()


def test_equal_errors_of_several_hosts_are_one() -> None:
    same = Diagnostic("broken", HERE, "repair it")
    assert merged(("h1", same), ("h2", same), ("h3", same)) == (
        Diagnostic("broken (on h[1-3])", HERE, "repair it"),
    )


def test_errors_that_differ_in_the_name_of_the_host_are_one() -> None:
    added = [(f"h{n}", Diagnostic(f"no folder /srv/h{n}", HERE)) for n in (1, 2)]
    assert [each.message for each in merged(*added)] == ["no folder /srv/h[1-2] (on h[1-2])"]


def test_errors_at_two_positions_or_with_two_hints_are_two() -> None:
    found = merged(
        ("h1", Diagnostic("broken", HERE, "a")),
        ("h2", Diagnostic("broken", HERE, "b")),
        ("h2", Diagnostic("broken", SourcePosition("f", 9, 1), "a")),
    )
    assert [(each.message, each.hint) for each in found] == [
        ("broken (on h1)", "a"),
        ("broken (on h2)", "b"),
        ("broken (on h2)", "a"),
    ]


def test_the_only_host_is_not_named() -> None:
    assert merged(("h1", Diagnostic("broken", HERE)), count=1)[0].message == "broken"


def test_an_error_without_a_position_gets_that_of_the_step() -> None:
    assert merged(("h1", Diagnostic("broken")))[0].mark == ELSEWHERE


def test_several_steps_of_a_host_with_one_error_are_one() -> None:
    same = Diagnostic("broken", HERE)
    assert merged(("h1", same), ("h1", same)) == (Diagnostic("broken (on h1)", HERE),)


def test_all_errors_of_a_plan_are_reported_at_once_in_the_order_of_the_file(
    plans: PlanProject,
) -> None:
    plans.write_task(
        "steps:\n- run: echo {{ colur }}\n- {run: x, become: '{{ none }}'}\n"
        "- {run: x, delegate_to: nowhere}\n"
    )
    found = plans.diagnostics("t", limit="web")
    assert [(each.message, str(each.mark)) for each in found] == [
        ("'colur' is undefined (on web[1-3])", "tasks/t.yml:2:16"),
        ("`become` is empty (on web[1-3])", "tasks/t.yml:3:20"),
        ("delegate_to: no host 'nowhere' in this stage (on web[1-3])", "tasks/t.yml:4:25"),
    ]


def test_only_hosts_with_the_error_are_named(plans: PlanProject) -> None:
    plans.write_task("steps: [{run: 'echo {{ nope }}', when: host.name != 'web2'}]\n")
    found = plans.only_diagnostic("t", limit="web")
    assert found.message == "'nope' is undefined (on web[1,3])"


def test_a_result_of_an_invalid_step_is_not_also_undefined(plans: PlanProject) -> None:
    problem = plans.refused_steps("""
        - {run: "echo {{ nope }}", register: r}
        - run: echo {{ r.stdout }}
        - {set: {v: "{{ nope }}"}, when: false}
        - run: echo {{ r.stdout }}
    """)
    assert problem.message == "'nope' is undefined"


def test_an_error_inside_a_shipped_module_is_placed_at_its_call(plans: PlanProject) -> None:
    problem = plans.refused_steps("- run: x\n- wait_for: {port: 80, within: soon}\n")
    assert problem.message.startswith("within must be a duration")
    assert str(problem.mark) == "tasks/t.yml:3:5"
