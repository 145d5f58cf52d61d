"""Hosts where they are named: in lists, as files, as addresses."""

from __future__ import annotations

from orchestrator.errors import Mark
from orchestrator.inventory.names import is_v6, key, read_host
from orchestrator.inventory.ranges import BadNameError
from orchestrator.inventory.written import Level, Ref
from orchestrator.model.host import Layer
from orchestrator.model.value import Value
from orchestrator.source.read import Reader, found


class RefReader:
    """Reads names of hosts, at one level at a time. What is wrong goes to the reader's problems."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        self.level = Level.STAGE

    def listed(self, value: Value | None, what: str) -> tuple[Ref, ...] | None:
        """The hosts of a role, in order; None where the key is absent."""
        if value is None:
            return None
        refs: list[Ref] = []
        for item in self.read.items(value, f"hosts of {what}") or ():
            refs += self.one(item, what)
        return tuple(refs)

    def one(self, item: Value, what: str) -> tuple[Ref, ...]:
        """The hosts of one item of a list."""
        shown = f"a host of {what}"
        if isinstance(item.data, list):
            inner = ":".join(str(v.plain()) for v in item.data)
            hint = (
                "put an IPv6 address in quotes" if is_v6(inner) else "a range needs a name in front"
            )
            self.read.wrong(item, shown, "text", hint)
            return ()
        if isinstance(item.data, dict):
            name = next(iter(item.data), "web1")
            hint = f"write '{name}' alone; what is said of it belongs into hosts/{name}.yml"
            self.read.wrong(item, shown, "text", hint)
            return ()
        if item.data is None or (isinstance(item.data, str) and not item.data.strip()):
            what = f"{shown} must be a name or an address, found {found(item)}"
            self.read.problems.add(what, item.mark, "an empty host would be none, or this machine")
            return ()
        text = self.read.text(item, shown)
        return self.named(text, item.mark, shown) if text is not None else ()

    def primary(self, value: Value | None) -> Ref | None:
        """The one host that stands for its role."""
        text = self.read.text(value, "primary")
        if value is None or text is None:
            return None
        refs = self.named(text, value.mark, "primary")
        if len(refs) > 1:
            self.read.problems.add("primary must be one host", value.mark)
        return refs[0] if refs else None

    def named(self, text: str, mark: Mark, what: str) -> tuple[Ref, ...]:
        """The hosts that a text stands for."""
        try:
            written = read_host(text)
        except BadNameError as bad:
            self.read.problems.add(f"{what} cannot be '{text}': {bad.why}", mark, bad.hint)
            return ()
        settings: dict[str, Value] = {}
        if written.user is not None:
            settings["user"] = Value(written.user, mark)
        if written.port is not None:
            settings["port"] = Value(written.port, mark)
        layer = Layer("host", text, connect=settings) if settings else None
        level, port = self.level, written.port
        return tuple(
            Ref(name, key(name), mark=mark, level=level, port=port, layer=layer)
            for name in written.names
        )

    def address(self, value: Value | None, hosts: int) -> Value | None:
        """An ``address``, which so many hosts are to share."""
        text = self.read.text(value, "address")
        if value is None or text is None:
            return None
        if hosts > 1:
            what = "one address cannot be that of several hosts"
            self.read.problems.add(what, value.mark, "leave it out, or write a file for each host")
            return None
        try:
            written = read_host(text)
        except BadNameError as bad:
            self.read.problems.add(f"address cannot be '{text}': {bad.why}", value.mark, bad.hint)
            return None
        if written.user is not None or written.port is not None or len(written.names) > 1:
            hint = "put user and port under `connect`"
            self.read.wrong(value, "address", "one name or IP address and nothing else", hint)
            return None
        return Value(written.names[0], value.mark)
