"""Invalid variables of an app are rejected before anything runs, with their position."""

from __future__ import annotations

import json

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import APP, make_small_app

FILE = "inventories/dev/apps/blog.yml"


def refused_errors(project: OrchProject, **variables: object) -> str:
    """Return the errors of a deploy with these variables in addition; None removes a variable."""
    usual = {**APP, "folder": "app", **variables}
    output = {name: value for name, value in usual.items() if value is not None}
    lines = [f"  {name}: {json.dumps(value)}\n" for name, value in output.items()]
    project.write({FILE: "vars:\n" + "".join(lines)})
    done: OrchResult = project.orch("-s", "dev", "run", "deploy", "--app", "blog")
    assert done.code == 3, done.out + done.err
    assert not (project.root / ".orch/runs").exists()
    assert f"{FILE}:" in done.err
    return done.err


def variable_position(project: OrchProject, name: str) -> str:
    """Return the position of a variable's name in the app's file."""
    lines = (project.root / FILE).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.startswith(f"  {name}:"))
    return f"{FILE}:{number}:"


@pytest.mark.parametrize("to", ["rel", "./rel", "apps/rel", "~web/rel", ""])
def test_a_relative_folder(project: OrchProject, to: str) -> None:
    output = refused_errors(make_small_app(project), deploy_to=to)
    assert "'deploy_to' must be" in output
    assert variable_position(project, "deploy_to") in output


def test_no_folder(project: OrchProject) -> None:
    assert "app 'blog' has no deploy_to" in refused_errors(make_small_app(project), deploy_to=None)


def test_no_source(project: OrchProject) -> None:
    output = refused_errors(make_small_app(project), folder=None)
    assert "app 'blog' needs repository, archive or folder, but none of them is set" in output
    output = refused_errors(project, folder=None, repo="git@example.com:us/blog.git")
    assert "'repo' is not known: did you mean 'repository'?" in output
    assert variable_position(project, "repo") in output


def test_two_sources(project: OrchProject) -> None:
    output = refused_errors(make_small_app(project), repository="git@example.com:us/blog.git")
    assert "app 'blog' has repository and folder, but only one of them is allowed" in output


@pytest.mark.parametrize("name", ["linked_dirs", "linked_files"])
@pytest.mark.parametrize(
    "path",
    [
        *("", "a/../../x"),
        *(pytest.param(path, marks=pytest.mark.long) for path in (".", "../x", "/etc", "~/x")),
    ],
)
def test_what_is_shared_and_leads_out_of_the_release(
    project: OrchProject, name: str, path: str
) -> None:
    output = refused_errors(make_small_app(project), **{name: ["some", path]})
    assert f"'{name}' must" in output
    assert "as item 2" in output
    assert variable_position(project, name) in output


@pytest.mark.parametrize("path", ["../x", "/etc/x", "", None])
def test_a_template_that_leads_out_of_the_release(project: OrchProject, path: str | None) -> None:
    one = {"src": "app/conf.j2", "path": "conf"}
    other = {**one, "path": path} if path is not None else {"src": "app/conf.j2"}
    project.write({FILE: ""})
    text = json.dumps({"vars": {**APP, "folder": "app", "templates": [one, other]}})
    make_small_app(project).write({FILE: text})
    done = project.orch("-s", "dev", "run", "deploy", "--app", "blog")
    assert done.code == 3, done.out + done.err
    assert not (project.root / ".orch/runs").exists()
    assert "param 'path' of task 'deploy:template'" in done.err or path is None
    assert ("below its folder" if path is not None else "'item.path' is undefined") in done.err


@pytest.mark.parametrize(
    ("dirs", "files", "what"),
    [
        (["log", "log"], [], "'log' of linked_dirs is given twice"),
        (["public/up", "public"], [], "'public/up' of linked_dirs is inside 'public'"),
        (["config"], ["config/key"], "'config/key' of linked_files is inside 'config'"),
    ],
)
def test_what_is_shared_twice(
    project: OrchProject, dirs: list[str], files: list[str], what: str
) -> None:
    assert what in refused_errors(make_small_app(project), linked_dirs=dirs, linked_files=files)


@pytest.mark.parametrize(
    ("name", "value"), [("keep", "many"), ("health_port", "http"), ("submodules", "maybe")]
)
def test_values_of_another_type(project: OrchProject, name: str, value: str) -> None:
    output = refused_errors(make_small_app(project), **{name: value})
    assert f"'{name}' must be" in output
    assert variable_position(project, name) in output


def test_a_command_that_says_no(project: OrchProject) -> None:
    output = refused_errors(make_small_app(project), health_command="false")
    assert "health_command is the text 'false'" in output
    assert variable_position(project, "health_command") in output


def test_an_archive_that_is_not_there(project: OrchProject) -> None:
    output = refused_errors(
        make_small_app(project), folder=None, archive="blog.tar.gz", build_local=None
    )
    assert "also not found: blog.tar.gz" in output
    assert variable_position(project, "archive") in output
