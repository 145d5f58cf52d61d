"""Errors that ``orch lint`` finds and a run would otherwise meet, or reject at its start."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.projects import OrchProject

TASK = "desc: t\nsteps: [{run: 'true'}]\n"


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1", "a2", "a3", "a4", "a5").write({"tasks/t.yml": TASK})


def write_variables(project: OrchProject, text: str) -> OrchProject:
    return project.write(
        {"inventories/dev/stage.yml": f"connect: {{transport: sandbox}}\nvars:\n  {text}\n"}
    )


def test_variables_that_need_each_other_are_found_and_told_once_for_all_hosts(
    shop: OrchProject,
) -> None:
    done = write_variables(shop, 'a: "{{ b }}"\n  b: "{{ a }}"\n  c: "{{ a }}"').orch("lint")
    assert done.code == 3
    assert done.err.count("a → b → a (on a[1-5])") == 1
    assert "stage.yml:3:6" in done.err


@pytest.mark.parametrize(
    ("value", "what", "position"),
    [
        ('"{{ nothing }}"', "'nothing' is undefined", "3:10"),
        ('"{{ 1 / 0 }}"', "division by zero", "3:"),
        ('"{{ 1 + }}"', "invalid template", "3:"),
        ('["{{ hosts.a1.vars.nope }}"]', "'hosts.a1.vars.nope' is undefined", "3:"),
        ('"{{ task.desc }}"', "'task' is undefined", "3:10"),
    ],
)
def test_a_variable_without_a_value_is_an_error_at_its_place(
    shop: OrchProject, value: str, what: str, position: str
) -> None:
    done = write_variables(shop, f"v: {value}\n  w: '{{{{ v }}}}'").orch("lint")
    assert done.code == 3
    assert done.err.count(what) == 1
    assert f"stage.yml:{position}" in done.err


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
def test_a_variable_that_only_a_run_can_know_is_not_judged(shop: OrchProject, value: str) -> None:
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
    done = write_variables(
        shop, f'v: "{value}"\n  w: "{{{{ v }}}}"\n  other: "{{{{ facts.os }}}}"'
    ).orch("lint")
    assert done.code == 0, done.err


def test_the_environment_of_a_stage_is_judged_like_its_variables(shop: OrchProject) -> None:
    shop.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\n"
            "environment: {A: '{{ nope }}', B: '{{ [1] }}'}\n"
        }
    )
    err = shop.orch("lint").err
    assert "'nope' is undefined" in err
    assert "environment variable 'B' must be text" in err


def test_a_problem_of_one_host_names_it(shop: OrchProject) -> None:
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
    shop: OrchProject, step: dict[str, object], what: str
) -> None:
    done = shop.write({"tasks/u.yml": json.dumps({"desc": "u", "steps": [step]})}).orch("lint")
    assert done.code == 3
    assert done.err.count(what) == 1
    assert "tasks/u.yml:1:" in done.err
    run = shop.orch("-s", "dev", "run", "u", "-l", "a1")
    assert run.code in (1, 3), "lint refuses what runs"


def test_a_constant_on_a_task_or_an_item_is_judged(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/u.yml": dedent("""\
                desc: u
                chdir: [a]
                steps: [{run: id}]
                """),
            "tasks/v.yml": dedent("""\
                desc: v
                tasks:
                - t: {}
                  when: "'no'"
                - {name: w, when: "'off'", steps: [{run: id}]}
                """),
        }
    )
    err = shop.orch("lint").err
    for location in ("tasks/u.yml:2:8", "tasks/v.yml:4:", "tasks/v.yml:5:"):
        assert location in err


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
def test_what_can_work_is_no_error(shop: OrchProject, step: dict[str, object]) -> None:
    write_variables(shop, "x: /tmp/x")
    done = shop.write({"tasks/u.yml": json.dumps({"desc": "u", "steps": [step]})}).orch("lint")
    assert (done.code, done.err) == (0, "")


def test_a_stage_named_is_judged_alone_but_a_role_may_be_another_ones(shop: OrchProject) -> None:
    shop.add_sandbox_stage("b1", stage="one").write(
        {
            "inventories/dev/roles/web.yml": "[a1]",
            "inventories/dev/hosts/a1.yml": "vars: {v: '{{ nope }}'}",
            "tasks/u.yml": dedent("""\
                desc: u
                roles: [web]
                steps: [{run: id}]
                """),
        }
    )
    assert shop.orch("-s", "one", "lint").code == 0
    assert shop.orch("-s", "dev", "lint").code == 3
    shop.write(
        {
            "tasks/u.yml": dedent("""\
        desc: u
        roles: [wbe]
        steps: [{run: id}]
        """)
        }
    )
    assert "no stage has the role 'wbe'" in shop.orch("-s", "one", "lint").err
    shop.write({"inventories/dev/stage.yml": "nope: 1\n", "tasks/u.yml": TASK})
    assert shop.orch("-s", "one", "lint").code == 0
    assert shop.orch("-s", "dev", "lint").code == 3


def test_a_stage_in_error_does_not_make_its_roles_unknown(shop: OrchProject) -> None:
    shop.write(
        {
            "inventories/dev/roles/web.yml": "hosts: [a1]\nnope: 1\n",
            "tasks/u.yml": dedent("""\
                desc: u
                roles: [web]
                steps: [{run: id}]
                """),
        }
    )
    err = shop.orch("lint").err
    assert "nope" in err
    assert "no stage has the role" not in err


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ("copy: {content: x}", "task 'copy' needs a value for its param 'path'"),
        ("copy: {path: /tmp/x}", "task 'copy' needs one of src, content and remote_src"),
        ("link: {path: /tmp/x}", "task 'link' needs a value for its param 'to'"),
        ("own: {}", "task 'own' needs a value for its param 'x'"),
        ("template: {path: /tmp/x, src: nope.j2}", "cannot read tasks/nope.j2"),
        ("copy: {path: /tmp/x, src: nope}", "cannot read tasks/nope"),
        ("upload: {path: /tmp/x, src: ../nope}", "cannot read nope"),
        ("template: {path: /tmp/x, src: bad.j2}", "tasks/bad.j2:1"),
    ],
)
def test_what_a_call_lacks_is_an_error_at_the_users_line(
    shop: OrchProject, step: str, what: str
) -> None:
    shop.write(
        {
            "tasks/u.yml": f"desc: u\nsteps:\n- {step}\n",
            "tasks/own.yml": dedent("""\
                desc: own
                params: {x: {required: true}}
                steps: [{run: 'echo {{ x }}'}]
                """),
            "tasks/bad.j2": "{{ 1 + }}\n",
        }
    )
    for words in (("lint",), ("-s", "dev", "run", "u")):
        done = shop.orch(*words)
        assert done.code == 3, done.out
        assert what in done.err
        assert ("tasks/u.yml:3:" in done.err) is ("bad.j2" not in step)
        assert "library" not in done.err


def test_what_a_stage_or_an_item_may_bring_is_not_missed(shop: OrchProject) -> None:
    write_variables(shop, "v: 1").write(
        {
            "inventories/dev/roles/web.yml": "hosts: [a1]\ndefaults: {link: {to: /tmp}}\n",
            "tasks/u.yml": dedent("""\
                desc: u
                steps:
                - link: {path: /tmp/x}
                - {copy: {path: /tmp/y, src: '{{ item }}'}, loop: [nope]}
                """),
        }
    )
    assert shop.orch("lint").code == 0


def test_a_name_that_nothing_defines_is_an_error_where_it_stands(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/u.yml": """\
                desc: u
                steps:
                - run: echo {{ greting }} {{ later.stdout }} {{ made }} {{ size }}
                - copy: {path: '/tmp/{{ nwhere }}', content: x}
                  when: whn
                  environment: {A: '{{ envr }}'}
                """,
            "tasks/w.yml": dedent("""\
                desc: w
                steps:
                - {run: id, register: later}
                - set: {made: 1}
                """),
        }
    )
    done = write_variables(shop, "greeting: hello\n  size: 1").orch("lint")
    assert done.code == 3
    for name, location in (("greting", "3:16"), ("nwhere", "4:"), ("whn", "5:9"), ("envr", "6:")):
        assert f"'{name}' is undefined on every host" in done.err
        assert f"tasks/u.yml:{location}" in done.err
    assert done.err.count("error:") == 4
    assert "did you mean 'greeting'?" in done.err


@pytest.mark.parametrize(
    "text",
    [
        "{{ x | default('') }}",
        "{% if x is defined %}{{ x }}{% endif %}",
        "{{ facts.os }} {{ host.name }} {{ env.HOME }} {{ run.id }}",
        "{% for x in [1] %}{{ x }}{% endfor %}",
        "{{ p }}",
        "{{ of_the_app }}",
        "{{ app.name }}",
    ],
)
def test_names_that_may_have_a_value_are_no_error(shop: OrchProject, text: str) -> None:
    shop.write(
        {
            "tasks/u.yml": f'desc: u\nparams: {{p: {{required: true}}}}\nsteps:\n- run: "echo {text}"\n',
            "inventories/dev/apps/blog.yml": "hosts: {a1: {vars: {of_the_app: 1}}}\n",
        }
    )
    done = shop.orch("lint")
    assert done.code == 0, done.err
    assert "undefined" not in done.out


def test_a_name_that_only_some_hosts_or_other_tasks_have_is_a_note(shop: OrchProject) -> None:
    shop.write(
        {
            "inventories/dev/hosts/a1.yml": "vars: {x: 1}\n",
            "inventories/dev/roles/web.yml": "[a1, a2, a3]\n",
            "tasks/u.yml": dedent("""\
                desc: u
                roles: [web]
                steps:
                - run: echo {{ x }} {{ p }}
                """),
            "tasks/w.yml": dedent("""\
                desc: w
                params: {p: {}}
                steps: [{run: 'echo {{ p }}'}]
                """),
        }
    )
    done = shop.orch("lint")
    assert done.code == 0
    assert "tasks/u.yml:4:16: note: 'x' is undefined on a[2-3] of stage 'dev'" in done.out
    assert (
        "tasks/u.yml:4:24: note: 'p' is a param of other tasks, but undefined in this one"
        in done.out
    )


def test_an_unknown_fact_is_an_error(shop: OrchProject) -> None:
    steps = "steps: [{run: 'echo {{ facts.app.v }} {{ facts.oss }}'}]"
    shop.write({"tasks/f.yml": f"desc: f\n{steps}\n", "tasks/facts/app.sh": "echo v=1\n"})
    done = shop.orch("lint")
    assert done.code == 3
    assert "'facts.oss' is undefined" in done.err
    assert "did you mean 'os'?" in done.err
    assert "facts.app" not in done.err.replace("echo {{ facts.app.v }}", "")
    shop.write(
        {"tasks/facts/bad.yml": "scripts: x\n", "tasks/f.yml": "desc: f\nsteps: [{run: x}]\n"}
    )
    assert "unknown key 'scripts' in fact 'bad'" in shop.orch("lint").err


def test_apps_that_collide_are_an_error(shop: OrchProject) -> None:
    shop.write(
        {
            "inventories/dev/apps/blog.yml": "claims: {ports: [80]}\n",
            "inventories/dev/apps/shop.yml": "claims: {ports: [80]}\n",
        }
    )
    done = shop.orch("lint")
    assert done.code == 3
    assert done.err.count("both claim the port 80 (on a[1-5])") == 1


@pytest.mark.parametrize(
    ("variables", "what", "hint"),
    [
        ("kepe: 5", "sets 'kepe', which nothing in the project uses", "did you mean 'keep'?"),
        ("linked_dir: [log]", "'linked_dir'", "did you mean 'linked_dirs'?"),
        ("nonsuch: 5", "'nonsuch'", "see `orch doc deploy`"),
        ("keep: 5", "", ""),
        ("workers: 5", "", ""),
        ("port: 80\n  health_url: 'http://x:{{ port }}/'", "", ""),
    ],
)
def test_a_variable_of_an_app_that_nothing_uses_is_an_error_with_the_nearest_name(
    tmp_path: Path, variables: str, what: str, hint: str
) -> None:
    project = OrchProject(tmp_path / "project")
    assert project.orch("init", str(project.root), cwd=tmp_path).code == 0
    (project.root / "inventories" / "common" / "apps" / "blog.yml").write_text(
        f"vars:\n  deploy_to: ~/apps/blog\n  folder: apps\n  {variables}\n"
    )
    project.write({"tasks/app.env.j2": "{{ workers }}\n"})
    done = project.orch("lint")
    assert (what in done.err) and (hint in done.err)
    assert done.code == (3 if what else 0), done.err
    if what:
        assert "inventories/common/apps/blog.yml:4:3" in done.err
