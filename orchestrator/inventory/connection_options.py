"""``connect``: checked where it is written, and made a ``Connect`` where all of it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.inventory.hostnames import BadNameError, check_user, key, read_host
from orchestrator.model.host import Connect
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Data, Value, Values
from orchestrator.yamlio.schema import Reader

TRANSPORTS = ("ssh", "openssh", "local", "sandbox")
HOST_KEYS = ("strict", "accept-new")
BECOME = ("sudo", "doas", "su")
DIRECT = "none"
"""``jump: none`` goes straight to the host, whatever a weaker layer says, as in ssh_config(5)."""

_SHELL = regex(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")


class ConnectReader:
    """Checks ``connect`` mappings. Relative paths in them start at the project's root."""

    def __init__(self, read: Reader, root: Path) -> None:
        self.read, self.root = read, root
        self.checks: dict[str, Callable[[Value, str], Data]] = {
            "user": self.user,
            "port": lambda value, what: read.integer(value, what, 1, 65535),
            "identity": self.paths,
            "identities_only": read.boolean,
            "jump": self.jump,
            "transport": lambda value, what: read.choice(value, what, TRANSPORTS),
            "known_hosts": self.paths,
            "host_keys": lambda value, what: read.choice(value, what, HOST_KEYS),
            "timeout": self.timeout,
            "retries": lambda value, what: read.integer(value, what, 0, 100),
            "keepalive": read.duration,
            "forward_agent": read.boolean,
            "shell": self.shell,
            "become_method": lambda value, what: read.choice(value, what, BECOME),
            "ssh_config": self.file,
        }

    def settings(self, value: Value | None, what: str) -> dict[str, Value]:
        """The settings that are right, each with its own type, under their places."""
        checked: dict[str, Value] = {}
        for name, item in self.read.mapping(value, f"connect of {what}", self.checks).items():
            data = self.checks[name](item, f"connect.{name}")
            if data is not None:
                checked[name] = Value(data, item.mark)
        return checked

    def user(self, value: Value, what: str) -> str | None:
        return self.named(value, what, check_user)

    def jump(self, value: Value, what: str) -> str | None:
        def one(text: str) -> str:
            if len(read_host(text).names) > 1:
                raise BadNameError("it stands for several hosts")
            return text

        return self.named(value, what, lambda text: ",".join(map(one, text.split(","))))

    def named(self, value: Value, what: str, check: Callable[[str], str]) -> str | None:
        text = self.read.text(value, what)
        try:
            return check(text) if text is not None else None
        except BadNameError as bad:
            self.read.problems.add(f"{what} cannot be '{text}': {bad.why}", value.mark, bad.hint)
        return None

    def paths(self, value: Value, what: str) -> list[Value] | None:
        found = self.read.string_list(value, what)
        return [Value(self.path(text), text.mark) for text in found] if found else None

    def file(self, value: Value, what: str) -> str | None:
        text = self.read.text(value, what)
        return self.path(text) if text is not None else None

    def path(self, text: str) -> str:
        return text if text.startswith(("~", "%")) or text == DIRECT else str(self.root / text)

    def timeout(self, value: Value, what: str) -> float | None:
        seconds = self.read.duration(value, what)
        if seconds == 0:
            self.read.problems.add(f"{what} must be more than 0", value.mark)
            return None
        return seconds

    def shell(self, value: Value, what: str) -> str | None:
        text = self.read.text(value, what)
        if text is None or _SHELL.fullmatch(text):
            return text
        self.read.wrong(value, what, "the name or path of a shell, without arguments")
        return None


def host_of_hop(text: str) -> str:
    """The key of the host that one hop of a ``jump`` names."""
    return key(read_host(text).names[0])


def connect(name: str, settings: Values) -> Connect:
    """How the host of this name is reached, its settings being checked ones."""
    fields: Mapping[str, Any] = {each: _typed(value.data) for each, value in settings.items()}
    jump = _way_to(name, fields["jump"]) if "jump" in fields else None
    return Connect(**{"address": name, **fields, "jump": jump, "given": frozenset(fields)})


def _way_to(name: str, jump: str) -> str | None:
    """The hops before this host: a jump host in a stage that jumps is no hop to itself."""
    if jump.lower() == DIRECT:
        return None
    hops = jump.split(",")
    own = [i for i, hop in enumerate(hops) if host_of_hop(hop) == key(name)]
    return ",".join(hops[: own[0]] if own else hops) or None


def _typed(data: Data) -> object:
    return tuple(str(item.data) for item in data) if isinstance(data, list) else data
