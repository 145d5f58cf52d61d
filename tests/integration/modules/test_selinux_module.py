"""``selinux``: the real configuration file; the kernel's files, and setenforce, are made up."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planner.returned_values import parse_values
from tests.integration.modules.test_process_arguments import load_module
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_refuses, outcome_changes
from tests.support.private_copy import run_in_copy

CONFIG = """\
# SELINUX= can take one of these three values:
SELINUX=enforcing
# SELINUXTYPE= can take one of these values:
 SELINUXTYPE=mls  # it is strict
"""
SELINUX = f"""
mkdir -p /etc/selinux/targeted /etc/selinux/mls /sys/fs/selinux
cat >/etc/selinux/config <<'END'
{CONFIG}END
echo 1 >/sys/fs/selinux/enforce
printf '#!/bin/sh\\necho "$1" >/sys/fs/selinux/enforce\\n' >/usr/sbin/setenforce
printf '#!/bin/sh\\necho "Loaded policy name:             targeted"\\n' >/usr/sbin/sestatus
chmod 755 /usr/sbin/setenforce /usr/sbin/sestatus
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, SELINUX)
    return private


def selinux_step(**params: Any) -> dict[str, Any]:
    return {"selinux": params}


def needs_reboot(outcome: Any) -> bool:
    module = load_module("selinux").module
    assert module is not None
    return bool(parse_values(module.returns, outcome.stdout.text)["reboot_required"])


def config(machine: ShellMachine) -> str:
    return run_in_copy(machine, "cat /etc/selinux/config")


def test_mode_and_policy_are_set_now_and_at_boot(host: ShellMachine) -> None:
    outcome = host.check_then_run(selinux_step(state="permissive", policy="targeted"), "changed")
    assert outcome_changes(outcome) == {
        "at_boot": ("enforcing", "permissive"),
        "policy": ("mls", "targeted"),
        "running": ("enforcing", "as given"),
    }
    assert config(host) == CONFIG.replace("SELINUX=enforcing", "SELINUX=permissive").replace(
        " SELINUXTYPE=mls  # it is strict", "SELINUXTYPE=targeted"
    )
    assert run_in_copy(host, "cat /sys/fs/selinux/enforce") == "0\n"
    assert not needs_reboot(host.run_step(selinux_step(state="permissive", policy="targeted")))
    run_in_copy(host, "echo 1 >/sys/fs/selinux/enforce")
    outcome = host.check_then_run(selinux_step(state="permissive"), "changed")
    assert outcome_changes(outcome) == {"running": ("enforcing", "as given")}
    assert needs_reboot(host.run_step(selinux_step(state="permissive", policy="mls")))


def test_what_only_a_start_can_change_is_said(host: ShellMachine) -> None:
    outcome = host.check_then_run(selinux_step(state="disabled"), "changed")
    assert outcome_changes(outcome) == {"at_boot": ("enforcing", "disabled")}
    assert needs_reboot(host.run_step(selinux_step(state="disabled")))
    assert run_in_copy(host, "cat /sys/fs/selinux/enforce") == "1\n"
    run_in_copy(host, "rm /sys/fs/selinux/enforce; echo '# none' >/etc/selinux/config")
    host.check_then_run(selinux_step(state="enforcing", policy="targeted"), "changed")
    assert config(host) == "# none\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"
    assert needs_reboot(host.run_step(selinux_step(state="enforcing")))


def test_a_host_without_selinux_is_refused(host: ShellMachine, machine: ShellMachine) -> None:
    outcome = host.check_then_run(selinux_step(state="enforcing", policy="none"), "failed")
    assert "the policy none is not installed" in outcome.stderr.text, result_message(outcome)
    outcome = host.check_then_run(selinux_step(state="enforcing", policy="a b"), "failed")
    assert "`policy` is not valid" in outcome.stderr.text
    path = str(machine.root / "config")
    check_refuses(machine, selinux_step(state="enforcing", path=path), "SELinux is not installed")
