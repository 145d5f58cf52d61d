"""Hosts whose tools lie: nothing is written outside of the target, and every download ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.executor import tree_download
from orchestrator.model.step_result import StepResult
from tests.support.machine import ShellMachine

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def machine(tmp_path: Path) -> ShellMachine:
    (tmp_path / "root" / "source").mkdir(parents=True)
    return ShellMachine("dash", tmp_path / "root")


def lie(machine: ShellMachine, tool: str, script: str) -> None:
    path = machine.root.parent / "root-tools" / tool
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def list_as(machine: ShellMachine, *lines: str) -> None:
    """Have the host list this, once."""
    text = "".join(f"{line}\n" for line in lines)
    listing = machine.root / "listing"
    listing.write_text(text)
    lie(machine, "find", f"cat {listing}; : >{listing}")


def download(machine: ShellMachine, name: str = "source") -> StepResult:
    target = machine.root.parent / "target" / "one"
    return machine.run_step({"download": {"path": f"{machine.root}/{name}", "to": str(target)}})


def all_files(machine: ShellMachine) -> list[str]:
    target = machine.root.parent / "target"
    return sorted(str(path.relative_to(target)) for path in target.rglob("*"))


@pytest.mark.parametrize(
    "lines",
    [
        ("f ./../two", f"{EMPTY}  ./../two", "0 ./../two"),
        ("d ./..", "f ./../two", f"{EMPTY}  ./../two", "0 ./../two"),
        (f"F /tmp/orch-hostile 0\\0040{EMPTY}",),
        ("L ./l ..", f"F ./l/two 0\\0040{EMPTY}"),
        ("L ./l ..", "D ./l", f"F ./l/two 0\\0040{EMPTY}"),
        (f"F ./\\0056\\0056/two 0\\0040{EMPTY}",),
    ],
)
def test_no_name_leads_out(machine: ShellMachine, lines: tuple[str, ...]) -> None:
    list_as(machine, *lines)
    outcome = download(machine)
    assert outcome.status == "failed"
    assert "unexpected reply from the host (expected names below the folder)" in outcome.reason
    assert not (machine.root.parent / "target").exists()


def test_a_link_of_one_download_is_not_the_way_of_the_next(machine: ShellMachine) -> None:
    (machine.root.parent / "outside").mkdir()
    list_as(machine, "D ./inner", "L ./l inner", "L ./out ../../outside")
    assert download(machine).status == "changed"
    assert all_files(machine) == ["one", "one/inner", "one/l"]
    list_as(machine, "D ./l", f"F ./l/x 0\\0040{EMPTY}")
    outcome = download(machine)
    assert outcome.status == "failed"
    assert "one/l on this machine is not a folder, and a folder on the host" in outcome.reason
    assert all_files(machine) == ["one", "one/inner", "one/l"]


@pytest.mark.parametrize(
    ("tool", "script", "reason"),
    [
        ("head", "yes", "changed on the host while it was read"),
        ("head", "yes x | tr -d '\\n'", "changed on the host while it was read"),
        ("wc", "echo nonsense", ""),
    ],
)
@pytest.mark.parametrize("name", ["source", "source/file"])
def test_a_stream_that_is_not_as_announced_ends(
    machine: ShellMachine, tool: str, script: str, reason: str, name: str
) -> None:
    (machine.root / "source" / "file").write_bytes(b"x" * 300_000)
    lie(machine, tool, script)
    outcome = download(machine, name)
    assert outcome.status == "failed"
    assert reason in outcome.reason
    assert [name for name in all_files(machine) if name != "one"] == []


def test_a_file_that_would_fill_the_disk_is_not_begun(machine: ShellMachine) -> None:
    (machine.root / "source" / "file").write_bytes(b"x" * 300_000)
    for name in ("source", "source/file"):
        lie(machine, "wc", "echo 99999999999999999 ./file")
        outcome = download(machine, name)
        assert outcome.status == "failed"
        if name == "source":
            assert "100.0 PB do not fit into" in outcome.reason
        assert [name for name in all_files(machine) if name != "one"] == []


def test_a_stream_of_small_files_ends(machine: ShellMachine) -> None:
    """The contents are right, and then comes more without an end."""
    for name in ("a", "b"):
        (machine.root / "source" / name).write_text(name)
    lie(machine, "cat", "printf ab; exec yes")
    assert download(machine).status == "changed"
    assert all_files(machine) == ["one", "one/a", "one/b"]


def test_a_listing_without_an_end_is_cut(
    machine: ShellMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_download, "MAX_LISTING_BYTES", 2 << 20)
    lie(machine, "find", "exec yes 'f ./x'")
    outcome = download(machine)
    assert outcome.status == "failed"
    assert "has too many files: their names take more than 2 MiB" in outcome.reason


def test_names_from_a_host_are_shown_without_control_characters(machine: ShellMachine) -> None:
    list_as(machine, "o ./x\x1b[2J", "L ./\x1b]0;title\x07 /etc", "f ./\x1b[1mbold")
    outcome = download(machine)
    assert outcome.status == "failed"
    assert "\x1b" not in outcome.reason
    assert "cannot be read" in outcome.reason
