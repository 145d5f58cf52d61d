"""`orch run` in jobs of GitHub Actions and GitLab CI."""

from __future__ import annotations

import pytest

from orchestrator.commands.reports import MAX_SUMMARY_BYTES, shorten_summary
from tests.projects import OrchProject

GITHUB = {"CI": "true", "GITHUB_ACTIONS": "true"}


@pytest.fixture
def tasks(project: OrchProject) -> OrchProject:
    project.add_sandbox_stage("web1", "web2")
    return project.write(
        {
            "tasks/t.yml": """\
                steps:
                - run: 'echo "##[add-path]/evil"; echo "::add-mask::x"'
                - {name: check it, run: 'test {{ host.name }} != web2', readonly: true}
                """
        }
    )


def test_a_job_of_github_has_groups_annotations_and_a_summary(tasks: OrchProject) -> None:
    summary = tasks.root / "summary.md"
    summary.write_text("## Before\n")
    workspace = {"GITHUB_WORKSPACE": str(tasks.root.parent), "GITHUB_STEP_SUMMARY": str(summary)}
    run = tasks.orch("-s", "dev", "run", "t", "--keep-going", **GITHUB, **workspace)
    assert run.code == 1
    lines = [line for line in run.out.splitlines() if line.startswith("::")]
    assert lines[:2] == ["::group::t on 2 hosts", "::endgroup::"]
    assert lines[2:] == [
        "::error file=project/tasks/t.yml,line=3,col=3,title=t › check it::"
        "web2: failed: exit status 1"
    ]
    assert "web1 | ## [add-path]/evil" in run.out
    text = summary.read_text()
    assert text.startswith("## Before\n## dev: t\n")
    assert "- `web2` failed: exit status 1" in text
    again = {"ORCH_CI": "0"}
    run = tasks.orch("-s", "dev", "run", "t", "-l", "web1", **GITHUB, **workspace, **again)
    assert "::group" not in run.out + run.err
    assert "web1 | ## [add-path]/evil" in run.out
    assert summary.read_text() == text


def test_a_summary_that_cannot_be_written_is_a_warning_and_the_run_has_its_result(
    tasks: OrchProject,
) -> None:
    nowhere = {"GITHUB_STEP_SUMMARY": str(tasks.root / "no" / "such")}
    run = tasks.orch("-s", "dev", "run", "t", "-l", "web1", **GITHUB, **nowhere)
    assert run.code == 0
    assert "warning: the job has no summary of the run: No such file or directory" in run.err


def test_recorded_outputs_are_no_commands_either(tasks: OrchProject) -> None:
    tasks.orch("-s", "dev", "run", "t", "-l", "web1", "--output", "folded")
    for words in (("show", "--output"), ("search", "add-"), ("report", "--markdown", "-")):
        shown = tasks.orch(*words, **GITHUB)
        assert shown.code == 0
        assert "##[" not in shown.out
        assert not any(line.lstrip().startswith("::") for line in shown.out.splitlines())


def test_a_summary_is_cut_to_what_github_accepts() -> None:
    text = "".join(f"- line {number} \u00e4\n" for number in range(200_000))
    cut = shorten_summary(text, MAX_SUMMARY_BYTES)
    assert MAX_SUMMARY_BYTES - 200 < len(cut.encode()) <= MAX_SUMMARY_BYTES
    assert cut.endswith("`orch report` has all of it._\n")
    assert cut.startswith("- line 0 \u00e4\n- line 1 \u00e4\n")
    assert shorten_summary(text, 10) == shorten_summary(text, -5) == ""
    assert shorten_summary("a\n", 10) == "a\n"
