"""The variables of encrypted files, which are decrypted when a template names one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.model.host import VariableLayer
from orchestrator.model.marked_value import MarkedValue, Values
from orchestrator.model.secret import Secret, SecretResolver


def open_encrypted_layer(layer: VariableLayer, *, secrets: SecretResolver) -> Values:
    """Return the variables of a layer's encrypted file; all of them are masked.

    They are empty if ``secrets`` queries no source. Raises DefinitionError and UsageError.
    """
    if layer.encrypted is None:
        return layer.vars
    from orchestrator.inventory.ansible.vars_files import parse_vars  # only if a file is encrypted

    text = secrets.decrypt_text(layer.encrypted)
    if text is None:
        return {}
    values = parse_vars(text, layer.encrypted.mark.path)
    _check_connection_variables(values, layer.encrypted)
    found = {name: _as_masked(value, str(name), layer) for name, value in values.items()}
    for name, value in found.items():
        secrets.hide_texts(str(name), _plain(value))
    return cast(Values, found)


def _check_connection_variables(values: Iterable[str], file: Secret) -> None:
    """Raise DefinitionError for variables that would be unknown where the file is not decrypted."""
    from orchestrator.inventory.ansible.connection_variables import (
        PASSWORD_SETTINGS,
        SETTING_OF_VARIABLE,
    )

    for name in values:
        setting = SETTING_OF_VARIABLE.get(name)
        if setting is not None and setting not in PASSWORD_SETTINGS:
            what = f"'{name}' is in an encrypted file, which is not decrypted to connect to a host"
            hint = (
                f"write {name}: '{{{{ vault_{name} }}}}' into another file, and vault_{name} here"
            )
            raise DefinitionError(Diagnostic(what, file.mark, hint))


def _as_masked(value: MarkedValue, name: str, layer: VariableLayer) -> MarkedValue:
    """Return the value with its name for masking; its position is the file, which is encrypted."""
    data = value.data
    if isinstance(data, dict):
        data = {key: _as_masked(item, name, layer) for key, item in data.items()}
    elif isinstance(data, list):
        data = [_as_masked(item, name, layer) for item in data]
    mark = layer.encrypted.mark if layer.encrypted else value.mark
    return replace(value, data=data, mark=mark, masked=name)


def _plain(value: MarkedValue) -> object:
    """Return the data of a value without positions."""
    if isinstance(value.data, dict):
        return {str(key): _plain(item) for key, item in value.data.items()}
    if isinstance(value.data, list):
        return [_plain(item) for item in value.data]
    return value.data if isinstance(value.data, (str, int, float, bool)) else None
