"""No mutated project file causes a traceback, a hang or exit code 70."""

from __future__ import annotations

import textwrap
from pathlib import Path
from random import Random

import pytest

from orchestrator.cli.root_command import run_command_line
from orchestrator.errors import ExitCode
from tests.support.file_mutations import mutate_file
from tests.support.mutated_project import CALLS, FILES

FINE = {ExitCode.OK, ExitCode.USAGE, ExitCode.DEFINITION}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Write the unchanged files to the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DEPLOY_TOKEN", "a-token-of-theirs")
    for name in ("ORCH_STAGE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    files = {name: textwrap.dedent(text).encode() for name, text in FILES.items()}
    for name, data in files.items():
        write_file(name, data)
    return files


def write_file(name: str, data: bytes) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_project_is_valid(
    project: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for args in CALLS:
        code = run_command_line(args)
        assert (code, capsys.readouterr().err) == (0, "")


def try_mutations(
    files: dict[str, bytes], seeds: range, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mutate one file for each seed, and read it in one of the ways."""
    for seed in seeds:
        random = Random(seed)
        name = random.choice(list(files))
        args = random.choice(CALLS) if random.random() < 0.7 else CALLS[0]
        data = mutate_file(files[name], list(files.values()), random)
        write_file(name, data)
        print(f"seed {seed}: {name}: orch {' '.join(args)}")  # shown if the test hangs
        code = run_command_line(args)
        message = capsys.readouterr()
        location = (
            f"seed {seed}: {name}: orch {' '.join(args)}\n{data[:2000]!r}\n{message.err[-3000:]}"
        )
        assert code in FINE, location
        assert "Traceback" not in message.err, location
        assert code == ExitCode.OK or message.err.strip(), location
        write_file(name, files[name])


def test_some_mutated_files(project: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    try_mutations(project, range(150), capsys)


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
def test_thousands_of_mutated_files(
    part: int, project: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    try_mutations(project, range(1000 + part * 1000, 2000 + part * 1000), capsys)
