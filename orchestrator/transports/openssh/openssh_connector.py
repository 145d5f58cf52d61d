"""One host over a master: its channels.

Connections made by the system's ``ssh``: attempts, retries, jump hosts, and what is open.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.inventory.connection_options import DIRECT
from orchestrator.inventory.hostnames import BadNameError, key, read_host
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.transports.become import Others
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.openssh.command_line import Effective, Tool
from orchestrator.transports.openssh.control_master import Login, Master, MuxChannel, RefusedError
from orchestrator.transports.prompts import Answers
from orchestrator.transports.ssh.agent_client import Agent, AgentError, Agents
from orchestrator.transports.ssh.handshake_limiter import BEHIND, Address, Pacing, Turn
from orchestrator.transports.ssh_config.resolve import Targets

SETTLING = 1.0  # seconds for a host to notice that a session is closed
PAUSE = 0.025  # seconds between wishes for a session meanwhile


class OpensshConnection:
    """An authenticated connection, of a host about which ssh ``said`` this. Satisfies
    ``Connection``. ``ended`` is told when it is closed. ``answers`` are for other users' shells.
    """

    def __init__(
        self,
        master: Master,
        said: Effective,
        environ: Mapping[str, str],
        ended: Callable[[OpensshConnection], object],
        answers: Answers,
    ) -> None:
        self.master, self._ended = master, ended
        self.place = said.where
        self._connect = connect = said.connect
        self._user = said.user
        method, timeout = connect.become_method, connect.timeout
        self._others = Others(said.user, method, connect.shell, timeout, answers)
        self._environment, self._agent = said.environment(environ), said.forwards_agent
        self._lock = threading.Lock()
        self._channels: set[MuxChannel] = set()
        self._closed_at = float("-inf")
        self._closed = False

    def open(self, become: str = "") -> Channel:
        """As ``Connection.open``."""
        if become in ("", self._user):
            return self._run(f"exec {self._connect.shell}")
        return self._others.open(become, lambda other: self._run(other.command))

    def close(self) -> None:
        """End it and every channel on it. Safe to call twice and from any thread."""
        with self._lock:
            closed, self._closed = self._closed, True
            channels = list(self._channels)
        for channel in channels:
            channel.close()
        if not closed:
            self._ended(self)

    def _run(self, command: str) -> MuxChannel:
        """sshd counts a session for some moments after we closed it, so that where it allows
        one, a refusal right behind that is asked again.
        """
        while True:
            asked = time.monotonic()
            try:
                return self._ask(command)
            except RefusedError:
                with self._lock:
                    since = asked - self._closed_at
                if since > SETTLING:
                    raise
                time.sleep(PAUSE)

    def _ask(self, command: str) -> MuxChannel:
        with self._lock:
            if self._closed:
                raise ConnectError("channel", "the connection is closed")
        channel = MuxChannel(
            self.master.path,
            command,
            self._environment,
            self._connect.timeout,
            self._let_go,
            agent=self._agent,
        )
        with self._lock:
            self._channels.add(channel)
            closed = self._closed
        if closed:
            channel.close()
        return channel

    def _let_go(self, channel: MuxChannel) -> None:
        with self._lock:
            self._channels.discard(channel)
            self._closed_at = time.monotonic()


FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts, doubling, give or take half
LONGEST_FOLDER = 60  # bytes; a socket's path has 104, of which ssh takes 17 while it makes one
GREETING = 5.0  # seconds for a master to answer


class _Shared(Struct):
    """A jump host's connection, or why there is none."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    master: Master | None = None
    error: ConnectError | None = None
    failed_at: float = 0.0


class Openssh:
    """Makes connections and knows them all, so that they can be ended together. Its arguments
    are the Connector's.

    What it needs lies in a folder of its own, which goes with ``close``.
    """

    def __init__(
        self,
        stop: threading.Event,
        home: Path,
        environ: Mapping[str, str],
        targets: Targets,
        answers: Answers,
        agents: Agents,
        *,
        record: bool,
        hosts: Mapping[str, Host],
        ssh_config: str | None = None,
    ) -> None:
        self._tool = Tool.find(home, environ, ssh_config)
        self._stop, self._environ, self._targets, self._record = stop, environ, targets, record
        self._hosts = {key(name): host for name, host in hosts.items()}
        self._pacing, self._answers, self._agents = Pacing(), answers, agents
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._pending: set[Login] = set()
        self._open: set[Master] = set()
        self._connections: set[OpensshConnection] = set()
        self._said: dict[Connect, Effective] = {}
        self._hops: dict[tuple[str, ...], _Shared] = {}
        self._folder = _folder()

    def connect(self, name: str, connect: Connect) -> OpensshConnection:
        """Connect to the host of this name. Raises ConnectError, whose message says where and as
        whom that was to be.
        """
        said = self._tool.effective(connect)
        self._targets.claim(name, said.way)
        try:
            master = self._users_own(said) or self._reach(said, self._through(said, ()))
        except CancelledError:
            raise
        except ConnectError as error:
            raise error.at(said.where) from error
        connection = OpensshConnection(master, said, self._environ, self._let_go, self._answers)
        with self._lock:
            self._connections.add(connection)
        if self._stop.is_set():
            connection.close()
            raise CancelledError
        return connection

    def cancel(self) -> None:
        """End what is pending; what is open stays. ``stop`` is set."""
        self._pacing.wake()
        with self._lock:
            pending = list(self._pending)
        for login in pending:
            login.kill()

    def close(self) -> None:
        """End all connections; no process of theirs is left afterwards. ``stop`` is set."""
        self.cancel()
        with self._lock:
            masters, connections = list(self._open), list(self._connections)
        for master in masters:
            master.hang_up()
        for connection in connections:
            connection.close()
        for master in masters:
            self._end(master)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _let_go(self, connection: OpensshConnection) -> None:
        with self._lock:
            self._connections.discard(connection)
        self._end(connection.master)

    def _end(self, master: Master) -> None:
        with self._lock:
            self._open.discard(master)
        master.hang_up()
        master.join()

    def _asked(self, connect: Connect) -> Effective:
        """What counts for a jump host: asked once for all behind it."""
        with self._lock:
            said = self._said.get(connect)
        if said is None:
            said = self._tool.effective(connect)
            with self._lock:
                self._said[connect] = said
        return said

    def _users_own(self, said: Effective) -> Master | None:
        """The master that the user has running for this host."""
        path = said.control_path
        if path is None or not path.exists():
            return None
        try:
            return self._take(path, ours=False)
        except OSError:
            return None  # a socket that was left behind

    def _reach(self, said: Effective, hop: tuple[str, Master] | None) -> Master:
        """Log in. What may pass by itself is tried again within ``connect.timeout``:
        ``connect.retries`` times, not counting the times when we were not alone with the server,
        since then it was the crowd that it turned away.
        """
        deadline = Deadline(said.connect.timeout, self._stop)
        retries, pause = said.connect.retries, FIRST_PAUSE
        proxy = self._tool.through(hop[1].path, hop[0]) if hop else ""
        while True:
            with self._pacing.turn(_pace(said, hop), deadline, BEHIND if hop else None) as turn:
                try:
                    return self._attempt(said, proxy, deadline)
                except ConnectError as caught:
                    error = caught
                    turn.dropped = error.transient and error.phase == "banner"
            retries -= _counts(turn)
            if not error.transient or retries < 0 or not deadline.left():
                raise error
            deadline.pause(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _attempt(self, said: Effective, proxy: str, deadline: Deadline) -> Master:
        number = next(self._numbers)
        control, log = self._folder / str(number), self._folder / f"{number}.log"
        learn = None if self._record else self._folder / "known_hosts"
        agent = self._asked_agent(said.agent(self._environ), deadline)
        self._asked_agent(said.forwarded(self._environ), deadline)
        words = self._tool.master(said, control, log, learn=learn, proxy=proxy, agents=self._agents)
        deadline.left()
        login = Login(words, self._environ, log)
        with self._lock:
            self._pending.add(login)
        try:
            login.succeed(deadline, agent)
            return self._take(control, ours=True)
        except OSError as error:
            why = f"ssh logged in, but its control socket {control} can't be used: {error}"
            raise ConnectError("channel", why) from error
        finally:
            with self._lock:
                self._pending.discard(login)
            login.forget()

    def _asked_agent(self, path: str, deadline: Deadline) -> Agent | None:
        """The agent, if there is one. ssh would wait for one that does not answer: it is asked
        once here, and left out where that was in vain."""
        agent = self._agents.at(path)
        if agent is not None:
            with suppress(AgentError):
                agent.listed(deadline)
        return agent

    def _take(self, path: Path, *, ours: bool) -> Master:
        master = Master(path, GREETING, ours=ours)
        with self._lock:
            self._open.add(master)
        if self._stop.is_set():
            self._end(master)
            raise CancelledError
        return master

    def _through(self, said: Effective, behind: tuple[str, ...]) -> tuple[str, Master] | None:
        """The last jump host's name and connection, where there is one: as with ssh, the first
        may have a way of its own, the others have not.
        """
        last: tuple[str, Master] | None = None
        for number, text in enumerate(said.jump):
            if text.lower() == DIRECT:
                continue
            name, connect = self._hop(text, said.connect)
            if number:
                connect = replace(connect, jump=None, given=connect.given | {"jump"})
            if name in behind:
                circle = " -> ".join((*behind, name))
                raise ConnectError("resolve", f"the jump hosts go round in a circle: {circle}")
            last = name, self._shared(name, connect, last, (*behind, name))
        return last

    def _hop(self, text: str, like: Connect) -> tuple[str, Connect]:
        """A host of the inventory, or what ssh_config says with the keys of the host behind."""
        try:
            written = read_host(text)
        except BadNameError as bad:
            raise ConnectError("resolve", f"no jump host can be {text!r}: {bad.why}") from None
        name = written.names[0]
        host = self._hosts.get(key(name))
        if host is None:
            given = like.given - {"jump", "forward_agent"}
            hop = replace(like, address=name, user=written.user, port=written.port)
            return name, replace(hop, jump=None, forward_agent=False, given=given)
        own = host.connect
        if own.transport not in ("ssh", "openssh"):
            why = f"jump host {name} is reached by transport {own.transport}, not by ssh"
            raise ConnectError("resolve", why)
        return name, replace(own, user=written.user or own.user, port=written.port or own.port)

    def _shared(
        self, name: str, connect: Connect, hop: tuple[str, Master] | None, behind: tuple[str, ...]
    ) -> Master:
        """The one connection to this jump host: made by whoever comes first, with the same error
        for all who waited. Where it died, it is made once more.
        """
        began, said = time.monotonic(), self._asked(connect)
        options = (*self._tool.given(connect), said.place, str(hop[1].path) if hop else "")
        with self._lock:
            shared = self._hops.setdefault(options, _Shared())
        with shared.lock:
            if shared.error is not None and shared.failed_at > began:
                raise shared.error
            if shared.master is None or not shared.master.alive():
                try:
                    own = self._users_own(said)
                    shared.master = own or self._reach(said, hop or self._through(said, behind))
                except CancelledError:
                    raise
                except ConnectError as error:
                    shared.error = error.at(f"jump host {name} ({said.place})")
                    shared.failed_at = time.monotonic()
                    raise shared.error from None
            return shared.master


def _folder() -> Path:
    """A new one, for us alone, whose path is short enough for sockets and plain for ssh."""
    base = tempfile.gettempdir()
    short = len(base.encode()) <= LONGEST_FOLDER and "$" not in base and '"' not in base
    return Path(tempfile.mkdtemp(prefix="orch-", dir=base if short else "/tmp"))


def _pace(said: Effective, hop: tuple[str, Master] | None) -> Address:
    """What its handshake shares with others': an address, the last hop, or a proxy."""
    if hop:
        return f"behind {hop[1].path}", 0
    if command := said.one("proxycommand"):
        return command.replace(said.hostname, "").replace(str(said.port), ""), 0
    return said.hostname, said.port


def _counts(turn: Turn) -> bool:
    return turn.alone or not turn.dropped


def _at(place: str, error: ConnectError) -> ConnectError:
    return ConnectError(error.phase, f"{place}: {error.why}", error.hint, transient=error.transient)
