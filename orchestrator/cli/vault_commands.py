"""The commands that encrypt and decrypt files: `orch vault`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from orchestrator.cli import completion
from orchestrator.cli.group import NestedGroup
from orchestrator.errors import Diagnostic, ExitCode, UsageError


@click.group(
    "vault", cls=NestedGroup, short_help="Encrypt and decrypt files as ansible-vault does."
)
def vault_command() -> None:
    """Encrypt and decrypt files and values in the format of Ansible Vault.

    The password is that of the file ORCH_VAULT_PASSWORD_FILE (ORCH_VAULT_PASSWORD_FILE_ID for a
    vault ID), which may be a program that prints it; otherwise it is asked for.

    \b
      orch vault encrypt inventories/prod/group_vars/all/vault.yml
      orch vault edit inventories/prod/group_vars/all/vault.yml
      orch vault string --name db_password >> inventories/prod/group_vars/all/main.yml
    """


F = TypeVar("F", bound=Callable[..., Any])


def _files_argument(command: F) -> F:
    """Add the files."""
    return click.argument(
        "files",
        metavar="FILE...",
        nargs=-1,
        required=True,
        type=click.Path(path_type=Path),
        shell_complete=completion.complete_files,
    )(command)


def _vault_id_option(command: F) -> F:
    """Add ``--id``."""
    return click.option(
        "--id", "vault_id", metavar="ID", default="", help="The vault ID, which names the password."
    )(command)


@click.command("encrypt", short_help="Encrypt files in place.")
@_vault_id_option
@_files_argument
def encrypt_command(files: tuple[Path, ...], vault_id: str) -> int:
    """Encrypt files in place."""
    from orchestrator.commands.vault import VaultFiles

    vault = VaultFiles(os.environ)
    for file in files:
        vault.encrypt(file, vault_id)
    return ExitCode.OK


@click.command("decrypt", short_help="Decrypt files in place.")
@_files_argument
def decrypt_command(files: tuple[Path, ...]) -> int:
    """Decrypt files in place."""
    from orchestrator.commands.vault import VaultFiles

    vault = VaultFiles(os.environ)
    for file in files:
        vault.decrypt(file)
    return ExitCode.OK


@click.command("view", short_help="Print what encrypted files hold.")
@_files_argument
def view_command(files: tuple[Path, ...]) -> int:
    """Print what encrypted files hold."""
    from orchestrator.commands.vault import VaultFiles

    vault = VaultFiles(os.environ)
    for file in files:
        sys.stdout.buffer.write(vault.view(file))
    return ExitCode.OK


@click.command("edit", short_help="Edit what an encrypted file holds.")
@click.argument(
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    shell_complete=completion.complete_files,
)
def edit_command(file: Path) -> int:
    """Edit what an encrypted file holds, with $VISUAL, $EDITOR or vi.

    The decrypted text is in a private folder, which is removed afterwards, also if orch is killed.
    """
    from orchestrator.commands.vault import VaultFiles

    if not VaultFiles(os.environ).edit(file):
        click.echo(f"{file} is unchanged", err=True)
    return ExitCode.OK


@click.command("rekey", short_help="Change the password of encrypted files.")
@click.option("--new-id", metavar="ID", help="The new vault ID; by default, the ID stays as it is.")
@click.option(
    "--new-password-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    shell_complete=completion.complete_files,
    help="A file with the new password, or a program that prints it. Default: that of --new-id, or "
    "it is asked for.",
)
@_files_argument
def rekey_command(
    files: tuple[Path, ...], new_id: str | None, new_password_file: Path | None
) -> int:
    """Encrypt files in place with another password, or for another vault ID."""
    from orchestrator.commands.vault import VaultFiles

    vault = VaultFiles(os.environ)
    for file in files:
        vault.rekey(file, new_id, new_password_file)
    return ExitCode.OK


@click.command("string", short_help="Encrypt a value for a YAML file.")
@_vault_id_option
@click.option("--name", metavar="NAME", default="", help="The variable that gets the value.")
def string_command(vault_id: str, name: str) -> int:
    """Encrypt a value, and print it as YAML.

    The value is the standard input without its final newline; on a terminal it is asked for.
    """
    from orchestrator.commands.vault import VaultFiles
    from orchestrator.yamlio.vault_passwords import ask_for_password

    if sys.stdin.isatty():
        data = ask_for_password("Value").encode("utf-8", "surrogateescape")
    else:
        data = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        message = "there is no value to encrypt"
        raise UsageError(Diagnostic(message, None, "pipe it into the command"))
    click.echo(VaultFiles(os.environ).string(data, vault_id, name), nl=False)
    return ExitCode.OK


for _each in (
    encrypt_command,
    decrypt_command,
    view_command,
    edit_command,
    rekey_command,
    string_command,
):
    vault_command.add_command(_each)

VAULT_COMMANDS: tuple[click.Command, ...] = (vault_command,)
