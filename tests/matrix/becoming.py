"""The private machine of ways to another user as they are out there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.matrix.compact import Project
from tests.matrix.ground import Ground
from tests.matrix.hosts import TRANSPORTS, common, hosts, settings
from tests.matrix.logins import PASSWORD, SECRET
from tests.matrix.place import Account, Place, place

GERMAN = "SetEnv LANG=de_DE.UTF-8 LC_ALL=de_DE.UTF-8"
ACCOUNTS = {
    each.name: each
    for each in (
        Account("bob", secret=SECRET),  # whom they become
        Account("asks", secret=SECRET),
        Account("prompt", secret=SECRET),
        Account("path", secret=SECRET),
        Account("tty", secret=SECRET),
        Account("odd", secret=SECRET),
        Account("german", secret=SECRET, match=[GERMAN]),
        Account("german-su", secret=SECRET, match=[GERMAN]),
        Account("fish", "/usr/bin/fish", secret=SECRET),
        Account("tcsh", "/usr/bin/tcsh", secret=SECRET),
        Account("one", secret=SECRET, match=["MaxSessions 1"]),
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
def becoming(folder: Path) -> Iterator[Ground]:
    accounts = [*ACCOUNTS.values()]
    with place(folder) as made:
        made.add(accounts)
        made.sh("localedef -i de_DE -f UTF-8 de_DE.UTF-8")
        for name, text in _PAM.items():
            made.write(f"/etc/pam.d/{name}", text)
        made.write("/etc/sudoers.d/matrix", _SUDOERS).chmod(0o440)
        made.serve("main", ["Port 22", *settings(accounts)])
        (made.folder / "password").write_text(f"{PASSWORD}\n")
        (made.folder / "password").chmod(0o600)
        environ = {"ORCH_BECOME_PASSWORD_FILE": str(made.folder / "password")}
        # su asks for the password of whom it becomes, and they have none whom the suite becomes
        works = tuple(case for case in WORKS if case[0] != "german-su")
        yield Ground(made, _project(made), works, environ)


def _project(here: Place) -> Project:
    connect = {"german-su": {"become_method": "su"}}
    project = Project(here.folder / "project")
    project.write(hosts([*ACCOUNTS.values()], connect), common(here))
    return project
