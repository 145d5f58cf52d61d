"""A deleted working directory: one error line, and no obstacle to an absolute `-C`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.projects import OrchProject

GONE = "the working directory does not exist any more"


def run_in_deleted_folder(
    project: OrchProject, *args: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run orch in a folder that is deleted before orch starts."""
    folder = project.root.parent / "gone"
    folder.mkdir()
    line = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    root = Path(__file__).parents[3]
    return subprocess.run(
        ["sh", "-c", line, "sh", str(folder), sys.executable, "-m", "orchestrator", *args],
        env={**project.environ({"PYTHONPATH": str(root)}), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("-s", "dev", "run", "t"),
        ("-C", ".", "-s", "dev", "hosts"),
        ("-C", "../project", "tasks"),
        ("-s", "dev", "doctor"),
        ("-s", "dev", "exec", "--", "id"),
        ("lint",),
        ("doc", "copy"),
        ("init",),
        ("init", "demo"),
    ],
)
def test_it_is_an_error_of_use(project: OrchProject, words: tuple[str, ...]) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": "steps: [{run: id}]\n"})
    done = run_in_deleted_folder(project, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert GONE in done.stderr
    assert "absolute `-C DIR`" in done.stderr


def test_a_whole_path_does_without(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": dedent("""\
            steps:
            - template: {path: x, src: t.j2}
            - {run: 'cat ~/x'}
            """)
        }
    )
    project.write({"tasks/t.j2": "text of {{ host.name }}\n"})
    for words in (("-s", "dev", "run", "t"), ("-s", "dev", "vars", "a1"), ("lint",)):
        done = run_in_deleted_folder(project, "-C", str(project.root), *words)
        assert done.returncode == 0, done.stderr
    done = run_in_deleted_folder(project, "-C", str(project.root), "-s", "dev", "run", "nope")
    assert done.returncode == 3
    missing = run_in_deleted_folder(project, "-C", str(project.root / "none"), "lint")
    assert missing.returncode == 2
    assert GONE in missing.stderr


def test_what_needs_no_project_is_no_concern(project: OrchProject) -> None:
    assert run_in_deleted_folder(project, "--version").returncode == 0
    assert run_in_deleted_folder(project, "completion", "bash").returncode == 0
    words = {"_ORCH_COMPLETE": "bash_complete", "COMP_WORDS": "orch -s ", "COMP_CWORD": "2"}
    done = run_in_deleted_folder(project, **words)
    assert "Traceback" not in done.stderr


def test_a_project_that_cannot_be_made_is_said(project: OrchProject) -> None:
    (project.root / "file").write_text("")
    for folder in ("file/x", "file"):
        done = project.orch("init", "-s", "dev", folder)
        assert (done.code, done.out) == (2, "")
        assert f"cannot create a project in {folder}" in done.err
    if os.getuid() == 0:
        done = project.orch("init", "-s", "dev", "/proc/x")
        assert done.code == 2
