"""Options of steps, on real shells over real SSH (the sandbox)."""

from __future__ import annotations

import secrets
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.projects import OrchProject, OrchResult

LONG = 10**8 + secrets.randbelow(10**8)
"""Seconds for which nothing else on this machine sleeps."""


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1")


def run_task(project: OrchProject, task: str, *args: str, **env: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", *args, "--json", **env)
    assert done.events, done.err
    return done


def step_messages(done: OrchResult) -> list[tuple[str, str]]:
    return [(s["status"], s["stdout"].strip()) for s in done.host_steps("a1")]


def host_home(project: OrchProject, host: str = "a1") -> Path:
    return project.root / ".orch" / "sandbox" / "dev" / host


def test_a_command_counts_as_a_change_unless_it_is_readonly(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
        steps:
        - run: echo a
        - {run: echo b, readonly: true}
        """),
    )
    assert step_messages(done) == [("changed", "a"), ("ok", "b")]
    assert done.host_rows["a1"]["status"] == "changed"


def test_a_failing_step_stops_its_host_and_says_why(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
        steps:
        - run: echo out; echo err >&2; exit 3
        - run: echo never
        """),
    )
    assert done.code == 1
    (step,) = done.host_steps("a1")
    assert (step["status"], step["exit_status"], step["stderr"].strip()) == ("failed", 3, "err")
    assert (
        done.host_rows["a1"]["reason"]
        == "exit status 3, in step 1 'echo out; echo err >&2; exit 3'"
    )


def test_several_lines_stop_at_the_first_that_fails(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
        steps:
        - run: |
            echo one
            false
            echo two
        """),
    )
    assert step_messages(done) == [("failed", "one")]


def test_bash_sees_a_failure_left_of_a_pipe_and_sh_does_not(one: OrchProject) -> None:
    assert run_task(one, "steps:\n- run: false | cat\n").code == 0
    assert run_task(one, "steps:\n- {run: false | cat, shell: bash}\n").code == 1


def test_an_ignored_failure_lets_the_next_step_run(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
        steps:
        - {run: exit 3, ignore_errors: true}
        - run: echo next
        """),
    )
    assert (done.code, step_messages(done)) == (0, [("failed", ""), ("changed", "next")])
    assert done.host_rows["a1"]["status"] == "changed"
    # it is reported as failed, but not counted as a failure
    assert done.host_rows["a1"]["failed"] == 0


def test_environment_adds_up_inward_and_is_text_whatever_it_holds(one: OrchProject) -> None:
    one.write(
        {"inventories/dev/stage.yml": "connect: {transport: sandbox}\nenvironment: {A: s, B: s}\n"}
    )
    done = run_task(
        one,
        dedent("""\
            environment: {B: t, C: "it's $(id)"}
            steps:
            - run: 'echo "$A $B $C $D"'
              environment: {D: 1}
            """),
    )
    assert step_messages(done) == [("changed", "s t it's $(id) 1")]


def test_chdir_is_for_its_step_only_and_knows_the_home(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - run: mkdir -p 'a b'
            - {run: pwd, chdir: ~/a b}
            - run: pwd
            - {run: pwd, chdir: nowhere}
            """),
    )
    assert [s for _, s in step_messages(done)][1:3] == [
        str(host_home(one) / "a b"),
        str(host_home(one)),
    ]
    assert step_messages(done)[3][0] == "failed"


def test_stdin_reaches_the_command_and_nothing_else_does(one: OrchProject) -> None:
    done = run_task(
        one, "steps:\n- {run: cat, stdin: \"a 'b' $(id)\\nc\"}\n- {run: 'cat; echo end'}\n"
    )
    assert step_messages(done) == [("changed", "a 'b' $(id)\nc"), ("changed", "end")]


def test_a_guard_skips_what_is_done_already(one: OrchProject) -> None:
    task = dedent("""\
            steps:
            - {run: touch made, creates: made}
            - {run: rm made, removes: made}
            - {run: echo u, unless: test -e /}
            - {run: echo o, onlyif: test -e /nowhere}
            - {run: echo both, onlyif: 'true', unless: 'false'}
            """)
    done = run_task(one, task)
    assert [s for s, _ in step_messages(done)] == [
        "changed",
        "changed",
        "skipped",
        "skipped",
        "changed",
    ]


def test_a_guard_that_cannot_be_judged_is_a_failure_and_no_skip(one: OrchProject) -> None:
    done = run_task(one, "steps:\n- {run: echo no, unless: 'if then'}\n")
    assert done.code == 1
    assert "guard" in done.host_rows["a1"]["reason"]


def test_when_over_what_is_known_skips_before_anything_is_sent(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
        vars: {on: false}
        steps:
        - {run: echo a, when: on}
        - run: echo b
        """),
    )
    assert [s for s, _ in step_messages(done)] == ["skipped", "changed"]


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ("r.exit_status == 3", True),
        ("r.exit_status != 3", False),
        ("r.failed and not r.changed", True),
        ("r is changed", False),
        ("r.stdout == 'x'", True),
        ("'y' in r.stdout or r.exit_status > 3", False),
        ("['r.failed', 'r.exit_status in (3, 4)']", True),
        ("r.stdout", True),
        ("r.stderr", False),
    ],
)
def test_when_over_a_result_means_the_same_here_and_on_the_host(
    one: OrchProject, when: str, runs: bool
) -> None:
    done = run_task(
        one,
        "steps:\n- {run: 'echo x; exit 3', register: r, ignore_errors: true}\n"
        f"- run: echo ran\n  when: {when if when.startswith('[') else repr(when)}\n",
    )
    assert step_messages(done)[1][0] == ("changed" if runs else "skipped"), done.err


@pytest.mark.parametrize(
    ("judgement", "status"),
    [
        ("failed_when: result.exit_status > 3", "changed"),
        ("failed_when: result.exit_status == 3", "failed"),
        ("failed_when: '\"bad\" in result.stdout'", "failed"),
        ("failed_when: false", "changed"),
        ("failed_when: false\n  changed_when: result.exit_status == 0", "ok"),
        ("failed_when: false\n  changed_when: '\"bad\" in result.stdout'", "changed"),
        ("failed_when: [result.exit_status == 3, result.stdout == 'good']", "ok but not"),
    ],
)
def test_failed_when_and_changed_when_judge_instead_of_the_exit_status(
    one: OrchProject, judgement: str, status: str
) -> None:
    done = run_task(one, f"steps:\n- run: echo bad; exit 3\n  {judgement}\n- run: echo next\n")
    expected = "changed" if status == "ok but not" else status
    assert step_messages(done)[0][0] == expected
    assert len(step_messages(done)) == (1 if status == "failed" else 2)


def test_a_registered_result_is_text_and_never_a_template(one: OrchProject) -> None:
    done = run_task(
        one,
        "steps:\n- run: \"echo '{{ '{{' }} run.id }} $(id) \\\\'; exit 4\"\n"
        "  register: r\n  ignore_errors: true\n"
        "- run: printf '%s|' {{ r.stdout }} {{ r.exit_status }} {{ r.failed }} {{ r.status }}\n",
    )
    assert step_messages(done)[1][1] == "{{ run.id }} $(id) \\|4|true|failed|"


def test_a_skipped_step_registers_that_and_empty_text(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - {run: echo x, when: false, register: r}
            - run: echo '{{ r.skipped }}' '[{{ r.stdout }}]'
            - {run: echo y, when: r.skipped}
            """),
    )
    assert step_messages(done)[1:] == [("changed", "true []"), ("changed", "y")]


def test_a_result_is_seen_by_later_tasks_of_the_run(one: OrchProject) -> None:
    one.write(
        {
            "tasks/first.yml": "steps:\n- {run: echo 42, register: answer}\n",
            "tasks/second.yml": "steps:\n- run: echo {{ answer.stdout }}\n",
        }
    )
    done = run_task(one, "tasks: [first, second]\n")
    assert step_messages(done)[1][1] == "42"


def test_a_timeout_ends_the_step_with_all_its_processes(one: OrchProject) -> None:
    step = f"{{run: sleep {LONG} & sleep {LONG}, timeout: 500ms}}"
    done = run_task(one, f"steps:\n- {step}\n- run: echo no\n")
    assert done.code == 1
    assert [s for s, _ in step_messages(done)] == ["timed_out"]
    assert "0.5 s" in done.host_rows["a1"]["reason"]
    assert not _alive(f"sleep\x00{LONG}\x00")


def test_a_step_killed_by_a_signal_is_killed_and_not_failed(one: OrchProject) -> None:
    done = run_task(one, "steps:\n- run: kill -9 $$\n")
    assert (done.code, done.host_rows["a1"]["status"]) == (1, "killed")
    assert "SIGKILL" in done.host_rows["a1"]["reason"]


def test_a_background_child_that_keeps_stdout_open_holds_nothing_up(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - run: 'sleep 97531 & echo $! > pid; echo on'
            - run: kill $(cat pid)
            """),
    )
    assert [s for s, _ in step_messages(done)] == ["changed", "changed"]


@pytest.mark.parametrize("size", [5_000_000, pytest.param(50_000_000, marks=pytest.mark.long)])
def test_much_output_on_both_streams_is_bounded_here_and_whole_in_the_log(
    one: OrchProject, size: int
) -> None:
    many = f"yes 0123456789012345678901234567890123456789012345678 | head -c {size}"
    done = run_task(one, f"steps:\n- run: '{many} & {many} >&2; wait; echo end'\n")
    (step,) = done.host_steps("a1")
    assert step["status"] == "changed"
    assert len(step["stdout"]) < 200_000
    assert "bytes not kept" in step["stdout"]
    assert step["stdout"].strip().endswith("end")
    (log,) = (one.root / ".orch" / "runs").glob("*/a1.log")
    assert log.stat().st_size > 2 * size


def test_output_that_was_not_kept_whole_is_not_used_as_if_it_were(one: OrchProject) -> None:
    done = run_task(
        one,
        dedent("""\
            steps:
            - {run: 'yes | head -c 1000000', register: r}
            - run: echo {{ r.stdout }}
            """),
    )
    assert done.code == 1
    assert "were not kept" in done.host_rows["a1"]["reason"]


def test_invalid_bytes_and_markup_in_output_are_data(one: OrchProject) -> None:
    done = run_task(one, "steps:\n- run: printf '\\377[red]x[/] \\033[31m\\n1%%\\r2%%'\n")
    assert done.code == 0
    shown = one.orch("-s", "dev", "run", "t")
    assert "[red]x[/]" in shown.out
    assert "\x1b" not in shown.out
    (first, _) = sorted((one.root / ".orch" / "runs").glob("*/a1.log"))
    assert rb"\xff[red]x[/] \x1b[31m" + b"\n" + rb"1%\x0d2%" in first.read_bytes()


def test_a_called_task_takes_arguments_and_never_a_variable(one: OrchProject) -> None:
    one.write(
        {
            "inventories/dev/stage.yml": dedent("""\
                connect: {transport: sandbox}
                vars: {mode: inventory, size: 5}
                defaults: {part: {colour: blue}}
                """),
            "tasks/part.yml": dedent("""\
                params: {mode: {default: own}, colour: {}, shape: {}}
                steps:
                - run: echo {{ mode }} {{ colour }} {{ shape }} {{ size }}
                """),
        }
    )
    done = run_task(
        one,
        dedent("""\
            vars: {shape: caller}
            steps:
            - part
            - part: {mode: given, shape: '{{ size + 1 }}'}
            """),
    )
    assert [s for _, s in step_messages(done)] == ["own blue 5", "given blue 6 5"]


def test_a_scheduled_task_takes_the_variable_of_its_params_name(one: OrchProject) -> None:
    one.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\nvars: {mode: inventory}\n",
            "tasks/part.yml": dedent("""\
                params: {mode: {default: own}, size: {type: int, default: 1}}
                steps:
                - run: echo {{ mode }} {{ size + 1 }}
                """),
        }
    )
    done = run_task(one, "tasks: [part, part: {mode: written}]\n", "size=4")
    assert [s for _, s in step_messages(done)] == ["inventory 5", "written 5"]
    direct = one.orch("-s", "dev", "run", "part", "mode=line", "part", "--json")
    assert [s for _, s in step_messages(direct)] == ["line 2", "inventory 2"]


def test_a_call_with_ignored_errors_stops_inside_and_goes_on_after(one: OrchProject) -> None:
    one.write(
        {
            "tasks/part.yml": dedent("""\
        steps:
        - run: echo a
        - run: 'false'
        - run: echo never
        """)
        }
    )
    done = run_task(
        one,
        dedent("""\
            steps:
            - {part: {}, ignore_errors: true, register: p}
            - run: echo {{ p.failed }}
            - {run: echo was, when: p.failed}
            """),
    )
    assert [s for s, _ in step_messages(done)] == ["changed", "failed", "changed", "changed"]
    assert step_messages(done)[2][1] == "true"
    assert done.code == 0


def test_a_called_task_that_is_for_other_roles_is_skipped(one: OrchProject) -> None:
    one.write(
        {
            "inventories/dev/roles/web.yml": "[w1]\n",
            "tasks/part.yml": "roles: [web]\nsteps: [{run: echo web}]\n",
        }
    )
    done = run_task(
        one,
        dedent("""\
        steps:
        - part
        - run: echo all
        """),
        "-l",
        "a1",
    )
    assert [s for s, _ in step_messages(done)] == ["skipped", "changed"]


@pytest.mark.parametrize("value", ["~/x y", "~/"])
def test_a_path_in_the_home_is_found_there_and_holds_nothing_else(
    one: OrchProject, value: str
) -> None:
    one.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\n"
            f"vars: {{top: '{value}'}}\n"
        }
    )
    task: dict[str, Any] = {
        "params": "{where: {type: path, default: '~/p $(id)'}}",
        "steps": '[{run: "printf \'%s\\n\' {{ top }}/a \\"{{ top }}/b\\"'
        " '{{ top }}/c' {{ where }}\"}]",
    }
    done = run_task(one, "".join(f"{k}: {v}\n" for k, v in task.items()))
    at = f"{host_home(one)}/{value[2:]}"
    assert step_messages(done)[0][1].split("\n") == [
        f"{at}/a",
        f"{at}/b",
        f"{at}/c",
        f"{host_home(one)}/p $(id)",
    ]


def _alive(argv: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                text = (process / "cmdline").read_text("utf-8", "replace")
            except OSError:
                continue
            if argv in text:
                found.append(process.name)
    return found
