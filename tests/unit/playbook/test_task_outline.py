"""The names that completion reads from task files are those of the loaded tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import playbook
from orchestrator.playbook.task_index import index_tasks
from orchestrator.playbook.task_loader import collect_handlers, collect_tags, effective_params
from orchestrator.playbook.task_outline import TaskOutlines
from tests.projects import OrchProject

ROOT = Path(__file__).parents[3]
INDEX = index_tasks(ROOT)


@pytest.mark.parametrize("name", INDEX.all_names())
def test_the_params_are_those_that_the_task_accepts(name: str) -> None:
    loaded = playbook.load_tasks(ROOT, [name])
    written = _args_written_by_playbooks(name, loaded)
    assert set(TaskOutlines(INDEX).params(name)) | written == (
        effective_params(loaded.by_name[name], loaded.by_name) | written
    )


def _args_written_by_playbooks(name: str, loaded: playbook.LoadedTasks) -> set[str]:
    """Return params that a playbook sets: it accepts them, but has no use for them."""
    calls = [call for task in loaded.by_name.values() for call in task.all_calls()]
    return {key for call in calls for key in call.args} if loaded.by_name[name].tasks else set()


def test_all_tags_and_handlers_of_the_recipe_are_found() -> None:
    loaded = playbook.load_tasks(ROOT, None).by_name.values()
    outlines = TaskOutlines(INDEX)
    assert set(outlines.tags(INDEX.files)) == collect_tags(loaded)
    assert set(outlines.handlers(INDEX.files)) == collect_handlers(loaded)


def test_choices_and_booleans_have_values(project: OrchProject) -> None:
    project.write(
        {
            "tasks/t.yml": """\
                params:
                  a: {choices: [1, two, true], help: "One
                    of three"}
                  b: {type: bool}
                  c: {}
                steps: [{run: id}]
                """
        }
    )
    params = TaskOutlines(index_tasks(project.root)).params("t")
    assert [param.values for param in params.values()] == [
        *(("1", "two", "true"), ("true", "false")),
        (),
    ]
    assert params["a"].help == "One of three"


@pytest.mark.parametrize(
    "text",
    ["[", "- a\n", "params: [a]\n", "params: {a: 1}\nsteps: {a: b}\ntasks: 3\ntags: 5\n", ""],
)
def test_a_file_of_another_form_is_no_error(project: OrchProject, text: str) -> None:
    project.write({"tasks/t.yml": text})
    outlines = TaskOutlines(index_tasks(project.root))
    assert set(outlines.params("t")) <= {"a"}
    assert (outlines.tags(["t"]), outlines.handlers(["t"])) == ([], [])
    assert outlines.scheduled(["t", "nope"]) == ["t"]


def test_playbooks_that_name_each_other_are_read_once_each(project: OrchProject) -> None:
    names = [f"t{number}" for number in range(30)]
    listed = ", ".join(names)
    project.write({f"tasks/{n}.yml": f"params: {{p{n}: {{}}}}\ntasks: [{listed}]\n" for n in names})
    outlines = TaskOutlines(index_tasks(project.root))
    assert set(outlines.params("t0")) == {f"p{name}" for name in names}
    assert set(outlines.scheduled(["t0"])) == set(names)
