"""The facts of hosts: their names, types, meanings and examples.

The facts of one ``group`` are collected together, by ``modules/facts/GROUP.sh``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct, field


class FactType(Enum):
    """The type of a fact, or of a field of one; the value is its name in the documentation."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    LIST = "list"
    MAPPING = "mapping"
    ANY = "any"


class FactField(Struct, frozen=True):
    """A field of a fact that is a mapping."""

    type: FactType
    help: str


class Fact(Struct, frozen=True):
    """A fact of a host.

    ``fields`` are those of the fact itself or, if it is ``keyed``, of each of its values.
    ``example`` is an expression, with a value that it may have as JSON.
    """

    group: str
    type: FactType
    help: str
    example: tuple[str, str]
    fields: Mapping[str, FactField] = field(default_factory=dict)
    keyed: bool = False


SYSTEM = "system"
"""The group of facts that cost little."""

_TEXT, _INTEGER, _BOOLEAN, _LIST, _MAPPING = (
    FactType.TEXT,
    FactType.INTEGER,
    FactType.BOOLEAN,
    FactType.LIST,
    FactType.MAPPING,
)


def _system(name: str, type_: FactType, text: str, value: str, example: str = "") -> Fact:
    return Fact(SYSTEM, type_, text, (example or f"facts.{name}", value))


def _route(family: str, gateway: str, address: str) -> dict[str, FactField]:
    return {
        "interface": FactField(_TEXT, "The name of its interface, or empty"),
        "gateway": FactField(_TEXT, f"The gateway's address, like {gateway}, or empty"),
        "address": FactField(_TEXT, f"The host's {family} address on it, like {address}, or empty"),
    }


FACTS: Mapping[str, Fact] = {
    "os": _system("os", _TEXT, "The kernel's name in lower case (`uname -s`)", '"linux"'),
    "kernel": _system("kernel", _TEXT, "The kernel's release (`uname -r`)", '"6.1.0-18-amd64"'),
    "arch": _system("arch", _TEXT, "The machine's architecture (`uname -m`)", '"x86_64"'),
    "distro": _system("distro", _TEXT, "The distribution (ID in /etc/os-release)", '"debian"'),
    "family": _system(
        "family",
        _TEXT,
        "The distribution that it descends from: debian, redhat, suse, arch, alpine, gentoo, or "
        "`distro`",
        '"debian"',
    ),
    "release": _system(
        "release",
        _TEXT,
        "The distribution's version (VERSION_ID in /etc/os-release)",
        '"12"',
    ),
    "codename": _system(
        "codename",
        _TEXT,
        "The name of that version (VERSION_CODENAME in /etc/os-release), or empty",
        '"bookworm"',
    ),
    "hostname": _system("hostname", _TEXT, "The host's own name (`uname -n`)", '"web1"'),
    "packager": _system(
        "packager",
        _TEXT,
        "The package manager: apt, dnf, yum, apk, zypper, pacman, brew, pkg or unknown",
        '"apt"',
    ),
    "init": _system(
        "init",
        _TEXT,
        "The service manager: systemd, openrc, launchd, sysv or unknown",
        '"systemd"',
    ),
    "user": _system("user", _TEXT, "The user who logs in (`id -un`)", '"deploy"'),
    "uid": _system("uid", _INTEGER, "The number of that user", "1000"),
    "home": _system("home", _TEXT, "The home folder of that user", '"/home/deploy"'),
    "cpus": _system("cpus", _INTEGER, "The number of processors in use", "4"),
    "memory": _system("memory", _INTEGER, "The memory in MiB", "7950"),
    "swap": _system("swap", _INTEGER, "The swap space in MiB", "1023"),
    "uptime": _system("uptime", _INTEGER, "The seconds since the host was started", "86400"),
    "timezone": _system("timezone", _TEXT, "The time zone", '"Europe/Berlin"'),
    "locale": _system(
        "locale", _TEXT, "The locale of the system (LANG), or empty", '"en_US.UTF-8"'
    ),
    "selinux": _system(
        "selinux", _TEXT, "The mode of SELinux: enforcing, permissive or disabled", '"disabled"'
    ),
    "fqdn": Fact(
        "fqdn",
        _TEXT,
        "The host's full name (`hostname -f`), for which it may ask a name server",
        ("facts.fqdn", '"web1.example.com"'),
    ),
    "virtualization": Fact(
        "virtualization",
        _TEXT,
        "What the host runs in, as systemd-detect-virt calls it: kvm, vmware, docker, lxc, …, none "
        "or unknown",
        ("facts.virtualization", '"kvm"'),
    ),
    "python": Fact(
        "python",
        _MAPPING,
        "The host's Python; empty texts without one",
        ("facts.python.version", '"3.11.2"'),
        {
            "path": FactField(_TEXT, "The path of python3, or of python"),
            "version": FactField(_TEXT, "Its version"),
        },
    ),
    "ipv4": Fact(
        "network",
        _LIST,
        "The IPv4 addresses, that of the default route first; without loopback",
        ("facts.ipv4 | first", '"192.0.2.10"'),
    ),
    "ipv6": Fact(
        "network",
        _LIST,
        "The IPv6 addresses, likewise; without loopback and link-local ones",
        ("facts.ipv6", '["2001:db8::10"]'),
    ),
    "interfaces": Fact(
        "network",
        _MAPPING,
        "The network interfaces by name",
        ("facts.interfaces.eth0.ipv4", '["192.0.2.10/24"]'),
        {
            "mac": FactField(_TEXT, "The hardware address, or empty"),
            "mtu": FactField(_INTEGER, "The size of its packets in bytes"),
            "up": FactField(_BOOLEAN, "Whether it is up"),
            "ipv4": FactField(_LIST, "Its IPv4 addresses with their prefixes"),
            "ipv6": FactField(_LIST, "Its IPv6 addresses with their prefixes"),
        },
        keyed=True,
    ),
    "default_route": Fact(
        "network",
        _MAPPING,
        "The default route of IPv4; empty texts without one",
        ("facts.default_route.interface", '"eth0"'),
        _route("IPv4", "192.0.2.1", "192.0.2.10"),
    ),
    "default_route6": Fact(
        "network",
        _MAPPING,
        "The default route of IPv6, likewise",
        ("facts.default_route6.gateway", '"fe80::1"'),
        _route("IPv6", "fe80::1", "2001:db8::10"),
    ),
    "nameservers": Fact(
        "network",
        _LIST,
        "The addresses of the name servers in /etc/resolv.conf",
        ("facts.nameservers", '["192.0.2.53"]'),
    ),
    "mounts": Fact(
        "mounts",
        _MAPPING,
        "The mounted file systems by path, without those that only show the kernel's state",
        ("facts.mounts['/'].free", "10240"),
        {
            "device": FactField(_TEXT, "What is mounted, like /dev/sda1"),
            "type": FactField(_TEXT, "The type, like ext4"),
            "options": FactField(_LIST, "The options, like [rw, noexec]"),
            "size": FactField(_INTEGER, "The size in MiB; 0 of a network file system"),
            "free": FactField(_INTEGER, "What users may still write, in MiB, likewise"),
        },
        keyed=True,
    ),
    "disks": Fact(
        "disks",
        _MAPPING,
        "The disks by name (Linux)",
        ("facts.disks.sda.size", "262144"),
        {
            "size": FactField(_INTEGER, "The size in MiB"),
            "model": FactField(_TEXT, "The model, or empty"),
            "rotational": FactField(_BOOLEAN, "Whether it rotates; false of an SSD"),
            "removable": FactField(_BOOLEAN, "Whether it can be removed"),
            "partitions": FactField(_LIST, "The names of its partitions"),
        },
        keyed=True,
    ),
    "users": Fact(
        "accounts",
        _MAPPING,
        "The users by name (passwd)",
        ("'deploy' in facts.users", "true"),
        {
            "uid": FactField(_INTEGER, "The number"),
            "gid": FactField(_INTEGER, "The number of the first group"),
            "comment": FactField(_TEXT, "The comment, usually the full name"),
            "home": FactField(_TEXT, "The home folder"),
            "shell": FactField(_TEXT, "The login shell"),
        },
        keyed=True,
    ),
    "groups": Fact(
        "accounts",
        _MAPPING,
        "The groups by name (group)",
        ("facts.groups.sudo.members", '["deploy"]'),
        {
            "gid": FactField(_INTEGER, "The number"),
            "members": FactField(_LIST, "The users for whom it is not the first group"),
        },
        keyed=True,
    ),
    "packages": Fact(
        "packages",
        _MAPPING,
        "The versions of the installed packages by name",
        ("facts.packages.nginx is version('1.20', '>=')", "true"),
        keyed=True,
    ),
    "services": Fact(
        "services",
        _MAPPING,
        "The services by name, without `.service`",
        ("facts.services.nginx.state", '"running"'),
        {
            "state": FactField(
                _TEXT, "running, exited (it did its work), stopped, failed or unknown"
            ),
            "enabled": FactField(_BOOLEAN, "Whether it is started with the host"),
        },
        keyed=True,
    ),
    "env": Fact(
        "env",
        _MAPPING,
        "The environment of the login user's commands by name; `env` is that of orch itself",
        ("facts.env.PATH", '"/usr/bin:/bin"'),
        keyed=True,
    ),
    "local": Fact(
        "local",
        _MAPPING,
        "The JSON of /etc/orch/facts.d on the host by name: of the files NAME.json, and of what "
        "the programs there print",
        ("facts.local.rack.unit", "7"),
        keyed=True,
    ),
}
"""The facts that orch collects itself."""

FACT_GROUPS: Mapping[str, tuple[str, ...]] = {
    group: tuple(name for name, fact in FACTS.items() if fact.group == group)
    for group in dict.fromkeys(fact.group for fact in FACTS.values())
}
"""The names of the facts of each group."""
