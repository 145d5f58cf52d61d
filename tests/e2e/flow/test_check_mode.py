"""``--check``: steps that are run, steps that are skipped, and results that are unknown."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.projects import OrchProject, OrchResult

FILE = """
    params: {path: {type: path, required: true}}
    probe: |
      cd {{ path }}/..
      if [ -e {{ path }} ]; then state there yes; fi
    want: {there: yes}
    fix: mkdir {{ path }}
"""


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write({"tasks/made.yml": FILE})


def run_check(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", "--check", *args, "--json")
    assert done.events, done.err
    return done


def step_messages(done: OrchResult, host: str = "a1") -> list[tuple[str, str]]:
    return [(s["status"], s["stdout"].strip()) for s in done.host_steps(host)]


def step_statuses(done: OrchResult) -> list[str]:
    return [s["status"] for s in done.host_steps("a1")]


def host_home(project: OrchProject) -> Path:
    return next((project.root / ".orch" / "sandbox" / "dev").iterdir())


def all_files(project: OrchProject) -> dict[Path, Any]:
    root = host_home(project)
    paths = [root, *root.rglob("*")]
    stats = {p: p.lstat() for p in paths}
    return {p: (at.st_mode, at.st_mtime_ns, at.st_ctime_ns, at.st_size) for p, at in stats.items()}


def test_a_command_is_withheld_and_its_exact_text_told(one: OrchProject) -> None:
    done = run_check(
        one,
        dedent("""\
        steps:
        - run: touch {{ host.name }}
          chdir: ~/
        """),
    )
    (step,) = done.host_steps("a1")
    assert (done.code, step["status"]) == (0, "would_run")
    assert step["reason"] == "cd -- ~/\ntouch a1"
    assert not (host_home(one) / "a1").exists()


def test_readonly_steps_really_run(one: OrchProject) -> None:
    assert step_messages(run_check(one, "steps: [{run: echo hi, readonly: true}]")) == [
        ("ok", "hi")
    ]


@pytest.mark.parametrize(
    ("guard", "status"),
    [
        ("creates: ~/there", "skipped"),
        ("creates: ~/other", "would_run"),
        ("removes: ~/there", "would_run"),
        ("removes: ~/other", "skipped"),
        ("unless: test -e there", "skipped"),
        ("onlyif: test -e there", "would_run"),
        ("onlyif: nonesuch", "failed"),
    ],
)
def test_guards_really_run(one: OrchProject, guard: str, status: str) -> None:
    one.orch("-s", "dev", "exec", "--", "touch there")
    done = run_check(one, f"steps:\n- run: touch no\n  {guard}\n")
    assert step_statuses(done) == [status]
    assert not (host_home(one) / "no").exists()


def test_conditions_over_withheld_steps_take_them_to_succeed(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: touch x, register: a}
          - {run: touch y, when: a.changed}
          - {run: touch z, when: a.failed}
          - {run: touch w, when: a.exit_status == 0}
          - {run: touch never, changed_when: false, register: b}
          - {run: touch v, when: b.changed}
        """,
    )
    assert step_statuses(done) == [
        *("would_run", "would_run", "skipped", "would_run", "would_run", "skipped"),
    ]


def test_what_hangs_on_withheld_output_is_unknown_and_names_it(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: date, register: a, name: look}
          - {run: "echo {{ a.stdout }}", register: b, readonly: true, name: use}
          - {run: "echo {{ b.stdout }}"}
          - {run: touch x, when: b.changed}
          - {run: touch x, when: "a.stdout == 'x'"}
          - {run: "touch {{ item }}", loop: a.stdout.splitlines()}
          - set: {c: "{{ a.stdout }}"}
          - {run: "echo {{ c }}"}
          - assert: a.stdout
          - {run: echo known, readonly: true}
        """,
    )
    assert step_statuses(done) == ["would_run", *["unknown"] * 8, "ok"]
    reasons = [step.get("reason", "") for step in done.host_steps("a1")]
    assert reasons[1] == "it depends on 'look', which was not run"
    assert "'use'" in reasons[2]
    assert "use" in reasons[3]
    assert (done.code, done.host_rows["a1"]["status"]) == (0, "would_run")


def test_a_notified_handler_would_run(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: touch x, notify: told}
          - {run: 'true', readonly: true, notify: never}
          - made: {path: ~/new}
            notify: other
        handlers:
          told: [{run: echo told}]
          never: [{run: echo never}]
          other: [{run: echo other}]
        """,
    )
    found = {s["name"]: s["status"] for s in done.host_steps("a1") if "handler" in s["name"]}
    assert found == {
        "handler told › echo told": "would_run",
        "handler never › echo never": "skipped",
        "handler other › echo other": "would_run",
    }


def test_a_block_goes_on_and_a_real_failure_takes_rescue(one: OrchProject) -> None:
    block = dedent("""\
        steps:
        - block:
          - run: '{}'
            readonly: true
          - run: touch x
        """)
    block += "  rescue:\n  - run: echo rescue\n  always:\n  - run: echo always\n"
    fine = run_check(one, block.format("true"))
    assert step_statuses(fine) == ["ok", "would_run", "would_run"]
    broken = run_check(one, block.format("false"))
    assert [(s["status"], s["name"]) for s in broken.host_steps("a1")] == [
        ("failed", "false"),
        ("would_run", "echo rescue"),
        ("would_run", "echo always"),
    ]
    assert broken.code == 0


def test_nothing_sleeps_and_until_is_judged_once(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - wait: 1h
          - {run: 'echo x >&2; false', readonly: true, until: result.exit_status == 0, delay: 1h}
        """,
    )
    assert step_statuses(done) == ["ok", "unknown"]
    assert "is false; a run would make up to 4 attempts" in done.host_steps("a1")[1]["reason"]
    once = "steps: [{run: 'false', readonly: true, until: result.exit_status == 0, retries: 0}]\n"
    assert step_statuses(run_check(one, once)) == ["failed"]


def test_what_is_waited_for_is_unknown_where_it_hangs_on_withheld_steps(one: OrchProject) -> None:
    one.write(
        {
            "tasks/up.yml": dedent("""\
        probe: '[ ! -e ~/up ] || state up 1'
        want: {up: 1}
        within: 1h
        """)
        }
    )
    waiting = dedent("""\
        - up
        - run: test -e up
          readonly: true
          until: result.exit_status == 0
        """)
    done = run_check(one, f"steps:\n- run: touch up\n{waiting}- run: echo on\n")
    assert step_statuses(done) == ["would_run", "unknown", "unknown", "would_run"]
    why = "up is not there, expected '1'; it may depend on 'touch up', which was not run"
    assert why in done.host_steps("a1")[1]["reason"]


def test_a_failing_check_rolls_nothing_back_and_keeps_no_handlers(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: 'false', readonly: true}
          - {run: touch x, notify: told}
        handlers: {told: [{run: touch told}]}
        rollback: [{run: touch undone}]
        """,
    )
    assert done.code == 1
    assert step_statuses(done) == ["failed"]
    assert "hint" not in done.host_rows["a1"]


def test_a_check_changes_nothing_anywhere(one: OrchProject) -> None:
    one.orch("-s", "dev", "exec", "--", "mkdir d; echo 1 >d/f; ln -s f d/l")
    before = all_files(one)
    done = run_check(
        one,
        """
        steps:
          - run: rm -rf d
          - made: {path: ~/d/new}
          - {run: touch y, onlyif: test -d d, delegate_to: a1}
          - {run: touch y, retries: 3, delay: 1h}
          - {run: "touch {{ item }}", loop: [a, b]}
          - {run: cat d/f, readonly: true, register: c}
          - {run: "touch {{ c.stdout }}", become: nobody}
        """,
        "--exit-code",
    )
    assert done.code in (1, 6), done.out
    assert all_files(one) == before


def test_exit_code_6_only_when_something_would_change(one: OrchProject) -> None:
    one.orch("-s", "dev", "exec", "--", "mkdir d")
    assert run_check(one, "steps: [{made: {path: ~/d}}]", "--exit-code").code == 0
    assert run_check(one, "steps: [{made: {path: ~/e}}]", "--exit-code").code == 6
    assert run_check(one, "steps: [{made: {path: ~/e}}]").code == 0
    assert run_check(one, "steps: [{run: 'true'}]", "--exit-code").code == 6
    done = one.orch("-s", "dev", "run", "t", "--exit-code")
    assert done.code == 2


def test_a_check_asks_no_question_at_a_protected_stage(one: OrchProject) -> None:
    one.write({"inventories/dev/stage.yml": "connect: {transport: sandbox}\nprotected: true\n"})
    assert run_check(one, "steps: [{run: 'true'}]").code == 0
    assert one.orch("-s", "dev", "run", "t").code == 2


def test_an_ad_hoc_command_can_be_checked(one: OrchProject) -> None:
    done = one.orch("-s", "dev", "exec", "--check", "--json", "--", "touch", "x")
    assert [(s["status"], s["reason"]) for s in done.host_steps("a1")] == [("would_run", "touch x")]


def test_facts_are_gathered_when_they_are_named(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: "echo {{ facts.os }}/{{ facts.cpus > 0 }}", readonly: true}
          - {run: echo yes, when: "facts.os == 'linux'", readonly: true}
        """,
    )
    assert step_messages(done) == [("ok", "linux/true"), ("ok", "yes")]


def test_a_condition_can_ask_whether_this_is_a_check(one: OrchProject) -> None:
    task = dedent("""\
        steps:
        - run: touch ~/ran
          when: not run.check
        - run: echo {{ 'check' if run.check else 'run' }}
          readonly: true
    """)
    assert step_messages(run_check(one, task)) == [("skipped", ""), ("ok", "check")]
    done = one.orch("-s", "dev", "run", "t", "--json")
    assert step_messages(done) == [("changed", ""), ("ok", "run")]
