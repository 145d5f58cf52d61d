"""The ``local`` transport: a shell on this machine, for trying things out and for tests."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.session.channel import Channel, Chunk
from orchestrator.transport.become import Become, Becoming
from orchestrator.transport.login import login_name

_PIECE = 65536  # bytes a read takes at most
_IN_PIPES = 1 << 20  # bytes that can still be on their way when the shell is gone
_END_PATIENCE = 15.0  # seconds for the shell to end what runs, once its stdin is closed


class LocalConnection:
    """This machine. ``shell`` is what is run (words; quotes as in sh), in the home folder.

    ``environment`` replaces this process's; its HOME is the home folder.
    """

    def __init__(
        self,
        shell: str = "sh",
        environment: Mapping[str, str] | None = None,
        *,
        become_method: str = "sudo",
    ) -> None:
        self._shell, self._method = shell, become_method
        self._environment = dict(os.environ if environment is None else environment)
        self._channels: list[LocalChannel] = []
        self._lock = threading.Lock()

    def open(self, become: str = "") -> Channel:
        """As ``Connection.open``."""
        if become in ("", login_name()):
            return self._run(shlex.split(self._shell))
        other = Become(self._method, become, self._shell)
        return Becoming(self._run(other.words), other)

    def _run(self, words: list[str]) -> LocalChannel:
        home = self._environment.get("HOME") or str(Path.home())
        try:
            channel = LocalChannel(words, self._environment, home)
        except OSError as error:
            raise ConnectError("shell", f"{shlex.join(words)}: {error}") from error
        with self._lock:
            self._channels.append(channel)
        return channel

    def close(self) -> None:
        """End every shell that was opened. Safe to call twice and from any thread."""
        with self._lock:
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()


class LocalChannel:
    """One shell, in a session of its own so that a signal to its group stays in it."""

    def __init__(self, words: list[str], environment: Mapping[str, str], home: str) -> None:
        self._process = subprocess.Popen(
            words,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin: int | None = self._process.stdin.fileno()
        self._outputs = [self._process.stdout.fileno(), self._process.stderr.fileno()]
        self._open_outputs = set(self._outputs)
        self._waker, self._woken = os.pipe()
        for fd in (self._stdin, *self._outputs, self._waker, self._woken):
            os.set_blocking(fd, False)
        self._full = False
        self._left = _IN_PIPES
        self._closed = False
        self._using = threading.Lock()  # held while the file descriptors are in use
        self._waking = threading.Lock()
        self._reaper = threading.Thread(target=self._reap, daemon=True)
        self._reaper.start()

    def write(self, data: bytes | memoryview) -> int:
        with self._using:
            if self._stdin is None:
                raise BrokenPipeError("the shell's stdin is closed")
            try:
                written = os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            self._full = written < len(data)
            return written

    def read(self, timeout: float | None) -> Chunk:
        with self._using:
            if self._closed:
                return Chunk(eof=True)
            gone = self._process.returncode is not None
            ready = self._wait(0 if gone else timeout)
            if self._waker in ready:
                os.read(self._waker, _PIECE)
            if self._closed:
                return Chunk(eof=True)
            stdout, stderr = (self._take(fd) if fd in ready else b"" for fd in self._outputs)
            if gone:
                self._left -= len(stdout) + len(stderr)
            # who else has the pipes may keep them for ever
            return Chunk(stdout, stderr, gone and (self._left < 0 or not (stdout or stderr)))

    def wake(self) -> None:
        with self._waking:
            if not self._closed:
                self._wake()

    def close_stdin(self) -> None:
        with self._using:
            self._drop_stdin()

    def close(self) -> None:
        """The shell is over and gone, and so are its pipes."""
        with self._waking:
            if self._closed:
                return
            self._closed = True
            self._wake()
        with self._using:
            self._drop_stdin()
            for stream in (self._process.stdout, self._process.stderr):
                if stream:
                    stream.close()
            self._open_outputs.clear()
            self._reaper.join(_END_PATIENCE)
            if self._reaper.is_alive():
                with suppress(PermissionError):  # of a user it became
                    os.killpg(self._process.pid, signal.SIGKILL)
                    self._reaper.join()
            os.close(self._waker)
            os.close(self._woken)

    def exit_status(self) -> int | None:
        status = self._process.returncode
        return status if status is None or status >= 0 else 128 - status

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full, so it is awake
            os.write(self._woken, b".")

    def _wait(self, timeout: float | None) -> set[int]:
        """The file descriptors with something to do."""
        with selectors.DefaultSelector() as selector:
            for fd in (*self._open_outputs, self._waker):
                selector.register(fd, selectors.EVENT_READ)
            if self._full and self._stdin is not None:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            return {key.fd for key, _ in selector.select(timeout)}

    def _take(self, fd: int) -> bytes:
        data = os.read(fd, _PIECE)
        if not data:
            self._open_outputs.discard(fd)
        return data

    def _drop_stdin(self) -> None:
        if self._stdin is not None and self._process.stdin:
            self._stdin = None
            self._process.stdin.close()

    def _reap(self) -> None:
        self._process.wait()
        self.wake()
