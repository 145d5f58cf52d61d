"""Keywords of steps, blocks and handlers: each with a check, a run and a failure."""

from __future__ import annotations

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


def test_vars_and_loops_over_blocks(one: OrchProject) -> None:
    task = """
        steps:
        - block:
          - run: "echo {{ n }} {{ path }}; test {{ item }} != {{ bad | default('none') }}"
            vars: {path: "/srv/{{ item }}"}
          - run: echo after {{ item }}
          loop: [a, b]
          loop_control: {index: n, pause: 10ms}
        - run: echo end
    """
    done = run_task(one, task, "--check")
    assert (done.code, [status for status, _ in step_results(done)]) == (0, ["would_run"] * 5)
    texts = ["0 /srv/a", "after a", "1 /srv/b", "after b", "end"]
    done = run_task(one, task)
    assert (done.code, step_results(done)) == (0, [("changed", text) for text in texts])
    done = run_task(one, task, "-e", "bad=a")
    failed = [("failed", "0 /srv/a"), ("changed", "1 /srv/b"), ("changed", "after b")]
    assert (done.code, step_results(done)) == (1, failed)


HANDLERS = """
    steps:
    - {run: echo one, notify: news}
    - flush_handlers
    - {run: "echo two; test {{ bad | default('no') }} = no", notify: late}
    - {run: echo three, readonly: true, notify: news}
    handlers:
      first: {listen: news, steps: [{run: echo FIRST}]}
      second: {listen: [news, late], steps: [{run: echo SECOND, local: true}]}
"""


def test_listen_and_flush_handlers(one: OrchProject) -> None:
    done = run_task(one, HANDLERS, "--check")
    assert [status for status, _ in step_results(done)] == [
        *["would_run"] * 4,
        *["ok", "skipped", "would_run"],
    ]
    done = run_task(one, HANDLERS)
    assert (done.code, step_results(done)) == (
        0,
        [
            *[("changed", text) for text in ("one", "FIRST", "SECOND", "two")],
            *[("ok", "three"), ("skipped", ""), ("changed", "SECOND")],
        ],
    )
    done = run_task(one, HANDLERS, "-e", "bad=yes")
    assert (done.code, step_results(done)[3:]) == (1, [("failed", "two")])
    assert "pending" not in done.host_rows["a1"]["reason"]


def test_call_one_of_and_vars_of_files(one: OrchProject) -> None:
    one.write(
        {
            "tasks/vars.yml": "words: {apk: from a folder}\n",
            "tasks/is_apk.yml": "steps: [{run: 'echo {{ words.apk }}'}]\n",
            "tasks/is_apt.yml": "steps: [{run: echo apt}]\n",
        }
    )
    task = """
        steps:
        - {run: "echo {{ kind | default('apk') }}", readonly: true, register: kind_of}
        - call: {task: "is_{{ kind_of.stdout }}", one_of: [is_apk, is_apt]}
          register: called
        - run: echo {{ called.changed }}
    """
    done = run_task(one, task, "--check")
    statuses = ["ok", "ok", "would_run", "skipped", "would_run"]
    assert (done.code, [status for status, _ in step_results(done)]) == (0, statuses)
    done = run_task(one, task)
    outputs = [out for status, out in step_results(done) if status == "changed"]
    assert (done.code, outputs) == (0, ["from a folder", "true"])
    done = run_task(one, task, "-e", "kind=rpm")
    assert done.code == 1
    assert "'is_rpm' is not one of is_apk, is_apt" in done.host_rows["a1"]["reason"]


def test_contents_of_a_step_without_diff_are_not_shown(one: OrchProject) -> None:
    task = """
        steps:
        - copy: {path: ~/a, content: "shown\\n"}
        - copy: {path: ~/b, content: "not shown\\n"}
          diff: false
    """
    for args in (["--check", "--diff"], ["--diff"]):
        shown, hidden = run_task(one, task, *args).host_steps("a1")
        assert "+shown" in shown["diff"]
        assert "diff" not in hidden
