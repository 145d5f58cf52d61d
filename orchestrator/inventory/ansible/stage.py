"""Resolution of an Ansible inventory to the hosts and roles of a stage.

Precedence, from weak to strong: the variables of `all` in the sources, those of other groups in the
sources; then ``group_vars/all`` beside the sources and beside the project, the other files of
``group_vars/`` in the same order; then those of the host: in the sources, in ``host_vars/`` beside
the sources, and beside the project. Among groups, the deeper one is stronger, then the one with the
higher ``ansible_group_priority``, then the later name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import DiagnosticCollector
from orchestrator.inventory.ansible.connection_variables import (
    PASSWORD_SETTINGS,
    SETTING_OF_VARIABLE,
    connect_settings,
    connection_notes,
    connection_options,
    is_template,
)
from orchestrator.inventory.ansible.groups import (
    ALL,
    AnsibleGroup,
    AnsibleHost,
    AnsibleInventory,
)
from orchestrator.inventory.ansible.vars_files import VarsFile, VarsFolders
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.precedence import VariableMerger, connect_of
from orchestrator.model.host import Host, Role, VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.yamlio.naming_rules import variable_name_error


class AnsibleStage(Struct, frozen=True):
    """The hosts and roles of an Ansible inventory.

    ``connection_notes`` are those on connection variables that have no effect.
    """

    hosts: dict[str, Host]
    roles: dict[str, Role]
    connection_notes: tuple[InventoryWarning, ...] = ()


class AnsibleStageBuilder:
    """A builder of a stage's hosts and roles.

    ``base`` are layers below those of the inventory, and ``role_layers`` those of a role below its
    group's. ``inventory_folders`` are the folders of the sources in their order, ``project_folder``
    that of the project, if there is one.
    """

    def __init__(
        self,
        inventory: AnsibleInventory,
        root: Path,
        base: Sequence[VariableLayer],
        inventory_folders: Iterable[Path],
        project_folder: Path | None,
        problems: DiagnosticCollector,
        notes: list[InventoryWarning],
    ) -> None:
        self.inventory, self.root, self.base = inventory, root, tuple(base)
        self.problems, self.notes = problems, notes
        folders = list(inventory_folders)
        known = {folder.resolve(): VarsFolders(folder, problems) for folder in folders}
        self.beside_sources = [known[folder.resolve()] for folder in folders]
        self.beside_project: list[VarsFolders] = []
        if project_folder is not None and (
            not folders or folders[-1].resolve() != project_folder.resolve()
        ):
            self.beside_project = [VarsFolders(project_folder, problems)]
        self.connection_notes: list[InventoryWarning] = []
        self.merger = VariableMerger(connect_of)
        self._source_layers: dict[str, VariableLayer] = {}
        self._file_layers: dict[str, VariableLayer] = {}
        self._group_layers: dict[tuple[str, ...], tuple[VariableLayer, ...]] = {}

    def build(self) -> AnsibleStage:
        """Return the hosts and roles; errors are reported."""
        hosts = {name: self._build_host(host) for name, host in self.inventory.hosts.items()}
        roles = {
            name: self._build_role(group)
            for name, group in self.inventory.groups.items()
            if name != ALL and (group.mark.path or group.hosts)
        }
        notes = tuple(dict.fromkeys(self.connection_notes))
        self.notes += notes
        return AnsibleStage(hosts, roles, notes)

    def _build_role(self, group: AnsibleGroup) -> Role:
        names = tuple(host.name for host in group.all_hosts())
        return Role(group.name, names, names[0] if names else None, group.mark)

    def _build_host(self, host: AnsibleHost) -> Host:
        groups = self.inventory.groups_of(host)
        names = tuple(group.name for group in groups)
        shared = self._group_layers.get(names)
        if shared is None:
            shared = self._group_layers[names] = tuple(self._layers_of_groups(groups))
        layers = (*shared, *self._layers_of_host(host))
        settings = self.merger.merge_layers(layers)
        connect = connection_options(host.name, settings, self.root)
        written = settings if _must_be_completed(settings, layers) else {}
        order = [name for name in self.inventory.groups if name in set(names)]
        return Host(host.name, connect, tuple(order), layers, host.mark, written_connect=written)

    def _layers_of_groups(self, groups: Sequence[AnsibleGroup]) -> Iterator[VariableLayer]:
        everything = self.inventory.groups[ALL]
        yield from self.base
        for group in (everything, *groups):
            yield from self._source_layer("role", group)
        for parts in ((everything,), groups):
            for folders in (self.beside_sources, self.beside_project):
                for folder in folders:
                    for group in parts:
                        yield from self._layers_of_files("role", group, folder)

    def _layers_of_host(self, host: AnsibleHost) -> Iterator[VariableLayer]:
        yield from self._source_layer("host", host)
        for folder in (*self.beside_sources, *self.beside_project):
            yield from self._layers_of_files("host", host, folder)

    def _source_layer(
        self, kind: str, entity: AnsibleGroup | AnsibleHost
    ) -> Iterator[VariableLayer]:
        if not entity.vars:
            return
        key = f"{kind} {entity.name}"
        if key not in self._source_layers:
            self._source_layers[key] = self._layer(kind, entity.name, entity.vars)
        yield self._source_layers[key]

    def _layers_of_files(
        self, kind: str, entity: AnsibleGroup | AnsibleHost, folder: VarsFolders
    ) -> Iterator[VariableLayer]:
        for file in folder.files_of(entity):
            if file.values or file.encrypted:
                key = f"{kind} {entity.name} {file.shown}"
                if key not in self._file_layers:
                    self._file_layers[key] = self._file_layer(kind, entity.name, file)
                yield self._file_layers[key]

    def _file_layer(self, kind: str, name: str, file: VarsFile) -> VariableLayer:
        if file.encrypted is not None:
            return VariableLayer(kind, name, replaces=True, encrypted=file.encrypted)
        return self._layer(kind, name, file.values)

    def _layer(
        self, kind: str, name: str, variables: Mapping[MarkedKey, MarkedValue]
    ) -> VariableLayer:
        self.connection_notes += connection_notes(variables)
        self.notes += _name_notes(variables)
        values = cast(Values, {name: _masked(name, value) for name, value in variables.items()})
        return VariableLayer(
            kind,
            name,
            vars=values,
            connect=connect_settings(values),
            replaces=True,
        )


def _masked(name: str, value: MarkedValue) -> MarkedValue:
    """Return the value, which is masked if it is a password."""
    is_password = SETTING_OF_VARIABLE.get(name) in PASSWORD_SETTINGS
    return replace(value, masked=name) if is_password and not is_template(value) else value


def _must_be_completed(settings: Values, layers: Sequence[VariableLayer]) -> bool:
    """Return True if settings are templates or passwords, or may be in an encrypted file."""
    return any(
        name in PASSWORD_SETTINGS or is_template(value) for name, value in settings.items()
    ) or any(layer.encrypted is not None for layer in layers)


def _name_notes(variables: Iterable[MarkedKey]) -> Iterator[InventoryWarning]:
    """Yield a note for each variable that templates cannot name directly."""
    for name in variables:
        why, _ = variable_name_error(name)
        if why:
            yield f"write vars['{name}'] to read this variable: {why}", name.mark
