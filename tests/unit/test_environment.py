"""The environment that the tests run in is the one that is pinned, and users may have it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def pinned_packages() -> dict[str, tuple[str, str, int]]:
    """Return the version, the marker and the number of hashes of each pinned package."""
    text = (ROOT / ".ci/requirements.txt").read_text()
    rows = re.findall(
        r"^([\w.-]+)==(\S+)(?: ; (.+?))?((?: \\\n +--hash=\S+)*)$", text, re.MULTILINE
    )
    assert len(rows) == len(re.findall(r"^\w", text, re.MULTILINE))
    return {name: (pinned, marker, hashes.count("--hash")) for name, pinned, marker, hashes in rows}


def test_every_pinned_package_has_hashes() -> None:
    assert [name for name, (_, _, hashes) in pinned_packages().items() if not hashes] == []


def test_what_is_pinned_is_what_pyproject_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    expected = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
        *project["project"]["optional-dependencies"]["docs"],
    ]
    found = pinned_packages()
    others = [
        each.name
        for each in map(Requirement, expected)
        if each.name != "orch"  # an extra that names another one
        and found.get(each.name.lower(), ("", "", 0))[0] not in each.specifier
    ]
    assert others == [], "`.ci/renew` pins them anew"


def test_what_is_installed_is_what_is_pinned() -> None:
    others = {
        name: version(name)
        for name, (pinned, marker, _) in pinned_packages().items()
        if (not marker or Marker(marker).evaluate()) and version(name) != pinned
    }
    assert others == {}, "`.ci/venv dev` installs what is pinned"


def test_an_installed_orch_has_all_files_of_the_package() -> None:
    """A test runs what is in the checkout, where nothing is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = ROOT / "orchestrator"
    patterns = project["tool"]["setuptools"]["package-data"]["orchestrator"]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    data = {path for path in package.rglob("*") if path.suffix not in (".py", ".pyc", ".md")}
    missing = {path for path in data - packed if path.is_file()}
    assert not missing
    assert all(set(package.glob(pattern)) for pattern in patterns)
    folders = {path.parent for path in package.rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders - {package / "starter"})
