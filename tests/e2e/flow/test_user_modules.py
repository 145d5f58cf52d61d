"""Modules in a project: probe, want, fix, and check mode, without Python."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult

NOTE = """
    desc: A file with a text in it
    example: |
      - note: {text: hello}
    params:
      text: {required: true, help: What to say}
      mode: {type: mode, default: "0644"}
      path: {type: path, default: ~/note}
    probe: |
      [ ! -e {{ path }} ] || state text "$(cat -- {{ path }})"
      attributes {{ path }}
      [ -z "$f_mode" ] || state mode "$f_mode"
    want: {text: "{{ text }}", mode: "{{ mode }}"}
    fix:
      text: |
        echo writing
        printf '%s\\n' {{ text }} >{{ path }}
      mode: chmod {{ mode }} {{ path }}
"""


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write({"tasks/note.yml": NOTE})


def run_task(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def step_statuses(done: OrchResult) -> list[str]:
    return [step["status"] for step in done.host_steps("a1")]


def host_home(project: OrchProject) -> Path:
    return next((project.root / ".orch" / "sandbox" / "dev").iterdir())


def test_what_differs_is_mended_and_only_that(one: OrchProject) -> None:
    first = run_task(one, "steps:\n- note: {text: hi}\n")
    assert (first.code, step_statuses(first)) == (0, ["changed"])
    assert first.host_steps("a1")[0]["changes"] == [
        {"key": "text", "before": None, "after": "hi"},
        {"key": "mode", "before": None, "after": "0644"},
    ]
    again = run_task(one, "steps:\n- note: {text: hi}\n")
    assert (step_statuses(again), again.host_steps("a1")[0].get("changes")) == (["ok"], None)
    mode = run_task(one, "steps:\n- note: {text: hi, mode: '0600'}\n").host_steps("a1")[0]
    assert mode["changes"] == [{"key": "mode", "before": "0644", "after": "0600"}]
    assert "writing" not in mode["stdout"]


@pytest.mark.parametrize(
    "text", ["a\nb", "100%", "a=b\n%0A", "$(id)", "it's", "über", "-n", "a  b "]
)
def test_states_are_any_text(one: OrchProject, text: str) -> None:
    args = ("-s", "dev", "run", "note", f"text={text}", "--json")
    check, first, again = one.orch(*args, "--check"), one.orch(*args), one.orch(*args)
    assert [step_statuses(check), step_statuses(first), step_statuses(again)] == [
        ["would_change"],
        ["changed"],
        ["ok"],
    ]
    assert check.host_steps("a1")[0]["changes"] == first.host_steps("a1")[0]["changes"]
    assert first.host_steps("a1")[0]["changes"][0]["after"] == text


def test_a_check_asks_and_leaves_everything_as_it_is(one: OrchProject) -> None:
    run_task(one, "steps:\n- note: {text: hi}\n")
    before = {p: p.stat() for p in host_home(one).rglob("*")}
    done = run_task(one, "steps:\n- note: {text: bye}\n", "--check", "--exit-code")
    assert (done.code, step_statuses(done)) == (6, ["would_change"])
    assert {p: p.stat() for p in host_home(one).rglob("*")} == before
    assert done.host_rows["a1"]["status"] == "would_change"


def test_a_fix_that_does_not_bring_it_about_has_failed_and_shows_both(one: OrchProject) -> None:
    one.write(
        {
            "tasks/m.yml": dedent("""\
        probe: state a 1
        want: {a: 2}
        fix: echo trying
        """)
        }
    )
    step = run_task(one, "steps:\n- m\n").host_steps("a1")[0]
    assert step["status"] == "failed"
    assert "did not reach the desired state: a is '1', expected '2'" in step["reason"]


@pytest.mark.parametrize(
    ("module", "why", "status"),
    [
        (
            dedent("""\
            probe: 'echo no >&2; exit 3'
            want: {a: 1}
            fix: ':'
            """),
            "its probe failed",
            3,
        ),
        (
            dedent("""\
            probe: 'false; state a 1'
            want: {a: 1}
            fix: ':'
            """),
            "its probe failed",
            1,
        ),
        (
            dedent("""\
            probe: state a 0
            want: {a: 1}
            fix: 'exit 79'
            """),
            "its fix failed",
            79,
        ),
        (
            dedent("""\
            probe: state a 0
            want: {a: 1}
            fix: 'false; true'
            """),
            "its fix failed",
            1,
        ),
        (
            dedent("""\
            probe: state a 0
            want: {a: 1}
            fix: 'if'
            """),
            "exit status",
            None,
        ),
    ],
)
def test_what_fails_is_named(one: OrchProject, module: str, why: str, status: int | None) -> None:
    one.write({"tasks/m.yml": module})
    done = run_task(
        one,
        dedent("""\
        steps:
        - m
        - run: echo never
        """),
    )
    (step,) = done.host_steps("a1")
    assert (done.code, step["status"]) == (1, "failed")
    assert why in step["reason"]
    assert status is None or step["exit_status"] == status


def test_what_takes_time_is_given_it(one: OrchProject) -> None:
    slow = """
        probe: |
          if [ -e ~/ready ]; then state a done; else state a waiting; fi
        want: {a: done}
        fix: (sleep 1; touch ~/ready) >/dev/null 2>&1 &
        within: 20s
    """
    one.write({"tasks/slow.yml": slow})
    assert step_statuses(run_task(one, "steps:\n- slow\n")) == ["changed"]


def test_without_a_fix_it_is_read_only_and_waited_for(one: OrchProject) -> None:
    one.write(
        {
            "tasks/there.yml": dedent("""\
        probe: '[ ! -e ~/x ] || state x 1'
        want: {x: 1}
        within: 1s
        """)
        }
    )
    done = run_task(one, "steps:\n- there\n")
    assert "x is not there, expected '1'" in done.host_steps("a1")[0]["reason"]
    one.orch("-s", "dev", "exec", "--", "touch ~/x")
    assert step_statuses(run_task(one, "steps:\n- there\n")) == ["ok"]
    assert step_statuses(run_task(one, "steps:\n- there\n", "--check")) == ["ok"]


def test_a_null_in_want_is_as_it_is(one: OrchProject) -> None:
    one.write(
        {
            "tasks/m.yml": dedent("""\
                params: {b: {}}
                probe: state a 1; state b 2
                want: {a: 1, b: '{{ b }}'}
                fix: exit 4
                """)
        }
    )
    assert step_statuses(run_task(one, "steps:\n- m\n")) == ["ok"]
    assert step_statuses(run_task(one, "steps:\n- m: {b: 3}\n")) == ["failed"]


def test_params_are_never_variables_but_have_defaults_by_stage(one: OrchProject) -> None:
    one.write(
        {"inventories/dev/stage.yml": "connect: {transport: sandbox}\nvars: {mode: '0600'}\n"}
    )
    assert step_statuses(run_task(one, "steps:\n- note: {text: hi}\n")) == ["changed"]
    assert oct((host_home(one) / "note").stat().st_mode)[-4:] == "0644"
    one.orch("-s", "dev", "run", "note", "text=hi")
    assert oct((host_home(one) / "note").stat().st_mode)[-4:] == "0644"
    one.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\n"
            "defaults: {note: {mode: '0640', text: set}}\n"
        }
    )
    one.orch("-s", "dev", "run", "note", "text=hi")
    assert oct((host_home(one) / "note").stat().st_mode)[-4:] == "0640"


def test_its_result_has_what_a_commands_has(one: OrchProject) -> None:
    done = run_task(
        one,
        """
        steps:
          - note: {text: hi}
            register: n
            notify: told
          - run: echo {{ n.changed }} {{ n.exit_status }} {{ n.status }}
          - run: echo only if changed
            when: n.changed
          - note: {text: hi}
            register: m
            notify: never
          - run: echo not this
            when: m.changed
        handlers:
          told: [{run: echo told}]
          never: [{run: echo never}]
        """,
    )
    outs = [
        s["stdout"].strip() for s in done.host_steps("a1") if s["status"] not in ("skipped", "ok")
    ]
    assert outs == ["writing", "true 0 changed", "only if changed", "told"]


def test_modifiers_of_a_command_can_stand_beside_it(one: OrchProject) -> None:
    one.write(
        {
            "tasks/count.yml": dedent("""\
                probe: |
                  echo x >>~/c
                  state n $(($(wc -l <~/c)))
                want: {n: 3}
                """)
        }
    )
    done = run_task(
        one,
        dedent("""\
        steps:
        - count:
          until: result.succeeded
          retries: 5
          delay: 0
        """),
    )
    assert step_statuses(done) == ["ok"]
    done = run_task(
        one,
        dedent("""\
            steps:
            - note: {text: hi}
              changed_when: false
            - note: {text: ho}
              failed_when: result.changed
              ignore_errors: true
            - loop: [a, b]
              note: {text: '{{ item }}'}
            """),
    )
    assert step_statuses(done) == ["ok", "failed", "changed", "changed"]


def test_a_readonly_file_cannot_be_mixed_up(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/a.yml": "probe: state a 1\nfix: ':'\n",
            "tasks/b.yml": dedent("""\
                probe: state a 1
                want: {a: 1}
                fix: {c: ':'}
                """),
            "tasks/c.yml": "steps: [{run: id}]\nwant: {a: 1}\n",
            "tasks/d.yml": dedent("""\
                probe: state a 1
                want: {a: 1}
                steps: [{run: id}]
                """),
            "tasks/e.yml": dedent("""\
                probe: state a 1
                want: {a: 1, b: 2}
                fix: {a: ':'}
                """),
            "tasks/link.yml": "probe: state a 1\nwant: {a: 1}\n",
            "tasks/f.yml": dedent("""\
                steps:
                - uses
                  until: true
                """),
            "tasks/uses.yml": "steps: [{run: id}]\n",
        }
    )
    done = project.orch("lint")
    assert done.code == 3
    for output in (
        "task 'a' has no states under `want`",
        "fix: 'c' is not a state under `want`",
        "`want` requires `probe`",
        "exactly one of `steps`, `tasks` and `probe`",
        "no script under `fix` sets 'b'",
        "'link' cannot be a task: a built-in module has that name",
    ):
        assert output in done.out + done.err, done.out + done.err


def test_what_a_module_without_fix_prints_is_its_output(one: OrchProject) -> None:
    one.write(
        {
            "tasks/asks.yml": dedent("""\
                params: {what: {}}
                probe: |
                  echo {{ what }}
                  echo aside >&2
                """),
            "tasks/late.yml": "probe: state a 1\nwithin: 5s\n",
        }
    )
    done = run_task(
        one,
        dedent("""\
            steps:
            - asks: {what: 'a  b'}
              register: said
            - run: echo {{ said.stdout }}-{{ said.changed }}
              readonly: true
            """),
        "--check",
    )
    assert step_statuses(done) == ["ok", "ok"]
    first, second = done.host_steps("a1")
    assert (first["stdout"], first["stderr"]) == ("a  b", "aside")
    assert second["stdout"] == "a  b-false"
    lint = one.orch("lint")
    assert "`within` requires `want`" in lint.out + lint.err


def test_a_module_has_documentation(one: OrchProject) -> None:
    done = one.orch("doc", "note")
    assert done.code == 0
    for output in (
        "A file with a text in it",
        "text (str, required)",
        "What to say",
        "note: {text: hello}",
    ):
        assert output in done.out


def test_a_clock_of_whole_seconds_does_not_shorten_the_wait(project: OrchProject) -> None:
    """``date`` reaches the next second at each call: 1 s has not passed with the first one."""
    project.add_sandbox_stage("a1").write(
        {
            "tasks/slow.yml": dedent("""\
                functions: |
                  count() { echo $(($(cat "$1" 2>/dev/null || echo 0)+1)) >"$1.new"; mv "$1.new" "$1"; cat "$1"; }
                  date() { count seconds; }
                probe: state done "$(count probes)"
                want: {done: "3"}
                within: 1s
                """)
        }
    )
    assert step_statuses(run_task(project, "steps: [slow]")) == ["ok"]
