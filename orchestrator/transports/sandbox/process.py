"""A session's shell in the sandbox: a process between three pipes and an SSH channel.

One thread that moves bytes between the sandbox's processes and their channels.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path

from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh.channels import ChannelOwner, SshChannel
from orchestrator.transports.ssh.paramiko_compat import Message, codes

PROCESS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARKER_VARIABLE = "ORCH_SANDBOX"
HAS_PIDFD = hasattr(os, "pidfd_open")  # Linux
READ_BYTES = 1 << 16  # bytes read from a pipe at once


class SandboxProcess(SshChannel):
    """A channel with a process behind it, as sshd has it: data goes to its stdin, EOF closes
    that, its outputs go back as the client's window allows, and its exit status is told.
    When the client is gone its pipes are closed; it is not signalled.

    Descriptors are closed by the pump alone, which watches them.
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
        self._inbox: deque[bytes] = deque()
        self._input_lock = threading.Lock()
        self._stdin_gone = self._status_sent = False
        self._unsent: dict[int, bytes] = {}

    # ------------------------------------------------- what the connection's reader calls

    def on_request(self, message: Message) -> None:
        """`exec`, once; what else a client may ask for is refused."""
        kind, wants_reply = message.get_text(), message.get_boolean()
        taken = kind == "exec" and self._process is None
        if taken:
            try:
                self._start_process(message.get_string())
            except OSError:  # no process or descriptor is left; SSH has no words for which
                taken = False
        self.reply(wants_reply, success=taken)
        if taken:
            self._pump.schedule(self)

    def on_data(self, data: bytes) -> None:
        """Data for stdin: straight into the pipe while it has room."""
        with self._input_lock:
            self._inbox.append(data)
            if len(self._inbox) == 1:
                self._write_stdin()
            left = bool(self._inbox)
        if left:
            self._schedule()

    def on_eof(self, message: Message) -> None:
        """EOF from the client."""
        super().on_eof(message)
        self._schedule()

    def on_writable(self) -> None:
        """There may be room in the client's window or in the socket."""
        super().on_writable()
        self._schedule()

    def on_connection_lost(self) -> None:
        """The client is gone."""
        super().on_connection_lost()
        self._schedule()

    def _schedule(self) -> None:
        if self._process is not None:
            self._pump.schedule(self)

    # ------------------------------------------------------------------ what the pump calls

    def transfer(self) -> list[int]:
        """Move what can be moved, tell what there is to tell, and return the descriptors that
        are done with, for the pump to close.
        """
        assert self._process is not None
        with self._input_lock:
            self._write_stdin()
            done = self._stdin_gone or (self._eof_received and not self._inbox)
        closing = [self._stdin] if done and self._stdin >= 0 else []
        with suppress(BrokenPipeError):  # the client just left: seen below
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
        """What to watch its descriptors for; an output not while the client is behind."""
        if self.finished:
            return {}
        found = {n: 0 if n in self._unsent else selectors.EVENT_READ for n in self._outputs}
        if self._stdin >= 0:
            found[self._stdin] = selectors.EVENT_WRITE if self._inbox else 0
        if self._pidfd >= 0:
            found[self._pidfd] = 0 if self._status_sent else selectors.EVENT_READ
        return found

    def kill(self) -> None:
        """End its session's first process group, whatever it is at."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # of a user it became
                os.killpg(self._process.pid, signal.SIGKILL)

    def _write_stdin(self) -> None:
        """Move what arrived to stdin. Called with the input's lock."""
        while self._inbox and self._process is not None:
            data = self._inbox.popleft()
            try:
                written = len(data) if self._stdin_gone else os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            except BrokenPipeError:  # it closed its stdin: nobody will ever want this
                self._stdin_gone, written = True, len(data)
            self.grant_window(written)
            if written < len(data):
                self._inbox.appendleft(data[written:])
                return

    def _forward_output(self, number: int) -> bool:
        """Move what the process wrote to the client. False at its end."""
        try:
            data = self._unsent.pop(number, b"") or os.read(number, READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        sent = self.send(data, stderr=self._outputs[number])
        if sent < len(data):
            self._unsent[number] = data[sent:]
        return True

    def _report_exit(self, status: int | None) -> None:
        """The exit status once known, and the end once both outputs ended, too."""
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
        user = login_name()
        with ExitStack() as undo:
            pairs = []
            for _ in range(3):
                pairs.append(os.pipe())
                undo.callback(_close_fds, *pairs[-1])
            (into, stdin), (stdout, out), (stderr, err) = pairs
            popen = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=into,
                stdout=out,
                stderr=err,
                cwd=self._home,
                start_new_session=True,
                env={
                    "PATH": PROCESS_PATH,
                    "HOME": str(self._home),
                    "USER": user,
                    "LOGNAME": user,
                    "SHELL": "/bin/sh",
                    "LANG": "C.UTF-8",
                    MARKER_VARIABLE: self._marker,
                },
            )
            undo.pop_all()
        _close_fds(into, out, err)
        for end in (stdin, stdout, stderr):
            os.set_blocking(end, False)
        self._stdin, self._outputs = stdin, {stdout: False, stderr: True}
        if HAS_PIDFD:
            self._pidfd = os.pidfd_open(popen.pid)
        self._process = popen

    def _send_exit_status(self, status: int) -> None:
        """RFC 4254 6.10; a negative status is the signal that ended it."""
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


EXIT_TIMEOUT = 2.0  # seconds for a shell to end by itself once its stdin is closed
POLL_INTERVAL = 0.05  # seconds between looks for ended processes where the system has no pidfd


class ProcessIoThread:
    """Serves any number of processes with one thread, which starts with the first.

    Nothing is buffered but what a full pipe or a client's window left of one read.
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
        """Serve this process now, since something about it changed, or since it is new."""
        with self._lock:
            self._processes.add(process)
            self._touched.add(process)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="orch-pump", daemon=True)
                self._thread.start()
            self._wake()

    def close(self, marker: str) -> None:
        """End the thread and all processes: the shells, which have a grace to do it themselves
        once their stdin is closed, and what left their sessions but has ``marker`` in its
        environment (Linux only). The connections are closed already.
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
            with contextlib.suppress(BlockingIOError):  # full: it rings already
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
    """The processes with this in the environment they were started with, but for those that
    belong to somebody else."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
