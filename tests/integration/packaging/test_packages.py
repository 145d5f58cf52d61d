"""The wheel and the source distribution: built, installed in a new environment, and used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_BUILD = "import sys; from setuptools import build_meta; build_meta.{}(sys.argv[1])"


def run(words: Sequence[str | Path], cwd: Path) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, kind: str, folder: Path) -> Path:
    run([sys.executable, "-c", _BUILD.format(f"build_{kind}"), folder], source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source distribution of the files that are in version control."""
    copy = tmp_path_factory.mktemp("copy")
    for name in run(["git", "ls-files", "-z"], ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return build(copy, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(source_archive) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new environment with the wheel and the packages that it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    python = folder / "bin/python"
    words = ("--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    run([sys.executable, "-m", "pip", *words], folder)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run([python, "-c", purelib], folder).strip())
    # Path files of a path that is added by a path file are ignored: this checkout is not in it.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    where = run([python, "-c", "import orchestrator; print(orchestrator.__file__)"], folder)
    assert str(folder) in where
    return folder


def test_an_installed_orch_makes_a_project_and_runs_in_it(
    environment: Path, tmp_path: Path
) -> None:
    orch = environment / "bin/orch"
    run([orch, "init", "shop"], tmp_path)
    project = tmp_path / "shop"
    assert "web1" in run([orch, "-s", "dev", "exec", "--", "uname"], project)
    assert "no errors" in run([orch, "lint"], project)
    assert "link" in run([orch, "doc", "link"], project)
    assert "ssh-keyscan" in run([orch, "doc", "host-key-unknown"], tmp_path)
    assert "orch 0." in run([orch, "--version"], project)


def test_the_source_distribution_has_what_its_files_refer_to(source_archive: Path) -> None:
    with tarfile.open(source_archive) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("README.md", "LICENSE", "tasks/deploy.yml", "docs/troubleshooting.md"):
        assert name in names
