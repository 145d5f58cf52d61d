"""The steps of a loop over a result are numbered within the loop."""

from __future__ import annotations

from textwrap import dedent

from orchestrator.model.step_number import (
    MAX_LOOP_STEPS,
    first_number_in_loop,
    number_fields,
    number_label,
)
from tests.projects import OrchProject

TASK = """
steps:
- {run: echo one two, register: r}
- run: echo {{ item }}
  loop: r.stdout.split()
- inner: {words: "{{ item }}"}
  loop: r.stdout.split()
- run: exit 5
  when: r.stdout == item
  loop: "{{ [r.stdout] }}"
"""
INNER = """
params: {words: {}}
steps:
- {run: "echo {{ words }} x", register: s}
- run: echo {{ item }}
  loop: s.stdout.split()
"""


def test_numbers_are_the_loop_s_and_the_place_in_it() -> None:
    assert [number_label(n) for n in (1, 7, MAX_LOOP_STEPS - 1)] == [
        "1",
        "7",
        str(MAX_LOOP_STEPS - 1),
    ]
    first = first_number_in_loop(2)
    assert [number_label(first), number_label(first + 9)] == ["2.1", "2.10"]
    assert number_label(first_number_in_loop(first + 1) + 2) == "2.2.3"
    assert number_fields(2) == {"step": 2}
    assert number_fields(first + 1) == {"step": 2, "substep": "2"}
    assert number_fields(first_number_in_loop(first + 1) + 2) == {"step": 2, "substep": "2.3"}


def test_they_are_told_so_everywhere(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": TASK, "tasks/inner.yml": INNER})
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert done.code == 1
    steps = [(s["step"], s.get("substep")) for s in done.host_steps("a1")]
    assert steps == [
        *((1, None), (2, "1"), (2, "2")),
        *((3, "1"), (3, "2.1"), (3, "2.2"), (3, "3"), (3, "4.1"), (3, "4.2")),
        (4, "1"),
    ]
    started = [(e["step"], e.get("substep")) for e in done.events if e["event"] == "step_started"]
    assert started == steps
    assert "in step 4.1 'exit 5" in done.host_rows["a1"]["reason"]
    plain = project.orch("-s", "dev", "run", "t", "-v")
    assert "step 3.4.2 inner › echo {{ item }} (x): changed" in plain.err
    kept = [f.read_text() for f in (project.root / ".orch/runs").rglob("*") if f.is_file()]
    logs = "".join(kept)
    assert "step 2.2: echo {{ item }} (two)" in logs
    assert "00000" not in "".join(part for part in logs.split() if part.startswith("step"))


def test_more_steps_than_there_are_numbers_are_refused(project: OrchProject) -> None:
    task = dedent("""\
            steps:
            - {run: echo 1, register: r}
            - {run: 'true', loop: '(range(100000) | list) + [r.stdout]'}
            - run: echo after
            """)
    project.add_sandbox_stage("a1").write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert done.code == 1
    assert f"`loop` expands to more than {MAX_LOOP_STEPS} steps" in done.host_rows["a1"]["reason"]


def test_the_items_of_a_loop_tell_the_number_of_the_first(project: OrchProject) -> None:
    task = """\
        steps:
        - run: echo before
        - {inner: {}, loop: [x]}
        - {name: each, run: 'test {{ item }} != 2', loop: [1, 2, 3], readonly: true}
        """
    inner = "steps: [{run: 'true', loop: [1, 2]}]\n"
    project.add_sandbox_stage("a1").write({"tasks/t.yml": task, "tasks/inner.yml": inner})
    done = project.orch("-s", "dev", "run", "t", "--json", "--keep-going")
    steps = [(step["step"], step.get("loop")) for step in done.host_steps("a1")]
    assert steps == [(1, None), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4)]
    junit = project.orch("report", "--junit", "-").out
    assert 'name="a1: each"' in junit
    assert 'tests="3" failures="1"' in junit
