"""What is said to a running ``ssh`` over its control socket: OpenSSH's PROTOCOL.mux, version 4.

It is what ``ssh -S`` says itself. Saying it here spares a process for each channel, and tells a
refusal, the exit status and a cut apart.
"""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import ConnectError

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
