"""Which hosts run which task, in which order and in which batches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.planner.plan import PlannedTask
from tests.unit.planner.plan_project import PlanProject, resumed_command

ALL = ["web1", "web2", "web3", "db1"]
WEB = ["web1", "web2", "web3"]

LETTERS = {
    "tasks/a.yml": "steps: [run: echo a]\n",
    "tasks/b.yml": "steps: [run: echo b]\n",
    "tasks/w.yml": "roles: [web]\nsteps: [run: echo w]\n",
    "tasks/d.yml": "roles: [db]\nsteps: [run: echo d]\n",
}


@pytest.fixture
def letters(plans: PlanProject) -> PlanProject:
    """Write the tasks a and b of all hosts, w of the role web, and d of the role db."""
    return plans.write(LETTERS)


def host_names(planned: PlannedTask) -> list[str]:
    return [host.host for host in planned.hosts]


def batches_of(planned: tuple[PlannedTask, ...]) -> list[tuple[str, str, list[str]]]:
    return [(each.task, each.batch, host_names(each)) for each in planned]


def test_a_task_runs_on_the_selected_hosts_in_the_order_of_the_inventory(
    letters: PlanProject,
) -> None:
    assert letters.hosts_of("a") == [("a", ALL)]
    assert letters.hosts_of("a", limit="db1,web3,web1") == [("a", ["web1", "web3", "db1"])]


def test_tasks_of_the_command_line_are_planned_in_its_order(letters: PlanProject) -> None:
    plan = letters.plan("b", "a", "b")
    assert [each.task for each in plan.app_plans[0].planned_tasks] == ["b", "a", "b"]
    assert plan.tasks == ("b", "a", "b")


def test_each_item_of_a_playbook_is_a_planned_task_of_its_own(letters: PlanProject) -> None:
    letters.write_task(
        """
        tasks:
          - a
          - name: group
            tasks: [w, d]
          - b
        """
    )
    assert letters.hosts_of("t") == [("a", ALL), ("w", WEB), ("d", ["db1"]), ("b", ALL)]
    assert [each.parents for each in letters.planned_tasks("t")] == [
        ("t", "a"),
        ("t", "w"),
        ("t", "d"),
        ("t", "b"),
    ]


def test_a_role_limits_a_playbook_and_everything_in_it(letters: PlanProject) -> None:
    letters.write_task("roles: [web]\ntasks: [a, w]\n")
    assert letters.hosts_of("t") == [("a", WEB), ("w", WEB)]


def test_a_host_with_one_of_several_roles_runs_the_task(letters: PlanProject) -> None:
    letters.write_task("roles: [db, web]\nsteps: [run: 'true']\n")
    assert letters.hosts_of("t") == [("t", ALL)]


def test_the_plan_names_only_hosts_that_take_part(letters: PlanProject) -> None:
    assert letters.plan("w").hosts == tuple(WEB)


def test_a_task_for_a_role_without_a_selected_host_is_skipped_with_a_warning(
    letters: PlanProject,
) -> None:
    letters.write_task("tasks: [d, a]\n")
    plan = letters.plan("t", limit="web")
    assert plan.warnings == ("task 'd' is skipped: no selected host has the role db",)
    assert [each.task for each in plan.app_plans[0].planned_tasks] == ["a"]


def test_a_plan_without_any_host_is_an_error_with_the_reason(letters: PlanProject) -> None:
    found = letters.only_diagnostic("d", limit="web")
    assert found.message == ("nothing to do: task 'd' is skipped: no selected host has the role db")


def test_a_role_that_the_stage_does_not_have_is_an_error_with_the_nearest(
    letters: PlanProject,
) -> None:
    letters.write_task("roles: [wbe]\nsteps: [run: 'true']\n")
    found = letters.only_diagnostic("t")
    assert found.message == "stage 'dev' has no role 'wbe'"
    assert found.hint == "did you mean 'web'?"
    assert str(found.mark) == "tasks/t.yml:1:9"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("1", [["web1"], ["web2"], ["web3"]]),
        ("2", [["web1", "web2"], ["web3"]]),
        ("3", [WEB]),
        ("99", [WEB]),
        ("100%", [WEB]),
        ("50%", [["web1"], ["web2"], ["web3"]]),
        ("67%", [["web1", "web2"], ["web3"]]),
        ("1%", [["web1"], ["web2"], ["web3"]]),
        ("[1, 2]", [["web1"], ["web2", "web3"]]),
        ("[1, 100%]", [["web1"], ["web2", "web3"]]),
        ("[2, 1]", [["web1", "web2"], ["web3"]]),
    ],
)
def test_batch_sizes_are_counts_or_percentages_of_at_least_one_host(
    letters: PlanProject, sizes: str, expected: list[list[str]]
) -> None:
    letters.write_task(f"tasks: [{{w: {{}}, batch: {sizes}}}]\n")
    count = len(expected)
    assert batches_of(letters.planned_tasks("t")) == [
        ("w", f"{number}/{count}", hosts) for number, hosts in enumerate(expected, 1)
    ]


def test_a_batch_goes_through_its_whole_group_before_the_next_batch(letters: PlanProject) -> None:
    letters.write_task(
        """
        tasks:
          - name: roll
            batch: 2
            tasks: [w, a]
        """
    )
    assert batches_of(letters.planned_tasks("t", limit="web")) == [
        ("w", "1/2", ["web1", "web2"]),
        ("a", "1/2", ["web1", "web2"]),
        ("w", "2/2", ["web3"]),
        ("a", "2/2", ["web3"]),
    ]


def test_hosts_without_work_in_the_group_count_in_no_batch(letters: PlanProject) -> None:
    letters.write_task("tasks: [{name: roll, batch: 50%, tasks: [d, w]}]\n")
    assert batches_of(letters.planned_tasks("t", limit="web1,web2,db1")) == [
        ("w", "1/3", ["web1"]),
        ("w", "2/3", ["web2"]),
        ("d", "3/3", ["db1"]),
    ]


def test_batches_in_batches_are_an_error(letters: PlanProject) -> None:
    letters.write_task("tasks: [{name: roll, batch: 2, tasks: [{a: {}, batch: 1}]}]\n")
    assert letters.only_diagnostic("t").message == "batches cannot be nested"


def test_once_runs_in_the_first_batch_only(letters: PlanProject) -> None:
    letters.write_task("tasks: [{name: roll, batch: 1, tasks: [{d: {}, once: true}, w]}]\n")
    planned = letters.planned_tasks("t", limit="web1,web2,db1")
    assert [(name, hosts) for name, _, hosts in batches_of(planned)].count(("d", ["db1"])) == 1
    assert planned[0].task == "d"


def test_once_runs_on_the_first_host_of_the_task(letters: PlanProject) -> None:
    letters.write_task("tasks: [{a: {}, once: true}, {w: {}, once: true}]\n")
    planned = letters.planned_tasks("t")
    assert [(each.task, host_names(each), each.once) for each in planned] == [
        ("a", ["web1"], True),
        ("w", ["web1"], True),
    ]


def test_once_runs_on_the_primary_of_its_role(letters: PlanProject) -> None:
    letters.write(
        {
            "inventories/dev/roles.yml": "db: [db1]\n"
            "web: {hosts: [web1, web2, web3], primary: web2}\n",
            "tasks/t.yml": "tasks: [{w: {}, once: true}]\n",
        }
    )
    assert letters.hosts_of("t") == [("w", ["web2"])]


def test_once_is_an_error_if_the_primary_is_not_selected_unless_any_host_will_do(
    letters: PlanProject,
) -> None:
    letters.write_task("tasks: [{w: {}, once: true}]\n")
    found = letters.only_diagnostic("t", limit="web2")
    assert found.message == "'w' runs once, on 'web1', which is not selected"
    letters.write_task("tasks: [{w: {}, once: true, on: any}]\n")
    (planned,) = letters.planned_tasks("t", limit="web2,web3")
    assert planned.any_host
    assert host_names(planned) == ["web2", "web3"]


def test_on_any_puts_the_primary_first(letters: PlanProject) -> None:
    letters.write(
        {
            "inventories/dev/roles.yml": "web: {hosts: [web1, web2, web3], primary: web3}\n",
            "tasks/d.yml": "steps: [run: 'true']\n",
            "tasks/t.yml": "tasks: [{w: {}, once: true, on: any}]\n",
        }
    )
    assert letters.hosts_of("t") == [("w", ["web3", "web1", "web2"])]


def test_what_a_once_task_registers_is_awaited_on_every_host(letters: PlanProject) -> None:
    letters.write(
        {
            "tasks/ask.yml": "steps: [{run: date, register: at}]\n",
            "tasks/use.yml": "steps: [run: 'echo {{ at.stdout }}']\n",
            "tasks/t.yml": "tasks: [{ask: {}, once: true}, use]\n",
        }
    )
    _, use = letters.planned_tasks("t")
    assert [host.steps[0].awaited_names for host in use.hosts] == [("at",)] * 4
    assert resumed_command(use.hosts[3].steps[0], at="now").text == "echo now"


def test_a_value_that_a_once_task_sets_is_known_on_every_host(letters: PlanProject) -> None:
    letters.write(
        {
            "tasks/choose.yml": "steps: [set: {colour: red}]\n",
            "tasks/use.yml": "steps: [run: 'echo {{ colour }}']\n",
            "tasks/t.yml": "tasks: [{choose: {}, once: true}, use]\n",
        }
    )
    _, use = letters.planned_tasks("t")
    assert [host.steps[0].display_text for host in use.hosts] == ["echo red"] * 4


def test_max_failures_counts_the_hosts_with_work_and_is_shared_by_a_group(
    letters: PlanProject,
) -> None:
    letters.write_task(
        """
        tasks:
          - {name: group, max_failures: 67%, tasks: [w, w]}
          - {a: {}, max_failures: 1}
          - a
        """
    )
    limits = [each.max_failures for each in letters.planned_tasks("t")]
    assert [each and each.limit for each in limits] == [2, 2, 1, None]
    assert limits[0] == limits[1]
    assert limits[1] != limits[2]


def test_a_commit_stands_between_the_tasks_and_has_no_hosts(letters: PlanProject) -> None:
    letters.write_task("tasks: [a, commit, b]\n")
    planned = letters.planned_tasks("t")
    assert [(each.task, each.is_commit, len(each.hosts)) for each in planned] == [
        ("a", False, 4),
        ("commit", True, 0),
        ("b", False, 4),
    ]
    assert planned[1].commit_scope is None


def test_a_commit_in_a_batch_commits_for_the_hosts_of_that_batch(letters: PlanProject) -> None:
    letters.write_task("tasks: [a, {name: roll, batch: 2, tasks: [w, commit]}]\n")
    commits = [each for each in letters.planned_tasks("t") if each.is_commit]
    scopes = [each.commit_scope for each in commits]
    assert [scope and (scope.hosts, scope.first_task) for scope in scopes] == [
        (("web1", "web2"), 1),
        (("web3",), 3),
    ]


def test_hooks_run_before_and_after_their_task_in_the_order_of_their_names(
    letters: PlanProject,
) -> None:
    letters.write(
        {
            "tasks/z.yml": "before: [a]\nsteps: [run: 'true']\n",
            "tasks/h.yml": dedent("""\
                before: [a]
                after: [a]
                roles: [db]
                steps: [run: 'true']
                """),
        }
    )
    planned = letters.planned_tasks("a")
    assert [(each.task, each.hooked_to, host_names(each)) for each in planned] == [
        ("h", "before a", ["db1"]),
        ("z", "before a", ALL),
        ("a", "", ALL),
        ("h", "after a", ["db1"]),
    ]


def test_a_hook_in_a_batch_may_select_hosts_that_the_batched_task_does_not(
    letters: PlanProject,
) -> None:
    letters.write(
        {
            "tasks/drain.yml": "before: [w]\nroles: [db]\nsteps: [run: 'true']\n",
            "tasks/check.yml": "after: [w]\nsteps: [run: 'true']\n",
            "tasks/t.yml": "tasks: [{w: {}, batch: 2}]\n",
        }
    )
    assert batches_of(letters.planned_tasks("t")) == [
        ("drain", "1/2", ["db1"]),
        ("w", "1/2", ["web1", "web2"]),
        ("check", "1/2", ["web1", "web2", "db1"]),
        ("drain", "2/2", ["db1"]),
        ("w", "2/2", ["web3"]),
        ("check", "2/2", ["web3", "db1"]),
    ]


def test_failed_hooks_are_kept_apart_from_the_planned_tasks(letters: PlanProject) -> None:
    letters.write({"tasks/h.yml": "failed: [a]\nsteps: [run: 'true']\n"})
    (app_plan,) = letters.plan("a").app_plans
    assert [each.task for each in app_plan.planned_tasks] == ["a"]
    ((name, hooks),) = app_plan.failed_hooks
    assert (name, [(each.task, each.hooked_to) for each in hooks]) == ("a", [("h", "failed a")])


@pytest.mark.parametrize("name", ["probe", "copy", "my hook"])
def test_a_hook_whose_name_cannot_be_a_task_is_an_error_and_not_skipped(
    letters: PlanProject, name: str
) -> None:
    letters.write({f"tasks/{name}.yml": "before: [a]\nsteps: [run: 'true']\n"})
    problem = letters.only_diagnostic("a")
    assert problem.message.startswith(f"'{name}' cannot be a task: ")
    letters.write({f"tasks/{name}.yml": "steps: [run: 'echo failed: x']\n"})
    assert letters.plan("a")


def test_hooks_that_lead_back_to_themselves_are_an_error(letters: PlanProject) -> None:
    letters.write(
        {
            "tasks/x.yml": "before: [y]\nsteps: [run: 'true']\n",
            "tasks/y.yml": "before: [x]\nsteps: [run: 'true']\n",
        }
    )
    found = letters.only_diagnostic("x")
    assert found.message == "the hooks of these tasks form a cycle: x → y → x"


def test_start_at_skips_the_tasks_before_it(letters: PlanProject) -> None:
    letters.write_task("tasks: [a, commit, w, {b: {}, name: second}, a]\n")
    assert [name for name, _ in letters.hosts_of("t", start_at="w")] == ["w", "second", "a"]
    for name in ("b", "second"):
        assert [name for name, _ in letters.hosts_of("t", start_at=name)] == ["second", "a"]


def test_start_at_a_playbook_starts_with_its_first_task(letters: PlanProject) -> None:
    letters.write({"tasks/p.yml": "tasks: [a, b]\n", "tasks/t.yml": "tasks: [w, p]\n"})
    assert [name for name, _ in letters.hosts_of("t", start_at="p")] == ["a", "b"]


def test_start_at_a_name_that_is_not_scheduled_is_an_error_with_the_nearest(
    letters: PlanProject,
) -> None:
    letters.write({"tasks/migrate.yml": "steps: [run: 'true']\n"})
    found = letters.only_diagnostic("migrate", start_at="migrat")
    assert found.message == "no scheduled task is named 'migrat'"
    assert found.hint == "did you mean 'migrate'?"
    assert str(found.mark) == "--start-at"


def test_arguments_of_the_command_line_reach_the_inner_tasks_that_accept_them(
    letters: PlanProject,
) -> None:
    letters.write(
        {
            "tasks/p.yml": "params: {x: {default: no}}\nsteps: [run: 'echo {{ x }}']\n",
            "tasks/q.yml": "params: {y: {default: no}}\nsteps: [run: 'echo {{ y }}']\n",
            "tasks/t.yml": "tasks: [p, q, p: {x: written}]\n",
        }
    )
    planned = letters.planned_tasks("t", args={"x": "given"})
    assert [each.hosts[0].steps[0].display_text for each in planned] == [
        "echo given",
        "echo no",
        "echo written",
    ]


def test_the_arguments_for_a_rerun_are_kept_only_for_tasks_that_notify(
    letters: PlanProject,
) -> None:
    letters.write_task(
        """
        params: {x: {required: true}, n: {type: list, default: []}}
        steps: [{run: "echo {{ x }} {{ n }}", notify: h}]
        handlers: {h: [run: "true"]}
        """
    )
    (planned,) = letters.planned_tasks("t", args={"x": "it's", "n": "a,b"})
    assert planned.hosts[0].rerun_args == ("x=it's", "n=a,b")
    letters.write_task("params: {x: {required: true}}\nsteps: [run: 'echo {{ x }}']\n")
    (planned,) = letters.planned_tasks("t", args={"x": "1"})
    assert planned.hosts[0].rerun_args == ()


def test_written_arguments_for_a_rerun_have_the_syntax_of_the_command_line(
    letters: PlanProject,
) -> None:
    letters.write(
        {
            "tasks/u.yml": """
                params: {on: {type: bool}, n: {type: int}, l: {type: list}, m: {type: dict}}
                steps: [{run: "true", notify: h}]
                handlers: {h: [run: "true"]}
            """,
            "tasks/t.yml": "tasks: [u: {on: true, n: 3, l: [a, 'b,c'], m: {k: v}}]\n",
        }
    )
    (planned,) = letters.planned_tasks("t")
    assert planned.hosts[0].rerun_args == ("on=true", "n=3", 'l=["a", "b,c"]')


def test_a_plan_changes_something_unless_all_steps_are_readonly(letters: PlanProject) -> None:
    letters.write_task("steps: [{run: uname, readonly: true}]\n")
    assert not letters.plan("t").changes
    assert letters.plan("t", "a").changes


SIZES = st.one_of(st.integers(1, 12).map(str), st.integers(1, 100).map(lambda number: f"{number}%"))


@settings(max_examples=25)
@given(count=st.integers(1, 9), sizes=st.lists(SIZES, min_size=1, max_size=3))
def test_batches_are_the_hosts_in_order_each_host_once(count: int, sizes: list[str]) -> None:
    hosts = [f"h{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        plans = PlanProject(Path(folder)).write(
            {
                "inventories/dev/hosts.yml": "".join(f"{host}:\n" for host in hosts),
                "inventories/dev/roles.yml": "{}",
                "tasks/a.yml": "steps: [run: 'true']\n",
                "tasks/t.yml": f"tasks: [{{a: {{}}, batch: [{', '.join(sizes)}]}}]\n",
            }
        )
        planned = plans.planned_tasks("t")
    assert [name for each in planned for name in host_names(each)] == hosts
    assert all(each.hosts for each in planned)
    assert [each.batch for each in planned] == [
        f"{number}/{len(planned)}" for number in range(1, len(planned) + 1)
    ]
