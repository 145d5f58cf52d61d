"""A session's shell in the sandbox: a process between three pipes and an SSH channel."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.transport.library import Message, codes
from orchestrator.transport.login import login_name
from orchestrator.transport.stream import Carrier, Stream

if TYPE_CHECKING:
    from orchestrator.transport.pump import Pump

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARKER = "ORCH_SANDBOX"
PIDFD = hasattr(os, "pidfd_open")  # Linux
SHARE = 1 << 16  # bytes read from a pipe at once


class Process(Stream):
    """A channel with a process behind it, as sshd has it: data goes to its stdin, EOF closes
    that, its outputs go back as the client's window allows, and its exit status is told.
    When the client is gone its pipes are closed; it is not signalled.

    Descriptors are closed by the pump alone, which watches them.
    """

    def __init__(self, link: Carrier, number: int, home: Path, marker: str, pump: Pump) -> None:
        super().__init__(link, number)
        self.finished = False
        self._home, self._marker, self._pump = home, marker, pump
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = self._stdin = -1
        self._outputs: dict[int, bool] = {}  # descriptor: whether it is stderr
        self._inbox: deque[bytes] = deque()
        self._input = threading.Lock()
        self._deaf = self._told = False
        self._unsent: dict[int, bytes] = {}

    # ------------------------------------------------- what the connection's reader calls

    def requested(self, message: Message) -> None:
        """`exec`, once; what else a client may ask for is refused."""
        kind, wanted = message.get_text(), message.get_boolean()
        taken = kind == "exec" and self._popen is None
        if taken:
            try:
                self._start(message.get_string())
            except OSError:  # no process or descriptor is left; SSH has no words for which
                taken = False
        self.answer(wanted, taken=taken)
        if taken:
            self._pump.look(self)

    def received(self, data: bytes) -> None:
        """Data for stdin: straight into the pipe while it has room."""
        with self._input:
            self._inbox.append(data)
            if len(self._inbox) == 1:
                self._pass_in()
            left = bool(self._inbox)
        if left:
            self._look()

    def ended(self, message: Message) -> None:
        """EOF from the client."""
        super().ended(message)
        self._look()

    def nudge(self) -> None:
        """There may be room in the client's window or in the socket."""
        super().nudge()
        self._look()

    def lost(self) -> None:
        """The client is gone."""
        super().lost()
        self._look()

    def _look(self) -> None:
        if self._popen is not None:
            self._pump.look(self)

    # ------------------------------------------------------------------ what the pump calls

    def step(self) -> list[int]:
        """Move what can be moved, tell what there is to tell, and return the descriptors that
        are done with, for the pump to close.
        """
        assert self._popen is not None
        with self._input:
            self._pass_in()
            done = self._deaf or (self._eof_there and not self._inbox)
        closing = [self._stdin] if done and self._stdin >= 0 else []
        with suppress(BrokenPipeError):  # the client just left: seen below
            closing += [number for number in self._outputs if not self._pass_out(number)]
        self._let_go(closing)
        status = self._popen.poll()
        self._report(status)
        if self._gone:
            rest = [n for n in (self._stdin, *self._outputs) if n >= 0]
            self._let_go(rest)
            closing += rest
            if status is not None and not self.finished:
                self.finished = True
                closing += [self._pidfd] if self._pidfd >= 0 else []
        return closing

    def wanted(self) -> dict[int, int]:
        """What to watch its descriptors for; an output not while the client is behind."""
        if self.finished:
            return {}
        found = {n: 0 if n in self._unsent else selectors.EVENT_READ for n in self._outputs}
        if self._stdin >= 0:
            found[self._stdin] = selectors.EVENT_WRITE if self._inbox else 0
        if self._pidfd >= 0:
            found[self._pidfd] = 0 if self._told else selectors.EVENT_READ
        return found

    def kill(self) -> None:
        """End its session's first process group, whatever it is at."""
        if self._popen is not None and self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # of a user it became
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _pass_in(self) -> None:
        """Move what arrived to stdin. Called with the input's lock."""
        while self._inbox and self._popen is not None:
            data = self._inbox.popleft()
            try:
                written = len(data) if self._deaf else os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            except BrokenPipeError:  # it closed its stdin: nobody will ever want this
                self._deaf, written = True, len(data)
            self.grant(written)
            if written < len(data):
                self._inbox.appendleft(data[written:])
                return

    def _pass_out(self, number: int) -> bool:
        """Move what the process wrote to the client. False at its end."""
        try:
            data = self._unsent.pop(number, b"") or os.read(number, SHARE)
        except BlockingIOError:
            return True
        if not data:
            return False
        sent = self.send(data, stderr=self._outputs[number])
        if sent < len(data):
            self._unsent[number] = data[sent:]
        return True

    def _report(self, status: int | None) -> None:
        """The exit status once known, and the end once both outputs ended, too."""
        if status is not None and not self._told:
            self._told = True
            self._tell_status(status)
        if self._told and not self._outputs and not self._gone:
            self.close_stdin()
            self.close()

    def _let_go(self, numbers: list[int]) -> None:
        with self._input:
            for number in numbers:
                self._outputs.pop(number, None)
                self._unsent.pop(number, None)
                if number == self._stdin:
                    self._stdin, self._deaf = -1, True

    def _start(self, command: bytes) -> None:
        user = login_name()
        with ExitStack() as undo:
            pairs = []
            for _ in range(3):
                pairs.append(os.pipe())
                undo.callback(_close, *pairs[-1])
            (into, stdin), (stdout, out), (stderr, err) = pairs
            popen = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=into,
                stdout=out,
                stderr=err,
                cwd=self._home,
                start_new_session=True,
                env={
                    "PATH": PATH,
                    "HOME": str(self._home),
                    "USER": user,
                    "LOGNAME": user,
                    "SHELL": "/bin/sh",
                    "LANG": "C.UTF-8",
                    MARKER: self._marker,
                },
            )
            undo.pop_all()
        _close(into, out, err)
        for end in (stdin, stdout, stderr):
            os.set_blocking(end, False)
        self._stdin, self._outputs = stdin, {stdout: False, stderr: True}
        if PIDFD:
            self._pidfd = os.pidfd_open(popen.pid)
        self._popen = popen

    def _tell_status(self, status: int) -> None:
        """RFC 4254 6.10; a negative status is the signal that ended it."""
        told = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(self._peer)
        if status >= 0:
            told.add_string("exit-status").add_boolean(False).add_int(status)
        else:
            name = signal.Signals(-status).name.removeprefix("SIG")
            told.add_string("exit-signal").add_boolean(False).add_string(name)
            told.add_boolean(False).add_string("").add_string("")
        with suppress(BrokenPipeError):
            self._link.post(told)


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)
