"""``docker_image`` and ``docker_login`` with real engines and registries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.container_engines import (
    DOCKER_FIRST,
    IMAGE,
    LOCKED_REGISTRY,
    PASSWORD,
    REGISTRY,
    ContainerHost,
)
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_refuses, outcome_changes
from tests.support.watched_commands import watch_commands

NAME = f"{REGISTRY}/us/shop:1.4"


@pytest.fixture
def engine(
    containers: ContainerHost, machine: ShellMachine, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Yield the engine that the machine has; what a test makes is removed."""
    name: str = getattr(request, "param", "docker")
    containers.join(machine, name)
    yield name
    for tag in containers.run(name, "images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if not tag.endswith((IMAGE, "<none>")):
            containers.run(name, "rmi", "-f", tag)
    containers.run(name, "image", "prune", "-f")
    containers.run(name, "logout", LOCKED_REGISTRY, check=False)


def image(**params: Any) -> dict[str, dict[str, Any]]:
    return {"docker_image": {"name": NAME, **params}}


def push(containers: ContainerHost, engine: str, text: str, name: str = NAME) -> None:
    """Have the registry offer another image under the name, unknown to the engine."""
    folder = containers.folder / "pushed"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL text={text}\n")
    was = containers.run(engine, "images", "-q", "--no-trunc", name)
    containers.run(engine, "build", "-q", "-t", name, str(folder))
    made = containers.run(engine, "images", "-q", "--no-trunc", name)
    containers.run(engine, "push", "-q", name)
    containers.run(engine, "rmi", "-f", made)
    if was:
        containers.run(engine, "tag", was, name)


def label(containers: ContainerHost, engine: str, name: str, key: str = "text") -> str:
    words = ["image", "inspect", "-f", f'{{{{index .Config.Labels "{key}"}}}}', name]
    return containers.run(engine, *words)


@DOCKER_FIRST
def test_an_image_is_pulled_updated_tagged_and_removed(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    push(containers, engine, "first")
    outcome = machine.check_then_run(image(), "changed")
    assert outcome_changes(outcome) == {"state": ("absent", "present")}
    assert label(containers, engine, NAME) == "first"
    machine.check_then_run(image(pull="always"), "ok")
    push(containers, engine, "second")
    machine.check_then_run(image(), "ok")
    outcome = machine.check_then_run(image(pull="always", tags=["shop:now", "us/s"]), "changed")
    assert outcome_changes(outcome) == {
        "registry": ("another image", "same image"),
        "tags": ("", "shop:now us/s"),
    }
    assert label(containers, engine, NAME) == label(containers, engine, "shop:now") == "second"
    machine.check_then_run(image(state="absent", tags=["shop:now"]), "changed")
    assert label(containers, engine, "us/s:latest") == "second"
    machine.check_then_run(image(name="us/s", state="absent"), "changed")


@pytest.mark.long
@DOCKER_FIRST
def test_an_image_is_built_again_if_what_it_is_made_of_changes(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    folder = machine.root / "it's a shop"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "a.md").write_text("a")
    (folder / "docs" / "keep.md").write_text("b")
    (folder / ".dockerignore").write_text("# not these\n**/*.md\n!docs/keep.md\n/log\n")
    (folder / "Dockerfile").write_text(
        f"FROM {IMAGE} AS base\nARG text\nLABEL text=$text\nFROM base\nCOPY . /srv\n"
    )
    step = image(name="shop:1", build=str(folder), args={"text": "it's \\ $HOME"})
    machine.check_then_run(step, "changed")
    assert label(containers, engine, "shop:1") == "it's \\ $HOME"
    listed = containers.run(engine, "run", "--rm", "shop:1", "sh", "-c", "echo /srv/* /srv/docs/*")
    assert listed == "/srv/Dockerfile /srv/docs /srv/docs/keep.md"
    (folder / "docs" / "a.md").write_text("ignored")
    (folder / "log").mkdir()
    (folder / "log" / "it").write_text("ignored")
    machine.check_then_run(step, "ok")
    (folder / "docs" / "keep.md").write_text("changed")
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {"build": ("different", "as given")}
    # podman 4 takes the label from its cache, whatever the argument
    options = ["--no-cache"] if engine == "podman" else []
    step["docker_image"] |= {
        "args": {"text": "other"},
        "target": "base",
        "build_options": options,
    }
    machine.check_then_run(step, "changed")
    assert label(containers, engine, "shop:1") == "other"
    (folder / "Other").write_text(f"FROM {IMAGE}\nLABEL text=third\n")
    step = image(name="shop:1", build=str(folder), dockerfile="Other")
    machine.check_then_run(step, "changed")
    assert label(containers, engine, "shop:1") == "third"


@DOCKER_FIRST
def test_an_image_is_loaded_from_an_archive(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    push(containers, engine, "first")
    containers.run(engine, "pull", NAME)
    archive = machine.root / "it's.tar"
    containers.run(engine, "tag", NAME, "other/name:2")
    containers.run(engine, "save", "-o", str(archive), *(["-m"] if engine == "podman" else []), NAME, IMAGE, "other/name:2")  # fmt: skip
    containers.run(engine, "rmi", NAME)
    machine.check_then_run(image(load=str(archive)), "changed")
    assert label(containers, engine, NAME) == "first"
    containers.run(engine, "tag", IMAGE, NAME)
    outcome = machine.check_then_run(image(load=str(archive)), "changed")
    assert outcome_changes(outcome) == {"content": ("different", "as given")}
    check_refuses(machine, image(name="x:1", load=str(archive)), "the archive has no image x:1")


def test_what_cannot_be_is_refused_in_a_check(machine: ShellMachine, engine: str) -> None:
    assert engine == "docker"
    check_refuses(machine, image(name="x:1", pull="never"), "`pull: never` does not look for it")
    check_refuses(machine, image(name=""), "a name is empty")
    check_refuses(machine, image(name="-x"), "begins with -")
    check_refuses(machine, image(build="/nonexistent"), "there is no folder /nonexistent")
    check_refuses(machine, image(build=str(machine.root)), "there is no " + str(machine.root))
    check_refuses(machine, image(target="x"), "need `build`")
    check_refuses(machine, image(load="/nonexistent"), "there is no file /nonexistent")
    for name, reason in {
        "A B": "invalid reference format",
        f"{REGISTRY}/none:1": "unknown",
    }.items():
        assert reason in result_message(machine.run_step(image(name=name)))
    machine.environment["DOCKER_HOST"] = "unix:///nonexistent"
    check_refuses(machine, image(), "the daemon of docker does not run")
    check_refuses(machine, image(engine="podman"), "this host has no podman")


@DOCKER_FIRST
def test_a_login_is_stored_and_seen_by_nobody(
    machine: ShellMachine, containers: ContainerHost, engine: str, tmp_path: Path
) -> None:
    name = f"{LOCKED_REGISTRY}/shop:1"
    login = {"docker_login": {"registry": LOCKED_REGISTRY, "username": "us", "password": PASSWORD}}
    assert "needs a login, see docker_login" in result_message(machine.run_step(image(name=name)))
    with watch_commands(machine, tmp_path / "watched", [PASSWORD]) as watched:
        outcome = machine.check_then_run(login, "changed")
        assert outcome_changes(outcome)["username"] == (None, "us")
        assert len(watched.all_words) > 1
        assert not watched.exposures(PASSWORD)
        assert not watched.exposures(PASSWORD.split()[1])
    push(containers, engine, "locked", name)
    machine.check_then_run(image(name=name), "changed")
    login["docker_login"]["password"] = "wrong"
    outcome = machine.run_step(login, check=True)
    assert outcome_changes(outcome) == {"password": ("different", "as given")}
    refused = {"docker": "unauthorized", "podman": "invalid username/password"}[engine]
    assert refused in result_message(machine.run_step(login)).lower()
    logout = {"docker_login": {"registry": LOCKED_REGISTRY, "state": "absent"}}
    machine.check_then_run(logout, "changed")
    step = image(name=name, pull="always")
    assert "`pull: missing` does not ask" in result_message(machine.run_step(step, check=True))
