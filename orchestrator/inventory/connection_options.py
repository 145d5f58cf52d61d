"""Validation of ``connect`` mappings and their conversion to ``ConnectionOptions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.inventory.hostnames import (
    InvalidHostNameError,
    check_user,
    normalize_host,
    parse_host_spec,
)
from orchestrator.inventory.inventory_keys import BECOME_METHODS, CONNECT, HOST_KEY_POLICIES
from orchestrator.model.host import TRANSPORTS, ConnectionOptions
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedValue, ValueData, Values
from orchestrator.yamlio.schema import SchemaReader

NO_JUMP = "none"
"""``jump: none`` connects directly, overriding weaker layers, as in ssh_config(5)."""

_SHELL = lazy_regex(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")


class ConnectionOptionsReader:
    """A validator of ``connect`` mappings; relative paths in them start at the project root."""

    def __init__(self, read: SchemaReader, root: Path) -> None:
        self.read, self.root = read, root
        self.checks: dict[str, Callable[[MarkedValue, str], ValueData]] = {
            "user": self.user,
            "port": lambda value, what: read.integer(value, what, 1, 65535),
            "identity": self.paths,
            "identities_only": read.boolean,
            "jump": self.jump,
            "transport": lambda value, what: read.choice(value, what, TRANSPORTS),
            "known_hosts": self.paths,
            "host_keys": lambda value, what: read.choice(value, what, HOST_KEY_POLICIES),
            "timeout": self.timeout,
            "retries": lambda value, what: read.integer(value, what, 0, 100),
            "keepalive": read.duration,
            "persist": read.duration,
            "persist_become": read.boolean,
            "forward_agent": read.boolean,
            "shell": self.shell,
            "become_method": lambda value, what: read.choice(value, what, BECOME_METHODS),
            "ssh_config": self.file,
        }

    def settings(self, value: MarkedValue | None, what: str) -> dict[str, MarkedValue]:
        """Return the valid settings by name, each converted to its type; errors are reported."""
        checked: dict[str, MarkedValue] = {}
        for name, item in self.read.mapping(value, f"connect of {what}", CONNECT).items():
            data = self.checks[name](item, f"connect.{name}")
            if data is not None:
                checked[name] = MarkedValue(data, item.mark)
        return checked

    def user(self, value: MarkedValue, what: str) -> str | None:
        return self.checked_text(value, what, check_user)

    def jump(self, value: MarkedValue, what: str) -> str | None:
        def one(text: str) -> str:
            if len(parse_host_spec(text).names) > 1:
                raise InvalidHostNameError("it expands to several hosts")
            return text

        return self.checked_text(value, what, lambda text: ",".join(map(one, text.split(","))))

    def checked_text(
        self, value: MarkedValue, what: str, check: Callable[[str], str]
    ) -> str | None:
        text = self.read.text(value, what)
        try:
            return check(text) if text is not None else None
        except InvalidHostNameError as bad:
            self.read.problems.add(f"{what} cannot be '{text}': {bad.why}", value.mark, bad.hint)
        return None

    def paths(self, value: MarkedValue, what: str) -> list[MarkedValue] | None:
        found = self.read.string_list(value, what)
        return [MarkedValue(self.path(text), text.mark) for text in found] if found else None

    def file(self, value: MarkedValue, what: str) -> str | None:
        text = self.read.text(value, what)
        return self.path(text) if text is not None else None

    def path(self, text: str) -> str:
        return text if text.startswith(("~", "%")) or text == NO_JUMP else str(self.root / text)

    def timeout(self, value: MarkedValue, what: str) -> float | None:
        seconds = self.read.duration(value, what)
        if seconds == 0:
            self.read.problems.add(f"{what} must be more than 0", value.mark)
            return None
        return seconds

    def shell(self, value: MarkedValue, what: str) -> str | None:
        text = self.read.text(value, what)
        if text is None or _SHELL.fullmatch(text):
            return text
        self.read.report_mismatch(value, what, "the name or path of a shell, without arguments")
        return None


def jump_host_key(text: str) -> str:
    """Return the key of the host that one jump host of ``jump`` names."""
    return normalize_host(parse_host_spec(text).names[0])


def resolve_connection_options(name: str, settings: Values) -> ConnectionOptions:
    """Return the connection options of the host ``name`` from its validated settings."""
    fields: Mapping[str, Any] = {each: _typed_data(value.data) for each, value in settings.items()}
    jump = jumps_before(name, fields["jump"]) if "jump" in fields else None
    return ConnectionOptions(
        **{"address": name, **fields, "jump": jump, "set_fields": frozenset(fields)}
    )


def jumps_before(name: str, jump: str) -> str | None:
    """Return the jump hosts before this host: a jump host does not jump through itself."""
    if jump.lower() == NO_JUMP:
        return None
    hops = jump.split(",")
    own = [i for i, hop in enumerate(hops) if jump_host_key(hop) == normalize_host(name)]
    return ",".join(hops[: own[0]] if own else hops) or None


def _typed_data(data: ValueData) -> object:
    return tuple(str(item.data) for item in data) if isinstance(data, list) else data
