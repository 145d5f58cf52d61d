"""The tool's own objects, as templates see them.

The fields of the objects that templates see: which there are, before a host is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import DefinitionError, Diagnostic, suggest_nearest
from orchestrator.model import ansible
from orchestrator.model.host import FACT_NAMES, NUMERIC_FACT_NAMES, App, Host
from orchestrator.model.marked_value import NamedObject
from orchestrator.templating.scope import FieldUse


class RunView(NamedObject, frozen=True):
    """``run``, which prints as its id; ``release`` is the UTC start as 14 digits, one for all
    hosts, ``message`` what ``-m`` says of it, or ''."""

    id: str
    started: str
    user: str
    release: str
    message: str = ""

    def __str__(self) -> str:
        return self.id


def run_view(run: str, user: str, started: float, message: str = "") -> RunView:
    """The run that began ``started`` seconds after the epoch."""
    at = datetime.fromtimestamp(started, UTC)
    began, release = at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%Y%m%d%H%M%S")
    return RunView(run, began, user, release, message)


class NamedView(NamedObject, frozen=True):
    """``stage`` or ``task``, which print as their names."""

    name: str
    desc: str = ""

    def __str__(self) -> str:
        return self.name


class LazyMapping(Mapping[str, Any]):
    """Values by name, each made when it is asked for."""

    __slots__ = ("_make", "_names")

    def __init__(self, names: Mapping[str, object], make: Callable[[str], Any]) -> None:
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __str__(self) -> str:
        raise TypeError("a mapping has no text: name the part of it that is meant")


class HostView(NamedObject, frozen=True):
    """``host``, and each of ``hosts``, which print as their names; what is none of its own words
    is one of ``vars``."""

    name: str
    address: str
    roles: tuple[str, ...]
    vars: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python asks of any object
            raise AttributeError(name)
        try:
            return self.vars[name]
        except KeyError:
            raise AttributeError(name) from None


def host_view(host: Host, variables: Mapping[str, Any]) -> HostView:
    """A host with its variables."""
    return HostView(host.name, host.connect.address, host.roles, variables)


class AppView(NamedObject, frozen=True):
    """``app``, which prints as its name. ``hosts`` are the names of those that it lives on,
    whatever is selected; ``lock`` is the path of its lock."""

    name: str
    desc: str
    roles: tuple[str, ...]
    hosts: tuple[str, ...]
    vars: Mapping[str, Any]
    _lock: Callable[[], str]

    def __str__(self) -> str:
        return self.name

    @property
    def lock(self) -> str:
        """The path of its lock on the host at hand. Raises DefinitionError."""
        return self._lock()


def app_view(
    app: App, hosts: tuple[str, ...], variables: Mapping[str, Any], lock: Callable[[], str]
) -> AppView:
    """An app with its variables and the path of its lock, as they are on the host at hand."""
    return AppView(
        app.name, app.desc, roles=app.roles or (), hosts=hosts, vars=variables, _lock=lock
    )


RESULT_FIELDS = (
    *("status", "stdout", "stderr", "exit_status", "changed", "failed", "skipped", "succeeded"),
    *("item", "items"),
)
_FIELDS_BY_NAME: dict[str, tuple[str, ...]] = {
    "facts": (*FACT_NAMES, *NUMERIC_FACT_NAMES),
    "result": RESULT_FIELDS,
    "run": RunView.__struct_fields__,
    "stage": NamedView.__struct_fields__,
    "task": NamedView.__struct_fields__,
    "app": (*(name for name in AppView.__struct_fields__ if name[0] != "_"), "lock"),
}


def check_fields(uses: Iterable[FieldUse], results: Container[str] = ()) -> None:
    """Raise DefinitionError for each field that its object does not have. ``results`` are the
    names that steps register."""
    diagnostics = []
    for use in uses:
        known = _FIELDS_BY_NAME.get(use.name) or (RESULT_FIELDS if use.name in results else None)
        if known is None or use.field in known:
            continue
        hints = (
            ansible.RESULT_FIELD_HINTS
            if known is RESULT_FIELDS
            else ansible.FACT_HINTS
            if use.name == "facts"
            else {}
        )
        hint = hints.get(use.field, "").replace("NAME", use.name)
        hint = hint or suggest_nearest(use.field, known) or f"there is: {', '.join(known)}"
        diagnostics.append(Diagnostic(f"'{use.name}.{use.field}' is undefined", use.mark, hint))
    if diagnostics:
        raise DefinitionError(*diagnostics)
