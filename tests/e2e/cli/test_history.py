"""`orch history` and `orch show`: what recorded runs did."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.projects import OrchProject


@pytest.fixture
def recorded(project: OrchProject) -> OrchProject:
    """Return a project with two runs: one that was good, and one that failed on web2."""
    project.add_sandbox_stage("web1", "web2")
    project.write(
        {
            "tasks/t.yml": """\
                params: {word: {default: hello}}
                steps:
                - {name: greet, run: 'echo {{ word }}'}
                - {name: check it, run: 'test {{ host.name }} != {{ word }}', readonly: true}
                """
        }
    )
    assert project.orch("-s", "dev", "run", "t").code == 0
    assert project.orch("-s", "dev", "run", "t", "word=web2", "--keep-going").code == 1
    return project


def history(project: OrchProject, *words: str) -> list[dict[str, object]]:
    found = json.loads(project.orch("history", "--json", *words).out)
    assert isinstance(found, list)
    return found


def test_history_lists_runs_newest_first_with_what_became_of_the_hosts(
    recorded: OrchProject,
) -> None:
    lines = recorded.orch("history").out.splitlines()
    assert [line.split()[4:6] for line in lines[1:]] == [["dev", "t"], ["dev", "t"]]
    assert lines[1].endswith("1 changed, 1 failed")
    assert lines[2].endswith("2 changed")


def test_history_tells_who_started_a_run_and_how(recorded: OrchProject) -> None:
    run, _ = history(recorded)
    assert run["argv"] == ["-s", "dev", "run", "t", "word=web2", "--keep-going"]
    assert run["user"]
    assert run["statuses"] == {"changed": 1, "failed": 1}
    assert run["commit"] == ""


def test_history_tells_the_commit_of_the_project_and_whether_files_differed(
    recorded: OrchProject,
) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "tasks", "inventories"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], cwd=recorded.root, check=True)
    recorded.orch("-s", "dev", "run", "t")
    recorded.write({"tasks/t.yml": "steps: [{run: 'true'}]\n"})
    recorded.orch("-s", "dev", "run", "t")
    changed, clean, *_ = history(recorded)
    assert len(str(clean["commit"])) == 40
    assert (clean["is_dirty"], changed["is_dirty"]) == (False, True)
    assert ", with changed files" in recorded.orch("show").out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--status", "failed"), 1),
        (("--status", "ok"), 1),
        (("--host", "web1"), 2),
        (("--host", "web9"), 0),
        (("--task", "other"), 0),
        (("-s", "dev"), 2),
        (("-s", "prod"), 0),
        (("--since", "1h"), 2),
        (("-n", "1"), 1),
        (("--app", "blog"), 0),
    ],
)
def test_history_selects_runs(recorded: OrchProject, words: tuple[str, ...], count: int) -> None:
    assert len(history(recorded, *words)) == count


def test_as_many_runs_are_kept_as_the_project_says(recorded: OrchProject) -> None:
    before = [run["run"] for run in history(recorded)]
    recorded.write({"inventories/common/stage.yml": "keep_runs: 2\n"})
    recorded.orch("-s", "dev", "run", "t")
    assert [run["run"] for run in history(recorded)][1:] == before[:1]


def test_an_index_that_is_damaged_is_not_used_and_is_written_anew(recorded: OrchProject) -> None:
    listed = recorded.orch("history")
    assert listed.err == ""
    (recorded.root / ".orch" / "history.db").write_bytes(b"not a database" * 1000)
    again = recorded.orch("history")
    assert again.out == listed.out
    assert again.err == (
        "warning: the index of runs, history.db, is not used: file is not a database;"
        " `orch history --rebuild` writes it anew\n"
    )
    rebuilt = recorded.orch("history", "--rebuild")
    assert (rebuilt.out, rebuilt.err) == (listed.out, "runs in the index: 2\n")
    assert recorded.orch("history").err == ""


def test_show_is_the_end_of_the_run_with_its_steps_and_outputs(recorded: OrchProject) -> None:
    shown = recorded.orch("show").out
    assert "\n✔ t › greet  web[1-2]  changed" in shown
    assert "\n✘ t › check it  web2  failed" in shown
    assert "\nweb[1-2]: web2\n" in shown
    assert "\n2 hosts: 1 changed, 1 failed in " in shown
    assert "hello" not in shown
    assert "hello" in recorded.orch("show", "last~1").out


def test_show_of_a_host_or_of_the_failed_ones_leaves_out_the_others(recorded: OrchProject) -> None:
    assert "web1" not in recorded.orch("show", "last", "--failed").out
    only = recorded.orch("show", "last", "web1").out
    assert "\n✔ t › check it  web1  ok" in only
    assert "\n1 host: 1 changed in " in only


def test_show_as_json_has_the_events_that_the_run_had(recorded: OrchProject) -> None:
    run = recorded.orch("-s", "dev", "--json", "run", "t")
    shown = recorded.orch("show", "--json")
    names = {"step_finished", "host_finished", "run_finished", "task_started"}

    def events(lines: list[dict[str, object]]) -> list[dict[str, object]]:
        times = {"time", "seconds"}
        return [
            {name: value for name, value in each.items() if name not in times}
            for each in lines
            if each["event"] in names
        ]

    assert events(shown.events) == events(run.events)


def test_a_task_that_did_not_run_is_not_shown_as_nothing(recorded: OrchProject) -> None:
    result = recorded.orch("show", "last", "--task", "tt")
    assert result.code == 2
    assert "task 'tt' did not run in 2" in result.err and "did you mean 't'?" in result.err
    assert recorded.orch("show", "last", "--task", "t").code == 0
    listed = recorded.orch("history", "--host", "nosuch").out
    assert listed == "no recorded runs with these options\n"


def test_a_name_that_is_no_run_or_host_is_an_error_that_helps(recorded: OrchProject) -> None:
    result = recorded.orch("show", "nosuch")
    assert result.code == 2
    assert "orch history" in result.err
    result = recorded.orch("show", "last", "web3")
    assert result.code == 2
    assert "did you mean" in result.err


def test_no_secret_of_the_command_line_is_in_the_record(project: OrchProject) -> None:
    project.add_sandbox_stage("web1")
    project.write(
        {
            "tasks/t.yml": """\
                params: {password: {secret: true}}
                steps: [{run: 'test {{ password }}'}]
                """
        }
    )
    assert project.orch("-s", "dev", "run", "t", "password=correct-horse").code == 0
    for path in (project.root / ".orch").rglob("*"):
        assert not path.is_file() or b"correct-horse" not in path.read_bytes(), path
    assert history(project)[0]["argv"] == ["-s", "dev", "run", "t", "password=‹password›"]


def test_diff_shows_what_differs_between_two_runs(recorded: OrchProject) -> None:
    first, second, *lines = recorded.orch("diff").out.splitlines()
    assert (first[0], second[0]) == ("-", "+")
    assert lines == [
        "t › greet  web[1-2]  other text",
        *("    @@ -1 +1 @@", "    -echo hello", "    +echo web2"),
        *("    @@ -1 +1 @@", "    -hello", "    +web2"),
        "t › check it  web1  other text",
        *("    @@ -1 +1 @@", "    -test web1 != hello", "    +test web1 != web2"),
        "t › check it  web2  other text; ok → failed",
        *("    @@ -1 +1 @@", "    -test web2 != hello", "    +test web2 != web2"),
    ]
    assert recorded.orch("diff", "last", "last").out.splitlines()[-1] == "no differences"


def test_diff_shows_steps_hosts_and_changes_of_one_run_only(project: OrchProject) -> None:
    project.add_sandbox_stage("web1", "web2")
    project.write(
        {"tasks/t.yml": "steps: [{copy: {path: f, content: a}}, {name: x, run: 'true'}]\n"}
    )
    project.orch("-s", "dev", "run", "t", "-l", "web1")
    project.write({"tasks/t.yml": "steps: [{copy: {path: f, content: b}}]\n"})
    project.orch("-s", "dev", "run", "t")
    assert project.orch("diff").out.splitlines()[2:] == [
        "t › copy f  web1  other text; other values",
        *("    @@ -1 +1 @@", "    -copy path=f content=a", "    +copy path=f content=b"),
        "t › copy f  web2  only in the second run",
        "t › x  web1  only in the first run",
    ]


def test_the_page_of_a_run_has_the_texts_of_its_steps(recorded: OrchProject) -> None:
    assert recorded.orch("report", "--html", "run.html").code == 0
    page = (recorded.root / "run.html").read_text()
    assert "t, step 1, on web[1-2]" in page
    assert "echo web2" in page


def test_a_report_is_written_to_a_pipe_and_keeps_a_link(
    recorded: OrchProject, tmp_path: Path
) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert recorded.orch("report", "--markdown", str(pipe)).code == 0
        assert os.read(reader, 100).startswith(b"## dev: t")
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    (tmp_path / "file").write_text("old")
    link.symlink_to("file")
    assert recorded.orch("report", "--markdown", str(link)).code == 0
    assert link.is_symlink() and (tmp_path / "file").read_text().startswith("## dev: t")


def test_diff_shows_other_texts_but_not_the_runs_release(project: OrchProject) -> None:
    project.add_sandbox_stage("web1").write(
        {
            "tasks/t.yml": """
                params: {word: {}}
                steps:
                  - {name: same, run: "test {{ run.release }} -gt 1"}
                  - {name: other, run: "true {{ word }}"}
            """
        }
    )
    for word in ("one", "two"):
        assert project.orch("-s", "dev", "run", "t", f"word={word}").code == 0
    done = project.orch("diff")
    assert "t › other  web1  other text" in done.out
    assert "    -true one\n    +true two\n" in done.out
    assert "same" not in done.out


def test_diff_compares_with_the_last_run_of_the_same_tasks(recorded: OrchProject) -> None:
    recorded.orch("-s", "dev", "exec", "--", "true")
    result = recorded.orch("diff")
    assert result.code == 2
    assert "no run before" in result.err
    recorded.orch("-s", "dev", "run", "t")
    old, new, *_ = recorded.orch("diff").out.splitlines()
    assert [line.split()[2:4] for line in (old, new)] == [["dev:", "t,"]] * 2


def test_search_finds_lines_of_output_in_any_case(recorded: OrchProject) -> None:
    found = recorded.orch("search", "HELLO")
    assert [line for line in found.out.splitlines() if line.startswith("  ")] == ["  hello"] * 2
    assert [line.split()[1:] for line in found.out.splitlines()[::2]] == [
        ["web1", "t,", "step", "1:", "greet"],
        ["web2", "t,", "step", "1:", "greet"],
    ]
    assert recorded.orch("search", "hello", "--host", "web2").out.count("hello") == 1
    nothing = recorded.orch("search", "nosuch")
    assert (nothing.code, nothing.out) == (1, "not found\n")


def test_reports_are_written_of_a_recorded_run_and_at_the_end_of_one(
    recorded: OrchProject,
) -> None:
    words = ("--html", "a.html", "--junit", "a.xml", "--markdown", "a.md")
    assert recorded.orch("report", *words).code == 0
    junit = (recorded.root / "a.xml").read_text()
    assert "at tasks/t.yml:4:" in junit
    assert "<title>dev: t</title>" in (recorded.root / "a.html").read_text()
    assert '<testcase name="web2: check it"' in junit
    assert 'failures="1"' in junit
    assert "`web2` failed" in (recorded.root / "a.md").read_text()
    run = recorded.orch("-s", "dev", "run", "t", "--report", "junit=b.xml,markdown=-")
    assert run.code == 0
    assert 'tests="4" failures="0"' in (recorded.root / "b.xml").read_text()
    assert run.out.rstrip().endswith("| `web[1-2] (2)` |  | changed | 1 | 1 | 0 | 0 |")


def test_a_report_that_cannot_be_written_is_refused_before_the_run(recorded: OrchProject) -> None:
    for word in ("junit=no/such/x", "pdf=x", "junit", "junit=."):
        result = recorded.orch("-s", "dev", "run", "t", "--report", word)
        assert result.code == 2, word
        assert "report" in result.err
    assert len(history(recorded)) == 2
