"""The README's commands, as a newcomer runs them: in a clean clone, with nothing set up."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_environment import pinned_packages

ROOT = Path(__file__).parents[2]


def readme_command(which: str) -> str:
    found = re.search(
        rf"<!-- {which} command -->\n```console\n\$ (.+)\n", (ROOT / "README.md").read_text()
    )
    assert found, f"the README has no {which} command"
    return found[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "orch"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def run_line(clone: Path, line: str) -> subprocess.CompletedProcess[str]:
    home = clone.parent / "home"
    home.mkdir(exist_ok=True)
    keep = {k: v for k, v in os.environ.items() if k == "PATH" or k.startswith("PIP_")}
    return subprocess.run(
        ["sh", "-c", line],
        cwd=clone,
        env={**keep, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_first_command_prints_a_row_for_every_host_of_the_example(clone: Path) -> None:
    done = run_line(clone, readme_command("first"))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("dev")]
    table = [row for row in rows if "|" not in row]
    assert [(row[0], row[2]) for row in table] == [
        ("devserver1", "ok"),
        ("devserver2", "ok"),
        ("devserver3", "ok"),
        ("devdb1", "ok"),
    ]
    assert done.stdout.count("Linux") >= 4


@pytest.mark.long
def test_the_second_command_installs_what_the_tests_need_and_finds_them(clone: Path) -> None:
    """It is what runs this test, so here it only collects."""
    done = run_line(clone, f"{readme_command('second')} --collect-only -q")
    assert done.returncode == 0, done.stderr
    assert "test_readme.py" in done.stdout


def test_the_example_is_without_errors(clone: Path) -> None:
    done = run_line(clone, ".ci/venv && .venv/bin/orch lint")
    assert done.returncode == 0, done.stderr


def test_pip_is_fetched_where_python_lacks_it(clone: Path, tmp_path: Path) -> None:
    """As on Debian without python3-venv: a Python that cannot import ensurepip."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase $* in *"import ensurepip"*) exit 1;; esac\nexec python3 "$@"\n'
    )
    python.chmod(0o755)
    fresh = tmp_path / "orch"
    subprocess.run(["git", "clone", "-q", str(clone), str(fresh)], check=True)
    done = run_line(
        fresh, f"PYTHON={python} .ci/venv && .venv/bin/orch --version && .venv/bin/pip --version"
    )
    assert done.returncode == 0, done.stderr
    orch, pip = done.stdout.splitlines()
    assert orch.startswith("orch ")
    assert pip.split()[1] == pinned_packages()["pip"][0]
