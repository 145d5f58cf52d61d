"""Playbook items: groups, arguments, hooks, commit, rollback, and options that select items."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult

ECHO = "steps: [{{run: echo {0}}}]\n"


@pytest.fixture
def three(project: OrchProject) -> OrchProject:
    project.add_sandbox_stage("a1", "a2", "a3")
    project.write({f"tasks/{name}.yml": ECHO.format(name) for name in ("one", "two", "three")})
    return project


def run_playbook(
    project: OrchProject, playbook: str, *args: str, files: dict[str, str] | None = None
) -> OrchResult:
    project.write({"tasks/p.yml": playbook, **(files or {})})
    done = project.orch("-s", "dev", "run", "p", *args, "--json")
    assert done.events, done.err
    return done


def planned_tasks(done: OrchResult) -> list[tuple[str, str]]:
    return [(e["task"], ",".join(e["hosts"])) for e in done.events if e["event"] == "task_started"]


def step_outputs(done: OrchResult, host: str) -> list[str]:
    return [s["stdout"].strip() for s in done.host_steps(host) if s["status"] != "skipped"]


def test_items_are_names_names_with_arguments_and_tasks_in_place(three: OrchProject) -> None:
    done = run_playbook(
        three,
        dedent("""\
            params: {who: {default: me}}
            tasks:
            - one
            - greet: {who: you}
            - greet
            - {name: mine, steps: [{run: 'echo {{ who }}'}]}
            - {name: again, tasks: [two]}
            """),
        files={"tasks/greet.yml": "params: {who: {}}\nsteps: [{run: 'echo hi {{ who }}'}]\n"},
    )
    assert step_outputs(done, "a1") == ["one", "hi you", "hi", "me", "two"]


def test_an_argument_is_handed_on_only_where_it_is_declared(three: OrchProject) -> None:
    files = {
        "tasks/has.yml": "params: {x: {default: own}}\nsteps: [{run: 'echo {{ x }}'}]\n",
        "tasks/not.yml": "steps: [{run: 'echo {{ x | default(\"none\") }}'}]\n",
        "tasks/writes.yml": "tasks: [has: {x: written}]\n",
    }
    done = run_playbook(three, "tasks: [has, not, writes]\n", "x=given", files=files)
    assert step_outputs(done, "a1") == ["given", "none", "written"]


def test_when_on_an_item_skips_all_that_is_in_it(three: OrchProject) -> None:
    done = run_playbook(
        three,
        dedent("""\
            tasks:
            - one: {}
              when: host.name == 'a2'
            - tasks: [two]
              when: false
            - three
            """),
    )
    assert (step_outputs(done, "a1"), step_outputs(done, "a2")) == (["three"], ["one", "three"])


def test_a_result_of_an_earlier_task_decides_about_a_later_item(three: OrchProject) -> None:
    done = run_playbook(
        three,
        dedent("""\
            tasks:
            - {name: ask, steps: [{run: 'test {{ host.name }} = a2', register: r,
                failed_when: false}]}
            - one: {}
              when: r.exit_status == 0
            """),
    )
    assert (step_outputs(done, "a1"), step_outputs(done, "a2")) == ([""], ["", "one"])


def test_a_batch_goes_through_everything_before_the_next_begins(three: OrchProject) -> None:
    done = run_playbook(
        three,
        dedent("""\
            tasks:
            - {name: g, batch: [1, 100%], tasks: [one, two]}
            - three
            """),
    )
    assert planned_tasks(done) == [
        ("one", "a1"),
        ("two", "a1"),
        ("one", "a2,a3"),
        ("two", "a2,a3"),
        ("three", "a1,a2,a3"),
    ]


def test_batches_do_not_nest(three: OrchProject) -> None:
    three.write({"tasks/p.yml": "tasks:\n- {batch: 1, tasks: [{batch: 2, tasks: [one]}, two]}\n"})
    done = three.orch("-s", "dev", "run", "p")
    assert done.code == 3
    assert "tasks/p.yml:2:22" in done.err


@pytest.mark.parametrize("size", ["0", "101%", "-1", "half", "[]"])
def test_a_batch_that_makes_no_sense_is_an_error(three: OrchProject, size: str) -> None:
    three.write({"tasks/p.yml": f"tasks:\n- one: {{}}\n  batch: {size}\n"})
    done = three.orch("-s", "dev", "run", "p")
    assert done.code == 3
    assert "tasks/p.yml:3:10" in done.err


def test_a_percentage_is_of_the_hosts_that_the_item_selects(three: OrchProject) -> None:
    three.write(
        {
            "inventories/dev/roles/web.yml": "[a1, a2]\n",
            "tasks/one.yml": "roles: [web]\n" + ECHO.format("one"),
        }
    )
    done = run_playbook(three, "tasks: [{one: {}, batch: 50%}]\n")
    assert planned_tasks(done) == [("one", "a1"), ("one", "a2")]


HOOKS = {
    "tasks/hook/b.yml": "before: [two]\n" + ECHO.format("before-b"),
    "tasks/hook/a.yml": "before: two\nroles: [web]\n" + ECHO.format("before-a"),
    "tasks/hook/z.yml": "after: [two, p]\n" + ECHO.format("after"),
    "tasks/hook/f.yml": "failed: [two]\n" + ECHO.format("failed"),
    "inventories/dev/roles/web.yml": "[a2]\n",
}


def test_hooks_run_at_their_place_on_their_roles_in_name_order(three: OrchProject) -> None:
    done = run_playbook(three, "tasks: [one, two, three]\n", files=HOOKS)
    assert step_outputs(done, "a1") == ["one", "before-b", "two", "after", "three", "after"]
    assert step_outputs(done, "a2") == [
        "one",
        "before-a",
        "before-b",
        "two",
        "after",
        "three",
        "after",
    ]


def test_a_failed_before_stops_the_task_and_a_failed_hook_runs_when_it_fails(
    three: OrchProject,
) -> None:
    three.write(HOOKS)
    broken = {"tasks/hook/b.yml": "before: [two]\nsteps: [{run: exit 3}]\n"}
    done = run_playbook(three, "tasks: [one, two, three]\n", files=broken)
    assert done.code == 1
    assert step_outputs(done, "a1") == ["one", "", "failed"]
    failing = {
        "tasks/hook/b.yml": HOOKS["tasks/hook/b.yml"],
        "tasks/two.yml": "steps: [{run: 'test {{ host.name }} = a1'}]\n",
    }
    done = run_playbook(three, "tasks: [one, two, three]\n", files=failing)
    assert step_outputs(done, "a1") == ["one", "before-b", "", "failed"]
    assert step_outputs(done, "a2")[-2:] == ["", "failed"]


def test_what_fails_in_a_failed_hook_is_told_in_the_rows(three: OrchProject) -> None:
    files = {
        "inventories/dev/roles/web.yml": "[a1, a3]\n",
        "tasks/two.yml": "roles: [web]\nsteps: [{run: 'test {{ host.name }} != a3'}]\n",
        "tasks/tell.yml": dedent("""\
            failed: [two]
            steps:
            - run: case {{ host.name }} in a1) echo fine;; *) echo no mail >&2; exit 4;; esac
            """),
    }
    done = run_playbook(three, "tasks: [two]\n", files=files)
    assert done.code == 1
    assert [(h, r["status"]) for h, r in done.host_rows.items()] == [
        ("a1", "changed"),
        ("a2", "failed"),  # it does not take part in `two`
        ("a3", "failed"),
    ]
    assert done.host_rows["a1"]["reason"] == ""
    output = "'tell', which runs on a failure, failed: exit status 4, in step 1"
    assert done.host_rows["a2"]["reason"].startswith(output)
    reason = done.host_rows["a3"]["reason"]
    assert reason.startswith("exit status 1, in step 1")
    assert f"; {output}" in reason


def test_a_failed_hook_fails_hosts_that_were_rolled_back_well(three: OrchProject) -> None:
    files = {
        "tasks/two.yml": "steps: [{run: 'test {{ host.name }} != a3'}]\nrollback: [run: 'true']\n",
        "tasks/tell.yml": "failed: [two]\nsteps: [{run: 'test {{ host.name }} != a1'}]\n",
    }
    done = run_playbook(three, "tasks: [two]\n", files=files)
    assert {h: r["status"] for h, r in done.host_rows.items()} == {
        "a1": "failed",
        "a2": "cancelled",
        "a3": "failed",
    }
    assert (
        "'two' is rolled back; 'tell', which runs on a failure, failed"
        in done.host_rows["a1"]["reason"]
    )


def test_a_playbook_as_failed_hook_ends_where_it_fails_and_other_hooks_do_not(
    three: OrchProject,
) -> None:
    say = "steps: [{run: 'echo {0} >> log; test {0}{{ host.name }} != f1a1'}]\n"
    files = {f"tasks/{name}.yml": say.replace("{0}", name) for name in ("f1", "f2", "f3")}
    files |= {
        "tasks/two.yml": "steps: [{run: exit 1}]\n",
        "tasks/g.yml": "failed: [two]\ntasks: [f1, commit, f2, {f3: {}, once: true, on: any}]\n",
        "tasks/h.yml": "failed: [two]\nsteps: [{run: echo h >> log}]\n",
    }
    run_playbook(three, "tasks: [two]\n", files=files)
    assert [host_log(three, h) for h in ("a1", "a2", "a3")] == [
        ["f1", "h"],
        ["f1", "f2", "f3", "h"],
        ["f1", "f2", "h"],
    ]


def test_called_tasks_fire_no_hooks(three: OrchProject) -> None:
    done = run_playbook(three, "tasks: [{name: g, steps: [two]}]\n", files=HOOKS)
    assert step_outputs(done, "a1") == ["two", "after"]  # the options of the playbook itself


def test_hooks_in_a_circle_are_printed_as_one(three: OrchProject) -> None:
    three.write(
        {
            "tasks/x.yml": "before: [y]\n" + ECHO.format("x"),
            "tasks/y.yml": "before: [x]\n" + ECHO.format("y"),
        }
    )
    done = three.orch("-s", "dev", "run", "y")
    assert done.code == 3
    assert "y → x → y" in done.err


def test_a_hook_on_a_task_that_is_none_is_an_error(three: OrchProject) -> None:
    three.write({"tasks/x.yml": "after: [tow]\n" + ECHO.format("x")})
    done = three.orch("-s", "dev", "run", "one")
    assert done.code == 3
    assert "did you mean 'two'?" in done.err


ROLLBACK = """\
steps:
- {{run: echo {0} >> log, register: r{0}}}
- {{run: test {0} != {1}}}
rollback:
- run: echo undo {0} {{{{ r{0}.exit_status }}}} >> log
- {{run: echo again {0} >> log, when: {2}.changed}}
"""


def host_log(project: OrchProject, host: str) -> list[str]:
    path = project.root / ".orch/sandbox/dev" / host / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_rollback_runs_last_task_first_and_sees_what_was_registered(three: OrchProject) -> None:
    files = {
        f"tasks/{n}.yml": ROLLBACK.format(n, "two", later)
        for n, later in (("one", "rtwo"), ("two", "rthree"), ("three", "rone"))
    }
    done = run_playbook(three, "tasks: [one, two, three]\n", "-l", "a1", files=files)
    assert done.code == 1
    assert host_log(three, "a1") == ["one", "two", "undo two 0", "undo one 0", "again one"]
    assert "'two' is rolled back; 'one' is rolled back" in done.host_rows["a1"]["reason"]


def test_every_host_that_began_is_rolled_back_until_commit(three: OrchProject) -> None:
    started = "steps: [{run: echo {0} >> log}]\nrollback: [{run: echo undo {0} >> log}]\n"
    files = {f"tasks/{n}.yml": started.replace("{0}", n) for n in ("one", "two")}
    files["tasks/three.yml"] = "steps: [{run: 'test {{ host.name }} != a2'}]\n"
    done = run_playbook(three, "tasks: [one, commit, two, three]\n", files=files)
    assert [host_log(three, h) for h in ("a1", "a2", "a3")] == [["one", "two", "undo two"]] * 3
    assert {h: r["status"] for h, r in done.host_rows.items()} == {
        "a1": "cancelled",
        "a2": "failed",
        "a3": "cancelled",
    }
    assert "a2 failed" in done.host_rows["a1"]["reason"]


def test_a_rollback_that_fails_is_named_and_stops_no_other(three: OrchProject) -> None:
    files = {
        "tasks/one.yml": "steps: [{run: echo one >> log}]\nrollback: [{run: echo undo >> log}]\n",
        "tasks/two.yml": "steps: [{run: exit 1}]\nrollback: [{run: 'test {{ host.name }} != a2'}]\n",
    }
    done = run_playbook(three, "tasks: [one, two]\n", files=files)
    assert [host_log(three, h) for h in ("a1", "a2", "a3")] == [["one", "undo"]] * 3
    assert "'two' is NOT rolled back: exit status 1" in done.host_rows["a2"]["reason"]
    assert "'two' is rolled back" in done.host_rows["a1"]["reason"]


def test_a_rollback_with_nothing_to_return_to_says_so(three: OrchProject) -> None:
    files = {
        "tasks/one.yml": dedent("""\
            steps:
            - {run: exit 1, ignore_errors: true}
            - run: exit 1
            - {run: echo x, register: before}
            rollback: [{run: echo back, when: before.stdout}]
            """)
    }
    done = run_playbook(three, "tasks: [one]\n", files=files)
    assert "'one': nothing to roll back to" in done.host_rows["a1"]["reason"]


def test_a_rollbacks_handlers_run_too(three: OrchProject) -> None:
    files = {
        "tasks/one.yml": dedent("""\
            steps: [{run: exit 1}]
            rollback: [{run: echo x >> log, notify: h}]
            handlers: {h: [{run: echo handled >> log}]}
            """)
    }
    run_playbook(three, "tasks: [one]\n", "-l", "a1", files=files)
    assert host_log(three, "a1") == ["x", "handled"]


def test_start_at_leaves_out_what_is_before(three: OrchProject) -> None:
    done = run_playbook(three, "tasks: [one, two, three]\n", "--start-at", "two", "-l", "a1")
    assert step_outputs(done, "a1") == ["two", "three"]
    wrong = three.orch("-s", "dev", "run", "p", "--start-at", "tow")
    assert wrong.code == 3
    assert "no scheduled task is named 'tow'" in wrong.err


def test_list_hosts_shows_each_task_with_its_hosts_and_contacts_nobody(three: OrchProject) -> None:
    three.write({"tasks/p.yml": "tasks: [{one: {}, batch: 2}, two]\n"})
    done = three.orch("-s", "dev", "run", "p", "--list-hosts")
    assert done.out.splitlines() == [
        "one (batch 1/2): a[1-2]",
        "one (batch 2/2): a3",
        "two: a[1-3]",
    ]
    assert not (three.root / ".orch").exists()


def test_step_asks_before_each_task(three: OrchProject) -> None:
    three.write({"tasks/p.yml": "tasks: [one, two, three]\n"})
    words = ("-s", "dev", "run", "p", "--step", "--json")
    done = three.orch_on_terminal(*words, typed="s\nr\nq\n")
    assert step_outputs(done, "a1") == ["two"]
    assert done.host_rows["a1"]["reason"] == "stopped before 'three': stopped by you"
    assert {row["status"] for row in done.host_rows.values()} == {"stopped"}
    assert done.code == 2
    assert "1 of 3: one on a[1-3]\n  - echo one\nrun, skip, continue or quit?" in done.err
    assert "3 of 3: three on a[1-3]" in done.err


MANY = """\
steps:
- {name: "use {{ key }}", run: echo used}
- {run: echo loop, loop: [1, 2, 3], name: Loop}
- {run: echo some, when: host.name == 'a1'}
- {run: echo no, when: host.name == 'no'}
"""


def test_step_shows_the_steps_and_the_plan_of_a_task_and_continues_without_more_questions(
    three: OrchProject,
) -> None:
    files = {
        "inventories/dev/stage.yml": """\
            connect: {transport: sandbox}
            vars: {key: !secret {env: KEY}}
            """,
        "tasks/many.yml": MANY + "".join(f"- run: echo {n}\n" for n in range(6)),
        "tasks/p.yml": "tasks: [{many: {}, batch: 2}, commit, two, three]\n",
    }
    three.write(files)
    words = ("-s", "dev", "run", "p", "--step", "--json")
    done = three.orch(*words, stdin="what\n?\ns\ns\nc\n", KEY="kk-secret")
    assert done.code == 0, done.err
    assert step_outputs(done, "a1") == ["two", "three"]
    first, details, *_ = done.err.split("run, skip, continue or quit? [r/s/c/q/?] ")[0::2]
    assert first.endswith(
        "1 of 5: many on a[1-2], batch 1/2\n"
        "  - use ‹key›\n"
        "  - Loop (1), and 2 like it\n"
        "  - echo some (on a1)\n"
        "  - echo 0\n"
        "  - echo 1\n"
        "  - echo 2\n"
        "  - echo 3\n"
        "  … 2 more steps\n"
    )
    plan = three.orch("-s", "dev", "plan", "p", KEY="kk-secret").out
    assert details.startswith("1. many on a[1-2]\n   in p, batch 1/2\n   1  use ‹key›\n")
    assert details in plan
    assert "r: run this task; s: skip it; c: run it and all others" in done.err
    assert done.err.count("run, skip, continue or quit?") == 5
    assert "2 of 5: many on a3, batch 2/2" in done.err
    assert "4 of 5: two on a[1-3]" in done.err
    assert "5 of 5" not in done.err
    assert "kk-secret" not in done.err


def test_several_tasks_in_one_call_run_in_order_with_their_own_arguments(
    three: OrchProject,
) -> None:
    three.write({"tasks/say.yml": "params: {w: {}}\nsteps: [{run: 'echo {{ w }}'}]\n"})
    words = ("run", "say", "w=1", "one", "say", "w=2", "--json", "-l", "a1")
    assert step_outputs(three.orch("-s", "dev", *words), "a1") == ["1", "one", "2"]


def test_a_name_registered_again_means_the_newer_result(three: OrchProject) -> None:
    files = {
        "tasks/say.yml": dedent("""\
            params: {w: {}}
            steps:
            - {run: 'echo {{ w }}', register: out}
            - run: echo got {{ out.stdout }}
            - {run: echo two, when: out.stdout == 'two'}
            """),
        "tasks/calls.yml": dedent("""\
            steps:
            - say: {w: one}
            - say: {w: two}
            """),
    }
    for playbook in ("tasks: [say: {w: one}, say: {w: two}]\n", "tasks: [calls]\n"):
        done = run_playbook(three, playbook, "-l", "a1", files=files)
        assert step_outputs(done, "a1") == ["one", "got one", "two", "got two", "two"]
