"""The passwords of vaults: from files, from programs, or from the user."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, UsageError
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.yamlio import child_process
from orchestrator.yamlio.local_files import expand_home, read_file
from orchestrator.yamlio.vault_format import (
    DEFAULT_ID,
    VaultError,
    VaultText,
    WrongPasswordError,
)

VAULT_FILE_VARIABLE = "ORCH_VAULT_PASSWORD_FILE"
"""Names the file with the password; with ``_ID`` appended, that of the vault ID."""

_MAX_PASSWORD_BYTES = 1 << 16
_CLIENT_SUFFIX = "-client"
"""A program whose name ends so gets the vault ID as ``--vault-id ID``, as from Ansible."""


class OpenedVault(Struct, frozen=True):
    """What a vault holds, its ID (``default`` if it names none), and the password."""

    data: bytes
    vault_id: str
    password: bytes


class VaultPasswords:
    """The passwords of a run's vaults. Each file is read, and each question asked, once.

    ``ask`` asks the user for a password and returns it; it raises UsageError if nobody can answer.
    Not thread-safe.
    """

    def __init__(self, environ: Mapping[str, str], ask: Callable[[str], str]) -> None:
        """Read nothing yet."""
        self._environ, self._ask = environ, ask
        self._from_files: dict[str, bytes] = {}
        self._typed: dict[str, bytes] = {}

    def decrypt(self, text: str, name: str, mark: SourcePosition) -> bytes:
        """Return the bytes of a vault; ``name`` is what it is, for errors.

        Raises DefinitionError, and UsageError if no file has the password and nobody can be asked.
        """
        return self.open_vault(text, name, mark).data

    def open_vault(self, text: str, name: str, mark: SourcePosition) -> OpenedVault:
        """Return what a vault holds, with its ID and the password. Raises as ``decrypt`` does."""
        try:
            vault = VaultText.parse(text)
        except VaultError as error:
            raise DefinitionError(
                Diagnostic(f"{name} cannot be decrypted: {error}", mark)
            ) from None
        tried: list[str] = []
        for source, password in self._candidates(vault.vault_id):
            try:
                return OpenedVault(vault.decrypt(password), vault.vault_id, password)
            except WrongPasswordError:
                tried.append(source)
            except VaultError as error:
                what = f"{name} cannot be decrypted: {error}"
                raise DefinitionError(Diagnostic(what, mark)) from None
        what = f"{name} cannot be decrypted: the password of {' and of '.join(tried)} is wrong"
        hint = "or the text was changed"
        if vault.vault_id != DEFAULT_ID:
            hint = f"its vault ID is '{vault.vault_id}': set {file_variables(vault.vault_id)[0]}"
        raise DefinitionError(Diagnostic(what, mark, hint))

    def password_for(self, vault_id: str) -> bytes:
        """Return the password for new text with this vault ID ('' or ``default``: without one).

        A typed password is asked for twice. Raises DefinitionError and UsageError.
        """
        for variable in (*file_variables(vault_id), VAULT_FILE_VARIABLE):
            if self._environ.get(variable):
                return self._password_of(variable)
        return self.new_password("Vault password", vault_id or DEFAULT_ID)

    def new_password(self, question: str, vault_id: str = DEFAULT_ID) -> bytes:
        """Return a password that the user types twice. Raises UsageError."""
        of = f" ({vault_id})" if vault_id != DEFAULT_ID else ""
        typed = self._ask(f"{question}{of}")
        if self._ask(f"{question} again{of}") != typed:
            raise UsageError(Diagnostic("the two passwords differ", None, "try again"))
        return typed.encode("utf-8", "surrogateescape")

    def password_of_file(self, path: Path) -> bytes:
        """Return the password of a file or program. Raises DefinitionError."""
        password = self._read(str(path), path, DEFAULT_ID).strip()
        if not password:
            raise DefinitionError(Diagnostic(f"{path} gives an empty password"))
        return password

    def _candidates(self, vault_id: str) -> Iterator[tuple[str, bytes]]:
        """Yield passwords with their sources: that of the ID, the usual one, those of other IDs."""
        others = [name for name in self._environ if name.startswith(f"{VAULT_FILE_VARIABLE}_")]
        variables = dict.fromkeys((*file_variables(vault_id), VAULT_FILE_VARIABLE, *sorted(others)))
        configured = [name for name in variables if self._environ.get(name)]
        for variable in configured:
            yield variable, self._password_of(variable)
        if not configured:
            yield "the prompt", self._typed_password(vault_id)

    def _typed_password(self, vault_id: str) -> bytes:
        if vault_id not in self._typed:
            of = f" ({vault_id})" if vault_id != DEFAULT_ID else ""
            self._typed[vault_id] = self._ask(f"Vault password{of}").encode(
                "utf-8", "surrogateescape"
            )
        return self._typed[vault_id]

    def _password_of(self, variable: str) -> bytes:
        """Return the password of the file that a variable names. Raises DefinitionError."""
        if variable not in self._from_files:
            path = expand_home(self._environ[variable])
            vault_id = variable.removeprefix(VAULT_FILE_VARIABLE).lstrip("_").lower()
            password = self._read(variable, path, vault_id or DEFAULT_ID).strip()
            if not password:
                raise DefinitionError(Diagnostic(f"{variable}: {path} gives an empty password"))
            self._from_files[variable] = password
        return self._from_files[variable]

    def _read(self, variable: str, path: Path, vault_id: str) -> bytes:
        mark = SourcePosition(str(path))
        if path.is_file() and os.access(path, os.X_OK):
            words = [str(path.absolute())]
            if path.stem.endswith(_CLIENT_SUFFIX):
                words += ["--vault-id", vault_id]
            try:
                done = child_process.run_child(words, "", self._environ)
            except (OSError, ValueError) as error:
                why = (getattr(error, "strerror", None) or str(error)).lower()
                what = f"{variable}: {path} cannot be run: {why}"
                raise DefinitionError(Diagnostic(what, mark)) from None
            if done.returncode:
                # its output may be the password
                said = decode_bytes(done.stderr).strip()
                what = f"{variable}: {path} failed: exit status {done.returncode}"
                raise DefinitionError(Diagnostic(what + (f"\n{said}" if said else ""), mark))
            return done.stdout
        try:
            return read_file(path, _MAX_PASSWORD_BYTES)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            what = f"{variable}: cannot read {path}: {why}"
            raise DefinitionError(Diagnostic(what, mark)) from None


def has_vault_password(environ: Mapping[str, str]) -> bool:
    """Return True if the environment names a file with a password of vaults."""
    return any(name.startswith(VAULT_FILE_VARIABLE) and text for name, text in environ.items())


def file_variables(vault_id: str) -> tuple[str, ...]:
    """Return the variables that may name the password file of a vault ID."""
    if not vault_id or vault_id == DEFAULT_ID:
        return (VAULT_FILE_VARIABLE,)
    name = re.sub("[^A-Za-z0-9]", "_", vault_id)
    return f"{VAULT_FILE_VARIABLE}_{name.upper()}", f"{VAULT_FILE_VARIABLE}_{name}"


def ask_for_password(question: str, *, hint: str = "") -> str:
    """Return what the user types at the terminal, which is not shown.

    Raises UsageError if there is no terminal or no answer.
    """
    import getpass
    import termios

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        what = f"cannot ask for the {question[:1].lower()}{question[1:]}: there is no terminal"
        raise UsageError(Diagnostic(what, None, hint)) from None
    try:
        answer = getpass.getpass(f"{question}: ")
    except (EOFError, OSError, termios.error):  # the last two: the terminal was closed
        answer = ""
    if not answer:
        what = f"the question for the {question[:1].lower()}{question[1:]} was not answered"
        raise UsageError(Diagnostic(what, None, hint))
    return answer


def vault_passwords(environ: Mapping[str, str]) -> VaultPasswords:
    """Return the passwords of a run, asked for at the terminal if no file has them."""
    hint = f"set {VAULT_FILE_VARIABLE} to a file with the password, or to a program that prints it"
    return VaultPasswords(environ, lambda question: ask_for_password(question, hint=hint))
