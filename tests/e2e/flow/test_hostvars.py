"""`hosts`: what templates can read of other hosts, and from which task on."""

from __future__ import annotations

import json
import os
from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def two(project: OrchProject) -> OrchProject:
    """Create two hosts on which `ask` registers results before the task `t` runs."""
    return project.add_sandbox_stage("a1", "a2").write(
        {
            "inventories/dev/hosts/a1.yml": "vars: {rack: left, r: written, own: '{{ rack }}!'}\n",
            "inventories/dev/hosts/a2.yml": "vars: {rack: right}\n",
            "tasks/ask.yml": dedent("""\
                steps:
                - {run: 'echo from {{ host.name }}', register: r}
                - set: {mine: 'of {{ host.name }}'}
                - {run: echo, register: left, when: host.name == 'a2'}
                """),
            "tasks/p.yml": "tasks: [ask, t]\n",
        }
    )


def run_task(
    project: OrchProject, task: str, *args: str, files: dict[str, str] | None = None
) -> OrchResult:
    project.write({"tasks/t.yml": task, **(files or {})})
    return project.orch("-s", "dev", "run", "p", "--json", *args)


def step_outputs(done: OrchResult, host: str = "a2") -> list[str]:
    assert done.events, done.err
    return [s["stdout"].strip() for s in done.host_steps(host) if s["task"] == "t"]


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("hosts['a1'].r.stdout", "from a1"),
        ("hosts.a1.vars.r.stdout", "from a1"),
        ("hosts['a1']['r']['stdout']", "from a1"),
        ("hosts['a1'].mine", "of a1"),
        ("hosts['a1'].rack", "left"),
        ("hosts['a1'].own", "left!"),
        ("hosts['a1'].left.skipped", "true"),
        ("hosts['a1'].name", "a1"),
        ("hosts['a1'].nope | default('none')", "none"),
        ("hosts[host.name].r.stdout", "from a2"),
    ],
)
def test_results_and_variables_of_another_host_are_had_by_their_names(
    two: OrchProject, name: str, means: str
) -> None:
    done = run_task(two, f"steps:\n- run: echo {{{{ {name} }}}}\n", "-l", "a1,a2")
    assert (done.code, step_outputs(done)) == (0, [means])


def test_every_host_can_be_gone_through(two: OrchProject) -> None:
    done = run_task(
        two, "steps:\n- run: echo{% for name in hosts %} {{ hosts[name].r.stdout }}{% endfor %}\n"
    )
    assert step_outputs(done) == ["from a1 from a2"]


def test_the_plan_says_what_waits_for_another_hosts_result(two: OrchProject) -> None:
    steps = dedent("""\
            steps:
            - run: echo {{ hosts['a1'].r.stdout }}
            - {run: echo, when: hosts.a1.r.changed}
            - {run: 'echo {{ item }}', loop: hosts.a1.r.stdout.split()}
            - run: echo {{ hosts['a1'].rack }}
            - run: echo {{ hosts['a1'].left.skipped }}
            """)
    two.write({"tasks/t.yml": steps})
    found = json.loads(two.orch("-s", "dev", "plan", "p", "--json").out)
    (host,) = [h for h in found["lanes"][0]["waves"][1]["hosts"] if h["host"] == "a2"]
    assert [(s["waits"], s["text"]) for s in host["steps"]] == [
        (["hosts['a1'].r"], "echo {{ hosts['a1'].r.stdout }}"),
        (["hosts['a1'].r"], "echo"),
        (["hosts['a1'].r"], "echo {{ item }}"),
        ([], "echo left"),
        ([], "echo true"),
    ]
    assert "waits for `hosts['a1'].r`" in two.orch("-s", "dev", "plan", "p").out
    done = run_task(two, steps)
    assert step_outputs(done) == ["from a1", "", "from", "a1", "left", "true"]


def test_a_result_of_the_task_at_hand_is_not_there(two: OrchProject) -> None:
    done = run_task(
        two,
        dedent("""\
            steps:
            - {run: echo, register: own2}
            - run: echo {{ hosts.a1.own2.stdout }}
            """),
    )
    assert done.code == 3
    assert "'hosts.a1.own2' is undefined" in done.err
    assert "tasks/t.yml:3:25" in done.err
    assert not (two.root / ".orch").exists()


def test_a_result_that_the_other_host_replaces_meanwhile_is_still_the_earlier_one(
    two: OrchProject,
) -> None:
    pipe = two.root / "pipe"
    os.mkfifo(pipe)
    done = run_task(
        two,
        f"steps:\n- {{run: 'echo newer', register: r}}\n"
        f"- {{run: 'echo > {pipe}', when: host.name == 'a1' and r.changed}}\n"
        f"- {{run: 'cat {pipe}', when: host.name == 'a2'}}\n"
        "- run: echo {{ hosts.a1.r.stdout }}, here {{ r.stdout }}\n",
    )
    assert step_outputs(done)[-1] == "from a1, here newer"


def test_a_variable_made_of_another_hosts_result_keeps_up_with_it(two: OrchProject) -> None:
    two.write(
        {
            "inventories/dev/hosts/a2.yml": "vars: {theirs: '{{ hosts.a1.n.stdout }}'}\n",
            "tasks/give.yml": "params: {n: {}}\nsteps: [{run: 'echo {{ n }}', register: n}]\n",
            "tasks/p.yml": "tasks: [give: {n: 1}, t, give: {n: 2}, t]\n",
        }
    )
    done = run_task(two, "steps: [run: 'echo {{ hosts.a2.theirs }}']\n")
    assert (step_outputs(done, "a1"), step_outputs(done, "a2")) == (["1", "2"], ["1", "2"])
    done = run_task(
        two,
        "roles: [r]\nsteps: [run: 'echo {{ theirs }}']\n",
        files={"inventories/dev/roles/r.yml": "[a2]\n"},
    )
    assert step_outputs(done) == ["1", "2"]


def test_a_later_batch_sees_what_an_earlier_one_registered(two: OrchProject) -> None:
    two.write({"tasks/p.yml": "tasks: [{batch: 1, tasks: [ask, t]}]\n"})
    steps = "steps:\n- run: echo {{ hosts.a1.r.stdout }}\n"
    done = run_task(two, steps + "- run: echo {{ hosts.a2.mine | default('none') }}\n")
    assert step_outputs(done, "a1") == ["from a1", "none"]
    assert step_outputs(done, "a2") == ["from a1", "of a2"]


@pytest.mark.parametrize("by", ["raw", "words"])
def test_what_came_from_another_host_is_never_taken_as_it_is(two: OrchProject, by: str) -> None:
    done = run_task(two, f"steps:\n- run: echo {{{{ hosts['a1'].r.stdout | {by} }}}}\n")
    assert (done.code, step_outputs(done)) == (1, [""])
    assert f"`{by}`" in done.host_rows["a2"]["reason"]


def test_what_came_from_another_host_is_quoted_and_never_rendered_again(two: OrchProject) -> None:
    evil = dedent("""\
        steps:
        - run: printf %s '{{ '{{ 1 + 1 }} $(id) ; x' }}'
          register: r
        """)
    done = run_task(
        two,
        dedent("""\
            vars: {v: "{{ hosts.a1.r.stdout }}"}
            steps:
            - run: echo {{ v }}
            """),
        files={"tasks/ask.yml": evil},
    )
    assert step_outputs(done) == ["{{ 1 + 1 }} $(id) ; x"]


def test_what_never_came_from_another_host_is_undefined_or_none_in_a_rollback(
    two: OrchProject,
) -> None:
    two.write(
        {
            "tasks/p.yml": "tasks: [{max_failures: 1, tasks: [ask, t]}, last]\n",
            "tasks/ask.yml": dedent("""\
                steps:
                - run: test {{ host.name }} = a2
                - {run: 'echo from {{ host.name }}', register: s}
                """),
            "tasks/last.yml": dedent("""\
                steps: [{run: exit 1}]
                rollback:
                - run: echo {{ hosts.a1.s.stdout or 'none' }} {{ hosts.a2.s.stdout }} > undone
                """),
        }
    )
    done = run_task(two, "steps:\n- run: echo {{ hosts.a1.s.stdout | default('none') }}\n")
    assert step_outputs(done) == ["none"]
    assert (two.root / ".orch/sandbox/dev/a2/undone").read_text() == "none from a2\n"
    done = run_task(two, "steps:\n- run: echo {{ hosts.a1.s.stdout }}\n")
    assert "'hosts.a1.s' is undefined" in done.host_rows["a2"]["reason"]


def test_values_of_hosts_that_need_each_other_are_an_error(two: OrchProject) -> None:
    two.write(
        {
            "inventories/dev/hosts/a1.yml": "vars: {x: '{{ hosts.a2.y }}'}\n",
            "inventories/dev/hosts/a2.yml": "vars: {y: '{{ hosts.a1.x }}'}\n",
        }
    )
    done = run_task(two, "steps:\n- run: echo {{ hosts.a1.x }}\n")
    assert done.code == 3
    assert "hosts['a1'].x → hosts['a2'].y → hosts['a1'].x" in done.err


def test_the_facts_of_another_host_are_known_once_an_earlier_task_named_them(
    two: OrchProject,
) -> None:
    steps = "steps:\n- run: echo {{ hosts.a1.facts.os == facts.os }}\n"
    done = run_task(two, steps)
    assert done.code == 1
    assert "the fact 'os' of 'a1' is not known" in done.host_rows["a2"]["reason"]
    done = run_task(two, steps, files={"tasks/ask.yml": "steps: [run: 'echo {{ facts.os }}']\n"})
    assert step_outputs(done) == ["true"]
