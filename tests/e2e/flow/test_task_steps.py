"""Loops, blocks, handlers, retries, control steps, delegation and tags, over real SSH."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1")


def run_task(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def step_results(done: OrchResult, host: str = "a1") -> list[tuple[str, str]]:
    return [(s["status"], s["stdout"].strip()) for s in done.host_steps(host)]


def step_outputs(done: OrchResult, host: str = "a1") -> list[str]:
    return [out for status, out in step_results(done, host) if status != "skipped"]


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        ("[a, b c]", ["a", "b c"]),
        ("{x: 1, y: 2}", ["x=1", "y=2"]),
        ("range(2, 4)", ["2", "3"]),
        ("things", ["p", "q"]),
        ("'{{ things }}'", ["p", "q"]),
        ("[]", []),
    ],
)
def test_a_loop_runs_for_every_item(one: OrchProject, loop: str, message: list[str]) -> None:
    word = "{{ item.key }}={{ item.value }}" if loop.startswith("{") else "{{ item }}"
    done = run_task(one, f"vars: {{things: [p, q]}}\nsteps:\n- run: echo {word}\n  loop: {loop}\n")
    assert (done.code, step_outputs(done)) == (0, message)


def test_a_loops_result_has_one_for_each_item(one: OrchProject) -> None:
    done = run_task(
        one,
        "steps:\n- {run: echo {{ item }}, loop: [a, b], register: r, changed_when: item == 'a'}\n".replace(
            "{run: echo {{ item }},", "{run: 'echo {{ item }}',"
        )
        + "- run: echo {% for x in r.items %}{{ x.item }}:{{ x.stdout }}:{{ x.changed }} {% endfor %}"
        "{{ r.changed }}\n",
    )
    assert step_outputs(done)[-1] == "a:a:true b:b:false true"


def test_when_an_item_fails_the_others_still_run_and_then_the_loop_has_failed(
    one: OrchProject,
) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - {run: 'echo {{ item }}; test {{ item }} != b', loop: [a, b, c]}
            - run: echo no
            """),
    )
    assert done.code == 1
    assert step_results(done) == [("changed", "a"), ("failed", "b"), ("changed", "c")]
    assert done.host_rows["a1"]["status"] == "failed"


def test_a_loop_of_ignored_failures_goes_on_after_it(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - {run: 'false', loop: [a, b], ignore_errors: true, register: r}
            - run: echo {{ r.failed }}
            """),
    )
    assert (done.code, step_outputs(done)[-1]) == (0, "true")


def test_a_loop_over_a_result_runs_once_that_is_there(one: OrchProject) -> None:
    done = run_task(
        one,
        "steps:\n- {run: 'printf \"x y\\nz\\n\"', register: lines}\n"
        "- {run: 'echo [{{ item }}]', loop: lines.stdout.splitlines(), register: r}\n"
        "- run: echo {{ r.items | length }} {{ r.changed }}\n- {run: echo end, when: r.changed}\n",
    )
    assert step_outputs(done)[1:] == ["[x y]", "[z]", "2 true", "end"]


def test_a_failing_loop_over_a_result_stops_the_host(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - {run: echo a b, register: r}
            - {run: 'echo {{ item }}; test {{ item }} = b', loop: r.stdout.split()}
            - run: echo no
            """),
    )
    assert (done.code, step_outputs(done)) == (1, ["a b", "a", "b"])


def test_a_called_task_can_be_looped_and_is_left_at_its_first_failure_each_time(
    one: OrchProject,
) -> None:
    one.write(
        {
            "tasks/part.yml": dedent("""\
                params: {n: {}}
                steps:
                - run: test {{ n }} != 2
                - run: echo {{ n }}
                """)
        }
    )
    done = run_task(
        one,
        dedent("""\
        steps:
        - part: {n: '{{ item }}'}
          loop: [1, 2, 3]
        - run: echo no
        """),
    )
    assert (done.code, [o for o in step_outputs(done) if o]) == (1, ["1", "3"])


def test_the_items_label_is_shown(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - run: 'true'
              name: make
              loop: [{name: a, size: 1}]
              loop_control: {label: 'size {{ item.size }}'}
            - {run: 'true', loop: [{name: b}]}
            """),
    )
    assert [s["name"] for s in done.host_steps("a1")] == ["make (size 1)", "true (b)"]


@pytest.mark.parametrize(
    ("failing", "message", "code"),
    [
        ("none", ["b1", "b2", "always", "after"], 0),
        ("b1", ["b1", "rescue", "always", "after"], 0),
        ("b2", ["b1", "b2", "rescue", "always", "after"], 0),
    ],
)
def test_a_block_is_rescued_and_always_ends_the_same(
    one: OrchProject, failing: str, message: list[str], code: int
) -> None:
    def step(name: str) -> str:
        return f"{{run: 'echo {name}; test {name} != {failing}'}}"

    done = run_task(
        one,
        f"steps:\n- block: [{step('b1')}, {step('b2')}]\n  rescue: [{step('rescue')}]\n"
        f"  always: [{step('always')}]\n- {step('after')}\n",
    )
    assert (step_outputs(done), done.code) == (message, code)
    assert done.host_rows["a1"]["status"] == ("changed" if code == 0 else "failed")


@pytest.mark.parametrize("with_rescue", [True, False])
def test_a_block_that_is_not_saved_runs_always_and_then_fails(
    one: OrchProject, with_rescue: bool
) -> None:
    rescue = "  rescue: [{run: 'echo rescue; false'}, {run: echo no}]\n" if with_rescue else ""
    done = run_task(
        one,
        f"steps:\n- block: [{{run: 'false'}}]\n{rescue}  always: [{{run: echo always}}]\n"
        "- run: echo after\n",
    )
    assert [o for o in step_outputs(done) if o] == (["rescue"] if with_rescue else []) + ["always"]
    assert (done.code, done.host_rows["a1"]["status"]) == (1, "failed")


def test_an_inner_block_that_fails_is_rescued_by_the_outer(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - block:
              - block: [{run: 'false'}]
                always: [{run: echo inner}]
              - run: echo no
              rescue: [{run: echo outer}]
            - run: echo after
            """),
    )
    assert (step_outputs(done)[1:], done.code) == (["inner", "outer", "after"], 0)


def test_a_timeout_is_rescued_too(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - block: [{run: sleep 60, timeout: 300ms}]
              rescue: [{run: echo saved}]
            """),
    )
    assert (step_outputs(done)[-1], done.code) == ("saved", 0)


HANDLERS = """\
steps:
- {run: echo one, notify: [second, first]}
- {run: echo two, changed_when: false, notify: quiet}
- {run: echo three, notify: first}
handlers:
  first: [{run: echo H1}]
  second: [{run: echo H2, notify: third}]
  quiet: [{run: echo no}]
  third: [{run: echo H3}]
  fourth: [{run: echo no}]
"""


def test_handlers_run_once_in_the_order_defined_at_the_end_if_something_changed(
    one: OrchProject,
) -> None:
    done = run_task(one, HANDLERS)
    assert step_outputs(done) == ["one", "two", "three", "H1", "H2", "H3"]


def test_handlers_of_a_called_task_run_at_the_end_of_the_scheduled_one(one: OrchProject) -> None:
    one.write(
        {
            "tasks/part.yml": "steps: [{run: echo part, notify: mine}]\n"
            "handlers: {mine: [{run: echo mine}]}\n"
        }
    )
    done = run_task(
        one,
        dedent("""\
            steps:
            - part: {}
              notify: outer
            - run: echo end
            handlers: {outer: [{run: echo outer}]}
            """),
    )
    assert step_outputs(done) == ["part", "end", "outer", "mine"]


def test_a_handler_of_a_judged_change_hears_of_it(one: OrchProject) -> None:
    task = "steps:\n- {{run: echo {0}, changed_when: \"result.stdout == 'yes'\", notify: h}}\n"
    task += "handlers: {{h: [{{run: echo H}}]}}\n"
    assert step_outputs(run_task(one, task.format("yes"))) == ["yes", "H"]
    assert step_outputs(run_task(one, task.format("no"))) == ["no"]


def test_a_handler_after_a_failure_is_kept_and_shown_with_the_command_that_runs_it(
    one: OrchProject,
) -> None:
    task = dedent("""\
            steps:
            - {run: echo one, notify: restart}
            - run: test -e ok
            handlers: {restart: [{run: echo restarted}]}
            """)
    done = run_task(one, task)
    assert (done.code, step_outputs(done)) == (1, ["one", ""])
    shown = one.orch("-s", "dev", "run", "t")
    command = "orch -s dev run t --handler restart -l a1"
    assert command in shown.out
    later = one.orch(*command.split()[1:], "--json")
    assert (later.code, step_outputs(later)) == (0, ["restarted"])


def test_until_tries_again_and_says_how_often_it_did_not_help(one: OrchProject) -> None:
    counted = "echo x >> n; wc -l < n"
    done = run_task(
        one,
        f"steps:\n- {{run: '{counted}', until: result.stdout | int >= 3, retries: 5, delay: 10ms}}\n"
        "- run: echo next\n",
    )
    assert step_outputs(done) == ["3", "next"]
    never = run_task(
        one, "steps:\n- {run: 'false', until: result.changed, retries: 2, delay: 1ms}\n"
    )
    assert never.code == 1
    assert "'result.changed' was still false after 3 attempts" in never.host_rows["a1"]["reason"]


def test_an_until_that_cannot_be_judged_says_why(one: OrchProject) -> None:
    done = run_task(
        one, "steps:\n- {run: echo x, until: 1 / (result.stdout | length - 1), delay: 1ms}\n"
    )
    assert done.code == 1
    assert "division by zero" in done.host_rows["a1"]["reason"]


def test_a_wait_waits_on_this_side_and_says_so_in_the_plan(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
        steps:
        - run: echo a
        - wait: 50ms
        - run: echo b
        """),
    )
    assert [s for s, _ in step_results(done)] == ["changed", "ok", "changed"]
    assert "wait" in one.orch("-s", "dev", "plan", "t").out


def test_set_makes_a_variable_for_the_rest_of_the_run_over_all_others(one: OrchProject) -> None:
    one.write(
        {
            "tasks/later.yml": "steps: [{run: 'echo {{ a }} {{ b }} {{ c }}'}]\n",
            "tasks/first.yml": dedent("""\
                steps:
                - set: {a: 2, b: '{{ a }}'}
                - {run: echo out, register: r}
                - set: {c: '{{ r.stdout }}!'}
                - run: echo {{ a }} {{ b }} {{ c }}
                """),
        }
    )
    done = run_task(one, "tasks: [first, later]\n", "-e", "a=1", "-e", "c=0")
    assert [o for o in step_outputs(done) if o] == ["out", "2 1 out!", "2 1 out!"]


def test_fail_and_assert_stop_with_their_message(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - {run: echo x, register: r}
            - {fail: 'no {{ r.stdout }}', when: r.changed}
            """),
    )
    assert done.host_rows["a1"]["reason"].startswith("no x")
    assert done.code == 1
    held = run_task(
        one,
        dedent("""\
            steps:
            - {run: echo x, register: r}
            - assert: [r.stdout == 'x', 1 < 2]
            - run: echo on
            """),
    )
    assert step_outputs(held)[-1] == "on"
    broken = run_task(
        one,
        "steps:\n- assert: {that: 1 > 2, message: too {{ 'few' }}}\n".replace(
            "too {{ 'few' }}", "'too few'"
        ),
    )
    assert broken.host_rows["a1"]["reason"].startswith("too few")


def test_a_step_is_delegated_with_this_hosts_variables_one_at_a_time(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2", "a3", "lb")
    project.write({"inventories/dev/roles/web.yml": "[a1, a2, a3]\n"})
    task = dedent("""\
            roles: [web]
            steps:
            - run: |
                mkdir turn; echo in {{ host.name }} >> log
                echo out {{ host.name }} >> log; rmdir turn; pwd
              delegate_to: lb
              register: r
            - run: echo {{ r.stdout }} {{ r.changed }}
            - {run: echo was, when: r.changed}
            """)
    done = run_task(project, task)
    assert done.code == 0, done.out
    home = project.root / ".orch/sandbox/dev/lb"
    assert step_outputs(done)[1:] == [f"{home} true", "was"]
    lines = [line.split() for line in (home / "log").read_text().splitlines()]
    assert [a for a, _ in lines] == ["in", "out"] * 3
    assert all(lines[n][1] == lines[n + 1][1] for n in range(0, 6, 2))


def test_an_unknown_delegate_is_an_error_before_anything_runs(one: OrchProject) -> None:
    one.write({"tasks/t.yml": "steps:\n- {run: echo x, delegate_to: lbb}\n"})
    done = one.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "no host 'lbb'" in done.err


TAGGED = """\
tags: base
steps:
- {run: echo a, tags: [x]}
- {run: echo b, tags: y}
- {run: echo c}
- {run: echo d, tags: always}
- {run: echo e, tags: [never, z]}
"""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "abcd"),
        (("--tags", "x"), "ad"),
        (("--tags", "x,y"), "abd"),
        (("-t", "x", "-t", "z"), "ade"),
        (("--tags", "base"), "abcde"),
        (("--skip-tags", "x"), "bcd"),
        (("--skip-tags", "always"), "abc"),
    ],
)
def test_tags_choose_steps(one: OrchProject, args: tuple[str, ...], message: str) -> None:
    assert "".join(step_outputs(run_task(one, TAGGED, *args))) == message
