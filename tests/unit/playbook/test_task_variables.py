"""Variables of tasks in files: ``vars_files``, and ``vars.yml`` of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.playbook import load_tasks
from tests.projects import OrchProject


def write(root: Path, files: dict[str, str]) -> None:
    OrchProject(root).write(files)


def variables(root: Path, name: str) -> dict[str, object]:
    return {k: v.to_plain() for k, v in load_tasks(root, [name]).by_name[name].vars.items()}


def test_files_override_the_tasks_own_vars_which_override_those_of_folders(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "tasks/vars.yml": "a: top\nb: top\nc: top\nd: top\n",
            "tasks/x/vars.yml": "b: folder\nc: folder\nd: folder\n",
            "tasks/x/t.yml": "vars: {c: own, d: own}\nvars_files: [x/more.yml, y/z.yml]\nsteps: [run: id]\n",
            "x/more.yml": "d: beside\n",
            "y/z.yml": "e: project\n",
            "tasks/u.yml": "steps: [run: id]\n",
        },
    )
    expected = {"a": "top", "b": "folder", "c": "own", "d": "beside", "e": "project"}
    assert variables(tmp_path, "x:t") == expected
    assert variables(tmp_path, "u") == dict.fromkeys("abcd", "top")


def test_a_file_of_variables_is_not_a_task(tmp_path: Path) -> None:
    write(tmp_path, {"tasks/vars.yml": "a: 1\n", "tasks/t.yml": "steps: [run: id]\n"})
    assert list(load_tasks(tmp_path, None).index.files) == ["t"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.yml", "the file 'nothing.yml' does not exist"),
        ("tasks/t.yml", "the file 'tasks/t.yml' is below tasks/, where it would be a task"),
        ("../outside.yml", "the file '../outside.yml' is outside of the project"),
        ("'{{ stage.name }}.yml'", "no file has variables for '{{ stage.name }}.yml'"),
        ("'{{ a }.yml'", "only expressions in {{ }} are allowed in a name of vars_files"),
        (
            "'{% if a %}{{ a }}.yml'",
            "only expressions in {{ }} are allowed in a name of vars_files",
        ),
        (
            "[[x.yml, '{{ a }}-{{ b }}.yml']]",
            "no file has variables for 'x.yml', '{{ a }}-{{ b }}.yml'",
        ),
        ("'../out{{ a }}.yml'", "the file '../outside.yml' is outside of the project"),
        ("'tasks/{{ a }}.yml'", "the file 'tasks/t.yml' is below tasks/, where it would be a task"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_at_its_name(
    tmp_path: Path, name: str, message: str
) -> None:
    names = name if name.startswith("[[") else f"[{name}]"
    write(tmp_path / "p", {"tasks/t.yml": f"steps: [run: id]\nvars_files: {names}\n"})
    write(tmp_path, {"p/outside.yml": "a: 1\n", "outside.yml": "a: 1\n"})
    (tmp_path / "p/outside.yml").unlink()
    with pytest.raises(DefinitionError) as caught:
        load_tasks(tmp_path / "p", None)
    found = caught.value.diagnostics[0]
    assert found.message == message
    column = 15 if name.startswith("[[") else 14
    assert found.mark and (found.mark.line, found.mark.column) == (2, column)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("host: 1\n", "'host' in 'vars.yml' cannot name a variable", 1),
        ("a: 1\nsteps: [run: id]\n", "'vars.yml' holds variables, and this looks like a task", 1),
        ("- a\n", "'vars.yml' must be a mapping", 1),
    ],
)
def test_variables_in_error_are_told_in_their_file(
    tmp_path: Path, text: str, message: str, line: int
) -> None:
    write(tmp_path, {"tasks/vars.yml": text, "tasks/t.yml": "steps: [run: id]\n"})
    with pytest.raises(DefinitionError) as caught:
        load_tasks(tmp_path, ["t"])
    (found,) = caught.value.diagnostics
    assert message in found.message
    assert found.mark and (Path(found.mark.path).name, found.mark.line) == ("vars.yml", line)
