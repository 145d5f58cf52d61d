"""Ansible's connection variables as connect settings.

The variables are those of the plugins `ssh` and `local` and of become (Ansible's documentation,
"Connecting to hosts: behavioral inventory parameters"). A value that is a template or a secret is
kept as written until it is needed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.errors import Diagnostic
from orchestrator.inventory.connection_options import jumps_before
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.hostnames import (
    InvalidHostNameError,
    check_port,
    check_user,
    parse_host_spec,
)
from orchestrator.inventory.inventory_keys import BECOME_METHODS
from orchestrator.model.host import TRANSPORTS, ConnectionOptions
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.model.secret import Secret

SETTING_OF_VARIABLE: Mapping[str, str] = {
    "ansible_host": "address",
    "ansible_ssh_host": "address",
    "ansible_port": "port",
    "ansible_ssh_port": "port",
    "ansible_user": "user",
    "ansible_ssh_user": "user",
    "ansible_private_key_file": "identity",
    "ansible_ssh_private_key_file": "identity",
    "ansible_connection": "transport",
    "ansible_ssh_args": "ssh_args",
    "ansible_ssh_common_args": "ssh_common_args",
    "ansible_ssh_extra_args": "ssh_extra_args",
    "ansible_timeout": "timeout",
    "ansible_ssh_timeout": "timeout",
    "ansible_shell_executable": "shell",
    "ansible_become": "become",
    "ansible_become_user": "become_user",
    "ansible_become_method": "become_method",
    "ansible_become_password": "become_password",
    "ansible_become_pass": "become_password",
    "ansible_sudo_pass": "become_password",
    "ansible_password": "password",
    "ansible_ssh_password": "password",
    "ansible_ssh_pass": "password",
}
"""The setting that each variable gives; of two names for one setting, the later counts."""

PASSWORD_SETTINGS = ("password", "become_password")
ARGUMENT_SETTINGS = ("ssh_args", "ssh_common_args", "ssh_extra_args")

_IGNORED_NAMES = frozenset(
    (
        *("ansible_python_interpreter", "ansible_group_priority", "ansible_ssh_pipelining"),
        *("ansible_pipelining", "ansible_ssh_executable", "ansible_scp_extra_args"),
        *("ansible_sftp_extra_args", "ansible_ssh_transfer_method", "ansible_remote_tmp"),
        *("ansible_shell_type", "ansible_control_path", "ansible_ssh_use_tty"),
        *("ansible_facts", "ansible_local_tmp", "ansible_scp_executable"),
        *("ansible_sftp_executable", "ansible_scp_if_ssh", "ansible_ssh_control_path"),
        *("ansible_ssh_control_path_dir", "ansible_control_path_dir", "ansible_async_dir"),
    )
)
_UNDERSTOOD_PREFIXES = ("ansible_facts", "ansible_python")
_TRANSPORTS = {
    **dict.fromkeys(("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh"), "ssh"),
    **dict.fromkeys(("local", "ansible.builtin.local"), "local"),
    **{name: name for name in TRANSPORTS},
}
_TRUE_WORDS = frozenset(("y", "yes", "on", "1", "true", "t"))
_FALSE_WORDS = frozenset(("n", "no", "off", "0", "false", "f"))
_BARE_SSH_OPTIONS = {
    "-4": "AddressFamily=inet",
    "-6": "AddressFamily=inet6",
    "-A": "ForwardAgent=yes",
}
_VALUE_SSH_OPTIONS = {
    "-J": "ProxyJump={}",
    "-i": "IdentityFile={}",
    "-p": "Port={}",
    "-l": "User={}",
    "-c": "Ciphers={}",
    "-m": "MACs={}",
    "-b": "BindAddress={}",
}
_HARMLESS_SSH_OPTIONS = frozenset("-C -q -T -x -v -vv -vvv -vvvv -a -k -K -t -tt -n".split())
_MULTIPLEXING = ("controlmaster", "controlpersist", "controlpath")


class InvalidSettingError(ValueError):
    """A connection variable has an invalid value; the message is the reason."""


class SshArguments(Struct, frozen=True):
    """Arguments of ssh: options as ``Keyword=value``, another ssh_config, and what is ignored."""

    options: tuple[str, ...] = ()
    config_file: str | None = None
    ignored: tuple[str, ...] = ()


def is_template(value: MarkedValue) -> bool:
    """Return True if the value must be rendered, or is a secret."""
    if isinstance(value.data, Secret):
        return True
    return isinstance(value.data, str) and not value.literal and _has_markup(value.data)


def _has_markup(text: str) -> bool:
    return "{{" in text or "{%" in text


def connect_settings(variables: Values) -> dict[str, MarkedValue]:
    """Return the connect settings among variables, as written."""
    found: dict[str, MarkedValue] = {}
    for name, setting in SETTING_OF_VARIABLE.items():
        value = variables.get(name)
        if value is not None and value.data is not None:
            found[setting] = value
    return found


def connection_notes(variables: Mapping[MarkedKey, MarkedValue]) -> Iterator[InventoryWarning]:
    """Yield a note for each connection variable that is not understood."""
    for name, value in variables.items():
        if not name.startswith("ansible_") or name in _IGNORED_NAMES:
            continue
        setting = SETTING_OF_VARIABLE.get(name)
        if setting is None and not name.startswith(_UNDERSTOOD_PREFIXES):
            yield f"'{name}' has no meaning for orch", name.mark
        elif setting is not None and not is_template(value) and value.data is not None:
            yield from _value_notes(name, setting, value)


def _value_notes(name: MarkedKey, setting: str, value: MarkedValue) -> Iterator[InventoryWarning]:
    if value.data == "":
        return
    try:
        _CONVERTERS[setting](value)
    except InvalidSettingError as invalid:
        yield f"'{name}' cannot be used: {invalid}", value.mark
        return
    if setting in ARGUMENT_SETTINGS:
        for option in parse_ssh_arguments(str(value.data)).ignored:
            yield f"the option '{option}' in '{name}' has no meaning for orch", value.mark


def connection_options(name: str, settings: Values, root: Path) -> ConnectionOptions:
    """Return the connection options of a host.

    ``settings`` are those of Ansible's variables and checked ones of ``connect``. Templates,
    secrets and passwords are left out. Relative paths start at ``root``. ``invalid`` of the result
    is the first setting that cannot be used.
    """
    fields: dict[str, Any] = {"address": name}
    arguments: list[SshArguments] = []
    for setting, value in settings.items():
        if setting in PASSWORD_SETTINGS or is_template(value) or value.data == "":
            continue
        convert = _CONVERTERS.get(setting)
        if convert is None:
            data = value.data
            fields[setting] = (
                tuple(str(each.data) for each in data) if isinstance(data, list) else data
            )
            continue
        try:
            fields[setting] = convert(value)
        except InvalidSettingError as bad:
            what = f"{setting} of host '{name}' cannot be used: {bad}"
            fields.setdefault("invalid", Diagnostic(what, value.mark))
    if "identity" in fields:
        fields["identity"] = tuple(_rooted(path, root) for path in fields["identity"])
    for setting in ARGUMENT_SETTINGS:  # of two equal options of ssh, the first counts
        if (found := fields.pop(setting, None)) is not None:
            arguments.append(found)
    options = tuple(option for each in arguments for option in each.options)
    files = [each.config_file for each in arguments if each.config_file]
    if files:
        fields.setdefault("ssh_config", files[-1])
    set_fields = frozenset(settings.keys() & fields.keys())
    if (jump := fields.get("jump")) is not None:
        fields["jump"] = jumps_before(name, jump)
    return ConnectionOptions(**{**fields, "ssh_options": options, "set_fields": set_fields})


def _rooted(path: str, root: Path) -> str:
    return path if path.startswith(("~", "%", "/")) else str(root / path)


def parse_ssh_arguments(text: str) -> SshArguments:
    """Return the options in arguments of ssh. Raises ``InvalidSettingError``."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidSettingError(f"it cannot be split into words: {error}") from None
    options: list[str] = []
    ignored: list[str] = []
    config_file = None
    rest = iter(words)
    for word in rest:
        flag, attached = word[:2], word[2:]
        if word in _BARE_SSH_OPTIONS:
            options.append(_BARE_SSH_OPTIONS[word])
        elif word in _HARMLESS_SSH_OPTIONS:
            continue
        elif flag in ("-o", "-F") or flag in _VALUE_SSH_OPTIONS:
            given = attached or next(rest, None)
            if given is None:
                raise InvalidSettingError(f"the option {flag} needs a value")
            if flag == "-F":
                config_file = given
            elif flag != "-o":
                options.append(_VALUE_SSH_OPTIONS[flag].format(given))
            elif not given.lower().lstrip().startswith(_MULTIPLEXING):
                options.append(given.strip())
        else:
            ignored.append(word)
    return SshArguments(tuple(options), config_file, tuple(ignored))


def _text(value: MarkedValue) -> str:
    if isinstance(value.data, bool) or not isinstance(value.data, (str, int, float)):
        raise InvalidSettingError("it must be text")
    text = str(value.data)
    if not text.strip():
        raise InvalidSettingError("it is empty")
    return text


def _address(value: MarkedValue) -> str:
    text = _text(value).strip()
    try:
        spec = parse_host_spec(text)
    except InvalidHostNameError as bad:
        raise InvalidSettingError(f"'{text}': {bad.why}") from None
    if spec.user is not None or spec.port is not None or len(spec.names) > 1:
        raise InvalidSettingError(f"'{text}' is not one name or IP address and nothing else")
    return spec.names[0]


def _port(value: MarkedValue) -> int:
    try:
        return check_port(_text(value))
    except InvalidHostNameError as bad:
        raise InvalidSettingError(bad.why) from None


def _user(value: MarkedValue) -> str:
    try:
        return check_user(_text(value))
    except InvalidHostNameError as bad:
        raise InvalidSettingError(bad.why) from None


def _identity(value: MarkedValue) -> tuple[str, ...]:
    if isinstance(value.data, list):  # of `connect` in stage.yml
        return tuple(str(item.data) for item in value.data)
    return (_text(value),)


def _transport(value: MarkedValue) -> str:
    text = _text(value)
    if text not in _TRANSPORTS:
        raise InvalidSettingError(f"orch cannot connect by '{text}', only by ssh and local")
    return _TRANSPORTS[text]


def _seconds(value: MarkedValue) -> float:
    try:
        seconds = float(_text(value))
    except ValueError:
        raise InvalidSettingError("it must be a number of seconds") from None
    if not 0 < seconds <= 86400:
        raise InvalidSettingError("it must be more than 0, and at most a day")
    return seconds


def _flag(value: MarkedValue) -> bool:
    word = str(value.data).lower()
    if word not in _TRUE_WORDS | _FALSE_WORDS:
        raise InvalidSettingError(f"'{value.data}' is neither true nor false")
    return word in _TRUE_WORDS


def _method(value: MarkedValue) -> str:
    text = _text(value).removeprefix("ansible.builtin.").removeprefix("community.general.")
    if text not in BECOME_METHODS:
        raise InvalidSettingError(f"'{text}' is none of {', '.join(BECOME_METHODS)}")
    return text


_CONVERTERS: Mapping[str, Callable[[MarkedValue], object]] = {
    "address": _address,
    "port": _port,
    "user": _user,
    "identity": _identity,
    "transport": _transport,
    "timeout": _seconds,
    "shell": _text,
    "become": _flag,
    "become_user": _user,
    "become_method": _method,
    "password": _text,
    "become_password": _text,
    **{name: lambda value: parse_ssh_arguments(_text(value)) for name in ARGUMENT_SETTINGS},
}
