"""The target of an SSH connection: its route, its login, and the shared jump connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.ssh.agent_client import AgentClient
from orchestrator.transports.ssh.client import SshClient
from orchestrator.transports.ssh.host_key_policy import HostKeyVerifier
from orchestrator.transports.ssh.keyring import KeyOffer
from orchestrator.transports.ssh.route import JumpChain, Route, format_endpoint
from orchestrator.transports.ssh_config.settings import SshSettings

HostPort: TypeAlias = tuple[str, int]


class SshTarget(Struct, frozen=True):
    """A host to log in to.

    ``make_key_offer`` returns the keys for an attempt with this deadline. ``account`` names the
    account in password prompts; '' turns passwords off. ``forwarded_agent`` is the agent to
    forward, or None.
    ``is_jump_host``: the connection only carries tunnels.
    """

    route: Route
    host_key_verifier: HostKeyVerifier
    make_key_offer: Callable[[Deadline], KeyOffer]
    account: str = ""
    forwarded_agent: AgentClient | None = None
    is_jump_host: bool = False

    @property
    def connect(self) -> ConnectionOptions:
        """The resolved options of the connection."""
        return self.route.connection.connect

    @property
    def settings(self) -> SshSettings:
        """What ssh_config sets, beside the options."""
        return self.route.connection.settings

    @property
    def jump_hosts(self) -> JumpChain:
        """The jump hosts, in the order of connecting."""
        return self.route.jump_hosts

    @property
    def address(self) -> HostPort:
        """The host's address and port."""
        return self.connect.address, self.connect.port or 22

    @property
    def limiter_key(self) -> HostPort:
        """What limits the handshake: an address, the last jump host, or a proxy command."""
        address, port = self.address
        if self.jump_hosts:
            return f"behind {format_endpoint(self.jump_hosts[-1].connection.connect)}", 0
        if command := self.settings.proxy_command:
            return command.replace(address, "").replace(str(port), ""), 0
        return address, port

    def error_at(self, error: ConnectError) -> ConnectError:
        """Return the error with the endpoint."""
        return error.with_endpoint(self.endpoint)

    @property
    def endpoint(self) -> str:
        """The endpoint and the jump hosts, for messages."""
        return self.route.endpoint


class _SharedJumpClient(Struct):
    lock: threading.Lock = field(default_factory=threading.Lock)
    client: SshClient | None = None
    error: ConnectError | None = None
    failed_at: float = 0.0


class JumpConnections:
    """The shared connections to jump hosts.

    Each is made when it is first needed, while other callers wait, and again if it was lost.
    ``log_in`` makes them.
    """

    def __init__(self, log_in: Callable[[JumpChain], SshClient]) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._shared: dict[tuple[object, ...], _SharedJumpClient] = {}

    def connection_to(self, chain: JumpChain, deadline: Deadline) -> SshClient:
        """Return the connection to the last jump host of a chain.

        The wait for it has its own deadline and does not count against ``deadline``. Raises
        ConnectError, the same one for all callers that waited.
        """
        began = time.monotonic()
        with self._lock:
            shared = self._shared.setdefault(
                tuple(hop.sharing_key for hop in chain), _SharedJumpClient()
            )
        with shared.lock:
            deadline.extend(time.monotonic() - began)
            deadline.remaining()
            if shared.client is not None and not shared.client.ended.is_set():
                return shared.client
            if shared.error is not None and shared.failed_at > began:
                raise shared.error
            since = time.monotonic()
            try:
                shared.client, shared.error = self._log_in(chain), None
                return shared.client
            except CancelledError:
                raise
            except ConnectError as error:
                shared.error = replaced = _jump_host_error(error, chain)
                shared.failed_at = time.monotonic()
                raise replaced from None
            finally:
                deadline.extend(time.monotonic() - since)


def _jump_host_error(error: ConnectError, chain: JumpChain) -> ConnectError:
    """Return an error that is not transient, because the jump host's own retries have failed."""
    failed = error if isinstance(error, JumpHostError) else chain[-1].error_behind(error)
    return JumpHostError(failed.phase, failed.reason, failed.hint)


class JumpHostError(ConnectError):
    """A jump host could not be reached. Its name is in the message."""
