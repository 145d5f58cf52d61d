"""What a stage, role or host gives: variables, environment, defaults and connect settings."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from orchestrator.inventory.connect import ConnectReader
from orchestrator.model.host import Layer
from orchestrator.model.value import Value, Values
from orchestrator.source.read import Reader


class GivenReader:
    """Reads layers. What is wrong goes to the reader's problems."""

    def __init__(self, read: Reader, root: Path) -> None:
        self.read = read
        self.connect = ConnectReader(read, root)

    def layer(
        self,
        kind: str,
        name: str,
        fields: dict[str, Value],
        what: str,
        address: Value | None = None,
    ) -> Layer | None:
        """What these fields give a host; None where that is nothing."""
        settings = self.connect.settings(fields.get("connect"), what)
        if address is not None:
            settings["address"] = address
        values = self.read.variables(fields.get("vars"), f"vars of {what}")
        environment = self.environment(fields.get("environment"), what)
        defaults = self.defaults(fields.get("defaults"), what)
        if not (settings or values or environment or defaults):
            return None
        return Layer(
            kind,
            name,
            vars=cast(Values, values),
            environment=environment,
            defaults=defaults,
            connect=settings,
        )

    def environment(self, value: Value | None, what: str) -> dict[str, Value]:
        known: dict[str, Value] = {}
        for name, item in self.read.mapping(value, f"environment of {what}").items():
            if not name.isascii() or not name.isidentifier():
                self.read.problems.add(f"'{name}' cannot name an environment variable", name.mark)
            elif item.data is None or isinstance(item.data, (dict, list)):
                hint = 'an empty text is written ""'
                self.read.wrong(item, f"the environment variable {name}", "text", hint)
            else:
                known[name] = item
        return known

    def defaults(self, value: Value | None, what: str) -> dict[str, Value]:
        known: dict[str, Value] = {}
        for module, item in self.read.mapping(value, f"defaults of {what}").items():
            if self.read.mapping(item, f"defaults of module '{module}'"):
                known[module] = item
        return known
