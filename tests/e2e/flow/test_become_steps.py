"""``become``: steps of several users in one task, in order, each in a shell of its user.

The tests run as root, which can become any user without a password; `nobody` exists everywhere.
"""

from __future__ import annotations

import getpass
from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    assert getpass.getuser() == "root", "these tests become other users, which root may"
    return project.add_sandbox_stage("a1")


def run_task(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def step_outputs(done: OrchResult) -> list[tuple[str, str]]:
    return [(s["status"], s["stdout"].strip()) for s in done.host_steps("a1")]


def test_each_step_runs_as_its_user_and_in_order(one: OrchProject) -> None:
    done = run_task(
        one,
        """
        become: nobody
        steps:
          - {run: id -un}
          - {run: id -un; pwd, become: true}
          - {run: id -un}
          - {run: id -un, become: false}
          - {run: id -un, become: "{{ 'dae' ~ 'mon' }}"}
        """,
    )
    outs = [out.split("\n")[0] for _, out in step_outputs(done)]
    assert outs == ["nobody", "root", "nobody", "root", "daemon"]


def test_conditions_and_results_reach_across_users(one: OrchProject) -> None:
    done = run_task(
        one,
        """
        steps:
          - {run: "echo from root", register: a}
          - {run: "echo {{ a.stdout }}", become: nobody, register: b, when: a.changed}
          - {run: "echo $(id -un) {{ b.stdout }}", when: b.exit_status == 0}
          - {run: echo no, become: nobody, when: b.failed}
          - {run: exit 3, become: nobody, register: c, failed_when: false}
          - {run: echo three, when: c.exit_status == 3}
        """,
    )
    assert [out for status, out in step_outputs(done) if status != "skipped"] == [
        *("from root", "from root", "root from root", "", "three"),
    ]


def test_a_user_that_nobody_may_become_is_a_failure_with_what_was_said(one: OrchProject) -> None:
    task = dedent("""\
        steps:
        - run: 'true'
        - {run: id, become: nonesuch}
        - run: echo never
        """)
    done = run_task(one, task)
    assert done.code == 1
    assert [s["status"] for s in done.host_steps("a1")] == ["changed", "failed"]
    assert "nonesuch" in done.host_rows["a1"]["reason"]
    rescued = dedent("""\
        steps:
        - block: [{run: id, become: nonesuch}]
          rescue: [{run: echo saved}]
        """)
    assert step_outputs(run_task(one, rescued))[-1] == ("changed", "saved")


def test_blocks_modules_and_loops_become_too(one: OrchProject) -> None:
    one.write({"tasks/who.yml": 'probe: state user "$(id -un)"\nwant: {user: nobody}\n'})
    done = run_task(
        one,
        """
        steps:
          - block: [{run: id -un}, {who: {}}]
            become: nobody
          - {run: "id -un; echo {{ item }}", loop: [1], become: nobody}
          - {run: id -un, become: nobody, delegate_to: a1}
          - {run: id -un, become: nobody, retries: 1}
        """,
    )
    assert [status for status, _ in step_outputs(done)] == [
        "changed",
        "ok",
        "changed",
        "changed",
        "changed",
    ]
    assert all(
        out.startswith("nobody") for status, out in step_outputs(done) if status == "changed"
    )


def test_a_plan_shows_whose_shell_it_is(one: OrchProject) -> None:
    one.write({"tasks/t.yml": "steps:\n- {run: id, become: nobody}\n"})
    assert "as nobody" in one.orch("-s", "dev", "plan", "t").out


def test_a_timeout_ends_what_another_user_runs(one: OrchProject) -> None:
    done = run_task(one, "steps:\n- {run: sleep 1000, become: nobody, timeout: 1s}\n")
    assert [s["status"] for s in done.host_steps("a1")] == ["timed_out"]


EMPTY = "`become` is empty"


@pytest.mark.parametrize(
    ("task", "at"),
    [
        (
            dedent("""\
            steps:
            - run: id
              become:
            """),
            "t.yml:3:",
        ),
        ('steps:\n- {run: id, become: ""}\n', "t.yml:2:"),
        (
            dedent("""\
            steps:
            - run: id
              become: '  '
            """),
            "t.yml:3:",
        ),
        ("become: null\nsteps: [{run: id}]\n", "t.yml:1:"),
        (
            dedent("""\
            steps:
            - block: [{run: id}]
              become: ~
            """),
            "t.yml:3:",
        ),
        ("tasks:\n- {name: x, become: '', steps: [{run: id}]}\n", "t.yml:2:"),
        (
            dedent("""\
            vars: {who: ''}
            steps:
            - run: id
              become: '{{ who }}'
            """),
            "t.yml:4:",
        ),
        (
            dedent("""\
            vars: {who: null}
            steps:
            - run: id
              become: '{{ who }}'
            """),
            "t.yml:4:",
        ),
        (
            dedent("""\
            steps:
            - run: id
              become: "{{ env.NO_SUCH_NAME | default(' ') }}"
            """),
            "t.yml:3:",
        ),
        (
            dedent("""\
            become: '{{ "" }}'
            steps:
            - file: {path: x}
            """),
            "t.yml:1:",
        ),
    ],
)
def test_an_empty_one_is_an_error_at_its_line_and_never_the_login_user(
    one: OrchProject, task: str, at: str
) -> None:
    one.write({"tasks/t.yml": task})
    done = one.orch("-s", "dev", "run", "t")
    assert (done.code, done.out) == (3, "")
    assert EMPTY in done.err
    assert at in done.err
    assert "write true (root), the name of a user, or false for the login user" in done.err


def test_false_is_the_way_to_say_no_and_a_step_left_out_needs_none(one: OrchProject) -> None:
    done = run_task(
        one,
        """
        become: nobody
        vars: {root: false, none_such: ''}
        steps:
          - {run: id -un, become: "{{ root }}"}
          - {run: id -un, become: "{{ not root }}"}
          - {run: id -un, become: "{{ none_such }}", when: none_such != ''}
          - {run: id -un}
        """,
    )
    assert [out for status, out in step_outputs(done) if status != "skipped"] == [
        "root",
        "root",
        "nobody",
    ]


def test_each_users_steps_know_which_run_they_are_a_part_of(one: OrchProject) -> None:
    done = run_task(
        one,
        """
        steps:
          - {run: echo $ORCH_RUN}
          - {run: echo $ORCH_RUN, become: nobody}
          - {run: echo $ORCH_RUN, local: true}
          - {run: "echo $ORCH_RUN.", environment: {ORCH_RUN: ""}}
          - {run: "echo {{ run.id }}"}
        """,
    )
    outs = [out for _, out in step_outputs(done)]
    assert outs == [*outs[4:] * 3, ".", outs[4]]
    assert done.events[0]["run"] == outs[4]
