"""The private machine with unusual servers: clocks, refusals, algorithms, prompts and timeouts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.matrix.account_hosts import (
    TRANSPORTS,
    account_inventory,
    common_settings,
    sshd_settings,
)
from tests.integration.matrix.compact_run import MatrixProject
from tests.integration.matrix.login_cases import PASSWORD, SECRET
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.support.sshd_machine import CONFIG, LoginAccount, SshdMachine, start_machine

HOURS = {"ahead": 5, "behind": -5}
_KBD = "KbdInteractiveAuthentication yes"
_PROMPTS = ["AuthenticationMethods keyboard-interactive:pam", _KBD]
ACCOUNTS = {
    each.name: each
    for each in (
        *(LoginAccount(name) for name in HOURS),
        LoginAccount("denied"),
        LoginAccount("from-here", match_lines=[f"AuthorizedKeysFile {CONFIG}/from-here"]),
        LoginAccount("from-there", match_lines=[f"AuthorizedKeysFile {CONFIG}/from-there"]),
        LoginAccount("kerberos", match_lines=["AuthenticationMethods gssapi-with-mic"]),
        LoginAccount("etm"),
        LoginAccount("idle"),
        LoginAccount("closed"),
        LoginAccount("two", password_hash=SECRET, match_lines=_PROMPTS),
        LoginAccount("words", password_hash=SECRET, match_lines=_PROMPTS),
        LoginAccount(
            "change", password_hash=SECRET, shadow_dates="0:0:99999:7:::", match_lines=_PROMPTS
        ),
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
def make_servers(folder: Path) -> Iterator[MatrixGround]:
    with start_machine(folder) as machine:
        accounts = [*ACCOUNTS.values()]
        machine.add_accounts(accounts)
        machine.run_as_root(
            "mount -t tmpfs tmpfs /dev/shm"
        )  # for libfaketime, which leaves files there
        key = machine.outside_path(f"{CONFIG}/keys").read_text()
        machine.write_file(f"{CONFIG}/from-here", f'from="127.0.0.0/8,::1" {key}')
        machine.write_file(f"{CONFIG}/from-there", f'from="10.1.2.3,*.example.org" {key}')
        machine.write_file(f"{CONFIG}/nologin", _CLOSED)
        machine.write_file(f"{CONFIG}/words", "Kennwort, then the number on your card\n")
        for name, text in _PAM.items():
            machine.write_file(f"{CONFIG}/pam-{name}", text)
        first = ["DenyUsers denied", "GSSAPIAuthentication yes"]
        machine.start_sshd("main", ["Port 22", *first, *sshd_settings(accounts), *_make_clocks()])
        for name, (lines, before) in SERVERS.items():
            match = sshd_settings([ACCOUNTS[name]])
            machine.start_sshd(name, [f"Port {PORTS[name]}", *lines, *match], before=before)
        (machine.folder / "password").write_text(f"{PASSWORD}\n")
        (machine.folder / "password").chmod(0o600)
        environ = {"ORCH_SSH_PASSWORD_FILE": str(machine.folder / "password")}
        yield MatrixGround(machine, _write_project(machine), WORKS, environ, PASSWORD)


def _make_clocks() -> list[str]:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    env = f"LD_PRELOAD={library} FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1"
    return [f"Match User {name}\n    SetEnv {env} FAKETIME={h:+d}h" for name, h in HOURS.items()]


def _write_project(machine: SshdMachine) -> MatrixProject:
    connect: dict[str, dict[str, Any]] = {name: {"port": port} for name, port in PORTS.items()}
    config = machine.folder / "no_config"
    config.touch()
    connect["etm"]["ssh_config"] = str(config)  # ssh's own choice is part of the case
    project = MatrixProject(machine.folder / "project")
    project.write_project(
        account_inventory([*ACCOUNTS.values()], connect), common_settings(machine)
    )
    return project
