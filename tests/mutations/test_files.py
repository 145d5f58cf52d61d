"""No file of a project, whatever became of it, ends in a traceback, a hang or exit code 70."""

from __future__ import annotations

import textwrap
from pathlib import Path
from random import Random

import pytest

from orchestrator.cli.root_command import call
from orchestrator.errors import Exit
from tests.mutations.mutate import mutated
from tests.mutations.project import CALLS, FILES

FINE = {Exit.OK, Exit.USAGE, Exit.DEFINITION}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files as they are written, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DEPLOY_TOKEN", "a-token-of-theirs")
    for name in ("ORCH_STAGE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    files = {name: textwrap.dedent(text).encode() for name, text in FILES.items()}
    for name, data in files.items():
        write(name, data)
    return files


def write(name: str, data: bytes) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_project_is_valid(
    project: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for args in CALLS:
        code = call(args)
        assert (code, capsys.readouterr().err) == (0, "")


def hunt(files: dict[str, bytes], seeds: range, capsys: pytest.CaptureFixture[str]) -> None:
    """Mutate one file for each seed, and have it read in one of the ways."""
    for seed in seeds:
        random = Random(seed)
        name = random.choice(list(files))
        args = random.choice(CALLS) if random.random() < 0.7 else CALLS[0]
        data = mutated(files[name], list(files.values()), random)
        write(name, data)
        print(f"seed {seed}: {name}: orch {' '.join(args)}")  # shown where it hangs
        code = call(args)
        told = capsys.readouterr()
        where = f"seed {seed}: {name}: orch {' '.join(args)}\n{data[:2000]!r}\n{told.err[-3000:]}"
        assert code in FINE, where
        assert "Traceback" not in told.err, where
        assert code == Exit.OK or told.err.strip(), where
        write(name, files[name])


def test_some_mutated_files(project: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    hunt(project, range(150), capsys)


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
def test_thousands_of_mutated_files(
    part: int, project: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    hunt(project, range(1000 + part * 1000, 2000 + part * 1000), capsys)
