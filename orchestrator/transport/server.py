"""The sandbox's end of an SSH connection."""

from __future__ import annotations

import hmac
import threading
from pathlib import Path

from orchestrator.transport.library import Ed25519Key, Message, PKey, ServerInterface, codes
from orchestrator.transport.link import Link
from orchestrator.transport.process import Process
from orchestrator.transport.pump import Pump
from orchestrator.transport.stream import PACKET, WINDOW
from orchestrator.transport.wire import Wire

PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254 5.1


class Guard(ServerInterface):
    """Who may come in: the holder of one key, as a user named after one of ``homes``.

    ``marker`` is in the environment of every process that is started.
    """

    def __init__(self, key: bytes, host_key: Ed25519Key, marker: str) -> None:
        self.homes: dict[str, Path] = {}
        self.host_key, self.marker = host_key, marker
        self._key = key

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  # paramiko's hook
        """Keys, and nothing else."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: PKey) -> int:
        """Whether this key opens this home; paramiko checks the signature."""
        fits = hmac.compare_digest(key.asbytes(), self._key) and username in self.homes
        return codes.AUTH_SUCCESSFUL if fits else codes.AUTH_FAILED


class Server(Link):
    """One client's connection: sessions with a command, and nothing else of SSH."""

    def __init__(self, wire: Wire, guard: Guard, pump: Pump) -> None:
        super().__init__(wire)
        self._guard, self._pump = guard, pump
        self._handler_table[codes.MSG_CHANNEL_OPEN] = self._session
        self.add_server_key(guard.host_key)

    def serve(self) -> None:
        """Begin. Returns at once."""
        self.start_server(event=threading.Event(), server=self._guard)

    def _session(self, message: Message) -> None:
        kind, peer = message.get_text(), message.get_int()
        window, largest = message.get_int(), message.get_int()
        if kind != "session":
            refusal = Message().add_byte(codes.cMSG_CHANNEL_OPEN_FAILURE).add_int(peer)
            self.post(refusal.add_int(PROHIBITED).add_string("sessions only").add_string("en"))
            return
        home = self._guard.homes[self.get_username() or ""]
        with self.lock:
            process = Process(self, self._next_channel(), home, self._guard.marker, self._pump)
            self.adopt(process)
        process.confirmed(peer, window, largest)
        taken = Message().add_byte(codes.cMSG_CHANNEL_OPEN_SUCCESS).add_int(peer)
        self.post(taken.add_int(process.number).add_int(WINDOW).add_int(PACKET))
