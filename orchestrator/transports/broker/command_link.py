"""A command, as the broker sees it: what it connects with, and whom it can ask."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.model.host import InventoryPassword
from orchestrator.transports.broker.event_loop import EventLoop, FrameSocket
from orchestrator.transports.broker.kept_connection import KeptConnection
from orchestrator.transports.broker.messages import (
    MESSAGE,
    Answer,
    AskUser,
    BeginCommand,
    FindPassword,
    NotePasswordless,
    NoteSecret,
    ShowWarning,
    decode_message,
    encode_message,
)
from orchestrator.transports.broker.relay_channel import RelayChannel
from orchestrator.transports.prompts import CredentialStore
from orchestrator.transports.ssh.agent_client import AgentRegistry
from orchestrator.transports.ssh.client import SshClient
from orchestrator.transports.ssh.connector import SshConnector
from orchestrator.transports.ssh.host_key_policy import STANDARD_FILES
from orchestrator.transports.ssh.route import Route

_POLL_INTERVAL = 0.2


class CommandBroker(Protocol):
    """What a command needs of the broker."""

    loop: EventLoop

    def work(self, call: Callable[[], object]) -> None: ...

    def end_command(self, command: CommandLink) -> None: ...


class CommandLink:
    """The link to a running command.

    ``used`` are the kept connections that the command has used. The command's passwords, keys and
    environment are forgotten when it ends.
    """

    def __init__(self, broker: CommandBroker, link: FrameSocket, begin: BeginCommand) -> None:
        """Make the command's connector."""
        self.token = begin.token
        self.used: set[KeptConnection] = set()
        self._broker, self._link = broker, link
        self._home, self._environ = Path(begin.home), begin.environ
        self._stop = threading.Event()
        self._numbers = itertools.count(1)
        self._answers: dict[int, _Question] = {}
        self._file_states: dict[str, object] = {}
        self._agent_keys: dict[tuple[str | None, bytes], bool] = {}
        self._agents = AgentRegistry(
            begin.environ, lambda text: link.send(encode_message(ShowWarning(text)))
        )
        store = CredentialStore(
            self._ask_user if begin.can_prompt else None,
            begin.environ,
            self._stop,
            self._note_secret,
        )
        self._connector = SshConnector(
            self._stop,
            self._home,
            begin.environ,
            store,
            self._agents,
            record_host_keys=begin.record_host_keys,
            channel_class=RelayChannel,
        )
        link.on_frame, link.on_closed = self._on_frame, self._on_closed

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended."""
        return self._stop.is_set()

    def log_in(self, route: Route, host: str, *, has_password: bool) -> SshClient:
        """Connect to a host and log in. Blocks; for workers. Raises ConnectError."""
        if has_password:
            route = _with_password(route, InventoryPassword(host, lambda: self._find(host)))
        return self._connector.log_in(route)[0]

    def known_hosts_state(self, route: Route) -> object:
        """Return the state of the known_hosts files of a route, as of this command."""
        hops = (*(hop.connection for hop in route.jump_hosts), route.connection)
        return tuple(
            self._file_state(name)
            for hop in hops
            for name in hop.connect.known_hosts or STANDARD_FILES
        )

    def may_clearly_use(self, kept: KeptConnection) -> bool:
        """Return True if nothing that ``may_use`` depends on has changed. Does not block."""
        if self.known_hosts_state(kept.route) != kept.known_hosts:
            return False
        return not kept.agent_key or self._agent_keys.get(_agent_key_of(kept), False)

    def may_use(self, kept: KeptConnection) -> bool:
        """Return True if the command would trust and reach the host in the same way now.

        Blocks; for workers.
        """
        state = self.known_hosts_state(kept.route)
        if state != kept.known_hosts:
            if not self._connector.is_trusted(kept.route, kept.client.host_key_blob):
                return False
            kept.known_hosts = state
        if not kept.agent_key:
            return True
        key = _agent_key_of(kept)
        if key not in self._agent_keys:
            self._agent_keys[key] = self._connector.is_in_agent(kept.route, kept.agent_key)
        return self._agent_keys[key]

    def _file_state(self, name: str) -> object:
        if name not in self._file_states:
            path = self._home / name[2:] if name.startswith("~/") else Path(name)
            try:
                status = path.stat()
                state: object = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                state = None
            self._file_states[name] = state
        return self._file_states[name]

    # Questions to the command, asked by workers.

    def _ask_user(self, text: str, echo: bool, _stop: threading.Event) -> str | None:
        return self._ask(lambda number: AskUser(number, text, echo)).text

    def _find(self, host: str) -> str | None:
        answer = self._ask(lambda number: FindPassword(number, host))
        if answer.error:
            raise OrchError(answer.error)
        return answer.text

    def _note_secret(self, kind: str, secret: str) -> None:
        self._ask(lambda number: NoteSecret(number, kind, secret))

    def _ask(self, make: Callable[[int], AskUser | FindPassword | NoteSecret]) -> Answer:
        """Ask, and wait for the answer, or for the end of the command."""
        question = _Question()
        number = next(self._numbers)
        self._answers[number] = question
        self._link.send(encode_message(make(number)))
        while not question.answered.wait(_POLL_INTERVAL):
            if self._stop.is_set():
                break
        del self._answers[number]
        return question.answer or Answer(number)

    def _on_frame(self, kind: bytes, data: bytes) -> None:
        message = decode_message(data) if kind == MESSAGE else None
        if isinstance(message, Answer) and message.number in self._answers:
            question = self._answers[message.number]
            question.answer = message
            question.answered.set()
        elif isinstance(message, NotePasswordless):
            for kept in self.used:
                if kept.key == message.key:
                    kept.wanted.setdefault(message.become, 1)

    def _on_closed(self) -> None:
        """Handle the end of the command: pending logins end, open connections stay."""
        self._stop.set()
        self._connector.cancel()
        self._connector.forget_credentials()
        self._agents.close()
        self._environ = {}
        self._broker.end_command(self)


def _agent_key_of(kept: KeptConnection) -> tuple[str | None, bytes]:
    return kept.route.connection.settings.identity_agent, kept.agent_key


class _Question:
    """A question and its answer."""

    def __init__(self) -> None:
        """Not answered yet."""
        self.answered = threading.Event()
        self.answer: Answer | None = None


def _with_password(route: Route, password: InventoryPassword) -> Route:
    """Return the route with the inventory's password, which is found when it is needed."""
    connect = replace(route.connection.connect, password=password)
    return replace(route, connection=replace(route.connection, connect=connect))
