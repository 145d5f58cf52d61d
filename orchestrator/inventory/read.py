"""From a stage's files to ``written``: each key checked, each host parsed."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import Problems
from orchestrator.inventory.files import Note, StageFolder
from orchestrator.inventory.given import GivenReader
from orchestrator.inventory.names import COMMON, why_no_role
from orchestrator.inventory.references import RefReader
from orchestrator.inventory.written import (
    AppEntry,
    HostEntry,
    Level,
    Part,
    Ref,
    RoleEntry,
    Settings,
)
from orchestrator.model.host import Layer
from orchestrator.model.value import Key, Value
from orchestrator.source.read import Reader

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
