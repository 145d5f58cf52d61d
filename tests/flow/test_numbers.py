"""The steps that a loop over a result unfolds into are numbered within the loop."""

from __future__ import annotations

from orchestrator.model.step_number import SPAN, fields, first_within, label
from tests.projects import Project

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
    assert [label(n) for n in (1, 7, SPAN - 1)] == ["1", "7", str(SPAN - 1)]
    first = first_within(2)
    assert [label(first), label(first + 9)] == ["2.1", "2.10"]
    assert label(first_within(first + 1) + 2) == "2.2.3"
    assert fields(2) == {"step": 2}
    assert fields(first + 1) == {"step": 2, "substep": "2"}
    assert fields(first_within(first + 1) + 2) == {"step": 2, "substep": "2.3"}


def test_they_are_told_so_everywhere(project: Project) -> None:
    project.sandbox("a1").write({"tasks/t.yml": TASK, "tasks/inner.yml": INNER})
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert done.code == 1
    steps = [(s["step"], s.get("substep")) for s in done.steps("a1")]
    assert steps == [
        *((1, None), (2, "1"), (2, "2")),
        *((3, "1"), (3, "2.1"), (3, "2.2"), (3, "3"), (3, "4.1"), (3, "4.2")),
        (4, "1"),
    ]
    started = [(e["step"], e.get("substep")) for e in done.events if e["event"] == "step_started"]
    assert started == steps
    assert "in step 4.1 'exit 5" in done.rows["a1"]["reason"]
    plain = project.orch("-s", "dev", "run", "t", "-v")
    assert "step 3.4.2 inner › echo {{ item }} (x): changed" in plain.err
    kept = [f.read_text() for f in (project.root / ".orch/runs").rglob("*") if f.is_file()]
    logs = "".join(kept)
    assert "step 2.2: echo {{ item }} (two)" in logs
    assert "00000" not in "".join(part for part in logs.split() if part.startswith("step"))


def test_more_steps_than_there_are_numbers_are_refused(project: Project) -> None:
    task = (
        "steps:\n- {run: echo 1, register: r}\n"
        "- {run: 'true', loop: '(range(100000) | list) + [r.stdout]'}\n- run: echo after\n"
    )
    project.sandbox("a1").write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert done.code == 1
    assert f"`loop` gives more than {SPAN} steps" in done.rows["a1"]["reason"]
