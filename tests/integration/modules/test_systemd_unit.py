"""``systemd_unit``: files of systemd, which the real systemd-analyze reads before they are written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.modules.test_service_systemd import SYSTEMD
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import give_own_tmp, run_in_copy

UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
AT = "/etc/systemd/system"


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, SYSTEMD)
    give_own_tmp(private)
    return private


def unit_step(name: str, content: str | None = None, **params: Any) -> dict[str, Any]:
    text = {} if content is None else {"content": content}
    return {"systemd_unit": {"name": name, **text, **params}}


def check_fails(host: ShellMachine, message: str, step: dict[str, Any]) -> None:
    """Check the message in check mode and in a run, and that no file is left."""
    before = run_in_copy(host, f"ls -A {AT} /tmp")
    for check in (True, False):
        outcome = host.run_step(step, check=check)
        assert outcome.status == "failed", result_message(outcome)
        assert message in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(host, f"ls -A {AT} /tmp") == before


def test_a_unit_comes_changes_and_goes(host: ShellMachine) -> None:
    outcome = host.check_then_run(unit_step("orch-new.service", UNIT), "changed")
    assert outcome_changes(outcome) == {
        "contents": (None, "as given"),
        "mode": (None, "0644"),
        "reload_due": ("true", "false"),
    }
    assert (
        run_in_copy(host, f"cat {AT}/orch-new.service; cat /run/fake/reloads") == UNIT + "reload\n"
    )
    run_in_copy(host, "systemctl enable -q orch-new.service")
    host.check_then_run(unit_step("orch-new.service", UNIT, mode="u=rw,go="), "changed")
    assert run_in_copy(host, f"stat -c %a {AT}/orch-new.service") == "600\n"
    # another process wrote it, or a run ended in between
    run_in_copy(host, "echo NeedDaemonReload=yes >>/run/fake/orch-new.service")
    again = host.check_then_run(unit_step("orch-new.service", UNIT, mode="0600"), "changed")
    assert outcome_changes(again) == {"reload_due": ("true", "false")}
    host.check_then_run(unit_step("orch-new.service", state="absent"), "changed")
    assert run_in_copy(host, f"find {AT} -name '*orch-new*'") == ""


def test_a_drop_in_comes_and_goes(host: ShellMachine) -> None:
    step = unit_step("orch-plain.service", "[Service]\nUser=nobody\n", drop_in="it.conf")
    host.check_then_run(step, "changed")
    file = f"{AT}/orch-plain.service.d/it.conf"
    assert run_in_copy(host, f"cat {file}") == "[Service]\nUser=nobody\n"
    wrong = unit_step("orch-plain.service", "[Service]\nRestart=maybe\n", drop_in="too")
    check_fails(host, "not valid: too.conf:2: Failed to parse service restart", wrong)
    run_in_copy(host, "systemctl enable -q orch-plain.service")
    gone = unit_step("orch-plain.service", state="absent", drop_in="it")
    host.check_then_run(gone, "changed")
    assert run_in_copy(host, f"ls -d {AT}/orch-plain.service.d 2>/dev/null || :") == ""
    assert run_in_copy(host, "systemctl is-enabled orch-plain.service") == "enabled\n"


def test_what_systemd_cannot_read_is_refused(host: ShellMachine) -> None:
    for text, message in {
        "[Service]\nExecStart=\n": "Service has no ExecStart=",
        "[Service]\nExecStart=bin/x/y\n": "Neither a valid executable name nor an absolute path",
        UNIT.replace("[Install]", "no\n[Install]"): "orch-new.service:3: Missing '='",
        UNIT.replace("[Install]", "Type=odd\n[Install]"): "Failed to parse service type",
    }.items():
        check_fails(host, message, unit_step("orch-new.service", text))
    check_fails(
        host, "lacks value setting. Refusing.", unit_step("a@.timer", "[Timer]\nOnCalendar=x\n")
    )
    host.check_then_run(unit_step("orch-new.service", "nonsense", verify=False), "changed")


def test_what_may_come_later_is_no_error(host: ShellMachine) -> None:
    text = "[Unit]\nRequires=orch-later.service\n[Service]\nExecStart=/srv/later\nFuture=1\n"
    outcome = host.check_then_run(unit_step("orch-new@.service", text), "changed")
    assert "warning: orch-new@.service:5: Unknown key" in outcome.stderr.text
    host.check_then_run(unit_step("orch-new@.socket", "[Socket]\nListenStream=/run/x\n"), "changed")


def test_what_cannot_be_a_unit_is_refused(host: ShellMachine) -> None:
    check_fails(host, "needs the suffix", unit_step("plain", UNIT))
    for name in ("-n.service", "a b.service", "$(id).service", "ü.service"):
        check_fails(host, "is not a valid unit name", unit_step(name, UNIT))
    check_fails(host, "orch-masked.service is masked", unit_step("orch-masked.service", UNIT))
    run_in_copy(host, "echo LoadState=error >/run/fake/orch-bad.service")
    outcome = host.check_then_run(unit_step("orch-bad.service", UNIT), "failed")
    assert "systemd cannot load orch-bad.service" in outcome.stderr.text


def test_a_unit_of_the_user_and_one_without_systemd(host: ShellMachine) -> None:
    run_in_copy(host, "mkdir -p /run/user/0/systemd")
    host.check_then_run(unit_step("orch-mine.service", UNIT, scope="user"), "changed")
    assert (host.home / ".config/systemd/user/orch-mine.service").read_text() == UNIT
    assert run_in_copy(host, "cat /run/fake/user/reloads") == "reload\n"
    host.check_then_run(unit_step("orch-mine.service", state="absent", scope="user"), "changed")
    run_in_copy(host, 'rm -r /run/systemd /run/user "$(command -v systemd-analyze)"')
    host.check_then_run(unit_step("orch-new.service", UNIT), "changed")
    host.check_then_run(unit_step("orch-new.service", state="absent"), "changed")
