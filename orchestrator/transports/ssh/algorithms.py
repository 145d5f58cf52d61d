"""Lists of algorithms as ssh_config(5) has them: whole, or with + - ^ against the usual ones."""

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
    """What ``setting`` comes to: the names in it that are ``supported``, in its order; behind the
    ``defaults`` ones with +, before them with ^, and those without them with -. Empty: the usual.
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
    """``merge_algorithms``, at least one. Raises ConnectError that names the setting."""
    every = tuple(supported)
    found = merge_algorithms(setting, defaults, every)
    if not found:
        raise ConnectError(
            "kex",
            f"{keyword} {setting} leaves no algorithm that orch has: {', '.join(every)}",
            "change the setting for this host, or set `transport: openssh`",
        )
    return found


def apply_ssh_settings(transport: SshTransport, settings: SshSettings) -> None:
    """Let ``transport``, which has not begun, offer what the settings say, and bear as many silences
    as they do. Raises ConnectError.
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
