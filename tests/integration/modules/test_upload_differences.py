"""``upload`` of large files of which the host has older ones: only what differs is sent."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executor import payload_upload
from orchestrator.model.command import DeltaFile
from orchestrator.planner import file_tree
from tests.support.machine import ODD_NAMES, ShellMachine

SIZE = 20_000  # bytes of a file that counts as large


def large_bytes(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return a list of the names that are sent by what differs, for each upload."""
    found: list[tuple[str, ...]] = []
    real = payload_upload.PayloadUpload.send_differences

    def send_differences(self: Any, rest: Any, files: list[DeltaFile], basis: str) -> str:
        path = real(self, rest, files, basis)
        found.append(tuple(os.fsdecode(file.name) for file in files))
        return path

    monkeypatch.setattr(file_tree, "_MIN_DELTA_BYTES", SIZE // 2)
    monkeypatch.setattr(payload_upload.PayloadUpload, "send_differences", send_differences)
    return found


def test_files_of_any_name_are_made_of_older_ones(
    machine: ShellMachine, tmp_path: Path, sent: list[tuple[str, ...]]
) -> None:
    source, target = tmp_path / "source", machine.root / "site"
    names = [*ODD_NAMES, "d\n/x ", "sub/deep/file", "x" * 250, os.fsdecode(b"\xff\xfe")]
    data = large_bytes(1)
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "small").write_text("old")
    more = {"delete": True, "times": True, "keep_modes": True}
    step = {"upload": {"src": str(source), "path": str(target), **more}}
    machine.check_then_run(step, "changed")
    assert sent == []
    for name in names:
        (source / name).write_bytes(name.encode("utf-8", "surrogateescape") + data[100:])
    (source / "small").write_text("new")
    (source / "it's").chmod(0o751)
    os.utime(source / "plain", (1, 1_000_000_000))
    machine.check_then_run(step, "changed")
    assert [sorted(each) for each in sent] == [sorted(names)]
    for path in source.rglob("*"):
        copied = target / path.relative_to(source)
        assert path.is_dir() or copied.read_bytes() == path.read_bytes()
    assert (target / "it's").stat().st_mode & 0o777 == 0o751
    assert (target / "plain").stat().st_mtime == 1_000_000_000


def test_a_large_tree_has_its_other_files_beside_the_large_ones(
    machine: ShellMachine, tmp_path: Path, sent: list[tuple[str, ...]]
) -> None:
    source, target = tmp_path / "source", machine.root / "site"
    source.mkdir()
    for number in range(400):  # more than a script may have in it
        (source / f"{number:0100}").write_text("old")
    (source / "large").write_bytes(large_bytes(1))
    step = {"upload": {"src": str(source), "path": str(target)}}
    assert machine.run_step(step).status == "changed"
    (source / "large").write_bytes(large_bytes(1) + b"new")
    (source / f"{7:0100}").write_text("new")
    (source / "new").write_text("new")
    machine.check_then_run(step, "changed")
    assert sent == [("large",)]
    for path in source.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_a_single_file_is_made_of_an_older_one(
    machine: ShellMachine, tmp_path: Path, sent: list[tuple[str, ...]]
) -> None:
    steps, names = [], ["a\nb", "-n", ".env", "it's $(id)", "x" * 255]
    for name in names:
        source, path = tmp_path / name, machine.root / name
        source.write_bytes(large_bytes(1))
        path.write_bytes(large_bytes(1)[:-100])
        path.chmod(0o600)
        steps.append({"upload": {"src": str(source), "path": str(path)}})
    assert machine.run_steps(steps).statuses == ["changed"] * len(names)
    assert sent == [("",)] * len(names)
    for name in names:
        assert (machine.root / name).read_bytes() == large_bytes(1)
        assert (machine.root / name).stat().st_mode & 0o777 == 0o644
    assert machine.run_steps(steps).statuses == ["ok"] * len(names)
