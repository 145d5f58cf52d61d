"""The apps of a stage: what the stage says of each over what ``common`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import Problems, nearest
from orchestrator.inventory.register import Register
from orchestrator.inventory.written import AppEntry, Level, Part
from orchestrator.model.host import App, Layer


def apps(
    parts: Sequence[Part], register: Register, roles: Mapping[str, object], problems: Problems
) -> dict[str, App]:
    """Every app, by its name. An app that only ``common`` describes lives in each stage that has
    one of its roles."""
    entries: dict[str, list[AppEntry]] = {}
    for part in reversed(parts):  # weak to strong
        for entry in part.apps:
            entries.setdefault(entry.name, []).append(entry)
    found = {name: _app(name, said, register) for name, said in sorted(entries.items())}
    for name, said in entries.items():
        _check(name, said, register, roles, problems)
    own = {name for name, said in entries.items() if said[-1].level is Level.STAGE}
    return {
        name: app
        for name, app in found.items()
        if name in own or app.roles is None or any(role in roles for role in app.roles)
    }


def _app(name: str, said: Sequence[AppEntry], register: Register) -> App:
    on: dict[str, tuple[Layer, ...]] = {}
    for entry in said:
        for ref, layer in entry.hosts:
            host = register.names.get(register.find(ref))
            if host is not None:
                on[host] = (*on.get(host, ()), layer)
    roles = [entry.roles for entry in said if entry.roles is not None]
    claims = [entry.claims for entry in said if entry.claims is not None]
    return App(
        name=name,
        mark=said[-1].mark,
        desc=next((entry.desc for entry in reversed(said) if entry.desc), ""),
        roles=tuple(map(str, roles[-1])) if roles else None,
        layers=tuple(entry.layer for entry in said if entry.layer is not None),
        on=on,
        claims=claims[-1] if claims else {},
    )


def _check(
    name: str,
    said: Sequence[AppEntry],
    register: Register,
    roles: Mapping[str, object],
    problems: Problems,
) -> None:
    """What a stage's own file names must be there; common's is for other stages, too."""
    for entry in said:
        if entry.level is not Level.STAGE:
            continue
        for role in entry.roles or ():
            if role not in roles:
                hint = nearest(role, roles) or f"roles of this stage: {', '.join(roles) or 'none'}"
                problems.add(f"app '{name}': there is no role '{role}'", role.mark, hint)
        for ref, _ in entry.hosts:
            if register.find(ref) not in register.names:
                hint = nearest(ref.name, register.names.values())
                problems.add(f"app '{name}': there is no host '{ref.name}'", ref.mark, hint)
