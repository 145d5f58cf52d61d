"""How calls, loops, blocks, handlers and tags become one list of numbered steps."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.model.condition import AnyOf, StepStateCondition
from orchestrator.planner.plan import ResultGroup, StepProgram, TryBlock
from orchestrator.planner.request import TagFilter
from tests.unit.planner.plan_project import (
    PlanProject,
    command_of,
    resume_step,
    resumed_command,
)


def texts(program: StepProgram) -> list[str]:
    return [step.display_text for step in program.steps]


def names(program: StepProgram) -> list[str]:
    return [step.name for step in program.steps]


def test_steps_are_numbered_from_one_through_calls_loops_and_blocks(plans: PlanProject) -> None:
    plans.write_task("steps: [run: echo x, run: echo y]\n", "two")
    program = plans.program(
        """
        - run: echo 1
        - two: {}
        - {run: "echo {{ item }}", loop: [a, b]}
        - block: [run: echo in]
          always: [run: echo end]
        - run: echo last
        """
    )
    assert texts(program) == [
        *("echo 1", "echo x", "echo y", "echo a", "echo b", "echo in", "echo end", "echo last"),
    ]
    assert [step.number for step in program.steps] == list(range(1, 9))


def test_a_called_task_takes_its_arguments_in_the_scope_of_its_caller(plans: PlanProject) -> None:
    plans.variables("word: stage")
    plans.write(
        {
            "tasks/say.yml": """
                params: {word: {default: none given}}
                steps: [run: "echo {{ word }}"]
            """,
            "tasks/t.yml": """
                params: {word: {default: outer}}
                steps: [say: {word: "{{ word }}!"}, say: {}]
            """,
        }
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    # a task called as a step is not filled from variables
    assert texts(planned.hosts[0].program) == ["echo 'stage!'", "echo 'none given'"]


def test_the_path_of_calls_stands_before_the_name_of_a_step(plans: PlanProject) -> None:
    plans.write_task("steps: [run: echo x]\n", "inner")
    plans.write_task("steps: [{inner: {}, name: Own title}]\n", "outer")
    assert names(plans.program("- outer: {}")) == ["outer › Own title › echo x"]


def test_a_called_task_for_another_role_is_skipped_on_this_host(plans: PlanProject) -> None:
    plans.write_task("roles: [db]\nsteps: [run: echo x]\n", "only_db")
    steps = "- only_db: {}\n- run: echo y\n"
    assert [step.skip for step in plans.steps(steps)] == ["'only_db' is for db", ""]
    assert [step.skip for step in plans.steps(steps, host="db1")] == ["", ""]


def test_a_called_task_that_is_skipped_leaves_no_rollback_and_no_handler(
    plans: PlanProject,
) -> None:
    plans.write_task(
        """
        roles: [db]
        steps: [run: echo x]
        handlers: {h: [run: echo handler]}
        rollback: [run: echo undo]
        """,
        "only_db",
    )
    plans.write_task(
        """
        steps: [only_db: {}, {run: echo y, notify: h}]
        handlers: {h: [run: echo own]}
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1,db1")
    assert [texts(host.rollback) for host in planned.hosts] == [[], ["echo undo"]]
    assert [texts(host.program)[2:] for host in planned.hosts] == [["echo own"]] * 2


def test_options_of_a_called_task_see_its_own_params(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {folder: {default: /default}}
        chdir: "{{ folder }}"
        when: folder != '/never'
        steps: [run: ls]
        """,
        "listing",
    )
    steps = plans.steps("""
        - listing: {}
        - listing: {folder: /given}
        - listing: {folder: /never}
    """)
    assert [step.display_text for step in steps] == [
        "cd -- /default\nls",
        "cd -- /given\nls",
        "ls",
    ]
    assert [step.skip for step in steps] == ["", "", "when: folder != '/never'"]


def test_a_result_registered_by_a_call_is_a_group_of_its_steps(plans: PlanProject) -> None:
    plans.write_task("steps: [run: echo x, run: echo y]\n", "two")
    program = plans.program("- run: echo first\n- {two: {}, register: all}\n")
    assert program.result_groups == (ResultGroup("all", ((None, 2, 4),)),)


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        ("[a, b]", ["echo a", "echo b"]),
        ("[1, 2.5, true]", ["echo 1", "echo 2.5", "echo true"]),
        ("[]", []),
        ('"{{ many }}"', ["echo x", "echo 'y z'"]),
        ("range(3)", ["echo 0", "echo 1", "echo 2"]),
    ],
)
def test_a_loop_has_one_step_for_each_item(
    plans: PlanProject, loop: str, expected: list[str]
) -> None:
    plans.variables("many: [x, y z]")
    steps = f"- {{run: 'echo {{{{ item }}}}', loop: {loop}}}\n- run: uname\n"
    assert texts(plans.program(steps)) == [*expected, "uname"]


def test_a_mapping_is_looped_over_by_key_and_value(plans: PlanProject) -> None:
    plans.variables("ports: {http: 80, https: 443}")
    program = plans.program("""
        - {run: "echo {{ item.key }} {{ item.value }}", loop: ports}
    """)
    assert texts(program) == ["echo http 80", "echo https 443"]
    assert names(program) == [
        "echo {{ item.key }} {{ item.value }} (http)",
        "echo {{ item.key }} {{ item.value }} (https)",
    ]


def test_the_label_of_an_item_is_its_name_or_what_loop_control_says(plans: PlanProject) -> None:
    items = "[{size: 1, name: small}, {size: 9, name: big}]"
    program = plans.program(f"- {{name: n, run: 'echo {{{{ item.size }}}}', loop: {items}}}")
    assert names(program) == ["n (small)", "n (big)"]
    labelled = plans.program(f"""
        - name: n
          run: echo x
          loop: {items}
          loop_control: {{label: "of {{{{ item.size }}}}"}}
    """)
    assert names(labelled) == ["n (of 1)", "n (of 9)"]


@pytest.mark.parametrize(("value", "found"), [("a b", "'a b'"), ("7", "7"), ("true", "true")])
def test_a_loop_over_what_is_not_a_list_is_an_error_at_the_loop(
    plans: PlanProject, value: str, found: str
) -> None:
    plans.variables(f"it: {value}")
    problem = plans.refused_steps("- {run: echo x, loop: it}")
    assert problem.message.lower() == f"`loop` needs a list or a mapping, found {found}"
    assert str(problem.mark) == "tasks/t.yml:2:25"
    assert ("splitlines" in problem.hint) == (value == "a b")


def test_options_of_the_looped_step_see_the_item(plans: PlanProject) -> None:
    steps = plans.steps("""
        - run: "true"
          loop: [/a, /b]
          chdir: "{{ item }}"
          when: item != '/b'
    """)
    assert [step.skip for step in steps] == ["", "when: item != '/b'"]
    assert command_of(steps[0]).text == "cd -- /a\ntrue"


def test_a_failed_item_does_not_keep_the_later_items_from_running(plans: PlanProject) -> None:
    program = plans.program("- {run: 'echo {{ item }}', loop: [a, b, c], register: r}")
    assert program.try_blocks == (TryBlock(2, 3, 3, 4), TryBlock(1, 2, 2, 4))
    assert program.result_groups == (
        ResultGroup("r", (("a", 1, 2), ("b", 2, 3), ("c", 3, 4)), is_loop=True),
    )


def test_the_steps_after_an_empty_loop_know_its_result(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: echo x, loop: [], register: r}
        - {run: echo y, when: r.skipped}
        - {run: echo z, when: not r.skipped}
    """)
    assert [step.skip for step in steps] == ["", "when: not r.skipped"]


def test_a_block_is_a_range_of_body_rescue_and_always(plans: PlanProject) -> None:
    program = plans.program("""
        - run: echo 1
        - block: [run: echo 2, run: echo 3]
          rescue: [run: echo 4]
          always: [run: echo 5]
        - block: [run: echo 6]
          always: [run: echo 7]
    """)
    assert program.try_blocks == (
        TryBlock(2, 4, 5, 6, has_rescue=True),
        TryBlock(6, 7, 7, 8, has_rescue=False),
    )


def test_inner_blocks_come_before_the_outer_block(plans: PlanProject) -> None:
    program = plans.program("""
        - block:
            - block: [run: echo 1]
              rescue: [run: echo 2]
          always: [run: echo 3]
    """)
    assert program.try_blocks == (
        TryBlock(1, 2, 3, 3, has_rescue=True),
        TryBlock(1, 3, 3, 4, has_rescue=False),
    )


@pytest.mark.parametrize("action", ["two: {}", "block: [run: echo x, run: echo y]"])
def test_ignored_errors_of_a_call_or_block_are_a_rescue_without_steps(
    plans: PlanProject, action: str
) -> None:
    plans.write_task("steps: [run: echo x, run: echo y]\n", "two")
    program = plans.program(f"- {{{action}, ignore_errors: true}}")
    assert program.try_blocks[-1] == TryBlock(1, 3, 3, 3, has_rescue=True)


def test_block_options_apply_to_every_step_in_it(plans: PlanProject) -> None:
    steps = plans.steps("""
        - block: [run: echo 1, {run: echo 2, chdir: /b}]
          rescue: [run: echo 3]
          chdir: /a
          environment: {A: "1"}
    """)
    assert [command_of(step).text for step in steps] == [
        "cd -- /a\nexport A=1\necho 1",
        "cd -- /b\nexport A=1\necho 2",
        "cd -- /a\nexport A=1\necho 3",
    ]


HANDLERS = """
    steps:
      - {run: echo 1, notify: restart}
      - run: echo 2
      - {run: echo 3, notify: [reload, restart]}
    handlers:
      reload: [run: echo reload]
      restart: [run: echo stop, run: echo start]
      unused: [run: echo unused]
"""


def test_handlers_follow_the_steps_once_in_the_order_of_the_file(plans: PlanProject) -> None:
    plans.write_task(HANDLERS)
    (planned,) = plans.planned_tasks("t", limit="web1")
    program = planned.hosts[0].program
    assert texts(program)[3:] == ["echo reload", "echo stop", "echo start"]
    assert [step.handler for step in program.steps] == [*[""] * 3, "reload", "restart", "restart"]
    assert names(program)[4] == "handler restart › echo stop"
    assert [step.notify for step in program.steps[:3]] == [
        ("restart",),
        (),
        ("reload", "restart"),
    ]


def test_a_handler_runs_if_one_of_the_notifying_steps_changed_something(
    plans: PlanProject,
) -> None:
    plans.write_task(HANDLERS)
    (planned,) = plans.planned_tasks("t", limit="web1")
    commands = [command_of(step) for step in planned.hosts[0].steps]
    assert commands[3].when == StepStateCondition(3, "changed")
    either = AnyOf((StepStateCondition(1, "changed"), StepStateCondition(3, "changed")))
    assert commands[4].when == commands[5].when == either


def test_a_handler_can_notify_a_later_handler(plans: PlanProject) -> None:
    plans.write_task(
        """
        steps: [{run: echo 1, notify: first}]
        handlers:
          first: [{run: echo first, notify: second}]
          second: [run: echo second]
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    steps = planned.hosts[0].steps
    assert [step.handler for step in steps] == ["", "first", "second"]
    assert command_of(steps[2]).when == StepStateCondition(2, "changed")


def notified(program: StepProgram) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(s.display_text, s.handler, s.notified_by) for s in program.steps]


def test_handlers_run_where_they_are_flushed_and_again_after_later_changes(
    plans: PlanProject,
) -> None:
    plans.write_task(
        """
        steps:
        - {run: a, notify: h}
        - {block: [{run: b, notify: [g, h]}, flush_handlers]}
        - {run: c, notify: h}
        - flush_handlers
        - {run: d, notify: g}
        handlers:
          g: [{run: G, notify: h}]
          h: [{run: H}]
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    assert notified(planned.hosts[0].program) == [
        *(("a", "", ()), ("b", "", ()), ("G", "g", (2,)), ("H", "h", (1, 2, 3))),
        *(("c", "", ()), ("H", "h", (5,)), ("d", "", ()), ("G", "g", (7,)), ("H", "h", (8,))),
    ]


def test_every_handler_that_listens_to_a_name_runs(plans: PlanProject) -> None:
    plans.write_task(
        """
        steps: [{run: a, notify: news}, {run: b, notify: two}]
        handlers:
          one: {listen: news, steps: [{run: one}]}
          two: {listen: [other, news], steps: [{run: two}]}
          three: [{run: three}]
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    assert notified(planned.hosts[0].program)[2:] == [("one", "one", (1,)), ("two", "two", (1, 2))]


def test_a_handler_that_is_known_only_after_a_flush_runs_at_the_end(plans: PlanProject) -> None:
    plans.write_task("steps: [run: inner]\nhandlers: {h: [run: H]}\n", "inner")
    program = plans.program("- {run: a, notify: h}\n- flush_handlers\n- inner: {}\n")
    assert notified(program) == [("a", "", ()), ("inner", "", ()), ("H", "h", (1,))]


@pytest.mark.parametrize(
    ("steps", "part"),
    [
        ("[{block: [flush_handlers], loop: [1]}]", "in a loop"),
        ("[{block: [flush_handlers], rescue: [run: x]}]", "in a block with `rescue`"),
        ("[{block: [flush_handlers], ignore_errors: true}]", "in `ignore_errors`"),
        (
            "[{run: x, notify: h}, {block: [flush_handlers], when: host.name == 'web1'}]",
            "where a `when` decides whether it runs",
        ),
    ],
)
def test_a_flush_that_may_not_be_reached_is_an_error(
    plans: PlanProject, steps: str, part: str
) -> None:
    plans.write({"tasks/t.yml": f"steps: {steps}\nhandlers: {{h: [run: H]}}\n"})
    found = plans.only_diagnostic("t", limit="web1")
    assert part in found.message
    assert found.mark and (found.mark.line, found.mark.column) == (1, steps.index("flush") + 8)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("steps: [{flush_handlers: now}]", "flush_handlers must be without a value"),
        ("steps: [{flush_handlers: , when: x}]", "`when` is not allowed on step `flush_handlers`"),
        ("steps: [run: x]\nhandlers: {h: [flush_handlers]}", "not allowed in a handler"),
        ("steps: [run: x]\nhandlers: {h: {listen: x}}", "handler 'h' must be a list"),
        ("steps: [{run: x, notify: y}]\nhandlers: {h: {listen: z, steps: [run: x]}}", "no handler"),
        ("steps: [run: x]\nhandlers: {h: {lisen: z, steps: [run: x]}}", "unknown key 'lisen'"),
    ],
)
def test_handlers_in_error_are_refused_when_they_are_loaded(
    plans: PlanProject, task: str, message: str
) -> None:
    plans.write({"tasks/t.yml": task})
    assert message in plans.only_diagnostic("t").message


def test_selected_handlers_run_alone_and_without_a_notification(plans: PlanProject) -> None:
    plans.write_task(HANDLERS)
    (planned,) = plans.planned_tasks("t", limit="web1", handlers=("restart",))
    steps = planned.hosts[0].steps
    assert [(step.number, step.display_text, step.handler) for step in steps] == [
        (1, "echo stop", ""),
        (2, "echo start", ""),
    ]
    assert planned.hosts[0].rollback == StepProgram()


def test_rollbacks_of_calls_are_undone_last_call_first(plans: PlanProject) -> None:
    plans.write(
        {
            "tasks/make.yml": """
                params: {name: {required: true}}
                steps: [run: "mkdir {{ name }}"]
                rollback: [run: "rmdir {{ name }}"]
            """,
            "tasks/t.yml": """
                steps: [make: {name: a}, make: {name: b}]
                rollback: [run: echo end]
            """,
        }
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    assert texts(planned.hosts[0].rollback) == ["rmdir b", "rmdir a", "echo end"]


def test_what_a_rollback_refers_to_is_none_if_its_step_never_ran(plans: PlanProject) -> None:
    plans.write_task(
        """
        steps: [{run: readlink current, register: before}]
        rollback: [{run: "ln -sfn {{ before.stdout or 'none' }} current", when: before}]
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    (step,) = planned.hosts[0].rollback.steps
    assert step.awaited_names == ("before",)
    assert resumed_command(step, before="old").text == "ln -sfn old current"
    assert resume_step(step, **{"no more to come": True}) == "when: before"


@pytest.mark.parametrize(
    ("only", "skip", "expected"),
    [
        ("", "", "one two both untagged always"),
        ("one", "", "one both always"),
        ("two", "", "two both always"),
        ("one two", "", "one two both always"),
        ("never", "", "always hidden"),
        ("hide", "", "always hidden"),
        ("", "one", "two untagged always"),
        ("one", "two", "one always"),
        ("one", "always", "one both"),
        ("hide", "never", "always"),
    ],
)
def test_tags_select_steps_as_ansible_does(
    plans: PlanProject, only: str, skip: str, expected: str
) -> None:
    tags = TagFilter(frozenset(only.split()), frozenset(skip.split()))
    steps = plans.steps(
        """
        - {run: one, tags: one}
        - {run: two, tags: [two]}
        - {run: both, tags: [one, two]}
        - {run: untagged}
        - {run: always, tags: always}
        - {run: hidden, tags: [never, hide]}
        """,
        tags=tags,
    )
    assert [step.display_text for step in steps if not step.skip] == expected.split()
    assert {step.skip for step in steps} <= {"", "its tags are not selected"}


def test_tags_of_playbooks_calls_and_blocks_are_those_of_every_step_inside(
    plans: PlanProject,
) -> None:
    plans.write(
        {
            "tasks/u.yml": "tags: u\nsteps: [run: echo u]\n",
            "tasks/v.yml": """
                steps:
                  - {u: {}, tags: call}
                  - {block: [run: echo in], tags: block}
            """,
            "tasks/t.yml": "tags: top\ntasks: [{v: {}, tags: item}]\n",
        }
    )
    for tag, skipped in (
        *(("top", [False, False]), ("item", [False, False]), ("u", [False, True])),
        *(("call", [False, True]), ("block", [True, False])),
    ):
        (planned,) = plans.planned_tasks("t", limit="web1", tags=TagFilter(frozenset({tag})))
        assert [bool(step.skip) for step in planned.hosts[0].steps] == skipped, tag


def test_a_loop_over_a_result_is_one_step_until_the_result_is_known(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: ls, register: found}
        - {run: "rm -- {{ item }}", loop: found.stdout.splitlines(), register: gone}
        - {run: echo end, when: gone.changed}
    """)
    assert [step.number for step in steps] == [1, 2, 3]
    assert steps[1].awaited_names == ("found",)
    program = resume_step(steps[1], found="a b\n-c")
    assert isinstance(program, StepProgram)
    assert [command_of(step).text for step in program.steps] == ["rm -- 'a b'", "rm -- -c"]
    assert [step.number for step in program.steps] == [200_000, 200_001]
    assert program.result_groups == (
        ResultGroup("gone", (("a b", 200_000, 200_001), ("-c", 200_001, 200_002)), is_loop=True),
    )
    empty = resume_step(steps[1], found="")
    assert isinstance(empty, StepProgram)
    assert empty.steps == ()


def test_an_item_of_a_result_cannot_choose_a_file_of_this_machine(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: ls, register: found}
        - {copy: {src: "{{ item }}", path: /x}, loop: found.stdout.splitlines()}
    """)
    with pytest.raises(DefinitionError, match="is made of text from a host"):
        resume_step(steps[1], found="/etc/passwd")


def test_an_item_that_is_made_of_a_result_by_other_names_cannot_choose_a_file_either(
    plans: PlanProject,
) -> None:
    plans.variables('named: ["{{ r.stdout }}"]')
    steps = plans.steps("""
        - {run: ls, register: r}
        - {copy: {src: "{{ item }}", path: /x}, loop: host.vars.named}
    """)
    with pytest.raises(DefinitionError, match="is made of text from a host"):
        resume_step(steps[1], r="/etc/passwd")


def test_an_unfolded_loop_reports_the_errors_of_its_steps(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: ls, register: found}
        - {run: "true", timeout: "{{ item }}", loop: found.stdout.splitlines()}
    """)
    with pytest.raises(DefinitionError, match="timeout"):
        resume_step(steps[1], found="soon")


def test_a_loop_over_a_result_cannot_have_more_steps_than_numbers(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: ls, register: found}
        - {run: "true", loop: found.stdout.splitlines()}
    """)
    with pytest.raises(DefinitionError, match="more than 100000 steps"):
        resume_step(steps[1], found="x\n" * 100_001)
