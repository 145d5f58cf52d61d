"""Apps: each has its own plan, variables, hosts, rows and result, on shared connections."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def shared(project: OrchProject) -> OrchProject:
    project.add_sandbox_stage("a1", "a2", "a3")
    return project.write(
        {
            "inventories/dev/roles/web.yml": "[a1, a2]\n",
            "inventories/dev/roles/db.yml": "[a3]\n",
            "inventories/common/apps/blog.yml": """
                desc: The blog
                roles: [web]
                vars: {port: 1, name: common, deep: {a: 1, b: 1}}
            """,
            "inventories/dev/apps/blog.yml": """
                vars: {port: 2, deep: {b: 2}}
                environment: {APP: blog}
                hosts:
                  a2: {vars: {port: 3}}
            """,
            "inventories/dev/apps/shop.yml": "vars: {port: 9}\n",
            "tasks/t.yml": "steps:\n- run: echo {{ app.name }} {{ port }}\n",
        }
    )


def run_task(project: OrchProject, *args: str) -> OrchResult:
    done = project.orch("-s", "dev", "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def step_outputs(done: OrchResult) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for e in done.events:
        if e["event"] == "step_finished":
            found.setdefault((e["app"], e["host"]), []).append(e["stdout"].strip())
    return found


def test_each_app_runs_where_it_lives_with_its_own_values(shared: OrchProject) -> None:
    assert step_outputs(run_task(shared, "--app", "blog")) == {
        ("blog", "a1"): ["blog 2"],
        ("blog", "a2"): ["blog 3"],
    }
    done = run_task(shared, "--app", "blog,shop")
    assert set(step_outputs(done)) == {
        *[("blog", "a1"), ("blog", "a2"), ("shop", "a1"), ("shop", "a2"), ("shop", "a3")]
    }
    assert {(r["app"], r["host"]) for r in done.events[-1]["rows"]} == set(step_outputs(done))
    assert step_outputs(run_task(shared, "--app", "all")) == step_outputs(done)


def test_the_apps_layer_is_over_the_hosts_and_under_the_command_line(shared: OrchProject) -> None:
    shared.write({"inventories/dev/hosts/a1.yml": "vars: {port: 7, mine: 1}\n"})
    shared.write(
        {
            "tasks/t.yml": "steps:\n- run: echo {{ port }} {{ deep.a }}{{ deep.b }} {{ mine | default('-') }} "
            "{{ app.vars.name }} {{ app.roles | join }} {{ app.hosts | join(',') }} $APP\n"
        }
    )
    found = step_outputs(run_task(shared, "--app", "blog"))
    assert found["blog", "a1"] == ["2 12 1 common web a1,a2 blog"]
    assert found["blog", "a2"] == ["3 12 - common web a1,a2 blog"]
    assert step_outputs(run_task(shared, "--app", "blog", "-e", "port=5"))["blog", "a2"][
        0
    ].startswith("5 ")


def test_one_apps_failure_stops_that_app_and_not_the_others(shared: OrchProject) -> None:
    shared.write(
        {
            "tasks/t.yml": dedent("""\
                tasks:
                - steps: [{run: "test {{ app.name }} != blog"}]
                  name: gate
                - steps: [{run: echo on}]
                  name: on
                """)
        }
    )
    done = run_task(shared, "--app", "all")
    rows = {(r["app"], r["host"]): r["status"] for r in done.events[-1]["rows"]}
    assert done.code == 1
    assert rows["blog", "a1"] == "failed"
    assert [rows["shop", h] for h in ("a1", "a2", "a3")] == ["changed"] * 3
    assert ("shop", "a1") in step_outputs(done)
    assert "on" not in step_outputs(done)["blog", "a1"]


def test_roles_of_the_task_and_of_the_app_and_the_limit_all_count(shared: OrchProject) -> None:
    shared.write(
        {
            "tasks/t.yml": dedent("""\
        roles: [web]
        steps:
        - run: echo {{ app.name }}
        """)
        }
    )
    assert set(step_outputs(run_task(shared, "--app", "shop"))) == {("shop", "a1"), ("shop", "a2")}
    assert set(step_outputs(run_task(shared, "--app", "all", "-l", "a2"))) == {
        ("blog", "a2"),
        ("shop", "a2"),
    }
    done = shared.orch("-s", "dev", "run", "t", "--app", "blog", "-l", "a3")
    assert done.code == 3
    assert "app 'blog' is not on any selected host" in done.err


def test_once_is_once_per_app_on_its_own_primary(shared: OrchProject) -> None:
    shared.write(
        {
            "inventories/dev/roles/every.yml": "{hosts: [a3, a1, a2], primary: a3}\n",
            "tasks/m.yml": "roles: [every]\nsteps: [{run: 'echo {{ app.name }}', register: r}]\n",
            "tasks/t.yml": dedent("""\
                tasks:
                - m: {}
                  once: true
                - steps: [{run: 'echo {{ r.stdout }}!'}]
                """),
        }
    )
    found = step_outputs(run_task(shared, "--app", "all"))
    assert found["blog", "a1"] == ["blog", "blog!"]
    assert found["blog", "a2"] == ["blog!"]
    assert found["shop", "a3"] == ["shop", "shop!"]
    assert found["shop", "a1"] == ["shop!"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--app", "blgo"], 3, "did you mean 'blog'"),
        (["--app", ""], 2, "--app needs the name of an app"),
        ([], 3, "--app"),
    ],
)
def test_wrong_apps_are_told(shared: OrchProject, args: list[str], code: int, message: str) -> None:
    done = shared.orch("-s", "dev", "run", "t", *args)
    assert done.code == code
    assert message in done.err


def test_hooks_can_be_for_some_apps(shared: OrchProject) -> None:
    shared.write(
        {
            "tasks/h.yml": dedent("""\
        after: [t]
        apps: [shop]
        steps: [{run: echo hook}]
        """)
        }
    )
    found = step_outputs(run_task(shared, "--app", "all", "-l", "a1"))
    assert found == {("blog", "a1"): ["blog 2"], ("shop", "a1"): ["shop 9", "hook"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roles: [wbe]\n", "no role 'wbe'"),
        ("hosts:\n  a9: {vars: {b: 1}}\n", "no host 'a9'"),
        ("owner: me\n", "unknown key 'owner'"),
        ("claims: {path: /x}\n", "unknown key 'path'"),
        ("connect: {user: me}\n", "unknown key 'connect'"),
    ],
)
def test_errors_in_apps_are_at_their_lines(shared: OrchProject, text: str, message: str) -> None:
    shared.write({"inventories/dev/apps/x.yml": text})
    done = shared.orch("-s", "dev", "run", "t", "--app", "blog")
    assert done.code == 3
    assert message in done.err
    assert "inventories/dev/apps/x.yml" in done.err


@pytest.mark.parametrize(
    ("blog", "shop", "message"),
    [
        ("vars: {deploy_to: /srv/x}", "vars: {deploy_to: /srv/x}", "claim the path /srv/x"),
        ("vars: {deploy_to: /srv/x}", "vars: {deploy_to: /srv/x/shop/}", "claim the path"),
        ("vars: {deploy_to: /srv/x}", "vars: {deploy_to: /srv/xy}", ""),
        ("claims: {ports: [80]}", "claims: {ports: ['{{ 40 + 40 }}']}", "claim the port 80"),
        ("claims: {units: '{{ app.name }}'}", "claims: {units: blog}", "claim the unit blog"),
        ("claims: {units: '{{ app.name }}'}", "claims: {units: '{{ app.name }}'}", ""),
        ("claims: {paths: []}\nvars: {deploy_to: /a}", "vars: {deploy_to: /a}", ""),
    ],
)
def test_two_apps_that_claim_the_same_are_refused_before_connecting(
    shared: OrchProject, blog: str, shop: str, message: str
) -> None:
    (shared.root / "inventories/common/apps/blog.yml").unlink()
    shared.write({"inventories/dev/apps/blog.yml": f"{blog}\nroles: [web]\n"})
    task = "steps: [{run: id, readonly: true}]\n"  # no lock: these are paths on this machine
    shared.write({"inventories/dev/apps/shop.yml": shop, "tasks/t.yml": task})
    done = shared.orch("-s", "dev", "run", "t", "--app", "blog", "-l", "a1")
    assert (done.code, message in done.err) == (3 if message else 0, True)
    apart = {"inventories/dev/apps/shop.yml": f"{shop}\nroles: [db]\n"}
    assert shared.write(apart).orch("-s", "dev", "run", "t", "--app", "all").code == 0


@pytest.mark.parametrize(
    ("blog", "message"),
    [
        ("vars: {deploy_to: '/srv/{{ facts.distro }}'}", ""),
        ("claims: {ports: '{{ facts.cpus }}'}", "the claims of app 'blog' need facts"),
    ],
)
def test_what_only_the_host_knows_is_no_claim(shared: OrchProject, blog: str, message: str) -> None:
    (shared.root / "inventories/common/apps/blog.yml").unlink()
    shared.write({"inventories/dev/apps/blog.yml": f"{blog}\n"})
    shared.write({"tasks/t.yml": "steps: [{run: id, readonly: true}]\n"})
    done = shared.orch("-s", "dev", "run", "t", "--app", "blog", "-l", "a1")
    assert (done.code, message in done.err) == (3 if message else 0, True), done.err


def test_a_forgotten_app_is_one_error(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/apps/blog.yml": "vars: {folder: /x, port: 1}\n",
            "tasks/t.yml": dedent("""\
                params: {folder: {required: true}}
                steps:
                - run: echo {{ folder }} {{ app }}
                - run: echo {{ port }}
                - run: echo {{ other }}
                """),
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert done.err.count("--app blog") == 1
    assert done.err.count("error: ") == 2
    assert "'other' is undefined" in done.err
