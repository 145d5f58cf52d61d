"""The ``local`` transport: a shell on this machine, for trying things out and for tests."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.model.host import InventoryPassword
from orchestrator.remote_shell.channel_protocol import Channel, CommandChannel, Terminal
from orchestrator.transports.become import BecomeShells
from orchestrator.transports.local_user import login_name, login_shell
from orchestrator.transports.pipe_channel import PipeChannel, StdioFds
from orchestrator.transports.prompts import CredentialStore
from orchestrator.transports.pseudo_terminal import start_on_terminal

DEFAULT_TIMEOUT = 10.0  # seconds, as in ``ConnectionOptions``
_EXIT_TIMEOUT = 15.0  # seconds for the shell to end its commands after its stdin is closed


class LocalConnection:
    """A connection to this machine, whose shells start in the home folder.

    ``shell`` is the command to run, split into words as sh does. ``environment`` replaces this
    process's environment; its HOME is the home folder. ``become_method``, ``timeout`` and
    ``become_password`` are as in ``ConnectionOptions``. Without ``credential_store`` no password is
    sent.
    """

    def __init__(
        self,
        shell: str = "sh",
        environment: Mapping[str, str] | None = None,
        *,
        become_method: str = "sudo",
        timeout: float = DEFAULT_TIMEOUT,
        credential_store: CredentialStore | None = None,
        become_password: InventoryPassword | None = None,
    ) -> None:
        self._shell = shell
        self._become_shells = BecomeShells(
            login_name(),
            become_method,
            shell,
            timeout,
            credential_store,
            password=become_password,
        )
        self._environment = dict(os.environ if environment is None else environment)
        self._channels: list[LocalChannel] = []
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """The endpoint as in ``Connection.endpoint``: '', because there is no network address."""
        return ""

    def open(self, become: str = "") -> Channel:
        """Implement ``Connection.open``."""
        if become in ("", login_name()):
            return self._start_channel(shlex.split(self._shell))
        return self._become_shells.open(become, lambda other: self._start_channel(other.argv))

    def start_command(
        self, command: str, terminal: Terminal | None = None, become: str = ""
    ) -> CommandChannel:
        """Implement ``Connection.start_command``."""
        if become not in ("", login_name()):
            return self._become_shells.start_command(
                become,
                command,
                lambda other: self._start_channel(other.argv, terminal),
                on_terminal=terminal is not None,
            )
        argv = shlex.split(command) if command else [login_shell(), "-l"]
        return self._start_channel(argv, terminal)

    def _start_channel(self, argv: list[str], terminal: Terminal | None = None) -> LocalChannel:
        home = self._environment.get("HOME") or str(Path.home())
        try:
            channel = LocalChannel(argv, self._environment, home, terminal)
        except OSError as error:
            raise ConnectError("shell", f"{shlex.join(argv)}: {error}") from error
        with self._lock:
            self._channels.append(channel)
        return channel

    def close(self) -> None:
        """End every open shell. Safe to call twice and from any thread."""
        with self._lock:
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()


class LocalChannel(PipeChannel):
    """A shell process in its own session, so that a signal to its group stays in it."""

    def __init__(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        home_folder: str,
        terminal: Terminal | None = None,
    ) -> None:
        def start_shell(ends: StdioFds) -> None:
            stdin, stdout, stderr = ends
            if terminal is not None:
                own = {**environment, "TERM": terminal.kind}
                self._process = start_on_terminal(argv, stdin, cwd=home_folder, environment=own)
                return
            self._process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=home_folder,
                env=environment,
                start_new_session=True,
            )

        super().__init__(start_shell, terminal)
        self._reaper = threading.Thread(target=self._wait_for_exit, daemon=True)
        self._reaper.start()

    def exit_status(self) -> int | None:
        """Implement ``Channel.exit_status``."""
        status = self._process.returncode
        return status if status is None or status >= 0 else 128 - status

    def _has_exited(self) -> bool:
        return self._process.returncode is not None

    def _end_shell(self) -> None:
        self._reaper.join(_EXIT_TIMEOUT)
        if self._reaper.is_alive():
            with suppress(PermissionError):  # the process of a become user
                os.killpg(self._process.pid, signal.SIGKILL)
                self._reaper.join()

    def _wait_for_exit(self) -> None:
        self._process.wait()
        self.wake()
