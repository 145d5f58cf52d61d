"""ProxyCommand (ssh_config(5)): a command whose stdin and stdout carry the connection."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping

from orchestrator.errors import ConnectError
from orchestrator.model.sanitize import quote_output_end
from orchestrator.transports.ssh.byte_stream import SocketStream, WriteFlusher

EXIT_TIMEOUT = 0.5  # seconds for the command to exit on its own
POLL_INTERVAL = 0.01  # seconds between checks whether it has exited
MAX_STDERR_BYTES = 2000  # bytes of its stderr that messages quote
CANNOT_RUN_STATUSES = (126, 127)  # POSIX.1-2017, XCU 2.8.2


class ProxyCommandStream(SocketStream):
    """A byte stream over a running proxy command.

    As in ssh, the user's shell runs the command. It has its own session, without a terminal, and
    its process group is ended with the connection. Raises ConnectError (phase connect) if the
    shell cannot be run.
    """

    def __init__(self, command: str, environ: Mapping[str, str], flusher: WriteFlusher) -> None:
        shell = environ.get("SHELL") or "/bin/sh"
        try:
            near, far = socket.socketpair()
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # until the command's end
        except OSError as error:
            raise ConnectError("connect", f"out of file descriptors: {error.strerror}") from error
        try:
            self._process = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=far.fileno(),
                stdout=far.fileno(),
                stderr=self._stderr,
                start_new_session=True,
                # with SHLVL unset and a socket as stdin, bash would take itself for an rshd shell
                # and read .bashrc
                env={**environ, "SHLVL": environ.get("SHLVL") or "1"},
            )
        except OSError as error:
            near.close()
            self._stderr.close()
            why = f"the shell {shell} can't run the proxy command: {error.strerror}"
            raise ConnectError("connect", why, "set SHELL to another shell") from error
        finally:
            far.close()
        super().__init__(near, flusher)
        self._failure_details = ""

    def failure_details(self) -> str:
        """Return the command's stderr and exit status; known after ``release``."""
        return self._failure_details

    def release(self) -> None:
        """End the command and its child processes. Waits ``EXIT_TIMEOUT`` at most."""
        super().release()
        with self._lock:
            if self._stderr.closed:
                return
            self._end_process()
            self._stderr.close()

    def _end_process(self) -> None:
        pid, by_itself = self._process.pid, self._wait_exited(EXIT_TIMEOUT / 5)
        if not by_itself:
            _signal_group(pid, signal.SIGTERM)
            self._wait_exited(EXIT_TIMEOUT)
        _signal_group(pid, signal.SIGKILL)  # the rest of the group, before its id can be reused
        status = self._process.wait()
        size = os.fstat(self._stderr.fileno()).st_size
        text = os.pread(self._stderr.fileno(), MAX_STDERR_BYTES, max(0, size - MAX_STDERR_BYTES))
        stderr_text = quote_output_end(text)
        exit_text = ""
        if by_itself and status:
            exit_text = (
                f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
            )
        details = ": ".join(part for part in (exit_text, stderr_text) if part)
        self._failure_details = (
            f"the proxy command {details if exit_text else f'printed: {details}'}"
            if details
            else ""
        )

    @property
    def is_permanent_failure(self) -> bool:
        """Whether the command cannot be run."""
        return self._process.returncode in CANNOT_RUN_STATUSES

    def _wait_exited(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, self._process.pid, flags) is None:
            if time.monotonic() > end:
                return False
            time.sleep(POLL_INTERVAL)
        return True


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
        os.killpg(group, number)
