"""``pip``: packages of our own, in virtual environments, without any network."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes

PYTHON = "/usr/bin/python3"


def make_wheel(folder: Path, name: str, version: str, *lines: str) -> Path:
    """Write a wheel of an empty package with more lines of metadata."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    file = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{module}.py", "")
        wheel.writestr(f"{info}/METADATA", "\n".join(head) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def wheels(machine: ShellMachine) -> Path:
    folder = machine.root.parent / "wheels"
    for name, version in (
        ("orch-a", "1.0"),
        ("orch-a", "1.5"),
        ("orch-b", "2.0"),
        ("orch-c", "1.0"),
    ):
        make_wheel(folder, name, version)
    make_wheel(
        folder, "orch-d", "1.0", "Provides-Extra: more", "Requires-Dist: orch-c; extra == 'more'"
    )
    return folder


def pip_step(machine: ShellMachine, *names: str, **params: Any) -> dict[str, Any]:
    wheels = machine.root.parent / "wheels"
    options = ["--no-index", f"--find-links={wheels}"]
    name = {"name": list(names)} if names else {}
    venv = {"venv": str(machine.root / "a venv"), "python": PYTHON, "options": options}
    return {"pip": {**name, **venv, **params}}


def test_packages_come_into_a_new_environment(machine: ShellMachine, wheels: Path) -> None:
    step = pip_step(machine, "Orch_A>=1,<1.2", "orch-d")
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {
        "venv": ("absent", "present"),
        "missing": ("Orch_A>=1,<1.2, orch-d", "none"),
    }
    machine.check_then_run(pip_step(machine, "orch-a"), "ok")
    gone = pip_step(machine, "orch-d", "orch-none", state="absent")
    assert outcome_changes(machine.check_then_run(gone, "changed")) == {
        "installed": ("orch-d 1.0", "none")
    }


@pytest.mark.long
def test_versions_extras_and_what_is_newest(machine: ShellMachine, wheels: Path) -> None:
    machine.check_then_run(pip_step(machine, "orch-a==1.0", "orch-d"), "changed")
    outcome = machine.check_then_run(pip_step(machine, "orch-a", version=">1.2"), "changed")
    assert outcome_changes(outcome)["missing"][0] == "orch-a>1.2 (there is 1.0)"
    outcome = machine.check_then_run(pip_step(machine, "orch-d[more]==1.*"), "changed")
    assert outcome_changes(outcome)["missing"][0] == "orch-d[more]==1.* (without orch-c)"
    machine.check_then_run(pip_step(machine, "orch-a", version="1.0"), "changed")
    outcome = machine.check_then_run(
        pip_step(machine, "orch-a", "orch-b", state="latest"), "changed"
    )
    assert outcome_changes(outcome) == {
        "missing": ("orch-b", "none"),
        "outdated": ("orch-a 1.0 (there is 1.5)", "none"),
    }
    gone = pip_step(machine, "orch-a", "orch-none", "orch-c>7", state="absent")
    outcome = machine.check_then_run(gone, "changed")
    assert outcome_changes(outcome) == {"installed": ("orch-a 1.5, orch-c 1.0", "none")}
    outcome = machine.check_then_run(pip_step(machine, "orch-none"), "failed")
    assert "No matching distribution" in outcome.stderr.text, result_message(outcome)


@pytest.mark.long
def test_a_requirements_file_and_a_folder(machine: ShellMachine, wheels: Path) -> None:
    root = machine.root
    (root / "more.txt").write_text("orch-b==2.0 \\\n  --hash=sha256:0\n# it\n\n")
    (root / "r.txt").write_text(
        "-r more.txt\n--no-index\norch-a ~= 1.0 # why\norch-none; python_version < '3'\n"
    )
    step = pip_step(machine, requirements=str(root / "r.txt"))
    fails = machine.check_then_run(step, "failed")  # of the hash
    assert "DO NOT MATCH" in fails.stderr.text.upper() or "HASH" in fails.stderr.text.upper()
    (root / "more.txt").write_text("orch-b==2.0\n")
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome)["missing"][0] == "orch-b==2.0, orch-a~=1.0"
    (root / "folder").mkdir()
    (root / "folder" / "pyproject.toml").write_text('[project]\nname = "orch-b"\n')
    machine.check_then_run(pip_step(machine, str(root / "folder")), "ok")
    machine.check_then_run(pip_step(machine, str(wheels / "orch_a-1.5-py3-none-any.whl")), "ok")
    old = wheels / "orch_a-1.0-py3-none-any.whl"
    machine.check_then_run(pip_step(machine, str(old)), "changed")
    # before there is an environment, nothing of it can be known
    absent = pip_step(machine, "orch-a", venv=str(root / "none"), state="absent")
    machine.check_then_run(absent, "ok")


def test_what_cannot_be_is_refused(machine: ShellMachine, wheels: Path) -> None:
    for step, message in (
        (pip_step(machine), "give `name` or `requirements`"),
        (pip_step(machine, "a", "b", version="1"), "`version` needs `name` with one"),
        (pip_step(machine, "-r x"), "a name begins with -"),
        (pip_step(machine, "a\nb"), "a name contains a newline"),
        (pip_step(machine, requirements="/none.txt"), "there is no file /none.txt"),
        (
            pip_step(machine, "a", venv=str(wheels / "orch_a-1.0-py3-none-any.whl")),
            "is not a directory",
        ),
        (pip_step(machine, "a", python="orch-none", venv=str(machine.root / "x")), "no orch-none"),
    ):
        outcome = machine.check_then_run(step, "failed")
        assert message in outcome.stderr.text, result_message(outcome)
    for name, message in (
        ("$(id)", "is not known before it is installed"),
        ("a @", "not a requirement"),
        ("git+https://x/y.git", "add #egg=NAME"),
        ("/none/x", "there is no /none/x on this host"),
    ):
        step = {"pip": {"name": name, "python": PYTHON}}
        outcome = machine.check_then_run(step, "failed")
        assert message in outcome.stderr.text, result_message(outcome)
