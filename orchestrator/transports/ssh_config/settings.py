"""The settings of ssh_config(5) for one host."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.errors import SourcePosition


class UnsupportedSetting(Struct, frozen=True):
    """An ssh_config option that affects this host but is not supported."""

    keyword: str
    value: str
    position: SourcePosition
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.keyword} {self.value} ({self.position})"


class SshSettings(Struct, frozen=True):
    """The settings of one host.

    None and empty values mean that the setting is unset and SSH's default applies. Tokens, ``~``
    and ``${…}`` are expanded.

    ``host`` is the name that was looked up, ``address`` the address to connect to, ``user`` the
    login user (None: the user who runs orch).
    ``jump`` are the jump hosts in order, as USER@HOST:PORT; USER@ and :PORT are optional, and an
    IPv6 address is in brackets. With jump hosts there is no ``proxy_command``.
    ``identity``, ``known_hosts``, ``global_known_hosts`` and ``identity_agent`` may be ``none``
    for no file or agent. ``identity_agent`` is a socket's path (None: SSH_AUTH_SOCK).
    ``connect_timeout`` and ``alive_interval`` are in seconds. ``host_keys`` is yes, accept-new,
    ask or no. The four lists of algorithms are as written, with their + - or ^.
    ``address_family`` is any, inet or inet6. ``forward_agent`` with a path in ``forward_socket``
    forwards that agent instead of the usual one.
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
