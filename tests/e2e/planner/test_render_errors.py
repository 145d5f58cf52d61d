"""Templates that can never be rendered are reported before the run, also in pending steps."""

from __future__ import annotations

from tests.projects import OrchProject, OrchResult

TASK = """\
vars:
  names: [a, b]
  nested: {x: 1}
  zero: 0
  both: "{{ r.stdout }}{{ names }}"
  via: "{{ r.stdout }}x"
steps:
- run: echo one
  register: r
- set: {made: "{{ r.stdout }}"}
"""


def plan_errors(project: OrchProject, steps: str, *words: str) -> OrchResult:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": TASK + steps})
    return project.orch("-s", "dev", "plan", "t", *words)


def test_what_is_wrong_beside_a_result_is_told_by_the_plan_at_its_place(
    project: OrchProject,
) -> None:
    steps = """\
- run: echo "{{ r.stdout }} {{ names }}"
- run: echo {{ via }} x{{ names }}
- run: echo {{ r.stdout }} {{ nested.nope }}
- run: echo {{ r.stdout }} {{ 1 / zero }}
- copy: {path: x, content: "{{ made }}{{ names }}"}
- template: {path: x, src: t.j2}
- run: id
  chdir: "{{ r.stdout }}/{{ names }}"
- run: id
  environment: {A: "{{ r.stdout }}", B: "{{ r.stdout }}{{ names }}"}
- run: echo {{ item }} "{{ names }}"
  loop: r.stdout.split()
- run: echo {{ facts.os }} "{{ names }}"
"""
    project.write({"tasks/t.j2": "{{ r.stdout }}\n{{ names }}\n"})
    done = plan_errors(project, steps)
    assert done.code == 3
    lines = TASK.count("\n")
    for at in (1, 2, 3, 4, 5, 8, 10, 11, 13):
        assert f"tasks/t.yml:{lines + at}:" in done.err, at
    assert "tasks/t.j2:2:" in done.err


def test_stdin_and_arguments_of_called_tasks_are_looked_at(project: OrchProject) -> None:
    steps = """\
- run: cat
  stdin: "{{ r.stdout }}{{ nested }}"
- debug: {msg: "{{ r.stdout }} {{ names }}"}
"""
    done = plan_errors(project, steps)
    lines = TASK.count("\n")
    for at in (2, 3):
        assert f"tasks/t.yml:{lines + at}:" in done.err


def test_what_gives_a_name_its_value_is_looked_at_too(project: OrchProject) -> None:
    done = plan_errors(project, "- run: echo {{ both }}\n")
    assert "tasks/t.yml:5:" in done.err
    assert "a list or mapping inside a text" in done.err
    project.write(
        {"tasks/say.yml": "params: {what: {}}\nsteps: [{run: 'echo {{ what | upper }}'}]\n"}
    )
    done = plan_errors(project, '- say: {what: "{{ r.stdout }} {{ names }}"}\n')
    assert f"tasks/t.yml:{TASK.count(chr(10)) + 1}:" in done.err
    assert "a list or mapping inside a text" in done.err


def test_what_may_be_right_once_the_result_is_there_is_not_judged(project: OrchProject) -> None:
    steps = """\
- run: echo {{ r.stdout }} x{{ names }}
  when: r.changed and names is string
- run: echo {{ r.stdout }} {{ nested.nope }}
  when: [r.changed, nested.nope is defined]
- run: echo {{ r.stdout }} {% if r.changed %}x{{ names }}{% endif %}
- run: echo {{ r.stdout }} {% for one in r.stdout.split() %}x{{ names }}{% endfor %}
- run: echo {{ 'x' if r.changed else 'x' ~ names }}
- run: echo {{ r.stdout or 'x' ~ names }}
- run: echo {{ both if r.changed else '' }}
- run: echo {% set here = r.stdout %}{{ here }} {{ names | join(' ') }}
- run: echo {{ made }} {{ hosts['a1'].made }}
- say: {what: "{{ r.stdout }}{{ names }}"}
"""
    project.write(
        {"tasks/say.yml": "params: {what: {}}\nsteps: [{run: 'echo {{ r.stdout or what }}'}]\n"}
    )
    done = plan_errors(project, steps)
    assert (done.code, done.err) == (0, "")


def test_a_run_stops_before_its_first_step(project: OrchProject) -> None:
    plan_errors(project, '- run: echo "{{ r.stdout }} {{ names }}"\n')
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert not (project.root / ".orch").exists()
