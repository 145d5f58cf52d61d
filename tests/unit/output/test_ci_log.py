"""The log of a CI server: groups, annotations, and no command that a host has printed."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.model.event import (
    EventSink,
    RunEvent,
    StepFinished,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.step_result import Status
from orchestrator.output.ci_log import (
    CiServer,
    ci_server,
    defuse_commands,
    error_annotation,
    job_summary_file,
)
from orchestrator.output.display_options import DisplayOptions, OutputMode
from orchestrator.output.sinks import choose_sinks
from tests.support.output_events import (
    NOW,
    make_outcome,
    make_row,
    run_finished,
    run_started,
    step_finished,
    step_printed,
)

GITHUB = {"CI": "true", "GITHUB_ACTIONS": "true"}
GITLAB = {"CI": "true", "GITLAB_CI": "true"}
FAILED = replace(
    make_outcome(b"", b"one\n100% of a:b,c\n", Status.FAILED, "exit status 2"),
    position="tasks/t.yml:4:5",
)


def is_command(line: str) -> bool:
    """Return True if GitHub's runner takes the line as a command (ActionCommand.cs).

    Its comparisons ignore characters that are not shown, and it skips white space at the beginning.
    """
    shown = "".join(char for char in line if unicodedata.category(char) not in ("Cf", "Cc", "Mn"))
    found = re.match(r"\s*::[\w-]+.*::", shown) or re.search(r"##\[[\w-]+.*\]", shown)
    return found is not None


COMMANDS = [
    "::set-output name=a::b",
    "  ::add-mask::x",
    "\t::error::x",
    "\u00ad::error::x",
    "\u3000\u200b:\u200d:error::x",
    "web1 | ##[add-path]/evil",
    "#\u00ad#\u200d[error]x",
    "##[##[error]x",
    "a\n::error::x\n##[error]y",
]


@pytest.mark.parametrize("text", COMMANDS)
def test_no_line_is_a_command_after_it_is_defused(text: str) -> None:
    assert any(map(is_command, text.split("\n")))
    lines = defuse_commands(text).split("\n")
    assert not any(map(is_command, lines))
    assert len(lines) == len(text.split("\n"))


@pytest.mark.parametrize(
    "text", ["web1 | std::string", "a ## [b]", "# [x]", "x: :y", "\u00e4 | [a]: b", "##", ""]
)
def test_other_lines_are_not_changed(text: str) -> None:
    assert defuse_commands(text) == text


def test_an_annotation_has_the_place_in_the_workspace_and_no_part_ends_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    environ = {"GITHUB_WORKSPACE": str(tmp_path)}
    found = error_annotation("a:b,c::d", "100%\n::x", "tasks/t.yml:4:5", environ)
    file = "file=project/tasks/t.yml,line=4,col=5"
    assert found == f"::error {file},title=a%3Ab%2Cc%3A%3Ad::100%25%0A::x"
    assert error_annotation("a", "b", "/else/t.yml:4:5", environ).startswith(
        "::error file=/else/t.yml,line=4,col=5,"
    )
    assert error_annotation("a", "b", "<command line>", environ) == "::error title=a::b"


def test_the_server_is_known_by_its_variable_and_can_be_ignored(tmp_path: Path) -> None:
    assert ci_server(GITHUB) is CiServer.GITHUB
    assert ci_server(GITLAB) is CiServer.GITLAB
    assert ci_server({"CI": "true", "GITHUB_ACTIONS": "false"}) is None
    assert ci_server({**GITHUB, "ORCH_CI": "0"}) is None
    summary = {**GITHUB, "GITHUB_STEP_SUMMARY": "s.md"}
    assert job_summary_file(summary) == "s.md"
    assert job_summary_file({**summary, "ORCH_CI": "false"}) == ""
    assert job_summary_file({**GITLAB, "GITHUB_STEP_SUMMARY": "s.md"}) == ""


def shown(
    *events: RunEvent, environ: dict[str, str] = GITHUB, options: DisplayOptions | None = None
) -> tuple[list[str], list[str]]:
    """Return the lines that a run prints, on stdout and on stderr."""
    out, err = io.StringIO(), io.StringIO()
    options = options or DisplayOptions(groups=True)
    sink: EventSink = choose_sinks(options, stdout=out, stderr=err, environ=environ)
    for event in events:
        sink(event)
    sink.close()
    return out.getvalue().split("\n"), err.getvalue().split("\n")


def without_times(lines: list[str]) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines]


def started(app: str | None = None, number: int = 1, task: str = "uname") -> TaskStarted:
    return TaskStarted(NOW, app, task, ("a",), 1, number, 3)


def ended(app: str | None = None, task: str = "uname") -> TaskFinished:
    return TaskFinished(NOW, app, task, 0.1)


OK = make_outcome(status=Status.CHANGED)


def test_a_task_is_a_group_and_the_result_comes_after_it() -> None:
    lines, err = shown(
        run_started("a"),
        started(),
        step_printed("a", b"hello\n"),
        step_finished("a", OK),
        ended(),
        run_finished(make_row("a", Status.CHANGED)),
    )
    assert without_times(lines)[1:6] == [
        "::group::uname (1/3) on 1 host",
        "uname: begins on 1 host",
        "a | hello",
        "uname a: step 1 uname -a: changed (0.03 s)",
        "::endgroup::",
    ]
    assert lines[6].startswith("host")
    assert err == [""]


def test_tasks_at_the_same_time_are_groups_one_after_the_other() -> None:
    lines, _ = shown(
        run_started("a"),
        started("x"),
        started("y"),
        step_printed("a", b"of y\n", app="y"),
        step_printed("a", b"of x\n", app="x"),
        ended("y"),
        started("y", 2),
        step_printed("a", b"later of y\n", app="y"),
        Warned(NOW, "careful"),
        ended("x"),
        step_printed("a", b"last of y\n", app="y"),
        ended("y"),
    )
    assert [line for line in without_times(lines) if "begins" not in line][1:] == [
        "::group::x uname (1/3) on 1 host",
        "a x | of x",
        "warning: careful",
        "::endgroup::",
        "::group::y uname (1/3) on 1 host",
        "a y | of y",
        "::endgroup::",
        "::group::y uname (2/3) on 1 host",
        "a y | later of y",
        "a y | last of y",
        "::endgroup::",
        "",
    ]


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_groups_of_a_run_that_ends_early_are_ended(is_closed: bool) -> None:
    last = [] if is_closed else [run_finished(make_row("a"))]
    lines, _ = shown(run_started("a"), started("x"), started("y"), *last)
    assert sum(line.startswith("::group::") for line in lines) == 2
    assert lines.count("::endgroup::") == 2


def test_gitlab_has_collapsed_sections_with_names_of_their_own() -> None:
    lines, _ = shown(run_started("a"), started(), ended(), started(), ended(), environ=GITLAB)
    time = int(NOW)
    title = "uname (1/3) on 1 host"
    for number in (1, 2):
        name = f"{time}:orch_task_{number}"
        assert f"\x1b[0Ksection_start:{name}[collapsed=true]\r\x1b[0K{title}" in lines
        assert f"\x1b[0Ksection_end:{name}\r\x1b[0K" in lines


def annotations(*events: RunEvent) -> list[str]:
    lines, _ = shown(run_started("w1", "w2"), *events)
    return [line for line in lines if line.startswith("::error")]


def test_a_failed_step_is_annotated_once_for_equal_hosts_after_the_group() -> None:
    steps = [step_finished(host, FAILED) for host in ("w1", "w2")]
    ignored = step_finished("w1", replace(FAILED, ignored=True), 2)
    lines, _ = shown(run_started("w1", "w2"), started(), *steps, ignored, ended())
    assert lines[lines.index("::endgroup::") + 1 :] == [
        "::error file=tasks/t.yml,line=4,col=5,title=uname › uname -a::"
        "w[1-2]: failed: exit status 2%0Aone%0A100%25 of a:b,c",
        "",
    ]


def test_a_host_that_failed_without_a_step_is_annotated_at_no_file() -> None:
    rows = [
        make_row("w1", Status.FAILED, "exit status 2"),
        make_row("w2", Status.UNREACHABLE, "refused"),
        make_row("w3", Status.NOT_STARTED, "another host failed"),
    ]
    found = annotations(started(), step_finished("w1", FAILED), ended(), run_finished(*rows))
    assert found[1:] == ["::error title=w2%3A unreachable::refused"]


def test_there_are_no_more_annotations_than_github_shows() -> None:
    steps: list[StepFinished] = []
    for number in range(30):
        stderr = replace(FAILED.stderr, head=b"%d" % number)
        steps.append(step_finished("w1", replace(FAILED, stderr=stderr), number + 1))
    assert len(annotations(started(), *steps, ended())) == 10


EVENTS = (run_started("a"), started(), step_finished("a", FAILED), ended(), run_finished())


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({"CI": "true"}, DisplayOptions(groups=True)),
        ({**GITHUB, "ORCH_CI": "0"}, DisplayOptions(groups=True)),
        (GITHUB, DisplayOptions(groups=True, mode=OutputMode.LINES)),
        (GITHUB, DisplayOptions(groups=True, json=True)),
        (GITHUB, DisplayOptions()),
    ],
)
def test_other_logs_have_no_commands(environ: dict[str, str], options: DisplayOptions) -> None:
    out, err = shown(*EVENTS, environ=environ, options=options)
    assert not any(map(is_command, (*out, *err)))


def test_a_file_gets_the_output_of_hosts_without_groups(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        options = DisplayOptions(groups=True)
        sink = choose_sinks(options, stdout=out, stderr=io.StringIO(), environ=GITHUB)
        for event in EVENTS:
            sink(event)
    assert "::" not in (tmp_path / "out").read_text()


@pytest.mark.parametrize("mode", [None, *OutputMode])
def test_nothing_that_a_host_prints_is_a_command(mode: OutputMode | None) -> None:
    said = "\n".join(COMMANDS).encode()
    result = replace(FAILED, stdout=replace(FAILED.stdout, head=said), reason=said.decode())
    row = make_row("a", Status.FAILED, said.decode(), said.decode())
    lines, err = shown(
        run_started("a"),
        started(task="::error::x"),
        step_printed("a", said),
        step_finished("a", result, name="##[error]x"),
        Warned(NOW, "::error::x ##[error]"),
        run_finished(row),
        options=DisplayOptions(groups=True, mode=mode, verbose=2, diff=True),
    )
    found = [line for line in (*lines, *err) if is_command(line)]
    own = ("::group::", "::endgroup::", "::error file=tasks/t.yml,line=4,col=5,title=")
    assert [line for line in found if not line.startswith(own)] == []
    assert bool(found) is (mode is None)


def test_json_has_the_same_texts_without_commands() -> None:
    step = step_finished("a", make_outcome(b"##[error]x"))
    (line, _), _ = shown(step, options=DisplayOptions(json=True))
    assert not is_command(line)
    assert json.loads(line)["stdout"] == "##[error]x"
