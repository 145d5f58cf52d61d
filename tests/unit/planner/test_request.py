"""Tags, apps with their own hosts and values, and the paths of their locks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.request import TagFilter
from tests.unit.planner.plan_project import PlanProject, command_of

BLOG = "roles: [web]\nvars: {deploy_to: /srv/blog, name: blog}\n"


@pytest.fixture
def blog(plans: PlanProject) -> PlanProject:
    """Write the app ``blog`` on the hosts of the role web, and a task that changes something."""
    return plans.write(
        {"inventories/dev/apps/blog.yml": BLOG, "tasks/t.yml": "steps: [run: 'echo {{ name }}']\n"}
    )


TAGS = st.frozensets(st.sampled_from(["a", "b", "always", "never"]))


@given(TAGS, TAGS, TAGS)
def test_a_skipped_tag_always_wins_and_no_tag_option_selects_all_but_never(
    tags: frozenset[str], only: frozenset[str], skip: frozenset[str]
) -> None:
    selected = TagFilter(only, skip).selects(tags)
    if tags & skip:
        assert not selected
    elif tags & only:
        assert selected
    elif "never" in tags:
        assert not selected
    else:
        assert selected == (not only or "always" in tags)


def test_each_app_is_planned_on_its_own_hosts_with_its_own_values(blog: PlanProject) -> None:
    blog.write({"inventories/dev/apps/shop.yml": "roles: [db]\nvars: {name: shop}\n"})
    plan = blog.plan("t", apps=("blog", "shop"))
    found = {
        each.app: [(host.host, host.steps[0].display_text) for host in each.planned_tasks[0].hosts]
        for each in plan.app_plans
    }
    assert found == {
        "blog": [(f"web{number}", "echo blog") for number in (1, 2, 3)],
        "shop": [("db1", "echo shop")],
    }
    assert plan.hosts == ("web1", "web2", "web3", "db1")


def test_a_value_of_an_app_may_differ_on_one_host(blog: PlanProject) -> None:
    blog.write({"inventories/dev/apps/blog.yml": BLOG + "hosts: {web2: {vars: {name: two}}}\n"})
    (planned,) = blog.planned_tasks("t", apps=("blog",))
    assert [host.steps[0].display_text for host in planned.hosts] == [
        "echo blog",
        "echo two",
        "echo blog",
    ]


def test_an_app_without_a_selected_host_is_left_out_with_a_warning(blog: PlanProject) -> None:
    blog.write({"inventories/dev/apps/shop.yml": "roles: [db]\nvars: {name: shop}\n"})
    plan = blog.plan("t", apps=("blog", "shop"), limit="web1")
    assert [each.app for each in plan.app_plans] == ["blog"]
    assert plan.warnings == ("app 'shop' is not on any selected host",)


def test_once_runs_on_the_first_host_with_the_app_if_the_primary_has_none(
    blog: PlanProject,
) -> None:
    blog.write(
        {
            "inventories/dev/roles.yml": "web: [web1, web2, web3]\nlate: [web2, web3]\n",
            "inventories/dev/apps/blog.yml": "roles: [late]\nvars: {name: x}\n",
            "tasks/w.yml": "roles: [web]\nsteps: [run: 'true']\n",
            "tasks/p.yml": "tasks: [{w: {}, once: true}]\n",
        }
    )
    assert blog.hosts_of("p", apps=("blog",)) == [("w", ["web2"])]


def test_hooks_for_other_apps_do_not_run(blog: PlanProject) -> None:
    blog.write(
        {
            "tasks/h.yml": "before: [t]\napps: [shop]\nsteps: [run: 'true']\n",
            "tasks/i.yml": "before: [t]\napps: [blog]\nsteps: [run: 'true']\n",
        }
    )
    assert [name for name, _ in blog.hosts_of("t", apps=("blog",))] == ["i", "t"]
    # without an app, a hook for apps does not run
    assert [name for name, _ in blog.hosts_of("t", extra=("name=x",))] == ["t"]


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ("deploy_to: /srv/blog", "/srv/blog/.orch-lock"),
        ("deploy_to: ~/blog", "~/blog/.orch-lock"),
        ("deploy_to: /a b", "'/a b/.orch-lock'"),
        ('deploy_to: "/srv/{{ host.name }}"', "/srv/web2/.orch-lock"),
        ("{deploy_to: /srv/blog, lock_path: /run/lock/x}", "/run/lock/x"),
        ("{deploy_to: '', lock_path: ~/x}", "~/x"),
        ("deploy_to:", "~/.orch/locks/us/blog"),
        ("other: 1", "~/.orch/locks/us/blog"),
    ],
)
def test_the_lock_of_an_app_is_in_the_folder_that_it_is_deployed_to(
    blog: PlanProject, variables: str, path: str
) -> None:
    blog.write_task("steps: [run: 'echo {{ app.lock }}']\n")
    blog.write({"inventories/dev/apps/blog.yml": f"roles: [web]\nvars:\n  {variables}\n"})
    (app_plan,) = blog.plan(
        "t", apps=("blog",), limit="web2", project_identity=lambda: "us"
    ).app_plans
    assert dict(app_plan.lock_paths) == {"web2": path}


def test_the_lock_does_not_move_with_what_steps_set(blog: PlanProject) -> None:
    blog.write_task("""
        steps: [set: {deploy_to: /elsewhere}, run: "echo {{ app.lock }} {{ deploy_to }}"]
    """)
    (planned,) = blog.planned_tasks("t", apps=("blog",), limit="web1")
    assert command_of(planned.hosts[0].steps[1]).text == "echo /srv/blog/.orch-lock /elsewhere"


def test_nothing_is_locked_in_check_mode_or_by_readonly_steps(blog: PlanProject) -> None:
    (app_plan,) = blog.plan("t", apps=("blog",), check_mode=True).app_plans
    assert dict(app_plan.lock_paths) == {}
    blog.write_task("steps: [{run: 'uname', readonly: true}]\n")
    (app_plan,) = blog.plan("t", apps=("blog",)).app_plans
    assert dict(app_plan.lock_paths) == {}


def test_a_lock_path_that_needs_facts_is_an_error_at_the_variable(blog: PlanProject) -> None:
    blog.write(
        {"inventories/dev/apps/blog.yml": "roles: [web]\nvars: {deploy_to: '/{{ facts.os }}'}\n"}
    )
    blog.write_task("steps: [run: echo]\n")
    problem = blog.only_diagnostic("t", apps=("blog",), limit="web1")
    assert problem.message == (
        "'deploy_to' determines the app's lock path, but depends on facts.os"
    )
    assert str(problem.mark) == "inventories/dev/apps/blog.yml:2:19"


def test_templates_see_the_run_the_stage_the_roles_and_the_app(blog: PlanProject) -> None:
    blog.write_task("""
        steps:
          - run: echo {{ run }} {{ run.user }} {{ run.release }} {{ stage }} {{ roles.db }}
          - run: echo {{ app }} {{ app.hosts | join(',') }} {{ app.roles[0] }} {{ app.vars.name }}
          - run: echo {{ env.LANG | default('no') }} {{ host }} {{ host.roles[0] }}
    """)
    (planned,) = blog.planned_tasks("t", apps=("blog",), limit="web2", environ={"LANG": "C"})
    assert [step.display_text for step in planned.hosts[0].steps] == [
        "echo r1 me 19700101000000 dev db1",
        "echo blog web1,web2,web3 web blog",
        "echo C web2 web",
    ]


def test_templates_see_the_projects_folder_and_the_version(blog: PlanProject) -> None:
    step = blog.step("- run: echo {{ run.folder }} {{ run.version is version('0.1', '>=') }}")
    assert step.display_text == f"echo {blog.root} true"


@pytest.mark.parametrize("check", [False, True])
def test_templates_see_whether_the_run_is_a_check(blog: PlanProject, check: bool) -> None:
    step = blog.step(
        "- run: echo {{ run.check }} {{ 'dry' if run.check else 'real' }}", check_mode=check
    )
    assert step.display_text == ("echo true dry" if check else "echo false real")


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        ("run.releas", "did you mean 'release'?"),
        ("stage.nam", "did you mean 'name'?"),
        ("task.x", "known: desc, name"),
        ("app.lok", "did you mean 'lock'?"),
        ("skipped.stdot", "did you mean 'stdout'?"),
        ("r.stdot", "did you mean 'stdout'?"),
        ("facts.nodename", "write facts.hostname"),
    ],
)
def test_a_field_that_an_object_does_not_have_is_an_error(
    blog: PlanProject, template: str, hint: str
) -> None:
    blog.write_task(
        "steps:\n- {run: x, register: skipped, when: false}\n- {run: x, register: r}\n"
        f"- run: echo {{{{ {template} }}}}\n"
    )
    problem = blog.only_diagnostic("t", apps=("blog",), limit="web1")
    assert problem.message == f"'{template}' is undefined"
    assert hint in problem.hint
    assert str(problem.mark).startswith("tasks/t.yml:4:")
