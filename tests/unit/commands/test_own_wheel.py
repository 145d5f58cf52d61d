"""The wheel of the running orch, and what it needs in the versions that run here."""

from __future__ import annotations

import hashlib
import zipfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import orchestrator
from orchestrator.commands.own_wheel import build_wheel, pinned_requirements


def test_the_wheel_has_every_file_of_the_package_and_no_other() -> None:
    wheel = build_wheel()
    package = Path(orchestrator.__file__).parent
    with zipfile.ZipFile(BytesIO(wheel.data)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        for name in names:
            if name.startswith("orchestrator/"):
                assert archive.read(name) == (package.parent / name).read_bytes()
        info = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
        record = archive.read(f"{info}/RECORD").decode().splitlines()
        assert f"Version: {wheel.name.split('-')[1]}" in archive.read(f"{info}/METADATA").decode()
    assert {line.split(",")[0] for line in record} == set(names)
    assert "orchestrator/modules/functions.sh" in names
    assert "orchestrator/cluster/tasks/cluster/up.yml" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_same_code_makes_the_same_wheel() -> None:
    first, second = build_wheel(), build_wheel()
    assert first == second
    assert first.name.startswith(f"orch-{orchestrator.__version__}+")
    assert len(hashlib.sha256(first.data).hexdigest()) == 64


def test_requirements_are_pinned_to_what_is_installed_and_nothing_else() -> None:
    pinned = pinned_requirements()
    for name in ("msgspec", "paramiko", "distributed", "tornado"):
        assert f"{name}=={version(name)}" in pinned
    assert not [line for line in pinned if line.startswith(("orch==", "pytest", "sphinx", "ruff"))]
