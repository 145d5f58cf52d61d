"""Between batches: a pause, a confirmation, and the order of the hosts."""

from __future__ import annotations

import json
import signal
from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult

HOSTS = [f"a{n}" for n in range(1, 5)]


def rolling(project: OrchProject, options: str) -> OrchProject:
    return project.add_sandbox_stage(*HOSTS).write(
        {
            "tasks/one.yml": "steps: [{run: echo one}]\n",
            "tasks/p.yml": dedent("""\
                tasks:
                - one: {}
                  batch: 1
                """)
            + "".join(f"  {line}\n" for line in options.split("\n")),
        }
    )


def hosts_in_order(done: OrchResult) -> list[str]:
    return [e["host"] for e in done.events if e["event"] == "host_finished"]


def test_each_batch_but_the_first_is_confirmed(project: OrchProject) -> None:
    rolling(project, "confirm: true")
    done = project.orch_on_terminal("-s", "dev", "run", "p", "--json", typed="y\nyes\nn\n")
    assert hosts_in_order(done) == ["a1", "a2", "a3"]
    assert done.code == 2
    assert "continue with batch 2/4: one on a2? [y/N]" in done.err
    assert done.host_rows["a4"]["status"] == "not_started"
    assert done.host_rows["a4"]["reason"].endswith("stopped by you")
    assert done.host_rows["a1"]["status"] == "changed"


def test_without_a_terminal_nothing_is_contacted_unless_yes_confirms(project: OrchProject) -> None:
    rolling(project, "confirm: true")
    done = project.orch("-s", "dev", "run", "p", stdin="y\ny\ny\n")
    assert done.code == 2
    assert "batch 2/4 of 'one' must be confirmed, and stdin is not a terminal" in done.err
    assert "pass --yes" in done.err
    assert not (project.root / ".orch").exists()
    assert project.orch("-s", "dev", "run", "p", "--yes").code == 0
    assert project.orch("-s", "dev", "run", "p", "--check").code == 0
    assert project.orch("-s", "dev", "run", "p", "-l", "a1").code == 0


def test_a_pause_is_made_between_batches_and_told(project: OrchProject) -> None:
    rolling(project, "pause: 1ms")
    done = project.orch("-s", "dev", "run", "p", "--json")
    names = [e["event"] for e in done.events if e["event"] in ("batch_paused", "host_finished")]
    assert names == ["host_finished", *["batch_paused", "host_finished"] * 3]
    paused = [e for e in done.events if e["event"] == "batch_paused"]
    assert [(e["batch"], e["seconds"]) for e in paused] == [
        ("2/4", 0.001),
        ("3/4", 0.001),
        ("4/4", 0.001),
    ]
    assert "one: batch 2/4 begins in 0.001 s" in project.orch("-s", "dev", "run", "p").err
    assert "batch_paused" not in project.orch("-s", "dev", "run", "p", "--check", "--json").out


def test_an_interrupt_ends_a_pause_and_no_further_batch_begins(project: OrchProject) -> None:
    rolling(project, "pause: 1h")
    with project.start_orch("-s", "dev", "run", "p", "--json") as process:
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(line)
            if '"batch_paused"' in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    done = OrchResult(130, "".join(events), "")
    assert hosts_in_order(done) == ["a1"]
    assert done.host_rows["a2"]["status"] == "cancelled"


@pytest.mark.parametrize("order", ["inventory", "reversed", "shuffle"])
def test_hosts_are_taken_in_the_order_that_is_asked_for(project: OrchProject, order: str) -> None:
    rolling(project, f"order: {order}")
    done = project.orch("-s", "dev", "run", "p", "--json")
    found = hosts_in_order(done)
    assert sorted(found) == HOSTS
    if order != "shuffle":
        assert found == (HOSTS if order == "inventory" else HOSTS[::-1])


def test_another_run_shuffles_in_another_order(project: OrchProject) -> None:
    rolling(project, "order: shuffle")
    orders = {project.orch("-s", "dev", "run", "p", "--list-hosts").out for _ in range(12)}
    assert len(orders) > 1


def test_what_is_for_batches_needs_a_batch(project: OrchProject) -> None:
    rolling(project, "").write({"tasks/q.yml": "tasks: [{one: {}, pause: 1s, order: inventory}]"})
    done = project.orch("-s", "dev", "run", "q")
    assert done.code == 3
    assert "`pause` requires `batch`" in done.err
    assert "`order` requires `batch`" in done.err
    project.write({"tasks/q.yml": "tasks: [{one: {}, on_batch_failure: continue}]"})
    assert "`on_batch_failure` requires `batch`" in project.orch("-s", "dev", "run", "q").err


def test_the_plan_and_the_tree_say_what_is_between_batches(project: OrchProject) -> None:
    rolling(project, "pause: 30s\nconfirm: true\norder: reversed\non_batch_failure: continue")
    plan = project.orch("-s", "dev", "plan", "p").out
    assert plan.count("after a pause of 30 s") == 3
    assert plan.count("after a confirmation") == 3
    assert plan.count("a failed batch does not stop the next one") == 4
    planned = json.loads(project.orch("-s", "dev", "plan", "p", "--json").out)
    assert [task["on_batch_failure"] for task in planned["lanes"][0]["waves"]] == ["continue"] * 4
    tree = project.orch("tasks", "--tree", "p").out
    for text in (
        "last host first",
        "30 s between batches",
        "each batch but the first",
        "a failed batch does not",
    ):
        assert text in tree
