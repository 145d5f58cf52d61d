"""Reading of secrets from their sources."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import DefinitionError, Diagnostic, UsageError
from orchestrator.model.secret import Secret
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.yamlio import child_process
from orchestrator.yamlio.local_files import expand_home, read_file

if TYPE_CHECKING:
    from orchestrator.yamlio.vault_passwords import VaultPasswords


def secret_fetcher(environ: Mapping[str, str]) -> Callable[[Secret], str]:
    """Return a function that reads the value of a secret from its source.

    ``environ`` is the source of variables and the environment of commands. Paths are relative to
    the folder of the file that names them; commands run in that folder, without standard input. A
    final newline of a file or of a command's output, and a byte order mark at the beginning of a
    file, are removed. The function raises DefinitionError if the source fails, and UsageError if
    nobody can answer a prompt. Passwords of vaults are read once.
    """
    passwords: list[VaultPasswords] = []  # once a value is encrypted

    def decrypt(secret: Secret) -> str:
        from orchestrator.yamlio.vault_passwords import vault_passwords

        if not passwords:
            passwords.append(vault_passwords(environ))
        data = passwords[0].decrypt(secret.words[0], f"'{secret.name}'", secret.mark)
        return _decode_secret(secret, data, is_vault=True)

    def fetch(secret: Secret) -> str:
        match secret.kind:
            case "env":
                return _read_environ(secret, environ)
            case "file":
                return _decode_secret(
                    secret, _read_secret_file(secret).removeprefix(codecs.BOM_UTF8)
                )
            case "command":
                return _decode_secret(secret, _run_secret_command(secret, environ))
            case "vault":
                return decrypt(secret)
            case _:
                return _prompt_for_secret(secret)

    return fetch


def _read_environ(secret: Secret, environ: Mapping[str, str]) -> str:
    (name,) = secret.words
    if name not in environ:
        what = f"the environment variable {name}, the source of '{secret.name}', is not set"
        raise _secret_error(secret, what, f"export {name} before running orch")
    return environ[name]


def _read_secret_file(secret: Secret) -> bytes:
    path = Path(secret.folder, expand_home(secret.words[0]))
    try:
        return read_file(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        what = f"cannot read {path}, the source of '{secret.name}': {why}"
        raise _secret_error(secret, what) from None


def _run_secret_command(secret: Secret, environ: Mapping[str, str]) -> bytes:
    about = f"the command `{' '.join(secret.words)}`, the source of '{secret.name}',"
    try:
        done = child_process.run_child(secret.words, secret.folder, environ)
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise _secret_error(secret, f"{about} cannot be run: {why}") from None
    if done.returncode != 0:
        # its output may be the secret, which its error message may repeat
        masks = SecretMasker()
        masks.add_secret(secret.name, decode_bytes(done.stdout).strip())
        output = masks.mask_text(decode_bytes(done.stderr).strip())
        how = f"exit status {done.returncode}"
        if done.returncode < 0:
            how = f"killed by signal {-done.returncode}"
        raise _secret_error(secret, f"{about} failed: {how}" + (f"\n{output}" if output else ""))
    return done.stdout


def _decode_secret(secret: Secret, data: bytes, *, is_vault: bool = False) -> str:
    """Return the text; what was in a vault keeps its final newline."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _secret_error(
            secret, f"the source of '{secret.name}' does not contain UTF-8"
        ) from None
    if is_vault:
        return text
    return text.removesuffix("\n").removesuffix("\r")


def _prompt_for_secret(secret: Secret) -> str:
    import getpass
    import termios

    hint = "without a terminal, use `env`, `command` or `file`, or pass -e NAME=VALUE"
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        what = f"cannot prompt for the secret '{secret.name}': there is no terminal"
        raise UsageError(Diagnostic(what, secret.mark, hint)) from None
    try:
        return getpass.getpass(f"{secret.words[0].rstrip(': ')}: ")
    except (EOFError, OSError, termios.error):  # the last two: the terminal was closed
        what = f"the prompt for the secret '{secret.name}' was not answered"
        raise UsageError(Diagnostic(what, secret.mark, hint)) from None


def _secret_error(secret: Secret, what: str, hint: str = "") -> DefinitionError:
    return DefinitionError(Diagnostic(what, secret.mark, hint))
