"""What hosts report of their facts, with each shell, and which of their programs are run."""

from __future__ import annotations

import grp
import json
import os
import platform
import pwd
import shlex
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.facts import FACTS
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.fact_parser import parse_group, read_report
from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy

FACTS_FOLDER = MODULES_FOLDER / "facts"


def facts_of(machine: ShellMachine, *names: str, **more: Any) -> dict[str, Any]:
    """Return the values of facts, which a step prints as JSON."""
    listed = ", ".join(f"{name!r}: facts.{name}" for name in names)
    step = {"run": f"echo {{{{ {{{listed}}} | to_json }}}}", "readonly": True}
    outcome = machine.run_step(step, **more)
    assert outcome.status == "ok", result_message(outcome)
    found: dict[str, Any] = json.loads(outcome.stdout.text)
    return found


def test_every_fact_is_what_python_says(machine: ShellMachine) -> None:
    found = facts_of(machine, *(name for name in FACTS if name not in ("local", "fqdn")))
    release = Path("/etc/os-release").read_text()
    assert f"ID={found['distro']}\n" in release
    assert f'VERSION_ID="{found["release"]}"\n' in release
    assert found["family"] == "debian"
    assert (found["os"], found["arch"]) == ("linux", platform.machine())
    assert (found["kernel"], found["hostname"]) == (platform.release(), platform.node())
    me = pwd.getpwuid(os.getuid())
    assert (found["user"], found["uid"]) == (me.pw_name, me.pw_uid)
    assert found["home"] == str(machine.home)
    assert found["cpus"] >= 1
    assert found["memory"] > 100
    assert found["uptime"] > 0
    assert found["packager"] == "apt"
    for name in ("init", "timezone", "selinux", "virtualization"):
        assert found[name], name
    users = {user.pw_name: user for user in pwd.getpwall()}
    assert found["users"].keys() == users.keys()
    assert found["users"]["root"]["home"] == users["root"].pw_dir
    assert found["groups"]["root"]["gid"] == grp.getgrnam("root").gr_gid
    assert found["packages"]["dash"][0].isdigit()
    assert found["env"]["HOME"] == str(machine.home)
    assert found["env"]["LC_ALL"] == "C.UTF-8"
    assert found["python"]["version"].startswith(("2.", "3."))
    assert found["mounts"]["/"]["size"] > found["mounts"]["/"]["free"] > 0
    assert found["interfaces"]["lo"]["ipv4"] == ["127.0.0.1/8"]
    assert "127.0.0.1" not in found["ipv4"]
    assert found["disks"].keys() <= set(os.listdir("/sys/block"))  # noqa: PTH208


def test_addresses_are_found_without_ip(machine: ShellMachine, tmp_path: Path) -> None:
    names = ("ipv4", "ipv6", "default_route", "interfaces")
    expected = facts_of(machine, *names)
    tools = tmp_path / "few"
    tools.mkdir()
    for tool in "sh awk sed cat head tr uname id mkdir rm mktemp sleep kill od dd ls perl".split():
        found = next(Path(f).joinpath(tool) for f in ("/usr/bin", "/bin") if Path(f, tool).exists())
        (tools / tool).symlink_to(found)
    machine.environment["PATH"] = str(tools)
    found = facts_of(machine, *names)
    assert found["interfaces"]["lo"]["ipv4"] == expected["interfaces"]["lo"]["ipv4"]
    assert sorted(found["ipv4"]) == sorted(expected["ipv4"])
    assert found["default_route"] == expected["default_route"]


def test_only_what_is_named_is_looked_up_and_only_once(
    machine: ShellMachine, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    for tool in ("dpkg-query", "hostname", "systemd-detect-virt"):
        path = tmp_path / "root-tools" / tool
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\necho {tool} >>{shlex.quote(str(asked))}\n")
        path.chmod(0o755)
    steps: list[Any] = [
        {"run": "echo {{ facts.os }}"},
        {"run": "echo {{ facts.packages }}", "when": "facts.os == 'plan9'"},
        {"run": "echo {{ facts.fqdn }} {{ facts.hostname }}"},
        {"run": "echo {{ facts.fqdn }}"},
        {"run": "echo {{ facts.virtualization }}", "when": False},
    ]
    run = machine.run_steps(steps)
    assert run.statuses == ["changed", "skipped", "changed", "changed", "skipped"]
    assert sorted(asked.read_text().split()) == ["dpkg-query", "hostname"]
    asked.unlink()
    steps[3] = {"run": "echo {{ facts.fqdn }} {{ facts[['fqdn', 'virtualization'] | last] }}"}
    assert machine.run_steps(steps).statuses == run.statuses
    assert sorted(asked.read_text().split()) == ["dpkg-query", "hostname", "systemd-detect-virt"]


def test_a_check_collects_facts(machine: ShellMachine) -> None:
    assert facts_of(machine, "os", check=True) == {"os": "linux"}


OWN = {
    "facts/app.sh": "# The app\nset -- 1 $#\necho version=$2\nif false; then echo no=1; fi\n",
    "facts/raid.yml": "fields: {count: {type: int}, names: {type: list}}\n"
    'script: |\n  echo count=2\n  echo names=md0\n  echo "names=it\'s"\n  cat\n',
    "facts/bad.sh": "echo a=1\nfalse\necho b=2\n",
    "facts/syntax.sh": "echo 'a\n",
    "facts/odd.sh": "printf 'a=\\033]0;x\\007\\n'\n",
}


def test_own_facts_are_typed_and_collected_when_named(machine: ShellMachine) -> None:
    (machine.root.parent / f"{machine.root.name}-project/tasks/facts").mkdir(parents=True)
    found = facts_of(machine, "app", "raid", files=OWN)
    assert found == {"app": {"version": "0"}, "raid": {"count": 2, "names": ["md0", "it's"]}}
    for name, what in {"bad": "exit status 1", "syntax": "exit status"}.items():
        outcome = machine.run_step({"run": f"echo {{{{ facts.{name}.a }}}}"}, files=OWN)
        assert outcome.status == "failed"
        assert f"could not be collected: '{name}' ended with {what}" in outcome.reason
    outcome = machine.run_step({"run": "printf %s {{ facts.odd.a }}"}, files=OWN)
    assert outcome.stdout.head == b"\x1b]0;x\x07"
    outcome = machine.run_step({"run": "echo {{ facts.app.versoin }}"}, files=OWN)
    assert "'facts.app.versoin' is undefined" in outcome.reason


def test_local_facts_are_files_and_programs(private: ShellMachine) -> None:
    run_in_copy(
        private,
        """mkdir -p /etc/orch/facts.d
        cd /etc/orch/facts.d
        printf '{"unit": 7,\n "tags": ["a b"]}' >rack.json
        printf '#!/bin/sh\necho [1, 2]' >lists
        printf '#!/bin/sh\nexit 3' >backup.bak
        echo 'no json' >README
        chmod +x lists backup.bak""",
    )
    assert facts_of(private, "local") == {
        "local": {"rack": {"unit": 7, "tags": ["a b"]}, "lists": [1, 2]}
    }
    run_in_copy(private, "printf '#!/bin/sh\nexit 3' >/etc/orch/facts.d/lists")
    outcome = private.run_step({"run": "echo {{ facts.local.rack.unit }}"})
    assert "/etc/orch/facts.d: lists ended with status 3" in outcome.reason


MAC_IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether 02:00:00:00:00:01
\tinet6 2001:db8::10 prefixlen 64 autoconf
\tinet 192.0.2.10 netmask 0xffffff00 broadcast 192.0.2.255
gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280
"""
LINUX_IFCONFIG = """\
en0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
        inet 192.0.2.10  netmask 255.255.255.0  broadcast 192.0.2.255
        inet6 2001:db8::10  prefixlen 64  scopeid 0x0<global>
        ether 02:00:00:00:00:01  txqueuelen 1000  (Ethernet)

gif0: flags=4098<BROADCAST,MULTICAST>  mtu 1280
"""


@pytest.mark.parametrize("output", [MAC_IFCONFIG, LINUX_IFCONFIG], ids=["mac", "linux"])
def test_addresses_are_those_of_ifconfig(
    machine: ShellMachine, tmp_path: Path, output: str
) -> None:
    tools = tmp_path / "root-tools"
    for tool, text in {"ifconfig": output, "netstat": "default 192.0.2.1 UGS en0\n"}.items():
        (tools / tool).unlink(missing_ok=True)
        (tools / tool).write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\n")
        (tools / tool).chmod(0o755)
    script = "".join((FACTS_FOLDER / f"{name}.sh").read_text() for name in ("common", "network"))
    script = script.removesuffix("collect_network\n") + "by_ifconfig\n"
    outcome = machine.run_step({"run": script, "readonly": True})
    assert outcome.status == "ok", result_message(outcome)
    found = parse_group("network", read_report(outcome.stdout.text))
    assert (found["ipv4"], found["ipv6"]) == (["192.0.2.10"], ["2001:db8::10"])
    assert found["default_route"] == {
        "interface": "en0",
        "gateway": "192.0.2.1",
        "address": "192.0.2.10",
    }
    interfaces = found["interfaces"]
    assert isinstance(interfaces, dict)
    assert interfaces["en0"] == {
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "up": True,
        "ipv4": ["192.0.2.10/24"],
        "ipv6": ["2001:db8::10/64"],
    }
    assert interfaces["gif0"]["up"] is False


def test_services_of_systemd(private: ShellMachine) -> None:
    systemctl = private.root.parent / f"{private.root.name}-tools" / "systemctl"
    systemctl.write_text(
        """#!/bin/sh
        case $1 in
        list-unit-files) printf '%s\\n' 'ssh.service enabled enabled' 'x@.service enabled -' 'a.service static -';;
        list-units)
          echo 'ssh.service loaded active running OpenBSD Secure Shell server'
          echo 'a.service loaded active exited A'
          echo 'b.service loaded failed failed B'
          echo 'c.service not-found inactive dead C';;
        esac
        """
    )
    systemctl.chmod(0o755)
    run_in_copy(private, "mkdir -p /run/systemd/system")
    assert facts_of(private, "services")["services"] == {
        "ssh": {"state": "running", "enabled": True},
        "a": {"state": "exited", "enabled": False},
        "b": {"state": "failed", "enabled": False},
    }
