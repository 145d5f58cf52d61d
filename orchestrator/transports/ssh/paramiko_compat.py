"""paramiko, reduced to the modules and private members that orch uses.

No other module imports paramiko, and this one is imported with the first SSH host: it takes 45 ms.
The whole package would take 15 ms more, and ``invoke``, which paramiko needs only for ``Match
exec``, another 40 ms.
``PrivateTransport`` lists the private members; nothing else that is private may be used. A test
compares the list with the installed paramiko. Because any release may change them, pyproject.toml
allows only tested versions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, ClassVar


@contextmanager
def _without_package_init() -> Iterator[None]:
    """Import paramiko's modules without running its package's ``__init__``.

    A later import of the package loads all of it.
    """
    kept = {name: sys.modules.get(name) for name in ("paramiko", "invoke")}
    if kept["paramiko"] is None and (found := find_spec("paramiko")):
        sys.modules["paramiko"] = package = module_from_spec(found)
        package.__dict__["__version__"] = "0"
    if kept["invoke"] is None:
        sys.modules["invoke"] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        yield
    finally:
        for name, module in kept.items():
            if module is None:
                sys.modules.pop(name, None)


with _without_package_init():
    from paramiko import common as codes
    from paramiko.ed25519key import Ed25519Key
    from paramiko.message import Message
    from paramiko.packet import Packetizer
    from paramiko.pkey import PKey
    from paramiko.server import ServerInterface
    from paramiko.ssh_exception import IncompatiblePeer, SSHException
    from paramiko.transport import Transport as _Public

if TYPE_CHECKING:

    class PrivateTransport(_Public):
        """The private members of paramiko's Transport that orch calls, reads or overrides."""

        _CLIENT_ID: str
        _handler_table: dict[int, Callable[[Message], None]]
        _channel_handler_table: ClassVar[dict[int, Any]]
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
        def _log(self, level: int, msg: object, *args: object) -> None: ...
        def _parse_disconnect(self, m: Message) -> None: ...
        def _parse_newkeys(self, m: Message) -> None: ...
        def _parse_kex_init(self, m: Message) -> None: ...
        def _really_parse_kex_init(self, m: Message) -> dict[str, Any]: ...
        def _verify_key(self, host_key: bytes, sig: bytes) -> None: ...

else:
    PrivateTransport = _Public

__all__ = [
    "Ed25519Key",
    "IncompatiblePeer",
    "Message",
    "PKey",
    "Packetizer",
    "PrivateTransport",
    "SSHException",
    "ServerInterface",
    "codes",
]
