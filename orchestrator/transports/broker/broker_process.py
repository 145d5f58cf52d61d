"""The broker's process: it makes connections for commands, and keeps them for later ones.

It carries bytes only. What a command sends to a shell, and what the shell answers, is not looked
at; plans, secrets and prompts stay in the commands.

All state belongs to the thread of the event loop. Work that may block (logging in, opening a
channel, asking an agent) is done by workers, and output is passed on by the reader thread of its
connection.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.transports.broker.channel_link import ChannelLink
from orchestrator.transports.broker.command_link import CommandLink
from orchestrator.transports.broker.event_loop import READABLE, EventLoop, FrameSocket, call_safely
from orchestrator.transports.broker.kept_connection import (
    KeptConnection,
    SpareShell,
    read_clock,
)
from orchestrator.transports.broker.messages import (
    MESSAGE,
    BecomeWay,
    BeginCommand,
    BrokerEnded,
    BrokerOutdated,
    BrokerStatus,
    CommandBegun,
    EndBroker,
    KeptConnectionStatus,
    OpenChannel,
    QueryStatus,
    decode_message,
    encode_message,
)
from orchestrator.transports.broker.socket_folder import code_identity, peer_uid

LIFETIME = 8 * 3600.0
"""Seconds after which a connection is not kept any longer, however often it is used."""
MAX_CONNECTIONS = 2000
"""How many connections are kept at most; those unused for longest are closed first."""
MAX_MEMORY = 1 << 30
"""Bytes of resident memory beyond which the connections unused for longest are closed."""
_EMPTY_TIMEOUT = 30.0  # seconds that the broker stays without a connection and a command
_SWEEP_INTERVAL = 1.0  # seconds
_CODE_INTERVAL = 60.0  # seconds between looks at whether orch was updated
_WORKERS = 256
_MAX_PREPARING = 16  # shells that are prepared at the same time


class Broker:
    """The connections of a user and a project, and the commands that use them.

    ``listener`` is the socket that commands connect to, at ``path``.
    """

    def __init__(self, listener: socket.socket, path: Path) -> None:
        """Serve nobody yet."""
        self.loop = EventLoop()
        self._listener, self._path = listener, path
        self._inode = path.stat().st_ino
        self._code = code_identity()
        self._workers = ThreadPoolExecutor(_WORKERS, "broker")
        self._commands: dict[str, CommandLink] = {}
        self._channels: set[ChannelLink] = set()
        self._kept: dict[bytes, list[KeptConnection]] = {}
        self._to_prepare: list[KeptConnection] = []
        self._preparing: set[SpareShell] = set()
        self._began = self._empty_since = self._code_checked = read_clock()
        self._is_ending = False

    def run(self) -> None:
        """Serve commands until there is nothing to keep, or a signal or a command ends it."""
        self._listener.setblocking(False)
        self.loop.watch(self._listener.fileno(), READABLE, self._accept)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.loop.call_soon(self.end))
        self.loop.call_later(_SWEEP_INTERVAL, self._sweep)
        self.loop.run()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """Close all connections and stop."""
        self._stop_listening()
        for kept in self._all_kept():
            kept.close()
        self.loop.stop()

    # For the links.

    def work(self, call: Callable[[], object]) -> None:
        """Call it in a worker."""
        with contextlib.suppress(RuntimeError):  # the broker is ending
            self._workers.submit(call_safely, call)

    def find(self, key: bytes) -> KeptConnection | None:
        """Return the newest open connection of this route, or None."""
        found = [kept for kept in self._kept.get(key, ()) if kept.is_open]
        return found[-1] if found else None

    def keep(self, kept: KeptConnection) -> None:
        """Keep a new connection."""
        self._kept.setdefault(kept.key, []).append(kept)

    def drop(self, kept: KeptConnection) -> None:
        """Close a connection and forget it."""
        kept.close()
        known = self._kept.get(kept.key, [])
        if kept in known:
            known.remove(kept)
        if not known:
            self._kept.pop(kept.key, None)

    def command(self, token: str) -> CommandLink | None:
        """Return the command with this token, or None."""
        return self._commands.get(token)

    def end_channel(self, link: ChannelLink) -> None:
        """Forget a channel."""
        self._channels.discard(link)

    def end_command(self, command: CommandLink) -> None:
        """Forget a command; prepare shells for the next one on the connections it used."""
        self._commands.pop(command.token, None)
        self._empty_since = read_clock()
        for kept in command.used:
            self._settle(kept)
        if self._is_ending:
            self._end_if_unused()
        self._prepare_next()

    def _settle(self, kept: KeptConnection) -> None:
        """Prepare shells on a connection that a command has used, if it stays."""
        newest = self.find(kept.key)
        if not kept.channels_in_use and (newest is not kept or kept.idle <= 0 or self._is_ending):
            self.drop(kept)
        elif kept not in self._to_prepare:
            self._to_prepare.append(kept)

    # Sockets.

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if peer_uid(sock) != os.getuid():
            sock.close()
            return
        link = FrameSocket(sock, self.loop, lambda *_: None, lambda: None)
        link.on_frame = lambda kind, data: self._begin(link, kind, data)

    def _begin(self, link: FrameSocket, kind: bytes, data: bytes) -> None:
        """Handle the first frame of a socket."""
        message = decode_message(data) if kind == MESSAGE else None
        if isinstance(message, OpenChannel):
            self._channels.add(ChannelLink(self, link, message))
        elif isinstance(message, BeginCommand):
            self._begin_command(link, message)
        elif isinstance(message, QueryStatus):
            link.send(encode_message(self._status()))
        elif isinstance(message, EndBroker):
            self._end_hosts(link, message.hosts)
        else:
            link.close()

    def _begin_command(self, link: FrameSocket, message: BeginCommand) -> None:
        if self._is_ending or message.code != self._code or self._code != code_identity():
            link.send(encode_message(BrokerOutdated()))
            self._end_when_unused()
            return
        self._commands[message.token] = CommandLink(self, link, message)
        link.send(encode_message(CommandBegun(os.getpid())))

    def _end_hosts(self, link: FrameSocket, hosts: list[str] | None) -> None:
        ended = [each for each in self._all_kept() if hosts is None or each.host in hosts]
        for kept in ended:
            self.drop(kept)
        link.send(encode_message(BrokerEnded(sorted({kept.host for kept in ended}))))
        if hosts is None:
            self._end_when_unused()

    def _status(self) -> BrokerStatus:
        now = read_clock()
        hosts = [
            KeptConnectionStatus(
                kept.host,
                kept.route.endpoint,
                shells=sum(spare.is_ready for spare in kept.spares),
                channels=kept.channels_in_use,
                age=now - kept.opened_at,
                idle=0.0 if kept.channels_in_use else now - kept.last_used,
                expires_in=max(0.0, kept.expires_in(now, LIFETIME)),
            )
            for kept in self._all_kept()
            if kept.is_open
        ]
        return BrokerStatus(os.getpid(), hosts, now - self._began, _resident_bytes())

    # Upkeep.

    def _all_kept(self) -> list[KeptConnection]:
        return [kept for each in self._kept.values() for kept in each]

    def _sweep(self) -> None:
        """Close what has expired or is too much."""
        now = read_clock()
        unused = sorted(
            (kept for kept in self._all_kept() if not kept.channels_in_use),
            key=lambda kept: kept.last_used,
        )
        surplus = len(self._all_kept()) - MAX_CONNECTIONS
        if _resident_bytes() > MAX_MEMORY:
            surplus = max(surplus, len(unused) // 2)
        for number, kept in enumerate(unused):
            if number < surplus or not kept.is_open or kept.expires_in(now, LIFETIME) <= 0:
                self.drop(kept)
        if self._kept or self._commands or self._channels:
            self._empty_since = now
        elif now - self._empty_since > _EMPTY_TIMEOUT:
            self._end_when_unused()
        if now - self._code_checked > _CODE_INTERVAL:
            self._code_checked = now
            if self._code != code_identity():
                self._end_when_unused()
        if not self._is_ending and not self._is_reachable():
            self._end_when_unused()
        self.loop.call_later(_SWEEP_INTERVAL, self._sweep)

    def _end_when_unused(self) -> None:
        """Take no more commands, and stop when those that run have ended."""
        self._is_ending = True
        self._stop_listening()
        for kept in self._all_kept():
            if not kept.channels_in_use:
                self.drop(kept)
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self._commands and not self._channels:
            # after what was sent last
            self.loop.call_later(0.0, self.end)

    def _stop_listening(self) -> None:
        """Close the socket; remove it unless another broker has taken its place."""
        if self._listener.fileno() >= 0:
            self.loop.forget(self._listener.fileno())
        if self._listener.fileno() >= 0 and self._is_reachable():
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._listener.close()

    def _is_reachable(self) -> bool:
        """Whether the socket is still in its folder, which a logout may remove."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    # Prepared shells.

    def _prepare_next(self) -> None:
        """Prepare shells, some at a time, where they are missing."""
        while self._to_prepare and len(self._preparing) < _MAX_PREPARING:
            kept = self._to_prepare[-1]
            missing = kept.missing_spares() if kept.is_open else []
            if not missing or not self._start_spare(kept, missing[0]):
                self._to_prepare.pop()

    def _start_spare(self, kept: KeptConnection, become: BecomeWay | None) -> bool:
        try:
            spare = SpareShell(kept, become, self.loop.call_soon, self._on_spare_settled)
        except ConnectError:
            return False
        kept.spares.append(spare)
        self._preparing.add(spare)
        self.loop.call_later(kept.route.connection.connect.timeout, spare.give_up)
        return True

    def _on_spare_settled(self, spare: SpareShell) -> None:
        self._preparing.discard(spare)
        self._prepare_next()


def _resident_bytes() -> int:
    """Return this process's resident memory, 0 if the system does not tell (proc_pid_statm(5))."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def main() -> None:
    """Run a broker on the socket that is file descriptor 0; its path is the argument."""
    listener = socket.socket(fileno=os.dup(0))
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 0)
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(1 << 19)
    Broker(listener, Path(sys.argv[1])).run()
    os._exit(0)  # the reader threads are daemons


if __name__ == "__main__":
    main()
