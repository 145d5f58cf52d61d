"""`--check` of steps that depend on skipped steps: which results are unknown, and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent

import pytest

from tests.e2e.flow.test_check_mode import run_check, step_statuses
from tests.projects import OrchProject, OrchResult

ROOT = Path(__file__).parents[3]

LOOK = """
    params: {path: {type: path, required: true}}
    probe: |
      cat {{ path }} >/dev/null
      state there yes
    want: {there: yes}
    fix: ':'
"""
"""A module whose probe fails if the file does not exist."""


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write({"tasks/look.yml": LOOK})


def step_reasons(done: OrchResult) -> list[str]:
    return [step.get("reason", "") for step in done.host_steps("a1")]


def last_step(project: OrchProject, *steps: str) -> tuple[str, str]:
    """Return status and reason of the last step in check mode."""
    done = run_check(project, "steps:\n" + "".join(f"- {step}\n" for step in steps))
    assert done.code == (1 if "failed" in step_statuses(done) else 0)
    return step_statuses(done)[-1], step_reasons(done)[-1]


def test_a_readonly_command_is_unknown_behind_a_step_that_was_withheld_and_names_it(
    one: OrchProject,
) -> None:
    cat = "{run: cat new/f, readonly: true}"
    assert last_step(one, cat) == ("failed", "exit status 1")
    status, why = last_step(one, "{run: make all, name: build it}", cat)
    assert (status, why) == (
        "unknown",
        "exit status 1; it may depend on 'build it', which was not run",
    )
    # not the nearest step is named, but the one that creates the folder
    created = "{run: mkdir ~/new, creates: ~/new, name: mk}"
    inside = "{run: pwd, chdir: ~/new, readonly: true}"
    assert last_step(one, "{run: 'true'}", inside)[0] == "unknown"
    assert last_step(one, inside)[0] == "failed"
    status, why = last_step(one, created, "{run: touch x}", inside)
    assert (status, why.partition("; ")[2]) == ("unknown", "it depends on 'mk', which was not run")


def test_what_goes_on_behind_an_unknown_step(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: touch x, name: first}
          - {run: 'false', readonly: true, register: a, name: look, notify: told}
          - {run: echo on, readonly: true}
          - {run: 'true', readonly: true, when: a.failed}
          - {run: 'true', readonly: true, when: "a.stdout == ''"}
          - {run: 'true', when: a.changed}
          - {run: 'false', readonly: true, ignore_errors: true}
          - {run: sleep 9, readonly: true, timeout: 1}
          - {run: 'false', shell: nonesuch, readonly: true}
          - {run: 'true', creates: x, chdir: ~/none}
          - {run: echo end, readonly: true}
        handlers: {told: [{run: echo told}]}
        """,
    )
    rest = ["unknown", "unknown", "unknown", "unknown", "ok", "unknown"]
    assert step_statuses(done) == [
        "would_run",
        "unknown",
        "ok",
        "unknown",
        "unknown",
        "unknown",
        *rest,
    ]
    why = step_reasons(done)
    assert why[3] == "it depends on 'look', whose result is not known"
    assert "ended after its timeout of 1 s; it may depend on" in why[7]
    assert why[11] == "it depends on 'look', whose result is not known"
    assert done.host_rows["a1"]["status"] == "would_run"


def test_many_steps(one: OrchProject) -> None:
    directory = "- directory: {path: ~/}\n"
    look = "- {run: test -e x, readonly: true}\n"
    done = run_check(one, f"steps:\n{directory * 70}- run: touch x\n{directory * 70}{look * 2}")
    assert step_statuses(done) == ["ok"] * 70 + ["would_run"] + ["ok"] * 70 + ["unknown"] * 2
    assert step_statuses(run_check(one, f"steps:\n{directory * 140}{look}"))[-1] == "failed"


def test_where_nothing_was_withheld_a_failure_is_one(one: OrchProject) -> None:
    done = run_check(
        one,
        """
        steps:
          - {run: 'true', when: false}
          - {run: touch x, creates: ~/}
          - {directory: {path: ~/}}
          - {run: 'false', readonly: true}
          - {run: 'true', readonly: true}
        """,
    )
    assert step_statuses(done) == ["skipped", "skipped", "ok", "failed"]
    assert step_reasons(done)[-1] == "exit status 1"


@pytest.mark.parametrize(
    ("before", "path", "status"),
    [
        ("directory: {path: ~/new}", "~/new/f", "unknown"),
        ("directory: {path: ~/new}", "new/f", "unknown"),
        ("directory: {path: new}", "~/newer/f", "failed"),
        ("copy: {path: ~/f, content: x}", "~/f", "unknown"),
        ("file: {path: ~/link, state: absent}", "~/link/f", "unknown"),
        ("link: {path: ~/l, to: /}", "~/f", "failed"),
        ("link: {path: ~/l, to: /}", "~/l/f", "unknown"),
        ("link: {path: ~/l, to: /}", "/nowhere", "failed"),
        ("run: mkdir ~/new", "/nowhere", "unknown"),
        ("user: {name: orch-new}", "/nowhere", "failed"),
        ("user: {name: orch-new}", "/home/orch-new/f", "unknown"),
        ("user: {name: orch-new, home: /srv/new}", "/srv/new/f", "unknown"),
        ("group: {name: orch-new}", "/nowhere", "failed"),
        ("fix_all: {}", "/nowhere", "unknown"),
        ("fix_one: {path: ~/conf}", "/nowhere", "failed"),
        ("fix_some: {path: ~/conf, more: made}", "~/made/f", "unknown"),
        ("fix_some: {path: ~/conf, more: made}", "~/conf", "failed"),
    ],
)
def test_a_modules_failing_probe_is_unknown_only_where_a_step_before_can_be_why(
    one: OrchProject, before: str, path: str, status: str
) -> None:
    fix = "want: {a: b}\nfix: ':'\n"
    one.write(
        {
            "tasks/fix_all.yml": f"probe: ':'\n{fix}",
            "tasks/fix_one.yml": f"params: {{path: {{required: true}}}}\nprobe: ':'\n{fix}",
            "tasks/fix_some.yml": "params: {path: {type: path}, more: {}}\nprobe: ':'\n"
            f"makes: ['~/{{{{ more }}}}']\n{fix}",
        }
    )
    one.orch("-s", "dev", "exec", "--", "ln -s nowhere link")
    assert last_step(one, before, f"look: {{path: {path}}}")[0] == status


def test_across_tasks_and_where_the_step_before_turns_out_to_change_nothing(
    one: OrchProject,
) -> None:
    tasks = dedent("""\
        tasks:
        - steps: [{directory: {path: ~/new}}]
        - steps: [{look: {path: ~/new/f}}]
        """)
    assert step_statuses(run_check(one, tasks)) == ["would_change", "unknown"]
    one.orch("-s", "dev", "exec", "--", "mkdir new")
    assert step_statuses(run_check(one, tasks)) == ["ok", "failed"]
    steps = ["directory: {path: ~/new}", "look: {path: ~/new/f}"]
    assert last_step(one, *steps) == ("failed", "its probe failed: exit status 1")
    # what a step would create that is unknown itself
    chain = ["copy: {path: ~/a, content: x}", "look: {path: ~/a}", "look: {path: ~/a/b}"]
    assert last_step(one, *chain)[0] == "unknown"


def test_a_user_or_group_that_a_step_before_makes(one: OrchProject) -> None:
    owned = "directory: {path: ~/d, owner: orch-new}"
    assert last_step(one, owned)[0] == "failed"
    assert last_step(one, "user: {name: orch-new}", owned) == (
        "unknown",
        "its probe failed: exit status 1; it depends on 'user orch-new', which was not run",
    )
    assert last_step(one, "user: {name: orch-other}", owned)[0] == "failed"
    grouped = "copy: {path: ~/f, content: x, group: orch-new}"
    assert last_step(one, grouped)[0] == "failed"
    assert last_step(one, "group: {name: orch-new}", grouped)[0] == "unknown"
    member = "user: {name: orch-new, groups: [orch-g]}"
    assert last_step(one, member)[0] == "failed"
    assert last_step(one, "group: {name: orch-g}", member)[0] == "unknown"
    taken = "user: {name: orch-new, uid: 1}"  # a group: daemon's
    assert last_step(one, taken)[0] == "failed"
    assert last_step(one, "user: {name: daemon, state: absent}", taken)[0] == "unknown"
    become = "{run: id, readonly: true, become: orch-new}"
    assert last_step(one, become)[0] == "failed"
    done = run_check(
        one, f"steps:\n- user: {{name: orch-new}}\n- {become}\n- {become}\n- run: id\n"
    )
    assert step_statuses(done) == ["would_change", "unknown", "unknown", "would_run"]
    assert "depends on 'user orch-new', which was not run" in step_reasons(done)[1]


def test_a_module_that_runs_a_command_of_its_callers(one: OrchProject) -> None:
    tried = "copy: {path: ~/g, content: x, validate: 'test -e new || : %s; test -e new'}"
    assert last_step(one, tried)[0] == "failed"
    assert last_step(one, "copy: {path: ~/other, content: x}", tried)[0] == "unknown"
    assert last_step(one, "copy: {path: ~/other, content: x}", "look: {path: ~/new}")[0] == "failed"


def test_a_step_that_was_withheld_on_another_host_and_on_this_machine(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "b1").write({"tasks/look.yml": LOOK})
    for location, status in (("delegate_to: b1", "unknown"), ("local: true", "failed")):
        done = run_check(
            project,
            "tasks:\n"
            f"- steps: [{{directory: {{path: ~/new}}, {location}, when: host.name == 'a1'}}]\n"
            "- steps:\n"
            "  - {look: {path: ~/new/f}, when: host.name == 'b1'}\n"
            "  - {look: {path: ~/new/f}, when: host.name == 'a1'}\n",
        )
        assert [s["status"] for s in done.host_steps("b1")][1] == status
        assert step_statuses(done)[-1] == "failed"


def test_a_module_that_was_called_wrongly_has_failed_whatever_was_withheld(
    one: OrchProject,
) -> None:
    assert last_step(one, "run: 'true'", "user: {name: 'a b'}")[0] == "failed"
    assert last_step(one, "run: 'true'", "line: {path: ~/f, line: x}")[0] == "unknown"


def test_what_a_run_would_wait_for_is_unknown(one: OrchProject) -> None:
    one.write(
        {
            "tasks/up.yml": dedent("""\
                probe: '[ ! -e ~/up ] || state up 1'
                want: {up: 1}
                within: 1h
                """),
            "tasks/now.yml": "probe: '[ ! -e ~/up ] || state up 1'\nwant: {up: 1}\n",
            "tasks/bad.yml": dedent("""\
                probe: 'exit 64'
                want: {up: 1}
                within: 1h
                """),
            "tasks/dies.yml": dedent("""\
                probe: 'exit 3'
                want: {up: 1}
                within: 1h
                """),
        }
    )
    assert last_step(one, "up") == (
        "unknown",
        "up is not there, expected '1'; a run would wait for it",
    )
    assert last_step(one, "dies") == (
        "unknown",
        "its probe failed: exit status 3; a run would wait for it",
    )
    assert last_step(one, "now")[0] == "failed"
    assert last_step(one, "bad")[0] == "failed"
    assert last_step(one, "wait_for: {path: ~/none}")[0] == "unknown"
    assert last_step(one, "wait_for: {path: ~/none, within: 0s}")[0] == "failed"
    one.orch("-s", "dev", "exec", "--", "touch up")
    assert last_step(one, "up")[0] == "ok"


def test_a_check_of_the_example_on_new_hosts_ends_well_as_its_run_does(
    project: OrchProject,
) -> None:
    for folder in ("inventories", "tasks"):
        shutil.copytree(ROOT / folder, project.root / folder, dirs_exist_ok=True)
    asked = project.orch("-s", "dev", "run", "hello", "--check", "--diff", "--json")
    assert asked.code == 0, asked.out + asked.err
    assert {step["status"] for step in asked.host_steps("devserver1")} == {
        "ok",
        "would_run",
        "unknown",
    }
    assert asked.host_rows["devserver1"]["unknown"] == 5
    assert project.orch("-s", "dev", "run", "hello", "--json").code == 0
    again = project.orch("-s", "dev", "run", "hello", "--check", "--json")
    assert {row["status"] for row in again.host_rows.values()} == {"ok"}


def test_what_makes_and_reads_may_say(one: OrchProject) -> None:
    one.write(
        {
            "tasks/m.yml": dedent("""\
        params: {path: {}}
        probe: ':'
        makes: [pth]
        reads: [x]
        """)
        }
    )
    done = one.orch("-s", "dev", "run", "t", "--check")
    one.write({"tasks/t.yml": "steps: [{m: {}}]\n"})
    done = one.orch("-s", "dev", "run", "t", "--check")
    assert done.code == 3
    assert "makes: 'pth' is not a param" in done.err
    assert "reads: 'x' is not a param" in done.err
