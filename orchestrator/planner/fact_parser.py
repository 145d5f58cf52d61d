"""What hosts report of their facts: checked, typed and bounded.

A report is lines of a kind and fields, separated by tabs (``modules/facts/common.sh``). It is a
host's text: whatever it is, the values have the types of ``FACTS`` and a bounded size.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping

from orchestrator.errors import OrchError
from orchestrator.model.facts import FACT_GROUPS, FACTS, FactType
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import to_one_line
from orchestrator.planner.host_json import MAX_DIGITS, parse_host_json
from orchestrator.playbook.own_facts import OwnFact
from orchestrator.playbook.param_types import convert_param

MAX_REPORT_BYTES = 4 << 20
"""The most that a host may report at once."""
_MAX_ENTRIES = 20_000
_MAX_TEXT_CHARS = 16_384
_ESCAPE = lazy_regex(r"\\([\\tn])")
_ESCAPED = {"\\": "\\", "t": "\t", "n": "\n"}

Report = Mapping[str, list[list[str]]]
"""The fields of the lines of each kind."""


def read_report(text: str) -> Report:
    """Return the lines of a report by their kinds. Raises OrchError if there are too many."""
    report: dict[str, list[list[str]]] = {}
    for line in text.split("\n"):
        kind, *fields = line.split("\t")
        if not fields:
            continue
        entries = report.setdefault(kind, [])
        if len(entries) >= _MAX_ENTRIES:
            raise facts_error(f"more than {_MAX_ENTRIES:,} lines of '{kind[:40]}'")
        entries.append([_unescaped(field) for field in fields])
    return report


def facts_error(reason: str) -> OrchError:
    """Return the error for facts that cannot be collected, or are not what they should be."""
    return OrchError(f"the host's facts could not be collected: {to_one_line(reason)}")


def parse_group(group: str, report: Report) -> dict[str, object]:
    """Return the facts of a group; what the host does not know is empty, or 0. Raises OrchError."""
    special = _SPECIAL_GROUPS.get(group)
    if special is not None:
        return special(report)
    return {name: _plain_fact(name, report) for name in FACT_GROUPS[group]}


def _plain_fact(name: str, report: Report) -> object:
    """Return a fact whose lines have its own name."""
    fact, entries = FACTS[name], report.get(name, [])
    if fact.keyed and not fact.fields:
        return {fields[0]: _text(fields, 1) for fields in entries}
    if fact.fields:
        return {
            field: _text(entries[-1] if entries else [], i) for i, field in enumerate(fact.fields)
        }
    if fact.type is FactType.INTEGER:
        return parse_integer(name, _text(entries[-1] if entries else [], 0))
    return _text(entries[-1] if entries else [], 0)


def _unescaped(text: str) -> str:
    if len(text) > _MAX_TEXT_CHARS and "\\n" not in text:
        raise facts_error(f"a text of more than {_MAX_TEXT_CHARS:,} characters")
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], text) if "\\" in text else text


def _text(fields: list[str], index: int) -> str:
    """Return a field, or '' if it is missing."""
    return fields[index] if index < len(fields) else ""


def parse_integer(name: str, text: str) -> int:
    """Return the number, or 0 if the host reported a word because it does not know it.

    Raises OrchError for more digits than any number of a host has.
    """
    if not (text.isascii() and text.isdigit()):
        return 0
    if len(text) > MAX_DIGITS:
        raise facts_error(f"{name} is a number of {len(text)} digits")
    return int(text)


def _accounts(report: Report) -> dict[str, object]:
    users: dict[str, dict[str, object]] = {}
    groups: dict[str, dict[str, object]] = {}
    for fields in report.get("passwd", []):
        parts = fields[0].split(":")
        if len(parts) == 7 and parts[0]:
            users.setdefault(
                parts[0],
                {
                    "uid": parse_integer("a uid", parts[2]),
                    "gid": parse_integer("a gid", parts[3]),
                    "comment": parts[4],
                    "home": parts[5],
                    "shell": parts[6],
                },
            )
    for fields in report.get("group", []):
        parts = fields[0].split(":")
        if len(parts) == 4 and parts[0]:
            members = [name for name in parts[3].split(",") if name]
            gid = parse_integer("a gid", parts[2])
            groups.setdefault(parts[0], {"gid": gid, "members": members})
    return {"users": users, "groups": groups}


def _mounts(report: Report) -> dict[str, object]:
    mounts: dict[str, dict[str, object]] = {}
    for fields in report.get("mount", []):
        mounts[fields[0]] = {
            "device": _text(fields, 1),
            "type": _text(fields, 2),
            "options": [option for option in _text(fields, 3).split(",") if option],
            "size": 0,
            "free": 0,
        }
    for fields in report.get("space", []):
        if fields[0] in mounts:
            mounts[fields[0]]["size"] = parse_integer("a size", _text(fields, 1)) // 1024
            mounts[fields[0]]["free"] = parse_integer("a size", _text(fields, 2)) // 1024
    return {"mounts": mounts}


def _disks(report: Report) -> dict[str, object]:
    return {
        "disks": {
            fields[0]: {
                "size": parse_integer("a size", _text(fields, 1)) // 2048,
                "model": _text(fields, 2).strip(),
                "rotational": _text(fields, 3) == "1",
                "removable": _text(fields, 4) == "1",
                "partitions": _text(fields, 5).split(),
            }
            for fields in report.get("disk", [])
        }
    }


_STATES = {"running": "running", "exited": "exited"}


def _services(report: Report) -> dict[str, object]:
    services: dict[str, dict[str, object]] = {}

    def service(name: str) -> dict[str, object]:
        name = name.removesuffix(".service")
        return services.setdefault(name, {"state": "stopped", "enabled": False})

    for fields in report.get("unit_file", []):
        if not fields[0].endswith("@.service"):
            service(fields[0])["enabled"] = _text(fields, 1) in ("enabled", "enabled-runtime")
    for fields in report.get("unit", []):
        if _text(fields, 1) != "not-found":
            state = _STATES.get(_text(fields, 3), "stopped")
            service(fields[0])["state"] = "failed" if _text(fields, 2) == "failed" else state
    for fields in report.get("services", []):
        service(fields[0]).update(state=_text(fields, 1), enabled=_text(fields, 2) == "enabled")
    return {"services": services}


def _local(report: Report) -> dict[str, object]:
    for fields in report.get("local_failed", []):
        raise facts_error(f"/etc/orch/facts.d: {fields[0]} ended with status {_text(fields, 1)}")
    return {
        "local": {
            fields[0]: parse_json(_text(fields, 1), f"/etc/orch/facts.d: {fields[0]}")
            for fields in report.get("local", [])
        }
    }


def parse_json(text: str, what: str) -> object:
    """Return the value of a host's JSON. Raises OrchError if it is not JSON, or too large."""
    try:
        return parse_host_json(text, what)
    except ValueError as error:
        raise facts_error(str(error)) from None


def parse_own_fact(fact: OwnFact, text: str) -> dict[str, object]:
    """Return the fields of a fact of the project: those of a mapping in JSON, or KEY=VALUE lines.

    Raises OrchError.
    """
    if text.lstrip().startswith("{"):
        value = parse_json(text, f"the output of '{fact.name}'")
        printed = dict(value) if isinstance(value, dict) else {}
        return _typed_fields(fact, printed, typed=True)
    texts: dict[str, object] = {}
    for line in text.split("\n"):
        name, sign, line_value = line.partition("=")
        if not line.strip():
            continue
        if not sign or not name.strip():
            raise facts_error(f"'{fact.name}' printed {line[:100]!r}, which is not KEY=VALUE")
        before = texts.get(name)
        param = (fact.fields or {}).get(name)
        if param is not None and param.type == "list":
            texts[name] = [*(before if isinstance(before, list) else []), line_value]
        else:
            texts[name] = line_value
    return _typed_fields(fact, texts, typed=False)


def _typed_fields(fact: OwnFact, printed: dict[str, object], *, typed: bool) -> dict[str, object]:
    """Return the printed values with the types of their fields."""
    if fact.fields is None:
        return printed
    for name in printed:
        if name not in fact.fields:
            known = ", ".join(fact.fields)
            raise facts_error(f"'{fact.name}' printed '{name[:40]}', which is none of {known}")
    found: dict[str, object] = {}
    for name, param in fact.fields.items():
        if name not in printed:
            if param.required:
                raise facts_error(f"'{fact.name}' did not print '{name}'")
            found[name] = (
                None if param.written_default is None else param.written_default.to_plain()
            )
            continue
        value = printed[name]
        if not typed and param.type in ("dict", "any"):
            value = parse_json(str(value), f"'{name}' of '{fact.name}'")
        try:
            is_typed = typed or not isinstance(value, str)
            found[name] = convert_param(param, value, typed=is_typed)
        except ValueError as error:
            raise facts_error(f"'{name}' of '{fact.name}' {error}") from None
    return found


def _network(report: Report) -> dict[str, object]:
    interfaces: dict[str, dict[str, object]] = {}
    for name, mac, mtu, state in _rows(report, "interface", 4):
        interfaces[name] = {
            "mac": mac,
            "mtu": parse_integer("an mtu", mtu),
            "up": state == "up",
            "ipv4": [],
            "ipv6": [],
        }
    for name, mac in _rows(report, "mac", 2):
        if name in interfaces:
            interfaces[name]["mac"] = mac
    nets = [(name, _hex_network(net, mask)) for name, net, mask in _rows(report, "hexnet", 3)]
    found: dict[int, list[tuple[str, str]]] = {4: [], 6: []}
    for name, address, netmask in _rows(report, "address", 3):
        each = _address(f"{address}/{_prefix(netmask)}" if netmask else address)
        if each is None:
            continue
        if not name and "/" not in address:
            found[each.version].append(_with_interface(each, nets))
        else:
            found[each.version].append((name, str(each)))
    for name, digits, prefix in _rows(report, "hexaddress", 3):
        groups = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
        each = _address(f"{groups}/{int(prefix, 16)}" if len(prefix) == 2 else "")
        if each is not None:
            found[6].append((name, str(each)))
    for family, addresses in found.items():
        for name, address in addresses:
            known = interfaces.get(name, {}).get(f"ipv{family}")
            if isinstance(known, list):
                known.append(address)
    routes = {family: _route(report, family, found[family]) for family in (4, 6)}
    return {
        "ipv4": _usable(found[4], routes[4]["address"]),
        "ipv6": _usable(found[6], routes[6]["address"]),
        "interfaces": interfaces,
        "default_route": routes[4],
        "default_route6": routes[6],
        "nameservers": [address for (address,) in _rows(report, "nameserver", 1)],
    }


def _rows(report: Report, kind: str, size: int) -> Iterable[list[str]]:
    """Yield the fields of the lines of a kind, missing ones as ''."""
    for fields in report.get(kind, []):
        yield [*fields, *[""] * size][:size]


Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _address(text: str) -> Interface | None:
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        return None


def _prefix(netmask: str) -> str:
    """Return a netmask of ifconfig, which may be hexadecimal, as ``ipaddress`` reads it."""
    if netmask.startswith("0x") and len(netmask) == 10:
        digits = netmask[2:]
        return (
            ".".join(str(int(digits[i : i + 2], 16)) for i in range(0, 8, 2))
            if _is_hex(digits)
            else ""
        )
    return netmask


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdefABCDEF" for char in text)


def _hex_address(digits: str) -> str:
    """Return an address of /proc/net/route, whose bytes are in the order of most machines."""
    if len(digits) != 8 or not _is_hex(digits):
        return ""
    return ".".join(str(int(digits[i : i + 2], 16)) for i in range(6, -1, -2))


def _hex_network(net: str, mask: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(f"{_hex_address(net)}/{_hex_address(mask)}")
    except ValueError:
        return None


def _with_interface(
    address: Interface, nets: Iterable[tuple[str, ipaddress.IPv4Network | None]]
) -> tuple[str, str]:
    """Return the interface of an address and the address with the prefix of its network."""
    for name, net in nets:
        if net is not None and address.ip in net:
            return name, f"{address.ip}/{net.prefixlen}"
    return ("lo", f"{address.ip}/8") if address.is_loopback else ("", str(address))


def _route(report: Report, family: int, addresses: list[tuple[str, str]]) -> dict[str, str]:
    """Return the default route; its address is the first of its interface unless it names one."""
    interface = gateway = address = ""
    for number, name, via, source in _rows(report, "route", 4):
        if number == str(family):
            interface, gateway, address = name, via, source
    for name, digits in _rows(report, "hexroute", 2):
        if family == 4:
            interface, gateway = name, _hex_address(digits)
    gateway, address = (
        str(each.ip) if (each := _address(text)) else "" for text in (gateway, address)
    )
    if interface and not address:
        usable = _usable([each for each in addresses if each[0] == interface], "")
        address = usable[0] if usable else ""
    return {"interface": interface, "gateway": gateway, "address": address}


def _usable(addresses: list[tuple[str, str]], first: str) -> list[str]:
    """Return the addresses without prefixes that others can use, ``first`` before the others."""
    found = [ipaddress.ip_interface(address).ip for _, address in addresses]
    usable = [
        str(ip) for ip in found if not (ip.is_loopback or (ip.version == 6 and ip.is_link_local))
    ]
    return sorted(dict.fromkeys(usable), key=lambda ip: ip != first)


_SPECIAL_GROUPS: Mapping[str, Callable[[Report], dict[str, object]]] = {
    "accounts": _accounts,
    "disks": _disks,
    "local": _local,
    "mounts": _mounts,
    "network": _network,
    "services": _services,
}
