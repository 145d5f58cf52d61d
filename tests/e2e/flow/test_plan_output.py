"""Output of `orch plan` and `orch tasks --tree`: playbooks, blocks, loops, hooks, rollback."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest

from tests.projects import OrchProject


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1", "a2", "a3").write(
        {
            "inventories/dev/roles/web.yml": "hosts: [a1, a2]\n",
            "tasks/deploy.yml": """\
                desc: Deploy it
                tasks:
                - migrate: {}
                  once: true
                - name: release
                  batch: [1, 100%]
                  max_failures: 1
                  tasks: [publish]
                - commit
                - clean: {}
                  once: true
                  on: any
                """,
            "tasks/publish.yml": """\
                roles: [web]
                steps:
                - {run: readlink now, register: before, readonly: true}
                - {run: 'ln {{ host.name }}', notify: restart}
                handlers:
                  restart: [{run: systemctl restart x}]
                rollback:
                - {run: 'ln {{ before.stdout }}', when: before.stdout}
                """,
            "tasks/drain.yml": dedent("""\
                before: [publish]
                roles: [web]
                steps: [{run: lb out}]
                """),
            "tasks/undrain.yml": dedent("""\
                after: [publish]
                roles: [web]
                steps: [{run: lb in}]
                """),
            "tasks/tell.yml": "failed: [deploy]\nsteps: [{run: mail me}]\n",
            "tasks/migrate.yml": "steps: [{run: migrate}]\n",
            "tasks/clean.yml": "steps: [{run: clean}]\n",
        }
    )


def show_plan(project: OrchProject, task: str, width: int = 80) -> list[str]:
    done = project.orch("-s", "dev", "plan", task, COLUMNS=str(width))
    assert done.code == 0, done.err
    return done.out.splitlines()[1:]


def plan_steps(project: OrchProject, task: str, width: int = 80) -> list[str]:
    """Return the lines below the only planned task on one host."""
    project.write({"tasks/t.yml": task})
    return show_plan(project.add_sandbox_stage("a1"), "t", width)[2:]


def test_a_playbook_is_shown_with_batches_hooks_commit_rollback_and_what_follows_failure(
    shop: OrchProject,
) -> None:
    batch = "in deploy, batch {}/2, at most 1 host may fail in all batches"

    def publish(number: int, host: str) -> list[str]:
        return [
            "",
            f"{number}. publish on {host}",
            f"   {batch.format(host[1])}",
            "   1  readlink now",
            "      read-only, its result is `before`",
            "      | readlink now",
            "   2  ln {{ host.name }}",
            "      a change notifies restart",
            f"      | ln {host}",
            "   3  handler restart › systemctl restart x",
            "      handler: runs once, if it was notified",
            "      | systemctl restart x",
            "   rollback if the run fails before a commit:",
            "     4  ln {{ before.stdout }}",
            "        when: before.stdout",
            "        waits for `before`",
            "        | ln {{ before.stdout }}",
        ]

    def hook(number: int, name: str, what: str, when: str, host: str) -> list[str]:
        about = f"   {when} publish, {batch.format(host[1])}"
        return ["", f"{number}. {name} on {host}", about, f"   1  {what}", f"      | {what}"]

    assert show_plan(shop, "deploy") == [
        "",
        "1. migrate on a1",
        "   in deploy, once",
        "   1  migrate",
        "      | migrate",
        *hook(2, "drain", "lb out", "before", "a1"),
        *publish(3, "a1"),
        *hook(4, "undrain", "lb in", "after", "a1"),
        *hook(5, "drain", "lb out", "before", "a2"),
        *publish(6, "a2"),
        *hook(7, "undrain", "lb in", "after", "a2"),
        "",
        "8. commit: a later failure does not roll back",
        "   in deploy",
        "",
        "9. clean on a[1-3]",
        "   in deploy, once, on the first of these that is reachable",
        "   1  clean",
        "      | clean",
        "",
        "if deploy fails:",
        "",
        "1. tell on a[1-3]",
        "   1  mail me",
        "      | mail me",
    ]


def test_a_commit_in_a_batch_says_for_which_hosts_it_is(shop: OrchProject) -> None:
    shop.write({"tasks/t.yml": "tasks: [{batch: 2, tasks: [migrate, commit]}]\n"})
    shown = [line for line in show_plan(shop, "t") if "commit" in line]
    message = "commit: a later failure does not roll back"
    assert shown == [f"2. {message} a[1-2]", f"4. {message} a3"]
    commits = [w["commits"] for w in found_lines(shop, "t")["waves"] if w["commit"]]
    assert commits == [["a1", "a2"], ["a3"]]


def test_the_rollback_is_folded_over_hosts_as_steps_are(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/t.yml": dedent("""\
                steps: [{run: all}]
                rollback:
                - run: same
                - {run: '{{ host.name[:1] }} {{ "x" if host.name == "a1" else "y" }}'}
                """)
        }
    )
    shown = show_plan(shop, "t")
    at = shown.index("   rollback if the run fails before a commit:")
    name = '{{ host.name[:1] }} {{ "x" if host.name == "a1" else "y" }}'
    assert shown[at + 1 :] == [
        "     2  same",
        "        | same",
        f"     3  {name}  on a1",
        "        | 'a' 'x'",
        f"     3  {name}  on a[2-3]",
        "        | 'a' 'y'",
    ]


def test_rescue_and_always_are_told_with_the_steps_that_they_stand_in_for(
    project: OrchProject,
) -> None:
    assert plan_steps(
        project,
        dedent("""\
            steps:
            - block: [{run: a}, {run: b}]
              rescue: [{run: c}]
              always: [{run: d}]
            - block: [{run: e}]
              always: [{run: f}]
            """),
    ) == [
        "   1  a",
        "      | a",
        "   2  b",
        "      | b",
        "   3  c",
        "      rescue: runs only if one of steps 1-2 fails",
        "      | c",
        "   4  d",
        "      always: runs even if one of steps 1-3 fails",
        "      | d",
        "   5  e",
        "      | e",
        "   6  f",
        "      always: runs even if step 5 fails",
        "      | f",
    ]


def test_a_loop_shows_each_item_or_what_it_waits_for(project: OrchProject) -> None:
    assert plan_steps(
        project,
        dedent("""\
            steps:
            - {run: 'echo {{ item }}', loop: [a, b, c], register: all}
            - {run: ls, register: r}
            - {run: 'rm {{ item }}', loop: r.stdout.splitlines()}
            """),
    ) == [
        "   1  echo {{ item }} (a)",
        "      | echo a",
        "   2  echo {{ item }} (b)",
        "      runs even if step 1 fails",
        "      | echo b",
        "   3  echo {{ item }} (c)",
        "      runs even if one of steps 1-2 fails",
        "      the result of steps 1-3 is `all`",
        "      | echo c",
        "   4  ls",
        "      its result is `r`",
        "      | ls",
        "   5  rm {{ item }}",
        "      waits for `r`, then runs for each item",
        "      | rm {{ item }}",
    ]


def test_what_no_host_does_is_shown_with_its_values(project: OrchProject) -> None:
    assert plan_steps(
        project,
        dedent("""\
            vars: {who: me}
            steps:
            - set: {a: 2, b: 'for {{ who }}', c: [1, {d: null}]}
            - {wait: 1500ms}
            - {assert: {that: [who == 'me']}}
            - {assert: {that: [who == 'you'], message: 'not {{ who }}'}}
            - {fail: 'no {{ who }}'}
            - {run: ls, register: r}
            - set: {d: '{{ r.stdout }}'}
            """),
    ) == [
        "   1  set",
        "      = a: 2",
        '      = b: "for me"',
        '      = c: [1, {"d": null}]',
        "   2  wait",
        "      waits 1.5 s",
        "   3  assert",
        "      holds",
        "   4  assert",
        "      fails: not me",
        "   5  fail",
        "      fails: no me",
        "   6  ls",
        "      its result is `r`",
        "      | ls",
        "   7  set",
        "      waits for `r`",
        "      set: evaluated then",
    ]


def test_tries_delegation_and_judgements_are_told(project: OrchProject) -> None:
    assert plan_steps(
        project.add_sandbox_stage("a1", "a2"),
        dedent("""\
            steps:
            - {run: lb, delegate_to: a2, when: host.name == 'a1', ignore_errors: true}
            - {run: up, until: "result.stdout == 'ok'", retries: 1, delay: 2s}
            - {run: up, failed_when: "'no' in result.stdout"}
            """),
    )[:11] == [
        "   1  lb  on a1",
        "      when: host.name == 'a1'",
        "      delegated to a2",
        "      its failure is ignored",
        "      | lb",
        "   1  lb  on a2",
        "      skipped: when: host.name == 'a1'",
        "   2  up",
        "      retried until result.stdout == 'ok': at most 1 time more, 2 s apart",
        "      | up",
        "   3  up",
    ]


def test_remarks_keep_to_the_width_and_text_to_itself(project: OrchProject) -> None:
    long = "echo " + "word " * 30 + "end"
    shown = plan_steps(
        project,
        f"desc: {'much to say about this ' * 3}\nsteps:\n- run: {long}\n  name: n\n"
        f"  when: host.name in ['a1', {', '.join(repr('b' * i) for i in range(1, 12))}]\n",
        60,
    )
    assert [line for line in shown if len(line) > 60] == [f"      | {long}"]
    assert sum(line.strip().startswith("much") for line in shown) == 1


def found_lines(project: OrchProject, task: str) -> dict[str, Any]:
    done = project.orch("-s", "dev", "plan", task, "--json")
    assert done.code == 0, done.err
    return dict(json.loads(done.out)["lanes"][0])


def test_json_has_waves_rollback_and_failed_as_plain_data(shop: OrchProject) -> None:
    lane = found_lines(shop, "deploy")
    waves = lane["waves"]
    assert [(w["task"], w["batch"], w["once"], w["any"], w["hook"]) for w in waves] == [
        ("migrate", "", True, False, ""),
        ("drain", "1/2", False, False, "before publish"),
        ("publish", "1/2", False, False, ""),
        ("undrain", "1/2", False, False, "after publish"),
        ("drain", "2/2", False, False, "before publish"),
        ("publish", "2/2", False, False, ""),
        ("undrain", "2/2", False, False, "after publish"),
        ("commit", "", False, False, ""),
        ("clean", "", True, True, ""),
    ]
    assert [w["commit"] for w in waves].index(True) == 7
    assert (waves[2]["within"], waves[2]["max_failures"]) == (["deploy", "publish"], 1)
    (host,) = waves[2]["hosts"]
    assert [(s["notify"], s["handler"]) for s in host["steps"]] == [
        ([], ""),
        (["restart"], ""),
        ([], "restart"),
    ]
    (undo,) = host["rollback"]["steps"]
    assert (undo["text"], undo["waits"]) == ("ln {{ before.stdout }}", ["before"])
    assert [(f["task"], f["waves"][0]["task"]) for f in lane["failed"]] == [("deploy", "tell")]


def test_json_has_regions_rulings_tries_and_delegation(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/t.yml": dedent("""\
                steps:
                - block: [{run: a}]
                  rescue: [{run: b}]
                  always: [{run: c}]
                - set: {x: [1, {y: null}]}
                - {fail: why}
                - {wait: 2s}
                - {run: d, loop: [p, q], register: r, delegate_to: a3}
                - {run: e, until: result.changed, retries: 2, delay: 1s}
                """)
        }
    )
    host = found_lines(shop, "t")["waves"][0]["hosts"][0]
    assert {"tried": [1], "rescue": [2], "always": [3], "forgives": True} in host["regions"]
    rulings = [s["ruling"] for s in host["steps"][3:6]]
    assert rulings[0]["values"] == {"x": [1, {"y": None}]}
    assert [(r["kind"], r["ok"], r["message"], r["seconds"]) for r in rulings[1:]] == [
        ("fail", False, "why", 0.0),
        ("wait", True, "", 2.0),
    ]
    parts = [{"item": "p", "steps": [7]}, {"item": "q", "steps": [8]}]
    assert {"register": "r", "loop": True, "parts": parts} in host["gathers"]
    assert [s["delegate_to"] for s in host["steps"][6:8]] == ["a3", "a3"]
    assert host["steps"][8]["again"] == {"until": "result.changed", "retries": 2, "delay": 1.0}


def test_the_tree_has_hooks_playbooks_and_calls_at_their_place(shop: OrchProject) -> None:
    shop.write(
        {
            "tasks/clean.yml": dedent("""\
                steps:
                - block: [{part: {}}]
                  always: [{run: 'b {{ host.name }}'}]
                - {run: c, loop: [1], when: stage.name == 'dev'}
                """),
            "tasks/part.yml": "desc: Part\nsteps: [{run: 'a\n\n    aa'}]\n",
        }
    )
    done = shop.orch("tasks", "--tree", "deploy")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "deploy: Deploy it",
            "  migrate (once)",
            "    - migrate",
            "  release (in batches of 1, 100%, at most 1 may fail)",
            "    drain (on web, before publish)",
            "      - lb out",
            "    publish (on web)",
            "      - readlink now",
            "      - ln {{ host.name }} (notifies restart)",
            "      handler restart:",
            "        - systemctl restart x",
            "      rollback:",
            "        - ln {{ before.stdout }} (when before.stdout)",
            "    undrain (on web, after publish)",
            "      - lb in",
            "  commit: a later failure does not roll back",
            "  clean (once, on any host)",
            "    block",
            "      - part",
            "          - a …",
            "    always:",
            "      - b {{ host.name }}",
            "    - c (in a loop, when stage.name == 'dev')",
            "tell (if deploy fails)",
            "  - mail me",
        ],
    )


def test_the_tree_needs_no_stage_and_begins_at_what_nothing_else_runs(shop: OrchProject) -> None:
    shop.write({"tasks/alone.yml": "steps: [{run: x}]\n"})
    done = shop.orch("tasks", "--tree")
    roots = [line for line in done.out.splitlines() if line and not line.startswith(" ")]
    assert roots == ["alone", "deploy: Deploy it", "tell (if deploy fails)"]
    assert shop.orch("tasks", "--tree", "nope").code == 3
    assert shop.orch("tasks", "deploy").code == 2
    assert "did you mean" in shop.orch("tasks", "--tree", "deplo").err
