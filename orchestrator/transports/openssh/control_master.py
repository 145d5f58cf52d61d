"""What is said to a running ``ssh`` over its control socket: OpenSSH's PROTOCOL.mux, version 4.

It is what ``ssh -S`` says itself. Saying it here spares a process for each channel, and tells a
refusal, the exit status and a cut apart.

One ``ssh`` in the background that holds a connection (ControlMaster, ssh_config(5)).

A shell on a host, over a master's connection.
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
from orchestrator.transports.deadline import Deadline
from orchestrator.transports.openssh.log_parser import asks_agent, doing, failure, phase_of
from orchestrator.transports.pipe_channel import PipedChannel, Three
from orchestrator.transports.ssh.agent_client import Agent

HELLO, VERSION = 0x1, 4
NEW_SESSION, ALIVE_CHECK, TERMINATE = 0x10000002, 0x10000004, 0x10000005
DENIED, FAILURE, EXIT = 0x80000002, 0x80000003, 0x80000004
ALIVE, OPENED = 0x80000005, 0x80000006
NO_ESCAPE = 0xFFFFFFFF
_MOST = 1 << 18  # bytes of a message; longer ones are none


class Control:
    """One client of a master, which stays while it has any. Not for several threads at once.
    ``pid`` is the master's.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        """Greet the master. Raises OSError where none answers within ``timeout`` seconds."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._heard = b""
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._say(struct.pack(">II", HELLO, VERSION))
            said, body = self._answer()
            if said != HELLO or _number(body) != VERSION:
                raise OSError("it does not speak the protocol of OpenSSH's control sockets")
            self._say(struct.pack(">II", ALIVE_CHECK, 0))
            said, body = self._answer()
            if said != ALIVE or len(body) < 8:
                raise OSError("it is not alive")
            self.pid = _number(body[4:])
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def session(
        self, command: str, environment: Sequence[str], ends: Sequence[int], *, agent: bool
    ) -> int:
        """Have ``command`` run on the host, these being its stdin, stdout and stderr; its number.
        Raises RefusedError where the host or the master does not, and OSError for a cut.
        """
        flags = struct.pack(">IIIII", False, False, agent, False, NO_ESCAPE)
        head = struct.pack(">II", NEW_SESSION, 0) + _string("") + flags
        words = ["", command, *environment]
        self._say(head + b"".join(_string(word) for word in words))
        for end in ends:
            rights = array.array("i", [end])
            self._socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        said, body = self._answer()
        if said == OPENED and len(body) >= 8:
            return _number(body[4:])
        if said in (DENIED, FAILURE) and len(body) >= 8:
            raise RefusedError(body[8 : 8 + _number(body[4:])].decode("utf-8", "replace"))
        raise OSError("it ended" if not said else f"it says {said:#x} to a wish for a session")

    def exit_status(self, session: int) -> tuple[bool, int | None]:
        """Whether the master is done with us, and the exit status that it told by now. Never
        waits.
        """
        self._socket.setblocking(False)
        done, status = self._listen(), None
        while message := self._message():
            said, body = message
            if said == EXIT and len(body) >= 8 and _number(body) == session:
                status = _number(body[4:])
        return done, status

    def terminate(self) -> None:
        """Ask the master to end, with all that runs over it. Raises OSError where it is gone."""
        self._say(struct.pack(">II", TERMINATE, 1))

    def over(self, timeout: float) -> bool:
        """Whether the master is gone after ``timeout`` seconds at most."""
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
        """Let go of the master."""
        self._socket.close()

    def _say(self, message: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(message)) + message)

    def _answer(self) -> tuple[int, bytes]:
        while not (message := self._message()):
            if self._listen():
                return 0, b""
        return message

    def _listen(self) -> bool:
        """Take what there is. Whether it ended."""
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        self._heard += data
        return not data or len(self._heard) > _MOST

    def _message(self) -> tuple[int, bytes] | None:
        if len(self._heard) < 8 or len(self._heard) < 4 + (size := _number(self._heard)):
            return None
        whole, self._heard = self._heard[4 : 4 + size], self._heard[4 + size :]
        return _number(whole), whole[4:]


class RefusedError(ConnectError):
    """The host, or the master, has no session for us now."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "channel",
            f"the host opens no session: {why}",
            "MaxSessions in its sshd_config may be too low",
        )


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack(">I", len(data)) + data


def _number(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


_LOOK = 0.2  # seconds between looks at whether the run was cancelled
_SAID = 20_000  # bytes of what it said that are read
_ENDING = 2.0  # seconds for a master to end when it is asked to


class Login:
    """An ``ssh`` on its way in. It goes to the background once it is there, and ends before that
    where it can't get in. It has a session of its own: Ctrl-C is not for it, and it has no
    terminal to ask anything on.
    """

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        """Raises ConnectError where it can't be run."""
        self._log, self._errors = log, log.with_suffix(".err")
        try:
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
                    start_new_session=True,
                )
        except OSError as error:
            raise ConnectError("connect", f"can't run {words[0]}: {error.strerror}") from error

    def succeed(self, deadline: Deadline, agent: Agent | None = None) -> None:
        """Wait until it is in; ``agent`` is what it may ask. Raises ConnectError, and ends it
        then.
        """
        assert self._process.stdout
        try:
            # it lets go of its stdout as it goes to the background, or ends
            poller = select.poll()
            poller.register(self._process.stdout, select.POLLIN)
            while not poller.poll(min(_LOOK, deadline.left()) * 1000):
                if not deadline.left():
                    log = _text(self._log)
                    if agent is not None and asks_agent(log):
                        late = agent.fail(f"{agent} did not sign within {deadline.timeout:g} s")
                        raise ConnectError("auth", str(late), agent.remedy)
                    raise deadline.missed(phase_of(log), doing(phase_of(log)))
            status = self._process.wait(_ENDING)
        finally:
            self.kill()
            self._process.wait()
            self._process.stdout.close()
        deadline.left()
        if status:
            raise failure(_text(self._log), _text(self._errors))

    def kill(self) -> None:
        """End it and its proxy command, where it is not in yet. Safe from any thread."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
                os.killpg(self._process.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Let go of what it said."""
        for file in (self._log, self._errors):
            file.unlink(missing_ok=True)


class Master:
    """A connection that is there. A client of it is kept all the time, so that the master stays;
    when this process dies, that one goes, and the master ends a little later.

    ``ours``: it is ended with ``close``; not so a master that the user has.
    """

    def __init__(self, path: Path, timeout: float, *, ours: bool) -> None:
        """Raises OSError where there is none."""
        self.path, self._ours = path, ours
        self._control: Control | None = Control(path, timeout)

    def alive(self) -> bool:
        """Whether it is still there."""
        return self._control is not None and not self._control.over(0)

    def hang_up(self) -> None:
        """Ask it to end, if it is ours."""
        if self._control is not None and self._ours:
            with suppress(OSError):
                self._control.terminate()

    def join(self) -> None:
        """It is gone, or left to its user. Safe to call twice."""
        control, self._control = self._control, None
        if control is None:
            return
        if self._ours and not control.over(_ENDING):
            with suppress(OSError):
                os.kill(control.pid, signal.SIGKILL)
        control.close()


def _text(file: Path) -> str:
    try:
        return file.read_bytes()[-_SAID:].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""  # it did not come so far


class MuxChannel(PipedChannel):
    """``command`` on the host, with ``environment`` (NAME=TEXT) as far as the host takes it.
    Its ends of the pipes are the master's, which passes on what goes through them.
    """

    def __init__(
        self,
        master: Path,
        command: str,
        environment: Sequence[str],
        timeout: float,
        closed: Callable[[MuxChannel], object],
        *,
        agent: bool,
    ) -> None:
        """Raises ConnectError (phase channel), and RefusedError where the host may yet agree."""
        self._status: int | None = None
        self._over = False
        self._told_closed = closed

        def start(ends: Three) -> None:
            try:
                self._control = Control(master, timeout)
            except OSError as error:
                why = f"the connection to the host ended ({error.strerror or error})"
                raise ConnectError("channel", why) from error
            try:
                self._session = self._control.session(command, environment, ends, agent=agent)
            except TimeoutError as error:
                self._control.close()
                why = f"the host does not open a session within {timeout:g} s"
                hint = "`connect: {timeout: …}` allows more"
                raise ConnectError("channel", why, hint) from error
            except OSError as error:
                self._control.close()
                why = f"the connection ended before the session opened ({error})"
                raise ConnectError("channel", why) from error
            except ConnectError:
                self._control.close()
                raise

        super().__init__(start)

    def exit_status(self) -> int | None:
        """As ``Channel.exit_status``: not known where a signal ended the shell, or the
        connection was cut: the master does not tell these apart.
        """
        return self._status

    def cause(self) -> str:
        """As ``Channel.cause``: its master tells of an end, and not why it came."""
        return "ssh's connection to the host ended" if self._over and self._status is None else ""

    def _is_gone(self) -> bool:
        return self._over

    def _watched(self) -> tuple[int, ...]:
        return () if self._over else (self._control.fileno(),)

    def _notice(self, ready: set[int]) -> None:
        if not self._over and self._control.fileno() in ready:
            self._over, status = self._control.exit_status(self._session)
            if status is not None:
                self._status = status

    def _end(self) -> None:
        self._control.close()
        self._told_closed(self)
