"""``locale``: the real locale-gen; what it calls to make a locale is made up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy

# Instead of compiled locales the archive has their names.
LOCALES = r"""
mkdir -p /usr/share/i18n/locales
rm -f /etc/locale.gen /usr/lib/locale/locale-archive
printf '%s\n' '# it' '#  orch_AA.UTF-8 UTF-8' 'orch_BB.UTF-8 UTF-8' >/etc/locale.gen
printf '%s\n' 'orch_CC.UTF-8 UTF-8' 'orch_DD@euro ISO-8859-15' 'en_US.UTF-8 UTF-8' \
  'de_DE.UTF-8 UTF-8' >/usr/share/i18n/SUPPORTED
cat >/usr/bin/localedef <<'END'
#!/bin/sh
for word; do :; done
case $word in *.*) word=${word%%.*}.utf8;; esac
echo "$word" >>/usr/lib/locale/locale-archive
END
cat >/usr/bin/locale <<'END'
#!/bin/sh
printf 'C\nPOSIX\n'
cat /usr/lib/locale/locale-archive 2>/dev/null
END
chmod 755 /usr/bin/localedef /usr/bin/locale
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, LOCALES)
    return private


def locale_step(*names: str, **params: Any) -> dict[str, Any]:
    return {"locale": {"name": list(names), **params}}


def test_locales_are_generated_and_removed(host: ShellMachine) -> None:
    step = locale_step("orch_AA.UTF-8", "orch_CC.UTF-8", "orch_DD@euro")
    outcome = host.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {
        "missing": ("orch_AA.UTF-8, orch_CC.UTF-8, orch_DD@euro", "none")
    }
    assert run_in_copy(host, "cat /etc/locale.gen") == (
        "# it\norch_AA.UTF-8 UTF-8\norch_BB.UTF-8 UTF-8\norch_CC.UTF-8 UTF-8\norch_DD@euro ISO-8859-15\n"
    )
    host.check_then_run(locale_step("orch_BB.UTF-8", "orch_AA.UTF-8"), "ok")
    gone = locale_step("orch_AA.UTF-8", "orch_DD@euro", "orch_EE.UTF-8", state="absent")
    host.check_then_run(gone, "changed")
    assert run_in_copy(host, "cat /etc/locale.gen") == (
        "# it\n# orch_AA.UTF-8 UTF-8\norch_BB.UTF-8 UTF-8\norch_CC.UTF-8 UTF-8\n# orch_DD@euro ISO-8859-15\n"
    )
    run_in_copy(host, "rm /usr/lib/locale/locale-archive")
    host.check_then_run(locale_step("orch_CC.UTF-8"), "changed")


def test_what_is_no_locale_is_refused(host: ShellMachine) -> None:
    for name, message in (
        ("orch_EE.UTF-8", "does not support the locale orch_EE.UTF-8"),
        ("$(id)", "is not a valid name"),
        ("a b", "is not a valid name"),
        ("-x", "is not a valid name"),
    ):
        outcome = host.check_then_run(locale_step(name), "failed")
        assert message in outcome.stderr.text, result_message(outcome)
