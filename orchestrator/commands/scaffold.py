"""``orch new``: one new task, module, playbook, host, role or app with comments on its keys.

The checks of a name are those of the loader. After a change of the inventory its stages are loaded:
if one has an error that it did not have before, the change is undone.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.commands.file_writer import create_file, find_existing, replace_file
from orchestrator.commands.init import starter_text
from orchestrator.commands.inventory_access import inventory_access
from orchestrator.commands.json_schema import add_schema_comment
from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    OrchError,
    SourcePosition,
    UsageError,
    suggest_nearest,
)
from orchestrator.inventory.directory import APPS, HOSTS, ROLES, InventoryDirectory
from orchestrator.inventory.hostnames import (
    COMMON,
    HostSpec,
    InvalidHostNameError,
    check_port,
    check_user,
    normalize_host,
    parse_host_spec,
    role_name_error,
)
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.inventory.stage_parser import HostRefReader
from orchestrator.inventory.stages import INVENTORIES, list_stages
from orchestrator.model.host import Stage
from orchestrator.model.marked_value import MarkedValue
from orchestrator.playbook.task_index import index_tasks, task_name_error
from orchestrator.yamlio.local_files import display_path, read_file
from orchestrator.yamlio.naming_rules import YAML_SUFFIXES, yaml_stem
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_insertion import InsertionError, insert_item, insert_key, quote_text
from orchestrator.yamlio.yaml_loader import decode_utf8, load_yaml

_BOM = b"\xef\xbb\xbf"


class ScaffoldResult(Struct, frozen=True):
    """What was written, a line for each file, and the command to type next."""

    lines: tuple[str, ...]
    next_command: str


class HostSettings(Struct, frozen=True):
    """The settings of a new host as given on the command line; '' means that one is not set."""

    address: str = ""
    user: str = ""
    port: str = ""
    roles: tuple[str, ...] = ()


class _FileChange(Struct, frozen=True):
    """A file to create (``old`` is None) or to replace, and the line that reports it."""

    path: Path
    new: bytes
    line: str
    old: bytes | None = None


def create_task_file(root: Path, name: str, kind: str, stage_option: str) -> ScaffoldResult:
    """Create the file of a task, module or playbook.

    ``stage_option`` is the part of a command line that selects a stage. Raises UsageError if the
    name is invalid or the file exists.
    """
    if reason := task_name_error(name):
        raise UsageError(
            Diagnostic(f"'{name}' cannot be a {kind}: {reason}", None, _task_name_hint(name, kind))
        )
    if yaml_stem(name):
        message = f"'{name}' cannot be a {kind}: its file would be {name}{YAML_SUFFIXES[0]}"
        raise UsageError(Diagnostic(message, None, _task_name_hint(name, kind)))
    *folders, last = name.split(":")
    path = Path(root, "tasks", *folders, f"{last}.yml")
    _check_not_existing(path, kind, name)
    text = starter_text(f"new/{kind}.yml", NAME=name)
    change = _FileChange(path, text.encode(), f"created {display_path(path)}")
    _apply(root, [change])
    command = f"orch doc {name}" if kind == "module" else f"orch {stage_option}run {name}"
    return ScaffoldResult((change.line,), command)


def _task_name_hint(name: str, kind: str) -> str:
    """Return a hint if a path was given instead of a name."""
    stem = yaml_stem(name) or name
    fixed = stem.removeprefix("./").removeprefix("tasks/").strip("/").replace("/", ":")
    if fixed == name or task_name_error(fixed):
        return ""
    return f"give its name, not its path: orch new {kind} {fixed}"


def create_host(root: Path, stage: str, name: str, settings: HostSettings) -> ScaffoldResult:
    """Describe a host of the stage, and add it to roles.

    Raises UsageError or DefinitionError; then nothing has been changed.
    """
    spec = _check_host_name(name, settings)
    loaded = _try_load(root, stage)
    _check_own_hosts(root, stage, loaded)
    directory = _open_directory(root, stage)
    form = directory.find_form(HOSTS)
    directory.problems.raise_any()
    _check_not_program(form, name, stage)
    _check_new_host(form, spec, stage)
    changes: list[_FileChange] = []
    claims: list[str] = []
    notes: list[str] = []
    for role in dict.fromkeys(settings.roles):
        if loaded is not None and _has_host(loaded, role, spec):
            notes.append(f"kept role {role}: it has {name} already")
            continue
        try:
            changes.append(_role_change(directory, role, name, loaded, changes))
        except InsertionError as error:
            claims.append(role)
            notes.append(f"note: role {role} is set in the host's own file, because {error}")
    body = _host_body(settings, claims)
    changes.insert(0, _entry_change(form or directory.path / HOSTS, name, body, "host"))
    _apply(root, changes)
    _check_stages(root, changes, {stage: loaded}, f"host '{name}'")
    limit = shlex.quote(name)
    lines = (*(change.line for change in changes), *notes)
    return ScaffoldResult(lines, f"orch -s {shlex.quote(stage)} doctor -l {limit}")


def create_role(root: Path, stage: str, name: str) -> ScaffoldResult:
    """Describe a role of the stage. Raises UsageError or DefinitionError."""
    if reason := role_name_error(name):
        raise UsageError(Diagnostic(f"'{name}' cannot name a role: {reason}"))
    loaded = _try_load(root, stage)
    _check_own_hosts(root, stage, loaded)
    body = _body_over_common(root, ROLES, name, starter_text("new/role.yml", NAME=name))
    change = _directory_change(_open_directory(root, stage), ROLES, name, body)
    _apply(root, [change])
    _check_stages(root, [change], {stage: loaded}, f"role '{name}'")
    command = f"orch -s {shlex.quote(stage)} new host HOST --role {name}"
    return ScaffoldResult((change.line,), command)


def create_app(root: Path, stage: str | None, name: str, stage_option: str) -> ScaffoldResult:
    """Describe an app, for all stages if ``stage`` is None. Raises UsageError or DefinitionError.

    ``stage_option`` is the part of a command line that selects a stage.
    """
    if reason := role_name_error(name):
        raise UsageError(Diagnostic(f"'{name}' cannot name an app: {reason}"))
    stages = list_stages(root).names if stage is None else (stage,)
    loaded = {each: _try_load(root, each) for each in stages}
    text = starter_text("new/app.yml", NAME=name)
    body = _body_over_common(root, APPS, name, text) if stage else text.splitlines()
    change = _directory_change(_open_directory(root, stage or COMMON), APPS, name, body)
    _apply(root, [change])
    _check_stages(root, [change], loaded, f"app '{name}'")
    has_recipe = "deploy" in index_tasks(root).files
    command = f"orch {stage_option}run deploy --app {name} --check"
    return ScaffoldResult((change.line,), command if has_recipe else "orch init --add deploy")


def _check_host_name(name: str, settings: HostSettings) -> HostSpec:
    """Return the host as the loader reads its name; check the settings as the loader does."""
    try:
        spec = parse_host_spec(name)
    except InvalidHostNameError as error:
        message = f"the host cannot be '{name}': {error.why}"
        raise UsageError(Diagnostic(message, None, error.hint)) from None
    for option, value, check in (
        ("--user", settings.user, check_user),
        ("--port", settings.port, check_port),
    ):
        try:
            if value:
                check(value)
        except InvalidHostNameError as error:
            raise UsageError(Diagnostic(error.why, SourcePosition(option), error.hint)) from None
    if settings.address:
        problems = DiagnosticCollector()
        address = MarkedValue(settings.address, SourcePosition("--address"))
        HostRefReader(SchemaReader(problems)).read_address(address, len(spec.names))
        if problems.diagnostics:
            raise UsageError(*problems.diagnostics)
    return spec


def _check_not_program(form: Path | None, host: str, stage: str) -> None:
    """Raise UsageError if a program prints the hosts of the stage."""
    if form is not None and not form.is_dir() and form.suffix not in YAML_SUFFIXES:
        shown = display_path(form)
        message = (
            f"{shown} is a program that prints the hosts of stage '{stage}', "
            "and a stage has one source of hosts"
        )
        hint = f"have the program print '{host}' as well"
        raise UsageError(Diagnostic(message, SourcePosition(shown), hint))


def _check_new_host(form: Path | None, spec: HostSpec, stage: str) -> None:
    """Raise UsageError if the stage has a description of the host. Case is not significant."""
    described: dict[str, SourcePosition] = {}
    for name, mark in _defined_names(form):
        try:
            names = parse_host_spec(name).names
        except InvalidHostNameError:
            continue
        described |= {normalize_host(each): mark for each in names}
    for each in spec.names:
        if known := described.get(normalize_host(each)):
            message = f"stage '{stage}' describes host '{each}' in {known.path}"
            raise UsageError(Diagnostic(message, known, "change it there"))


def _defined_names(form: Path | None) -> Iterator[tuple[str, SourcePosition]]:
    """Yield the names that a folder or a YAML file of the inventory defines."""
    if form is None:
        return
    if form.is_dir():
        for path in sorted(form.iterdir()):
            if stem := yaml_stem(path.name):
                yield stem, SourcePosition(display_path(path))
        return
    data = load_yaml(form, display_path(form), secrets=True).data
    for key in data if isinstance(data, dict) else ():
        yield str(key), key.mark


def _has_host(stage: Stage, role: str, spec: HostSpec) -> bool:
    found = (
        {normalize_host(host) for host in stage.roles[role].hosts} if role in stage.roles else ()
    )
    return all(normalize_host(name) in found for name in spec.names)


def _role_change(
    directory: InventoryDirectory,
    role: str,
    host: str,
    stage: Stage | None,
    earlier: Sequence[_FileChange],
) -> _FileChange:
    """Return the change that adds a host to a role's list, made after the earlier changes.

    Raises InsertionError if the stage has the role, but no list to which a host can be added
    safely, and UsageError if there is no such role.
    """
    form = directory.find_form(ROLES)
    directory.problems.raise_any()
    path, keys = form, [role]
    if form is not None and form.is_dir():
        path, keys = find_existing(form / f"{role}.yml"), []
    own = [name for name, _ in _defined_names(form)]
    if path is None or role not in own:
        known = [*own, *(stage.roles if stage else ())]
        if role in known:
            raise InsertionError(f"no file of stage '{directory.path.name}' lists its hosts")
        message = f"stage '{directory.path.name}' has no role '{role}'"
        hint = suggest_nearest(role, known) or f"create it: orch new role {shlex.quote(role)}"
        raise UsageError(Diagnostic(message, SourcePosition("--role"), hint))
    shown = display_path(path)
    value = load_yaml(path, shown, secrets=True)
    for key in keys:
        value = value.data[key] if isinstance(value.data, dict) else value  # type: ignore[index]
    if isinstance(value.data, dict):
        keys = [*keys, "hosts"]
    changed = [change.new for change in earlier if change.path == path]
    data = changed[-1] if changed else _read_bytes(path)
    try:
        new = insert_item(decode_utf8(data, shown), shown, keys, host)
    except InsertionError as error:
        raise InsertionError(f"{shown} cannot be added to: {error}") from None
    line = f"added {host} to role {role} in {shown}"
    return _FileChange(path, _encode_like(data, new), line, data)


def _host_body(settings: HostSettings, claims: Sequence[str]) -> list[str]:
    """Return the lines of a host's description; what is not set is explained in a comment."""
    connect = [f"{key}: {quote_text(value)}" for key, value in (("user", settings.user),) if value]
    connect += [f"port: {settings.port}"] if settings.port else []
    lines = (
        (
            f"address: {quote_text(settings.address)}" if settings.address else "",
            "# address: 10.0.0.5                    # default: its name",
        ),
        (
            f"connect: {{{', '.join(connect)}}}" if connect else "",
            "# connect: {user: deploy, port: 22, identity: ~/.ssh/id_ed25519, jump: bastion1}",
        ),
        (
            f"roles: [{', '.join(map(quote_text, claims))}]" if claims else "",
            "# roles: [web]                         # or list it in roles/web.yml",
        ),
        ("", "# vars: {workers: 4}                   # what differs on this host"),
    )
    return [given or comment for given, comment in lines]


def _body_over_common(root: Path, kind: str, name: str, text: str) -> list[str]:
    """Return the lines of a stage's role or app, as comments if ``common`` describes it too.

    An example value, like a list without hosts, would override the one in ``common``.
    """
    lines = text.splitlines()
    if not (root / INVENTORIES / COMMON).is_dir():
        return lines
    form = _open_directory(root, COMMON).find_form(kind)
    if name not in (known for known, _ in _defined_names(form)):
        return lines
    return [line if line.startswith("#") else f"# {line}" for line in lines]


def _open_directory(root: Path, stage: str) -> InventoryDirectory:
    path = root / INVENTORIES / stage
    if not path.is_dir():  # common, which a project can do without
        path.mkdir(parents=True, exist_ok=True)
    return InventoryDirectory(path, display_path(path), DiagnosticCollector(), [])


def _directory_change(
    directory: InventoryDirectory, kind: str, name: str, body: Sequence[str]
) -> _FileChange:
    """Return the change that adds a role or an app to a folder of the inventory."""
    form = directory.find_form(kind)
    directory.problems.raise_any()
    for known, mark in _defined_names(form):
        if known == name:
            message = f"{kind[:-1]} '{name}' exists in {mark.path}"
            raise UsageError(Diagnostic(message, mark, "change it there, or choose another name"))
    return _entry_change(form or directory.path / kind, name, body, kind[:-1])


def _entry_change(form: Path, name: str, body: Sequence[str], kind: str) -> _FileChange:
    """Return the change that adds a host, role or app to a folder or to a file with all of them."""
    if form.suffix not in YAML_SUFFIXES:
        path = form / f"{name}.yml"
        _check_not_existing(path, kind, name)
        text = "".join(f"{line}\n" for line in body)
        return _FileChange(path, text.encode(), f"created {display_path(path)}")
    shown = display_path(form)
    data = _read_bytes(form)
    try:
        new = insert_key(decode_utf8(data, shown), shown, name, body)
    except InsertionError as error:
        settings = ", ".join(line for line in body if not line.lstrip().startswith("#"))
        entry = f"{quote_text(name)}: " + (f"{{{settings}}}" if kind == "host" else "…")
        raise UsageError(
            Diagnostic(
                f"{shown} cannot be added to: {error}",
                SourcePosition(shown),
                f"add this entry yourself: {entry}",
            )
        ) from None
    return _FileChange(form, _encode_like(data, new), f"added {name} to {shown}", data)


def _check_not_existing(path: Path, kind: str, name: str) -> None:
    existing = find_existing(path)
    if existing is not None:
        shown = display_path(existing)
        message = f"cannot create {kind} '{name}': {shown} exists"
        raise UsageError(
            Diagnostic(message, SourcePosition(shown), "change it, or choose another name")
        )


def _read_bytes(path: Path) -> bytes:
    """Return the bytes of a file. Raises DefinitionError."""
    shown = display_path(path)
    try:
        return read_file(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DefinitionError(
            Diagnostic(f"cannot read {shown}: {reason}", SourcePosition(shown))
        ) from None


def _encode_like(old: bytes, text: str) -> bytes:
    return (_BOM if old.startswith(_BOM) else b"") + text.encode()


def _apply(root: Path, changes: Sequence[_FileChange]) -> None:
    """Make all changes in order, or none; a new file gets the name of its schema in front.

    Raises UsageError.
    """
    done: list[_FileChange] = []
    try:
        for change in changes:
            if change.old is not None:
                replace_file(change.path, change.new)
            elif not create_file(
                change.path, add_schema_comment(root, change.path, change.new.decode()).encode()
            ):
                shown = display_path(change.path)
                raise UsageError(Diagnostic(f"{shown} exists", SourcePosition(shown)))
            done.append(change)
    except UsageError:
        _undo(done)
        raise


def _undo(changes: Sequence[_FileChange]) -> None:
    for change in reversed(changes):
        if change.old is None:
            change.path.unlink(missing_ok=True)
        else:
            replace_file(change.path, change.old)


def _check_own_hosts(root: Path, stage: str, loaded: Stage | None) -> None:
    """Raise UsageError if the stage's hosts and roles are those of an inventory of Ansible."""
    if loaded is not None and loaded.is_ansible:
        shown = display_path(root / INVENTORIES / stage)
        message = f"the hosts and roles of stage '{stage}' are those of an inventory of Ansible"
        raise UsageError(Diagnostic(message, SourcePosition(shown), "add it to the inventory"))


def _try_load(root: Path, stage: str) -> Stage | None:
    """Return the stage, or None if it has errors: a new file may be what it lacks."""
    try:
        return load_stage(root, stage, inventory_access(root, os.environ))
    except OrchError:
        return None


def _check_stages(
    root: Path, changes: Sequence[_FileChange], stages: dict[str, Stage | None], what: str
) -> None:
    """Undo the changes and raise DefinitionError if a stage that was valid has an error now."""
    for stage, loaded in stages.items():
        if loaded is None:
            continue
        try:
            load_stage(root, stage, inventory_access(root, os.environ))
        except DefinitionError as error:
            _undo(changes)
            message = f"{what} was not added: stage '{stage}' would have an error"
            raise DefinitionError(Diagnostic(message), *error.diagnostics) from None
