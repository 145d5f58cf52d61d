"""The private machine with become configurations as found in practice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.matrix.account_hosts import (
    TRANSPORTS,
    account_inventory,
    common_settings,
    sshd_settings,
)
from tests.integration.matrix.compact_run import MatrixProject
from tests.integration.matrix.login_cases import PASSWORD, SECRET
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.support.sshd_machine import LoginAccount, SshdMachine, start_machine

GERMAN = "SetEnv LANG=de_DE.UTF-8 LC_ALL=de_DE.UTF-8"
ACCOUNTS = {
    each.name: each
    for each in (
        LoginAccount("bob", password_hash=SECRET),  # whom they become
        LoginAccount("asks", password_hash=SECRET),
        LoginAccount("prompt", password_hash=SECRET),
        LoginAccount("path", password_hash=SECRET),
        LoginAccount("tty", password_hash=SECRET),
        LoginAccount("odd", password_hash=SECRET),
        LoginAccount("german", password_hash=SECRET, match_lines=[GERMAN]),
        LoginAccount("german-su", password_hash=SECRET, match_lines=[GERMAN]),
        LoginAccount("fish", "/usr/bin/fish", password_hash=SECRET),
        LoginAccount("tcsh", "/usr/bin/tcsh", password_hash=SECRET),
        LoginAccount("one", password_hash=SECRET, match_lines=["MaxSessions 1"]),
    )
}
_SUDOERS = """\
Defaults lecture=always
ALL ALL=(ALL) ALL
Defaults:prompt passprompt="Kennwort, %p, \xfcr %H? "
Defaults:path secure_path="/opt/first:/usr/bin:/bin"
Defaults:tty requiretty
Defaults:odd pam_service=odd
"""
_REST = "account required pam_unix.so\nsession required pam_permit.so\n"
_PAM = {
    "sudo": f"auth required pam_unix.so nodelay\n{_REST}",
    "su": f"auth required pam_unix.so nodelay\n{_REST}",
    "odd": f"auth required pam_stress.so\n{_REST}",
}
WORKS = tuple(
    (name, each) for name in ACCOUNTS if name not in ("bob", "tty") for each in TRANSPORTS
)


@contextmanager
def make_become(folder: Path) -> Iterator[MatrixGround]:
    accounts = [*ACCOUNTS.values()]
    with start_machine(folder) as machine:
        machine.add_accounts(accounts)
        machine.run_as_root("localedef -i de_DE -f UTF-8 de_DE.UTF-8")
        for name, text in _PAM.items():
            machine.write_file(f"/etc/pam.d/{name}", text)
        machine.write_file("/etc/sudoers.d/matrix", _SUDOERS).chmod(0o440)
        machine.start_sshd("main", ["Port 22", *sshd_settings(accounts)])
        (machine.folder / "password").write_text(f"{PASSWORD}\n")
        (machine.folder / "password").chmod(0o600)
        environ = {"ORCH_BECOME_PASSWORD_FILE": str(machine.folder / "password")}
        # su asks for the password of whom it becomes, and they have none whom the suite becomes
        works = tuple(case for case in WORKS if case[0] != "german-su")
        yield MatrixGround(machine, _write_project(machine), works, environ)


def _write_project(machine: SshdMachine) -> MatrixProject:
    connect = {"german-su": {"become_method": "su"}}
    project = MatrixProject(machine.folder / "project")
    project.write_project(
        account_inventory([*ACCOUNTS.values()], connect), common_settings(machine)
    )
    return project
