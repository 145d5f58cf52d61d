"""Lists of algorithms as in ssh_config(5): a whole list, or one that changes the default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import ConnectError
from orchestrator.transports.ssh_config.patterns import compile_patterns
from orchestrator.transports.ssh_config.settings import SshSettings

if TYPE_CHECKING:
    from orchestrator.transports.ssh.transport import SshTransport


def merge_algorithms(
    setting: str, defaults: Sequence[str], supported: Iterable[str]
) -> tuple[str, ...]:
    """Return the algorithms that ``setting`` selects.

    Names (and patterns) select those of ``supported``, in the order of ``setting``. With ``+`` they
    follow the ``defaults``, with ``^`` they precede them, and with ``-`` they are removed from
    them. An empty ``setting`` selects the ``defaults``.
    """
    if not setting:
        return tuple(defaults)
    sign, names = (setting[0], setting[1:]) if setting[0] in "+-^" else ("", setting)
    if sign == "-":
        unwanted = compile_patterns(names.split(","))
        return tuple(name for name in defaults if not unwanted.matches(name))
    every = tuple(supported)
    named = [
        one for part in names.split(",") for one in every if compile_patterns([part]).matches(one)
    ]
    whole = {"+": [*defaults, *named], "^": [*named, *defaults], "": named}[sign]
    return tuple(dict.fromkeys(whole))


def require_algorithms(
    keyword: str, setting: str, defaults: Sequence[str], supported: Iterable[str]
) -> tuple[str, ...]:
    """Return ``merge_algorithms``. Raises ConnectError if no algorithm is left."""
    every = tuple(supported)
    found = merge_algorithms(setting, defaults, every)
    if not found:
        raise ConnectError(
            "kex",
            f"{keyword} {setting} leaves no algorithm that orch supports: {', '.join(every)}",
            "change the setting for this host, or set `transport: openssh`",
        )
    return found


def apply_ssh_settings(transport: SshTransport, settings: SshSettings) -> None:
    """Apply algorithms and keepalives of the settings to a transport that is not started yet.

    Raises ConnectError if a setting leaves no supported algorithm.
    """
    if settings.alive_count is not None:
        transport.max_missed_keepalives = settings.alive_count
    transport._preferred_kex = require_algorithms(
        "KexAlgorithms", settings.kex, transport._preferred_kex, transport._kex_info
    )
    transport._preferred_ciphers = require_algorithms(
        "Ciphers", settings.ciphers, transport._preferred_ciphers, transport._cipher_info
    )
    transport._preferred_macs = require_algorithms(
        "MACs", settings.macs, transport._preferred_macs, transport._mac_info
    )
