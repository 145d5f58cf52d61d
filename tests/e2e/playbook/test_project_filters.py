"""Filters of the project on the command line: runs, secrets, lint and `orch doc filters`."""

from __future__ import annotations

import json

import pytest

from tests.projects import OrchProject

FILTERS = '''\
def backwards(text):
    """The text from its end to its beginning."""
    print("seen")
    return text[::-1]

def refuse(text):
    raise RuntimeError(f"not {text[::-1]}")

def wrong(text):
    return {(text[::-1], 1): 1}
'''
PASSWORD = "hunter2222"


@pytest.fixture
def filters(project: OrchProject) -> OrchProject:
    project.add_sandbox_stage("a1")
    return project.write(
        {
            "inventories/dev/stage.yml": f"""\
                connect: {{transport: sandbox}}
                vars:
                  word: "{{{{ 'abc' | backwards }}}}"
                  password: !secret {{command: [echo, {PASSWORD}]}}
            """,
            "tasks/filters/texts.py": FILTERS,
            "tasks/t.yml": "desc: t\nsteps: [{run: 'echo {{ word }} {{ password | backwards }}'}]\n",
        }
    )


def test_a_run_uses_filters_and_hides_what_they_make_of_a_secret(filters: OrchProject) -> None:
    done = filters.orch("-s", "dev", "run", "t", "--json")
    events = [json.loads(line) for line in done.out.splitlines()]  # `print` is not among them
    assert [e["stdout"] for e in events if e["event"] == "step_finished"] == ["cba ‹password›"]
    assert "seen" in done.err
    assert PASSWORD[::-1] not in done.out + done.err


@pytest.mark.parametrize("name", ["refuse", "wrong"])
def test_the_error_of_a_filter_hides_what_it_says_of_a_secret(
    filters: OrchProject, name: str
) -> None:
    filters.write({"tasks/t.yml": f"steps: [{{run: 'echo {{{{ password | {name} }}}}'}}]\n"})
    done = filters.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert f"error: filter '{name}' " in done.err
    assert PASSWORD[::-1] not in done.out + done.err
    filters.write({"tasks/t.yml": f"steps: [{{run: 'echo {{{{ word | {name} }}}}'}}]\n"})
    done = filters.orch("-s", "dev", "run", "t")
    assert "abc" in done.err
    assert "--> tasks/t.yml:1:31" in done.err


def test_lint_knows_the_filters_and_reports_their_files(filters: OrchProject) -> None:
    done = filters.orch("lint")
    assert done.out.splitlines()[-1] == "no errors"
    assert "seen" in done.err  # the value of `word` is checked
    filters.write(
        {"tasks/t.yml": "desc: t\nvars: {x: '{{ 1 | refuze }}'}\nsteps: [{run: 'echo {{ x }}'}]\n"}
    )
    done = filters.orch("lint")
    assert "there is no filter 'refuze'" in done.err
    assert "did you mean 'refuse'?" in done.err
    filters.write({"tasks/filters/broken.py": "def a(:\n"})
    done = filters.orch("lint")
    assert done.code == 3
    assert done.err.count("error: ") == 1
    assert "error: invalid Python: invalid syntax" in done.err
    assert "--> tasks/filters/broken.py:1:7" in done.err


def test_doc_lists_the_filters_of_the_project(filters: OrchProject) -> None:
    done = filters.orch("doc", "filters")
    shown = done.out.partition("Filters: ")[0]
    assert "Filters of the project:" in shown
    assert "backwards  The text from its end to its beginning (tasks/filters/texts.py)" in shown
    assert "wrong      tasks/filters/texts.py" in shown
    assert "seen" not in done.err
    (filters.root / "tasks/filters/texts.py").unlink()
    assert "Filters of the project" not in filters.orch("doc", "filters").out


def test_what_only_lists_runs_no_filter_file(filters: OrchProject) -> None:
    filters.write({"tasks/filters/texts.py": f"{FILTERS}\nraise SystemExit('it ran')\n"})
    for command in (("tasks",), ("doc", "t"), ("doc", "filters"), ("stages",)):
        done = filters.orch(*command)
        assert "it ran" not in done.out + done.err
        assert done.code == 0
