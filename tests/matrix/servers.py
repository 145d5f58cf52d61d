"""The private machine of servers as they are out there: with a clock of their own, closed to
some, with odd algorithms, prompts and patience.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.matrix.compact import Project
from tests.matrix.ground import Ground
from tests.matrix.hosts import TRANSPORTS, common, hosts, settings
from tests.matrix.logins import PASSWORD, SECRET
from tests.matrix.place import CONFIG, Account, Place, place

HOURS = {"ahead": 5, "behind": -5}
_KBD = "KbdInteractiveAuthentication yes"
_PROMPTS = ["AuthenticationMethods keyboard-interactive:pam", _KBD]
ACCOUNTS = {
    each.name: each
    for each in (
        *(Account(name) for name in HOURS),
        Account("denied"),
        Account("from-here", match=[f"AuthorizedKeysFile {CONFIG}/from-here"]),
        Account("from-there", match=[f"AuthorizedKeysFile {CONFIG}/from-there"]),
        Account("kerberos", match=["AuthenticationMethods gssapi-with-mic"]),
        Account("etm"),
        Account("idle"),
        Account("closed"),
        Account("two", secret=SECRET, match=_PROMPTS),
        Account("words", secret=SECRET, match=_PROMPTS),
        Account("change", secret=SECRET, dates="0:0:99999:7:::", match=_PROMPTS),
    )
}
_CLOSED = "closed for maintenance until Monday\n"
_UNIX = (
    "account required pam_unix.so\nsession required pam_permit.so\npassword required pam_unix.so\n"
)
_PAM = {
    "closed": f"account required pam_nologin.so file={CONFIG}/nologin\n{_UNIX}",
    # the second asks in its own words, and takes any answer but none
    "two": f"auth required pam_unix.so\nauth required pam_stress.so\n{_UNIX}",
    "words": f"auth optional pam_echo.so file={CONFIG}/words\nauth required pam_stress.so\n{_UNIX}",
    "change": f"auth required pam_unix.so\n{_UNIX}",
}
_REFUSED = ("denied", "from-there", "kerberos", "closed", "two", "change")
# sshds of their own: their lines, and what is done before they start
SERVERS: dict[str, tuple[list[str], str]] = {
    "etm": (["MACs hmac-sha2-512-etm@openssh.com", "Ciphers aes256-ctr"], ""),
    "idle": (["ClientAliveInterval 1", "ClientAliveCountMax 1"], ""),
    **{name: ([], f"mount --bind {CONFIG}/pam-{name} /etc/pam.d/sshd") for name in _PAM},
}
PORTS = {name: port for port, name in enumerate(SERVERS, 2050)}
REFUSED = {
    *((name, each) for name in _REFUSED for each in TRANSPORTS),
    ("words", "openssh"),  # it answers no questions
}
WORKS = tuple(
    (name, each) for name in ACCOUNTS for each in TRANSPORTS if (name, each) not in REFUSED
)


@contextmanager
def servers(folder: Path) -> Iterator[Ground]:
    with place(folder) as made:
        accounts = [*ACCOUNTS.values()]
        made.add(accounts)
        made.sh("mount -t tmpfs tmpfs /dev/shm")  # for libfaketime, which leaves files there
        key = made.at(f"{CONFIG}/keys").read_text()
        made.write(f"{CONFIG}/from-here", f'from="127.0.0.0/8,::1" {key}')
        made.write(f"{CONFIG}/from-there", f'from="10.1.2.3,*.example.org" {key}')
        made.write(f"{CONFIG}/nologin", _CLOSED)
        made.write(f"{CONFIG}/words", "Kennwort, then the number on your card\n")
        for name, text in _PAM.items():
            made.write(f"{CONFIG}/pam-{name}", text)
        first = ["DenyUsers denied", "GSSAPIAuthentication yes"]
        made.serve("main", ["Port 22", *first, *settings(accounts), *_clocks()])
        for name, (lines, before) in SERVERS.items():
            match = settings([ACCOUNTS[name]])
            made.serve(name, [f"Port {PORTS[name]}", *lines, *match], before=before)
        (made.folder / "password").write_text(f"{PASSWORD}\n")
        (made.folder / "password").chmod(0o600)
        environ = {"ORCH_SSH_PASSWORD_FILE": str(made.folder / "password")}
        yield Ground(made, _project(made), WORKS, environ, PASSWORD)


def _clocks() -> list[str]:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    env = f"LD_PRELOAD={library} FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1"
    return [f"Match User {name}\n    SetEnv {env} FAKETIME={h:+d}h" for name, h in HOURS.items()]


def _project(here: Place) -> Project:
    connect: dict[str, dict[str, Any]] = {name: {"port": port} for name, port in PORTS.items()}
    config = here.folder / "no_config"
    config.touch()
    connect["etm"]["ssh_config"] = str(config)  # ssh's own choice is part of the case
    project = Project(here.folder / "project")
    project.write(hosts([*ACCOUNTS.values()], connect), common(here))
    return project
