"""Validation of a stage's files: every key is checked and every host name parsed."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from msgspec.structs import replace

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.inventory import inventory_keys
from orchestrator.inventory.cluster_reader import read_cluster
from orchestrator.inventory.connection_options import ConnectionOptionsReader
from orchestrator.inventory.directory import InventoryDirectory, InventoryWarning
from orchestrator.inventory.hostnames import (
    COMMON,
    InvalidHostNameError,
    is_ipv6,
    normalize_host,
    parse_host_spec,
    role_name_error,
)
from orchestrator.inventory.programs import InventoryAccess, ProgramRunner
from orchestrator.inventory.records import (
    AnsibleSource,
    AppEntry,
    HostEntry,
    HostRef,
    InventoryLevel,
    InventoryRecords,
    RoleEntry,
    StageSettings,
)
from orchestrator.model.host import VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values, merge_values
from orchestrator.yamlio.local_files import display_path, expand_home
from orchestrator.yamlio.schema import SchemaReader, describe_value


class LayerReader:
    """A reader of variables, environment, defaults and connect settings; errors are reported."""

    def __init__(self, read: SchemaReader, root: Path) -> None:
        self.read = read
        self.connect = ConnectionOptionsReader(read, root)

    def read_layer(
        self,
        kind: str,
        name: str,
        fields: dict[str, MarkedValue],
        what: str,
        address: MarkedValue | None = None,
    ) -> VariableLayer | None:
        """Return the layer of these fields, or None if they set nothing."""
        settings = self.connect.settings(fields.get("connect"), what)
        if address is not None:
            settings["address"] = address
        values = self.read.variables(fields.get("vars"), f"vars of {what}")
        environment = self.environment(fields.get("environment"), what)
        defaults = self.defaults(fields.get("defaults"), what)
        if not (settings or values or environment or defaults):
            return None
        return VariableLayer(
            kind,
            name,
            vars=cast(Values, values),
            environment=environment,
            defaults=defaults,
            connect=settings,
        )

    def environment(self, value: MarkedValue | None, what: str) -> dict[str, MarkedValue]:
        known: dict[str, MarkedValue] = {}
        for name, item in self.read.mapping(value, f"environment of {what}").items():
            if not name.isascii() or not name.isidentifier():
                self.read.problems.add(f"'{name}' cannot name an environment variable", name.mark)
            elif item.data is None or isinstance(item.data, (dict, list)):
                hint = 'an empty text is written ""'
                self.read.report_mismatch(item, f"the environment variable {name}", "text", hint)
            else:
                known[name] = item
        return known

    def defaults(self, value: MarkedValue | None, what: str) -> dict[str, MarkedValue]:
        known: dict[str, MarkedValue] = {}
        for module, item in self.read.mapping(value, f"defaults of {what}").items():
            if self.read.mapping(item, f"defaults of module '{module}'"):
                known[module] = item
        return known


class HostRefReader:
    """A reader of host names of one level at a time; errors go to the reader's problems."""

    def __init__(self, read: SchemaReader) -> None:
        self.read = read
        self.level = InventoryLevel.STAGE

    def read_list(self, value: MarkedValue | None, what: str) -> tuple[HostRef, ...] | None:
        """Return the hosts of a role, in order, or None if the key is missing."""
        if value is None:
            return None
        refs: list[HostRef] = []
        for item in self.read.items(value, f"hosts of {what}") or ():
            refs += self.read_item(item, what)
        return tuple(refs)

    def read_item(self, item: MarkedValue, what: str) -> tuple[HostRef, ...]:
        """Return the hosts of one list item."""
        shown = f"a host of {what}"
        if isinstance(item.data, list):
            inner = ":".join(str(v.to_plain()) for v in item.data)
            hint = (
                "put an IPv6 address in quotes"
                if is_ipv6(inner)
                else "a range needs a name in front"
            )
            self.read.report_mismatch(item, shown, "text", hint)
            return ()
        if isinstance(item.data, dict):
            name = next(iter(item.data), "web1")
            hint = f"write only '{name}' here, and its settings in hosts/{name}.yml"
            self.read.report_mismatch(item, shown, "text", hint)
            return ()
        if item.data is None or (isinstance(item.data, str) and not item.data.strip()):
            what = f"{shown} must be a name or an address, found {describe_value(item)}"
            self.read.problems.add(what, item.mark, "remove the empty entry")
            return ()
        text = self.read.text(item, shown)
        return self.parse_refs(text, item.mark, shown) if text is not None else ()

    def read_primary(self, value: MarkedValue | None) -> HostRef | None:
        """Return the primary host of a role, or None."""
        text = self.read.text(value, "primary")
        if value is None or text is None:
            return None
        refs = self.parse_refs(text, value.mark, "primary")
        if len(refs) > 1:
            self.read.problems.add("primary must be one host", value.mark)
        return refs[0] if refs else None

    def parse_refs(self, text: str, mark: SourcePosition, what: str) -> tuple[HostRef, ...]:
        """Return references to the hosts that a text stands for."""
        try:
            written = parse_host_spec(text)
        except InvalidHostNameError as bad:
            self.read.problems.add(f"{what} cannot be '{text}': {bad.why}", mark, bad.hint)
            return ()
        settings: dict[str, MarkedValue] = {}
        if written.user is not None:
            settings["user"] = MarkedValue(written.user, mark)
        if written.port is not None:
            settings["port"] = MarkedValue(written.port, mark)
        layer = VariableLayer("host", text, connect=settings) if settings else None
        level, port = self.level, written.port
        return tuple(
            HostRef(name, normalize_host(name), mark=mark, level=level, port=port, layer=layer)
            for name in written.names
        )

    def read_address(self, value: MarkedValue | None, hosts: int) -> MarkedValue | None:
        """Return the value of ``address``, or None; ``hosts`` is how many hosts would share it."""
        text = self.read.text(value, "address")
        if value is None or text is None:
            return None
        if hosts > 1:
            what = "several hosts cannot share one address"
            self.read.problems.add(what, value.mark, "leave it out, or write a file for each host")
            return None
        try:
            written = parse_host_spec(text)
        except InvalidHostNameError as bad:
            self.read.problems.add(f"address cannot be '{text}': {bad.why}", value.mark, bad.hint)
            return None
        if written.user is not None or written.port is not None or len(written.names) > 1:
            hint = "put user and port under `connect`"
            self.read.report_mismatch(
                value, "address", "one name or IP address and nothing else", hint
            )
            return None
        return MarkedValue(written.names[0], value.mark)


class InventoryReader:
    """A reader of one folder of ``inventories/`` for a stage; errors go to ``problems``."""

    def __init__(
        self,
        root: Path,
        stage: str,
        problems: DiagnosticCollector,
        notes: list[InventoryWarning],
        access: InventoryAccess,
    ) -> None:
        self.root, self.stage, self.access = root, stage, access
        self.problems, self.notes = problems, notes
        self.read = SchemaReader(problems)
        self.layers = LayerReader(self.read, root)
        self.refs = HostRefReader(self.read)

    def read_directory(self, path: Path, shown: str, level: InventoryLevel) -> InventoryRecords:
        """Return the records of the folder."""
        self.refs.level = level
        folder = InventoryDirectory(path, shown, self.problems, self.notes)
        settings = self.read_settings(folder.read_settings(), path.name)
        apps = [self.read_app(name, body) for name, body in folder.read_apps()]
        found = tuple(app for app in apps if app)
        if level is InventoryLevel.COMMON or not (settings.ansible or folder.is_ansible()):
            settings = self.with_shared_vars(settings, folder, path.name)
        if settings.ansible or (level is InventoryLevel.STAGE and folder.is_ansible()):
            if settings.ansible:
                folder.report_own_hosts()
            sources = self.ansible_sources(path, folder, settings)
            return InventoryRecords(level, shown, settings, apps=found, ansible=sources)
        folder.report_unknown_files()
        programs = ProgramRunner(
            self.access, self.root, self.stage, settings.inventory_cache, settings.inventory_timeout
        )
        hosts = [
            e
            for name, body in folder.read_hosts(programs.run_hosts)
            for e in self.read_host_entries(name, body)
        ]
        roles = [self.read_role(name, body) for name, body in folder.read_roles()]
        return InventoryRecords(
            level,
            shown,
            settings=settings,
            hosts=tuple(hosts),
            roles={r.name: r for r in roles if r},
            apps=found,
        )

    def with_shared_vars(
        self, settings: StageSettings, folder: InventoryDirectory, name: str
    ) -> StageSettings:
        """Return the settings with the variables of ``vars/``, which are the weaker ones."""
        found: dict[MarkedKey, MarkedValue] = {}
        for file, body in folder.read_vars():
            for key, value in self.read.variables(body, f"vars/{file}.yml").items():
                first = next((known.mark for known in found if known == key), None)
                if first is not None:
                    message = f"'{key}' is set in two files of vars/"
                    self.problems.add(message, key.mark, f"it is set at {first}, too: keep one")
                found[key] = value
        if not found:
            return settings
        layer = settings.layer or VariableLayer("stage", name)
        merged: dict[str, MarkedValue] = cast(dict[str, MarkedValue], dict(found))
        for own, value in layer.vars.items():
            merged[own] = merge_values(merged[own], value) if own in merged else value
        return replace(settings, layer=replace(layer, vars=merged))

    def ansible_sources(
        self, path: Path, folder: InventoryDirectory, settings: StageSettings
    ) -> tuple[AnsibleSource, ...]:
        """Return the sources that `ansible` names, or the folder itself without it."""
        if not settings.ansible:
            return (AnsibleSource(path, folder.own_names()),)
        found: list[AnsibleSource] = []
        for name in settings.ansible:
            places = (self.root / expand_home(name), path / expand_home(name))
            source = next((place for place in places if place.exists()), None)
            if source is None:
                what = f"`ansible` names '{name}', which does not exist"
                hint = f"the path is relative to {display_path(self.root)}"
                self.problems.add(what, name.mark, hint)
            else:
                own = source.resolve() == path.resolve()
                found.append(AnsibleSource(source, folder.own_names() if own else ()))
        return tuple(found)

    def read_settings(self, value: MarkedValue | None, name: str) -> StageSettings:
        if value is None:
            return StageSettings()
        what = f"stage.yml of '{name}'"
        keys = inventory_keys.COMMON_STAGE if name == COMMON else inventory_keys.STAGE
        if isinstance(value.data, dict) and name != COMMON:
            for misplaced in [k for k in value.data if k in ("default_stage", "keep_runs")]:
                hint = "move it to inventories/common/stage.yml"
                self.problems.add(f"`{misplaced}` cannot be set by a stage", misplaced.mark, hint)
                keys = inventory_keys.COMMON_STAGE
        fields = self.read.fields(value, what, keys)
        default = fields.get("default_stage")
        self.read.text(default, "default_stage")
        return StageSettings(
            desc=self.read.text(fields.get("desc"), "desc"),
            protected=self.read.boolean(fields.get("protected"), "protected"),
            layer=self.layers.read_layer("stage", name, fields, what),
            default_stage=default,
            keep_runs=self.read.integer(fields.get("keep_runs"), "keep_runs", 1),
            ansible=self.read.string_list(fields.get("ansible"), "ansible") or (),
            inventory_cache=self.read.duration(fields.get("inventory_cache"), "inventory_cache"),
            inventory_timeout=self.read.duration(
                fields.get("inventory_timeout"), "inventory_timeout"
            ),
            engine=self.read_engine(fields.get("engine")),
            regions=self.read_regions(fields.get("regions")),
            cluster=read_cluster(self.read, fields.get("cluster")),
        )

    def read_engine(self, value: MarkedValue | None) -> MarkedValue | None:
        return value if self.read.text(value, "engine") is not None else None

    def read_regions(
        self, value: MarkedValue | None
    ) -> dict[MarkedKey, tuple[MarkedKey, ...]] | None:
        if value is None:
            return None
        if not isinstance(value.data, dict):
            self.read.report_mismatch(value, "regions", "a mapping", "like {eu: [web-eu, db1]}")
            return None
        return {
            region: self.read.string_list(names, f"regions.{region}") or ()
            for region, names in value.data.items()
        }

    def read_host_entries(self, name: MarkedKey, value: MarkedValue) -> list[HostEntry]:
        """Return the hosts of one file in ``hosts/``: one host, or one per name of its range."""
        refs = self.refs.parse_refs(name, name.mark, "the host")
        what = f"host '{name}'"
        fields = self.read.fields(value, what, inventory_keys.HOST)
        if "desc" in fields:
            self.read.text(fields["desc"], "desc")
        address = self.refs.read_address(fields.get("address"), len(refs))
        layer = self.layers.read_layer("host", str(name), fields, what, address)
        shown = str(address.data) if address else None
        roles = self.role_names(fields.get("roles"), what)
        return [HostEntry(ref, shown, roles, layer) for ref in refs]

    def read_role(self, name: MarkedKey, value: MarkedValue) -> RoleEntry | None:
        """Return the role of one file in ``roles/``: a list of hosts, or the long form."""
        what = f"role '{name}'"
        if why := role_name_error(name):
            self.problems.add(f"'{name}' cannot name a role: {why}", name.mark)
            return None
        short = isinstance(value.data, list)
        if not short and value.data is not None and not isinstance(value.data, dict):
            hint = "like [web1, web2], or {hosts: [web1, web2], vars: {…}}"
            self.read.report_mismatch(value, what, "a list of hosts or a mapping", hint)
            return None
        fields = {} if short else self.read.fields(value, what, inventory_keys.ROLE)
        return RoleEntry(
            name=str(name),
            mark=name.mark,
            level=self.refs.level,
            hosts=self.refs.read_list(value if short else fields.get("hosts"), what),
            roles=self.role_names(fields.get("roles"), what),
            primary=self.refs.read_primary(fields.get("primary")),
            layer=self.layers.read_layer("role", str(name), fields, what),
            desc=self.read.text(fields.get("desc"), "desc"),
        )

    def read_app(self, name: MarkedKey, value: MarkedValue) -> AppEntry | None:
        """Return the app of one file in ``apps/``, or None after reporting an error."""
        what = f"app '{name}'"
        if why := role_name_error(name):
            self.problems.add(f"'{name}' cannot name an app: {why}", name.mark)
            return None
        fields = self.read.fields(value, what, inventory_keys.APP)
        hosts: list[tuple[HostRef, VariableLayer]] = []
        for host, body in self.read.mapping(fields.get("hosts"), f"hosts of {what}").items():
            inside = f"{what} on '{host}'"
            own = self.read.fields(body, inside, inventory_keys.APP_HOST)
            layer = self.layers.read_layer("app", str(name), own, inside)
            refs = self.refs.parse_refs(host, host.mark, "the host")
            hosts += [(ref, layer) for ref in refs if layer is not None]
        claims = fields.get("claims")
        known = self.read.fields(claims, f"claims of {what}", inventory_keys.CLAIMS)
        roles = self.role_names(fields.get("roles"), what)
        if roles == () and "roles" in fields:
            self.problems.add(
                f"`roles` of {what} is empty, so no host would have it",
                fields["roles"].mark,
                "name a role, or leave `roles` out to mean all hosts",
            )
        return AppEntry(
            name=str(name),
            mark=name.mark,
            level=self.refs.level,
            roles=roles,
            layer=self.layers.read_layer("app", str(name), fields, what),
            hosts=tuple(hosts),
            claims=known if claims is not None else None,
            desc=self.read.text(fields.get("desc"), "desc"),
        )

    def role_names(self, value: MarkedValue | None, what: str) -> tuple[MarkedKey, ...] | None:
        names = self.read.string_list(value, f"roles of {what}")
        if names is None:
            return None
        for name in names:
            if why := role_name_error(name):
                self.problems.add(f"'{name}' cannot name a role: {why}", name.mark)
        return tuple(dict.fromkeys(n for n in names if not role_name_error(n)))
