"""Unknown tags, handlers and tasks are errors before any host is contacted."""

from __future__ import annotations

import pytest

from tests.projects import OrchProject, OrchResult

FILES = {
    "tasks/t.yml": """\
        steps:
        - {run: echo one, tags: [fast]}
        - {run: echo two, notify: restart}
        - block: [{run: echo three, tags: [inner]}]
        - {run: echo four, tags: [never, rare]}
        handlers:
          restart: [{run: echo restarted, tags: [late]}]
        rollback: [{run: echo back, tags: [back]}]
        """,
    "tasks/u.yml": """\
        tags: [whole]
        tasks:
        - {name: group, tags: [item], steps: [{run: echo u}], handlers: {reload: [{run: echo r}]}}
        """,
}


@pytest.fixture
def project(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write(FILES)


def run_task(project: OrchProject, *words: str) -> OrchResult:
    return project.orch("-s", "dev", "run", *words)


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("--tags", "fats"), "no task file has the tag 'fats'", "did you mean 'fast'?"),
        (("--skip-tags", "hole"), "no task file has the tag 'hole'", "did you mean 'whole'?"),
        (("-t", "fast,itme"), "no task file has the tag 'itme'", "did you mean 'item'?"),
        (("--tags", "zzz"), "no task file has the tag 'zzz'", "tags: back, fast, inner, item"),
        (("--tags", "restart"), "no task file has the tag 'restart'", "tags: "),
        (("--handler", "restat"), "no task file has the handler 'restat'", "'restart'?"),
        (("--handler", "fast"), "no task file has the handler 'fast'", "handlers: reload, restart"),
        (("--handler", ""), "no task file has the handler ''", "handlers: reload, restart"),
        (("--start-at", "tt"), "no scheduled task is named 'tt'", "did you mean 't'?"),
    ],
)
def test_a_name_that_no_file_has_is_an_error_with_the_nearest(
    project: OrchProject, words: tuple[str, ...], what: str, hint: str
) -> None:
    for verb in ("run", "plan"):
        done = project.orch("-s", "dev", verb, "t", *words)
        assert done.code == 3
        assert what in done.err
        assert hint in done.err
        assert done.out == ""
    assert not (project.root / ".orch").exists()


@pytest.mark.parametrize("option", ["--tags", "--skip-tags"])
@pytest.mark.parametrize("value", ["", " ", "fast,", ",fast", "fast,,inner"])
def test_an_empty_tag_is_an_error_and_never_everything(
    project: OrchProject, option: str, value: str
) -> None:
    done = run_task(project, "t", option, value)
    assert (done.code, done.out) == (2, "")
    assert f"{option} needs the name of a tag" in done.err


@pytest.mark.parametrize(
    ("words", "outputs"),
    [
        (("--tags", "fast"), ["one"]),
        (("--tags", "inner,fast"), ["one", "three"]),
        (("--tags", "never"), ["four"]),
        (("--tags", "rare"), ["four"]),
        (("--tags", "always"), []),
        (("--skip-tags", "late,never"), ["one", "two", "three"]),
        (("--handler", "restart"), ["restarted"]),
    ],
)
def test_names_that_the_run_has_choose(
    project: OrchProject, words: tuple[str, ...], outputs: list[str]
) -> None:
    done = run_task(project, "t", *words, "--json")
    assert done.code == 0
    assert not [event for event in done.events if event["event"] == "warned"]
    output = [step["stdout"] for step in done.host_steps("a1") if step["status"] == "changed"]
    assert output == outputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tags", "whole"), "--tags whole: no task of this run has the tag 'whole'"),
        (("--tags", "fast,item"), "--tags item: no task of this run has the tag 'item'"),
        (("--handler", "reload"), "--handler reload: no task of this run has the handler 'reload'"),
    ],
)
def test_names_that_only_other_tasks_have_are_told(
    project: OrchProject, words: tuple[str, ...], message: str
) -> None:
    done = run_task(project, "t", *words)
    assert done.code == 0
    assert f"warning: {message}" in done.err


def test_a_file_that_cannot_be_read_might_have_the_name(project: OrchProject) -> None:
    project.write({"tasks/broken.yml": "steps: [{run: }\n"})
    assert run_task(project, "t", "--tags", "fast").code == 0
    done = run_task(project, "t", "--tags", "fats")
    assert done.code == 3
    assert "tasks/broken.yml:" in done.err
