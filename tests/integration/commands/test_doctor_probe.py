"""Reports of hosts to `orch doctor`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.commands.doctor_checks import DoctorReport
from orchestrator.modules import MODULES_FOLDER


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_every_shell_tells_the_same_of_a_host(shell: str, tmp_path: Path) -> None:
    odd = tmp_path / "a b\\c"
    odd.mkdir()
    script = "tools='cat nosuchtool' more= method=nosuch\nset -- root daemon 'a b'\n"
    script += (MODULES_FOLDER / "doctor.sh").read_text()
    done = subprocess.run(
        [*shell.split(), "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(odd)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = DoctorReport.parse(done.stdout)
    assert answers.is_complete, done.stderr
    assert (answers.shell, answers.missing_tools) == (shell.split(maxsplit=1)[0], {"nosuchtool"})
    assert answers.values["home.path"] == str(odd)
    assert min(answers.free_bytes.values()) > 0
    message = [one for one in answers.become_results if one[0]]
    assert message == [(1, 127, "nosuch: not found"), (2, 127, "nosuch: not found")]


def test_clocks_differ_only_where_no_moment_of_the_answer_fits() -> None:
    answers = DoctorReport.parse("clock 1000\nend\n")
    assert answers.clock_skew(1000.2, 1003.0) == 0
    assert answers.clock_skew(997.0, 1000.1) == 0
    assert answers.clock_skew(990.0, 992.5) == 7.5
    assert answers.clock_skew(1010.0, 1012.0) == -9
    assert DoctorReport.parse("clock \n").clock_skew(0.0, 1.0) is None
