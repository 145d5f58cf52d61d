"""paramiko, without what it does not need, and the private parts of it that orch builds on.

Nothing else imports paramiko, and this module is imported with the first SSH host only: it
costs 50 ms, and 90 with ``invoke``, which paramiko wants for ``Match exec`` alone.
What is private in paramiko is spelled out below; a test holds it against the installed one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar


def _load() -> None:
    spared = "invoke" not in sys.modules
    if spared:
        sys.modules["invoke"] = None  # type: ignore[assignment]  # makes its import fail
    try:
        importlib.import_module("paramiko")
    finally:
        if spared:
            del sys.modules["invoke"]


_load()

from paramiko import common as codes  # noqa: E402
from paramiko.ed25519key import Ed25519Key  # noqa: E402
from paramiko.message import Message  # noqa: E402
from paramiko.packet import Packetizer  # noqa: E402
from paramiko.pkey import PKey  # noqa: E402
from paramiko.server import ServerInterface  # noqa: E402
from paramiko.ssh_exception import IncompatiblePeer, SSHException  # noqa: E402
from paramiko.transport import Transport as _Public  # noqa: E402

if TYPE_CHECKING:

    class Transport(_Public):
        """The private side of paramiko's Transport, as far as orch relies on it."""

        _handler_table: dict[int, Callable[[Message], None]]
        _kex_info: ClassVar[dict[str, Any]]
        _key_info: ClassVar[dict[str, Any]]
        _cipher_info: ClassVar[dict[str, Any]]
        _mac_info: ClassVar[dict[str, Any]]
        _channels: Any
        _preferred_keys: tuple[str, ...]
        _preferred_kex: tuple[str, ...]
        _preferred_ciphers: tuple[str, ...]
        _preferred_macs: tuple[str, ...]
        server_extensions: dict[str, bytes]

        def _send_message(self, data: Message) -> None: ...
        def _next_channel(self) -> int: ...
        def _auth_trigger(self) -> None: ...
        def _check_banner(self) -> None: ...
        def _parse_newkeys(self, m: Message) -> None: ...
        def _parse_kex_init(self, m: Message) -> None: ...
        def _really_parse_kex_init(self, m: Message) -> dict[str, Any]: ...
        def _verify_key(self, host_key: bytes, sig: bytes) -> None: ...

else:
    Transport = _Public

__all__ = [
    "Ed25519Key",
    "IncompatiblePeer",
    "Message",
    "PKey",
    "Packetizer",
    "SSHException",
    "ServerInterface",
    "Transport",
    "codes",
]
