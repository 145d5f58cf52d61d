"""``docker_container`` with real engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.container_engines import (
    DOCKER_FIRST,
    IMAGE,
    REGISTRY,
    ContainerHost,
)
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_refuses, outcome_changes
from tests.support.watched_commands import watch_commands


@pytest.fixture
def engine(
    containers: ContainerHost, machine: ShellMachine, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Yield the engine that the machine has; what a test makes is removed."""
    name: str = getattr(request, "param", "docker")
    containers.join(machine, name)
    yield name
    for each in containers.run(name, "ps", "-aq").split():
        containers.run(name, "rm", "-fv", *(["-t0"] if name == "podman" else []), each)


def container(**params: Any) -> dict[str, dict[str, Any]]:
    step = {"name": "shop", "image": IMAGE, "command": "sleep 1000", "networks": "none"}
    step |= {"stop_signal": "KILL", **params}
    return {"docker_container": {key: value for key, value in step.items() if value is not None}}


def shown(containers: ContainerHost, engine: str, form: str, name: str = "shop") -> str:
    return containers.run(engine, "container", "inspect", "-f", form, name)


@DOCKER_FIRST
def test_a_container_is_made_stopped_restarted_and_removed(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    outcome = machine.check_then_run(container(), "changed")
    assert outcome_changes(outcome)["state"] == ("absent", "started")
    first = shown(containers, engine, "{{.Id}} {{.State.Status}}")
    assert first.endswith(" running")
    machine.check_then_run(container(state="stopped"), "changed")
    machine.check_then_run(container(state="present"), "ok")
    machine.check_then_run(container(), "changed")
    started = shown(containers, engine, "{{.State.StartedAt}}")
    for status in ("would_change", "changed"):
        outcome = machine.run_step(container(state="restarted"), check=status != "changed")
        assert outcome.status == status, result_message(outcome)
    assert shown(containers, engine, "{{.State.StartedAt}}") != started
    assert shown(containers, engine, "{{.Id}}") == first.split()[0]
    machine.check_then_run(container(state="absent", image=None), "changed")
    assert containers.run(engine, "ps", "-aq") == ""


EVERYTHING: dict[str, Any] = {
    "command": ["sh", "-c", "echo \"$0\" '$(id)'; sleep 1000", "it's a\nline"],
    "hostname": "shop1",
    "user": "us",
    "workdir": "/etc",
    "labels": {"a.b": 'it\'s "c" = $d\n%41', "empty": ""},
    "tmpfs": ["/run", "/tmp:size=1m"],
    "restart": "on-failure:3",
    "memory": "64m",
    "cpus": "0.5",
    "pids_limit": 50,
    "shm_size": "8m",
    "read_only": True,
    "cap_add": ["NET_ADMIN", "CAP_SYS_TIME"],
    "cap_drop": ["ALL"],
    "security_opts": ["no-new-privileges"],
    "devices": ["/dev/null:/dev/nothing", "/dev/zero"],
    "init": False,
    "tty": False,
    "group_add": ["0"],
    "extra_hosts": ["db:192.0.2.7"],
    "dns": ["192.0.2.53"],
    "stop_timeout": 3,
    "environment": {"A": 'it\'s "x" $HOME\n%41 ', "B-C.d": " 7", "PATH": "/bin:/x", "ON": True},
    "healthcheck": {
        "test": "test -e /etc/passwd",
        "interval": "1m30s",
        "timeout": "5s",
        "retries": 2,
    },
}
CHANGES: dict[str, Any] = {
    "command": "sleep 999",
    "hostname": "shop2",
    "user": "root",
    "workdir": "/",
    "labels": {"a.b": "c"},
    "tmpfs": ["/run"],
    "restart": "no",
    "memory": "65m",
    "cpus": "0.6",
    "pids_limit": 51,
    "shm_size": "9m",
    "read_only": False,
    "cap_drop": ["CHOWN"],
    "devices": ["/dev/zero"],
    "group_add": ["1000"],
    "extra_hosts": [],
    "dns": ["192.0.2.54"],
    "stop_timeout": 4,
    "environment": {"A": "b"},
    "healthcheck": {"test": "true"},
}


@pytest.mark.long
@DOCKER_FIRST
def test_everything_that_is_given_is_what_the_container_has(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    network = "bridge" if engine == "docker" else "podman"
    volumes = [f"{machine.root}:/data:ro", "named:/named", "/anonymous"]
    ports = ["127.0.0.1:8080:80", "53:53/udp", "9000-9001:9000-9001", "8443"]
    logs = {"log_driver": "json-file" if engine == "docker" else "k8s-file"}
    given = EVERYTHING | {"volumes": volumes, "ports": ports, "networks": [network], **logs}
    machine.check_then_run(container(**given), "changed")
    assert shown(containers, engine, "{{.State.Status}}") == "running"
    words = ["exec", "shop"]
    said = containers.run(engine, *words, "sh", "-c", 'echo "$A|"; id -u; pwd')
    assert said == 'it\'s "x" $HOME\n%41 |\n1000\n/etc'
    assert {"B-C.d= 7", "ON=true"} <= set(containers.run(engine, *words, "env").split("\n"))
    assert "it's a\nline $(id)" in containers.run(engine, "logs", "shop")
    first = shown(containers, engine, "{{.Id}}")
    outcome = machine.run_step(container(**given, state="stopped"))
    assert shown(containers, engine, "{{.Id}}") == first
    others = {"volumes": volumes[:2], "ports": ports[1:], "networks": ["none"]}
    for key, value in (CHANGES | others).items():
        changed = container(
            **(given | ({"ports": None} if key == "networks" else {}) | {key: value})
        )
        outcome = machine.run_step(changed, check=True)
        keys = outcome_changes(outcome).keys()
        assert keys - {"params"} == {key, "state"}, (key, outcome_changes(outcome))


@pytest.mark.long
@DOCKER_FIRST
def test_a_container_made_by_hand_is_adopted_if_it_is_alike(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    words = ["run", "-d", "--name", "shop", "--net", "none", "-e", "A=b", "--stop-signal", "KILL"]
    containers.run(engine, *words, IMAGE, "sleep", "1000")
    first = shown(containers, engine, "{{.Id}}")
    machine.check_then_run(container(environment={"A": "b"}), "ok")
    outcome = machine.run_step(container(environment={"C": "d"}), check=True)
    assert outcome_changes(outcome)["environment"] == ("no C, also A", "as given")
    outcome = machine.check_then_run(container(environment={"A": "c"}, memory="32m"), "changed")
    assert outcome_changes(outcome) == {
        "environment": ("another A", "as given"),
        "memory": ("0", "32m"),
    }
    assert shown(containers, engine, "{{.Id}}") != first
    # what is no longer given
    outcome = machine.check_then_run(container(environment={"A": "c"}), "changed")
    assert outcome_changes(outcome).keys() == {"params"}


@pytest.mark.long
@DOCKER_FIRST
def test_a_new_image_is_taken_and_a_failed_start_brings_back_the_old_container(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    name = f"{REGISTRY}/shop:1"
    for text in ("a", "b"):
        folder = machine.root / text
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nENV A={text}\nVOLUME /srv\n")
        containers.run(engine, "build", "-q", "-t", name, str(folder))
        containers.run(engine, "push", "-q", name)
        containers.run(engine, "rmi", "-f", name)
        step = container(image=name, pull="always", volumes=[], environment={})
        if text == "b":
            machine.check_then_run(container(image=name), "changed")
            machine.check_then_run(container(image=name, volumes=[], environment={}), "changed")
        else:
            machine.check_then_run(step, "changed")
            containers.run(engine, "tag", name, "kept:1")
    assert "A=b" in containers.run(engine, "exec", "shop", "env")
    containers.run(engine, "tag", "kept:1", name)
    outcome = machine.run_step(step, check=True)
    assert outcome_changes(outcome)["image"][1] == name
    first = shown(containers, engine, "{{.Id}}")
    outcome = machine.run_step(container(command="/nonexistent"))
    assert outcome.status == "failed"
    assert "/nonexistent" in result_message(outcome)
    assert shown(containers, engine, "{{.Id}} {{.State.Status}}") == f"{first} running"
    assert containers.run(engine, "ps", "-a", "--format", "{{.Names}}") == "shop"
    for each in (name, "kept:1"):
        containers.run(engine, "rmi", "-f", each)


@DOCKER_FIRST
def test_values_of_the_environment_are_seen_by_nobody(
    machine: ShellMachine, containers: ContainerHost, engine: str, tmp_path: Path
) -> None:
    secret, other = "a c5ctary\nof two lines", "another c5ctary"
    file = machine.root / "it's.env"
    file.write_text(f"# more\n\n  FILE={other} 'q' \nA=overridden\n")
    given = {"environment": {"A": secret, "B": other}, "env_file": [str(file)]}
    with watch_commands(machine, tmp_path / "watched", ["c5ctary"]) as watched:
        outcome = machine.check_then_run(container(**given), "changed")
        assert "c5ctary" not in result_message(outcome)
        assert len(watched.all_words) > 1
        assert not watched.exposures("c5ctary")
    assert containers.run(engine, "exec", "shop", "sh", "-c", 'echo "$A|$B|$FILE"') == (
        f"{secret}|{other}|{other} 'q' "
    )
    labels = shown(containers, engine, "{{json .Config.Labels}}")
    assert "c5ctary" not in labels
    given["environment"]["A"] = "new"
    outcome = machine.run_step(container(**given), check=True, diff=True)
    assert outcome_changes(outcome) == {"environment": ("another A", "as given")}
    given["environment"] = {"PATH": secret}
    assert "PATH cannot have more than one line" in result_message(
        machine.run_step(container(**given))
    )


@pytest.mark.long
def test_it_is_waited_for_until_it_is_healthy(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    health = {"test": "test -e /tmp/ready", "interval": "1s", "retries": 1}
    command = "sh -c 'mkdir -p /tmp; : >/tmp/ready; sleep 1000'"
    step = container(command=command, healthcheck=health, within="20s")
    outcome = machine.run_step(step)
    assert outcome.status == "changed", result_message(outcome)
    assert shown(containers, engine, "{{.State.Health.Status}}") == "healthy"
    machine.check_then_run(step, "ok")
    step = container(healthcheck={**health, "test": "false"}, within="2s")
    assert "health is 'unhealthy', expected 'healthy'" in result_message(machine.run_step(step))
    assert "no healthcheck" in result_message(machine.run_step(container(within="2s")))


@pytest.mark.long
def test_published_ports_and_networks(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    networks = [f"one-{machine.shell}", f"two-{machine.shell}"]
    for each in networks:
        containers.run(engine, "network", "create", each)
    given = {"networks": networks, "ports": ["127.0.0.1:8080:80"], "command": "httpd -f -p 80"}
    machine.check_then_run(container(**given), "changed")
    assert "404" in containers.run("curl", "-s", "-i", "http://127.0.0.1:8080/")
    outcome = machine.check_then_run(container(**given | {"networks": networks[1:]}), "changed")
    assert outcome_changes(outcome) == {"networks": (" ".join(networks), networks[1])}


@DOCKER_FIRST
def test_a_network_is_made_changed_and_removed(
    machine: ShellMachine, containers: ContainerHost, engine: str
) -> None:
    step = {"docker_network": {"name": "shop-net", "subnet": "10.77.0.0/24"}}
    machine.check_then_run(step, "changed")
    changes = {"gateway": "10.77.0.9", "internal": True}
    step["docker_network"].update(changes)  # type: ignore[arg-type]
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {
        "gateway": ("10.77.0.1" if engine == "podman" else "", "10.77.0.9"),
        "internal": ("false", "true"),
    }
    machine.check_then_run(container(networks="shop-net"), "changed")
    absent = {"docker_network": {"name": "shop-net", "state": "absent"}}
    refused = {"docker": "has active endpoints", "podman": "network is being used"}[engine]
    assert refused in result_message(machine.run_step(absent))
    machine.run_step(container(state="absent"))
    machine.check_then_run(absent, "changed")
    step = {"docker_network": {"name": "x y"}}
    check_refuses(machine, step, "a name has letters")
    step = {"docker_network": {"name": "x", "gateway": "10.77.0.9"}}
    check_refuses(machine, step, "`gateway` requires `subnet`")


def test_what_cannot_be_is_refused_in_a_check(machine: ShellMachine, engine: str) -> None:
    assert engine == "docker"
    for params, message in {
        "name": ("it's", "a name has letters"),
        "image": (None, "`image` is missing"),
        "networks": (["host", "x"], "exclude other networks"),
        "restart": ("true", "`restart` is no"),
        "ports": (["a:b"], "is not a port"),
        "environment": ({"A B": "x"}, "the name of a variable"),
        "labels": ({"a=b": "c"}, "contains ="),
        "env_file": (["/nonexistent"], "there is no file /nonexistent"),
        "healthcheck": ({"interval": "1s"}, "`healthcheck` needs `test`"),
    }.items():
        check_refuses(machine, container(**{params: message[0]}), message[1])
    step = container(image="none:1", pull="never")
    check_refuses(machine, step, "`pull: never` does not look for it")
    step = container(networks="host", ports=["80:80"])
    check_refuses(machine, step, "no ports can be published")
