"""Two apps on one host cannot claim the same path, port or unit."""

from __future__ import annotations

import pytest

from tests.unit.planner.plan_project import PlanProject


@pytest.fixture
def apps(plans: PlanProject) -> PlanProject:
    """Write a task that both apps of a test run."""
    return plans.write_task("steps: [run: 'echo {{ app }}']\n")


def write_apps(plans: PlanProject, one: str, two: str) -> PlanProject:
    """Write the apps ``one`` and ``two``, each with its own text."""
    return plans.write({"inventories/dev/apps/one.yml": one, "inventories/dev/apps/two.yml": two})


def app(path: str, roles: str = "web") -> str:
    """Return an app with this path."""
    return f"roles: [{roles}]\nvars: {{deploy_to: {path}}}\n"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("/srv/a", "/srv/a", "apps 'one' and 'two' both claim the path /srv/a"),
        ("/srv/a", "/srv/a/", "apps 'one' and 'two' both claim the path /srv/a"),
        ("/srv/a", "/srv//x/../a", "apps 'one' and 'two' both claim the path /srv/a"),
        ("/srv", "/srv/b", "apps 'one' and 'two' both claim the path /srv ('two': /srv/b)"),
        ("/srv/b", "/srv", "apps 'one' and 'two' both claim the path /srv/b ('two': /srv)"),
        ("~/a", "~/a/b", "apps 'one' and 'two' both claim the path ~/a ('two': ~/a/b)"),
        ("/", "/srv", "apps 'one' and 'two' both claim the path / ('two': /srv)"),
    ],
)
def test_one_path_inside_another_is_an_error_at_the_second_claim(
    apps: PlanProject, first: str, second: str, message: str
) -> None:
    write_apps(apps, app(first), app(second))
    problem = apps.only_diagnostic("t", apps=("one", "two"))
    assert problem.message == f"{message} (on web[1-3])"
    assert str(problem.mark) == "inventories/dev/apps/two.yml:2:19"
    assert "'one' claims it at inventories/dev/apps/one.yml:2:19" in problem.hint


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (app("/srv/a"), app("/srv/ab")),
        (app("/srv/a"), app("/srv/a", roles="db")),
        ("roles: [web]\nclaims: {ports: [80]}\n", "roles: [web]\nclaims: {ports: [81]}\n"),
        ("roles: [web]\nclaims: {ports: [80]}\n", "roles: [web]\nclaims: {units: ['80']}\n"),
        ("roles: [web]\nclaims: {units: [a]}\n", "roles: [web]\nclaims: {units: [a/b]}\n"),
        (app("/srv/a") + "claims: {ports: [80]}\n", app("/srv/a")),
        (
            "roles: [web]\nclaims: {ports: '{{ host.name }}'}\n",
            "roles: [db]\nclaims: {ports: web1}\n",
        ),
    ],
)
def test_what_differs_or_is_on_other_hosts_is_not_a_conflict(
    apps: PlanProject, one: str, two: str
) -> None:
    write_apps(apps, one, two)
    assert [each.app for each in apps.plan("t", apps=("one", "two")).app_plans] == ["one", "two"]


@pytest.mark.parametrize(
    ("kind", "name", "claim"),
    [("ports", "port", "8080"), ("units", "unit", "web"), ("paths", "path", "/x")],
)
def test_claims_of_any_kind_are_compared(
    apps: PlanProject, kind: str, name: str, claim: str
) -> None:
    text = f'roles: [web]\nvars: {{v: {claim}}}\nclaims: {{{kind}: [other, "{{{{ v }}}}"]}}\n'
    write_apps(apps, text, f"roles: [web]\nclaims: {{{kind}: {claim}}}\n")
    problem = apps.only_diagnostic("t", apps=("one",), limit="web1")
    assert problem.message.startswith(f"apps 'one' and 'two' both claim the {name} {claim}")


def test_an_app_that_is_not_selected_is_compared_but_may_be_invalid(apps: PlanProject) -> None:
    write_apps(apps, app("/srv/a"), app("/srv/a"))
    assert apps.diagnostics("t", apps=("one",))
    write_apps(apps, app("/srv/a"), "roles: [web]\nvars: {deploy_to: '{{ nope }}'}\n")
    assert apps.plan("t", apps=("one",))
    assert "'nope' is undefined" in apps.diagnostics("t", apps=("two",))[0].message


def test_two_unselected_apps_may_conflict(apps: PlanProject) -> None:
    apps.write({"inventories/dev/apps/three.yml": app("/srv/three")})
    write_apps(apps, app("/srv/a"), app("/srv/a"))
    assert apps.plan("t", apps=("three",))


def test_a_claim_that_needs_facts_is_an_error_of_the_selected_app(apps: PlanProject) -> None:
    claiming = "roles: [web]\nclaims: {paths: ['/srv/{{ facts.os }}']}\n"
    write_apps(apps, claiming, app("/srv/a"))
    problem = apps.only_diagnostic("t", apps=("one",), limit="web1")
    assert problem.message == "the claims of app 'one' need facts.os"
    assert apps.plan("t", apps=("two",), limit="web1")
