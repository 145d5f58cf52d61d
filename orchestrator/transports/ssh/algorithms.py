"""Lists of algorithms as ssh_config(5) has them: whole, or with + - ^ against the usual ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import ConnectError
from orchestrator.transports.ssh_config.patterns import compiled
from orchestrator.transports.ssh_config.settings import Settings

if TYPE_CHECKING:
    from orchestrator.transports.ssh.transport import Link


def assembled(wanted: str, usual: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """What ``wanted`` comes to: the names in it that are ``known``, in its order; behind the
    ``usual`` ones with +, before them with ^, and those without them with -. Empty: the usual.
    """
    if not wanted:
        return tuple(usual)
    sign, names = (wanted[0], wanted[1:]) if wanted[0] in "+-^" else ("", wanted)
    if sign == "-":
        unwanted = compiled(names.split(","))
        return tuple(name for name in usual if not unwanted.match(name))
    every = tuple(known)
    named = [one for part in names.split(",") for one in every if compiled([part]).match(one)]
    whole = {"+": [*usual, *named], "^": [*named, *usual], "": named}[sign]
    return tuple(dict.fromkeys(whole))


def chosen(
    keyword: str, wanted: str, usual: Sequence[str], known: Iterable[str]
) -> tuple[str, ...]:
    """``assembled``, at least one. Raises ConnectError that names the setting."""
    every = tuple(known)
    found = assembled(wanted, usual, every)
    if not found:
        raise ConnectError(
            "kex",
            f"{keyword} {wanted} leaves no algorithm that orch has: {', '.join(every)}",
            "change the setting for this host, or set `transport: openssh`",
        )
    return found


def restrict(link: Link, settings: Settings) -> None:
    """Let ``link``, which has not begun, offer what the settings say, and bear as many silences
    as they do. Raises ConnectError.
    """
    if settings.alive_count is not None:
        link.missed = settings.alive_count
    link._preferred_kex = chosen("KexAlgorithms", settings.kex, link._preferred_kex, link._kex_info)
    link._preferred_ciphers = chosen(
        "Ciphers", settings.ciphers, link._preferred_ciphers, link._cipher_info
    )
    link._preferred_macs = chosen("MACs", settings.macs, link._preferred_macs, link._mac_info)
