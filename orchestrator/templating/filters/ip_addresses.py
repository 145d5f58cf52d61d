"""The filter ``ipaddr``: addresses and networks, with the meaning that Ansible gives its queries.

Source: the documentation of the filter in the collection ``ansible.utils``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from orchestrator.templating.filters.containers import require_defined
from orchestrator.templating.value_text import UnusableValueError

Interface = IPv4Interface | IPv6Interface


def ipaddr(value: Any, query: Any = "", version: int | None = None) -> Any:
    """Return what a query asks of an address or network, or false if it does not apply.

    Of a list, return the answers for those that it applies to. A number is the address at that
    place in the network; a network selects the addresses in it. ``version`` is 4 or 6 for only
    these. Raises UnusableValueError for a query that there is not.
    """
    require_defined(value, query)
    answer = _asked(query)
    if isinstance(value, list | tuple):
        answers = (_answer(each, answer, version) for each in value)
        return [each for each in answers if each is not False]
    return _answer(value, answer, version)


def ipv4(value: Any, query: Any = "") -> Any:
    """Return what ``ipaddr`` returns for addresses of IPv4."""
    return ipaddr(value, query, 4)


def ipv6(value: Any, query: Any = "") -> Any:
    """Return what ``ipaddr`` returns for addresses of IPv6."""
    return ipaddr(value, query, 6)


def ipwrap(value: Any) -> Any:
    """Return an IPv6 address in brackets, as it stands before a port; other values as they are."""
    return f"[{value}]" if isinstance(value, str) and ipv6(value) else value


def _answer(value: Any, answer: Callable[[str, Interface], Any], version: int | None) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    text = str(value).strip()
    number, slash, prefix = text.partition("/")
    try:
        if number.isdecimal():
            text = f"{ip_address(int(number))}{slash}{prefix}"
        found = ip_interface(text)
    except ValueError:
        return False
    if version is not None and found.version != version:
        return False
    return answer(text, found)


def _asked(query: Any) -> Callable[[str, Interface], Any]:
    if isinstance(query, int) and not isinstance(query, bool):
        return lambda _, found: _nth(found, query)
    text = str(query).strip()
    if text in _QUERIES:
        return _QUERIES[text]
    if text.lstrip("-").isdecimal():
        return lambda _, found: _nth(found, int(text))
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise UnusableValueError(
            f"`ipaddr` has no query '{text}'",
            f"it is a number, a network, or one of {', '.join(filter(None, _QUERIES))}",
        ) from None
    return lambda written, found: (
        written if found.version == network.version and found.ip in network else False
    )


def _nth(found: Interface, number: int) -> Any:
    network = found.network
    if not -network.num_addresses <= number < network.num_addresses:
        return False
    return f"{network[number]}/{network.prefixlen}"


def _is_network(found: Interface) -> bool:
    return found.ip == found.network.network_address and found.network.num_addresses > 1


def _address(_: str, found: Interface) -> Any:
    point_to_point = found.network.num_addresses <= 2
    return False if _is_network(found) and not point_to_point else str(found.ip)


def _host(_: str, found: Interface) -> Any:
    return False if _is_network(found) else f"{found.ip}/{found.network.prefixlen}"


def _network_part(part: str) -> Callable[[str, Interface], Any]:
    return lambda _, found: str(getattr(found.network, part))


def _only(is_kind: Callable[[Interface], bool]) -> Callable[[str, Interface], Any]:
    return lambda written, found: written if is_kind(found) else False


def _usable(found: Interface, last: bool) -> Any:
    network = found.network
    if network.num_addresses == 1:
        return False
    edge = 0 if network.num_addresses == 2 else 1  # both are usable, RFC 3021 and 6164
    return str(network[-1 - edge if last else edge])


def _usable_range(_: str, found: Interface) -> Any:
    first, last = _usable(found, False), _usable(found, True)
    return f"{first}-{last}" if first else False


def _broadcast(_: str, found: Interface) -> Any:
    has_one = found.version == 4 and found.network.num_addresses > 2
    return str(found.network.broadcast_address) if has_one else False


_QUERIES: Mapping[str, Callable[[str, Interface], Any]] = {
    "": lambda written, _: written,
    "address": _address,
    "ip": _address,
    "host": _host,
    "net": lambda _, found: str(found.network) if _is_network(found) else False,
    **dict.fromkeys(("network", "network_id"), _network_part("network_address")),
    "subnet": lambda _, found: str(found.network),
    "prefix": lambda _, found: found.network.prefixlen,
    "netmask": lambda _, found: str(found.network.netmask),
    "hostmask": lambda _, found: str(found.network.hostmask),
    "broadcast": _broadcast,
    "size": lambda _, found: found.network.num_addresses,
    "version": lambda _, found: found.version,
    "type": lambda _, found: "network" if _is_network(found) else "address",
    "int": lambda _, found: int(found.ip),
    "bool": lambda *_: True,
    "revdns": lambda _, found: f"{found.ip.reverse_pointer}.",
    "first_usable": lambda _, found: _usable(found, False),
    "last_usable": lambda _, found: _usable(found, True),
    "range_usable": _usable_range,
    "public": _only(lambda found: found.ip.is_global),
    "private": _only(lambda found: found.ip.is_private),
    "loopback": _only(lambda found: found.ip.is_loopback),
    "multicast": _only(lambda found: found.ip.is_multicast),
    "link-local": _only(lambda found: found.ip.is_link_local),
    "ipv4": _only(lambda found: found.version == 4),
    "ipv6": _only(lambda found: found.version == 6),
}
