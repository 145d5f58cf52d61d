"""``modprobe``: files for the boot are real; the kernel's list of modules is made up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.host_tools import without_applets
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy

KERNEL = r"""
mkdir -p /sys/module/orch_old /sys/module/orch_built
echo live >/sys/module/orch_old/initstate
cat >/usr/sbin/modprobe <<'END'
#!/bin/sh
dry= remove=
while :; do case $1 in -n) dry=1;; -q) ;; -r) remove=1;; --) shift; break;; *) break;; esac; shift; done
case $1 in *none*) exit 1;; esac
[ -z "$dry" ] || exit 0
echo "$*" >>/run/did
name=$(echo "$1" | tr - _)
if [ "$remove" ]; then rm -r /sys/module/$name; exit; fi
mkdir /sys/module/$name
echo live >/sys/module/$name/initstate
END
chmod 755 /usr/sbin/modprobe
mkdir -p /etc/modules-load.d /etc/modprobe.d
printf '# it\n' >/etc/modules
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    without_applets(private, "modprobe")
    run_in_copy(private, KERNEL)
    return private


def modprobe_step(name: str, **params: Any) -> dict[str, Any]:
    return {"modprobe": {"name": name, **params}}


def test_a_module_is_loaded_now_and_at_boot(host: ShellMachine) -> None:
    step = modprobe_step("orch-new", persistent=True, params="a=1  b=2")
    outcome = host.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {
        "loaded": ("false", "true"),
        "at_boot": ("false", "true"),
        "params": (None, "options orch-new a=1 b=2"),
    }
    assert run_in_copy(host, "cat /run/did /etc/modules-load.d/orch-new.conf") == (
        "orch-new a=1 b=2\norch-new\n"
    )
    assert run_in_copy(host, "cat /etc/modprobe.d/orch-new.conf") == "options orch-new a=1 b=2\n"
    host.check_then_run(modprobe_step("orch_new", persistent=False), "changed")
    host.check_then_run(modprobe_step("orch_new", state="absent"), "changed")
    assert (
        run_in_copy(host, "ls /etc/modules-load.d | grep orch || :; cat /etc/modules") == "# it\n"
    )


def test_what_other_files_load_counts(host: ShellMachine) -> None:
    run_in_copy(host, "printf 'a\\n  orch-old x=1\\n#orch-old\\n' >/etc/modules-load.d/all.conf")
    host.check_then_run(modprobe_step("orch_old", persistent=True), "ok")
    run_in_copy(host, "printf 'orch_old' >>/etc/modules; chmod 640 /etc/modules")
    host.check_then_run(modprobe_step("orch_old", persistent=False), "changed")
    assert run_in_copy(host, "cat /etc/modules-load.d/all.conf /etc/modules") == (
        "a\n#orch-old\n# it\n"
    )
    assert run_in_copy(host, "stat -c %a /etc/modules") == "640\n"


def test_the_modprobe_of_busybox_finds_modules_as_well(host: ShellMachine) -> None:
    """It has no -n; -D shows what it would load (BusyBox v1.35, modutils/modprobe.c)."""
    refusal = "modprobe: invalid option -- 'n'\\nBusyBox v1.35.0 multi-call binary."
    run_in_copy(
        host,
        f"""mv /usr/sbin/modprobe /usr/sbin/full
        cat >/usr/sbin/modprobe <<'END'
#!/bin/sh
case $1 in -n) printf "{refusal}\\n" >&2; exit 1;; -D) shift; set -- -n "$@";; esac
exec full "$@"
END
        chmod 755 /usr/sbin/modprobe""",
    )
    host.check_then_run(modprobe_step("orch-new"), "changed")
    outcome = host.check_then_run(modprobe_step("orch-none"), "failed")
    assert outcome.stderr.text.splitlines()[-1].endswith(" has no module orch-none")


def test_what_does_not_exist_is_found_by_a_check(host: ShellMachine) -> None:
    for params, message in (
        ({"name": "orch-none"}, "has no module orch-none"),
        ({"name": "orch-built", "state": "absent"}, "is built into the kernel"),
        ({"name": "a b"}, "is not the name of a module"),
        ({"name": "-r"}, "is not the name of a module"),
        ({"name": "a", "params": "x\ny"}, "must be one line"),
    ):
        outcome = host.check_then_run({"modprobe": params}, "failed")
        assert message in outcome.stderr.text, result_message(outcome)
    host.check_then_run(modprobe_step("orch-none", state="absent"), "ok")
