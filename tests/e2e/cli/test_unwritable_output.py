"""Output that cannot be written: closed, full, or without a reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.projects import TIMEOUT, OrchProject

SLEEP = 86_431


@pytest.fixture
def three(project: OrchProject) -> OrchProject:
    task = f"steps:\n- run: echo hi; echo oh >&2\n- run: sleep {SLEEP}\n"
    return project.add_sandbox_stage("a1", "a2", "a3").write(
        {"tasks/t.yml": task, "tasks/short.yml": "steps: [{run: echo hi}]\n"}
    )


def run_redirected(
    project: OrchProject, args: str, redirect: str
) -> subprocess.CompletedProcess[str]:
    """Run orch with the shell's redirections."""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m orchestrator {args} {redirect}', sys.executable],
        cwd=project.root,
        env=project.environ({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "ignored" not in done.stderr, done.stderr
    return done


def journal_events(project: OrchProject) -> list[dict[str, Any]]:
    """Return the events of the only run from its journal."""
    (log,) = project.root.glob(".orch/runs/*/events.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


SHOWING = ["stages", "tasks --json", "-s dev plan short", "lint", "completion bash", "--help"]
WHY = {
    ">&-": "cannot write to stdout: Bad file descriptor\n",
    "1</dev/null": "cannot write to stdout: Bad file descriptor\n",
    ">/dev/full": "cannot write to stdout: No space left on device\n",
}


@pytest.mark.parametrize("args", SHOWING)
@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_a_verb_that_cannot_write_says_why_in_one_line_and_fails(
    three: OrchProject, args: str, redirect: str
) -> None:
    done = run_redirected(three, args, redirect)
    assert (done.returncode, done.stderr) == (1, WHY[redirect])


def test_much_text_is_no_exception(three: OrchProject) -> None:
    three.write({"tasks/t.yml": f"steps: [{{run: 'echo {'x' * 100_000}'}}]\n"})
    done = run_redirected(three, "-s dev plan t", ">/dev/full")
    assert (done.returncode, done.stderr) == (1, WHY[">/dev/full"])


@pytest.mark.parametrize("args", ["-s dev plan short", "completion bash"])
def test_a_reader_that_left_is_no_news(three: OrchProject, args: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *args.split()],
            cwd=three.root, env=three.environ({}), stdout=stdout,
            stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("option", ["", "--json"])
@pytest.mark.parametrize("redirect", list(WHY))
def test_a_run_that_cannot_write_is_cancelled_in_order_and_says_why_once(
    three: OrchProject, option: str, redirect: str
) -> None:
    done = run_redirected(three, f"-s dev run t {option}", redirect)
    assert done.returncode == 130
    assert done.stderr.count(WHY[redirect]) == 1
    assert journal_events(three)[-1]["event"] == "run_finished"


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "<&- 2>&-", "2> >(:)"])
@pytest.mark.parametrize("option", ["", "--json"])
def test_a_stderr_that_takes_nothing_stops_nothing(
    three: OrchProject, option: str, redirect: str
) -> None:
    done = run_redirected(three, f"-s dev run short -v {option}", redirect)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("run_finished" if option else "3 hosts: 3 changed") in done.stdout


@pytest.mark.parametrize("redirect", [">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_where_nothing_can_be_said_the_exit_code_says_it(three: OrchProject, redirect: str) -> None:
    assert run_redirected(three, "-s dev run t", redirect).returncode == 130
    assert run_redirected(three, "stages", redirect).returncode == 1
    assert run_redirected(three, "doc nope", redirect).returncode == 3
    assert run_redirected(three, "nope", redirect).returncode == 2


def test_what_a_step_opens_never_lands_in_a_closed_streams_place(three: OrchProject) -> None:
    """Otherwise a log or a connection with descriptor 1 or 2 would be overwritten by output."""
    done = run_redirected(three, "-s dev run short", ">&- 2>&-")
    assert done.returncode == 130
    assert journal_events(three)[0]["event"] == "run_started"
