"""Ansible Vault's format. The texts were written by ``ansible-vault`` of ansible-core 2.19."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, SourcePosition, UsageError
from orchestrator.yamlio.vault_format import (
    VaultError,
    VaultText,
    WrongPasswordError,
    encrypt_text,
)
from orchestrator.yamlio.vault_passwords import VaultPasswords

MARK = SourcePosition("vars.yml", 1, 1)
ANSIBLE_TEXT = """\
$ANSIBLE_VAULT;1.2;AES256;prod
35613337353937643332396134373138356639316532383339376132633532393161316332356637
6530653930333862306132353737373038653138336138370a393565303334353734336665643562
34613563356536383237343630636166323633653131633034666563393938353835656633333131
3831653564366134620a626532646661653334333766383062313939646665343236303261666334
63616665623962306531303933363461663633623632336533623434336563646366
"""


def refuse(question: str) -> str:
    raise UsageError(f"asked: {question}")


def test_a_text_of_ansible_is_decrypted() -> None:
    vault = VaultText.parse(ANSIBLE_TEXT)
    assert vault.vault_id == "prod"
    assert vault.decrypt(b"secret") == b"db_password: correct horse\n"


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_what_is_encrypted_is_decrypted(size: int) -> None:
    data = bytes(range(256)) * 4
    text = encrypt_text(data[:size], b"pw", "x")
    assert text.startswith("$ANSIBLE_VAULT;1.2;AES256;x\n")
    assert max(map(len, text.splitlines()[1:])) == 80 if size > 16 else True
    assert VaultText.parse(text).decrypt(b"pw") == data[:size]
    assert encrypt_text(data[:size], b"pw").startswith("$ANSIBLE_VAULT;1.1;AES256\n")


def test_a_wrong_password_and_a_changed_text_are_refused() -> None:
    with pytest.raises(WrongPasswordError):
        VaultText.parse(ANSIBLE_TEXT).decrypt(b"wrong")
    lines = ANSIBLE_TEXT.splitlines()
    changed = "\n".join((*lines[:-1], lines[-1][:-2] + ("31" if lines[-1][-2:] != "31" else "32")))
    with pytest.raises(VaultError):
        VaultText.parse(changed).decrypt(b"secret")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$ANSIBLE_VAULT;1.0;AES\n6162",
        "$ANSIBLE_VAULT;1.1;AES\n6162",
        "$ANSIBLE_VAULT;1.1;AES256",
        "$ANSIBLE_VAULT;1.1;AES256\nzz",
        "$ANSIBLE_VAULT;1.1;AES256\n3131",
        "$ANSIBLE_VAULT",
    ],
)
def test_damaged_texts_are_refused(text: str) -> None:
    with pytest.raises(VaultError):
        VaultText.parse(text)


def test_passwords_come_from_files_of_the_id_then_from_the_usual_one(tmp_path: Path) -> None:
    for name, text in {"usual": "usual\n", "prod": "secret\n"}.items():
        (tmp_path / name).write_text(text)
    usual = {"ORCH_VAULT_PASSWORD_FILE": str(tmp_path / "usual")}
    both = {**usual, "ORCH_VAULT_PASSWORD_FILE_PROD": str(tmp_path / "prod")}
    passwords = VaultPasswords(both, refuse)
    assert passwords.decrypt(ANSIBLE_TEXT, "x", MARK) == b"db_password: correct horse\n"
    assert passwords.password_for("prod") == b"secret"
    assert passwords.password_for("other") == b"usual"
    with pytest.raises(DefinitionError, match="the password of ORCH_VAULT_PASSWORD_FILE is wrong"):
        VaultPasswords(usual, refuse).decrypt(ANSIBLE_TEXT, "x", MARK)


def test_a_program_is_run_once_and_a_question_asked_once(tmp_path: Path) -> None:
    program = tmp_path / "pass-client"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\necho secret\n')
    program.chmod(0o755)
    passwords = VaultPasswords({"ORCH_VAULT_PASSWORD_FILE_PROD": str(program)}, refuse)
    for _ in range(2):
        assert passwords.decrypt(ANSIBLE_TEXT, "x", MARK)
    assert (tmp_path / "log").read_text() == "--vault-id prod\n"
    questions: list[str] = []

    def answer(question: str) -> str:
        questions.append(question)
        return "secret"

    asked = VaultPasswords({}, answer)
    for _ in range(2):
        assert asked.decrypt(ANSIBLE_TEXT, "x", MARK)
    assert questions == ["Vault password (prod)"]


def test_a_program_that_fails_is_an_error_without_its_output(tmp_path: Path) -> None:
    program = tmp_path / "pass"
    program.write_text("#!/bin/sh\necho hunter2\necho locked >&2\nexit 4\n")
    program.chmod(0o755)
    with pytest.raises(DefinitionError, match="exit status 4\nlocked") as caught:
        VaultPasswords({"ORCH_VAULT_PASSWORD_FILE": str(program)}, refuse).password_for("")
    assert "hunter2" not in str(caught.value)
