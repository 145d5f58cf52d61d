"""What a stage, role or host gives: variables, environment, defaults and connect settings.

Hosts where they are named: in lists, as files, as addresses.

From a stage's files to ``written``: each key checked, each host parsed.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from orchestrator.errors import Mark, Problems
from orchestrator.inventory.connection_options import ConnectReader
from orchestrator.inventory.directory import Note, StageFolder
from orchestrator.inventory.hostnames import (
    COMMON,
    BadNameError,
    is_v6,
    key,
    read_host,
    why_no_role,
)
from orchestrator.inventory.records import (
    AppEntry,
    HostEntry,
    Level,
    Part,
    Ref,
    RoleEntry,
    Settings,
)
from orchestrator.model.host import Layer
from orchestrator.model.marked_value import Key, Value, Values
from orchestrator.yamlio.schema import Reader, found


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


_STAGE_KEYS = ("desc", "vars", "connect", "environment", "defaults", "protected")
_HOST_KEYS = ("desc", "address", "connect", "roles", "vars", "environment")
_APP_KEYS = ("desc", "roles", "hosts", "claims", "vars", "environment", "defaults")
_APP_HOST_KEYS = ("vars", "environment", "defaults")
_CLAIMS = ("paths", "ports", "units")
_ROLE_KEYS = (
    *("desc", "hosts", "roles", "primary"),
    *("vars", "connect", "environment", "defaults"),
)


class PartReader:
    """Reads one folder of ``inventories/`` for a stage. Nothing is raised; see ``problems``."""

    def __init__(self, root: Path, stage: str, problems: Problems, notes: list[Note]) -> None:
        self.root, self.stage = root, stage
        self.problems, self.notes = problems, notes
        self.read = Reader(problems)
        self.given = GivenReader(self.read, root)
        self.refs = RefReader(self.read)

    def part(self, path: Path, shown: str, level: Level) -> Part:
        """What the folder says."""
        self.refs.level = level
        folder = StageFolder(path, shown, self.problems, self.notes)
        settings = self.settings(folder.settings(), path.name)
        hosts = [
            e for name, body in folder.hosts(self.root, self.stage) for e in self.host(name, body)
        ]
        roles = [self.role(name, body) for name, body in folder.roles()]
        apps = [self.app(name, body) for name, body in folder.apps()]
        found = tuple(app for app in apps if app)
        return Part(
            level,
            shown,
            settings=settings,
            hosts=tuple(hosts),
            roles={r.name: r for r in roles if r},
            apps=found,
        )

    def settings(self, value: Value | None, name: str) -> Settings:
        if value is None:
            return Settings()
        what = f"stage.yml of '{name}'"
        keys = (*_STAGE_KEYS, "default_stage") if name == COMMON else _STAGE_KEYS
        if isinstance(value.data, dict) and name != COMMON:
            for misplaced in [k for k in value.data if k == "default_stage"]:
                hint = "move it to inventories/common/stage.yml"
                self.problems.add("one stage cannot be the default of all", misplaced.mark, hint)
                keys = (*keys, "default_stage")
        fields = self.read.fields(value, what, keys)
        default = fields.get("default_stage")
        self.read.text(default, "default_stage")
        return Settings(
            desc=self.read.text(fields.get("desc"), "desc"),
            protected=self.read.boolean(fields.get("protected"), "protected"),
            layer=self.given.layer("stage", name, fields, what),
            default_stage=default,
        )

    def host(self, name: Key, value: Value) -> list[HostEntry]:
        """One file of ``hosts/``: one host, or as many as the ranges in its name say."""
        refs = self.refs.named(name, name.mark, "the host")
        what = f"host '{name}'"
        fields = self.read.fields(value, what, _HOST_KEYS)
        if "desc" in fields:
            self.read.text(fields["desc"], "desc")
        address = self.refs.address(fields.get("address"), len(refs))
        layer = self.given.layer("host", str(name), fields, what, address)
        shown = str(address.data) if address else None
        roles = self.role_names(fields.get("roles"), what)
        return [HostEntry(ref, shown, roles, layer) for ref in refs]

    def role(self, name: Key, value: Value) -> RoleEntry | None:
        """One file of ``roles/``: a list of hosts, or the long form."""
        what = f"role '{name}'"
        if why := why_no_role(name):
            self.problems.add(f"'{name}' cannot name a role: {why}", name.mark)
            return None
        short = isinstance(value.data, list)
        if not short and value.data is not None and not isinstance(value.data, dict):
            hint = "like [web1, web2], or {hosts: [web1, web2], vars: {…}}"
            self.read.wrong(value, what, "a list of hosts or a mapping", hint)
            return None
        fields = {} if short else self.read.fields(value, what, _ROLE_KEYS)
        return RoleEntry(
            name=str(name),
            mark=name.mark,
            level=self.refs.level,
            hosts=self.refs.listed(value if short else fields.get("hosts"), what),
            roles=self.role_names(fields.get("roles"), what),
            primary=self.refs.primary(fields.get("primary")),
            layer=self.given.layer("role", str(name), fields, what),
            desc=self.read.text(fields.get("desc"), "desc"),
        )

    def app(self, name: Key, value: Value) -> AppEntry | None:
        """One file of ``apps/``."""
        what = f"app '{name}'"
        if why := why_no_role(name):
            self.problems.add(f"'{name}' cannot name an app: {why}", name.mark)
            return None
        fields = self.read.fields(value, what, _APP_KEYS)
        hosts: list[tuple[Ref, Layer]] = []
        for host, body in self.read.mapping(fields.get("hosts"), f"hosts of {what}").items():
            inside = f"{what} on '{host}'"
            own = self.read.fields(body, inside, _APP_HOST_KEYS)
            layer = self.given.layer("app", str(name), own, inside)
            refs = self.refs.named(host, host.mark, "the host")
            hosts += [(ref, layer) for ref in refs if layer is not None]
        claims = fields.get("claims")
        known = self.read.fields(claims, f"claims of {what}", _CLAIMS)
        roles = self.role_names(fields.get("roles"), what)
        if roles == () and "roles" in fields:
            self.problems.add(
                f"`roles` of {what} names no role, so it could live nowhere",
                fields["roles"].mark,
                "name a role, or leave `roles` out to mean all hosts",
            )
        return AppEntry(
            name=str(name),
            mark=name.mark,
            level=self.refs.level,
            roles=roles,
            layer=self.given.layer("app", str(name), fields, what),
            hosts=tuple(hosts),
            claims=known if claims is not None else None,
            desc=self.read.text(fields.get("desc"), "desc"),
        )

    def role_names(self, value: Value | None, what: str) -> tuple[Key, ...] | None:
        names = self.read.string_list(value, f"roles of {what}")
        if names is None:
            return None
        for name in names:
            if why := why_no_role(name):
                self.problems.add(f"'{name}' cannot name a role: {why}", name.mark)
        return tuple(dict.fromkeys(n for n in names if not why_no_role(n)))
