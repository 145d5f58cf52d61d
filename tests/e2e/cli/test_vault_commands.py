"""`orch vault`: files in the format of Ansible Vault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.yamlio.ansible_yaml import parse_ansible_yaml
from orchestrator.yamlio.vault_format import VaultText, encrypt_text
from tests.projects import OrchProject
from tests.sshd import wait_until
from tests.support.typed_terminal import on_terminal

PLAIN = "db_password: correct horse\n"


@pytest.fixture
def vault(project: OrchProject) -> OrchProject:
    """Write a file with a password, and an encrypted file, without any project."""
    (project.root / "pw").write_text("secret\n")
    (project.root / "v.yml").write_text(encrypt_text(PLAIN.encode(), b"secret", "prod"))
    (project.root / "v.yml").chmod(0o640)
    return project


def test_files_are_encrypted_viewed_rekeyed_and_decrypted_in_place(vault: OrchProject) -> None:
    env = {"ORCH_VAULT_PASSWORD_FILE": "pw"}
    file = vault.root / "v.yml"
    assert vault.orch("vault", "view", "v.yml", **env).out == PLAIN
    (vault.root / "new").write_text("other")
    assert vault.orch("vault", "rekey", "--new-password-file", "new", "v.yml", **env).code == 0
    again = VaultText.parse(file.read_text())
    assert (again.vault_id, again.decrypt(b"other")) == ("prod", PLAIN.encode())
    other = {"ORCH_VAULT_PASSWORD_FILE_PROD": "new"}
    assert vault.orch("vault", "decrypt", "v.yml", **other).code == 0
    assert file.read_text() == PLAIN
    assert file.stat().st_mode & 0o777 == 0o640
    assert vault.orch("vault", "encrypt", "v.yml", **env).code == 0
    assert file.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    twice = vault.orch("vault", "encrypt", "v.yml", **env)
    assert twice.code == 3
    assert "is encrypted already" in twice.err


def test_a_string_is_a_value_for_yaml(vault: OrchProject) -> None:
    env = {"ORCH_VAULT_PASSWORD_FILE_PROD": "pw"}
    done = vault.orch("vault", "string", "--id", "prod", "--name", "key", stdin="hunter2\n", **env)
    assert done.code == 0, done.err
    value = parse_ansible_yaml(done.out, "x").data
    assert isinstance(value, dict)
    (secret,) = value.values()
    assert VaultText.parse(secret.data.words[0]).decrypt(b"secret") == b"hunter2"  # type: ignore[union-attr]


def test_errors_name_the_file_and_leave_it(vault: OrchProject) -> None:
    before = (vault.root / "v.yml").read_text()
    (vault.root / "wrong").write_text("wrong")
    wrong = vault.orch("vault", "decrypt", "v.yml", ORCH_VAULT_PASSWORD_FILE="wrong")
    assert wrong.code == 3
    assert "the password of ORCH_VAULT_PASSWORD_FILE is wrong" in wrong.err
    assert "ORCH_VAULT_PASSWORD_FILE_PROD" in wrong.err
    plain = vault.orch("vault", "view", "pw", ORCH_VAULT_PASSWORD_FILE="pw")
    assert "pw is not encrypted" in plain.err
    nobody = vault.orch("vault", "view", "v.yml")
    assert nobody.code == 2
    assert "cannot ask for the vault password (prod)" in nobody.err
    failed = vault.orch("vault", "edit", "v.yml", ORCH_VAULT_PASSWORD_FILE="pw", EDITOR="false")
    assert failed.code == 2
    assert (vault.root / "v.yml").read_text() == before


def test_edit_writes_what_the_editor_writes(vault: OrchProject, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        f'#!/bin/sh\nls -ld "$1" "$(dirname "$1")" > {tmp_path}/modes\n'
        f'echo "$1" > {tmp_path}/path\necho x: 1 >> "$1"\n'
    )
    editor.chmod(0o755)
    env = {"ORCH_VAULT_PASSWORD_FILE": "pw", "EDITOR": str(editor)}
    assert vault.orch("vault", "edit", "v.yml", **env).code == 0
    text = (vault.root / "v.yml").read_text()
    assert VaultText.parse(text).decrypt(b"secret") == f"{PLAIN}x: 1\n".encode()
    modes = {line[:10] for line in (tmp_path / "modes").read_text().splitlines()}
    assert modes == {"-rw-------", "drwx------"}
    path = Path((tmp_path / "path").read_text().strip())
    assert path.name == "v.yml"
    assert not path.parent.exists()
    same = vault.orch("vault", "edit", "v.yml", ORCH_VAULT_PASSWORD_FILE="pw", EDITOR="true")
    assert "v.yml is unchanged" in same.err
    assert (vault.root / "v.yml").read_text() == text


def test_the_decrypted_file_is_gone_after_a_kill(vault: OrchProject, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/path.new\nmv {tmp_path}/path.new {tmp_path}/path\n'
        "exec sleep 60\n"
    )
    editor.chmod(0o755)
    env = {"ORCH_VAULT_PASSWORD_FILE": "pw", "EDITOR": str(editor)}
    with subprocess.Popen(
        vault.command("vault", "edit", "v.yml"),
        cwd=vault.root,
        env=vault.environ(env),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until((tmp_path / "path").exists, "the editor")
        path = Path((tmp_path / "path").read_text().strip())
        assert path.read_text() == PLAIN
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: not path.parent.exists(), "the removal of the private folder")


@pytest.mark.long
def test_ansible_vault_and_orch_read_each_other(vault: OrchProject) -> None:
    program = Path(sys.executable).with_name("ansible-vault")
    env = {"ORCH_VAULT_PASSWORD_FILE": "pw"}

    def ansible(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [program, *words],
            cwd=vault.root,
            env=vault.environ({"ANSIBLE_LOCAL_TEMP": str(vault.root / "tmp")}),
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert ansible("view", "--vault-id", "prod@pw", "v.yml") == PLAIN
    (vault.root / "a.yml").write_text(PLAIN)
    ansible("encrypt", "--vault-id", "dev@pw", "--encrypt-vault-id", "dev", "a.yml")
    assert vault.orch("vault", "view", "a.yml", **env).out == PLAIN
    ansible("rekey", "--vault-password-file", "pw", "--new-vault-password-file", "pw", "a.yml")
    assert vault.orch("vault", "view", "a.yml", **env).out == PLAIN
    text = ansible("encrypt_string", "--vault-password-file", "pw", "--name", "k", "hunter2")
    value = parse_ansible_yaml(text, "x").data
    assert isinstance(value, dict)
    (secret,) = value.values()
    assert VaultText.parse(secret.data.words[0]).decrypt(b"secret") == b"hunter2"  # type: ignore[union-attr]
    done = vault.orch("vault", "string", stdin="hunter2", **env)
    (vault.root / "s").write_text(
        "".join(f"{line.strip()}\n" for line in done.out.splitlines()[1:])
    )
    assert ansible("view", "--vault-password-file", "pw", "s").strip() == "hunter2"


def test_a_password_is_asked_for_once_in_a_run_and_twice_to_encrypt(vault: OrchProject) -> None:
    (vault.root / "w.yml").write_text(PLAIN)
    env = vault.environ({})
    encrypt = vault.command("vault", "encrypt", "w.yml")
    with on_terminal(encrypt, vault.root, env) as terminal:
        terminal.wait_for("Vault password: ")
        terminal.type("typed\r")
        terminal.wait_for("Vault password again: ")
        terminal.type("typed\r")
        assert terminal.process.wait() == 0
    text = (vault.root / "w.yml").read_text()
    assert VaultText.parse(text).decrypt(b"typed") == PLAIN.encode()
    value = "".join(f"  {line}\n" for line in encrypt_text(b"hunter2", b"typed").splitlines())
    vault.write({"inventories/prod/hosts.ini": "web[1:2] ansible_connection=local\n"})
    vault.write({"tasks/t.yml": "steps:\n  - run: echo {{ one }} {{ db_password }}\n"})
    folder = vault.root / "inventories/prod/group_vars/all"
    folder.mkdir(parents=True)
    (folder / "one.yml").write_text(f"one: !vault |\n{value}")
    (folder / "two.yml").write_text(text)
    run = vault.command("-s", "prod", "run", "t")
    with on_terminal(run, vault.root, env) as terminal:
        terminal.wait_for("Vault password: ")
        terminal.type("typed\r")
        terminal.wait_for("‹one› ‹db_password›")
        assert terminal.process.wait() == 0
        assert terminal.output.count(b"Vault password") == 1
