"""Encrypts and decrypts files in the format of Ansible Vault."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.commands.file_writer import replace_file
from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, UsageError
from orchestrator.yamlio.local_files import display_path, read_file
from orchestrator.yamlio.vault_format import (
    DEFAULT_ID,
    VAULT_HEADER,
    VaultError,
    encrypt_text,
)
from orchestrator.yamlio.vault_passwords import OpenedVault, VaultPasswords, vault_passwords

_DEFAULT_EDITOR = "vi"
_STRING_INDENT = 10  # spaces before the lines of an encrypted value, as ansible-vault has them
_REMOVER = "trap '' HUP INT TERM; cat >/dev/null; rm -rf -- \"$1\""
"""Removes a folder when its standard input ends, which is when orch ends, however that happens."""


class VaultFiles:
    """The files of a vault command. Every password is read once."""

    def __init__(self, environ: Mapping[str, str], passwords: VaultPasswords | None = None) -> None:
        """Read nothing yet."""
        self._environ = environ
        self._passwords = passwords or vault_passwords(environ)

    def encrypt(self, path: Path, vault_id: str) -> None:
        """Encrypt a file in place. Raises DefinitionError and UsageError."""
        data = _read(path)
        if data.startswith(VAULT_HEADER.encode()):
            raise _error(path, "is encrypted already", "`orch vault rekey` changes its password")
        replace_file(path, self._encrypted(data, vault_id))

    def decrypt(self, path: Path) -> None:
        """Decrypt a file in place. Raises DefinitionError and UsageError."""
        replace_file(path, self.view(path))

    def view(self, path: Path) -> bytes:
        """Return what a file holds. Raises DefinitionError and UsageError."""
        return self._open(path).data

    def rekey(self, path: Path, vault_id: str | None, password_file: Path | None) -> None:
        """Encrypt a file in place with another password.

        ``vault_id`` is its new vault ID (None: as it is). The new password is that of
        ``password_file``, else that of the new vault ID, else it is asked for. Raises
        DefinitionError and UsageError.
        """
        opened = self._open(path)
        if password_file is not None:
            password = self._passwords.password_of_file(password_file)
        elif vault_id is not None and vault_id != opened.vault_id:
            password = self._passwords.password_for(vault_id)
        else:
            password = self._passwords.new_password("New vault password", opened.vault_id)
        new_id = opened.vault_id if vault_id is None else vault_id
        replace_file(path, _encrypt(opened.data, password, new_id))

    def edit(self, path: Path) -> bool:
        """Edit what a file holds, and encrypt it again. Return False if it was not changed.

        The editor is VISUAL, else EDITOR, else vi. The decrypted text is in a private folder, which
        is removed afterwards, also if orch is killed. Raises DefinitionError and UsageError.
        """
        opened = self._open(path)
        with _private_folder(self._environ) as folder:
            plain = folder / path.name
            plain.touch(0o600)
            plain.write_bytes(opened.data)
            self._run_editor(plain)
            edited = _read(plain)
        if edited == opened.data:
            return False
        replace_file(path, _encrypt(edited, opened.password, opened.vault_id))
        return True

    def string(self, data: bytes, vault_id: str, name: str) -> str:
        """Return a text as an encrypted value for a YAML file, of the variable ``name`` or ''."""
        lines = self._encrypted(data, vault_id).decode("ascii").splitlines()
        indented = "".join(f"{' ' * _STRING_INDENT}{line}\n" for line in lines)
        return f"{name}{': ' if name else ''}!vault |\n{indented}"

    def _encrypted(self, data: bytes, vault_id: str) -> bytes:
        return _encrypt(data, self._passwords.password_for(vault_id or DEFAULT_ID), vault_id)

    def _open(self, path: Path) -> OpenedVault:
        data, shown = _read(path), display_path(path)
        if not data.startswith(VAULT_HEADER.encode()):
            hint = "`orch vault encrypt` encrypts it"
            raise _error(path, f"is not encrypted: it does not begin with {VAULT_HEADER}", hint)
        text = data.decode("utf-8", "replace")
        return self._passwords.open_vault(text, shown, SourcePosition(shown))

    def _run_editor(self, path: Path) -> None:
        editor = self._environ.get("VISUAL") or self._environ.get("EDITOR") or _DEFAULT_EDITOR
        try:
            words = shlex.split(editor)
        except ValueError:
            words = []
        if not words:
            raise UsageError(Diagnostic(f"the editor '{editor}' cannot be split into words"))
        try:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the editor
            try:
                done = subprocess.run([*words, str(path)], env=dict(self._environ), check=False)
            finally:
                signal.signal(signal.SIGINT, before)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            hint = "set EDITOR to the command of an editor"
            raise UsageError(
                Diagnostic(f"cannot run the editor '{editor}': {why}", None, hint)
            ) from None
        if done.returncode:
            message = f"the editor '{editor}' failed: exit status {done.returncode}"
            raise UsageError(Diagnostic(message, None, "the file is unchanged"))


def _read(path: Path) -> bytes:
    shown = display_path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _error(path, "is not a file")
        return read_file(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DefinitionError(
            Diagnostic(f"cannot read {shown}: {why}", SourcePosition(shown))
        ) from None


def _encrypt(data: bytes, password: bytes, vault_id: str) -> bytes:
    try:
        return encrypt_text(data, password, vault_id).encode("ascii")
    except VaultError as error:
        raise UsageError(Diagnostic(str(error))) from None


def _error(path: Path, what: str, hint: str = "") -> DefinitionError:
    shown = display_path(path)
    return DefinitionError(Diagnostic(f"{shown} {what}", SourcePosition(shown), hint))


@contextmanager
def _private_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    """Return a folder for this user alone, in memory if possible, that is removed at the end."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    places = [place for place in (runtime, "/dev/shm") if place and os.access(place, os.W_OK)]
    folder = Path(tempfile.mkdtemp(prefix="orch-vault-", dir=places[0] if places else None))
    remover = subprocess.Popen(
        ["sh", "-c", _REMOVER, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what kills orch and its group does not kill it
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if remover.stdin is not None:
            with suppress(OSError):
                remover.stdin.close()
        remover.wait()
