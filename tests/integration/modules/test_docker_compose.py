"""``docker_compose`` with Compose 5, with docker-compose 1 and with podman-compose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.container_engines import IMAGE, REGISTRY, ContainerHost
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_refuses, outcome_changes
from tests.support.watched_commands import watch_commands

FILE = """\
version: "3.8"
services:
  web:
    image: box:1
    command: sleep 1000
    stop_signal: KILL
    depends_on: [db]
    environment: {A: "${A:-x}"}
    volumes: ["data:/data"]
  db:
    image: ${IMAGE:-box:1}
    command: sleep 1001
    stop_signal: KILL
  once:
    image: box:1
    command: "true"
volumes: {data: }
"""
KINDS = ["compose", "docker-compose", "podman-compose"]
EACH_KIND = pytest.mark.parametrize(
    "kind",
    [
        "compose",
        *(pytest.param(each, marks=pytest.mark.long) for each in KINDS[1:]),
    ],
    indirect=True,
)


@pytest.fixture
def kind(
    containers: ContainerHost, machine: ShellMachine, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Yield the kind of Compose that the machine has; what a test makes is removed."""
    name: str = getattr(request, "param", "compose")
    engine = "podman" if name == "podman-compose" else "docker"
    containers.join(machine, engine)
    if name == "docker-compose":
        machine.environment["DOCKER_CONFIG"] = str(machine.root.parent)
        command = Path(machine.environment["PATH"]) / "docker-compose"
        command.unlink(missing_ok=True)
        command.symlink_to("/usr/bin/docker-compose")
    yield name
    for each in containers.run(engine, "ps", "-aq").split():
        containers.run(engine, "rm", "-fv", each)
    containers.run(engine, "network", "prune", "-f")
    containers.run(engine, "volume", "prune", "-f")


@pytest.fixture
def folder(machine: ShellMachine) -> Path:
    path = machine.root / "it's a Shop"
    path.mkdir()
    (path / "compose.yaml").write_text(FILE)
    (path / "docker-compose.yml").write_text(FILE)
    return path


def project(folder: Path, **params: Any) -> dict[str, Any]:
    files = {} if "files" in params else {"files": ["compose.yaml"]}
    return {"docker_compose": {"path": str(folder), **files, **params}}


def running(containers: ContainerHost, kind: str) -> dict[str, str]:
    """Return the IDs of the running containers by service."""
    engine = "podman" if kind == "podman-compose" else "docker"
    key = "com.docker.compose.service"
    form = f'{{{{index .Config.Labels "{key}"}}}} {{{{.Id}}}}'
    ids = containers.run(engine, "ps", "-q").split()
    if not ids:
        return {}
    lines = containers.run(engine, "container", "inspect", "-f", form, *ids).split("\n")
    return dict(line.split() for line in lines)


@pytest.mark.long
@EACH_KIND
def test_a_project_is_started_changed_stopped_and_removed(
    machine: ShellMachine, containers: ContainerHost, kind: str, folder: Path
) -> None:
    outcome = machine.check_then_run(project(folder), "changed")
    words = outcome_changes(outcome)["services"][0]
    assert words and {"web is absent", "db is absent"} <= set(words.split(", "))
    first = running(containers, kind)
    assert first.keys() == {"web", "db"}
    changed = project(folder) | {"environment": {"A": "it's $new"}}
    outcome = machine.check_then_run(changed, "changed")
    words = outcome_changes(outcome)["services"][0]
    assert words and "web has another configuration" in words
    second = running(containers, kind)
    assert second["web"] != first["web"]
    assert (second["db"] == first["db"]) == (kind != "podman-compose")
    engine = "podman" if kind == "podman-compose" else "docker"
    assert "A=it's $new" in containers.run(engine, "exec", second["web"], "env")
    containers.run(engine, "rm", "-f", second["db"])
    if engine == "docker":
        outcome = machine.check_then_run(changed, "changed")
        assert outcome_changes(outcome)["services"] == ("db is absent", "as described")
    machine.check_then_run(project(folder, state="stopped"), "changed")
    assert running(containers, kind) == {}
    machine.check_then_run(project(folder, state="absent", volumes=True), "changed")
    assert containers.run(engine, "volume", "ls", "-q") == ""


@pytest.mark.long
def test_only_what_differs_is_made_again(
    machine: ShellMachine, containers: ContainerHost, kind: str, folder: Path
) -> None:
    env = machine.root / "it's.env"
    env.write_text("A=one\n")
    step = project(folder, env_files=[str(env)], project="shop", services=["db"])
    machine.check_then_run(step, "changed")
    assert running(containers, kind).keys() == {"db"}
    step = project(folder, env_files=[str(env)], project="shop")
    machine.check_then_run(step, "changed")
    env.write_text("A=two\n")
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {
        "services": ("web has another configuration", "as described")
    }
    (folder / "less.yaml").write_text(FILE.partition("  once:")[0] + "volumes: {data: }\n")
    step = project(folder, files=["less.yaml"], env_files=[str(env)], project="shop")
    machine.check_then_run(step, "ok")
    step["docker_compose"]["remove_orphans"] = True
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome)["services"][0] == "once is no longer in the project"
    before = running(containers, kind)
    started = containers.run("docker", "inspect", "-f", "{{.State.StartedAt}}", before["web"])
    step["docker_compose"]["state"] = "restarted"
    for status in ("would_change", "changed"):
        outcome = machine.run_step(step, check=status != "changed")
        assert outcome.status == status, result_message(outcome)
    assert running(containers, kind) == before
    assert started != containers.run(
        "docker", "inspect", "-f", "{{.State.StartedAt}}", before["web"]
    )


@pytest.mark.long
def test_new_images_are_taken(
    machine: ShellMachine, containers: ContainerHost, kind: str, folder: Path
) -> None:
    assert kind == "compose"
    name = f"{REGISTRY}/db:1"
    (folder / "compose.yaml").write_text(
        f"services:\n  db:\n    image: {name}\n    command: sleep 1000\n    stop_signal: KILL\n"
        "  made:\n    build: .\n    command: sleep 1000\n    stop_signal: KILL\n"
    )
    for text in ("first", "second"):
        (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL text={text}\n")
        containers.run("docker", "build", "-q", "-t", name, str(folder))
        containers.run("docker", "push", "-q", name)
        if text == "first":
            step = project(folder, pull="always")
            machine.check_then_run(step, "changed")
            containers.run("docker", "tag", name, "kept:1")
    # by the tag on the host
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {"services": ("db has another image", "as described")}
    # by that of the registry
    containers.run("docker", "tag", "kept:1", name)
    outcome = machine.run_step(step)
    assert outcome.status == "changed", result_message(outcome)
    assert outcome_changes(outcome)["images"] == (f"newer: {name}", "current")
    machine.check_then_run(step, "ok")
    for each in (name, "kept:1"):
        containers.run("docker", "rmi", "-f", each)


def test_values_of_the_environment_are_seen_by_nobody(
    machine: ShellMachine, kind: str, folder: Path, tmp_path: Path
) -> None:
    assert kind == "compose"
    with watch_commands(machine, tmp_path / "watched", ["c5coary"]) as watched:
        step = project(folder) | {"environment": {"A": "c5coary"}}
        machine.check_then_run(step, "changed")
        assert len(watched.all_words) > 1
        assert not watched.exposures("c5coary")


def test_what_cannot_be_is_refused_in_a_check(
    machine: ShellMachine, kind: str, folder: Path
) -> None:
    assert kind == "compose"
    for params, message in (
        ({"path": "/nonexistent"}, "there is no folder /nonexistent"),
        ({"files": ["none.yaml"]}, "none.yaml: no such file"),
        ({"services": ["nothing"]}, "the project has no service nothing"),
        ({"volumes": True}, "`volumes` needs `state: absent`"),
        ({"project": "A B"}, "the project has lower-case letters"),
        ({"env_files": ["/nonexistent"]}, "there is no file /nonexistent"),
    ):
        check_refuses(machine, project(folder, **{"path": str(folder), **params}), message)
    (folder / "compose.yaml").write_text("services: [a]\n")
    check_refuses(machine, project(folder), "services must be a mapping")
