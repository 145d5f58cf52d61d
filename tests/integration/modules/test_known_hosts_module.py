"""``known_hosts``: files that the real ssh-keygen reads."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message
from tests.support.module_files import file_mode


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return two ed25519 keys and one of ecdsa, with their kinds."""
    folder, found = tmp_path_factory.mktemp("keys"), []
    for name, kind in (("a", "ed25519"), ("b", "ed25519"), ("c", "ecdsa")):
        words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
        found.append(" ".join((folder / f"{name}.pub").read_text().split()[:2]))
    return found


def known_step(path: Path, key: str | None = None, **params: Any) -> dict[str, Any]:
    given = {} if key is None else {"key": key}
    return {"known_hosts": {"name": "server.example", "path": str(path), **given, **params}}


def test_a_server_is_known_and_forgotten(machine: ShellMachine, keys: list[str]) -> None:
    file = machine.root / "new folder" / "known"
    both = f"# it\nserver.example {keys[0]} me\n{keys[2]}\n"
    outcome = machine.check_then_run(known_step(file, both), "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [
        ("keys", "missing: ssh-ed25519, ecdsa-sha2-nistp256, ")
    ]
    assert file.read_text() == f"server.example {keys[0]}\nserver.example {keys[2]}\n"
    assert file_mode(file.parent) == "0700"
    machine.check_then_run(known_step(file, keys[0]), "ok")
    file.write_text(
        f"# it\nother {keys[1]}\n@revoked server.example {keys[1]}\nserver.example,x {keys[1]} c"
    )
    outcome = machine.check_then_run(known_step(file, keys[0]), "changed")
    assert outcome.changes[0].before == "missing: ssh-ed25519, others: line 4"
    rest = f"# it\nother {keys[1]}\n@revoked server.example {keys[1]}\n"
    assert file.read_text() == f"{rest}server.example {keys[0]}\n"
    machine.check_then_run(known_step(file, state="absent"), "changed")
    assert file.read_text() == rest
    assert [path.name for path in file.parent.iterdir()] == ["known"]


def test_names_are_hashed(machine: ShellMachine, keys: list[str], tmp_path: Path) -> None:
    file = machine.root / "known"
    file.write_text(f"other {keys[1]}\n")
    machine.environment["TMPDIR"] = str(tmp_path)
    step = known_step(file, keys[0], hash=True, name="[server.example]:2222")
    machine.check_then_run(step, "changed")
    text = file.read_text()
    assert text.startswith(f"other {keys[1]}\n|1|") and text.count("\n") == 2
    machine.check_then_run(known_step(file, keys[0], name="[server.example]:2222"), "ok")
    machine.check_then_run(known_step(file, keys[0]), "changed")
    outcome = machine.check_then_run(known_step(file, keys[0], hash=True), "changed")
    assert "others: line 3" in str(outcome.changes[0].before)
    assert "server.example" not in file.read_text()
    machine.check_then_run(known_step(file, state="absent"), "changed")
    assert file.read_text() == text


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_any_name_of_a_file(machine: ShellMachine, keys: list[str], name: str) -> None:
    file = machine.root / name
    machine.check_then_run(known_step(file, keys[0]), "changed")
    machine.check_then_run(known_step(file, keys[1]), "changed")
    assert file.read_text() == f"server.example {keys[1]}\n"


def test_what_is_no_key_is_refused(machine: ShellMachine, keys: list[str]) -> None:
    file = machine.root / "known"
    for params, message in (
        ({"key": "it"}, "is not a public key"),
        ({"key": f"{keys[0]}\nssh-rsa"}, "is not a public key"),
        ({}, "`key` is missing"),
        ({"key": keys[0], "name": "-x"}, "not a valid name of a server"),
        ({"key": keys[0], "name": "a b"}, "not a valid name of a server"),
        ({"key": keys[0], "name": "*"}, "not a valid name of a server"),
    ):
        outcome = machine.check_then_run(known_step(file, **params), "failed")
        assert message in outcome.stderr.text, result_message(outcome)
    assert not file.exists()
