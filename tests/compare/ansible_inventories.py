"""Compare how orch and ``ansible-inventory`` read inventories.

    python -m tests.compare.ansible_inventories --ansible PATH/ansible-inventory INVENTORY...

For each inventory (a file or folder), the hosts, the groups with their hosts, and the effective
variables of every host are compared: as written, before templating, with a secret shown as its
name. A line is printed for each inventory, and one for each difference; the exit status is 1 if
there are differences. Ansible's own output is the expectation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.inventory.precedence import VariableMerger
from orchestrator.inventory.programs import InventoryAccess
from orchestrator.inventory.stage_loader import load_inventories
from orchestrator.model.host import Stage
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import Secret

_HIDDEN_BY_ANSIBLE = frozenset(
    (
        *("ansible_facts", "ansible_local", "inventory_hostname", "inventory_hostname_short"),
        *("inventory_file", "inventory_dir", "groups", "group_names", "omit", "playbook_dir"),
    )
)
"""Variables that ``ansible-inventory`` does not print, also if an inventory sets them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the inventories of the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ansible", default="ansible-inventory", help="the program")
    parser.add_argument("--times", action="store_true", help="show the seconds of both")
    parser.add_argument("inventories", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    counts = {"equal": 0, "refused by both": 0, "different": 0}
    for path in options.inventories:
        began = time.process_time()
        ours = read_with_orch(path)
        seconds = time.process_time() - began
        theirs = read_with_ansible(path, options.ansible)
        found = list(differences(ours, theirs))
        kind = "refused by both" if isinstance(ours, str) and isinstance(theirs, str) else "equal"
        kind = "different" if found else kind
        counts[kind] += 1
        shown = f" ({seconds:.3f} s)" if options.times else ""
        print(f"{kind}: {path}{shown}", flush=True)
        for line in found[:10]:
            print(f"    {line[:300]}")
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    return 1 if counts["different"] else 0


def read_with_orch(path: Path) -> dict[str, object] | str:
    """Return groups and host variables as orch reads them, or the error."""
    access = InventoryAccess(dict(os.environ))
    try:
        stage = load_inventories(path.absolute().parent, (str(path),), "compared", None, access)
    except OrchError as error:
        return "; ".join(f"{each.mark}: {each.message}" for each in error.diagnostics[:3])
    return {"groups": _groups(stage), "hosts": _variables(stage)}


def _groups(stage: Stage) -> dict[str, list[str]]:
    return {name: sorted(role.hosts) for name, role in stage.roles.items() if role.hosts}


def _variables(stage: Stage) -> dict[str, dict[str, object]]:
    merger = VariableMerger()
    return {
        name: {
            str(key): _plain(value)
            for key, value in merger.values_of(host).items()
            if key not in _HIDDEN_BY_ANSIBLE
        }
        for name, host in stage.hosts.items()
    }


def _plain(value: MarkedValue) -> object:
    if isinstance(value.data, Secret):
        return "‹secret›"
    if isinstance(value.data, dict):
        return {str(key): _plain(item) for key, item in value.data.items()}
    if isinstance(value.data, list):
        return [_plain(item) for item in value.data]
    return value.data


def read_with_ansible(path: Path, program: str) -> dict[str, object] | str:
    """Return groups and host variables as ``ansible-inventory`` prints them, or its error."""
    environ = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
    done = subprocess.run(
        [program, "-i", str(path.absolute()), "--list"],
        capture_output=True,
        text=True,
        env=environ,
        cwd=path.absolute().parent,
        check=False,
    )
    problems = [line for line in done.stderr.splitlines() if "Unable to parse" in line]
    if done.returncode or problems:
        return (problems or done.stderr.strip().splitlines() or ["failed"])[0]
    data = json.loads(done.stdout)
    variables: dict[str, dict[str, object]] = data.pop("_meta")["hostvars"]
    groups = {name: sorted(_hosts_of(data, name)) for name in data if name != "all"}
    groups = {name: hosts for name, hosts in groups.items() if hosts}
    hosts = sorted({*variables, *_hosts_of(data, "all")})
    return {
        "groups": groups,
        "hosts": {
            host: {
                name: _comparable(value)
                for name, value in variables.get(host, {}).items()
                if name not in _HIDDEN_BY_ANSIBLE
            }
            for host in hosts
        },
    }


def _hosts_of(data: dict[str, dict[str, list[str]]], name: str) -> set[str]:
    group = data.get(name, {})
    found = set(group.get("hosts", ()))
    for child in group.get("children", ()):
        found |= _hosts_of(data, child)
    return found


def _comparable(value: object) -> object:
    if isinstance(value, dict):
        if value.keys() == {"__ansible_vault"}:
            return "‹secret›"
        if value.keys() == {"__ansible_unsafe"}:
            return value["__ansible_unsafe"]
        return {name: _comparable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value


def differences(ours: dict[str, object] | str, theirs: dict[str, object] | str) -> Iterator[str]:
    """Yield each difference in words."""
    if isinstance(ours, str) or isinstance(theirs, str):
        if not (isinstance(ours, str) and isinstance(theirs, str)):
            yield f"orch: {ours if isinstance(ours, str) else 'reads it'}"
            yield f"ansible: {theirs if isinstance(theirs, str) else 'reads it'}"
        return
    for kind in ("groups", "hosts"):
        yield from _compare(kind, ours[kind], theirs[kind])


def _compare(path: str, one: object, other: object) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            if name not in one or name not in other:
                yield f"{path}.{name}: only {'orch' if name in one else 'ansible'} has it"
            else:
                yield from _compare(f"{path}.{name}", one[name], other[name])
    elif type(one) is not type(other) or one != other:
        yield f"{path}: orch {one!r}, ansible {other!r}"


if __name__ == "__main__":
    sys.exit(main())
