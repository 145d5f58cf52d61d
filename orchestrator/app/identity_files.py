"""Identity files that the inventory names and this machine does not have."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from orchestrator.errors import Mark, Problem, Problems
from orchestrator.model.fold import fold
from orchestrator.model.host import Host
from orchestrator.source.files import expand_home, is_there

_HINT = "is the path right? it is a file of this machine"


def check_identity_files(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Look for the identity files of these hosts, before any of them is connected to.

    One of a host's files is enough. Return a warning for each setting of which no file exists,
    where an agent may still hold the key. Raises DefinitionError where `identities_only` rules
    that out.
    """
    usable = cache(lambda names: any(map(_usable, names)))  # hosts share them
    missing: dict[tuple[str, ...], list[Host]] = {}
    for host in hosts:
        names = host.connect.identity
        if host.connect.transport in ("ssh", "openssh") and names and not usable(names):
            missing.setdefault((str(_mark(host)), *names), []).append(host)
    problems = Problems()
    warnings: list[str] = []
    for (_, *files), those in missing.items():
        mark = _mark(those[0])
        of = fold(host.name for host in those)
        what = f"{' and '.join(files)} {'does' if len(files) == 1 else 'do'} not exist: {of}"
        if all(host.connect.identities_only for host in those):
            problems.found.append(Problem(what, mark, _HINT))
        else:
            warnings.append(f"{what} ({mark})")
    problems.raise_any()
    return tuple(warnings)


def _usable(name: str) -> bool:
    """Return False for a file that does not exist, nor its public part, whose key an agent may
    hold. A name with tokens (ssh_config(5), TOKENS) is left to ssh."""
    if "%" in name or "$" in name or name.lower() == "none":
        return True
    path = expand_home(name)
    return is_there(path) or is_there(Path(f"{path}.pub"))


def _mark(host: Host) -> Mark:
    """Return where the strongest layer sets the identity."""
    written = [layer.connect["identity"] for layer in host.layers if "identity" in layer.connect]
    return written[-1].mark if written else host.mark
