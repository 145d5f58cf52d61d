"""The private machine with accounts, keys, passwords, certificates and algorithms."""

from __future__ import annotations

import subprocess
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
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.integration.matrix.refusal_messages import LINES
from tests.sshd import generate_key
from tests.support.sshd_machine import CONFIG, LoginAccount, SshdMachine, start_machine

PASSWORD, PASSPHRASE = "open sesame", "xyzzy"
# PASSWORD by crypt(3)
SECRET = (
    "$6$matrix$qU7800lHnwaEu2LZYbJS15e7UI6mq916oSL1mk6Hhq9aG"
    "PFlbrr32LePrz227CSSlzwGfKZmyh6H7J1NSwpr8."
)
_METHODS = "AuthenticationMethods"
_SLOW = [
    "AuthorizedKeysFile none",
    f"AuthorizedKeysCommand {CONFIG}/slow",
    "AuthorizedKeysCommandUser nobody",
]
ACCOUNTS = {
    each.name: each
    for each in (
        LoginAccount("expired", shadow_dates="20000:0:99999:7::1:"),
        LoginAccount("stale", password_hash=SECRET, shadow_dates="0:0:99999:7:::"),
        LoginAccount("locked", password_hash=f"!{SECRET}"),
        LoginAccount("barred", password_hash=f"!{SECRET}"),
        LoginAccount(
            "both",
            password_hash=SECRET,
            match_lines=[f"{_METHODS} publickey,password", "PasswordAuthentication yes"],
        ),
        LoginAccount(
            "prompted",
            password_hash=SECRET,
            match_lines=[
                f"{_METHODS} keyboard-interactive:pam",
                "KbdInteractiveAuthentication yes",
            ],
        ),
        LoginAccount("once", match_lines=["MaxAuthTries 1"]),
        LoginAccount("many", match_lines=["MaxAuthTries 1"]),
        LoginAccount("encrypted", match_lines=[f"AuthorizedKeysFile {CONFIG}/encrypted.pub"]),
        LoginAccount("another", match_lines=[f"AuthorizedKeysFile {CONFIG}/encrypted.pub"]),
        LoginAccount(
            "certified",
            match_lines=["AuthorizedKeysFile none", f"TrustedUserCAKeys {CONFIG}/ca.pub"],
        ),
        LoginAccount("slow", match_lines=_SLOW),
        LoginAccount("slower", match_lines=_SLOW),
        LoginAccount("revoked"),
        *(LoginAccount(name) for name in ("old", "cbc", "sha1", "sha1-key", "sntrup", "chacha")),
        *(LoginAccount(name) for name in ("by-ca", "by-rsa", "elsewhere", "lapsed", "ca-revoked")),
    )
}
# sshds for what is no account's own: their lines, by the name of the host that stands for them
SERVERS = {
    "barred": ["UsePAM no"],
    "old": [
        "KexAlgorithms diffie-hellman-group14-sha256",
        "Ciphers aes128-ctr",
        "MACs hmac-sha1",
        f"HostKey {CONFIG}/rsa",
        "HostKeyAlgorithms rsa-sha2-256",
    ],
    "cbc": ["Ciphers aes256-cbc"],
    "sha1": ["KexAlgorithms diffie-hellman-group14-sha1"],
    "sha1-key": [f"HostKey {CONFIG}/rsa", "HostKeyAlgorithms ssh-rsa"],
    "sntrup": ["KexAlgorithms sntrup761x25519-sha512@openssh.com"],
    **{name: [f"HostCertificate {CONFIG}/{name}-cert.pub"] for name in ("by-ca", "elsewhere")},
    "lapsed": [f"HostCertificate {CONFIG}/lapsed-cert.pub"],
    "ca-revoked": [f"HostCertificate {CONFIG}/by-ca-cert.pub"],
    "by-rsa": [f"HostKey {CONFIG}/rsa", f"HostCertificate {CONFIG}/rsa-cert.pub"],
    "chacha": ["Ciphers chacha20-poly1305@openssh.com"],
}
PORTS = {name: port for port, name in enumerate(SERVERS, 2031)}
WORKS = tuple(
    (name, transport)
    for name in ACCOUNTS
    for transport in TRANSPORTS
    if name != "another" and (name, transport) not in LINES
)


@contextmanager
def make_logins(folder: Path) -> Iterator[MatrixGround]:
    with start_machine(folder) as machine:
        machine.add_accounts([*ACCOUNTS.values()])
        _make_keys(machine)
        machine.start_sshd("main", ["Port 22", *sshd_settings([*ACCOUNTS.values()])])
        for name, lines in SERVERS.items():
            machine.start_sshd(name, [f"Port {PORTS[name]}", *lines])
        environ = {"ORCH_SSH_PASSWORD_FILE": str(machine.folder / "password")}
        yield MatrixGround(machine, _write_project(machine), WORKS, environ, PASSPHRASE)


def _make_keys(machine: SshdMachine) -> None:
    folder = machine.folder
    for name in ("ca", "certified", "wrong"):
        generate_key(folder / name)
    generate_key(folder / "encrypted", passphrase=PASSPHRASE)
    generate_key(folder / "rsa", "rsa", bits=2048)
    for name in ("ca.pub", "encrypted.pub", "rsa"):
        machine.write_file(f"{CONFIG}/{name}", (folder / name).read_text()).chmod(0o600)
    certify = ["ssh-keygen", "-q", "-s", folder / "ca", "-I", "me", "-n", "certified"]
    subprocess.run([*certify, folder / "certified.pub"], check=True)
    machine.write_file(f"{CONFIG}/slow", f"#!/bin/sh\nsleep 0.3\ncat {CONFIG}/keys\n").chmod(0o755)
    for name in ("ca.pub", "encrypted.pub"):
        machine.outside_path(f"{CONFIG}/{name}").chmod(0o644)
    with machine.known_hosts.open("a") as known:
        known.write(f"* {_public_key(folder / 'rsa.pub')}\n")
    key = _public_key(Path(f"{machine.host_key}.pub"))
    (folder / "revoked").write_text(f"@revoked * {key}\n* {key}\n")
    _make_certificates(machine)
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "password").chmod(0o600)
    (folder / "no_config").touch()


def _make_certificates(machine: SshdMachine) -> None:
    """Make host certificates, and the known_hosts lines for their CAs."""
    folder = machine.folder
    host_key = Path(f"{machine.host_key}.pub").read_text()
    generate_key(folder / "rsa-ca", "rsa", bits=2048)
    for name, authority, key, more in (
        ("by-ca", "ca", host_key, ["-n", "127.0.0.1,other"]),
        ("rsa", "rsa-ca", (folder / "rsa.pub").read_text(), ["-n", "127.0.0.1"]),
        ("elsewhere", "ca", host_key, ["-n", "other"]),
        ("lapsed", "ca", host_key, ["-V", "20200101Z:20200102Z"]),
    ):
        (folder / f"{name}.pub").write_text(key)
        words = ["ssh-keygen", "-q", "-h", "-I", name, "-s", folder / authority, *more]
        subprocess.run([*words, folder / f"{name}.pub"], check=True)
        machine.write_file(f"{CONFIG}/{name}-cert.pub", (folder / f"{name}-cert.pub").read_text())
    keys = {name: _public_key(folder / f"{name}.pub") for name in ("ca", "rsa-ca")}
    (folder / "known-ca").write_text(f"@cert-authority * {keys['ca']}\n")
    (folder / "known-rsa").write_text(f"@cert-authority 127.0.0.1 {keys['rsa-ca']}\n")
    (folder / "known-revoked").write_text(
        f"@cert-authority * {keys['ca']}\n@revoked * {keys['ca']}\n"
    )


def _public_key(path: Path) -> str:
    """Return the key's type and base64 text."""
    return " ".join(path.read_text().split()[:2])


def _write_project(machine: SshdMachine) -> MatrixProject:
    folder = machine.folder
    connect: dict[str, dict[str, Any]] = {
        "many": {"identity": [str(folder / "wrong"), str(machine.key)]},
        "encrypted": {"identity": str(folder / "encrypted")},
        "another": {"identity": str(folder / "encrypted")},
        "certified": {"identity": str(folder / "certified")},
        "slower": {"timeout": "200ms"},
        "revoked": {"known_hosts": str(folder / "revoked")},
    }
    for name, port in PORTS.items():
        # ssh's own choice of algorithms is part of the case
        connect[name] = {"port": port, "ssh_config": str(folder / "no_config")}
    for name in ("by-ca", "elsewhere", "lapsed"):
        connect[name]["known_hosts"] = str(folder / "known-ca")
    connect["by-rsa"]["known_hosts"] = str(folder / "known-rsa")
    connect["ca-revoked"]["known_hosts"] = str(folder / "known-revoked")
    project = MatrixProject(folder / "project")
    project.write_project(
        account_inventory([*ACCOUNTS.values()], connect), common_settings(machine)
    )
    return project
