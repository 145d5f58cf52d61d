"""``npm``: with a registry of our own, which has small packages."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.web_server import WebAnswer, serve_web


def make_package(name: str, version: str, dependencies: dict[str, str]) -> bytes:
    text = json.dumps({"name": name, "version": version, "dependencies": dependencies}).encode()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return data.getvalue()


@pytest.fixture
def registry() -> Iterator[str]:
    with serve_web() as web:
        for name, versions in {"orch-a": ["1.0.0", "1.2.0", "2.0.0"], "orch-b": ["1.0.0"]}.items():
            found = {}
            for version in versions:
                needs = {"orch-a": "^1.0.0"} if name == "orch-b" else {}
                data = make_package(name, version, needs)
                page = f"/{name}/-/{name}-{version}.tgz"
                web.pages[page] = WebAnswer(data)
                digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
                dist = {"tarball": web.url(page), "integrity": f"sha512-{digest}"}
                found[version] = {
                    "name": name,
                    "version": version,
                    "dependencies": needs,
                    "dist": dist,
                }
            told = {"name": name, "dist-tags": {"latest": versions[-1]}, "versions": found}
            web.pages[f"/{name}"] = WebAnswer(json.dumps(told).encode())
        yield web.url("/")


def npm_step(registry: str, *names: str, **params: Any) -> dict[str, Any]:
    name = {"name": list(names)} if names else {}
    return {"npm": {"registry": registry, **name, **params}}


@pytest.fixture
def folder(machine: ShellMachine) -> Path:
    machine.environment["npm_config_cache"] = str(machine.home / "cache")
    path = machine.root / "a project"
    path.mkdir()
    (path / "package.json").write_text('{"name": "it", "version": "1.0.0"}')
    return path


def installed(folder: Path, name: str) -> str:
    return str(json.loads((folder / "node_modules" / name / "package.json").read_text())["version"])


def test_packages_of_a_project(machine: ShellMachine, registry: str, folder: Path) -> None:
    step = npm_step(registry, "orch-a@^1.0.0", path=str(folder))
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {"missing": ("orch-a@^1.0.0", "none")}
    assert installed(folder, "orch-a") == "1.2.0"
    latest = npm_step(registry, "orch-a", path=str(folder), state="latest")
    outcome = machine.check_then_run(latest, "changed")
    assert outcome_changes(outcome) == {"outdated": ("orch-a 1.2.0 (there is 2.0.0)", "none")}
    gone = npm_step(registry, "orch-a", "orch-none", path=str(folder), state="absent")
    outcome = machine.check_then_run(gone, "changed")
    assert outcome_changes(outcome) == {"installed": ("orch-a 2.0.0", "none")}


@pytest.mark.long
def test_all_packages_of_a_project(machine: ShellMachine, registry: str, folder: Path) -> None:
    own = {"dependencies": {"orch-b": "1.x"}, "devDependencies": {"orch-a": "1.0.0"}}
    (folder / "package.json").write_text(json.dumps({"name": "it", "version": "1.0.0", **own}))
    step = npm_step(registry, path=str(folder))
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome)["missing"][0] == "orch-b@1.x, orch-a@1.0.0"
    package = folder / "node_modules" / "orch-a" / "package.json"
    package.write_text(package.read_text().replace("1.0.0", "1.0.1"))
    outcome = machine.check_then_run(npm_step(registry, path=str(folder), ci=True), "changed")
    assert "orch-a@1.0.0 (there is 1.0.1)" in str(outcome.changes[0].before)
    machine.check_then_run(npm_step(registry, path=str(folder), production=True), "ok")


@pytest.mark.long
def test_packages_of_the_host(machine: ShellMachine, registry: str, folder: Path) -> None:
    prefix = machine.root / "prefix"
    (prefix / "lib").mkdir(parents=True)
    machine.environment["npm_config_prefix"] = str(prefix)
    machine.check_then_run(npm_step(registry, "orch-b", **{"global": True}), "changed")
    assert installed(prefix / "lib", "orch-b") == "1.0.0"
    outcome = machine.check_then_run(npm_step(registry, "orch-none", **{"global": True}), "failed")
    assert "404" in outcome.stderr.text, result_message(outcome)
    machine.check_then_run(
        npm_step(registry, "orch-b", state="absent", **{"global": True}), "changed"
    )


def test_what_cannot_be_is_refused(machine: ShellMachine, folder: Path) -> None:
    for params, message in (
        ({"name": "a"}, "give `path` or `global: true`"),
        ({"name": "a", "path": "/x", "global": True}, "give `path` or `global: true`"),
        ({"global": True}, "give `name`, or `path` alone"),
        ({"name": "a", "path": "/x", "ci": True}, "`ci` installs all"),
        ({"name": "-g", "path": "/x"}, "a name begins with -"),
        ({"name": "a\nb", "path": "/x"}, "contains a newline"),
        ({"name": "$(id)", "path": "/x"}, "can be compared: $(id)"),
        ({"name": "git+ssh://x/y", "path": "/x"}, "can be compared"),
        ({"name": "a", "path": "/none"}, "there is no folder /none"),
        ({"path": str(folder), "ci": True}, "there is no package-lock.json"),
        ({"path": str(machine.root)}, "there is no package.json"),
    ):
        outcome = machine.check_then_run({"npm": params}, "failed")
        assert message in outcome.stderr.text, result_message(outcome)
