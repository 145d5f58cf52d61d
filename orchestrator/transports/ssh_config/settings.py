"""What ssh_config(5) comes to for one host."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.errors import SourcePosition


class UnsupportedSetting(Struct, frozen=True):
    """A setting that applies to a host, matters, and is not obeyed: where, and what of it."""

    keyword: str
    value: str
    position: SourcePosition
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.keyword} {self.value} ({self.position})"


class SshSettings(Struct, frozen=True):
    """The settings of one host. None and empty mean that nothing was said, so SSH's own default
    counts; tokens, ``~`` and ``${…}`` are expanded.

    ``host`` is the name that was looked up, ``address`` what to connect to, ``user`` who to log
    in as (None: who runs orch).
    ``jump`` holds the hops in order, each as USER@HOST:PORT with USER@ and :PORT only where they
    were written and [HOST] for IPv6; with hops there is no ``proxy_command``.
    ``identity`` may hold ``none``, which stands for no file at all, and so may ``known_hosts``,
    ``global_known_hosts`` and ``identity_agent`` (else a socket's path; None: SSH_AUTH_SOCK).
    ``connect_timeout`` and ``alive_interval`` are seconds. ``host_keys`` is yes, accept-new, ask
    or no. The four lists of algorithms are as written, with their + - or ^.
    ``address_family`` is any, inet or inet6. ``forward_agent`` with ``forward_socket`` (a path)
    forwards that agent in place of the usual one.
    """

    host: str
    address: str
    port: int | None = None
    user: str | None = None
    jump: tuple[str, ...] = ()
    proxy_command: str = ""
    forward_agent: bool = False
    forward_socket: str = ""
    identity: tuple[str, ...] = ()
    identities_only: bool | None = None
    identity_agent: str | None = None
    certificates: tuple[str, ...] = ()
    connect_timeout: int | None = None
    alive_interval: int | None = None
    alive_count: int | None = None
    host_keys: str | None = None
    known_hosts: tuple[str, ...] = ()
    global_known_hosts: tuple[str, ...] = ()
    host_key_alias: str = ""
    hash_known_hosts: bool = False
    kex: str = ""
    ciphers: str = ""
    macs: str = ""
    host_key_algorithms: str = ""
    address_family: str = "any"
    bind_address: str = ""
    set_env: tuple[tuple[str, str], ...] = ()
    unsupported: tuple[UnsupportedSetting, ...] = ()
