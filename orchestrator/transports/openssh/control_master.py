"""ControlMaster: an ``ssh`` in the background that holds a connection, and channels over it.

The client side of the protocol of its control socket (OpenSSH's PROTOCOL.mux, version 4), as
``ssh -S`` speaks it. Speaking it here saves a process for each channel, and tells a refused
session, an exit status and a lost connection apart.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import Terminal, TerminalSize
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.openssh.log_parser import (
    is_waiting_for_agent,
    login_error,
    login_phase,
    phase_text,
)
from orchestrator.transports.pipe_channel import PipeChannel, StdioFds
from orchestrator.transports.pseudo_terminal import make_raw
from orchestrator.transports.ssh.agent_client import AgentClient
from orchestrator.transports.ssh.channels import terminal_refused_error

HELLO, VERSION = 0x1, 4
NEW_SESSION, ALIVE_CHECK, TERMINATE = 0x10000002, 0x10000004, 0x10000005
DENIED, FAILURE, EXIT = 0x80000002, 0x80000003, 0x80000004
ALIVE, OPENED = 0x80000005, 0x80000006
NO_TERMINAL = 0x80000008
NO_ESCAPE = 0xFFFFFFFF
_MAX_MESSAGE_BYTES = 1 << 18  # bytes; a longer message is invalid


class MuxClient:
    """A client of a master's control socket. ``pid`` is the process id of the master.

    The master runs while it has clients. Not thread-safe.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        """Connect to the master. Raises OSError if none answers within ``timeout`` seconds."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._received = b""
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._send(struct.pack(">II", HELLO, VERSION))
            reply, body = self._receive_reply()
            if reply != HELLO or _decode_number(body) != VERSION:
                raise OSError("it does not speak the protocol of OpenSSH's control sockets")
            self._send(struct.pack(">II", ALIVE_CHECK, 0))
            reply, body = self._receive_reply()
            if reply != ALIVE or len(body) < 8:
                raise OSError("unexpected reply to the alive check")
            self.pid = _decode_number(body[4:])
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def start_session(
        self,
        command: str,
        environment: Sequence[str],
        stdio: Sequence[int],
        *,
        agent: bool,
        terminal_kind: str = "",
    ) -> int:
        """Run ``command`` on the host with these file descriptors; return the session number.

        ``command`` '' is the login shell. ``stdio`` are stdin, stdout and stderr; with
        ``terminal_kind``, the value of ``TERM``, they are a terminal whose modes and size that of
        the host gets. Raises SessionRefusedError if the host or the master refuses, and OSError if
        the connection is lost.
        """
        flags = struct.pack(">IIIII", bool(terminal_kind), False, agent, False, NO_ESCAPE)
        head = struct.pack(">II", NEW_SESSION, 0) + _encode_string("") + flags
        words = [terminal_kind, command, *environment]
        self._send(head + b"".join(_encode_string(word) for word in words))
        for end in stdio:
            rights = array.array("i", [end])
            self._socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        reply, body = self._receive_reply()
        if reply == OPENED and len(body) >= 8:
            return _decode_number(body[4:])
        if reply in (DENIED, FAILURE) and len(body) >= 8:
            raise SessionRefusedError(
                body[8 : 8 + _decode_number(body[4:])].decode("utf-8", "replace")
            )
        raise OSError(
            f"unexpected reply {reply:#x} to the session request" if reply else "it exited"
        )

    def update_size(self) -> None:
        """Have the master send the sizes of its sessions' terminals to the hosts."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGWINCH)

    def exit_status(self, session: int) -> tuple[bool, int | None]:
        """Return whether the master has closed the connection, and the session's exit status.

        The status is None if it has not arrived. Never blocks. Raises ConnectError if the host
        refuses the session's terminal.
        """
        self._socket.setblocking(False)
        done, status = self._receive_some(), None
        while message := self._next_message():
            reply, body = message
            if reply == NO_TERMINAL and _decode_number(body) == session:
                raise terminal_refused_error()
            if reply == EXIT and len(body) >= 8 and _decode_number(body) == session:
                status = _decode_number(body[4:])
        return done, status

    def terminate(self) -> None:
        """Ask the master to exit, with its sessions. Raises OSError if it is gone."""
        self._send(struct.pack(">II", TERMINATE, 1))

    def is_master_gone(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the master to exit. Return True if it has."""
        self._socket.settimeout(timeout)
        try:
            while self._socket.recv(4096):
                pass
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Close the connection to the master."""
        self._socket.close()

    def _send(self, message: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(message)) + message)

    def _receive_reply(self) -> tuple[int, bytes]:
        while not (message := self._next_message()):
            if self._receive_some():
                return 0, b""
        return message

    def _receive_some(self) -> bool:
        """Receive what has arrived. Return True at the end of the stream."""
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        self._received += data
        return not data or len(self._received) > _MAX_MESSAGE_BYTES

    def _next_message(self) -> tuple[int, bytes] | None:
        if len(self._received) < 8 or len(self._received) < 4 + (
            size := _decode_number(self._received)
        ):
            return None
        whole, self._received = self._received[4 : 4 + size], self._received[4 + size :]
        return _decode_number(whole), whole[4:]


class SessionRefusedError(ConnectError):
    """The host or the master refused to open a session."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "channel",
            f"the host refused a session: {why}",
            "MaxSessions in its sshd_config may be too low",
        )


def _encode_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack(">I", len(data)) + data


def _decode_number(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


_POLL_INTERVAL = 0.2  # seconds between checks for cancellation
_MAX_LOG_BYTES = 20_000  # bytes that are read from the end of ssh's log
_EXIT_TIMEOUT = 2.0  # seconds for a master to exit on request


class MasterProcess:
    """An ``ssh`` that is logging in.

    It goes to the background when it has logged in, and exits if it cannot. It runs in its own
    session, so that Ctrl-C does not reach it and it has no terminal for prompts.
    """

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        """Start it. Raises ConnectError if ssh cannot be run."""
        self._log, self._errors = log, log.with_suffix(".err")
        try:
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
                    start_new_session=True,
                )
        except OSError as error:
            raise ConnectError("connect", f"can't run {argv[0]}: {error.strerror}") from error

    def wait_logged_in(self, deadline: Deadline, agent: AgentClient | None = None) -> None:
        """Wait until ssh has logged in; ``agent`` is the agent that it may use, or None.

        Raises ConnectError and kills the process if that fails.
        """
        assert self._process.stdout
        try:
            # ssh closes its stdout when it goes to the background and when it exits
            poller = select.poll()
            poller.register(self._process.stdout, select.POLLIN)
            while not poller.poll(min(_POLL_INTERVAL, deadline.remaining()) * 1000):
                if not deadline.remaining():
                    log = _read_log_tail(self._log)
                    if agent is not None and is_waiting_for_agent(log):
                        late = agent.mark_failed(
                            f"{agent} did not sign within {deadline.timeout:g} s"
                        )
                        raise ConnectError("auth", str(late), agent.remedy)
                    raise deadline.timeout_error(login_phase(log), phase_text(login_phase(log)))
            status = self._process.wait(_EXIT_TIMEOUT)
        finally:
            self.kill()
            self._process.wait()
            self._process.stdout.close()
        deadline.remaining()
        if status:
            raise login_error(_read_log_tail(self._log), _read_log_tail(self._errors))

    def kill(self) -> None:
        """Kill ssh and its proxy command if it has not logged in. Safe from any thread."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
                os.killpg(self._process.pid, signal.SIGKILL)

    def remove_logs(self) -> None:
        """Remove ssh's log files."""
        for file in (self._log, self._errors):
            file.unlink(missing_ok=True)


class ControlMaster:
    """A running master with a connection.

    It has a client all the time so that the master stays. If this process dies, the client is
    closed, and the master exits ``PERSIST_SECONDS`` later.

    ``is_ours``: ``hang_up`` and ``join`` end the master. A master of the user is left running.
    """

    def __init__(self, path: Path, timeout: float, *, is_ours: bool) -> None:
        """Connect to the master. Raises OSError if there is none."""
        self.path, self._is_ours = path, is_ours
        self._control: MuxClient | None = MuxClient(path, timeout)

    def is_alive(self) -> bool:
        """Return True if the master is still running."""
        return self._control is not None and not self._control.is_master_gone(0)

    def hang_up(self) -> None:
        """Ask the master to exit, unless it is the user's."""
        if self._control is not None and self._is_ours:
            with suppress(OSError):
                self._control.terminate()

    def join(self) -> None:
        """Wait for the master to exit, or leave it to the user. Safe to call twice."""
        control, self._control = self._control, None
        if control is None:
            return
        if self._is_ours and not control.is_master_gone(_EXIT_TIMEOUT):
            with suppress(OSError):
                os.kill(control.pid, signal.SIGKILL)
        control.close()


def _read_log_tail(file: Path) -> str:
    try:
        return file.read_bytes()[-_MAX_LOG_BYTES:].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""  # ssh exited before it wrote a log


class MuxChannel(PipeChannel):
    """A channel that runs ``command`` on the host over a master's connection.

    ``environment`` (NAME=TEXT) is sent to the host, which may ignore it. The master reads and
    writes the other ends of the pipes.
    """

    def __init__(
        self,
        master: Path,
        command: str,
        environment: Sequence[str],
        timeout: float,
        on_closed: Callable[[MuxChannel], object],
        *,
        forward_agent: bool,
        terminal: Terminal | None = None,
    ) -> None:
        """Open the session, on a terminal if one is given.

        Raises ConnectError (phase channel), and SessionRefusedError if a retry may succeed.
        """
        self._status: int | None = None
        self._has_ended = False
        self._on_closed = on_closed

        def start_shell(ends: StdioFds) -> None:
            try:
                self._control = MuxClient(master, timeout)
            except OSError as error:
                why = f"the connection to the host ended ({error.strerror or error})"
                raise ConnectError("channel", why) from error
            try:
                self._session = self._control.start_session(
                    command,
                    environment,
                    ends,
                    agent=forward_agent,
                    terminal_kind=terminal.kind or "dumb" if terminal else "",
                )
                if terminal:  # ssh has read its modes
                    make_raw(ends[0])
            except TimeoutError as error:
                self._control.close()
                why = f"the host did not open a session within {timeout:g} s"
                hint = "`connect: {timeout: …}` allows more"
                raise ConnectError("channel", why, hint) from error
            except OSError as error:
                self._control.close()
                why = f"the connection ended before the session opened ({error})"
                raise ConnectError("channel", why) from error
            except ConnectError:
                self._control.close()
                raise

        super().__init__(start_shell, terminal)

    def resize(self, size: TerminalSize) -> None:
        """Implement ``CommandChannel.resize``."""
        super().resize(size)
        if not self._has_ended:
            self._control.update_size()

    def exit_status(self) -> int | None:
        """Return the exit status, or None if it is not known.

        It remains unknown if a signal ended the shell or the connection was lost: the master
        does not report which of them happened.
        """
        return self._status

    def cause(self) -> str:
        """Return that the connection ended, if it did; the master does not report the cause."""
        return (
            "ssh's connection to the host ended" if self._has_ended and self._status is None else ""
        )

    def _has_exited(self) -> bool:
        return self._has_ended

    def _extra_fds(self) -> tuple[int, ...]:
        return () if self._has_ended else (self._control.fileno(),)

    def _handle_ready(self, ready: set[int]) -> None:
        if not self._has_ended and self._control.fileno() in ready:
            self._has_ended, status = self._control.exit_status(self._session)
            if status is not None:
                self._status = status

    def _end_shell(self) -> None:
        self._control.close()
        self._on_closed(self)
