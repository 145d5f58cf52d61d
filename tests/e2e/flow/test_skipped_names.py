"""Names registered by steps that are skipped."""

from __future__ import annotations

import shlex
from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1")


def run_task(project: OrchProject, task: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert done.events, done.err
    return done


def last_output(done: OrchResult) -> str:
    return str(done.host_steps("a1")[-1]["stdout"]).strip()


HELD = "run: 'true'"
BROKE = "run: 'false'"
SHOW = "- run: echo got {{ x }}\n"


@pytest.mark.parametrize(
    ("steps", "means"),
    [
        (f"- block: [{HELD}]\n  rescue: [set: {{x: new}}]\n", "old"),
        (f"- block: [{BROKE}]\n  rescue: [set: {{x: new}}]\n", "new"),
        (f"- block: [{BROKE}, set: {{x: new}}]\n  rescue: [{HELD}]\n", "old"),
        (f"- block: [{HELD}, set: {{x: new}}]\n  rescue: [{HELD}]\n", "new"),
        ("- {run: echo, register: r}\n- {set: {x: new}, when: r.stdout}\n", "old"),
        ("- {run: echo 1, register: r}\n- {set: {x: new}, when: r.stdout}\n", "new"),
        (
            dedent("""\
                - set: {x: new}
                - {run: echo, register: r}
                - set: {x: 'newer{{ r.stdout }}'}
                """),
            "newer",
        ),
    ],
)
def test_what_set_did_not_come_to_do_is_not_done(one: OrchProject, steps: str, means: str) -> None:
    done = run_task(one, f"vars: {{x: old}}\nsteps:\n{steps}{SHOW}")
    assert (done.code, last_output(done)) == (0, f"got {means}")


@pytest.mark.parametrize(("fails", "message"), [("true", "first"), ("false", "second")])
def test_a_name_registered_in_a_block_and_in_its_rescue_is_that_of_the_one_that_ran(
    one: OrchProject, fails: str, message: str
) -> None:
    done = run_task(
        one,
        f"steps:\n- block: [{{run: echo first, register: r}}, run: '{fails}']\n"
        "  rescue: [{run: echo second, register: r}]\n"
        "- {run: 'echo was {{ r.stdout }}', when: r.changed}\n",
    )
    assert (done.code, last_output(done)) == (0, f"was {message}")


def test_what_no_step_came_to_register_is_an_error_of_the_step_that_needs_it(
    one: OrchProject,
) -> None:
    done = run_task(
        one,
        f"steps:\n- block: [{HELD}]\n  rescue: [{{run: echo, register: r}}]\n"
        "- run: echo {{ r.stdout }}\n",
    )
    assert done.code == 1
    assert "'r' is undefined" in done.host_rows["a1"]["reason"]


def test_a_rollback_may_register_a_name_of_the_task_again(one: OrchProject) -> None:
    done = run_task(
        one,
        f"steps: [{{run: echo, register: r}}, {BROKE}]\n"
        "rollback:\n- {run: echo back, register: r}\n- run: echo to {{ r.stdout }}\n",
    )
    assert last_output(done) == "to back"


def test_a_task_of_which_only_an_ignored_failure_came_is_ok(one: OrchProject) -> None:
    done = run_task(one, "steps: [{run: 'false', ignore_errors: true}]\n")
    assert (done.code, done.host_rows["a1"]["status"]) == (0, "ok")


def test_a_pending_handler_is_run_by_the_file_that_defines_it_whatever_its_item_is_called(
    one: OrchProject,
) -> None:
    one.write(
        {
            "tasks/app.yml": "steps: [{run: echo, notify: re start}, {run: test -e ok}]\n"
            "handlers: {re start: [{run: echo started}]}\n",
        }
    )
    one.write({"tasks/t.yml": "tasks: [{name: bring it up, app: {}}]\n"})
    output = one.orch("-s", "dev", "run", "t", COLUMNS="200").out
    command = "orch -s dev run app --handler 're start' -l a1"
    assert f"not run yet: {command}" in output
    done = one.orch(*shlex.split(command)[1:], "--json")
    assert (done.code, last_output(done)) == (0, "started")


@pytest.mark.parametrize(
    ("undo", "pending"),
    [("run: 'true'", False), ("run: 'false'", True), ("{run: 'true', when: false}", True)],
)
def test_a_handler_stays_pending_where_its_task_could_not_be_undone(
    one: OrchProject, undo: str, pending: bool
) -> None:
    one.write(
        {
            "tasks/t.yml": "steps: [{run: echo, notify: h}, {run: exit 1}]\n"
            f"handlers: {{h: [{{run: echo}}]}}\nrollback:\n- {undo}\n"
        }
    )
    output = one.orch("-s", "dev", "run", "t", COLUMNS="200").out
    assert ("not run yet: orch -s dev run t --handler h -l a1" in output) is pending


def test_a_handler_that_did_not_come_to_its_end_is_pending(one: OrchProject) -> None:
    one.write(
        {
            "tasks/t.yml": "steps: [{run: echo, notify: [h, k]}]\n"
            "handlers: {h: [{run: echo}], k: [{run: echo}, {run: exit 1}]}\n"
        }
    )
    output = one.orch("-s", "dev", "run", "t", COLUMNS="200").out
    assert "--handler k" in output
    assert "--handler h" not in output


def test_a_handler_stays_pending_when_only_earlier_tasks_could_be_undone(one: OrchProject) -> None:
    one.write(
        {
            "tasks/a.yml": "steps: [{run: echo}]\nrollback: [{run: echo}]\n",
            "tasks/b.yml": dedent("""\
                steps: [{run: echo, notify: h}, {run: exit 1}]
                handlers: {h: [{run: echo}]}
                rollback: [{run: exit 1}]
                """),
            "tasks/t.yml": "tasks: [a, b]\n",
        }
    )
    output = one.orch("-s", "dev", "run", "t", COLUMNS="200").out
    assert "not run yet: orch -s dev run b --handler h -l a1" in output


GREETS = """\
params: {who: {}, list: {type: list, default: []}, loud: {type: bool, default: false}, n: {default: 1}}
steps: [{run: echo, notify: h}, {run: test -e ok}]
handlers: {h: [{run: 'echo {{ who }} {{ list | join("/") }} {{ loud }} {{ n }} {{ mood }}'}]}
"""


@pytest.mark.parametrize(
    ("playbook", "args", "message"),
    [
        ("tasks: [greet]\n", ("who=it's me",), "it's me  false 1 fine, 'so' so"),
        ("tasks: [{tasks: [greet]}]\n", ("who=~x", "list=a,b"), "~x a/b false 1 fine, 'so' so"),
        (
            dedent("""\
                params: {to: {}}
                tasks:
                - greet: {who: '{{ to }} {{ host.name }}', list: ['a, b', 2], loud: true}
                """),
            ("to=for $1", "n=2"),
            "for $1 a1 a, b/2 true 2 fine, 'so' so",
        ),
    ],
)
def test_the_command_for_a_pending_handler_gives_it_what_it_would_have_had(
    one: OrchProject, playbook: str, args: tuple[str, ...], message: str
) -> None:
    one.write({"tasks/greet.yml": GREETS, "tasks/p.yml": playbook})
    words = ("-s", "dev", "run", "p", *args, "-e", "mood=fine, 'so' so", "--json")
    reason = one.orch(*words).host_rows["a1"]["hint"]
    command = shlex.split(reason.partition("not run yet: ")[2])
    assert command[:5] == ["orch", "-s", "dev", "run", "greet"]
    done = one.orch(*command[1:], "--json")
    assert (done.code, last_output(done)) == (0, message), done.err
    assert command[-4:] == ["--handler", "h", "-l", "a1"]


def test_the_command_for_a_pending_handler_names_the_project_where_that_was_named(
    one: OrchProject,
) -> None:
    task = "steps: [{run: echo, notify: h}, {run: exit 1}]\nhandlers: {h: [{run: echo}]}\n"
    one.write({"tasks/t.yml": task})
    folder = one.root.parent
    words = ("-C", str(one.root), "-s", "dev", "run", "t", "--json")
    command = one.orch(*words, cwd=folder).host_rows["a1"]["hint"].partition("not run yet: ")[2]
    assert one.orch(*shlex.split(command)[1:], cwd=folder).code == 0


def test_what_a_step_that_is_left_out_would_be_given_need_not_be_right(one: OrchProject) -> None:
    one.write({"tasks/there.txt": "there\n"})
    done = run_task(
        one,
        dedent("""\
            vars: {nil: null, made: false}
            steps:
            - upload: {src: "{{ nil }}", path: x}
              when: made
            - file: {path: x, mode: "{{ 9 }}"}
              when: made
            - run: echo on
            """),
    )
    assert [step["status"] for step in done.host_steps("a1")] == ["skipped", "skipped", "changed"]
    wrong = '- upload: {src: "{{ nil }}", path: x}\n  when: made\n'
    one.write({"tasks/t.yml": f"vars: {{nil: null, made: true}}\nsteps:\n{wrong}"})
    refused = one.orch("-s", "dev", "run", "t")
    assert refused.code == 3
    assert "needs a value, found nothing" in refused.err
