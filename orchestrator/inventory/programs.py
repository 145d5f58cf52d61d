"""The programs that print inventories, and the cache of their output."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import Secret
from orchestrator.model.text_encoding import decode_bytes as keep_bytes
from orchestrator.yamlio import child_process
from orchestrator.yamlio.json_loader import parse_json
from orchestrator.yamlio.local_files import expand_home, read_file
from orchestrator.yamlio.yaml_loader import decode_utf8

PROGRAM_TIMEOUT = 30.0
_MAX_ERROR_CHARS = 1000
_PLUGIN_SETTINGS = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "ANSIBLE_NOCOLOR": "1"}
"""Environment in which ``ansible-inventory`` fails if a plugin does, and prints no color."""

_MINUTE, _HOUR = 60, 3600


def _refuse_vault(secret: Secret) -> str:
    what = f"{secret.name} is encrypted, so its hosts are not known"
    hint = (
        "orch decrypts inventories only for commands that use hosts; set ORCH_VAULT_PASSWORD_FILE"
    )
    raise DefinitionError(Diagnostic(what, secret.mark, hint))


class InventoryAccess(Struct, frozen=True):
    """What reading an inventory may use.

    ``environ`` is the environment of its programs. ``cache_file`` returns the path of a private
    file in which output is kept, or None; ``refresh``: kept output is not used. ``open_vault``
    returns the text of an encrypted inventory. ``tell`` is called with the age of output that is
    used again.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cache_file: Callable[[str], Path | None] = lambda _name: None
    refresh: bool = False
    open_vault: Callable[[Secret], str] = _refuse_vault
    tell: Callable[[str], object] = lambda _text: None


class ProgramRunner:
    """Runs the programs of one stage.

    They run in the folder ``root``, with ORCH_STAGE set and /dev/null as standard input, and are
    killed with their children after ``timeout`` seconds. Their output is used again for ``cache``
    seconds, unless the program has changed. None stands for PROGRAM_TIMEOUT and no cache.
    """

    def __init__(
        self,
        access: InventoryAccess,
        root: Path,
        stage: str,
        cache: float | None = None,
        timeout: float | None = None,
    ) -> None:
        self.access, self.root, self.stage = access, root, stage
        self.cache, self.timeout = cache or 0.0, timeout or PROGRAM_TIMEOUT

    def run_hosts(self, path: Path, shown: str) -> MarkedValue:
        """Return what orch's executable ``hosts`` prints. Raises DefinitionError."""
        if not os.access(path, os.X_OK):
            hint = (
                f"chmod +x {shown}, or name it {shown}.yml if it is a list of hosts, or write"
                f" `ansible: {path.name}` into stage.yml if it is an inventory of Ansible"
            )
            message = f"{shown} is not executable"
            raise DefinitionError(Diagnostic(message, SourcePosition(shown), hint))
        return self._run([str(path.absolute())], path, shown)

    def run_program(self, path: Path, shown: str, host: str | None = None) -> MarkedValue:
        """Return what an executable prints with ``--list``, or with ``--host``."""
        words = ["--list"] if host is None else ["--host", host]
        return self._run([str(path.absolute()), *words], path, shown)

    def run_plugin(
        self, path: Path, shown: str, plugin: str, sources: Sequence[Path]
    ) -> MarkedValue:
        """Return what Ansible prints for sources with the configuration of a plugin among them."""
        from orchestrator.inventory.ansible.script_source import plugin_command

        words = plugin_command(sources, self.access.environ, plugin, shown)
        return self._run(words, path, shown)

    def _run(self, words: Sequence[str], path: Path, shown: str) -> MarkedValue:
        file = self._cache_file(words, path)
        text = self._kept_output(file, shown) if file and not self.access.refresh else None
        if text is not None:
            return parse_json(text, shown)
        text = decode_utf8(self._output(words, shown), shown)
        if not text.strip() and "--host" in words:
            text = "{}"
        value = parse_json(text, shown)
        if file:
            _keep_output(file, text)
        return value

    def _output(self, words: Sequence[str], shown: str) -> bytes:
        mark = SourcePosition(shown)

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                words,
                cwd=self.root,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # its children can be killed with it
            )

        try:
            program, (out, err) = child_process.supervise_child(
                start,
                lambda program: (program, program.communicate(timeout=self.timeout)),
                _end_program,
            )
        except OSError as error:
            hint = "its first line must name an interpreter, like #!/bin/sh"
            what = f"{shown} cannot run: {(error.strerror or str(error)).lower()}"
            raise DefinitionError(Diagnostic(what, mark, hint)) from error
        except subprocess.TimeoutExpired as error:
            tail = _error_tail(error.stderr or b"")
            what = f"{shown} did not finish within {self.timeout:g} seconds{tail}"
            hint = "give it more time with `inventory_timeout` in stage.yml"
            raise DefinitionError(Diagnostic(what, mark, hint)) from error
        if program.returncode:
            how = f"exited with {program.returncode}" if program.returncode > 0 else "was killed"
            raise DefinitionError(Diagnostic(f"{shown} {how}{_error_tail(err)}", mark))
        return out

    def _environ(self) -> dict[str, str]:
        from orchestrator.yamlio.vault_passwords import VAULT_FILE_VARIABLE

        environ = {**self.access.environ, "ORCH_STAGE": self.stage, **_PLUGIN_SETTINGS}
        if password_file := environ.get(VAULT_FILE_VARIABLE):
            environ.setdefault(
                "ANSIBLE_VAULT_PASSWORD_FILE", str(expand_home(password_file).absolute())
            )
        return environ

    def _cache_file(self, words: Sequence[str], path: Path) -> Path | None:
        """Return the file with the output of this command of this version of the program."""
        if not self.cache:
            return None
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            changed = 0
        key = json.dumps([*words, self.stage, changed])
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return self.access.cache_file(f"inventory-{digest}.json")

    def _kept_output(self, file: Path, shown: str) -> str | None:
        """Return the kept output if it is new enough."""
        try:
            with file.open("rb") as opened:
                age = time.time() - os.fstat(opened.fileno()).st_mtime
            if not 0 <= age < self.cache:
                return None
            text = read_file(file).decode("utf-8")
        except (OSError, ValueError):
            return None
        self.access.tell(f"{shown}: as it was {_age_text(age)} ago; --refresh runs it again")
        return text


def _keep_output(file: Path, text: str) -> None:
    """Write the output for its owner alone; if that fails, the program runs again next time."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text.encode("utf-8"))
        temporary.replace(file)


def _age_text(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f}m"
    return f"{seconds // _HOUR:.0f}h"


def _end_program(program: subprocess.Popen[bytes]) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    for pipe in (program.stdout, program.stderr):
        if pipe is not None:
            pipe.close()


def _error_tail(err: bytes) -> str:
    text = keep_bytes(err).strip()
    return f": {text[-_MAX_ERROR_CHARS:]}" if text else ""
