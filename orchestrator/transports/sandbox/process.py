"""The processes of the sandbox's sessions, and the thread that does their input and output."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from orchestrator.remote_shell.channel_protocol import Terminal, TerminalSize
from orchestrator.transports.local_user import login_name
from orchestrator.transports.pseudo_terminal import (
    get_attributes,
    open_terminal,
    set_attributes,
    set_size,
    start_on_terminal,
)
from orchestrator.transports.ssh.channels import ChannelOwner, SshChannel
from orchestrator.transports.ssh.paramiko_compat import Message, codes
from orchestrator.transports.ssh.terminal_modes import apply_modes

PROCESS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARKER_VARIABLE = "ORCH_SANDBOX"
HAS_PIDFD = hasattr(os, "pidfd_open")  # Linux
READ_BYTES = 1 << 16  # bytes read from a pipe at once


class SandboxProcess(SshChannel):
    """A channel with a process, as in sshd.

    Data is written to the process's stdin and EOF closes stdin. Output is sent as the client's
    window allows, then the exit status. When the client is gone, the pipes are closed; the
    process gets no signal.

    Only the I/O thread closes the file descriptors, because it watches them.
    """

    def __init__(
        self, owner: ChannelOwner, number: int, home: Path, marker: str, pump: ProcessIoThread
    ) -> None:
        super().__init__(owner, number)
        self.finished = False
        self._home, self._marker, self._pump = home, marker, pump
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = self._stdin = -1
        self._outputs: dict[int, bool] = {}  # descriptor: whether it is stderr
        self._terminal: Terminal | None = None
        self._terminal_modes = b""
        self._inbox: deque[bytes] = deque()
        self._input_lock = threading.Lock()
        self._stdin_gone = self._status_sent = False
        self._unsent: dict[int, bytes] = {}

    # Called by the connection's reader thread.

    def on_request(self, message: Message) -> None:
        """Handle `pty-req`, one `exec` or `shell`, and then `window-change`; refuse the rest."""
        kind, wants_reply = message.get_text(), message.get_boolean()
        starts = kind in ("exec", "shell") and self._process is None
        taken = starts
        if starts:
            try:
                self._start_process(message.get_string() if kind == "exec" else b"")
            except OSError:  # out of processes or descriptors; SSH has no error code for it
                taken = False
        elif kind == "pty-req" and self._process is None:
            taken = True
            self._request_terminal(message)
        elif kind == "window-change" and self._terminal and self._process is not None:
            taken = True
            self._resize(TerminalSize(message.get_int(), message.get_int()))
        self.reply(wants_reply, success=taken)
        if starts and taken:
            self._pump.schedule(self)

    def _request_terminal(self, message: Message) -> None:
        kind, columns, rows = message.get_text(), message.get_int(), message.get_int()
        message.get_int(), message.get_int()  # the size in pixels
        self._terminal = Terminal(kind, TerminalSize(columns, rows))
        self._terminal_modes = message.get_string()

    def _resize(self, size: TerminalSize) -> None:
        with self._input_lock:
            if self._stdin >= 0:
                set_size(self._stdin, size)

    def on_data(self, data: bytes) -> None:
        """Write data to stdin, or queue what does not fit into the pipe."""
        with self._input_lock:
            self._inbox.append(data)
            if len(self._inbox) == 1:
                self._write_stdin()
            left = bool(self._inbox)
        if left:
            self._schedule()

    def on_eof(self, message: Message) -> None:
        """Close stdin after what is queued."""
        super().on_eof(message)
        self._schedule()

    def on_writable(self) -> None:
        """Continue to send output: the client's window or the socket may have room."""
        super().on_writable()
        self._schedule()

    def on_connection_lost(self) -> None:
        """Close the pipes, because the client is gone."""
        super().on_connection_lost()
        self._schedule()

    def _schedule(self) -> None:
        if self._process is not None:
            self._pump.schedule(self)

    # Called by the I/O thread.

    def transfer(self) -> list[int]:
        """Move the data that can be moved and report an exit.

        Return the file descriptors that are no longer used, for the I/O thread to close.
        """
        assert self._process is not None
        with self._input_lock:
            self._write_stdin()
            done = self._stdin_gone or (self._eof_received and not self._inbox)
        closing = [self._stdin] if done and self._stdin >= 0 else []
        with suppress(BrokenPipeError):  # the client is gone, which `_gone` tells below
            closing += [number for number in self._outputs if not self._forward_output(number)]
        self._forget_fds(closing)
        status = self._process.poll()
        self._report_exit(status)
        if self._gone:
            rest = [n for n in (self._stdin, *self._outputs) if n >= 0]
            self._forget_fds(rest)
            closing += rest
            if status is not None and not self.finished:
                self.finished = True
                closing += [self._pidfd] if self._pidfd >= 0 else []
        return closing

    def watched_events(self) -> dict[int, int]:
        """Return the events to watch each file descriptor for.

        An output is not watched while the client's window is full.
        """
        if self.finished:
            return {}
        found = {n: 0 if n in self._unsent else selectors.EVENT_READ for n in self._outputs}
        if self._stdin >= 0:
            found[self._stdin] = selectors.EVENT_WRITE if self._inbox else 0
        if self._pidfd >= 0:
            found[self._pidfd] = 0 if self._status_sent else selectors.EVENT_READ
        return found

    def kill(self) -> None:
        """Kill the process group of the shell."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # a become user's process
                os.killpg(self._process.pid, signal.SIGKILL)

    def _write_stdin(self) -> None:
        """Write queued data to stdin. The caller holds ``_input_lock``."""
        while self._inbox and self._process is not None:
            data = self._inbox.popleft()
            try:
                written = len(data) if self._stdin_gone else os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                # the process has closed its stdin or terminal: discard the data
                self._stdin_gone, written = True, len(data)
            self.grant_window(written)
            if written < len(data):
                self._inbox.appendleft(data[written:])
                return

    def _forward_output(self, number: int) -> bool:
        """Send output of the process to the client. Return False at the end of the output."""
        try:
            data = self._unsent.pop(number, b"") or os.read(number, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:  # no process has the terminal any more
                raise
            return False
        if not data:
            return False
        sent = self.send(data, stderr=self._outputs[number])
        if sent < len(data):
            self._unsent[number] = data[sent:]
        return True

    def _report_exit(self, status: int | None) -> None:
        """Send the exit status once it is known, and close after both outputs have ended."""
        if status is not None and not self._status_sent:
            self._status_sent = True
            self._send_exit_status(status)
        if self._status_sent and not self._outputs and not self._gone:
            self.close_stdin()
            self.close()

    def _forget_fds(self, fds: list[int]) -> None:
        with self._input_lock:
            for number in fds:
                self._outputs.pop(number, None)
                self._unsent.pop(number, None)
                if number == self._stdin:
                    self._stdin, self._stdin_gone = -1, True

    def _start_process(self, command: bytes) -> None:
        """Start the command, or the login shell for b''. Raises OSError."""
        argv: list[str | bytes] = ["/bin/sh", "-c", command] if command else ["/bin/sh", "-l"]
        popen = (
            self._start_on_terminal(argv, self._terminal)
            if self._terminal
            else self._start_on_pipes(argv)
        )
        for end in (self._stdin, *self._outputs):
            os.set_blocking(end, False)
        if HAS_PIDFD:
            self._pidfd = os.pidfd_open(popen.pid)
        self._process = popen

    def _start_on_pipes(self, argv: Sequence[str | bytes]) -> subprocess.Popen[bytes]:
        with ExitStack() as undo:
            pairs = []
            for _ in range(3):
                pairs.append(os.pipe())
                undo.callback(_close_fds, *pairs[-1])
            (into, stdin), (stdout, out), (stderr, err) = pairs
            popen = subprocess.Popen(
                argv,
                stdin=into,
                stdout=out,
                stderr=err,
                cwd=self._home,
                start_new_session=True,
                env=self._environment(),
            )
            undo.pop_all()
        _close_fds(into, out, err)
        self._stdin, self._outputs = stdin, {stdout: False, stderr: True}
        return popen

    def _start_on_terminal(
        self, argv: Sequence[str | bytes], terminal: Terminal
    ) -> subprocess.Popen[bytes]:
        ours, theirs = open_terminal(terminal)
        with ExitStack() as undo:
            undo.callback(_close_fds, ours)
            try:
                set_attributes(theirs, apply_modes(get_attributes(theirs), self._terminal_modes))
                environment = {**self._environment(), "TERM": terminal.kind}
                popen = start_on_terminal(
                    argv, theirs, cwd=str(self._home), environment=environment
                )
                self._stdin = os.dup(ours)
            finally:
                os.close(theirs)
            undo.pop_all()
        self._outputs = {ours: False}
        return popen

    def _environment(self) -> dict[str, str]:
        user = login_name()
        return {
            "PATH": PROCESS_PATH,
            "HOME": str(self._home),
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            MARKER_VARIABLE: self._marker,
        }

    def _send_exit_status(self, status: int) -> None:
        """Send exit-status, or exit-signal for a negative status (RFC 4254 6.10)."""
        request = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(self._peer_number)
        if status >= 0:
            request.add_string("exit-status").add_boolean(False).add_int(status)
        else:
            name = signal.Signals(-status).name.removeprefix("SIG")
            request.add_string("exit-signal").add_boolean(False).add_string(name)
            request.add_boolean(False).add_string("").add_string("")
        with suppress(BrokenPipeError):
            self._owner.send_message(request)


def _close_fds(*ends: int) -> None:
    for end in ends:
        os.close(end)


EXIT_TIMEOUT = 2.0  # seconds for a shell to exit after its stdin is closed
POLL_INTERVAL = 0.05  # seconds between checks for exited processes on systems without pidfd


class ProcessIoThread:
    """One thread that moves data between the sandbox's processes and their channels.

    It starts with the first process. It buffers only the rest of a read that did not fit into a
    pipe or into a client's window.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._touched: set[SandboxProcess] = set()
        self._processes: set[SandboxProcess] = set()
        self._selector = selectors.DefaultSelector()
        self._wake_pipe = os.pipe()
        for end in self._wake_pipe:
            os.set_blocking(end, False)
        self._selector.register(self._wake_pipe[0], selectors.EVENT_READ)
        self._closing = False
        self._thread: threading.Thread | None = None

    def schedule(self, process: SandboxProcess) -> None:
        """Serve this process soon, because it is new or something about it changed."""
        with self._lock:
            self._processes.add(process)
            self._touched.add(process)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="orch-pump", daemon=True)
                self._thread.start()
            self._wake()

    def close(self, marker: str) -> None:
        """End the thread and all processes. The connections must be closed.

        Shells have ``EXIT_TIMEOUT`` seconds to exit after their stdin is closed and are then
        killed. Processes that left their session are found by ``marker`` in their environment and
        killed (Linux only).
        """
        with self._lock:
            self._closing = True
            self._wake()
        if self._thread is not None:
            self._thread.join(EXIT_TIMEOUT)
            for process in list(self._processes):
                process.kill()
            self._thread.join(EXIT_TIMEOUT)
        for pid in _processes_with(f"{MARKER_VARIABLE}={marker}".encode()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with self._lock:
            self._selector.close()
            for end in self._wake_pipe:
                os.close(end)
            self._wake_pipe = (-1, -1)

    def _wake(self) -> None:
        if self._wake_pipe[1] >= 0:
            with contextlib.suppress(BlockingIOError):  # the pipe is full: a wake-up is pending
                os.write(self._wake_pipe[1], b".")

    def _run(self) -> None:
        wait = None if HAS_PIDFD else POLL_INTERVAL
        while not (self._closing and not self._processes):
            touched: set[SandboxProcess] = set() if HAS_PIDFD else set(self._processes)
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    os.read(self._wake_pipe[0], 4096)
                else:
                    touched.add(key.data)
            with self._lock:
                touched |= self._touched
                self._touched = set()
            for process in touched:
                self._serve_process(process)

    def _serve_process(self, process: SandboxProcess) -> None:
        for number in process.transfer():
            if number in self._selector.get_map():
                self._selector.unregister(number)
            os.close(number)
        for number, events in process.watched_events().items():
            if number not in self._selector.get_map():
                if events:
                    self._selector.register(number, events, process)
            elif events:
                self._selector.modify(number, events, process)
            else:
                self._selector.unregister(number)
        if process.finished:
            with self._lock:
                self._processes.discard(process)


def _processes_with(variable: bytes) -> list[int]:
    """Return the process ids of our processes that were started with this environment variable."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has exited, or belongs to another user
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
