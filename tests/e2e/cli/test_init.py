"""`orch init`: a new project, what an existing one lacks, and recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.projects import OrchProject


def folder_contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(root).parts
    }


@pytest.fixture
def shop(project: OrchProject) -> OrchProject:
    return project.write(
        {
            "inventories/live/hosts.yml": "web1:",
            "tasks/deploy.yml": "steps: [{run: id, readonly: true}]\n",
            ".gitignore": "*.pyc",
        }
    )


def test_a_project_gets_what_it_lacks_and_no_file_is_changed(shop: OrchProject) -> None:
    before = folder_contents(shop.root)
    done = shop.orch("init", "-s", "dev", "-s", "live")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "added .orch/ to .gitignore",
        "created inventories/common/stage.yml",
        "kept tasks/",
        "created inventories/dev/stage.yml",
        "created inventories/dev/roles/web.yml",
        "created inventories/dev/hosts/web1.yml",
        "created inventories/dev/hosts/web2.yml",
        "kept inventories/live/",
        "created .orch/schemas/: JSON Schemas for editors",
        "next: orch -s dev hosts",
    ]
    after = folder_contents(shop.root)
    assert after.pop(".gitignore") == b"*.pyc\n.orch/\n"
    del before[".gitignore"]
    assert before.items() <= after.items()
    assert shop.orch("lint").code == 0
    assert shop.orch("-s", "dev", "exec", "--", "true").code == 0


def test_the_second_time_changes_nothing(shop: OrchProject) -> None:
    shop.orch("init", "-s", "dev")
    before = folder_contents(shop.root)
    done = shop.orch("init", "-s", "dev")
    assert done.code == 0
    assert not [line for line in done.out.splitlines() if line.startswith(("created", "added"))]
    assert folder_contents(shop.root) == before


def test_a_new_project_completed_is_not_changed_either(project: OrchProject) -> None:
    demo = OrchProject(project.root.parent / "demo")
    assert project.orch("init", "../demo").code == 0
    before = folder_contents(demo.root)
    assert demo.orch("init").code == 0
    assert demo.orch("init", "--add", "deploy").code == 0
    assert folder_contents(demo.root) == before
    assert demo.orch("init", "-s", "staging").code == 0
    assert demo.orch("lint").out == "no errors\n"


def test_a_default_stage_is_not_given_to_a_project_that_has_stages(shop: OrchProject) -> None:
    shop.orch("init")
    assert shop.orch("hosts").code == 2
    assert "No stage specified" in shop.orch("hosts").err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b".orch/\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n.orch/\r\n"),
        (b"a", b"a\n.orch/\n"),
        (b"\xff\n", b"\xff\n.orch/\n"),
        (b"/.orch\n", b"/.orch\n"),
        (b"a\r\n.orch/ \r\n", b"a\r\n.orch/ \r\n"),
    ],
)
def test_gitignore_gets_one_line_unless_it_has_one(
    shop: OrchProject, old: bytes, new: bytes
) -> None:
    (shop.root / ".gitignore").write_bytes(old)
    shop.orch("init")
    assert (shop.root / ".gitignore").read_bytes() == new


def test_stages_can_be_separated_by_commas(shop: OrchProject) -> None:
    assert shop.orch("init", "-s", "dev, staging", "-s", "prod").code == 0
    assert shop.orch("stages", "--json").out.count('"stage"') == 4
    assert "invalid stage name ''" in shop.orch("init", "-s", "dev,").err


def test_an_empty_project_gets_a_first_task_and_the_default_stages(project: OrchProject) -> None:
    done = project.orch("init")
    assert done.code == 0
    assert "created tasks/uname.yml" in done.out
    assert project.orch("run", "uname").code == 0
    assert not (project.root / "apps").exists()


def test_the_gitignore_of_a_new_project_folder_keeps_its_lines(project: OrchProject) -> None:
    folder = project.root.parent / "fresh"
    folder.mkdir()
    (folder / ".gitignore").write_text("secret.txt\n")
    assert project.orch("init", "-s", "dev", str(folder)).code == 0
    assert (folder / ".gitignore").read_text() == "secret.txt\n.orch/\n"


def test_inside_a_project_it_does_not_guess_which_folder_is_meant(shop: OrchProject) -> None:
    done = shop.orch("init", cwd=shop.root / "tasks")
    assert done.code == 2
    assert "`orch init ..` adds to that project" in done.err
    assert not (shop.root / "tasks/inventories").exists()


def test_a_recipe_is_added_and_the_files_of_the_same_name_are_kept(shop: OrchProject) -> None:
    own = (shop.root / "tasks/deploy.yml").read_bytes()
    done = shop.orch("init", "--add", "deploy", cwd=shop.root / "tasks")
    assert done.code == 0
    assert "kept deploy.yml, which differs from the recipe's" in done.out
    assert "created deploy/publish.yml" in done.out
    assert (shop.root / "tasks/deploy.yml").read_bytes() == own
    assert not (shop.root / ".gitignore").read_text().count("orch")
    again = shop.orch("init", "--add", "deploy")
    assert "kept tasks/deploy/publish.yml\n" in again.out
    assert shop.orch("lint").code == 0


def test_a_file_with_the_other_suffix_counts_as_the_recipe_s(shop: OrchProject) -> None:
    (shop.root / "tasks/deploy.yml").rename(shop.root / "tasks/deploy.yaml")
    assert "kept tasks/deploy.yaml" in shop.orch("init", "--add", "deploy").out
    assert not (shop.root / "tasks/deploy.yml").exists()


def test_an_unknown_recipe_is_an_error_with_the_nearest(shop: OrchProject) -> None:
    done = shop.orch("init", "--add", "dploy")
    assert done.code == 2
    assert "it can add: deploy" in done.err
    assert "did you mean 'deploy'?" in done.err
    assert not (shop.root / "tasks/deploy").exists()


def test_a_recipe_needs_a_project(project: OrchProject) -> None:
    done = project.orch("init", "--add", "deploy", cwd=project.root.parent)
    assert done.code == 2
    assert "`orch init DIR` creates a new one" in done.err


@pytest.mark.parametrize("stage", ["common", "-x", "a/b", "a b", ""])
def test_an_invalid_stage_is_refused_before_anything_is_written(
    shop: OrchProject, stage: str
) -> None:
    before = folder_contents(shop.root)
    done = shop.orch("init", f"--stage={stage}")
    assert done.code == 2
    assert f"invalid stage name '{stage}'" in done.err
    assert folder_contents(shop.root) == before


@pytest.mark.parametrize(
    "words",
    [
        "run x",
        "exec -- x",
        "plan x",
        "stages",
        "hosts",
        "tasks",
        "tasks --tree",
        "doc x",
        "vars x",
        "lint",
        "doctor",
        "lock status",
        "new task x",
        "new host x",
        "new app x",
    ],
)
def test_without_a_project_every_command_names_init(project: OrchProject, words: str) -> None:
    done = project.orch(*words.split(), cwd=project.root.parent)
    assert done.code == 2
    assert "`orch init DIR` creates a new one" in done.err
    done = project.orch("-C", str(project.root.parent), *words.split())
    assert done.code == 2
    assert f"`orch init {project.root.parent}` creates a project there" in done.err


def test_editors_find_the_schema_of_every_file_that_is_written(project: OrchProject) -> None:
    demo = OrchProject(project.root.parent / "demo")
    assert project.orch("init", "../demo").code == 0
    assert demo.orch("new", "task", "deploy:warm").code == 0
    assert demo.orch("new", "host", "web9", "-s", "dev").code == 0
    written = [*demo.root.glob("tasks/**/*.yml"), *demo.root.glob("inventories/**/*.yml")]
    assert len(written) > 20
    for path in written:
        first = path.read_text().partition("\n")[0]
        name = first.removeprefix("# yaml-language-server: $schema=")
        assert name != first, path
        kind = json.loads((path.parent / name).read_text())["title"].removeprefix("orch: ")
        folder = path.parent.name
        assert kind == {"roles": "role", "hosts": "host", "apps": "app"}.get(
            folder, "stage" if path.name == "stage.yml" else "task"
        )
    schema = json.loads((demo.root / ".orch/schemas/task.json").read_text())
    assert "deploy:warm" in schema["$defs"]["step"]["else"]["then"]["enum"]
